//! A directory tree with everything that can be seen of it, entry by entry, and what differs between two.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ffi::CStr;
use std::ffi::CString;
use std::fmt::Write as _;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use sha2::Digest;
use sha2::Sha256;

/// What is compared of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Regular file, directory, symlink, ...
    Kind,
    /// Permission bits with set-id and sticky.
    Mode,
    /// Owner and group as numbers.
    Owner,
    /// Length in bytes; not of directories, where it means nothing.
    Size,
    /// SHA-256 of a regular file's bytes.
    Content,
    /// A symlink's target.
    Target,
    /// The number of a device node.
    Rdev,
    /// Modification time to the nanosecond.
    Mtime,
    /// Every extended attribute that this process may list.
    Xattrs,
    /// Link count; not of directories, where filesystems differ.
    Nlink,
    /// The other names of the same inode in this tree.
    Links,
}

/// One name in a tree: each field that it has, as text to print and to compare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    fields: BTreeMap<Field, String>,
}

impl Entry {
    /// A field's text, if an entry of this kind has it.
    pub fn get(&self, field: Field) -> Option<&str> {
        self.fields.get(&field).map(String::as_str)
    }
}

/// A tree: entries by path, relative to the top, as bytes. The top itself is the empty path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All of them, in the order of their bytes.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

impl Snapshot {
    /// Reads the whole tree at `top`, which may be a mount.
    ///
    /// Walks by descriptors and never follows a symlink, so it stays inside the tree. What changes meanwhile is an error.
    ///
    /// # Errors
    /// The first failure, with the path it concerns.
    pub fn of(top: impl AsRef<Path>) -> io::Result<Self> {
        let top = top.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(top, flags, Mode::empty())
            .map_err(|e| at(top.as_os_str().as_encoded_bytes(), "open", e))?;
        let mut walk = Walk::default();
        let stat = rustix::fs::fstat(&fd).map_err(|e| at(b"", "fstat", e))?;
        let entry = walk.describe(b"", fd.as_fd(), c".", &stat)?;
        walk.tree.entries.insert(Vec::new(), entry);
        walk.directory(b"", fd)?;
        Ok(walk.finish())
    }

    /// How many names it has, the top included: what `find DIR | wc -l` prints when no name holds a newline.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: the top is always there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at a relative path.
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<&Entry> {
        self.entries.get(path.as_ref())
    }
}

/// What differs, one line each; empty when the trees are equal in every field.
pub fn diff(a: &Snapshot, b: &Snapshot) -> Vec<String> {
    diff_ignoring(a, b, &[])
}

/// Like [`diff`], without some fields.
pub fn diff_ignoring(a: &Snapshot, b: &Snapshot, ignored: &[Field]) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, left) in &a.entries {
        match b.entries.get(path) {
            Some(right) => diff_entry(path, left, right, ignored, &mut lines),
            None => lines.push(format!("{}: only in the first", show(path))),
        }
    }
    let only_right = b.entries.keys().filter(|path| !a.entries.contains_key(*path));
    lines.extend(only_right.map(|path| format!("{}: only in the second", show(path))));
    lines
}

/// Fails the test, with the first differences, unless two trees are equal in every field.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn assert_same(a: &Snapshot, b: &Snapshot) {
    let lines = diff(a, b);
    let first: Vec<_> = lines.iter().take(40).map(String::as_str).collect();
    assert!(lines.is_empty(), "{} differences:\n{}", lines.len(), first.join("\n"));
}

fn diff_entry(path: &[u8], a: &Entry, b: &Entry, ignored: &[Field], lines: &mut Vec<String>) {
    let keys: std::collections::BTreeSet<_> = a.fields.keys().chain(b.fields.keys()).collect();
    for field in keys {
        let (left, right) = (a.get(*field).unwrap_or("-"), b.get(*field).unwrap_or("-"));
        if left != right && !ignored.contains(field) {
            lines.push(format!("{}: {field:?}: {left} != {right}", show(path)));
        }
    }
}

/// A path as printable text.
fn show(path: &[u8]) -> String {
    if path.is_empty() { "(top)".to_owned() } else { path.escape_ascii().to_string() }
}

fn at(path: &[u8], call: &str, errno: Errno) -> io::Error {
    let plain = io::Error::from(errno);
    io::Error::new(plain.kind(), format!("{call} {}: {plain}", show(path)))
}

