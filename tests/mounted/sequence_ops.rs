//! What the random sequences do: operations as data, drawn for a tree, and carried out below a root.

use std::path::Path;
use std::path::PathBuf;

use rustix::fd::OwnedFd;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FallocateFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::support::Snapshot;
use crate::support::tree::Field;

const MODES: [u32; 8] = [0o644, 0o755, 0o4755, 0o1777, 0o2755, 0o600, 0o000, 0o444];
/// Handles that are open at the same time.
pub const SLOTS: usize = 3;
/// How a handle is opened.
const FLAGS: [OFlags; 4] =
    [OFlags::RDONLY, OFlags::RDWR, OFlags::WRONLY.union(OFlags::TRUNC), OFlags::WRONLY.union(OFlags::APPEND)];
/// A null device, and a disk that is not there: nothing opens them.
const NODES: [(FileType, u32, u32); 4] = [
    (FileType::Fifo, 0, 0),
    (FileType::Socket, 0, 0),
    (FileType::CharacterDevice, 1, 3),
    (FileType::BlockDevice, 7, 999),
];

#[derive(Debug)]
pub enum Op {
    Create(PathBuf, u32),
    Mkdir(PathBuf, u32),
    Symlink(PathBuf),
    /// One of [`NODES`].
    Node(PathBuf, usize),
    Link(PathBuf, PathBuf),
    Unlink(PathBuf),
    Rmdir(PathBuf),
    Rename(PathBuf, PathBuf, RenameFlags),
    Append(PathBuf, usize),
    Truncate(PathBuf, u64),
    Chmod(PathBuf, u32),
    Chown(PathBuf, u32),
    Times(PathBuf, i64),
    SetXattr(PathBuf, &'static str, u8),
    RemoveXattr(PathBuf, &'static str),
    /// Opens into a slot with one of [`FLAGS`]; what was open there is closed.
    Open(usize, PathBuf, usize),
    /// Opens what one slot holds once more, for reading and writing, by its link in /proc; it replaces the old handle.
    Reopen(usize),
    Close(usize),
    Write(usize, u64, usize),
    Cut(usize, u64),
    Punch(usize, u64, u64),
    ChmodOpen(usize, u32),
    ChownOpen(usize, u32),
    TimesOpen(usize, i64),
    SetXattrOpen(usize, u8),
    Sync(usize),
}

/// xorshift64.
pub struct Dice(pub u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 20).unwrap() % sides
    }

    /// One of few names in a directory of the tree: mostly the names meet.
    fn path(&mut self, tree: &Snapshot) -> PathBuf {
        let is_dir = |path: &&Vec<u8>| tree.entries[*path].get(Field::Kind) == Some("Directory");
        let dirs: Vec<_> = tree.entries.keys().filter(is_dir).collect();
        let dir = std::str::from_utf8(dirs[self.roll(dirs.len())]).unwrap();
        Path::new(dir).join(["a", "b", "c"][self.roll(3)])
    }

    /// A path that is there, mostly.
    fn there(&mut self, tree: &Snapshot) -> PathBuf {
        let text = |path: &Vec<u8>| PathBuf::from(std::str::from_utf8(path).unwrap());
        let n = self.roll(tree.len() + 1);
        tree.entries.keys().nth(n).filter(|path| !path.is_empty()).map_or_else(|| self.path(tree), text)
    }

    /// An operation on a tree.
    pub fn op(&mut self, tree: &Snapshot) -> Op {
        if self.roll(3) == 0 { self.op_on_handle(tree) } else { self.op_on_name(tree) }
    }

    fn op_on_name(&mut self, tree: &Snapshot) -> Op {
        let (at, new) = (self.there(tree), self.path(tree));
        let xattr = ["user.x", "trusted.t"][self.roll(2)];
        let op = match self.roll(36) {
            0..=3 => Op::Create(new, MODES[self.roll(8)]),
            4..=6 => Op::Mkdir(new, MODES[self.roll(8)]),
            7 => Op::Symlink(new),
            8..=9 => Op::Node(new, self.roll(4)),
            10..=12 => Op::Link(at, new),
            13..=15 => Op::Unlink(at),
            16..=17 => Op::Rmdir(at),
            18..=22 => Op::Rename(at, new, RenameFlags::empty()),
            23 => Op::Rename(at, new, RenameFlags::NOREPLACE),
            24 => Op::Rename(at, self.there(tree), RenameFlags::EXCHANGE),
            25..=26 => Op::Append(at, self.roll(9000)),
            27 => Op::Truncate(at, self.roll(40_000) as u64),
            28..=30 => Op::Chmod(at, MODES[self.roll(8)]),
            31 => Op::Chown(at, self.id()),
            32 => Op::Times(at, 1000 * i64::try_from(self.roll(9)).unwrap()),
            33..=34 => Op::SetXattr(at, xattr, 7),
            _ => Op::RemoveXattr(at, xattr),
        };
        match op {
            Op::Append(at, _) | Op::Truncate(at, _) if is_device(tree, &at) => Op::Chmod(at, MODES[self.roll(8)]),
            op => op,
        }
    }

    fn op_on_handle(&mut self, tree: &Snapshot) -> Op {
        let slot = self.roll(SLOTS);
        match self.roll(19) {
            0..=5 => {
                let at = self.there(tree);
                if is_device(tree, &at) { Op::Close(slot) } else { Op::Open(slot, at, self.roll(FLAGS.len())) }
            }
            6 => Op::Close(slot),
            7..=9 => Op::Write(slot, self.roll(40_000) as u64, self.roll(5000)),
            10 => Op::Cut(slot, self.roll(40_000) as u64),
            11 => Op::Punch(slot, self.roll(20_000) as u64, 1 + self.roll(20_000) as u64),
            12..=13 => Op::ChmodOpen(slot, MODES[self.roll(8)]),
            14 => Op::ChownOpen(slot, self.id()),
            15 => Op::TimesOpen(slot, 1000 * i64::try_from(self.roll(9)).unwrap()),
            16 => Op::SetXattrOpen(slot, 9),
            17 => Op::Sync(slot),
            _ => Op::Reopen(slot),
        }
    }

