//! What the new process does between fork and the command: it builds the container around itself and then executes.

use std::convert::Infallible;
use std::ffi::CString;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::error::Error;
use super::error::Result;
use super::error::Step;
use super::rootfs;
use super::rootfs::Prepared;
use super::spec;
use super::spec::Spec;
use super::user::Identity;
use super::wire;
use crate::path::Escaped;
use crate::sys::Errno;
use crate::sys::attach;
use crate::sys::capability;
use crate::sys::channel;
use crate::sys::child;
use crate::sys::namespace;
use crate::sys::open;
use crate::sys::rlimit;
use crate::sys::signal;
use crate::sys::tty;

/// Becomes the container's process 1. Returns only on failure, with the exit code; the failure was told through
/// `parent`.
pub(super) fn run(spec: &Spec, identity: &Identity, parent: &OwnedFd) -> u8 {
    report(enter(spec, identity, parent), parent)
}

/// Tells a failure to the parent and gives the exit code.
pub(super) fn report(result: Result<Infallible>, parent: &OwnedFd) -> u8 {
    let Err(error) = result;
    // When the parent is gone nobody is left to be told.
    drop(channel::send(parent, &wire::failure(&error), None));
    error.exit_code()
}

fn enter(spec: &Spec, identity: &Identity, parent: &OwnedFd) -> Result<Infallible> {
    let step = || "prepare the container's process".to_owned();
    child::die_with_parent().step(step)?;
    child::hide().step(step)?;
    child::set_umask(0o022);
    namespace::leave_mount_uts_ipc().step(|| "make the container's namespaces".to_owned())?;
    attach::make_all_private().step(|| "separate the container's mounts from the host's".to_owned())?;
    namespace::set_host_name(spec.hostname.as_bytes()).step(|| "set the host name".to_owned())?;

    let prepared = rootfs::prepare(spec)?;
    attach::pivot_into(&prepared.root).step(|| "enter the container's root".to_owned())?;
    child::change_dir(&prepared.cwd).step(|| "enter the working directory".to_owned())?;
    for limit in &spec.rlimits {
        rlimit::set_clamped(limit.resource, limit.soft, limit.hard).step(|| "set a resource limit".to_owned())?;
    }
    let Prepared { trampoline, terminal, null, .. } = prepared;
    let io = Io { terminal, null, interactive: spec.interactive };
    let command = Command { argv: &spec.argv, env: environment(&spec.env, identity), identity };
    finish(&command, io, &trampoline, parent)
}

/// What is executed and as whom.
pub(super) struct Command<'a> {
    pub argv: &'a [OsString],
    pub env: Vec<OsString>,
    pub identity: &'a Identity,
}

/// What the command's standard descriptors become.
pub(super) struct Io {
    pub terminal: Option<tty::Pair>,
    pub null: OwnedFd,
    pub interactive: bool,
}

/// The last steps, inside the container's root: standard descriptors, privileges, and the command when the parent says
/// so.
pub(super) fn finish(command: &Command<'_>, io: Io, trampoline: &OwnedFd, parent: &OwnedFd) -> Result<Infallible> {
    let step = || "prepare the container's process".to_owned();
    let argv = c_strings(command.argv)?;
    let env = c_strings(&command.env)?;
    child::new_session().step(step)?;
    child::new_keyring();
    let master = connect(io, command.identity)?;
    let fds = open::dir_path(Path::new("/proc/self/fd")).step(step)?;
    child::close_others_on_exec(fds).step(step)?;

    capability::limit(capability::Set::CONTAINER).step(|| "give up capabilities".to_owned())?;
    let Identity { uid, gid, groups, .. } = command.identity;
    child::become_user(*uid, *gid, groups).step(|| format!("become user {uid}:{gid}"))?;
    // Asked again: the change of user has cancelled it.
    child::die_with_parent().step(step)?;
    let path = look_up(command)?;
    signal::reset_all().step(step)?;

    channel::send(parent, &wire::READY, master.as_ref().map(AsFd::as_fd)).step(step)?;
    drop(master);
    let released = channel::receive(parent).step(step)?;
    if released.is_none() {
        // The parent gave up, or died before it could be asked to take us along.
        child::exit_now(125);
    }
    child::execute(trampoline, parent, &path, &argv, &env).step(|| "execute the command".to_owned())
}

