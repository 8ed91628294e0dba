//! Many threads on one union: nothing hangs, nothing panics, and nothing is left when all is forgotten.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use micafs::layer::mem::Shape;
use micafs::sys::Errno;
use micafs::union::Caller;
use micafs::union::Error;
use micafs::union::MakeKind;
use micafs::union::RenameFlags;
use micafs::union::Union;
use micafs::union::attr::SetAttr;
use micafs::union::node::Node;
use micafs::union::node::ROOT;

use crate::layers::dir;
use crate::layers::entry;
use crate::layers::file;
use crate::layers::name;
use crate::snap;
use crate::snap::Pins;
use crate::world::Scratch;
use crate::world::Setup;

/// A small generator of its own: what a thread does must not depend on the others.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// Ends the whole process when no thread comes on for a minute: a deadlock must not look like a slow machine.
struct Watchdog(Arc<AtomicBool>);

impl Watchdog {
    fn start(progress: &Arc<AtomicU64>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (over, progress) = (done.clone(), progress.clone());
        std::thread::spawn(move || {
            let (mut last, mut still) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                let now = progress.load(Ordering::Relaxed);
                still = if now == last { still + 1 } else { 0 };
                last = now;
                if still > 600 {
                    eprintln!("no operation came to an end for a minute: a deadlock");
                    std::process::abort();
                }
            }
        });
        Watchdog(done)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn setup() -> Setup {
    let mut bottom = vec![];
    for d in ["a", "b", "c"] {
        bottom.push(dir(d));
        for f in ["a", "b"] {
            bottom.push(dir(&format!("{d}/{f}")));
            bottom.push(file(&format!("{d}/{f}/a"), "bottom"));
            bottom.push(entry(&format!("{d}/{f}/b"), Shape::File(300_000, vec![(0, vec![3; 200_000])])));
        }
        bottom.push(entry(&format!("{d}/c"), Shape::Symlink(b"a".to_vec())));
    }
    let top = vec![dir("a"), dir("a/c"), file("a/c/a", "top"), entry("b", Shape::Whiteout)];
    let mut setup = Setup::of_dirs(vec![bottom, top]);
    setup.redirect = true;
    setup
}

struct Worker<'a> {
    union: &'a Union,
    dice: Dice,
    pins: Pins,
    faults: Vec<String>,
}

impl Worker<'_> {
    /// Walks down a few random names; where one is missing, stays above.
    fn somewhere(&mut self) -> Arc<Node> {
        let mut at = self.union.node(ROOT).expect("the root");
        for _ in 0..self.dice.roll(4) {
            let name = name(self.dice.roll(3) as u8);
            match self.union.lookup(&at, name.as_name()) {
                Ok(Some(entry)) => {
                    self.pins.add(entry.node.ino);
                    at = entry.node;
                }
                Ok(None) => break,
                Err(e) => {
                    self.check("lookup", Err(e));
                    break;
                }
            }
        }
        at
    }

    fn some_dir(&mut self) -> Arc<Node> {
        loop {
            let node = self.somewhere();
            if node.kind == micafs::sys::attr::Kind::Dir {
                return node;
            }
        }
    }

    /// What races can end in is fine; what tells of a broken state is not.
    fn check(&mut self, what: &str, result: Result<(), Error>) {
        let Err(e) = result else { return };
        let fine = [
            Errno::NOENT,
            Errno::EXIST,
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::NOTEMPTY,
            Errno::INVAL,
            Errno::XDEV,
            Errno::PERM,
            // The mode of a symlink.
            Errno::OPNOTSUPP,
        ];
        if !fine.contains(&e.errno()) {
            self.faults.push(format!("{what}: {e:?}"));
        }
    }

    fn one(&mut self) {
        let (a, b) = (self.some_dir(), self.some_dir());
        let (x, y) = (name(self.dice.roll(3) as u8), name(self.dice.roll(3) as u8));
        let (x, y) = (x.as_name(), y.as_name());
        let u = self.union;
        match self.dice.roll(16) {
            0 | 1 => {
                let made = u.make(&a, x, MakeKind::File, 0o644, Caller::default(), false);
                self.made("create", made);
            }
            2 | 3 => {
                let made = u.make(&a, x, MakeKind::Dir, 0o755, Caller::default(), false);
                self.made("mkdir", made);
            }
            4 => self.check("unlink", u.unlink(&a, x)),
            5 => self.check("rmdir", u.rmdir(&a, x)),
            6..=8 => self.check("rename", u.rename(&a, x, &b, y, RenameFlags::default())),
            9 => self.check("exchange", u.rename(&a, x, &b, y, RenameFlags { exchange: true, no_replace: false })),
            10 => {
                let node = self.somewhere();
                let made = u.link(&node, &a, x);
                self.made("link", made);
            }
            11 => {
                let node = self.somewhere();
                let done = u.setattr(&node, &SetAttr { mode: Some(0o700), ..SetAttr::default() });
                self.check("chmod", done.map(drop));
            }
            12 => {
                let node = self.somewhere();
                let opened = u.open(&node, true, false);
                if opened.is_ok() {
                    let done = u.write(&node, b"written", 5);
                    self.check("write", done.map(drop));
                    let mut buf = [0; 7];
                    let read = u.read(&node, &mut buf, 5);
                    if !matches!(read, Ok(7)) || &buf != b"written" {
                        self.faults.push(format!("what was written is not read: {read:?}"));
                    }
                    u.release(&node);
                }
                self.check("open", opened);
            }
            13 => {
                let listed = u.list(&a, 0);
                self.check("list", listed.map(drop));
                u.close_dir(&a);
            }
            14 => {
                let node = self.somewhere();
                self.check("stat", u.getattr(&node).map(drop));
            }
            _ => self.pins.forget_all(u),
        }
    }

    fn made(&mut self, what: &str, made: Result<micafs::union::Entry, Error>) {
        match made {
            Ok(entry) => self.pins.add(entry.node.ino),
            Err(e) => self.check(what, Err(e)),
        }
    }
}

