//! Where the upper directory keeps owner, mode and type: in the inodes, or in an attribute (see [`override_stat`]) for who may not
//! change inodes.

use std::os::fd::OwnedFd;

use super::work::Upper;
use crate::layer::override_stat;
use crate::layer::override_stat::Form;
use crate::layer::override_stat::Override;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::PERM_MASK;
use crate::sys::attr::Stat;
use crate::sys::xattr::SetMode;

/// The mode of inodes whose own is kept in an attribute: what fuse-overlayfs gives them, so that a shared store can be read.
const INODE_MODE: u32 = 0o755;

impl Upper {
    /// The attribute in which owners and modes are kept, if they are.
    pub(super) fn form(&self) -> Option<Form> {
        self.root.overrides()
    }

    /// Whether objects are to be made in the work directory: at their place they would show without their owner for a moment.
    pub(super) fn keeps_apart(&self) -> bool {
        self.form().is_some()
    }

    /// The attributes of an open object of upper.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn stat(&self, fd: &OwnedFd) -> sys::Result<Stat> {
        override_stat::stat(self.form(), fd)
    }

    /// Changes owner and group; `None` leaves one as it is. Drops the set-id bits of a file that has them, as the kernel does.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn chown(&self, fd: &OwnedFd, uid: Option<u32>, gid: Option<u32>) -> sys::Result<()> {
        let changed = match self.kept(fd)? {
            None => sys::attr::chown(fd, uid, gid),
            Some((form, mut kept)) => {
                kept.uid = uid.unwrap_or(kept.uid);
                kept.gid = gid.unwrap_or(kept.gid);
                if kept.kind.is_none_or(|(kind, _)| kind == Kind::File) {
                    kept.mode &= !dropped_by_chown(kept.mode);
                }
                store(form, fd, &kept)
            }
        };
        self.forgive(changed)
    }

    /// Changes the permission bits; not of a symlink.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn chmod(&self, fd: &OwnedFd, mode: u32) -> sys::Result<()> {
        match self.kept(fd)? {
            None => sys::attr::chmod(fd, mode),
            Some((form, kept)) => store(form, fd, &Override { mode: mode & PERM_MASK, ..kept }),
        }
    }

    /// Gives a new object of the work directory, whose attributes are `made`, all that `stat` says of owner, mode, type and device.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn dress(&self, fd: &OwnedFd, stat: &Stat, made: &Stat) -> sys::Result<()> {
        if let Some(form) = self.form().filter(|_| override_stat::carries(made.kind())) {
            sys::attr::chmod(fd, INODE_MODE)?;
            return store(form, fd, &Override::of(stat));
        }
        if (made.uid, made.gid) != (stat.uid, stat.gid) {
            self.forgive(sys::attr::chown(fd, Some(stat.uid), Some(stat.gid)))?;
        }
        if made.kind() == Kind::Symlink { Ok(()) } else { sys::attr::chmod(fd, stat.mode) }
    }

    /// What is made in the work directory for an object of this kind: where the type is kept in an attribute, an empty file stands
    /// for all that is neither a directory nor a symlink.
    pub(super) fn inode_kind(&self, kind: Kind) -> Kind {
        match kind {
            Kind::Dir | Kind::Symlink => kind,
            _ if self.keeps_apart() => Kind::File,
            _ => kind,
        }
    }

    /// The name under which an attribute of an object of upper is stored.
    pub(super) fn stored_xattr(&self, name: &[u8]) -> Vec<u8> {
        self.form().map_or_else(|| name.to_vec(), |form| form.stored(name))
    }

    /// The name under which a stored attribute shows; `None` for what is kept for the upper directory itself.
    pub(super) fn shown_xattr(&self, name: Vec<u8>) -> Option<Vec<u8>> {
        match self.form() {
            Some(form) => form.shown(&name),
            None => Some(name),
        }
    }

    fn kept(&self, fd: &OwnedFd) -> sys::Result<Option<(Form, Override)>> {
        let Some(form) = self.form() else { return Ok(None) };
        if !override_stat::carries(sys::attr::fstat(fd)?.kind()) {
            return Ok(None);
        }
        Ok(Some((form, Override::of(&self.stat(fd)?))))
    }

    /// Where owners are squashed, a refusal to change one is no error: what is shown stays as it is.
    fn forgive(&self, changed: sys::Result<()>) -> sys::Result<()> {
        match changed {
            Err(e) if self.owners_may_fail && matches!(e.errno(), Errno::PERM | Errno::INVAL) => {
                log::debug!("squashed: {e}");
                Ok(())
            }
            other => other,
        }
    }
}

fn store(form: Form, fd: &OwnedFd, kept: &Override) -> sys::Result<()> {
    sys::xattr::set(fd, form.name(), kept.print().as_bytes(), SetMode::Any)
}

/// The bits that a change of owner takes from a file: set-user-id, and set-group-id where the group may execute.
fn dropped_by_chown(mode: u32) -> u32 {
    use sys::attr::S_ISGID;
    use sys::attr::S_ISUID;
    if mode & 0o010 != 0 { S_ISUID | S_ISGID } else { S_ISUID }
}
