use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::attr::SetAttr;
use super::super::manners::Manners;
use super::super::testing::Area;
use super::super::testing::calls;
use super::super::testing::find;
use super::*;
use crate::layer::parts::MOST;
use crate::union::Options;
use crate::union::Whence;

/// A pattern in which no two blocks are alike, and none is a run of one byte.
fn content(len: u64) -> Vec<u8> {
    let numbers: Vec<u8> = (0..=250u8).cycle().take(usize::try_from(BLOCK).unwrap() + 251).collect();
    let block = |n: u64| &numbers[usize::try_from(n * 31 % 251).unwrap()..][..usize::try_from(BLOCK).unwrap()];
    let mut all = (0..len.div_ceil(BLOCK)).map(block).collect::<Vec<_>>().concat();
    all.truncate(usize::try_from(len).unwrap());
    all
}

const SIZE: u64 = MIN + 5 * BLOCK + 777;

struct Scene {
    area: Area,
    union: Union,
    /// What the file must show.
    model: Vec<u8>,
}

impl Scene {
    /// `None`, with a word, where upper cannot hold marks.
    fn new() -> Option<Self> {
        Self::with(&content(SIZE))
    }

    fn with(lower: &[u8]) -> Option<Self> {
        let area = Area::new();
        fs::create_dir(area.at("low/d")).unwrap();
        fs::write(area.at("low/d/file"), lower).unwrap();
        let union = union(&area);
        if union.upper().unwrap().abilities.marks.is_none() {
            eprintln!("SKIP parts: no marks on this filesystem");
            return None;
        }
        Some(Self { area, union, model: lower.to_vec() })
    }

    fn node(&self) -> Arc<Node> {
        find(&self.union, "d/file").unwrap()
    }

    fn own(&self) -> PathBuf {
        self.area.at("upper/d/file")
    }

    fn write(&mut self, at: u64, data: &[u8]) {
        assert_eq!(self.union.write(&self.node(), data, at).unwrap(), data.len());
        let (at, end) = (usize::try_from(at).unwrap(), usize::try_from(at).unwrap() + data.len());
        if self.model.len() < end {
            self.model.resize(end, 0);
        }
        self.model[at..end].copy_from_slice(data);
    }

    fn read(&self) -> Vec<u8> {
        let node = self.node();
        let mut buf = vec![0; self.model.len() + 100];
        let n = self.union.read(&node, &mut buf, 0).unwrap();
        buf.truncate(n);
        assert_eq!(self.union.getattr(&node).unwrap().size, n as u64);
        buf
    }

    #[track_caller]
    fn check(&self) {
        let read = self.read();
        if read == self.model {
            return;
        }
        let first = read.iter().zip(&self.model).position(|(a, b)| a != b);
        panic!("{} and {} bytes, the first other one at {first:?}", read.len(), self.model.len());
    }

    /// Bytes that the copy takes on the disk.
    fn taken(&self) -> u64 {
        fs::metadata(self.own()).unwrap().blocks() * 512
    }

    /// The blocks that are noted; `None` for a whole file, which has no list either.
    fn noted(&self) -> Option<Parts> {
        let upper = self.union.upper().unwrap();
        let fd = fs::File::open(self.own()).unwrap();
        let get = |mark| sys::xattr::get(&fd, &upper.mark_name(mark).unwrap()).unwrap();
        match (get(METACOPY), get(parts::MARK)) {
            (None, None) => None,
            (Some(said), None) if said.is_empty() => Some(Parts::default()),
            (Some(said), Some(list)) if said == parts::IN_PARTS => Some(Parts::parse(&list).unwrap()),
            marks => panic!("{marks:?}"),
        }
    }

    /// Another server over the same directories, as after a kill: nothing was told to the first.
    fn again(self) -> Self {
        let Self { area, union: old, model } = self;
        drop(old);
        let union = union(&area);
        Self { area, union, model }
    }
}

fn union(area: &Area) -> Union {
    let mut union = area.union_over(area.upper(false).unwrap(), Manners::default());
    union.stop_counting_handles(64);
    union.options = Options { metacopy: true, blocks: true, ..Options::default() };
    union
}

