//! Operations on a live mount, for `trace` and the key `t`: the one place that knows the mount's event stream.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::error::CliError;
use crate::engine;
use crate::engine::live::Listener;
use crate::engine::live::News;
use crate::engine::live::Target;
use crate::live::Event;
use crate::live::Filter;
use crate::path::Escaped;
use crate::store::Store;

/// The most events that are handed on at once.
const BATCH_MAX: usize = 1000;

/// What may be mounted: the user's word for it, and where the store is.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// A mountpoint or a container; nothing for bare directories.
    pub word: Option<OsString>,
    /// The store that the user named.
    pub root: Option<PathBuf>,
}

/// What came since the last time, in order: events, then how many were lost behind them, then the end.
#[derive(Debug, Default)]
pub struct Batch {
    /// What was done.
    pub events: Vec<Event>,
    /// How many events the server could not keep for this listener.
    pub lost: u64,
    /// Nothing comes any more, and why.
    pub ended: Option<&'static str>,
}

impl Batch {
    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.lost == 0 && self.ended.is_none()
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct Feed {
    listener: Listener,
}

impl Source {
    /// Listens to the mount.
    ///
    /// # Errors
    /// When it is no live mount, or its server refuses.
    pub fn open(&self, filter: &Filter) -> Result<Feed, CliError> {
        let hint = "trace what is mounted: 'mica debug MOUNTPOINT', or a running container";
        let Some(word) = &self.word else {
            return Err(CliError::new("bare directories tell of no operations").hint(hint));
        };
        let mut unasked = None;
        let store = || {
            let root = self.root.clone().map_or_else(Store::default_root, Ok)?;
            Store::open(&root)
        };
        let found = Target::find(word, || store().map_err(|e| unasked = Some(e)).ok());
        let target = found.map_err(|e| match (e, unasked) {
            // Where the store could not be asked for a container, that is the reason.
            (engine::Error::NoMount(_), Some(why)) => why.into(),
            (engine::Error::NoMount(_), None) => {
                let word = Escaped(word.as_encoded_bytes());
                CliError::new(format!("{word} is not mounted, so nothing is done on it")).hint(hint)
            }
            (other, _) => other.into(),
        })?;
        Ok(Feed { listener: target.listen(filter)? })
    }
}

impl Feed {
    /// What came; waits for something, at most for `limit`.
    ///
    /// # Errors
    /// For what no server sends.
    pub fn next(&mut self, limit: Duration) -> Result<Batch, CliError> {
        let mut batch = Batch::default();
        let mut limit = limit;
        loop {
            match self.listener.next(limit)? {
                News::Event(event) => batch.events.push(*event),
                // The server lets nothing in behind what is lost before it was told, so this is the end of a run.
                News::Lost(count) => {
                    batch.lost = count;
                    return Ok(batch);
                }
                News::Ended => batch.ended = Some("the mount has ended"),
                News::Gone => batch.ended = Some("the server of the mount is gone"),
                News::Quiet => return Ok(batch),
            }
            if batch.ended.is_some() || batch.events.len() >= BATCH_MAX || !self.listener.has_more() {
                return Ok(batch);
            }
            limit = Duration::ZERO;
        }
    }
}
