//! Owner, mode and type of a file kept in an extended attribute, for filesystems and users that cannot keep them in the inode
//! (network homes, rootless stores shared between users).
//!
//! The attribute and its value are those of fuse-overlayfs and containers/storage (`force_mask`): `uid:gid:mode[:type]`, the mode
//! in octal, the type one of `dir`, `file`, `symlink`, `pipe`, `socket`, `block-MAJOR-MINOR`, `char-MAJOR-MINOR`. Only regular files
//! and directories carry it, and only a regular file can stand for something else. Whether a layer uses it, and under which
//! name, its root says.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Result;
use super::handle::DirHandle;
use crate::path::Name;
use crate::sys;
use crate::sys::attr::Kind;
use crate::sys::attr::PERM_MASK;
use crate::sys::attr::S_IFMT;
use crate::sys::attr::Stat;
use crate::sys::xattr::SetMode;

/// Under which name the attribute is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `security.fuseoverlayfs.override_stat`, for root.
    Security,
    /// `user.containers.override_stat`. Attributes `security.NAME` are kept as `user.containers.override_security.NAME`, too.
    Containers,
    /// `user.fuseoverlayfs.override_stat`.
    Fuse,
}

/// How names of attributes are stored that only a privileged user could set.
const ESCAPE: &[u8] = b"user.containers.override_";

impl Form {
    /// All, in the order in which a layer's root is asked for them.
    const ALL: [Form; 3] = [Form::Security, Form::Containers, Form::Fuse];

    /// The name of the attribute.
    pub fn name(self) -> &'static [u8] {
        match self {
            Form::Security => b"security.fuseoverlayfs.override_stat",
            Form::Containers => b"user.containers.override_stat",
            Form::Fuse => b"user.fuseoverlayfs.override_stat",
        }
    }

    /// The form that the layer with this root uses; `None`: owners and modes are in the inodes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn detect(root: &OwnedFd) -> sys::Result<Option<Form>> {
        for form in Self::ALL {
            if sys::xattr::get(root, form.name())?.is_some() {
                return Ok(Some(form));
            }
        }
        Ok(None)
    }

    /// Makes the layer with this root use this form, unless it uses one already: the root belongs to root from now on.
    ///
    /// # Errors
    /// The kernel's; `EOPNOTSUPP` where the filesystem has no such attributes.
    pub fn seed(self, root: &OwnedFd) -> sys::Result<()> {
        match Self::detect(root)? {
            Some(_) => Ok(()),
            None => sys::xattr::set(root, self.name(), b"0:0:0555", SetMode::Create),
        }
    }

    /// The stored name of an attribute.
    pub fn stored(self, name: &[u8]) -> Vec<u8> {
        match self {
            Form::Containers if name.starts_with(b"security.") => [ESCAPE, name].concat(),
            _ => name.to_vec(),
        }
    }

    /// The name under which a stored attribute shows; `None` for the override itself and what it hides.
    pub fn shown(self, name: &[u8]) -> Option<Vec<u8>> {
        if name == self.name() {
            return None;
        }
        if self != Form::Containers {
            return Some(name.to_vec());
        }
        match name.strip_prefix(ESCAPE) {
            Some(inner) => inner.starts_with(b"security.").then(|| inner.to_vec()),
            // What the system itself put on the file says nothing of the file that is shown.
            None if name.starts_with(b"security.") => None,
            None => Some(name.to_vec()),
        }
    }
}

/// What the attribute says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Type and device number, where they are given.
    pub kind: Option<(Kind, u64)>,
}

impl Override {
    /// What describes an object with these attributes.
    pub fn of(stat: &Stat) -> Self {
        let rdev = if matches!(stat.kind(), Kind::Char | Kind::Block) { stat.rdev } else { 0 };
        Self { uid: stat.uid, gid: stat.gid, mode: stat.mode & PERM_MASK, kind: Some((stat.kind(), rdev)) }
    }

    /// Reads a value; `None` for one that is malformed, which then counts as absent.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(value).ok()?.split(':');
        let uid = number(fields.next()?, 10)?;
        let gid = number(fields.next()?, 10)?;
        let mode = number(fields.next()?, 8)? & PERM_MASK;
        let kind = match fields.next() {
            None => None,
            Some(text) => Some(parse_kind(text)?),
        };
        fields.next().is_none().then_some(Self { uid, gid, mode, kind })
    }

    /// The value to be stored.
    pub fn print(&self) -> String {
        let kind = self.kind.map_or_else(String::new, |(kind, rdev)| {
            let (major, minor) = sys::attr::dev_parts(rdev);
            match kind {
                Kind::File => ":file".to_owned(),
                Kind::Dir => ":dir".to_owned(),
                Kind::Symlink => ":symlink".to_owned(),
                Kind::Fifo => ":pipe".to_owned(),
                Kind::Socket => ":socket".to_owned(),
                Kind::Block => format!(":block-{major}-{minor}"),
                Kind::Char => format!(":char-{major}-{minor}"),
            }
        });
        format!("{}:{}:{:o}{kind}", self.uid, self.gid, self.mode)
    }

    /// The attributes that show for an object with these. A directory stays one, and a file becomes no directory; nor a symlink,
    /// as its text would be nowhere.
    pub fn apply(&self, stat: Stat) -> Stat {
        let own = stat.kind();
        if !carries(own) {
            return stat;
        }
        let (kind, rdev) = match self.kind {
            Some((kind, rdev)) if own == Kind::File && !matches!(kind, Kind::Dir | Kind::Symlink) => (kind, rdev),
            _ => (own, stat.rdev),
        };
        let size = if own == Kind::File && kind != own { 0 } else { stat.size };
        Stat { uid: self.uid, gid: self.gid, mode: kind.mode_bits() | self.mode & !S_IFMT, rdev, size, ..stat }
    }
}

