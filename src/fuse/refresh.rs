//! Makes the kernel forget what changed in the layers.
//!
//! The kernel is told from a thread of its own: a notice about a name waits for the lock of its directory, which a request that
//! still waits for an answer may hold. No thread that answers requests waits for it, and no lock of the union is held.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::OnceLock;

use fuser::INodeNo;
use fuser::Notifier;
use fuser::ReplyIoctl;
use fuser::Request;

use crate::sys::process;
use crate::union::Union;
use crate::union::node::Node;
use crate::union::refresh::Notice;

/// What refreshing needs; shared with the thread that does it.
#[derive(Default)]
pub(super) struct Refresher {
    /// Set when the session is there.
    notifier: OnceLock<Notifier>,
    /// One at a time.
    busy: parking_lot::Mutex<()>,
}

impl Refresher {
    pub(super) fn set_notifier(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// Refreshes `node` and all below it, and then answers.
    pub(super) fn start(self: &Arc<Self>, union: &Arc<Union>, node: Arc<Node>, request: &Request, reply: ReplyIoctl) {
        if ![0, process::effective_uid()].contains(&request.uid()) {
            return reply.error(fuser::Errno::EPERM);
        }
        let (this, union) = (self.clone(), union.clone());
        let work = move || {
            let _one = this.busy.lock();
            match this.refresh(&union, &node) {
                Ok(()) => reply.ioctl(0, &[]),
                Err(e) => {
                    log::warn!("refresh: {e}");
                    reply.error(fuser::Errno::from_i32(e.raw_os_error().unwrap_or(EIO)));
                }
            }
        };
        // The reply went with the closure: dropped unsent, it answers EIO.
        if let Err(e) = std::thread::Builder::new().name("mica-refresh".to_owned()).spawn(work) {
            log::warn!("refresh: no thread: {e}");
        }
    }

    fn refresh(&self, union: &Union, node: &Arc<Node>) -> io::Result<()> {
        let notices = union.refresh(node).map_err(|e| io::Error::from_raw_os_error(e.errno().raw_os_error()))?;
        let Some(notifier) = self.notifier.get() else { return Ok(()) };
        notices.iter().try_for_each(|notice| match notice {
            Notice::Inode(ino) => notifier.inval_inode(INodeNo(*ino), 0, 0),
            Notice::Entry(parent, name) => notifier.inval_entry(INodeNo(*parent), OsStr::from_bytes(name.as_bytes())),
        })
    }
}

const EIO: i32 = 5;
