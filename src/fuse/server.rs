//! Every request passes here: [`Server::serve`] decodes it, finds the one who answers it, and sends the answer.
//!
//! The answers are given by concern: [`super::names`], [`super::data`], [`super::attributes`], [`super::directories`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::Config;
use super::abi::init;
use super::ahead::Ahead;
use super::device::Device;
use super::handshake::Agreed;
use super::lending::Lending;
use super::nodeids::Nodeids;
use super::notify::Notifier;
use super::readers::Readers;
use super::refresh::Refresher;
use super::reply::Answer;
use super::reply::Known;
use super::reply::Later;
use super::reply::Reply;
use super::request::Bad;
use super::request::Header;
use super::request::Op;
use super::request::Request;
use super::request::decode_in_two;
use super::way::Way;
use crate::live::Hub;
use crate::live::op::Ops;
use crate::sys::Errno;
use crate::sys::attr::Stat;
use crate::union;
use crate::union::Entry;
use crate::union::Error;
use crate::union::Union;
use crate::union::node::Node;

/// What answers requests; shared by all threads.
pub(super) struct Server {
    pub(super) device: Arc<Device>,
    pub(super) union: Arc<Union>,
    pub(super) config: Config,
    pub(super) agreed: Agreed,
    pub(super) readers: Readers,
    pub(super) notifier: Notifier,
    pub(super) nodeids: Arc<Nodeids>,
    /// Where files are lent to the kernel.
    pub(super) lending: Option<Lending>,
    pub(super) hub: Arc<Hub>,
    /// Where something is looked up ahead.
    pub(super) ahead: Option<Ahead>,
    refresher: Arc<Refresher>,
    /// Nodes that were forgotten since memory was given back last.
    pub(super) forgotten: AtomicUsize,
}

impl Server {
    pub(super) fn new(
        device: Arc<Device>,
        union: Arc<Union>,
        config: Config,
        agreed: Agreed,
        lending: Option<Lending>,
    ) -> Self {
        let hub = Arc::new(Hub::default());
        let nodeids = Arc::new(Nodeids::default());
        let notifier = Notifier::new(device.clone(), nodeids.clone());
        let refresher = Arc::new(Refresher::new(notifier.clone()));
        let ahead = Self::look_ahead(&union, &config, agreed, &nodeids, lending.is_some());
        Self {
            device,
            union,
            config,
            agreed,
            readers: Readers::default(),
            notifier,
            nodeids,
            lending,
            hub,
            ahead,
            refresher,
            forgotten: AtomicUsize::new(0),
        }
    }

    /// What the kernel must ask for each time, or does not ask for with listings, cannot be looked up ahead. Nor is content, where an
    /// opening decides how a file is read.
    fn look_ahead(
        union: &Arc<Union>,
        config: &Config,
        agreed: Agreed,
        nodeids: &Arc<Nodeids>,
        lends: bool,
    ) -> Option<Ahead> {
        let keeps = config.timeout >= super::FOREVER && agreed.has(init::DO_READDIRPLUS);
        let means = config.ahead.clone().filter(|_| keeps)?;
        Ahead::start(means, union, nodeids, !lends)
    }

    /// Answers one message of the kernel's, which lies in two pieces (the second may be empty), on the way that is said. `buffer` is the
    /// thread's own, used again from request to request, and has room for the largest answer.
    ///
    /// A panic (a bug) answers its request `EIO`, and the thread lives on.
    pub(super) fn serve(&self, message: [&[u8]; 2], way: Way<'_>, buffer: &mut [u8]) {
        let len = || message.map(<[u8]>::len).iter().sum::<usize>();
        let request = match decode_in_two(message, self.agreed.layout()) {
            Ok(request) => request,
            Err(Bad::Nobody) => return log::error!("{} bytes that are no request", len()),
            Err(Bad::Torn(header)) => {
                log::error!("{}: a torn request of {} bytes; answered EIO", header.opcode.name(), len());
                return Reply::new(way, header.unique).error(Errno::IO);
            }
        };
        let header = &request.header;
        let reply = Reply::new(way, header.unique);
        let ahead = self.ahead.as_ref().filter(|ahead| !ahead.is_own(header.pid));
        let (op, wanted) = self.note(&request);
        let answer = if wanted == Ops::NONE {
            caught(|| self.answer(&request, buffer))
        } else {
            self.answer_watched(&request, buffer, wanted)
        };
        if !matches!(answer, Ok(Ok(_))) {
            self.hub.count_error(op);
        }
        match answer {
            Ok(Ok(Answer::Refresh(node))) => self.refresh(header, node, way, reply),
            Ok(Ok(answer)) => {
                let parent = |file| Some(self.node(file).ok()?.parent_ino());
                let noted = ahead.map(|ahead| (ahead, ahead.note(&request, &answer, parent)));
                reply.send(&answer, self.ttl());
                if let Some((ahead, noted)) = noted {
                    ahead.begin(noted);
                }
            }
            Ok(Err(e)) => reply.error(errno(header, &e)),
            Err(_) => {
                log::error!("{}: panicked; answered EIO", header.opcode.name());
                reply.error(Errno::IO);
            }
        }
    }

