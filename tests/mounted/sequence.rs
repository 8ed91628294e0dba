//! Random sequences of operations on a mount, on the kernel's overlayfs over the same layers, and on a plain directory.
//!
//! After every operation the results, the whole trees and what open handles show are the same, and no number changes; so it is
//! with the caches dropped, after a remount, and with the upper handed to the kernel's overlayfs, changed there, and handed
//! back. `MICA_SEED` repeats a run, a failure prints it; `MICA_CASES` (200 in the whole test run) gives more rounds.
//!
//! # Where the mount may differ
//! Each of these must be seen in a run, or the entry is out of date ([`Trees::listed`]):
//! - a directory with a lower part is not renamed without redirects (`EXDEV`).
//!
//! And the kernel's overlayfs, from both: see [`Trees::compare`].

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::place::On;
use crate::place::Place;
use crate::place::kernel_overlay;
use crate::place::mknod;
use crate::place::opaque;
use crate::place::put;
use crate::place::sh;
use crate::place::whiteout;
use crate::sequence_ops::Dice;
use crate::sequence_ops::Handles;
use crate::sequence_ops::Op;
use crate::sequence_ops::reopen;
use crate::sequence_ops::run;
use crate::support::Snapshot;
use crate::support::report_count;
use crate::support::tree::Field;
use crate::support::tree::diff_ignoring;

/// Operations between two remounts, and those that the kernel does on mica's upper then.
const STEPS: usize = 100;
const STEPS_BY_THE_KERNEL: usize = 15;
/// The time of everything in the layers, in seconds. Later ones are those of the test's own operations.
const OLD: i64 = 1_000_000_000;

/// A mount, a plain directory that holds what the layers show, and the kernel's overlayfs where it can be mounted.
struct Trees {
    mica: Place,
    kernel: Option<Place>,
    plain: PathBuf,
    /// Of the mount, the kernel's, the plain directory.
    open: [Handles; 3],
    /// The number in the mount of every inode of the plain directory, as long as it is there.
    numbers: HashMap<u64, u64>,
    /// How often a listed deviation was seen.
    listed: usize,
}

/// What a mount is given beside its layers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    options: &'static str,
    redirect: bool,
}

impl Trees {
    fn new(kind: Kind) -> Option<Self> {
        let mut mica = Place::prepared("sequence")?;
        let layers = [mica.in_layer(0, ""), mica.in_layer(1, "")];
        fill(&layers[0], &layers[1]);
        let plain = mica.beside("plain");
        // The layers one over the other, with what their marks say.
        sh(
            &mica.beside(""),
            &format!(
                "cp -a l2 plain; rm -r plain/b plain/c/a; cp -a l1/. plain; rm plain/c/a
                 setfattr -x trusted.overlay.opaque plain/b
                 find l1 l2 u plain -exec touch -h -d @{OLD} {{}} +"
            ),
        );
        mica.set_options(kind.options);
        mica.mount(On::chosen());
        let kernel = kernel_overlay().map_err(|e| eprintln!("not compared with the kernel's overlayfs: {e}"));
        let kernel = kernel.ok().and_then(|()| Place::prepared("sequence-kernel")).map(|mut kernel| {
            kernel.set_layers(layers.to_vec());
            kernel.set_options(kind.options);
            sh(&kernel.beside(""), &format!("touch -d @{OLD} u"));
            kernel.mount(On::Kernel);
            kernel
        });
        Some(Self { mica, kernel, plain, open: Default::default(), numbers: HashMap::new(), listed: 0 })
    }

    /// Fails unless all of them show the same.
    fn compare(&mut self, when: &str) -> Snapshot {
        let plain = self.compare_trees(when);
        self.compare_handles(when);
        self.compare_numbers(when);
        plain
    }

    fn compare_trees(&self, when: &str) -> Snapshot {
        let plain = Snapshot::of(&self.plain).unwrap();
        same(&format!("{when}: the plain directory and the mount"), &plain, &self.mica.tree());
        if let Some(kernel) = &self.kernel {
            // Times aside: renaming a name of a file onto another of its names changes nothing, but the time of the directory in the
            // kernel's overlayfs.
            let lines = diff_ignoring(&plain, &kernel.tree(), &[Field::Mtime]);
            assert!(lines.is_empty(), "{when}: the plain directory and the kernel's:\n{}", lines.join("\n"));
        }
        plain
    }

    /// Fails unless the open handles of all trees show the same.
    fn compare_handles(&self, when: &str) {
        let [mica, kernel, plain] = &self.open;
        for (slot, plain) in plain.0.iter().enumerate() {
            let Some(plain) = plain else { continue };
            let wanted = Held::of(plain);
            let ours = Held::of(mica.0[slot].as_ref().expect("open in the mount, too"));
            assert!(wanted.shows_like(&ours), "{when}: handle {slot}: plain {wanted:?}, mount {ours:?}");
            if let Some(kernel) = &kernel.0[slot] {
                let theirs = Held { mtime: wanted.mtime, ..Held::of(kernel) };
                assert!(wanted.shows_like(&theirs), "{when}: handle {slot}: plain {wanted:?}, the kernel's {theirs:?}");
            }
            let number = self.numbers.get(&wanted.ino);
            assert!(
                number.is_none_or(|n| *n == ours.ino),
                "{when}: handle {slot}: number {number:?}, now {}",
                ours.ino
            );
        }
    }

