//! Becoming a daemon: fork, a session of its own, no descriptor of the caller kept.

#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::FdFlags;
use rustix::process::Resource;
use rustix::process::Rlimit;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;

/// Which of the two processes this is after [`fork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The caller, with the child's process number.
    Parent(i32),
    /// The new process.
    Child,
}

/// Makes a second process that goes on here too.
///
/// # Errors
/// `EBUSY` when this process has more than one thread: the locks that the others hold would stay locked in the child. Else the
/// kernel's.
pub fn fork() -> Result<Forked> {
    gate::pass("fork", String::new)?;
    if threads()? != 1 {
        return Err(Error::new("fork", "a process with several threads", Errno::BUSY));
    }
    // SAFETY: there is one thread (checked above), so the child's memory is consistent: no lock is held by a thread that is gone.
    match unsafe { libc::fork() } {
        -1 => Err(Error::bare("fork", last_errno())),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid)),
    }
}

fn threads() -> Result<usize> {
    let io = |e: std::io::Error| Error::new("read", "/proc/self/task", Errno::from_io_error(&e).unwrap_or(Errno::IO));
    Ok(std::fs::read_dir("/proc/self/task").map_err(io)?.count())
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Ends this process at once: nothing is flushed, no destructor runs.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any code and does not return.
    unsafe { libc::_exit(code) }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

/// Waits until the child `pid` has ended.
///
/// # Errors
/// The kernel's; `ECHILD` when it is no child of this process.
pub fn wait(pid: i32) -> Result<Ended> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(Error::bare("waitpid", Errno::CHILD))?;
    loop {
        match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()) {
            Err(Errno::INTR) | Ok(None) => {}
            Err(e) => return Err(Error::bare("waitpid", e)),
            Ok(Some((_, status))) => {
                let code = status.exit_status().map(Ended::Code);
                return Ok(code.or(status.terminating_signal().map(Ended::Signal)).unwrap_or(Ended::Code(0)));
            }
        }
    }
}

/// A pipe, both ends closed on `exec`: (read end, write end).
///
/// # Errors
/// The kernel's.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| Error::bare("pipe2", e))
}

/// Starts a session of its own, so that neither the caller's terminal nor its process group reaches this process.
///
/// # Errors
/// The kernel's; `EPERM` in a process group leader.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().map(drop).map_err(|e| Error::bare("setsid", e))
}

/// Leaves the working directory for `/`, so that no filesystem of the caller is held busy.
///
/// # Errors
/// The kernel's.
pub fn leave_directory() -> Result<()> {
    rustix::process::chdir(c"/").map_err(|e| Error::new("chdir", "/", e))
}

/// Points descriptors 0, 1 and 2 to `/dev/null`: whoever reads the other end of a pipe there sees its end.
///
/// # Errors
/// The kernel's; without `/dev/null` the three are left as they were.
pub fn silence() -> Result<()> {
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::new("open", "/dev/null", e))?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .map_err(|e| Error::new("dup2", "/dev/null", e))
}

/// Closes every descriptor above 2 that this program was started with.
///
/// An inherited descriptor is known by the missing close-on-exec flag: with the flag it would not have come through `exec`, and
/// everything that this program opens has it.
///
/// # Errors
/// The kernel's, when `/proc/self/fd` cannot be listed.
pub fn close_inherited() -> Result<()> {
    let io = |e: std::io::Error| Error::new("read", "/proc/self/fd", Errno::from_io_error(&e).unwrap_or(Errno::IO));
    let numbers: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .map_err(io)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number| number > 2)
        .collect();
    numbers.into_iter().filter(|&number| is_inherited(number)).for_each(close);
    Ok(())
}

fn is_inherited(number: RawFd) -> bool {
    // SAFETY: the borrow ends here and fcntl(F_GETFD) changes nothing; a number that was closed meanwhile gives EBADF.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(fd).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
}

fn close(number: RawFd) {
    // SAFETY: without the close-on-exec flag the descriptor came from the caller, so no object of this program owns it.
    unsafe { rustix::io::close(number) }
}

/// Raises the soft limit of open files to the hard one; returns the limit that holds now (`None`: no limit).
///
/// # Errors
/// The kernel's.
pub fn raise_open_files() -> Result<Option<u64>> {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .map_err(|e| Error::new("setrlimit", "RLIMIT_NOFILE", e))?;
    Ok(maximum)
}

/// Sets the file mode mask to 0: the modes of new files are the client's, and the kernel has applied its mask already.
pub fn clear_umask() {
    rustix::process::umask(Mode::empty());
}

/// Makes the kernel's out-of-memory killer choose others first (`score` from -1000 to 1000); `false` where that is forbidden.
pub fn prefer_to_live(score: i16) -> bool {
    std::fs::write("/proc/self/oom_score_adj", score.to_string()).is_ok()
}

/// Reads from `fd` until its end, at most `limit` bytes.
///
/// # Errors
/// The kernel's.
pub fn read_to_end(fd: impl AsFd, limit: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut piece = [0u8; 512];
    while all.len() < limit {
        match rustix::io::read(&fd, &mut piece) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::bare("read", e)),
            Ok(0) => break,
            Ok(n) => all.extend(piece.iter().take(n)),
        }
    }
    Ok(all)
}

/// Writes all of `bytes` to `fd`.
///
/// # Errors
/// The kernel's; `EPIPE` when nobody reads any more.
pub fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::bare("write", e)),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
        }
    }
    Ok(())
}
