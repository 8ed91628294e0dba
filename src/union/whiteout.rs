//! Whiteouts in the kernel's form. All that one mount makes are names of one inode, as the kernel's overlayfs makes them: a link costs
//! less than an inode, and so does its removal.

use std::os::fd::OwnedFd;

use parking_lot::Mutex;

use super::error::Result;
use super::work::Upper;
use crate::path::Name;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;

/// Its name, in the work directory itself: what lies in the inner one is unfinished.
const NAME: &[u8] = b"whiteout";

/// The whiteout that the others are links to.
#[derive(Debug)]
pub(super) struct Shared {
    dir: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not made yet, or it has all links that the filesystem allows.
    Absent,
    There,
    /// The filesystem links no devices.
    Refused,
}

impl Shared {
    /// Keeps the shared whiteout in `dir`; nothing is made yet.
    pub(super) fn new(dir: OwnedFd) -> Self {
        Self { dir, state: Mutex::new(State::Absent) }
    }

    /// Makes the shared whiteout, in the place of one that another mount left when it died.
    fn make(&self, name: Name<'_>) -> sys::Result<()> {
        match sys::name::mknod(&self.dir, name, Kind::Char, 0, 0) {
            Err(e) if e.errno() == Errno::EXIST => {
                sys::name::unlink(&self.dir, name)?;
                sys::name::mknod(&self.dir, name, Kind::Char, 0, 0)
            }
            other => other,
        }
    }

    /// Whether there is one to link to.
    fn is_there(&self, name: Name<'_>) -> bool {
        let mut state = self.state.lock();
        if *state == State::Absent {
            *state = match self.make(name) {
                Ok(()) => State::There,
                Err(e) => {
                    log::debug!("whiteouts are not shared: {e}");
                    State::Refused
                }
            };
        }
        *state == State::There
    }

    fn give_up(&self, next: State) {
        *self.state.lock() = next;
    }
}

impl Upper {
    /// Makes a whiteout.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn make_whiteout(&self, dir: &OwnedFd, name: Name<'_>) -> Result<()> {
        let shared = &self.whiteout;
        if let Ok(kept) = Name::new(NAME) {
            for _ in 0..2 {
                if !shared.is_there(kept) {
                    break;
                }
                match sys::name::link(&shared.dir, kept, dir, name) {
                    // It has all links that it can have, or somebody from outside removed it: the next one is made.
                    Err(e) if matches!(e.errno(), Errno::MLINK | Errno::NOENT) => shared.give_up(State::Absent),
                    Err(e) if matches!(e.errno(), Errno::PERM | Errno::OPNOTSUPP | Errno::XDEV) => {
                        shared.give_up(State::Refused);
                    }
                    other => return Ok(other?),
                }
            }
        }
        Ok(sys::name::mknod(dir, name, Kind::Char, 0, 0)?)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let (there, name) = (*self.state.get_mut() == State::There, Name::new(NAME));
        if let (true, Ok(name)) = (there, name)
            && let Err(e) = sys::name::unlink(&self.dir, name)
        {
            log::debug!("left a whiteout in the work directory: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::fs::MetadataExt;

    use crate::path::Name;
    use crate::union::manners::Manners;
    use crate::union::node;
    use crate::union::testing::Area;

    #[test]
    fn whiteouts_are_names_of_one_inode_and_nothing_of_it_stays_behind() {
        if crate::sys::process::effective_uid() != 0 {
            return;
        }
        let area = Area::new();
        (0..3).for_each(|i| area.put(&format!("low/f{i}"), "x"));
        // As a mount that died leaves it.
        area.put("work/whiteout", "something else");
        let union = area.union(Manners::default());
        let root = union.node(node::ROOT).unwrap();
        for i in 0..3 {
            union.unlink(&root, Name::new(format!("f{i}").as_bytes()).unwrap()).unwrap();
        }
        let stats = [0, 1, 2].map(|i| std::fs::symlink_metadata(area.at(&format!("upper/f{i}"))).unwrap());
        assert!(stats.iter().all(|s| s.file_type().is_char_device() && s.rdev() == 0 && s.ino() == stats[0].ino()));
        drop((root, union));
        assert!(!area.at("work/whiteout").exists());
    }
}
