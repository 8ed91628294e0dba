//! A walk through a tree: which directories a program comes to next.

use std::collections::VecDeque;
use std::sync::Arc;

use super::order;
use super::order::Order;
use crate::path::NameBuf;
use crate::sys::attr::Kind;
use crate::union;
use crate::union::Union;
use crate::union::node::Node;
use crate::union::readdir::ListEntry;
use crate::union::readdir::Listing;

/// How many directories may lie between two that a program comes to: it leaves those out in which nothing is for it.
const SKIPPED: usize = 4;
/// The deepest place at which walks are followed.
const DEPTH: usize = 32;
/// Directories with more names than this are not looked at: no walk goes through them.
pub(super) const WIDE: usize = 4096;
/// So many directories that cannot be entered, one behind the other, end a walk.
const CLOSED: usize = 64;
/// How many directories are looked at ahead: at first, and at most. Each step that comes as foreseen doubles it.
const WINDOW: (usize, usize) = (4, 32);
/// After so many steps that were not foreseen a walk is given up.
const PATIENCE: u32 = 3;

/// From one directory to the next: those in it, then those behind it, then those behind the one that it lies in.
#[derive(Debug)]
struct Path {
    order: Order,
    /// From the root to the last directory: each with those in it that were not come to yet.
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    dir: Arc<Node>,
    next: VecDeque<NameBuf>,
}

/// A directory that a walk comes to.
#[derive(Debug)]
pub(super) struct Stop {
    pub dir: Arc<Node>,
    pub listing: Arc<Listing>,
}

fn dirs(listing: &Listing, order: Order) -> impl Iterator<Item = &ListEntry> {
    order::of_kind(&listing.entries, Kind::Dir, order).into_iter()
}

fn frame(dir: Arc<Node>, listing: &Listing, order: Order) -> Frame {
    Frame { dir, next: dirs(listing, order).map(|entry| entry.name.clone()).collect() }
}

/// A directory and those that it lies in, up to the root, each with its names. `None` where it has no place in the tree any more, or one
/// of them is too wide.
fn lineage(union: &Union, dir: &Arc<Node>) -> union::Result<Option<Vec<Stop>>> {
    let mut stops = Vec::new();
    let mut at = dir.clone();
    while stops.len() < DEPTH {
        let Some(listing) = union.glance(&at, WIDE)? else { return Ok(None) };
        let above = at.parent_ino();
        let ino = at.ino;
        stops.push(Stop { dir: at, listing });
        if ino == above {
            return Ok((ino == union::node::ROOT).then_some(stops));
        }
        at = union.node(above)?;
    }
    Ok(None)
}

impl Path {
    /// The way on from the first directory of a lineage.
    fn from(lineage: &[Stop], order: Order) -> Self {
        let mut below = None;
        let mut frames: Vec<Frame> = Vec::with_capacity(lineage.len());
        for stop in lineage {
            let mut frame = frame(stop.dir.clone(), &stop.listing, order);
            if let Some(below) = below {
                let behind = dirs(&stop.listing, order).skip_while(|entry| entry.ino != below).skip(1);
                frame.next = behind.map(|entry| entry.name.clone()).collect();
            }
            frames.push(frame);
            below = Some(stop.dir.ino);
        }
        frames.reverse();
        Self { order, frames }
    }

    /// The next directory; one that cannot be read, is too wide, or is gone, is passed over.
    fn next(&mut self, union: &Union) -> Option<Stop> {
        let mut closed = 0;
        while closed < CLOSED {
            let last = self.frames.last_mut()?;
            let Some(name) = last.next.pop_front() else {
                self.frames.pop();
                continue;
            };
            closed += 1;
            let Ok(Some(entry)) = union.lookup(&last.dir, name.as_name()) else { continue };
            // It may be something else by now.
            let is_dir = entry.node.kind == Kind::Dir;
            let listed = if is_dir { union.glance(&entry.node, WIDE) } else { Ok(None) };
            // The reference was ours for this moment; the node is held as it is.
            union.forget(entry.node.ino, 1);
            let Ok(Some(listing)) = listed else { continue };
            if self.frames.len() < DEPTH {
                self.frames.push(frame(entry.node.clone(), &listing, self.order));
            }
            return Some(Stop { dir: entry.node, listing });
        }
        None
    }

    /// Whether `ino` is one of the next directories; it is the last one then.
    fn comes_to(&mut self, union: &Union, ino: u64) -> bool {
        (0..=SKIPPED).map_while(|_| self.next(union)).any(|stop| stop.dir.ino == ino)
    }
}

