//! One child process: fork, what it does to itself before it executes a program, and its end.
#![allow(unsafe_code)]

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use rustix::process::Pid as RawPid;
use rustix::process::Signal;
use rustix::process::WaitOptions;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;

/// A process id in the caller's PID namespace, never 0 or negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid(RawPid);

impl Pid {
    /// Takes a positive number as a process id.
    pub fn new(pid: u32) -> Option<Self> {
        i32::try_from(pid).ok().and_then(RawPid::from_raw).map(Self)
    }

    /// The number, positive.
    pub fn number(self) -> u32 {
        self.0.as_raw_nonzero().get().unsigned_abs()
    }

    pub(super) fn raw(self) -> RawPid {
        self.0
    }
}

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.number().fmt(f)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// The number of threads of this process.
///
/// # Errors
/// The kernel's, when `/proc` cannot be read.
pub fn thread_count() -> Result<usize> {
    let dir = super::open::dir_path(std::path::Path::new("/proc/self/task"))?;
    let mut count = 0;
    super::dir::for_each::<Error>(&dir, |_| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Forks; the child runs `body` and exits with the code it returns, or 125 if it panics. Nothing of the parent is
/// unwound or dropped in the child.
///
/// # Errors
/// `EBUSY` when this process has more than one thread: locks held by the others would stay locked in the child for
/// ever. Otherwise the kernel's.
pub fn fork(body: impl FnOnce() -> u8) -> Result<Pid> {
    let threads = thread_count()?;
    if threads != 1 {
        return Err(Error::new("fork", format!("with {threads} threads"), Errno::BUSY));
    }
    gate::pass("fork", String::new)?;
    // SAFETY: the process has one thread (checked above, and only this thread could start another), so the child's
    // memory, its allocator and locks included, is in the same consistent state as the caller's.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(125);
        exit_now(code);
    }
    RawPid::from_raw(pid).filter(|_| pid > 0).map(Pid).ok_or_else(|| Error::bare("fork", last_errno()))
}

/// Ends this process without running destructors or flushing buffers, which belong to the parent.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: `_exit` takes any integer and touches no memory.
    unsafe { libc::_exit(i32::from(code)) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Gives this process a session keyring of its own: the one it has from its parents holds their keys. Where the kernel has no keyrings, or
/// forbids them, there is nothing to hide.
pub fn new_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: without a name nothing is read from memory.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}

/// Whether the child has ended, and how; with `block` waits until it has.
///
/// # Errors
/// The kernel's; `ECHILD` when it was already waited for.
pub fn wait(pid: Pid, block: bool) -> Result<Option<Ended>> {
    let options = if block { WaitOptions::empty() } else { WaitOptions::NOHANG };
    loop {
        match rustix::process::waitpid(Some(pid.raw()), options) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::new("waitpid", pid.to_string(), e)),
            Ok(None) => return Ok(None),
            Ok(Some((_, status))) => {
                let code = status.exit_status().map(Ended::Code);
                return Ok(code.or_else(|| status.terminating_signal().map(Ended::Signal)));
            }
        }
    }
}

/// Kills the process with `SIGKILL`; one that has ended already is fine.
///
/// # Errors
/// The kernel's, but for `ESRCH`.
pub fn kill(pid: Pid) -> Result<()> {
    gate::pass("kill", || format!("{pid}, SIGKILL"))?;
    match rustix::process::kill_process(pid.raw(), Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(e) => Err(Error::new("kill", format!("{pid}, SIGKILL"), e)),
    }
}

/// Asks the kernel to kill this process when its parent ends. A change of user id cancels it, so it is asked again
/// after one.
///
/// # Errors
/// The kernel's.
pub fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| Error::new("prctl", "PR_SET_PDEATHSIG, SIGKILL", e))
}

/// Hides this process's memory, descriptors and executable from every process without `CAP_SYS_PTRACE`, until it
/// executes a program.
///
/// # Errors
/// The kernel's.
pub fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|e| Error::new("prctl", "PR_SET_DUMPABLE, 0", e))
}

/// Closes, in the child of a fork, a descriptor whose owner belongs to the parent and is never dropped here.
/// To be called in that child only, with a descriptor that nothing in it uses.
pub fn close_inherited(fd: RawFd) {
    // SAFETY: a plain number; the one owner of it is in the parent, the child's copy of that is never used or dropped.
    unsafe { libc::close(fd) };
}

/// Starts a new session, without a controlling terminal.
///
/// # Errors
/// The kernel's; `EPERM` for a process group leader.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().map(drop).map_err(|e| Error::bare("setsid", e))
}

/// Sets the permission bits that new files do not get.
pub fn set_umask(bits: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(bits));
}

/// Makes `dir` (may be `O_PATH`) the working directory.
///
/// # Errors
/// The kernel's.
pub fn change_dir(dir: impl AsFd) -> Result<()> {
    rustix::process::fchdir(dir).map_err(|e| Error::bare("fchdir", e))
}