    fn id(&mut self) -> u32 {
        500 * u32::try_from(self.roll(3)).unwrap()
    }
}

fn is_device(tree: &Snapshot, at: &Path) -> bool {
    let kind = tree.get(at.as_os_str().as_encoded_bytes()).and_then(|entry| entry.get(Field::Kind));
    matches!(kind, Some("CharacterDevice" | "BlockDevice"))
}

/// The open handles of one tree.
#[derive(Debug, Default)]
pub struct Handles(pub [Option<OwnedFd>; SLOTS]);

impl Handles {
    /// Does `body` with a slot's handle; nothing, and that is fine, where none is open.
    fn with(&self, slot: usize, body: impl FnOnce(&OwnedFd) -> Result<(), Errno>) -> Result<(), Errno> {
        self.0[slot].as_ref().map_or(Ok(()), body)
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    // Not waiting: a FIFO has no reader.
    let always = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags | always, Mode::empty())
}

/// Opens what a handle holds once more, also when it has no name.
pub fn reopen(fd: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

fn stamps(secs: i64) -> rustix::fs::Timestamps {
    let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: 123_456_789 };
    rustix::fs::Timestamps { last_access: time, last_modification: time }
}

/// Carries out one operation below `root`.
pub fn run(root: &Path, handles: &mut Handles, op: &Op) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode;
    let owner = |id: u32| (Some(rustix::fs::Uid::from_raw(id)), Some(rustix::fs::Gid::from_raw(id)));
    match op {
        Op::Create(at, m) => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::io::write(rustix::fs::open(root.join(at), flags, mode(*m))?, b"made").map(drop)
        }
        Op::Mkdir(at, m) => rustix::fs::mkdir(root.join(at), mode(*m)),
        Op::Symlink(at) => rustix::fs::symlink("to/nothing", root.join(at)),
        Op::Node(at, which) => {
            let (kind, major, minor) = NODES[*which];
            rustix::fs::mknodat(CWD, root.join(at), kind, mode(0o640), rustix::fs::makedev(major, minor))
        }
        Op::Link(from, to) => rustix::fs::linkat(CWD, root.join(from), CWD, root.join(to), AtFlags::empty()),
        Op::Unlink(at) => rustix::fs::unlink(root.join(at)),
        Op::Rmdir(at) => rustix::fs::rmdir(root.join(at)),
        Op::Rename(from, to, flags) => rustix::fs::renameat_with(CWD, root.join(from), CWD, root.join(to), *flags),
        Op::Append(at, n) => {
            let file = open(&root.join(at), OFlags::WRONLY | OFlags::APPEND)?;
            rustix::io::write(file, &vec![b'+'; *n]).map(|written| assert_eq!(written, *n))
        }
        Op::Truncate(at, n) => rustix::fs::ftruncate(open(&root.join(at), OFlags::WRONLY)?, *n),
        Op::Chmod(at, m) => rustix::fs::chmod(root.join(at), mode(*m)),
        Op::Chown(at, id) => {
            let (user, group) = owner(*id);
            rustix::fs::chownat(CWD, root.join(at), user, group, AtFlags::SYMLINK_NOFOLLOW)
        }
        Op::Times(at, secs) => rustix::fs::utimensat(CWD, root.join(at), &stamps(*secs), AtFlags::SYMLINK_NOFOLLOW),
        Op::SetXattr(at, name, value) => {
            rustix::fs::lsetxattr(root.join(at), *name, &[*value; 20], XattrFlags::empty())
        }
        Op::RemoveXattr(at, name) => rustix::fs::lremovexattr(root.join(at), *name),
        Op::Open(slot, at, flags) => {
            handles.0[*slot] = None;
            handles.0[*slot] = Some(open(&root.join(at), FLAGS[*flags])?);
            Ok(())
        }
        Op::Reopen(slot) => {
            let Some(fd) = &handles.0[*slot] else { return Ok(()) };
            handles.0[*slot] = Some(reopen(fd, OFlags::RDWR)?);
            Ok(())
        }
        Op::Close(slot) => {
            handles.0[*slot] = None;
            Ok(())
        }
        Op::Write(slot, at, n) => handles
            .with(*slot, |fd| rustix::io::pwrite(fd, &vec![b'*'; *n], *at).map(|written| assert_eq!(written, *n))),
        Op::Cut(slot, n) => handles.with(*slot, |fd| rustix::fs::ftruncate(fd, *n)),
        Op::Punch(slot, at, n) => handles.with(*slot, |fd| {
            rustix::fs::fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, *at, *n)
        }),
        Op::ChmodOpen(slot, m) => handles.with(*slot, |fd| rustix::fs::fchmod(fd, mode(*m))),
        Op::ChownOpen(slot, id) => handles.with(*slot, |fd| {
            let (user, group) = owner(*id);
            rustix::fs::fchown(fd, user, group)
        }),
        Op::TimesOpen(slot, secs) => handles.with(*slot, |fd| rustix::fs::futimens(fd, &stamps(*secs))),
        Op::SetXattrOpen(slot, value) => {
            handles.with(*slot, |fd| rustix::fs::fsetxattr(fd, "trusted.open", &[*value; 20], XattrFlags::empty()))
        }
        Op::Sync(slot) => handles.with(*slot, |fd| rustix::fs::fsync(fd)),
    }
}
