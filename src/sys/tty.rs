//! Terminals: pairs of pseudo terminals, raw mode, window size; and the polling that moves bytes between them.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;

use super::Errno;
use super::Error;
use super::Result;

/// A new pseudo terminal.
#[derive(Debug)]
pub struct Pair {
    /// The side of the one who plays the terminal.
    pub master: OwnedFd,
    /// The side of the program.
    pub slave: OwnedFd,
    /// The slave as `O_PATH`, to be mounted elsewhere.
    pub slave_path: OwnedFd,
}

/// Opens a new pseudo terminal of the `devpts` filesystem whose root is `devpts`.
///
/// # Errors
/// The kernel's; `ENOSPC` when there are too many.
pub fn open_pair(devpts: impl AsFd) -> Result<Pair> {
    let data = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master =
        rustix::fs::openat(&devpts, c"ptmx", data, Mode::empty()).map_err(|e| Error::new("openat", "ptmx", e))?;
    rustix::pty::unlockpt(&master).map_err(|e| Error::bare("unlockpt", e))?;
    let name = rustix::pty::ptsname(&master, Vec::new()).map_err(|e| Error::bare("ptsname", e))?;
    // The name is /dev/pts/N in whatever instance; only N counts.
    let number = name.to_bytes().rsplit(|&b| b == b'/').next().unwrap_or_default().to_vec();
    let open = |flags| {
        rustix::fs::openat(&devpts, &*number, flags | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|e| Error::new("openat", crate::path::Escaped(&number).to_string(), e))
    };
    Ok(Pair { slave: open(data)?, slave_path: open(OFlags::PATH | OFlags::CLOEXEC)?, master })
}

/// Makes the terminal the controlling one of this session, which must have none.
///
/// # Errors
/// The kernel's.
pub fn make_controlling(slave: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave).map_err(|e| Error::new("ioctl", "TIOCSCTTY", e))
}

/// Whether the descriptor is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// Gives `to` the window size of `from`.
///
/// # Errors
/// The kernel's; `ENOTTY` when one is no terminal.
pub fn copy_size(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let size = rustix::termios::tcgetwinsize(from).map_err(|e| Error::new("ioctl", "TIOCGWINSZ", e))?;
    rustix::termios::tcsetwinsize(to, size).map_err(|e| Error::new("ioctl", "TIOCSWINSZ", e))
}

/// A terminal in raw mode; dropping it gives the terminal back its former mode, also when a panic unwinds.
#[derive(Debug)]
pub struct Raw {
    fd: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Switches the terminal to raw mode.
    ///
    /// # Errors
    /// The kernel's; `ENOTTY` when it is none.
    pub fn enter(terminal: impl AsFd) -> Result<Self> {
        let fd = super::open::duplicate(terminal)?;
        let before = rustix::termios::tcgetattr(&fd).map_err(|e| Error::bare("tcgetattr", e))?;
        let mut raw = before.clone();
        raw.make_raw();
        set(&fd, &raw)?;
        Ok(Self { fd, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(e) = set(&self.fd, &self.before) {
            log::warn!("the terminal stays in raw mode: {e}; `stty sane` repairs it");
        }
    }
}

fn set(fd: &OwnedFd, mode: &Termios) -> Result<()> {
    loop {
        match rustix::termios::tcsetattr(fd, OptionalActions::Drain, mode) {
            Err(Errno::INTR) => {}
            other => return other.map_err(|e| Error::bare("tcsetattr", e)),
        }
    }
}

/// What to wait for on one descriptor, and what there was.
#[derive(Debug)]
pub struct Watch<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// Wait until it can be written, instead of read.
    pub write: bool,
    /// Set by [`poll`]: it can be used now, or has ended or failed, which the next read or write will tell.
    pub ready: bool,
}

impl<'a> Watch<'a> {
    /// Waits for something to read.
    pub fn read(fd: BorrowedFd<'a>) -> Self {
        Self { fd, write: false, ready: false }
    }

    /// Waits for room to write.
    pub fn write(fd: BorrowedFd<'a>) -> Self {
        Self { fd, write: true, ready: false }
    }
}

/// Waits without limit until one of the descriptors is ready; an interrupted wait returns with none ready.
///
/// # Errors
/// The kernel's, but for `EINTR`.
pub fn poll(watches: &mut [Watch<'_>]) -> Result<()> {
    let mut fds: Vec<_> = watches
        .iter()
        .map(|w| PollFd::from_borrowed_fd(w.fd, if w.write { PollFlags::OUT } else { PollFlags::IN }))
        .collect();
    match rustix::event::poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(Error::bare("poll", e)),
    }
    let found: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    watches.iter_mut().zip(found).for_each(|(watch, ready)| watch.ready = ready);
    Ok(())
}

/// Waits until the other side of a terminal is gone.
///
/// # Errors
/// The kernel's, but for `EINTR`.
pub fn wait_hangup(terminal: impl AsFd) -> Result<()> {
    loop {
        // Nothing is asked for: errors and the end are told anyway.
        let mut fds = [PollFd::new(&terminal, PollFlags::empty())];
        match rustix::event::poll(&mut fds, None) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(Error::bare("poll", e)),
        }
    }
}

/// Makes reads and writes of the descriptor return `EAGAIN` instead of waiting. It concerns all holders of the open
/// file, so it is for files that we opened.
///
/// # Errors
/// The kernel's.
pub fn set_nonblocking(fd: impl AsFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(|e| Error::new("fcntl", "F_GETFL", e))?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK).map_err(|e| Error::new("fcntl", "F_SETFL", e))
}

/// Reads into `buf`; the number of bytes, 0 at the end.
///
/// # Errors
/// The kernel's; `EIO` at a master whose slaves are all closed.
pub fn read(fd: impl AsFd, buf: &mut [u8]) -> std::result::Result<usize, Errno> {
    rustix::io::read(fd, buf)
}

/// Writes from `buf`; the number of bytes, which may be less than asked.
///
/// # Errors
/// The kernel's.
pub fn write(fd: impl AsFd, buf: &[u8]) -> std::result::Result<usize, Errno> {
    rustix::io::write(fd, buf)
}

/// Standard input of this process.
pub fn stdin() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

/// Standard output of this process.
pub fn stdout() -> BorrowedFd<'static> {
    rustix::stdio::stdout()
}

/// Standard error of this process.
pub fn stderr() -> BorrowedFd<'static> {
    rustix::stdio::stderr()
}