    pub(super) fn answer<'b>(&self, request: &Request<'_>, buffer: &'b mut [u8]) -> union::Result<Answer<'b>> {
        let (caller, at) = (&request.header, request.header.nodeid);
        match request.op {
            Op::Lookup { name } => self.lookup(at, name),
            Op::Forget { count } => self.forget([(at, count)]),
            Op::BatchForget(forgets) => self.forget(forgets.iter()),
            Op::Getattr => self.getattr(at),
            Op::Setattr(change) => self.setattr(caller, &change),
            Op::Readlink => self.readlink(at),
            Op::Symlink { name, text } => self.symlink(caller, name, text),
            Op::Mknod { name, mode, rdev, umask } => self.mknod(caller, name, mode, rdev, umask),
            Op::Mkdir { name, mode, umask } => self.mkdir(caller, name, mode, umask),
            Op::Unlink { name } => self.unlink(at, name),
            Op::Rmdir { name } => self.rmdir(at, name),
            Op::Rename { name, new_parent, new_name, flags } => self.rename((at, name), (new_parent, new_name), flags),
            Op::Link { old, name } => self.link(old, at, name),
            Op::Open { flags, kill } => self.open(caller, flags, kill),
            Op::Create { name, mode, umask } => self.create(caller, name, mode, umask),
            Op::Tmpfile { mode, umask } => self.tmpfile(caller, mode, umask),
            Op::Read { offset, size } => self.read(at, offset, size, buffer),
            Op::Write { offset, data, kill, appends } => self.write(at, offset, data, kill, appends),
            Op::Statfs => self.statfs(),
            Op::Release => self.release(at),
            Op::Fsync { data_only } | Op::Fsyncdir { data_only } => self.fsync(at, data_only),
            Op::Syncfs => self.syncfs(),
            Op::Setxattr { name, value, flags, kill_sgid } => self.setxattr(caller, name, value, flags, kill_sgid),
            Op::Getxattr { name, size } => self.getxattr(caller, name, size),
            Op::Listxattr { size } => self.listxattr(at, size),
            Op::Removexattr { name } => self.removexattr(at, name),
            Op::Opendir => self.opendir(at),
            Op::Readdir(part) => self.readdir(at, part, buffer),
            Op::Readdirplus(part) => self.readdirplus(at, part, buffer),
            Op::Releasedir { handle } => self.releasedir(at, handle),
            Op::Ioctl { number, given, room } => self.ioctl(caller, number, given, room),
            Op::Fallocate { offset, len, mode } => self.fallocate(caller, offset, len, mode),
            Op::Lseek { offset, whence } => self.lseek(at, offset, whence),
            Op::Copy { from_at, to, to_at, len, wide } => self.copy(caller, from_at, (to, to_at), len, wide),
            Op::Destroy => Ok(Answer::Done),
            // Writes are passed on at once, so there is nothing to flush. Nothing that waits can be interrupted. After this answer
            // the kernel asks for neither again.
            Op::Flush | Op::Interrupt => not_here(),
            // It was agreed on already.
            Op::Init(_) => Err(Error::Refused(Errno::IO)),
            Op::Unknown => not_here(),
        }
    }

    /// Refreshes a node. Who came over the device is answered by a thread of its own; over a ring, the memory of the request is this
    /// thread's, so this thread does it, and others go on (see [`super::ring`]).
    fn refresh(&self, header: &Header, node: Arc<Node>, way: Way<'_>, reply: Reply<'_>) {
        match way {
            Way::Device(device) => {
                let later = Later::new(device, header.unique);
                reply.hand_over();
                self.refresher.start(&self.union, node, header.uid, later);
            }
            Way::Ring(_) => match self.refresher.run(&self.union, &node, header.uid) {
                Ok(()) => reply.send(&Answer::Ioctl(Vec::new()), Duration::ZERO),
                Err(e) => reply.error(e),
            },
        }
    }

    /// How long the kernel may keep what it was told.
    pub(super) fn ttl(&self) -> Duration {
        self.config.timeout
    }

    /// What the kernel may keep of an opened file: everything, as it changes only through this mount and the kernel sees those
    /// changes itself; nothing, where layers may be changed from outside.
    pub(super) fn kept(&self, flags: u32) -> u32 {
        if self.union.manners().unsteady { 0 } else { flags }
    }

    pub(super) fn node(&self, nodeid: u64) -> union::Result<Arc<Node>> {
        self.union.node(self.nodeids.ino(nodeid))
    }

    /// A node as the kernel is to know it.
    pub(super) fn known(&self, entry: &Entry) -> Known {
        entry.node.tell();
        let nodeid = self.nodeids.nodeid(entry.node.ino);
        Known { nodeid, stat: entry.attr, fleeting: self.is_fleeting(nodeid, entry.node.ino) }
    }

    /// Whether the kernel must ask for the attributes each time: it writes to the file itself, or knows the node by two numbers.
    fn is_fleeting(&self, nodeid: u64, ino: u64) -> bool {
        self.lending.as_ref().is_some_and(|lending| lending.is_written(nodeid) || self.nodeids.other(ino).is_some())
    }

    /// Attributes of the node `nodeid`.
    pub(super) fn attributes(&self, nodeid: u64, stat: Stat) -> Answer<'static> {
        let fleeting = self.is_fleeting(nodeid, stat.ino);
        Answer::Attributes(stat, if fleeting { Duration::ZERO } else { self.ttl() })
    }

    /// Whether the kernel says of every request whether it takes set-id bits away.
    pub(super) fn kernel_tells_kills(&self) -> bool {
        self.agreed.has(init::HANDLE_KILLPRIV_V2)
    }
}

/// What `body` returns; `Err` when it panics. What it was working on is behind locks that a panic does not leave locked.
pub(super) fn caught<T>(body: impl FnOnce() -> T) -> std::thread::Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(body))
}

/// The answer to what is not known here; mostly the kernel does without from then on.
pub(super) fn not_here<T>() -> union::Result<T> {
    Err(Error::Refused(Errno::NOSYS))
}

/// The error number of a failed operation; faults of what lies below are logged.
fn errno(header: &Header, e: &Error) -> Errno {
    if e.is_fault() {
        log::warn!("{}: {e}", header.opcode.name());
    }
    e.errno()
}
