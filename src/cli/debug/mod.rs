//! `mica debug`: looking around in layers, on a screen or by lines.
//!
//! ```text
//! Session (a Target, and how many of its layers are looked at)
//!    └─ shell  (a line -> text)  <- readline (terminal or pipe)          mica debug --plain
//! ```

mod live;
mod readline;
mod session;
mod shell;
mod words;

use std::io::IsTerminal;

pub use session::Session;

use super::Context;
use super::error::CliError;
use super::looking;
use shell::Shell;

/// The shell of lines.
///
/// # Errors
/// With the exit code of the last command that failed.
pub fn plain(session: Session, context: &mut Context) -> Result<(), CliError> {
    let tame = std::io::stdout().is_terminal();
    readline::serve(Shell::new(session, looking::style(false), tame)?, context)
}

pub fn screen_is_possible() -> Result<(), CliError> { Ok(()) }
pub fn screen(session: Session, _mouse: bool, context: &mut Context) -> Result<(), CliError> { plain(session, context) }
