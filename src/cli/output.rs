//! Standard output. A reader that goes away (`mica images | head -1`) ends the command quietly, and so does a terminal that vanishes.

use std::io::Error;
use std::io::ErrorKind;
use std::io::Result;
use std::io::StdoutLock;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use crate::env;
use crate::sys::Errno;
use crate::sys::attr;
use crate::sys::attr::Kind;
use crate::sys::socket;
use crate::sys::tty;

/// How long a line waits for the next ones, on a terminal.
const WAIT: Duration = Duration::from_millis(50);

/// Standard output, buffered.
#[derive(Debug)]
pub struct Output {
    out: std::io::BufWriter<StdoutLock<'static>>,
    /// It is a terminal. One that vanished is still a device, while the kernel answers every other question with `EIO`.
    terminal: bool,
    /// When what was written last was let out, on a terminal: who waits sees what is found.
    shown: Option<Instant>,
}

impl Default for Output {
    fn default() -> Self {
        let out = std::io::stdout().lock();
        let is_device = attr::fstat(tty::stdout()).is_ok_and(|stat| stat.kind() == Kind::Char);
        Self { terminal: is_device, shown: None, out: std::io::BufWriter::new(out) }
    }
}

impl Output {
    /// Whether the reader is gone, for who has nothing to write that would tell. Does not wait.
    ///
    /// # Errors
    /// When it is gone: [`ErrorKind::BrokenPipe`], or for a terminal [`ErrorKind::ConnectionAborted`].
    pub fn still_read(&self) -> Result<()> {
        match (socket::is_abandoned(std::io::stdout()), self.terminal) {
            (false, _) => Ok(()),
            (true, true) => Err(ErrorKind::ConnectionAborted.into()),
            (true, false) => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    /// A terminal that is gone answers `EIO`, as a bad disk does: only the former is to be quiet about.
    fn told<T>(&self, done: Result<T>) -> Result<T> {
        done.map_err(|e| match Errno::from_io_error(&e) {
            Some(Errno::IO) if self.terminal => Error::from(ErrorKind::ConnectionAborted),
            _ => e,
        })
    }
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> Result<usize> {
        let mut done = self.out.write(buf);
        if self.terminal && done.is_ok() && buf.ends_with(b"\n") {
            let now = env::monotonic();
            if self.shown.is_none_or(|shown| now > shown + WAIT) {
                self.shown = Some(now);
                done = self.out.flush().and(done);
            }
        }
        self.told(done)
    }

    fn flush(&mut self) -> Result<()> {
        let done = self.out.flush();
        self.told(done)
    }
}
