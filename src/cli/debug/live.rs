//! Events of a live mount, for `trace` and the key `t`: the one place that knows the mount's event stream.

use std::ffi::OsStr;
use std::time::Duration;

use crate::cli::error::CliError;

/// One operation on the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The path in the union, from its root.
    pub path: Vec<u8>,
    /// The line about it, nothing in it able to reach a terminal as control.
    pub line: String,
}

/// A stream of events.
pub trait Feed: Send {
    /// The next event; `None` when none came within `limit`.
    ///
    /// # Errors
    /// When the mount is gone.
    fn next(&mut self, limit: Duration) -> Result<Option<Event>, CliError>;
}

/// Listens to the mount that `word` means.
///
/// # Errors
/// When it is no live mount.
pub fn open(word: &OsStr) -> Result<Box<dyn Feed>, CliError> {
    let word = crate::path::Escaped(word.as_encoded_bytes()).to_string();
    Err(CliError::new(format!("{word} tells of no operations"))
        .hint("a live trace needs a mount of mica that is served now"))
}