#[test]
fn one_byte_copies_one_block() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(3 * BLOCK + 5, b"x");
    assert_eq!(scene.noted().unwrap(), Parts::default().with(&[3]));
    assert!(scene.taken() <= 2 * BLOCK, "{} bytes", scene.taken());
    scene.check();
    assert_eq!(scene.union.copies().bytes, BLOCK, "what is counted is what was copied");
    let mut scene = scene.again();
    scene.check();
    scene.write(4 * BLOCK - 1, b"yz");
    assert_eq!(scene.noted().unwrap(), Parts::default().with(&[3, 4]));
    scene.again().check();
}

#[test]
fn appending_copies_the_last_block() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(SIZE, b"behind");
    assert_eq!(scene.noted().unwrap().len(), 1);
    scene.check();
    scene.write(SIZE + 3 * BLOCK, b"far behind");
    assert_eq!(scene.noted().unwrap().len(), 1, "nothing more lies below there");
    scene.check();
    scene.again().check();
}

#[test]
fn a_file_that_became_longer_says_so() {
    let Some(mut scene) = Scene::with(&content(MIN)) else { return };
    scene.write(MIN, b"behind");
    assert_eq!(scene.noted().unwrap().len(), 1, "also where its end is that of a block");
    scene.check();
    let mut scene = scene.again();
    scene.check();
    scene.write(0, b"start");
    scene.check();
    scene.union.settle().unwrap();
    assert_eq!(scene.noted(), None);
    scene.again().check();
}

#[test]
fn a_block_is_on_disk_before_it_is_noted() {
    let Some(scene) = Scene::new() else { return };
    scene.union.write(&scene.node(), b"x", 0).unwrap();
    let made = calls(|| assert_eq!(scene.union.write(&scene.node(), b"x", 2 * BLOCK).unwrap(), 1));
    assert_eq!(made, ["pwrite", "fdatasync", "setxattr", "pwrite"]);
    let made = calls(|| assert_eq!(scene.union.write(&scene.node(), b"x", 2 * BLOCK).unwrap(), 1));
    assert_eq!(made, ["pwrite"], "the next write there is like any other");
}

#[test]
fn a_settled_file_is_whole() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"one");
    scene.write(SIZE - 1, b"last");
    scene.union.settle().unwrap();
    assert_eq!(scene.noted(), None);
    assert_eq!(fs::read(scene.own()).unwrap(), scene.model);
    scene.check();
    scene.write(2 * BLOCK, b"and after that");
    assert_eq!(fs::read(scene.own()).unwrap(), scene.model);
    scene.again().check();
    // By a server that never opened it.
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"one");
    let scene = scene.again();
    scene.union.settle().unwrap();
    assert_eq!(scene.noted(), None);
    assert_eq!(fs::read(scene.own()).unwrap(), scene.model);
}

#[test]
fn who_changes_much_copies_all() {
    let Some(mut scene) = Scene::with(&content((MOST as u64 + 9) * BLOCK)) else { return };
    for block in 0..MOST as u64 {
        scene.write(block * BLOCK, &[b'w'; 3]);
    }
    assert_eq!(scene.noted().unwrap().len(), MOST);
    scene.write((MOST as u64 + 3) * BLOCK, b"one more");
    assert_eq!(scene.noted(), None);
    assert_eq!(fs::read(scene.own()).unwrap(), scene.model);
    scene.check();
}

#[test]
fn a_small_file_is_copied_whole() {
    let Some(mut scene) = Scene::with(&content(MIN - 1)) else { return };
    scene.write(0, b"x");
    assert_eq!(scene.noted(), None);
    assert_eq!(fs::read(scene.own()).unwrap(), scene.model);
}

