//! Whiteouts in the kernel's form. All that one mount makes are names of one inode, as the kernel's overlayfs makes them: a link costs
//! less than an inode, and so does its removal.

use std::os::fd::OwnedFd;

use parking_lot::Mutex;

use super::error::Result;
use super::work::Upper;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;

/// The whiteout in the work directory that the others are links to.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Not made yet, or it took all links that the filesystem allows.
    #[default]
    Absent,
    At(NameBuf),
    /// The filesystem links no devices.
    Refused,
}

impl Upper {
    /// Makes a whiteout.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn make_whiteout(&self, dir: &OwnedFd, name: Name<'_>) -> Result<()> {
        for _ in 0..2 {
            let Some(shared) = self.shared_whiteout()? else { break };
            match sys::name::link(&*self.work, shared.as_name(), dir, name) {
                // All links taken; or removed from outside: not worth a failed operation.
                Err(e) if matches!(e.errno(), Errno::MLINK | Errno::NOENT) => self.give_up(&shared, State::Absent),
                Err(e) if matches!(e.errno(), Errno::PERM | Errno::OPNOTSUPP) => self.give_up(&shared, State::Refused),
                other => return Ok(other?),
            }
        }
        Ok(sys::name::mknod(dir, name, Kind::Char, 0, 0)?)
    }

    /// The whiteout to link to; `None` where the filesystem links no devices.
    fn shared_whiteout(&self) -> Result<Option<NameBuf>> {
        let mut state = self.whiteout.0.lock();
        match &*state {
            State::At(shared) => Ok(Some(shared.clone())),
            State::Refused => Ok(None),
            State::Absent => {
                let fresh = self.fresh_name()?;
                sys::name::mknod(&*self.work, fresh.as_name(), Kind::Char, 0, 0)?;
                *state = State::At(fresh.clone());
                Ok(Some(fresh))
            }
        }
    }

    /// `shared` is of no use any more, unless somebody noticed before.
    fn give_up(&self, shared: &NameBuf, next: State) {
        let mut state = self.whiteout.0.lock();
        if matches!(&*state, State::At(known) if known == shared) {
            *state = next;
            self.drop_shared(shared);
        }
    }

    fn drop_shared(&self, shared: &NameBuf) {
        match sys::name::unlink(&*self.work, shared.as_name()) {
            Err(e) if e.errno() != Errno::NOENT => log::warn!("left {shared} in the work directory: {e}"),
            _ => {}
        }
    }
}

impl Drop for Upper {
    fn drop(&mut self) {
        if let State::At(shared) = std::mem::take(self.whiteout.0.get_mut()) {
            self.drop_shared(&shared);
        }
    }
}
