//! Signals as events: blocked, read from a descriptor, passed on.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use super::Errno;
use super::Error;
use super::Result;
use super::child::Pid;
use super::gate;

/// A child has ended or stopped.
pub const CHILD: i32 = libc::SIGCHLD;
/// The size of the terminal window has changed.
pub const WINDOW: i32 = libc::SIGWINCH;

/// Number of the last signal that the kernel knows.
const KERNEL_SIGNALS: i32 = 64;

/// What a process passes on to the one that it runs in its place. Not here: what only concerns the process itself
/// (faults, `SIGPIPE`), and what stops it at its own terminal.
const FORWARDED: [i32; 12] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGWINCH,
    libc::SIGURG,
    libc::SIGALRM,
    libc::SIGIO,
    libc::SIGPWR,
];

/// The signals to pass on and `SIGCHLD`, held back from this thread and readable from a descriptor; given back on drop.
#[derive(Debug)]
pub struct Inbox {
    fd: OwnedFd,
    before: SignalMask,
}

#[derive(Clone, Copy)]
struct SignalMask(libc::sigset_t);

impl std::fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalMask(..)")
    }
}

fn failed(call: &'static str) -> Error {
    let e = std::io::Error::last_os_error();
    Error::bare(call, Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the whole set it is given, and cannot fail for a valid pointer.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn set_mask(how: i32, set: &libc::sigset_t) -> Result<SignalMask> {
    let mut before = empty_set();
    // SAFETY: both pointers are to valid sets; the call only copies.
    match unsafe { libc::pthread_sigmask(how, set, &raw mut before) } {
        0 => Ok(SignalMask(before)),
        e => Err(Error::bare("sigprocmask", Errno::from_raw_os_error(e))),
    }
}

impl Inbox {
    /// Holds the signals back from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self> {
        let mut set = empty_set();
        for signal in FORWARDED.into_iter().chain([CHILD]) {
            // SAFETY: a valid set and a valid signal number.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        let before = set_mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: -1 asks for a new descriptor; the set is only read.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            let e = failed("signalfd");
            set_mask(libc::SIG_SETMASK, &before.0)?;
            return Err(e);
        }
        // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, before })
    }

    /// The next signal that has come, or `None` when there is none now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&self) -> Result<Option<i32>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        loop {
            // SAFETY: the buffer is `size` bytes long and writable.
            let got = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
            if usize::try_from(got).is_ok_and(|got| got == size) {
                // SAFETY: a read of a signalfd fills whole records, and this one is filled.
                let number = unsafe { info.assume_init() }.ssi_signo;
                return Ok(i32::try_from(number).ok());
            }
            match failed("read") {
                e if e.errno() == Errno::INTR => {}
                e if e.errno() == Errno::AGAIN => return Ok(None),
                e => return Err(e),
            }
        }
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // What came for us and was not read is for a program that has ended: it must not kill us on the way out.
        while let Ok(Some(_)) = self.next() {}
        if let Err(e) = set_mask(libc::SIG_SETMASK, &self.before.0) {
            log::warn!("the signal mask stays changed: {e}");
        }
    }
}

/// Gives every signal its default action and holds none back, as a program expects that is executed next.
///
/// # Errors
/// The kernel's.
pub fn reset_all() -> Result<()> {
    // The kernel's struct sigaction, all zero: SIG_DFL, no flags, no restorer, an empty mask of 8 bytes.
    let default = [0u64; 4];
    for signal in 1..=KERNEL_SIGNALS {
        // SAFETY: the structure is as large as the kernel's on every 64-bit architecture, and is only read; SIG_DFL is
        // no handler, so no code of ours can be called. SIGKILL and SIGSTOP answer EINVAL, which is fine. The call is
        // made past libc, which keeps two signals for itself and would leave them ignored where our parent ignored
        // them.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8usize);
        }
    }
    set_mask(libc::SIG_SETMASK, &empty_set()).map(drop)
}

/// Sends `signal` to `pid`; `false` when the process has ended.
///
/// # Errors
/// The kernel's, but for `ESRCH`.
pub fn send(pid: Pid, signal: i32) -> Result<bool> {
    gate::pass("kill", || format!("{pid}, {signal}"))?;
    // SAFETY: two integers; the id is positive, so it names one process and not a group.
    if unsafe { libc::kill(pid.raw().as_raw_nonzero().get(), signal) } == 0 {
        return Ok(true);
    }
    match failed("kill") {
        e if e.errno() == Errno::SRCH => Ok(false),
        e => Err(e),
    }
}
