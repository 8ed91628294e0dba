//! Makes the kernel forget what changed in the layers.
//!
//! The kernel is told from a thread of its own: a notice about a name waits for the lock of its directory, which a request that
//! still waits for an answer may hold. No thread that answers requests waits for it, and no lock of the union is held.

use std::sync::Arc;

use super::notify::Notifier;
use super::reply::Later;
use crate::sys::Errno;
use crate::sys::process;
use crate::union::Union;
use crate::union::node::Node;
use crate::union::refresh::Notice;

/// What refreshing needs; shared with the thread that does it.
#[derive(Debug)]
pub(super) struct Refresher {
    notifier: Notifier,
    /// One at a time.
    busy: parking_lot::Mutex<()>,
}

impl Refresher {
    pub(super) fn new(notifier: Notifier) -> Self {
        Self { notifier, busy: parking_lot::Mutex::new(()) }
    }

    /// Refreshes `node` and all below it for the user `uid`, and then answers.
    pub(super) fn start(self: &Arc<Self>, union: &Arc<Union>, node: Arc<Node>, uid: u32, reply: Later) {
        if !may_ask(uid) {
            return reply.error(Errno::PERM);
        }
        let (this, union) = (self.clone(), union.clone());
        let work = move || {
            let _one = this.busy.lock();
            match this.refresh(&union, &node) {
                Ok(()) => reply.done(),
                Err(e) => {
                    log::warn!("refresh: {e}");
                    reply.error(e);
                }
            }
        };
        // The reply went with the closure: dropped unsent, it answers EIO.
        if let Err(e) = std::thread::Builder::new().name("mica-refresh".to_owned()).spawn(work) {
            log::warn!("refresh: no thread: {e}");
        }
    }

    /// The same on this thread. No two of them wait for each other, and so not for all threads there are.
    ///
    /// # Errors
    /// `EPERM` for others than the mount's owner and root; `EBUSY` while another one is under way; what refreshing fails with.
    pub(super) fn run(&self, union: &Union, node: &Arc<Node>, uid: u32) -> Result<(), Errno> {
        if !may_ask(uid) {
            return Err(Errno::PERM);
        }
        let _one = self.busy.try_lock().ok_or(Errno::BUSY)?;
        self.refresh(union, node).inspect_err(|e| log::warn!("refresh: {e}"))
    }

    fn refresh(&self, union: &Union, node: &Arc<Node>) -> Result<(), Errno> {
        let mut notices = Vec::new();
        let looked = union.refresh(node, &mut notices).map_err(|e| e.errno());
        // One that fails keeps no other from being told.
        let told = notices.iter().map(|notice| match notice {
            Notice::Inode(ino) => self.notifier.inval_inode(*ino),
            Notice::Entry(parent, name) => self.notifier.inval_entry(*parent, name.as_name()),
            Notice::Arrived(dir) => self.notifier.arrived(*dir),
        });
        told.fold(looked, Result::and)
    }
}

fn may_ask(uid: u32) -> bool {
    [0, process::effective_uid()].contains(&uid)
}