    /// Fails unless every inode of the plain directory has one number in the mount, of its own, and that of before.
    fn compare_numbers(&mut self, when: &str) {
        let (plain, ours) = (listed_numbers(&self.plain), listed_numbers(&self.mica.top));
        let mut now = HashMap::new();
        for (path, number) in &plain {
            let known = *now.entry(*number).or_insert(ours[path]);
            assert_eq!(known, ours[path], "{when}: {}: two numbers of one file", path.display());
            let before = self.numbers.get(number);
            assert!(before.is_none_or(|n| *n == known), "{when}: {}: {before:?}, now {known}", path.display());
        }
        let mut owners = HashMap::new();
        for (inode, number) in &now {
            let other = owners.insert(*number, *inode);
            assert!(other.is_none(), "{when}: {other:?} and {inode} are two files with the number {number}");
        }
        let [mica, _, plain] = &self.open;
        for (plain, ours) in plain.0.iter().flatten().zip(mica.0.iter().flatten()) {
            now.insert(Held::of(plain).ino, Held::of(ours).ino);
        }
        self.numbers = now;
    }

    /// Runs an operation everywhere; whether it was done.
    fn step(&mut self, op: &Op) -> bool {
        let [ours, kernels, plains] = &mut self.open;
        let result = run(&self.mica.top, ours, op);
        if let Some(kernel) = &self.kernel {
            assert_eq!(result, run(&kernel.top, kernels, op), "{op:?}: the mount and the kernel's");
        }
        // Listed: a directory with a lower part is not renamed without redirects.
        if result == Err(Errno::XDEV) && matches!(op, Op::Rename(..)) {
            self.listed += 1;
        } else {
            assert_eq!(result, run(&self.plain, plains, op), "{op:?}: the mount and the plain directory");
        }
        result.is_ok()
    }

    fn drop_caches(&self) {
        if let Err(e) = fs::write("/proc/sys/vm/drop_caches", "2") {
            eprintln!("caches are kept: {e}");
        }
    }

    /// Remounts, which no handle outlives.
    fn remount(&mut self, when: &str) {
        self.open = Default::default();
        self.mica.remount();
        self.compare(when);
    }

    /// Hands the upper to the kernel's overlayfs, lets that change it, and takes it back.
    fn lend_to_the_kernel(&mut self, dice: &mut Dice, round: usize) {
        if self.kernel.is_none() {
            return;
        }
        self.mica.unmount();
        self.mica.mount(On::Kernel);
        let when = format!("round {round}, under the kernel's overlayfs");
        let mut tree = self.compare_trees(&when);
        for n in 1..=STEPS_BY_THE_KERNEL {
            let op = dice.op(&tree);
            self.step(&op);
            tree = self.compare_trees(&format!("{when}, operation {n}, {op:?}"));
        }
        self.open = Default::default();
        self.numbers.clear();
        self.mica.unmount();
        self.mica.mount(On::chosen());
        self.compare(&format!("round {round}, back from the kernel's overlayfs"));
    }
}

fn fill(high: &Path, low: &Path) {
    for dir in ["a", "b", "c"] {
        for name in ["a", "b", "c/a", "c/b"] {
            // Some are long enough to be copied up without their content.
            let times = if name.ends_with('a') { 3000 } else { 900 };
            put(low, &format!("{dir}/{name}"), format!("low {dir}/{name}").repeat(times));
        }
    }
    mknod(&low.join("a/fifo"), FileType::Fifo, 0o640, 0).unwrap();
    mknod(&low.join("a/null"), FileType::CharacterDevice, 0o600, rustix::fs::makedev(1, 3)).unwrap();
    mknod(&low.join("c/disk"), FileType::BlockDevice, 0o660, rustix::fs::makedev(7, 998)).unwrap();
    std::os::unix::fs::symlink("a/b", low.join("c/link")).unwrap();
    put(high, "a/b", "high a/b");
    put(high, "b/b", "high b/b");
    opaque(&high.join("b"));
    put(high, "c/c/b", "high c/c/b".repeat(2000));
    whiteout(&high.join("c/a"));
}

/// What can be seen through an open handle.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    mode: u32,
    owner: (u32, u32),
    /// Not of directories.
    size_and_links: Option<(i64, u64)>,
    mtime: (i64, i64),
    /// A sum of the bytes of a regular file; the names in a directory.
    content: String,
    ino: u64,
}

