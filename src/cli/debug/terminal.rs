//! The terminal: entered, and given back however the screen ends.

use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor;
use ratatui::crossterm::event;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal;

use crate::cli::error::CliError;
use crate::sys;

/// What is drawn on.
pub type Screen = Terminal<CrosstermBackend<BufWriter<Out>>>;

/// The terminal's side of it. ratatui says on standard error, and panics if that is gone, too, when it cannot show the cursor again at its
/// end; so a terminal that vanished takes everything, and is remembered.
#[derive(Debug)]
pub struct Out {
    file: File,
    gone: Arc<AtomicBool>,
}

impl Out {
    fn quiet(&self, done: std::io::Result<usize>, len: usize) -> std::io::Result<usize> {
        match done {
            Err(e) if e.kind() != std::io::ErrorKind::Interrupted => {
                self.gone.store(true, Ordering::Relaxed);
                Ok(len)
            }
            other => other,
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let done = self.file.write(bytes);
        self.quiet(done, bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let done = self.file.flush().map(|()| 0);
        self.quiet(done, 0).map(drop)
    }
}

/// The terminal in raw mode on its other page; dropping it gives it back.
#[derive(Debug)]
pub struct Guard {
    out: OwnedFd,
    /// The terminal took nothing any more.
    pub gone: Arc<AtomicBool>,
}

impl Guard {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn enter(mouse: bool) -> Result<(Self, Screen), CliError> {
        let failed = |e: std::io::Error| CliError::new(format!("cannot use the terminal: {e}"));
        let out = sys::open::duplicate(sys::tty::stdout()).map_err(|e| failed(e.into()))?;
        let mut file = File::from(sys::open::duplicate(&out).map_err(|e| failed(e.into()))?);
        restore_on_panic(&out).map_err(|e| failed(e.into()))?;
        let guard = Self { out, gone: Arc::default() };
        terminal::enable_raw_mode().map_err(failed)?;
        execute!(file, terminal::EnterAlternateScreen, cursor::Hide).map_err(failed)?;
        if mouse {
            execute!(file, event::EnableMouseCapture).map_err(failed)?;
        }
        let out = BufWriter::with_capacity(1 << 16, Out { file, gone: guard.gone.clone() });
        let screen = Terminal::new(CrosstermBackend::new(out)).map_err(failed)?;
        Ok((guard, screen))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore(&self.out);
    }
}

/// With the terminal gone there is nothing to give back, so failures count nothing.
fn restore(out: &OwnedFd) {
    if let Ok(mut file) = sys::open::duplicate(out).map(File::from) {
        execute!(file, event::DisableMouseCapture, terminal::LeaveAlternateScreen, cursor::Show).unwrap_or_default();
    }
    terminal::disable_raw_mode().unwrap_or_default();
}

/// What a panic says must be readable: the terminal is given back before it is said.
fn restore_on_panic(out: &OwnedFd) -> sys::Result<()> {
    let out = sys::open::duplicate(out)?;
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore(&out);
        before(info);
    }));
    Ok(())
}
