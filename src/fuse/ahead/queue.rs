//! A queue of what is to be done, which holds little: what comes too late is of no use, and nobody waits to be rid of it.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Condvar;
use parking_lot::Mutex;

/// The most that wait.
const MOST: usize = 64;

/// The queue.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    more: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), closed: false }), more: Condvar::new() }
    }
}

/// What a queue has for who waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    Item(T),
    /// Nothing came for as long as was to be waited.
    Nothing,
    Closed,
}

impl<T> Queue<T> {
    /// Adds an item; `Err` gives it back where the queue is full or closed.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed || state.waiting.len() >= MOST {
            return Err(item);
        }
        state.waiting.push_back(item);
        drop(state);
        self.more.notify_one();
        Ok(())
    }

    /// The next item; waits for it, for `patience` or without end.
    pub(super) fn next(&self, patience: Option<Duration>) -> Next<T> {
        let mut state = self.state.lock();
        let mut patient = true;
        loop {
            if state.closed {
                return Next::Closed;
            }
            if let Some(item) = state.waiting.pop_front() {
                return Next::Item(item);
            }
            if !patient {
                return Next::Nothing;
            }
            match patience {
                None => self.more.wait(&mut state),
                Some(patience) => patient = !self.more.wait_for(&mut state, patience).timed_out(),
            }
        }
    }

    /// Takes those out that are not to be kept.
    pub(super) fn retain(&self, keep: impl FnMut(&T) -> bool) {
        self.state.lock().waiting.retain(keep);
    }

    /// Takes nothing more, and gives nothing out.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.more.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_comes_back() {
        let queue = Queue::default();
        let taken = (0..100).filter(|n| queue.push(*n).is_ok()).count();
        assert_eq!(taken, MOST);
        assert_eq!(queue.next(None), Next::Item(0));
        assert_eq!(queue.push(7), Ok(()));
        queue.close();
        assert_eq!(queue.push(8), Err(8));
        assert_eq!(queue.next(None), Next::Closed, "also of what waited");
    }

    #[test]
    fn who_waits_hears_of_items_of_nothing_and_of_the_end() {
        let queue = std::sync::Arc::new(Queue::<u8>::default());
        assert_eq!(queue.next(Some(Duration::from_millis(1))), Next::Nothing);
        let waiting = std::thread::spawn({
            let queue = queue.clone();
            move || [queue.next(None), queue.next(None)]
        });
        queue.push(1).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        queue.close();
        assert_eq!(waiting.join().unwrap(), [Next::Item(1), Next::Closed]);
    }
}