impl Held {
    fn of(fd: &rustix::fd::OwnedFd) -> Self {
        let stat = rustix::fs::fstat(fd).unwrap();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let content = match kind {
            FileType::RegularFile => {
                let mut bytes = vec![0; usize::try_from(stat.st_size).unwrap() + 1];
                let again = reopen(fd, OFlags::RDONLY).unwrap();
                let length = rustix::io::pread(again, &mut bytes, 0).unwrap();
                let sum =
                    bytes[..length].iter().fold(7, |sum: u64, b| sum.wrapping_mul(31).wrapping_add(u64::from(*b)));
                // Through the handle itself, too: it may be one from before a copy-up.
                let mut own = vec![0; length + 1];
                match rustix::io::pread(fd, &mut own, 0) {
                    Err(Errno::BADF) => {}
                    read => {
                        assert!(read.unwrap() == length && own[..length] == bytes[..length], "a handle and a new one");
                    }
                }
                format!("{length} bytes, {sum:x}")
            }
            FileType::Directory => {
                let mut names: Vec<_> =
                    Dir::read_from(fd).unwrap().map(|e| e.unwrap().file_name().to_owned()).collect();
                names.sort();
                names.retain(|name| !matches!(name.as_bytes(), b"." | b".."));
                format!("{names:?}")
            }
            _ => String::new(),
        };
        Self {
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            #[allow(clippy::useless_conversion, reason = "the type of a link count differs from machine to machine")]
            size_and_links: (kind != FileType::Directory).then(|| (stat.st_size, stat.st_nlink.into())),
            mtime: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap()),
            content,
            ino: stat.st_ino,
        }
    }

    /// Whether two handles show the same; numbers, and times that the test's own operations made, aside.
    fn shows_like(&self, other: &Self) -> bool {
        let made = self.mtime.0 > OLD && other.mtime.0 > OLD;
        let mtime = if made { other.mtime } else { self.mtime };
        Self { ino: other.ino, mtime, content: self.content.clone(), ..*self } == *other
    }
}

/// Fails unless two trees differ only in times that the test's own operations made.
#[track_caller]
fn same(what: &str, a: &Snapshot, b: &Snapshot) {
    let mut lines = diff_ignoring(a, b, &[Field::Mtime]);
    let is_old = |time: &str| time.split('.').next().and_then(|secs| secs.parse().ok()).is_none_or(|s: i64| s <= OLD);
    for (path, entry) in &a.entries {
        let (one, other) = (entry.get(Field::Mtime), b.get(path).and_then(|e| e.get(Field::Mtime)));
        if one != other && (one.is_some_and(is_old) || other.is_some_and(is_old)) {
            lines.push(format!("{}: Mtime: {one:?} != {other:?}", path.escape_ascii()));
        }
    }
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}

/// The number of every name below `top`, by its path from there. Reading a directory gives the same numbers, and the types.
fn listed_numbers(top: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(top.join(&dir), flags, Mode::empty()).unwrap();
        for entry in Dir::new(fd).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_str().unwrap();
            if matches!(name, "." | "..") {
                continue;
            }
            let path = dir.join(name);
            let stat = fs::symlink_metadata(top.join(&path)).unwrap();
            let kind = FileType::from_raw_mode(stat.mode());
            assert_eq!((entry.ino(), entry.file_type()), (stat.ino(), kind), "listed, stat: {}", path.display());
            if kind == FileType::Directory {
                dirs.push(path.clone());
            }
            found.insert(path, stat.ino());
        }
    }
    found
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn sequences(kind: Kind) {
    let Some(mut trees) = Trees::new(kind) else { return };
    // The same run each time, so that a failure of today is not gone tomorrow; other seeds are for whoever looks for more.
    let seed = number("MICA_SEED").unwrap_or(0x6d69_6361);
    // Captured, and so shown only when the test fails.
    eprintln!("MICA_SEED={seed}");
    let mut dice = Dice(seed.max(1));
    let rounds = usize::try_from(number("MICA_CASES").unwrap_or(0).clamp(60, 20_000) / 60).unwrap();
    let mut done = 0;
    let mut tree = trees.compare("at the start");
    for round in 1..=rounds {
        for n in 1..=STEPS {
            let op = dice.op(&tree);
            done += usize::from(trees.step(&op));
            tree = trees.compare(&format!("round {round}, operation {n}, {op:?}"));
        }
        trees.drop_caches();
        trees.compare(&format!("round {round}, caches dropped"));
        trees.remount(&format!("round {round}, after a remount"));
        trees.lend_to_the_kernel(&mut dice, round);
        tree = Snapshot::of(&trees.plain).unwrap();
    }
    assert_eq!(crate::place::names(&trees.mica.beside("w/work")), [""; 0], "nothing left in work");
    assert_eq!(trees.listed > 0, !kind.redirect, "EXDEV without redirects, and only then");
    report_count(done, "operations on a mount (the others were refused everywhere)");
    let Trees { mica, kernel, open, .. } = trees;
    drop(open);
    drop(kernel);
    mica.same_after_remount_and_by_the_kernel();
}

#[test]
fn random_sequences_on_a_mount_a_plain_directory_and_the_kernels_overlayfs() {
    sequences(Kind { options: "redirect_dir=off", redirect: false });
}

#[test]
fn random_sequences_with_redirects() {
    sequences(Kind { options: "redirect_dir=on", redirect: true });
}

#[test]
fn random_sequences_with_redirects_and_metacopies() {
    sequences(Kind { options: "redirect_dir=on,metacopy=on", redirect: true });
}