#[test]
fn a_size_is_set_in_the_whole_file() {
    for size in [0, 10, BLOCK + 3, SIZE - 1, SIZE, SIZE + 1, SIZE + 4 * BLOCK] {
        let Some(mut scene) = Scene::new() else { return };
        scene.write(BLOCK, b"before");
        scene.write(SIZE, b"tail");
        let change = SetAttr { size: Some(size), ..SetAttr::default() };
        scene.union.setattr(&scene.node(), &change).unwrap();
        scene.model.resize(usize::try_from(size).unwrap(), 0);
        scene.check();
        assert_eq!(scene.noted(), None, "size {size}");
        let mut scene = scene.again();
        scene.check();
        scene.write(SIZE + 9 * BLOCK, b"far");
        scene.check();
    }
}

/// As a crash leaves it that came between the cut and the end of the mark.
#[test]
fn what_was_cut_does_not_come_back() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"before");
    let cut = 2 * BLOCK + 5;
    fs::OpenOptions::new().write(true).open(scene.own()).unwrap().set_len(cut).unwrap();
    scene.model.truncate(usize::try_from(cut).unwrap());
    let mut scene = scene.again();
    scene.check();
    scene.write(4 * BLOCK, b"behind");
    scene.check();
    scene.again().check();
}

#[test]
fn holes_and_data_are_those_of_both() {
    let area = Area::new();
    fs::create_dir(area.at("low/d")).unwrap();
    let file = fs::File::create(area.at("low/d/file")).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"data", 8 * BLOCK).unwrap();
    let mut scene = Scene { union: union(&area), area, model: fs::read("/dev/null").unwrap() };
    if scene.union.upper().unwrap().abilities.marks.is_none() {
        eprintln!("SKIP holes: no marks on this filesystem");
        return;
    }
    scene.model = vec![0; usize::try_from(SIZE).unwrap()];
    scene.model[usize::try_from(8 * BLOCK).unwrap()..][..4].copy_from_slice(b"data");
    scene.write(2 * BLOCK, b"mine");
    let seek = |at, whence| scene.union.seek(&scene.node(), at, whence).unwrap();
    assert_eq!(seek(0, Whence::Data), 2 * BLOCK);
    assert_eq!(seek(2 * BLOCK, Whence::Hole), 3 * BLOCK);
    assert_eq!(seek(3 * BLOCK, Whence::Data), 8 * BLOCK);
    assert_eq!(seek(0, Whence::Hole), 0);
    assert!(scene.union.seek(&scene.node(), 9 * BLOCK, Whence::Data).is_err());
    scene.check();
    scene.union.settle().unwrap();
    scene.check();
    assert!(scene.taken() <= 4 * BLOCK, "holes stay holes: {} bytes", scene.taken());
}

#[test]
fn copies_between_files_bring_what_they_need() {
    let Some(mut scene) = Scene::new() else { return };
    fs::write(scene.area.at("upper/source"), content(3 * BLOCK)).unwrap();
    let source = find(&scene.union, "source").unwrap();
    let n = scene.union.copy_range(&source, 7, &scene.node(), 5 * BLOCK + 1, BLOCK).unwrap();
    let data = content(3 * BLOCK)[7..7 + n].to_vec();
    scene.model[usize::try_from(5 * BLOCK + 1).unwrap()..][..n].copy_from_slice(&data);
    scene.check();
    assert_eq!(scene.noted().unwrap(), Parts::default().with(&[5, 6]));
    // And out of one that is in parts.
    let mut at = 0;
    while at < SIZE {
        at += scene.union.copy_range(&scene.node(), at, &source, at, SIZE - at).unwrap() as u64;
    }
    assert_eq!(fs::read(scene.area.at("upper/source")).unwrap(), scene.model);
    scene.again().check();
}

#[test]
fn one_that_was_only_dressed_is_then_written_in_parts() {
    let Some(mut scene) = Scene::new() else { return };
    let change = SetAttr { mode: Some(0o640), ..SetAttr::default() };
    scene.union.setattr(&scene.node(), &change).unwrap();
    scene.check();
    assert_eq!(scene.noted().unwrap(), Parts::default());
    scene.write(7, b"x");
    assert_eq!(scene.noted().unwrap().len(), 1);
    scene.check();
    let change = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    scene.union.setattr(&scene.node(), &change).unwrap();
    assert_eq!(scene.noted().unwrap().len(), 1, "a change of attributes leaves the blocks");
    scene.again().check();
}