/// The walk of a program.
#[derive(Debug)]
pub(super) struct Walk {
    path: Path,
    /// Where the program is.
    at: u64,
    /// Directories behind it that were looked at ahead, and how many names they have.
    ahead: VecDeque<(u64, usize)>,
    window: usize,
    unforeseen: u32,
}

impl Walk {
    /// The walk of a program that came to these directories, one after the other; `None` when they come in no order.
    pub(super) fn of(union: &Union, steps: &[u64]) -> Option<Self> {
        let (first, rest) = steps.split_first()?;
        if !steps.windows(2).all(|pair| matches!(pair, [before, behind] if may_follow(union, *before, *behind))) {
            return None;
        }
        let lineage = lineage(union, &union.node(*first).ok()?).ok()??;
        order::ORDERS.into_iter().find_map(|order| {
            let mut path = Path::from(&lineage, order);
            let in_order = rest.iter().all(|step| path.comes_to(union, *step));
            in_order.then(|| Self::at(path, *rest.last().unwrap_or(first)))
        })
    }

    fn at(path: Path, at: u64) -> Self {
        Self { path, at, ahead: VecDeque::new(), window: WINDOW.0, unforeseen: 0 }
    }

    pub(super) fn order(&self) -> Order {
        self.path.order
    }

    /// The program came to `dir`. Tells which directories it has left behind, or `None` when it does not walk any more.
    pub(super) fn comes_to(&mut self, union: &Union, dir: u64) -> Option<Vec<u64>> {
        if dir == self.at {
            return Some(Vec::new());
        }
        if let Some(place) = self.ahead.iter().position(|(ino, _)| *ino == dir) {
            (self.at, self.window) = (dir, (self.window * 2).min(WINDOW.1));
            self.unforeseen = 0;
            return Some(self.ahead.drain(..=place).map(|(ino, _)| ino).collect());
        }
        // It came to the end of what was looked at ahead, or went somewhere else.
        let left = self.ahead.drain(..).map(|(ino, _)| ino).collect();
        self.at = dir;
        if self.path.comes_to(union, dir) {
            (self.window, self.unforeseen) = ((self.window * 2).min(WINDOW.1), 0);
            return Some(left);
        }
        self.unforeseen += 1;
        if self.unforeseen > PATIENCE {
            return None;
        }
        let lineage = lineage(union, &union.node(dir).ok()?).ok()??;
        self.path = Path::from(&lineage, self.path.order);
        self.window = WINDOW.0;
        Some(left)
    }

    /// The next directory that is to be looked at ahead, as long as fewer than `names` are known ahead.
    pub(super) fn next(&mut self, union: &Union, names: usize) -> Option<Stop> {
        let known: usize = self.ahead.iter().map(|(_, names)| names).sum();
        if self.ahead.len() >= self.window || known >= names {
            return None;
        }
        let stop = self.path.next(union)?;
        self.ahead.push_back((stop.dir.ino, stop.listing.entries.len()));
        Some(stop)
    }
}

