//! The names of the processes that ask. They end soon, so each is looked up while it waits for its answer.

use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;

use crate::sys::process;

/// How long a name is believed: a process that becomes another program goes by its old name for this time at most.
const FRESH: Duration = Duration::from_millis(1);
/// How many are kept.
const KEPT: usize = 64;

/// Names that were asked for a moment ago.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Vec<(u32, Instant, Vec<u8>)>>);

impl Names {
    /// The name of a process that exists now, raw; empty for one that does not show.
    pub(super) fn of(&self, pid: u32, now: Instant) -> Vec<u8> {
        if pid == 0 {
            return Vec::new();
        }
        let mut kept = self.0.lock();
        let known = kept.iter().position(|(known, _, _)| *known == pid);
        if let Some((_, _, name)) =
            known.and_then(|at| kept.get(at)).filter(|(_, then, _)| now.saturating_duration_since(*then) < FRESH)
        {
            return name.clone();
        }
        let name = process::command_name(pid).unwrap_or_default();
        match known {
            Some(at) => drop(kept.swap_remove(at)),
            None if kept.len() >= KEPT => drop(kept.remove(0)),
            None => {}
        }
        kept.push((pid, now, name.clone()));
        name
    }
}
