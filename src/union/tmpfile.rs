//! Files that are made without a name (`O_TMPFILE`).
//!
//! The upper filesystem makes them in the directory that was asked for, as it makes files there, so quotas, labels and default ACLs are
//! that directory's. Such a file is an open file without a name like any other, but [`Union::link`] can give it one: then it shows at
//! once and whole. A crash leaves nothing, since nothing had a name.
//!
//! Where the upper filesystem knows no such files there are none here, either (`EOPNOTSUPP`), as in a plain directory on it: one that is
//! made under a name and loses it could never get another.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Caller;
use super::Entry;
use super::Result;
use super::Union;
use super::copy_up::Copy;
use super::error::Error;
use super::error::refused;
use super::exec;
use super::exec::Dress;
use super::names::dress_for;
use super::node::Io;
use super::node::Node;
use super::node::OpenFor;
use super::node::Real;
use crate::layer::ObjectId;
use crate::layer::handle::DirHandle;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;

impl Union {
    /// Makes a regular file without a name, for the directory `parent`, and opens it for reading and writing, as
    /// [`Union::open`] does.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the upper filesystem cannot; `EROFS`; those of the copy-up of `parent` and of upper.
    pub fn make_tmpfile(&self, parent: &Arc<Node>, mode: u32, caller: Caller) -> Result<Entry> {
        self.dirs_of(parent)?;
        let upper = self.upper()?;
        if !upper.abilities.tmpfile {
            return refused(Errno::OPNOTSUPP);
        }
        self.copy_up(parent, Copy::All)?;
        let dir = self.dirs_of(parent)?.upper.ok_or(Error::Refused(Errno::ROFS))?;
        if super::is_removed(parent) {
            return refused(Errno::NOENT);
        }
        let dress = dress_for(&dir, mode, self.stored_caller(caller), false)?;
        let fd = Arc::new(self.build_tmpfile(&dir, &dress)?);
        let stat = upper.stat(&fd)?;
        let id = ObjectId { dev: stat.dev, ino: stat.ino };
        let make = |ino| {
            let node = Node::new(ino, Kind::File, None, Real::Upper { id, held: Some(fd.clone()) });
            node.body.write().change(|rare| {
                rare.io = Some(Io::Upper(fd.clone(), OpenFor::Writing));
                rare.opens = u32::from(!self.files.are_uncounted());
            });
            node
        };
        // No node that is known can be this one: it is new, and has no name.
        let own = self.stack().upper_ino(id);
        let node = own
            .and_then(|ino| self.table().intern(ino, |_| false, || make(ino)))
            .or_else(|| self.table().intern_dynamic(None, id, |_| false, make))
            .ok_or(Error::Refused(Errno::STALE))?;
        let attr = self.show(&node, stat);
        Ok(Entry { node, attr })
    }

    /// The file, complete; in one call where that works.
    fn build_tmpfile(&self, dir: &Arc<DirHandle>, dress: &Dress) -> Result<OwnedFd> {
        let upper = self.upper()?;
        let at = dir.fd()?;
        let none = || Error::Refused(Errno::OPNOTSUPP);
        if !upper.keeps_apart() {
            let (uid, gid) = (dress.uid, dress.gid);
            let own = (sys::process::effective_uid(), sys::process::effective_gid()) == (uid, gid);
            let make = || sys::open::tmpfile(&*at, dress.mode);
            match if own { make() } else { sys::identity::as_owner(uid, gid, make) } {
                // The owner may lack a right on the upper filesystem that the mount itself has.
                Err(e) if matches!(e.errno(), Errno::ACCESS | Errno::PERM) => {}
                other => return other?.ok_or_else(none),
            }
        }
        let fd = sys::open::tmpfile(&*at, 0o600)?.ok_or_else(none)?;
        exec::put_on(upper, dress, &fd, Kind::File, 0)?;
        Ok(fd)
    }
}