#[test]
fn without_a_name_it_stays_the_file_that_it_was() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"named");
    let node = scene.node();
    let root = scene.union.node(super::super::node::ROOT).unwrap();
    let dir = scene.union.lookup(&root, crate::path::Name::new(b"d").unwrap()).unwrap().unwrap().node;
    scene.union.unlink(&dir, crate::path::Name::new(b"file").unwrap()).unwrap();
    scene.union.write(&node, b"nameless", 3 * BLOCK).unwrap();
    scene.model[usize::try_from(3 * BLOCK).unwrap()..][..8].copy_from_slice(b"nameless");
    let mut buf = vec![0; scene.model.len()];
    assert_eq!(scene.union.read(&node, &mut buf, 0).unwrap(), buf.len());
    assert!(buf == scene.model);
}

/// The upper of a container is the top layer when somebody looks at it; also with one more attribute copy on top.
#[test]
fn as_a_layer_it_shows_the_same() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"one");
    scene.write(SIZE, b"more");
    let model = scene.model.clone();
    let Scene { area, union: old, .. } = scene;
    drop(old);
    let [second, work] = ["second", "work2"].map(|name| area.at(name));
    [&second, &work].iter().for_each(|dir| fs::create_dir(dir).unwrap());
    let fds = crate::layer::handle::FdCache::new(64);
    let layers: Vec<Arc<dyn crate::layer::Layer>> =
        ["upper", "low"].map(|name| Arc::new(dir::DirLayer::open(&area.at(name), fds.clone()).unwrap()) as _).into();
    let upper = Upper::open(&second, &work, fds, false).unwrap();
    let stack = crate::union::stack::Stack::new(Some(upper), layers).unwrap();
    let mut union = Union::new(stack, Options::default()).unwrap();
    union.options = Options { metacopy: true, blocks: true, ..Options::default() };
    let mut scene = Scene { area, union, model };
    scene.check();
    scene.write(3 * BLOCK, b"two");
    scene.check();
    scene.union.settle().unwrap();
    scene.check();
    assert_eq!(fs::read(scene.area.at("second/d/file")).unwrap(), scene.model);
}

/// A list that nobody has defined is an error, not a file without its blocks.
#[test]
fn a_damaged_list_is_told() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"one");
    let name = scene.union.upper().unwrap().mark_name(parts::MARK).unwrap();
    let fd = fs::File::open(scene.own()).unwrap();
    sys::xattr::set(&fd, &name, b"\x01\0\0\0\x01", SetMode::Any).unwrap();
    let scene = scene.again();
    let root = scene.union.node(super::super::node::ROOT).unwrap();
    let dir = scene.union.lookup(&root, crate::path::Name::new(b"d").unwrap()).unwrap().unwrap().node;
    let found = scene.union.lookup(&dir, crate::path::Name::new(b"file").unwrap());
    assert_eq!(found.unwrap_err().errno(), Errno::IO);
}

/// Readers, writers in all blocks and one who makes the file whole.
#[test]
fn threads_see_what_was_written() {
    let Some(scene) = Scene::new() else { return };
    let blocks = SIZE / BLOCK;
    std::thread::scope(|scope| {
        for writer in 0..4u64 {
            let scene = &scene;
            scope.spawn(move || {
                for block in (0..blocks).filter(|block| block % 4 == writer) {
                    let (node, at) = (scene.node(), block * BLOCK + writer);
                    scene.union.write(&node, &[b'A' + u8::try_from(writer).unwrap(); 100], at).unwrap();
                    let mut buf = vec![0; 100];
                    assert_eq!(scene.union.read(&node, &mut buf, at).unwrap(), 100);
                    assert_eq!(buf, [b'A' + u8::try_from(writer).unwrap(); 100], "what was written shows at once");
                }
            });
        }
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(3));
            scene.union.settle().unwrap();
        });
    });
    let mut model = content(SIZE);
    for block in 0..blocks {
        let at = usize::try_from(block * BLOCK + block % 4).unwrap();
        model[at..at + 100].fill(b'A' + u8::try_from(block % 4).unwrap());
    }
    let scene = Scene { model, ..scene };
    scene.check();
    scene.again().check();
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, usize),
    Size(u64),
    Mode,
    Settle,
    Again,
    Copy(u64, u64, u64),
}

