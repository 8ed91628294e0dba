//! The FUSE adapter: reads requests of the kernel's, calls the union, replies. Nothing is decided here.
//!
//! From the wire to the union: [`device`] is the connection, [`request`] and [`reply`] are what goes over it ([`abi`] has its numbers),
//! [`handshake`] is what is agreed on first, [`session`] has the threads ([`ring`]: those of io_uring), [`way`] leads back, [`server`] is the
//! one place that every request passes. The
//! mount itself is made elsewhere ([`crate::mount`]); this takes the open `/dev/fuse` descriptor.

mod abi;
mod ahead;
mod attributes;
mod bytes;
mod convert;
mod data;
mod device;
mod directories;
mod handshake;
mod ioctl;
mod lending;
mod live;
mod names;
mod nodeids;
mod notify;
mod readers;
mod refresh;
mod reply;
mod request;
mod ring;
mod server;
mod session;
mod virtual_xattrs;
mod watch;
mod way;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

pub use ahead::Means;
pub use ahead::Place;
pub use ahead::Scout;
pub use live::Live;

pub use crate::explain::subject::Made;

use crate::sys;
use crate::union;
use crate::union::Union;

/// How a mount is served.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long the kernel may keep names, attributes and misses without asking. All changes come through the mount, so the
    /// default has no end; 0 asks each time.
    pub timeout: Duration,
    /// The most threads that take requests; 0 chooses. They are started when they are needed.
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
    /// What explanations call the mount.
    pub title: String,
    /// How each lower layer came to be, the lowest first; empty where nothing is known of it.
    pub made: Vec<Made>,
    /// Lend files to the kernel, where it and this process's rights allow that ([`lending`]); `unopened` is for where they do not.
    pub lend: bool,
    /// Take requests over io_uring, where the kernel offers it ([`ring`]).
    pub rings: bool,
    /// What it takes to look ahead ([`ahead`]); `None`: nothing is looked up before it is asked for.
    pub ahead: Option<Means>,
}

/// How the data of a mount's files travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Through the kernel's cache; openings are not told.
    Unopened,
    /// Through the kernel's cache; every opening is told.
    Cached,
    /// The kernel reads and writes lent files itself.
    Lent,
}

/// Setting this extended attribute on the root of a mount settles its upper directory ([`Union::settle`]), and content is copied whole
/// ([`Union::stay_plain`]) until it is set to [`SETTLE_OVER`]. Nothing is stored.
pub const SETTLE: &[u8] = b"user.mica.settle";
/// The value of [`SETTLE`] with which copies of attributes alone, and of blocks, are allowed again.
pub const SETTLE_OVER: &[u8] = b"0";

/// The default of [`Config::timeout`]: for ever, as far as a mount lives (fuse-overlayfs uses the same number).
pub const FOREVER: Duration = Duration::from_secs(1_000_000_000);

/// Whether what the kernel was told holds as long as the mount lives, by the time in seconds that is set for it.
pub fn keeps_for_ever(timeout: f64) -> bool {
    Duration::try_from_secs_f64(timeout).unwrap_or(FOREVER) >= FOREVER
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: FOREVER,
            threads: 0,
            acl: true,
            xattrs: true,
            max_write: 1 << 20,
            unopened: None,
            lend: false,
            rings: true,
            ahead: None,
            title: "this mount".to_owned(),
            made: Vec::new(),
        }
    }
}

/// A mount that answers requests.
pub struct Session {
    pool: session::Pool,
    data: Data,
    live: Live,
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
    /// When the kernel's side is gone, or speaks a protocol older than 7.22 (Linux 3.10).
    pub fn new(fuse: OwnedFd, union: Arc<Union>, config: Config) -> std::io::Result<Self> {
        let device = Arc::new(device::Device::new(fuse));
        let unsteady = union.manners().unsteady;
        // Where files may be changed from outside, each open looks at them anew.
        let unopened = config.unopened.filter(|_| !unsteady);
        let lending = if config.lend && may_lend(unsteady) { depth(&union) } else { 0 };
        let (acl, max_write) = (config.acl, config.max_write);
        let (rings, max) = (config.rings, threads(config.threads));
        let wishes = handshake::Wishes { unsteady, unopened: unopened.is_some(), lending, acl, max_write, rings };
        let mut lanes = None;
        let agreed = handshake::shake(&device, wishes, |payload| {
            lanes = ring::Lanes::prepare(payload, max);
            lanes.is_some()
        })?;
        let lending = agreed.is_lending().then(|| lending::Lending::start(&device)).flatten();
        if config.lend && lending.is_none() {
            log::warn!("io=passthrough: {}; file data goes through the cache", why_not(&agreed, wishes.lending));
        }
        if let Some(capacity) = unopened.filter(|_| agreed.is_unopened()) {
            union.stop_counting_handles(capacity);
        }
        let server = server::Server::new(device, union.clone(), config, agreed, lending);
        let notifier = server.notifier.clone();
        union.on_aside(move |ino| {
            // Attributes only: no lock of the kernel's that the request under way may hold.
            if let Err(e) = notifier.inval_attributes(ino) {
                log::debug!("the kernel was not told of changed attributes: {e}");
            }
        });
        let data = match (&server.lending, agreed.is_unopened()) {
            (Some(_), _) => Data::Lent,
            (None, true) => Data::Unopened,
            (None, false) => Data::Cached,
        };
        watch::tell_copy_ups(&server.union, &server.hub);
        let live = Live::new(&server, data == Data::Lent);
        Ok(Self { pool: session::Pool::new(server, max, lanes), data, live })
    }

    /// What was agreed on about the data of files.
    pub fn data(&self) -> Data {
        self.data
    }

    /// What the mount can be asked while it serves. It holds the union, so it must go before the layers are to be free.
    pub fn live(&self) -> Live {
        self.live.clone()
    }

    /// Answers requests until the filesystem is unmounted, or its connection aborted.
    ///
    /// # Errors
    /// When reading requests fails for another reason.
    pub fn run(self) -> std::io::Result<()> {
        drop(self.live);
        self.pool.run().map_err(|e| std::io::Error::from_raw_os_error(e.raw_os_error()))
    }
}

/// Whether files can be lent: the kernel wants the rights of the system's administrator. And of a file that may be replaced from
/// outside nobody would see the new one as long as somebody reads the old one.
fn may_lend(unsteady: bool) -> bool {
    !unsteady && sys::capability::administers_the_system()
}

/// How high filesystems are stacked, with this mount: the kernel allows two, and who may be stacked on a mount depends on it.
fn depth(union: &Union) -> u32 {
    let stack = union.stack();
    let layers = stack.layers.iter().map(|layer| layer.fs_stat().map_err(union::Error::from));
    let stacked = layers.chain([union.statfs()]).flatten().any(|space| space.stacked);
    if stacked { 2 } else { 1 }
}

fn why_not(agreed: &handshake::Agreed, wished: u32) -> &'static str {
    match (wished, agreed.is_lending()) {
        (0, _) => "it needs CAP_SYS_ADMIN in the first user namespace, and no timeout=0",
        (_, false) => "this kernel does not offer it (Linux 6.9 does)",
        (_, true) => "the kernel refused to take a file",
    }
}

/// Two threads at least, so that a long copy-up leaves one for the rest. More than there are processors, since they wait for disks.
fn threads(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(16, |n| n.get() * 4).clamp(16, 64),
        n => n.max(2),
    }
}
