//! Signals as data: blocked for the whole process, read by one thread from a descriptor (`signalfd`, Linux 2.6.27).

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

use super::Errno;
use super::Error;
use super::Result;

/// The signals that a serving process listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`.
    Terminate,
    /// `SIGINT`.
    Interrupt,
    /// `SIGHUP`.
    HangUp,
    /// `SIGUSR1`.
    User1,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A signal came.
    Signal(Signal),
    /// The wait was stopped.
    Stop,
    /// The time was over.
    TimedOut,
}

const ALL: [(Signal, i32); 4] = [
    (Signal::Terminate, libc::SIGTERM),
    (Signal::Interrupt, libc::SIGINT),
    (Signal::HangUp, libc::SIGHUP),
    (Signal::User1, libc::SIGUSR1),
];

/// The signals of [`Signal`], blocked in the thread that made this (and in every thread it starts) and readable here.
///
/// Dropping it in that thread restores the mask it found.
pub struct Signals {
    fd: OwnedFd,
    before: libc::sigset_t,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl Signals {
    /// Blocks the signals; to be called before any other thread is started. `SIGPIPE` is ignored from now on, too.
    ///
    /// # Errors
    /// The kernel's.
    pub fn block() -> Result<Self> {
        Self::block_these(&ALL)
    }

    /// As [`Signals::block`], for `SIGINT` alone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn block_interrupt() -> Result<Self> {
        Self::block_these(&[(Signal::Interrupt, libc::SIGINT)])
    }

    fn block_these(signals: &[(Signal, i32)]) -> Result<Self> {
        let set = set_of(signals);
        // SAFETY: SIG_IGN is a valid disposition, and no handler is replaced that this program installed.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        let mut before = MaybeUninit::uninit();
        // SAFETY: `set` is initialised, and `before` has room for a mask, which is written when the call succeeds.
        let failed = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, before.as_mut_ptr()) };
        if failed != 0 {
            return Err(Error::bare("pthread_sigmask", Errno::from_raw_os_error(failed)));
        }
        // SAFETY: pthread_sigmask succeeded, so it wrote the former mask.
        let before = unsafe { before.assume_init() };
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
            return Err(Error::bare("signalfd", errno));
        }
        // SAFETY: signalfd returned a new descriptor that nothing else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, before })
    }

    /// Waits for the next signal, until `stop` is readable or closed at its other end, or until `limit` is over.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self, stop: impl AsFd, limit: Option<Duration>) -> Result<Wake> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        loop {
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN), PollFd::new(&stop, PollFlags::IN)];
            match rustix::event::poll(&mut fds, limit.as_ref()) {
                Err(Errno::INTR) => continue,
                Err(e) => return Err(Error::bare("poll", e)),
                Ok(0) => return Ok(Wake::TimedOut),
                Ok(_) => {}
            }
            let [signals, stop] = fds.map(|fd| fd.revents());
            if signals.contains(PollFlags::IN)
                && let Some(signal) = self.read()?
            {
                return Ok(Wake::Signal(signal));
            }
            if !stop.is_empty() {
                return Ok(Wake::Stop);
            }
        }
    }

    /// A signal that came already; does not wait.
    ///
    /// # Errors
    /// The kernel's.
    pub fn came(&self) -> Result<Option<Signal>> {
        self.read()
    }

    fn read(&self) -> Result<Option<Signal>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer has `size` bytes, and every bit pattern is a valid signalfd_siginfo (plain integers).
        let n = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if n < 0 {
            return match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO) {
                Errno::AGAIN | Errno::INTR => Ok(None),
                e => Err(Error::bare("read", e)),
            };
        }
        // SAFETY: zeroed at first and then filled with plain integers by the kernel.
        let number = unsafe { info.assume_init() }.ssi_signo;
        Ok(ALL.into_iter().find(|(_, raw)| u32::try_from(*raw) == Ok(number)).map(|(signal, _)| signal))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that pthread_sigmask wrote in `block`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

fn set_of(signals: &[(Signal, i32)]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set; sigaddset with a valid number changes only it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for (_, number) in signals {
            libc::sigaddset(set.as_mut_ptr(), *number);
        }
        set.assume_init()
    }
}
