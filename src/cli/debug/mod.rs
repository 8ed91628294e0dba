//! `mica debug`: looking around in layers, on a screen or by lines.
//!
//! ```text
//! Session (a Target, and how many of its layers are looked at)
//!    ├─ shell  (a line -> text)  <- readline (terminal or pipe)                           mica debug --plain
//!    └─ model  (key or answer -> state and questions)   <- screen (keys, signals), terminal   mica debug
//!         ├─ view      (state -> picture, one pane a file)
//!         └─ exchange  (what is asked and not answered yet)
//!              └─ work   (question -> answer, in threads)   <- facts (what layers say, by explain), live (a mount's events)
//! ```
//! The thread of the keys reads no layer: it draws what is known, and what a key asked for is drawn when it comes. So a damaged
//! layer is a message, and an image with a million files opens at once. `tree` holds what was unfolded, `trace` what was told, and nothing
//! else.

mod exchange;
mod facts;
mod live;
mod marks;
mod model;
mod readline;
mod screen;
mod session;
mod shell;
mod terminal;
#[cfg(test)]
mod tests;
mod trace;
mod tree;
mod view;
mod words;
mod work;

use std::io::IsTerminal;

pub use live::Source;
pub use session::Session;

use super::Context;
use super::error::CliError;
use super::looking;
use crate::env;
use shell::Shell;

/// The shell of lines.
///
/// # Errors
/// With the exit code of the last command that failed.
pub fn plain(session: Session, context: &mut Context) -> Result<(), CliError> {
    let tame = std::io::stdout().is_terminal();
    for info in session.full().broken() {
        let why = info.broken.as_deref().unwrap_or_default();
        let of = format!("{} of {} of {}", info.place, session.total(), session.full().title());
        let said = CliError::new(format!("{of} cannot be read and counts as empty: {why}"));
        said.hint("'mica system check' tells what is damaged; loading the image again repairs it").print();
    }
    readline::serve(Shell::new(session, looking::style(false), tame)?, context)
}

/// Refuses where no screen can be drawn.
///
/// # Errors
/// Then, with what can be done.
pub fn screen_is_possible() -> Result<(), CliError> {
    let no = |why: &str| {
        Err(CliError::new(format!("no screen can be drawn: {why}")).hint("'mica debug --plain' is a shell of lines"))
    };
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return no("standard input and output must be a terminal");
    }
    match env::var("TERM") {
        None => no("TERM is not set"),
        Some(term) if term == "dumb" => no("the terminal is a simple one (TERM=dumb)"),
        Some(_) => Ok(()),
    }
}

/// The screen.
///
/// # Errors
/// When the terminal cannot be used; with 128 and its number after a signal.
pub fn screen(session: &Session, mouse: bool) -> Result<(), CliError> {
    let style = looking::style(false);
    screen::run(session, mouse, view::Theme { unicode: style.unicode, colour: style.colour })
}