/// Sets descriptors 0, 1 and 2; returns the master of the terminal, which is the parent's to keep.
fn connect(io: Io, identity: &Identity) -> Result<Option<OwnedFd>> {
    let step = || "connect standard input and output".to_owned();
    let Some(tty::Pair { master, slave, .. }) = io.terminal else {
        let input = if io.interactive { tty::stdin() } else { io.null.as_fd() };
        child::set_stdio(input, tty::stdout(), tty::stderr()).step(step)?;
        return Ok(None);
    };
    tty::make_controlling(&slave).step(step)?;
    crate::sys::attr::chown(&slave, Some(identity.uid), None).step(step)?;
    child::set_stdio(&slave, &slave, &slave).step(step)?;
    Ok(Some(master))
}

/// The environment, with `HOME` when it has none.
pub(super) fn environment(env: &[OsString], identity: &Identity) -> Vec<OsString> {
    let mut env = env.to_vec();
    if !env.iter().any(|v| spec::key(v) == b"HOME") {
        env.push(OsString::from_vec([b"HOME=", identity.home.as_slice()].concat()));
    }
    env
}

fn c_strings(texts: &[OsString]) -> Result<Vec<CString>> {
    let convert = |s: &OsString| CString::new(s.as_bytes());
    texts.iter().map(convert).collect::<std::result::Result<_, _>>().map_err(|e| Error::Spec(e.to_string()))
}

/// Finds the command as a shell would: a name with a slash is a path, another is looked for in the `PATH` of its
/// environment.
fn look_up(command: &Command<'_>) -> Result<CString> {
    let asked = command.argv.first().map(|s| s.as_bytes()).unwrap_or_default();
    let found = if asked.contains(&b'/') {
        child::may_execute(asked).map_err(|e| refusal(asked, e.errno()))?;
        asked.to_vec()
    } else {
        search(asked, &command.env)?
    };
    CString::new(found).map_err(|e| Error::Spec(e.to_string()))
}

fn search(asked: &[u8], env: &[OsString]) -> Result<Vec<u8>> {
    let path = env.iter().find(|v| spec::key(v) == b"PATH").map(|v| v.as_bytes()).unwrap_or_default();
    let dirs = path.strip_prefix(b"PATH=").unwrap_or_default().split(|&b| b == b':').filter(|d| !d.is_empty());
    let mut denied = None;
    for dir in dirs {
        let candidate = [dir, b"/", asked].concat();
        match child::may_execute(&candidate).map_err(|e| e.errno()) {
            Ok(()) => return Ok(candidate),
            Err(errno @ Errno::ACCESS) => denied = Some(errno),
            Err(_) => {}
        }
    }
    let command = Escaped(asked).to_string();
    Err(match denied {
        Some(errno) => refusal(asked, errno),
        None => Error::NotFound { command, why: "executable file not found in $PATH".into() },
    })
}

/// The error for a command that the kernel would not execute.
pub(super) fn refusal(command: &[u8], errno: Errno) -> Error {
    let text = Escaped(command).to_string();
    let not_executable = |why: &str| Error::NotExecutable { command: text.clone(), why: why.to_owned() };
    match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NotFound { command: text, why: "no such file or directory".to_owned() },
        Errno::ACCESS | Errno::PERM => not_executable("permission denied"),
        Errno::ISDIR => not_executable("is a directory"),
        Errno::NOEXEC => not_executable("exec format error (neither a program for this machine nor a script with #!)"),
        other => not_executable(&other.to_string()),
    }
}
