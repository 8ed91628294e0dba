//! What the screen asked the reader, and what of it is not answered yet. So a frame waits a little for its answers, and not a
//! moment longer than it takes to get them.

use std::time::Duration;

use crossbeam_channel::Receiver;
use crossbeam_channel::RecvTimeoutError;

use super::model::Model;
use super::work::Ask;
use super::work::Found;
use super::work::Work;
use crate::env;

/// Questions and answers.
#[derive(Debug)]
pub struct Exchange {
    work: Work,
    /// Answers, as they come.
    pub found: Receiver<Found>,
    /// What the reader was asked and has not done.
    open: usize,
}

impl Exchange {
    /// With what answers by `found`.
    pub fn new(work: Work, found: Receiver<Found>) -> Self {
        Self { work, found, open: 0 }
    }

    /// Asks; whether that is to be the end of the screen.
    pub fn ask(&mut self, asks: Vec<Ask>) -> bool {
        for ask in asks {
            if ask == Ask::Quit {
                return true;
            }
            self.open += usize::from(self.work.ask(ask));
        }
        false
    }

    /// Takes an answer in, and asks what follows from it.
    pub fn found(&mut self, model: &mut Model, found: Found) {
        if matches!(found, Found::Done) {
            self.open = self.open.saturating_sub(1);
        }
        let asks = model.found(found);
        // An answer never asks for the end.
        self.ask(asks);
    }

    /// Takes in what was answered, and waits at most for `patience` until nothing is open. Whether nothing is.
    pub fn take(&mut self, model: &mut Model, patience: Duration) -> bool {
        let end = env::monotonic() + patience;
        loop {
            // What is there is taken even where nothing is waited for.
            let left = if self.open == 0 { Duration::ZERO } else { end.saturating_duration_since(env::monotonic()) };
            match self.found.recv_timeout(left) {
                Ok(found) => self.found(model, found),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return self.open == 0,
            }
            if left.is_zero() && self.open > 0 {
                return false;
            }
        }
    }
}
