//! A second process in a container that runs: `exec`.
//!
//! The container may be hostile by now, unlike at its start. What protects the host: the new process is not dumpable
//! and has more capabilities than any process inside until it has given up those, so nothing inside can look into it;
//! after that it only executes the trampoline. Paths are walked inside the container's root as always.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::Running;
use super::error::Error;
use super::error::Result;
use super::error::Step;
use super::inroot::Missing;
use super::inroot::Root;
use super::rootfs;
use super::stage;
use super::user;
use super::user::Identity;
use crate::sys::attach;
use crate::sys::child;
use crate::sys::child::Pid;
use crate::sys::namespace;
use crate::sys::namespace::Kind;
use crate::sys::open;
use crate::sys::tty;

/// A process to run in a container that runs; the fields mean what they mean in [`super::spec::Spec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnterSpec {
    /// Command and arguments, never empty.
    pub argv: Vec<OsString>,
    /// `KEY=VALUE` each.
    pub env: Vec<OsString>,
    /// Working directory in the container; must exist. Empty is `/`.
    pub cwd: Vec<u8>,
    /// `uid[:gid]` or `name[:group]`; `None` is root.
    pub user: Option<String>,
    /// A pseudo terminal of the container.
    pub tty: bool,
    /// Standard input is passed in.
    pub interactive: bool,
}

/// Prepares a process in the container whose process 1 is `pid` on the host; it is held as by [`super::start`].
///
/// The caller must know that `pid` still is that process: ids are used again.
///
/// # Errors
/// As [`super::start`]; [`Error::Setup`] with `ENOENT` when the container has ended.
pub fn enter(pid: u32, spec: &EnterSpec) -> Result<Running> {
    super::require_root()?;
    let pid = Pid::new(pid).ok_or_else(|| Error::Spec(format!("{pid} is no process id")))?;
    let step = || format!("enter the container of process {pid}");
    let root = open::dir_path(Path::new(&format!("/proc/{pid}/root"))).step(step)?;
    let identity = user::resolve(spec.user.as_deref(), &Root::new(root))?;
    let inside = namespace::open(Kind::Pid, Some(pid)).step(step)?;
    Running::begin(
        &spec.argv,
        spec.interactive,
        |body| namespace::fork_into_pid_namespace(inside, || child::fork(body)),
        |parent| stage::report(become_member(pid, spec, &identity, parent), parent),
    )
}

fn become_member(pid: Pid, spec: &EnterSpec, identity: &Identity, parent: &OwnedFd) -> Result<Infallible> {
    let step = || "enter the container".to_owned();
    child::die_with_parent().step(step)?;
    child::hide().step(step)?;
    child::set_umask(0o022);
    let inside: Vec<_> = [Kind::Ipc, Kind::Uts, Kind::Mount]
        .into_iter()
        .map(|kind| Ok((kind, namespace::open(kind, Some(pid))?)))
        .collect::<crate::sys::Result<_>>()
        .step(step)?;
    let null = open::reopen(rootfs::null_device()?, open::Access::ReadWrite).step(step)?;
    let trampoline = make_trampoline()?;
    for (kind, fd) in inside {
        namespace::join(kind, fd).step(step)?;
    }
    let root = Root::new(open::dir_path(Path::new("/")).step(step)?);
    child::change_dir(root.resolve(&spec.cwd, Missing::Fail)?).step(|| "enter the working directory".to_owned())?;
    let terminal =
        if spec.tty { Some(tty::open_pair(root.resolve(b"dev/pts", Missing::Fail)?).step(step)?) } else { None };
    let io = stage::Io { terminal, null, interactive: spec.interactive };
    let command = stage::Command { argv: &spec.argv, env: stage::environment(&spec.env, identity), identity };
    stage::finish(&command, io, &trampoline, parent)
}

/// The trampoline on a tmpfs of a mount namespace that ends when this process joins the container's.
fn make_trampoline() -> Result<OwnedFd> {
    let step = || "make room for the first program".to_owned();
    namespace::leave_mount_uts_ipc().step(step)?;
    attach::make_all_private().step(step)?;
    let below = open::dir_path(Path::new("/sys")).step(step)?;
    rootfs::mount_stage(&below)?;
    rootfs::write_trampoline(&open::dir_path(Path::new("/sys")).step(step)?)
}
