//! Requests as events, for who listens ([`crate::live`]). Nothing here runs while nobody does, but for one load and one count.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::reply::Answer;
use super::request;
use super::request::Header;
use super::request::Request;
use super::server::Server;
use super::server::caught;
use crate::env;
use crate::live::Event;
use crate::live::Hub;
use crate::live::Op;
use crate::live::Said;
use crate::live::Step;
use crate::live::event::ENOENT;
use crate::live::event::STEPS_MAX;
use crate::live::op::Ops;
use crate::path::Name;
use crate::sys::Errno;
use crate::union;
use crate::union::Union;
use crate::union::observe::Observer;
use crate::union::observe::Sheet;
use crate::union::observe::Verdict;
use crate::union::watch::CopiedUp;

thread_local! {
    /// Who asks what this thread is at, as process and user; only kept up to date while somebody listens.
    static CALLER: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// A layer as events name it: 0 is upper, else counted from the lowest of `count`, which is 1.
pub(super) fn number(sheet: Sheet, count: usize) -> u16 {
    match sheet {
        Sheet::Upper => 0,
        Sheet::Lower(from_top) => u16::try_from(count.saturating_sub(usize::from(from_top))).unwrap_or(u16::MAX),
    }
}

/// Writes down what layers say, as they are asked; asks no more of them than the mount does.
struct Heard {
    layers: usize,
    steps: Vec<Step>,
    more: u16,
}

impl Observer for Heard {
    const EXHAUSTIVE: bool = false;
    const LOCATES: bool = false;

    fn verdict(&mut self, sheet: Sheet, _: Name<'_>, verdict: impl FnOnce() -> Verdict) {
        if self.steps.len() >= STEPS_MAX {
            self.more = self.more.saturating_add(1);
            return;
        }
        let said = match verdict() {
            Verdict::Found { marks, .. } | Verdict::Merged { marks, .. } if marks.opaque => Said::Opaque,
            Verdict::Found { .. } => Said::Found,
            Verdict::Merged { .. } => Said::Merged,
            Verdict::Whiteout => Said::Whiteout,
            Verdict::Shadowed { .. } => Said::Shadowed,
            Verdict::Failed(_) => Said::Failed,
            Verdict::Miss | Verdict::NoParent => Said::Miss,
        };
        self.steps.push(Step { layer: number(sheet, self.layers), said });
    }
}

/// Tells `hub` of every copy-up of `union`, as done for whoever this thread works for.
pub(super) fn tell_copy_ups(union: &Union, hub: &Arc<Hub>) {
    let (hub, layers) = (hub.clone(), union.stack().layers.len());
    union.on_copy_up(move |copied| {
        hub.count(Op::CopyUp);
        if copied.failed.is_some() {
            hub.count_error(Op::CopyUp);
        }
        if hub.wanted().has(Op::CopyUp) {
            let comm = hub.name_of(CALLER.get().0, env::monotonic());
            hub.tell(&copy_up(copied, layers, comm));
        }
    });
}

fn copy_up(copied: &CopiedUp<'_>, layers: usize, comm: Vec<u8>) -> Event {
    let (pid, uid) = CALLER.get();
    let from = copied.from.map(|layer| Step { layer: number(Sheet::Lower(layer), layers), said: Said::Found });
    Event {
        at: began(copied.took),
        took: nanos(copied.took),
        op: Op::CopyUp,
        errno: copied.failed.map_or(0, code),
        pid,
        comm,
        uid,
        ino: copied.node.ino,
        bytes: copied.bytes,
        offset: 0,
        path: copied.node.path().unwrap_or_default(),
        other: Vec::new(),
        steps: from.into_iter().collect(),
        more: 0,
    }
}

fn began(took: Duration) -> (i64, u32) {
    let (secs, sub) = env::now();
    let now = i128::from(secs) * 1_000_000_000 + i128::from(sub);
    let then = now - i128::try_from(took.as_nanos()).unwrap_or(0);
    let (secs, sub) = (then.div_euclid(1_000_000_000), then.rem_euclid(1_000_000_000));
    (i64::try_from(secs).unwrap_or(0), u32::try_from(sub).unwrap_or(0))
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

fn code(e: Errno) -> u16 {
    u16::try_from(e.raw_os_error()).unwrap_or(0)
}

impl Server {
    /// Counts a request; tells what it is, and which operations somebody wants to be told of. All that tracing costs while nobody
    /// listens; a function of its own, so that `scripts/bench trace` finds it in a profile.
    #[inline(never)]
    pub(super) fn note(&self, request: &Request<'_>) -> (Op, Ops) {
        let op = op_of(&request.op);
        self.hub.count(op);
        (op, self.hub.wanted())
    }

    /// As [`Server::answer`], and tells of it.
    pub(super) fn answer_watched<'b>(
        &self,
        request: &Request<'_>,
        buffer: &'b mut [u8],
        wanted: Ops,
    ) -> std::thread::Result<union::Result<Answer<'b>>> {
        let op = op_of(&request.op);
        CALLER.set((request.header.pid, request.header.uid));
        if !wanted.has(op) {
            return caught(|| self.answer(request, buffer));
        }
        let mut heard = Heard { layers: self.union.stack().layers.len(), steps: Vec::new(), more: 0 };
        let start = env::monotonic();
        let result = caught(|| match request.op {
            request::Op::Lookup { name } => self.lookup_heard(request.header.nodeid, name, &mut heard),
            _ => self.answer(request, buffer),
        });
        let took = start.elapsed();
        self.hub.tell(&self.event(request, op, &result, took, heard));
        result
    }

    fn lookup_heard(&self, parent: u64, name: &[u8], heard: &mut Heard) -> union::Result<Answer<'static>> {
        let found = self.union.lookup_watched(&self.node(parent)?, super::convert::name(name)?, heard)?;
        Ok(found.map_or(Answer::Absent, |entry| Answer::Entry(self.known(&entry))))
    }

    fn event(
        &self,
        request: &Request<'_>,
        op: Op,
        result: &std::thread::Result<union::Result<Answer<'_>>>,
        took: Duration,
        heard: Heard,
    ) -> Event {
        let Header { nodeid, pid, uid, .. } = request.header;
        let nodeid = self.nodeids.ino(nodeid);
        let (path, other, offset) = self.paths(request);
        let (errno, bytes, ino) = match result {
            Ok(Ok(answer)) => told(answer, nodeid),
            Ok(Err(e)) => (code(e.errno()), 0, nodeid),
            Err(_) => (code(Errno::IO), 0, nodeid),
        };
        let ino = self.nodeids.ino(ino);
        let mut steps = heard.steps;
        if steps.is_empty()
            && let Some(sheet) = self.union.table().get(ino).and_then(|node| node.sheet())
        {
            steps.push(Step { layer: number(sheet, heard.layers), said: Said::Found });
        }
        let (at, comm) = (began(took), self.hub.name_of(pid, env::monotonic()));
        Event {
            at,
            took: nanos(took),
            op,
            errno,
            pid,
            comm,
            uid,
            ino,
            bytes,
            offset,
            path,
            other,
            steps,
            more: heard.more,
        }
    }

    /// The path that a request is about, what else it names, and where in a file.
    fn paths(&self, request: &Request<'_>) -> (Vec<u8>, Vec<u8>, u64) {
        use request::Op as R;
        let at = request.header.nodeid;
        let node =
            |ino: u64| self.union.table().get(self.nodeids.ino(ino)).and_then(|node| node.path()).unwrap_or_default();
        let below = |parent: u64, name: &[u8]| {
            let mut path = node(parent);
            if path.is_empty() {
                return path;
            }
            if path != b"/" {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            path
        };
        match request.op {
            R::Lookup { name }
            | R::Mknod { name, .. }
            | R::Mkdir { name, .. }
            | R::Unlink { name }
            | R::Rmdir { name }
            | R::Create { name, .. } => (below(at, name), Vec::new(), 0),
            R::Symlink { name, text } => (below(at, name), text.to_vec(), 0),
            R::Rename { name, new_parent, new_name, .. } => (below(at, name), below(new_parent, new_name), 0),
            R::Link { old, name } => (node(old), below(at, name), 0),
            R::Read { offset, .. } | R::Write { offset, .. } | R::Fallocate { offset, .. } => {
                (node(at), Vec::new(), offset)
            }
            R::Setxattr { name, .. } | R::Getxattr { name, .. } | R::Removexattr { name } => {
                (node(at), name.to_vec(), 0)
            }
            R::Copy { from_at, to, .. } => (node(at), node(to), from_at),
            R::Statfs | R::Interrupt | R::BatchForget(_) | R::Destroy => (Vec::new(), Vec::new(), 0),
            _ => (node(at), Vec::new(), 0),
        }
    }
}