#[derive(Default)]
struct Walk {
    tree: Snapshot,
    /// Names of each inode that has several, by (device, inode).
    names: HashMap<(u64, u64), Vec<Vec<u8>>>,
}

impl Walk {
    fn directory(&mut self, path: &[u8], fd: OwnedFd) -> io::Result<()> {
        let mut names = Vec::new();
        for item in Dir::read_from(&fd).map_err(|e| at(path, "readdir", e))? {
            let name = item.map_err(|e| at(path, "readdir", e))?.file_name().to_owned();
            if name.as_bytes() != b"." && name.as_bytes() != b".." {
                names.push(name);
            }
        }
        for name in names {
            self.child(path, &fd, &name)?;
        }
        Ok(())
    }

    fn child(&mut self, parent: &[u8], dir: &OwnedFd, name: &CString) -> io::Result<()> {
        let mut path = parent.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| at(&path, "fstatat", e))?;
        let entry = self.describe(&path, dir.as_fd(), name, &stat)?;
        if self.tree.entries.insert(path.clone(), entry).is_some() {
            return Err(io::Error::other(format!("{}: listed twice", show(&path))));
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|e| at(&path, "open", e))?;
            self.directory(&path, fd)?;
        }
        Ok(())
    }

    /// Everything about the name `name` in `dir`, whose attributes are `stat`.
    fn describe(&mut self, path: &[u8], dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<Entry> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut fields = BTreeMap::from([
            (Field::Kind, format!("{kind:?}")),
            (Field::Mode, format!("{:04o}", stat.st_mode & 0o7777)),
            (Field::Owner, format!("{}:{}", stat.st_uid, stat.st_gid)),
            (Field::Mtime, format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec)),
        ]);
        if kind != FileType::Directory {
            fields.insert(Field::Size, stat.st_size.to_string());
            fields.insert(Field::Nlink, stat.st_nlink.to_string());
            if stat.st_nlink > 1 {
                self.names.entry((stat.st_dev, stat.st_ino)).or_default().push(path.to_vec());
            }
        }
        match kind {
            FileType::RegularFile => drop(fields.insert(Field::Content, sha256(path, dir, name)?)),
            FileType::CharacterDevice | FileType::BlockDevice => {
                let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                fields.insert(Field::Rdev, format!("{major}:{minor}"));
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|e| at(path, "readlink", e))?;
                fields.insert(Field::Target, show(target.as_bytes()));
            }
            _ => {}
        }
        let xattrs = xattrs(path, dir, name)?;
        if !xattrs.is_empty() {
            fields.insert(Field::Xattrs, xattrs);
        }
        Ok(Entry { fields })
    }

    fn finish(mut self) -> Snapshot {
        for mut names in self.names.into_values().filter(|names| names.len() > 1) {
            names.sort();
            let text = names.iter().map(|n| show(n)).collect::<Vec<_>>().join(" = ");
            for name in &names {
                if let Some(entry) = self.tree.entries.get_mut(name) {
                    entry.fields.insert(Field::Links, text.clone());
                }
            }
        }
        self.tree
    }
}

fn sha256(path: &[u8], dir: BorrowedFd<'_>, name: &CStr) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|e| at(path, "open", e))?;
    let mut file = std::fs::File::from(fd);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count =
            file.read(&mut buffer).map_err(|e| io::Error::new(e.kind(), format!("read {}: {e}", show(path))))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// All extended attributes as `name="value" ...`, sorted; empty where the filesystem has none.
fn xattrs(path: &[u8], dir: BorrowedFd<'_>, name: &CStr) -> io::Result<String> {
    // There is no lgetxattrat on older kernels; the link in /proc leads to the directory itself, and `l` does not follow `name`.
    let link = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let mut list = vec![0; 1 << 16];
    let length = match rustix::fs::llistxattr(&*link, &mut list) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(e) => return Err(at(path, "llistxattr", e)),
    };
    let mut pairs = Vec::new();
    for key in list[..length].split(|b| *b == 0).filter(|k| !k.is_empty() && *k != b"security.selinux") {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(&*link, key, &mut value).map_err(|e| at(path, "lgetxattr", e))?;
        pairs.push(format!("{}=\"{}\"", key.escape_ascii(), value[..length].escape_ascii()));
    }
    pairs.sort();
    Ok(pairs.join(" "))
}