fn change() -> impl Strategy<Value = Change> {
    let at = prop_oneof![0..SIZE + 3 * BLOCK, (0..SIZE / BLOCK + 2).prop_map(|block| block * BLOCK), Just(SIZE)];
    let len = prop_oneof![1..10usize, 1..3 * usize::try_from(BLOCK).unwrap()];
    let size = prop_oneof![0..SIZE + 2 * BLOCK, Just(SIZE), Just(0)];
    prop_oneof![
        8 => (at.clone(), len).prop_map(|(at, len)| Change::Write(at, len)),
        1 => size.prop_map(Change::Size),
        1 => Just(Change::Mode),
        1 => Just(Change::Settle),
        3 => Just(Change::Again),
        2 => (at.clone(), at, 1..2 * BLOCK).prop_map(|(from, to, len)| Change::Copy(from, to, len)),
    ]
}

impl Scene {
    fn copy(&mut self, from: u64, to: u64, len: u64) {
        let (mut from, mut to, mut len) = (from, to, len);
        while len > 0 {
            let n = match self.union.copy_range(&self.node(), from, &self.node(), to, len) {
                Ok(n) => n,
                // In one file the kernel refuses ranges that overlap.
                Err(e) if e.errno() == Errno::INVAL => return,
                Err(e) => panic!("{e}"),
            };
            if n == 0 {
                return;
            }
            let [source, target] = [from, to].map(|at| usize::try_from(at).unwrap());
            let data = self.model[source..source + n].to_vec();
            self.model.resize(self.model.len().max(target + n), 0);
            self.model[target..target + n].copy_from_slice(&data);
            (from, to, len) = (from + n as u64, to + n as u64, len - n as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn random_changes_are_those_of_a_plain_file(changes in prop::collection::vec(change(), 1..12)) {
        let Some(mut scene) = Scene::new() else { return Ok(()) };
        for (i, change) in changes.into_iter().enumerate() {
            match change {
                Change::Write(at, len) => scene.write(at, &vec![b'0' + u8::try_from(i).unwrap(); len]),
                Change::Size(size) => {
                    let change = SetAttr { size: Some(size), ..SetAttr::default() };
                    scene.union.setattr(&scene.node(), &change).unwrap();
                    scene.model.resize(usize::try_from(size).unwrap(), 0);
                }
                Change::Mode => {
                    let change = SetAttr { mode: Some(0o600), ..SetAttr::default() };
                    scene.union.setattr(&scene.node(), &change).unwrap();
                }
                Change::Settle => scene.union.settle().unwrap(),
                Change::Again => scene = scene.again(),
                Change::Copy(from, to, len) => scene.copy(from, to, len),
            }
            scene.check();
        }
        let scene = scene.again();
        scene.check();
        scene.union.settle().unwrap();
        if scene.own().exists() {
            prop_assert!(fs::read(scene.own()).unwrap() == scene.model);
        }
    }
}

/// What another thread does between a lookup and the node that comes of it: the file became whole, and its old node is forgotten.
#[test]
fn what_became_whole_after_it_was_looked_up_stays_whole() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"one");
    scene.write(4 * BLOCK, b"two");
    for opened_before in [false, true] {
        let mut again = scene.again();
        let node = again.node();
        again.model[9 * usize::try_from(BLOCK).unwrap()] = b'w';
        fs::OpenOptions::new().write(true).open(again.own()).unwrap().write_all_at(&again.model, 0).unwrap();
        let fd = fs::File::open(again.own()).unwrap();
        let upper = again.union.upper().unwrap();
        for mark in [METACOPY, parts::MARK] {
            drop(sys::xattr::remove(&fd, &upper.mark_name(mark).unwrap()));
        }
        if opened_before {
            again.union.copy_up(&node, Copy::All).unwrap();
        }
        again.check();
        again.write(6 * BLOCK, b"three");
        assert_eq!(again.noted(), None);
        assert_eq!(fs::read(again.own()).unwrap(), again.model);
        drop(node);
        scene = again;
    }
}

/// A crash may leave data of a block on the disk and not that the block is here; where the layer has a hole, that must not come back.
#[test]
fn what_a_crash_left_in_a_hole_is_gone_when_the_file_is_whole() {
    for noted in [false, true] {
        let Some(mut scene) = Scene::with(&vec![0; usize::try_from(SIZE).unwrap()]) else { return };
        let file = fs::OpenOptions::new().write(true).open(scene.area.at("low/d/file")).unwrap();
        file.set_len(0).unwrap();
        file.set_len(SIZE).unwrap();
        scene.union.setattr(&scene.node(), &SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
        if noted {
            scene.write(BLOCK, b"mine");
        }
        let own = fs::OpenOptions::new().write(true).open(scene.own()).unwrap();
        own.write_all_at(b"left", 7 * BLOCK + 100).unwrap();
        scene.check();
        scene.union.settle().unwrap();
        scene.check();
        assert_eq!(fs::read(scene.own()).unwrap(), scene.model);
    }
}

/// Marks that a union without root made stay marks of its family, also when root goes on.
#[test]
fn the_marks_of_another_family_are_kept_up() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"one");
    let fd = fs::File::open(scene.own()).unwrap();
    let families = [Family::Trusted, Family::User].map(|family| [METACOPY, parts::MARK].map(|mark| family.name(mark)));
    for (from, to) in families[0].iter().zip(&families[1]) {
        if let Some(value) = sys::xattr::get(&fd, from).unwrap() {
            sys::xattr::remove(&fd, from).unwrap();
            sys::xattr::set(&fd, to, &value, SetMode::Any).unwrap();
        }
    }
    let mut scene = scene.again();
    scene.check();
    scene.write(3 * BLOCK, b"two");
    let scene = scene.again();
    scene.check();
    scene.union.settle().unwrap();
    assert_eq!(scene.noted(), None);
    let scene = scene.again();
    scene.check();
    assert_eq!(fs::read(scene.own()).unwrap(), scene.model);
}