/// What an answer says: error number, bytes, and the node that it is about.
fn told(answer: &Answer<'_>, nodeid: u64) -> (u16, u64, u64) {
    match answer {
        Answer::Absent => (ENOENT, 0, nodeid),
        Answer::Entry(known) | Answer::Created(known, _) => (0, 0, known.stat.ino),
        Answer::Data(bytes) => (0, bytes.len() as u64, nodeid),
        Answer::Bytes(bytes) | Answer::Ioctl(bytes) => (0, bytes.len() as u64, nodeid),
        Answer::Written(n) => (0, u64::from(*n), nodeid),
        Answer::Copied(n) => (0, *n, nodeid),
        _ => (0, 0, nodeid),
    }
}

/// The operation, as it is counted and traced.
fn op_of(op: &request::Op<'_>) -> Op {
    use request::Op as R;
    match op {
        R::Lookup { .. } => Op::Lookup,
        R::Forget { .. } | R::BatchForget(_) => Op::Forget,
        R::Getattr => Op::Getattr,
        R::Setattr(_) => Op::Setattr,
        R::Readlink => Op::Readlink,
        R::Symlink { .. } => Op::Symlink,
        R::Mknod { .. } => Op::Mknod,
        R::Mkdir { .. } => Op::Mkdir,
        R::Unlink { .. } => Op::Unlink,
        R::Rmdir { .. } => Op::Rmdir,
        R::Rename { .. } => Op::Rename,
        R::Link { .. } => Op::Link,
        R::Open { .. } => Op::Open,
        R::Create { .. } => Op::Create,
        R::Tmpfile { .. } => Op::Tmpfile,
        R::Read { .. } => Op::Read,
        R::Write { .. } => Op::Write,
        R::Statfs => Op::Statfs,
        R::Release => Op::Release,
        R::Fsync { .. } => Op::Fsync,
        R::Fsyncdir { .. } => Op::Fsyncdir,
        R::Syncfs => Op::Syncfs,
        R::Flush => Op::Flush,
        R::Setxattr { .. } => Op::Setxattr,
        R::Getxattr { .. } => Op::Getxattr,
        R::Listxattr { .. } => Op::Listxattr,
        R::Removexattr { .. } => Op::Removexattr,
        R::Opendir => Op::Opendir,
        R::Readdir(_) => Op::Readdir,
        R::Readdirplus(_) => Op::Readdirplus,
        R::Releasedir { .. } => Op::Releasedir,
        R::Ioctl { .. } => Op::Ioctl,
        R::Fallocate { .. } => Op::Fallocate,
        R::Lseek { .. } => Op::Lseek,
        R::Copy { .. } => Op::CopyFileRange,
        R::Init(_) | R::Interrupt | R::Destroy | R::Unknown => Op::Other,
    }
}