/// Whether somebody who goes through a tree can come from `before` to `behind`: it lies in it, or in what that lies in. Looks at no layer.
fn may_follow(union: &Union, before: u64, behind: u64) -> bool {
    let Ok(above) = union.node(behind).map(|behind| behind.parent_ino()) else { return false };
    let mut at = before;
    for _ in 0..DEPTH {
        if at == above && at != behind {
            return true;
        }
        match union.node(at).map(|node| node.parent_ino()) {
            Ok(parent) if parent != at => at = parent,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::mem::Entry;
    use crate::layer::mem::MemLayer;
    use crate::layer::mem::Shape;
    use crate::path::Name;
    use crate::path::RelPath;
    use crate::sys::attr::Time;
    use crate::union::Options;
    use crate::union::node::ROOT;
    use crate::union::stack::Stack;

    fn entry(path: &str, shape: Shape) -> Entry {
        let (mtime, path) = (Time { secs: 1, nanos: 0 }, RelPath::parse(path.as_bytes()).unwrap());
        Entry { path, shape, mode: 0o755, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
    }

    /// A tree of these directories, each behind the one that it lies in, with a file in each.
    fn tree(dirs: &[&str]) -> Union {
        let with_a_file = |dir: &&str| {
            [entry(dir, Shape::Dir(false)), entry(&format!("{dir}/file"), Shape::File(4, vec![(0, b"text".to_vec())]))]
        };
        let entries: Vec<Entry> = dirs.iter().flat_map(with_a_file).collect();
        let layer = MemLayer::new("tree", &entries).unwrap();
        Union::new(Stack::new(None, vec![Arc::new(layer)]).unwrap(), Options::default()).unwrap()
    }

    /// Looks a path up, as the kernel does, and keeps the references.
    fn ino(union: &Union, path: &str) -> u64 {
        path.split('/').filter(|name| !name.is_empty()).fold(ROOT, |at, name| {
            let parent = union.node(at).unwrap();
            union.lookup(&parent, Name::new(name.as_bytes()).unwrap()).unwrap().unwrap().node.ino
        })
    }

    fn walk(union: &Union, steps: [&str; 3]) -> Option<Walk> {
        Walk::of(union, &steps.map(|step| ino(union, step)))
    }

    fn path(stop: &Stop) -> String {
        String::from_utf8(stop.dir.path().unwrap()).unwrap()
    }

    fn rest(union: &Union, walk: &mut Walk) -> Vec<String> {
        std::iter::from_fn(|| walk.next(union, usize::MAX)).map(|stop| path(&stop)).collect()
    }

    const DEEP: [&str; 9] = ["a", "a/1", "a/1/x", "a/2", "b", "b/1", "c", "d", "e"];

    #[test]
    fn it_goes_down_first_then_on_and_then_up() {
        let union = tree(&DEEP);
        let mut walk = walk(&union, ["a", "a/1", "a/1/x"]).expect("a walk");
        assert_eq!(rest(&union, &mut walk), ["/a/2", "/b", "/b/1", "/c"], "as many as the window is wide");
        assert_eq!(walk.comes_to(&union, ino(&union, "b")).map(|left| left.len()), Some(2));
        assert_eq!(rest(&union, &mut walk), ["/d", "/e"]);
    }

    #[test]
    fn directories_in_no_order_are_no_walk() {
        let union = tree(&DEEP);
        assert!(walk(&union, ["c", "a", "b"]).is_none());
        assert!(walk(&union, ["a/2", "a/1", "b"]).is_none());
        assert!(walk(&union, ["a", "a", "a"]).is_none());
        assert!(Walk::of(&union, &[0, 0, ino(&union, "a")]).is_none(), "numbers that nobody has");
    }

    #[test]
    fn some_may_be_left_out() {
        let union = tree(&DEEP);
        let mut walk = walk(&union, ["a", "b", "c"]).expect("a walk");
        assert_eq!(rest(&union, &mut walk), ["/d", "/e"]);
    }

    #[test]
    fn the_window_grows_with_each_step_that_was_foreseen() {
        let names: Vec<String> = (0..80).map(|n| format!("d{n:02}")).collect();
        let union = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut walk = walk(&union, ["d00", "d01", "d02"]).expect("a walk");
        let mut ahead = vec![rest(&union, &mut walk).len()];
        for name in &names[3..7] {
            walk.comes_to(&union, ino(&union, name)).expect("foreseen");
            rest(&union, &mut walk);
            ahead.push(walk.ahead.len());
        }
        assert_eq!(ahead, [4, 8, 16, 32, 32]);
        assert_eq!(walk.comes_to(&union, ino(&union, "d70")).map(|left| left.len()), Some(32), "somewhere else");
        assert_eq!(rest(&union, &mut walk)[..2], ["/d71", "/d72"]);
    }

    #[test]
    fn no_more_than_so_many_names_are_known_ahead() {
        let union = tree(&DEEP);
        let mut walk = walk(&union, ["a", "a/1", "a/1/x"]).expect("a walk");
        // Each directory has a file, and some have others in them.
        let stops = std::iter::from_fn(|| walk.next(&union, 3)).count();
        assert_eq!(stops, 2);
    }

    #[test]
    fn who_goes_elsewhere_again_and_again_is_followed_no_more() {
        let union = tree(&DEEP);
        let mut walk = walk(&union, ["a", "a/1", "a/1/x"]).expect("a walk");
        let steps = ["e", "a", "d", "a/1"].map(|step| walk.comes_to(&union, ino(&union, step)).is_some());
        assert_eq!(steps, [true, true, true, false]);
    }

    #[test]
    fn what_is_too_wide_is_passed_over() {
        let wide: Vec<String> = (0..=WIDE).map(|n| format!("b/{n}")).collect();
        let dirs: Vec<&str> =
            ["a", "b"].into_iter().chain(wide.iter().map(String::as_str)).chain(["c", "d", "e"]).collect();
        let union = tree(&dirs);
        let mut found = walk(&union, ["a", "c", "d"]).expect("a walk");
        assert_eq!(rest(&union, &mut found), ["/e"]);
        assert!(walk(&union, ["b/0", "b/1", "b/2"]).is_none(), "in it is no way");
    }
}