/// That a file is whole is said in an attribute: a sync of data alone would leave it out.
#[test]
fn the_first_sync_of_a_file_that_became_whole_writes_its_attributes() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"one");
    let node = scene.node();
    scene.union.fsync(&node, true).unwrap();
    scene.union.settle().unwrap();
    scene.union.write(&node, b"x", 0).unwrap();
    let made = calls(|| scene.union.fsync(&node, true).unwrap());
    assert_eq!(made.first(), Some(&"fsync"), "{made:?}");
    let made = calls(|| scene.union.fsync(&node, true).unwrap());
    assert_eq!(made, ["fdatasync"]);
}

/// Who writes while the rest is copied changes the time for good.
#[test]
fn a_write_while_the_rest_is_copied_keeps_its_time() {
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"one");
    let old =
        SetAttr { mtime: Some(sys::attr::SetTime::At(sys::attr::Time { secs: 1000, nanos: 0 })), ..SetAttr::default() };
    scene.union.setattr(&scene.node(), &old).unwrap();
    let (node, mut wrote) = (scene.node(), false);
    let union = Arc::new(scene.union);
    let writer = (union.clone(), node.clone());
    let hook = move |call: &sys::gate::Call<'_>| {
        if call.name == "copy_file_range" && !wrote {
            wrote = true;
            writer.0.write(&writer.1, b"two", BLOCK).unwrap();
        }
        None
    };
    sys::gate::with_hook(hook, || union.settle().unwrap());
    assert!(union.getattr(&node).unwrap().mtime.secs > 1000);
    let mut buf = [0; 3];
    union.read(&node, &mut buf, BLOCK).unwrap();
    assert_eq!(&buf, b"two");
    // And where nobody writes, it stays.
    let Some(mut scene) = Scene::new() else { return };
    scene.write(BLOCK, b"one");
    scene.union.setattr(&scene.node(), &old).unwrap();
    scene.union.settle().unwrap();
    assert_eq!(scene.union.getattr(&scene.node()).unwrap().mtime.secs, 1000);
}