#[test]
fn many_threads_leave_a_sound_union() {
    if crate::model::skip() {
        return;
    }
    let rounds = crate::model::cases(60) * 20;
    let scratch = Scratch::new();
    let setup = setup();
    setup.write_layers(&scratch);
    let union = setup.mount(&scratch);
    let seed = u64::from_ne_bytes(micafs::env::random().unwrap());
    let progress = Arc::new(AtomicU64::new(0));
    let watchdog = Watchdog::start(&progress);
    let faults: Vec<String> = std::thread::scope(|scope| {
        let (union, progress) = (&union, &progress);
        let work = move |i: u64| {
            let mut worker =
                Worker { union, dice: Dice(seed ^ (i + 1) << 40 | 1), pins: Pins::default(), faults: vec![] };
            for _ in 0..rounds {
                worker.one();
                progress.fetch_add(1, Ordering::Relaxed);
            }
            worker.pins.forget_all(union);
            worker.faults
        };
        let threads: Vec<_> = (0..6).map(|i| scope.spawn(move || work(i))).collect();
        threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect()
    });
    // The comparison is no operation: with many rounds trees lie hundreds of directories deep, and it takes its time.
    drop(watchdog);
    assert!(faults.is_empty(), "seed {seed}: {} faults:\n{}", faults.len(), faults[..faults.len().min(20)].join("\n"));
    let mut pins = Pins::default();
    let tree = snap::of_union(&union, &mut pins).expect("a readable union");
    pins.forget_all(&union);
    union.table().collect();
    assert_eq!(union.table().len(), 1, "seed {seed}: nodes are left");
    drop(union);
    let union = setup.mount(&scratch);
    let again = snap::of_union(&union, &mut pins).expect("a readable union");
    assert_eq!(tree, again, "seed {seed}: another tree after a remount");
    pins.forget_all(&union);
}

/// Every thread has names of its own in one directory: each success must be seen at once, by everybody.
#[test]
fn every_successful_create_is_seen() {
    if crate::model::skip() {
        return;
    }
    let scratch = Scratch::new();
    let setup = setup();
    setup.write_layers(&scratch);
    let union = setup.mount(&scratch);
    std::thread::scope(|scope| {
        for t in 0..4u32 {
            let union = &union;
            scope.spawn(move || {
                let mut client = Pins::default();
                let root = union.node(ROOT).unwrap();
                let a = union.lookup(&root, name(0).as_name()).unwrap().unwrap();
                client.add(a.node.ino);
                for i in 0..100 {
                    let name = micafs::path::NameBuf::new(format!("t{t}-{i}").as_bytes()).unwrap();
                    let made =
                        union.make(&a.node, name.as_name(), MakeKind::File, 0o600, Caller::default(), false).unwrap();
                    client.add(made.node.ino);
                    let found = union.lookup(&a.node, name.as_name()).unwrap().expect("what was made is found");
                    client.add(found.node.ino);
                    assert!(Arc::ptr_eq(&found.node, &made.node));
                    let listing = union.list(&a.node, 0).unwrap();
                    assert!(listing.entries.iter().any(|e| e.name == name), "what was made is listed");
                }
                client.forget_all(union);
            });
        }
    });
    union.table().collect();
    assert_eq!(union.table().len(), 1, "nodes are left");
}
