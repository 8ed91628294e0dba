//! Which events a listener wants.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::event::Event;
use super::op::Op;
use super::op::Ops;

/// The longest pattern, in bytes: matching takes the time of pattern times path.
pub const PATTERN_MAX: usize = 1024;

/// What a listener wants to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Only these operations, as the bits of [`Ops`].
    pub ops: u64,
    /// Only paths that this pattern matches: see [`matches()`].
    #[serde(default)]
    pub pattern: Option<Vec<u8>>,
    /// Only this path and what is below it; begins with a slash.
    #[serde(default)]
    pub below: Option<Vec<u8>>,
    /// Only this process, with all its threads.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Only what took as long as this or longer, in nanoseconds.
    #[serde(default)]
    pub slow: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Self { ops: Ops::USUAL.0, pattern: None, below: None, pid: None, slow: 0 }
    }
}

impl Filter {
    /// Only these operations; none named means the usual ones.
    #[must_use]
    pub fn with_ops(mut self, ops: &[Op]) -> Self {
        if !ops.is_empty() {
            self.ops = ops.iter().fold(Ops::NONE, |set, op| set.with(*op)).0;
        }
        self
    }

    /// Only what took as long as this or longer.
    #[must_use]
    pub fn with_slow(mut self, slow: Duration) -> Self {
        self.slow = u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX);
        self
    }

    /// Whether it can be served.
    pub(super) fn is_sane(&self) -> bool {
        [&self.pattern, &self.below].into_iter().flatten().all(|text| text.len() <= PATTERN_MAX.max(4096))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.len() <= PATTERN_MAX)
    }

    /// Whether the event is wanted, but for its process: that costs a look at `/proc`.
    pub(super) fn wants(&self, event: &Event) -> bool {
        Ops(self.ops).has(event.op)
            && event.took >= self.slow
            && self.below.as_ref().is_none_or(|top| is_below(&event.path, top) || is_below(&event.other, top))
            && self.pattern.as_ref().is_none_or(|p| matches_path(p, &event.path) || matches_path(p, &event.other))
    }
}

fn is_below(path: &[u8], top: &[u8]) -> bool {
    let top = top.strip_suffix(b"/").unwrap_or(top);
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A pattern with a slash is matched with the whole path, one without with its last name.
fn matches_path(pattern: &[u8], path: &[u8]) -> bool {
    if path.is_empty() {
        return false;
    }
    if pattern.contains(&b'/') {
        return matches(pattern, path);
    }
    matches(pattern, path.rsplit(|b| *b == b'/').next().unwrap_or_default())
}

/// Whether `text` is what `pattern` says: `*` is any number of bytes (slashes, too), `?` is one byte, `\` takes the next byte as it is.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last `*` must take one byte more.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            (None, None) => return true,
            (Some(b'?'), Some(_)) => Some(1),
            (Some(b'\\'), Some(c)) if pattern.get(p + 1) == Some(c) => Some(2),
            (Some(b'\\'), Some(_)) if pattern.get(p + 1).is_some() => None,
            (Some(a), Some(b)) if a == b => Some(1),
            _ => None,
        };
        match (step, retry) {
            (Some(n), _) => (p, t) = (p + n, t + 1),
            (None, Some((after, from))) if from < text.len() => {
                (p, t) = (after, from + 1);
                retry = Some((after, from + 1));
            }
            _ => return false,
        }
    }
}