/// Becomes user `uid` and group `gid` for good, with `groups` as the only supplementary groups.
///
/// # Errors
/// The kernel's; `EPERM` without the capabilities for it, `EINVAL` for an id that the user namespace does not map.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    gate::pass("setresuid", || format!("{uid}, {gid}, {groups:?}"))?;
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Error::new("setresuid", format!("{uid}, {gid}"), Errno::INVAL));
    }
    let groups: Vec<_> = groups.iter().filter(|&&g| g != u32::MAX).map(|&g| rustix::fs::Gid::from_raw(g)).collect();
    // The calls of one thread are those of the process here: it has just one.
    rustix::thread::set_thread_groups(&groups).map_err(|e| Error::new("setgroups", format!("{groups:?}"), e))?;
    let raw = rustix::fs::Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(raw, raw, raw).map_err(|e| Error::new("setresgid", gid.to_string(), e))?;
    let raw = rustix::fs::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(raw, raw, raw).map_err(|e| Error::new("setresuid", uid.to_string(), e))
}

/// Makes `input`, `output` and `error` descriptors 0, 1 and 2.
///
/// # Errors
/// The kernel's.
pub fn set_stdio(input: impl AsFd, output: impl AsFd, error: impl AsFd) -> Result<()> {
    // Copies out of the way first: one of the sources may be 0, 1 or 2 itself.
    let [input, output, error] = [input.as_fd(), output.as_fd(), error.as_fd()].map(|fd| duplicate_from(fd, HIGH));
    let err = |e| Error::new("dup2", "0, 1, 2", e);
    rustix::stdio::dup2_stdin(input?).map_err(err)?;
    rustix::stdio::dup2_stdout(output?).map_err(err)?;
    rustix::stdio::dup2_stderr(error?).map_err(err)
}

/// Descriptors from here on are clear of those that have a fixed meaning over an exec.
const HIGH: i32 = 10;

fn duplicate_from(fd: BorrowedFd<'_>, lowest: i32) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, lowest).map_err(|e| Error::new("fcntl", "F_DUPFD_CLOEXEC", e))
}

/// Lets no descriptor but 0, 1 and 2 survive an exec; `fd_dir` is an open `/proc/self/fd` (`close_range` came with
/// 5.9).
///
/// # Errors
/// The kernel's.
pub fn close_others_on_exec(fd_dir: impl AsFd) -> Result<()> {
    let mut fds = Vec::new();
    super::dir::for_each::<Error>(fd_dir, |entry| {
        fds.extend(std::str::from_utf8(entry.name).ok().and_then(|n| n.parse::<i32>().ok()).filter(|&fd| fd > 2));
        Ok(())
    })?;
    for fd in fds {
        // SAFETY: F_SETFD on a number takes no pointer; a closed number (that of the listing itself) answers EBADF.
        let done = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        if done != 0 && last_errno() != Errno::BADF {
            return Err(Error::new("fcntl", format!("{fd}, F_SETFD, FD_CLOEXEC"), last_errno()));
        }
    }
    Ok(())
}

/// Executes the program `trampoline` (see [`super::trampoline`]), which executes `path` with `argv` and `env`, and
/// which reports through `report` if that fails.
///
/// # Errors
/// The kernel's, when the trampoline itself cannot be executed. Does not return otherwise.
pub fn execute(
    trampoline: impl AsFd,
    report: impl AsFd,
    path: &CString,
    argv: &[CString],
    env: &[CString],
) -> Result<Infallible> {
    let program = duplicate_from(trampoline.as_fd(), HIGH)?;
    let report = duplicate_from(report.as_fd(), HIGH)?;
    // SAFETY: whatever descriptor 3 was, it is not used any more: this process executes a program or exits. The new
    // owner is never dropped as one of the two happens before.
    let mut three = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(super::trampoline::REPORT_FD) });
    rustix::io::dup2(&report, &mut three).map_err(|e| Error::new("dup2", "3", e))?;

    let file = CString::new(super::attr::proc_path(&program)).map_err(|_| Error::bare("execve", Errno::INVAL))?;
    let args: Vec<_> =
        std::iter::once(path).chain(argv).map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect();
    let vars: Vec<_> = env.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect();
    // SAFETY: a NUL-terminated path, and two arrays of pointers to NUL-terminated strings ending with a null pointer,
    // all of which live until the call returns.
    unsafe { libc::execve(file.as_ptr(), args.as_ptr(), vars.as_ptr()) };
    Err(Error::new("execve", format!("fd {}", program.as_raw_fd()), last_errno()))
}

/// Whether this process may execute the file `path` names, and whether it is a regular file. Follows symlinks: for use
/// inside the container's root.
///
/// # Errors
/// The kernel's: `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`.
pub fn may_execute(path: &[u8]) -> Result<()> {
    let stat = rustix::fs::stat(path).map_err(|e| Error::bare("stat", e))?;
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::RegularFile => {
            rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(|e| Error::bare("access", e))
        }
        rustix::fs::FileType::Directory => Err(Error::bare("stat", Errno::ISDIR)),
        _ => Err(Error::bare("stat", Errno::ACCESS)),
    }
}
