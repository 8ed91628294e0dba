//! The kernel asks for `security.capability` before every write, since a write drops it. Nearly no file has any: that answer is
//! kept in memory.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// The attribute.
pub(super) const NAME: &[u8] = b"security.capability";

/// Whether an object is known to have no capabilities. The lowest bit says so; the others count the changes, so that a reader that
/// began before a change cannot note what it saw.
#[derive(Debug, Default)]
pub(super) struct NoCaps(AtomicU32);

/// The state when a reader began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(u32);

impl NoCaps {
    /// `Err` when it is known that there are none; else a ticket for [`NoCaps::note`].
    pub(super) fn ask(&self) -> Result<Ticket, ()> {
        let state = self.0.load(Ordering::Acquire);
        if state & 1 == 1 { Err(()) } else { Ok(Ticket(state)) }
    }

    /// Notes that there are none, unless something changed since the ticket was given.
    pub(super) fn note(&self, ticket: Ticket) {
        let _ = self.0.compare_exchange(ticket.0, ticket.0 | 1, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Forgets: the attribute was set, or the object may be another one. Comes after the change.
    pub(super) fn forget(&self) {
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| Some((state | 1).wrapping_add(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_before_a_change_is_not_noted() {
        let caps = NoCaps::default();
        let early = caps.ask().unwrap();
        caps.forget();
        caps.note(early);
        let ticket = caps.ask().expect("still unknown");
        caps.note(ticket);
        assert!(caps.ask().is_err());
        caps.forget();
        assert!(caps.ask().is_ok());
    }
}