/// Whether objects of a kind can carry the attribute.
pub fn carries(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Dir)
}

/// Digits only: `from_str_radix` alone would take a sign.
fn number(text: &str, radix: u32) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| u32::from_str_radix(text, radix).ok())?
}

fn parse_kind(text: &str) -> Option<(Kind, u64)> {
    let plain = match text {
        "dir" => Kind::Dir,
        "file" => Kind::File,
        "symlink" => Kind::Symlink,
        "pipe" => Kind::Fifo,
        "socket" => Kind::Socket,
        _ => {
            let mut parts = text.split('-');
            let kind = match parts.next()? {
                "block" => Kind::Block,
                "char" => Kind::Char,
                _ => return None,
            };
            let (major, minor) = (number(parts.next()?, 10)?, number(parts.next()?, 10)?);
            return parts.next().is_none().then(|| (kind, sys::attr::makedev(major, minor)));
        }
    };
    Some((plain, 0))
}

/// The attributes of an open object of a layer that uses `form`.
///
/// # Errors
/// The kernel's.
pub fn stat(form: Option<Form>, fd: &OwnedFd) -> sys::Result<Stat> {
    let stat = sys::attr::fstat(fd)?;
    match form {
        Some(form) if carries(stat.kind()) => {
            let value = sys::xattr::get(fd, form.name())?;
            Ok(value.and_then(|v| Override::parse(&v)).map_or(stat, |o| o.apply(stat)))
        }
        _ => Ok(stat),
    }
}

/// The attributes of `name` in a directory of a layer; `None` when there is no such name.
///
/// # Errors
/// The kernel's.
pub fn stat_at(dir: &Arc<DirHandle>, name: Name<'_>) -> Result<Option<Stat>> {
    let fd = dir.fd()?;
    let Some(plain) = sys::attr::stat_at(&*fd, name)? else { return Ok(None) };
    if dir.overrides().is_none() || !carries(plain.kind()) {
        return Ok(Some(plain));
    }
    match sys::open::path_at(&*fd, name) {
        Ok(fd) => Ok(Some(stat(dir.overrides(), &fd)?)),
        Err(e) if e.errno() == sys::Errno::NOENT => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let dev = sys::attr::makedev;
        let table = [
            ("0:0:555", 0, 0, 0o555, None),
            ("1000:100:4755:file", 1000, 100, 0o4755, Some((Kind::File, 0))),
            ("0:0:755:dir", 0, 0, 0o755, Some((Kind::Dir, 0))),
            ("0:5:620:char-5-1", 0, 5, 0o620, Some((Kind::Char, dev(5, 1)))),
            ("0:6:660:block-259-70000", 0, 6, 0o660, Some((Kind::Block, dev(259, 70_000)))),
            ("1:2:600:pipe", 1, 2, 0o600, Some((Kind::Fifo, 0))),
            ("1:2:600:socket", 1, 2, 0o600, Some((Kind::Socket, 0))),
            ("1:2:777:symlink", 1, 2, 0o777, Some((Kind::Symlink, 0))),
        ];
        for (text, uid, gid, mode, kind) in table {
            let parsed = Override::parse(text.as_bytes());
            assert_eq!(parsed, Some(Override { uid, gid, mode, kind }), "{text}");
            assert_eq!(parsed.unwrap().print(), text);
        }
        // As containers/storage writes the mode, and one with type bits.
        for text in ["0:0:0644", "0:0:100644"] {
            assert_eq!(Override::parse(text.as_bytes()).unwrap().mode, 0o644, "{text}");
        }
        for bad in
            ["", "0", "0:0", "0:0:", "0:0:9", "-1:0:0", "+1:0:0", "0:0:0:what", "0:0:0:char-1", "0:0:0:char-1-2-3"]
        {
            assert_eq!(Override::parse(bad.as_bytes()), None, "{bad}");
        }
        for bad in ["4294967296:0:0", "0:0:0:file:", "0:0:0:char--1", "\u{e9}", " 0:0:0"] {
            assert_eq!(Override::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn only_a_file_can_stand_for_something_else() {
        let says = |text: &str| Override::parse(text.as_bytes()).unwrap();
        let stat = |mode| Stat { mode, size: 9, uid: 7, ..Stat::default() };
        let shown = says("1:2:640:char-1-3").apply(stat(0o100_700));
        assert_eq!((shown.mode, shown.uid, shown.gid, shown.size), (0o020_640, 1, 2, 0));
        assert_eq!(shown.rdev, sys::attr::makedev(1, 3));
        assert_eq!(says("1:2:640:char-1-3").apply(stat(0o040_700)).mode, 0o040_640);
        assert_eq!(says("1:2:640:dir").apply(stat(0o100_700)).mode, 0o100_640);
        assert_eq!(says("1:2:640:symlink").apply(stat(0o100_700)).size, 9);
        // What cannot carry the attribute is what it is.
        assert_eq!(says("1:2:640").apply(stat(0o120_777)), stat(0o120_777));
    }

    #[test]
    fn names_of_privileged_attributes_are_stored_under_others() {
        let form = Form::Containers;
        let stored = form.stored(b"security.capability");
        assert_eq!(stored, b"user.containers.override_security.capability");
        assert_eq!(form.shown(&stored).unwrap(), b"security.capability");
        assert_eq!(form.stored(b"user.x"), b"user.x");
        assert_eq!(form.shown(b"user.containers.override_stat"), None);
        assert_eq!(form.shown(b"security.selinux"), None);
        assert_eq!(Form::Security.stored(b"security.capability"), b"security.capability");
        assert_eq!(Form::Security.shown(b"security.fuseoverlayfs.override_stat"), None);
    }
}
