//! The FUSE adapter: converts a request, calls the union, replies. Nothing is decided here.
//!
//! It is the only place that knows the `fuser` crate. The mount itself is made elsewhere ([`crate::mount`]); this takes the open
//! `/dev/fuse` descriptor.

mod convert;
mod ioctl;
mod readers;
mod refresh;
mod server;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use crate::union::Union;

/// How a mount is served.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long the kernel may keep names, attributes and misses without asking. All changes come through the mount, so the
    /// default has no end; 0 asks each time.
    pub timeout: Duration,
    /// Threads that take requests; 0 chooses.
    pub threads: usize,
    /// Let the kernel check POSIX ACLs, where it can.
    pub acl: bool,
    /// Answer extended attribute calls.
    pub xattrs: bool,
    /// The largest write request in bytes.
    pub max_write: u32,
    /// Answer OPEN with `ENOSYS` where the kernel takes that, so that it never asks again, and keep so many files open; `None`:
    /// take part in every open and close.
    pub unopened: Option<usize>,
}

/// Setting this extended attribute on the root of a mount settles its upper directory ([`Union::settle`]); nothing is stored.
pub const SETTLE: &[u8] = b"user.mica.settle";

/// The default of [`Config::timeout`]: for ever, as far as a mount lives (fuse-overlayfs uses the same number).
pub const FOREVER: Duration = Duration::from_secs(1_000_000_000);

impl Default for Config {
    fn default() -> Self {
        Self { timeout: FOREVER, threads: 0, acl: true, xattrs: true, max_write: 1 << 20, unopened: None }
    }
}

/// A mount that answers requests.
pub struct Session {
    inner: fuser::Session<server::Server>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// Takes the descriptor of a mounted `/dev/fuse` and agrees with the kernel on the protocol. Starts no thread.
    ///
    /// # Errors
    /// When the kernel's side is gone, or speaks a protocol older than 7.6.
    pub fn new(fuse: OwnedFd, union: Arc<Union>, config: Config) -> std::io::Result<Self> {
        let mut session = fuser::Config::default();
        session.n_threads = Some(threads(config.threads));
        // FUSE_DEV_IOC_CLONE is absent before 4.2 and gained nothing measurable on few cores.
        session.clone_fd = false;
        let notifier = Arc::new(OnceLock::new());
        let listener = union.clone();
        let server = server::Server::new(union, config, notifier.clone());
        let refresher = server.refresher();
        let inner = fuser::Session::from_fd(server, fuse, fuser::SessionACL::All, session)?;
        let _ = notifier.set(inner.notifier()); // nobody else fills it
        refresher.set_notifier(inner.notifier());
        let notifier = inner.notifier();
        listener.on_aside(move |ino| {
            // Attributes only: no lock of the kernel's that the request under way may hold.
            if let Err(e) = notifier.inval_inode(fuser::INodeNo(ino), -1, 0) {
                log::debug!("the kernel was not told of changed attributes: {e}");
            }
        });
        Ok(Self { inner })
    }

    /// Answers requests until the filesystem is unmounted.
    ///
    /// # Errors
    /// When reading requests fails for another reason than the unmount.
    pub fn run(self) -> std::io::Result<()> {
        match self.inner.run() {
            // The connection was aborted (`umount -f`, or through /sys/fs/fuse): as good as an unmount.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionAborted => Ok(()),
            other => other,
        }
    }
}

/// Two threads at least, so that a long copy-up leaves one for the rest.
fn threads(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(4, |n| n.get() * 2).clamp(4, 16),
        n => n.max(2),
    }
}
