//! A queue of what is to be done, which holds little: what comes too late is of no use, and nobody waits to be rid of it.

use parking_lot::Condvar;
use parking_lot::Mutex;
use std::collections::VecDeque;

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

    /// The next item; waits for it.
    pub(super) fn next(&self) -> Next<T> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Next::Closed;
            }
            match state.waiting.pop_front() {
                Some(item) => return Next::Item(item),
                None => self.more.wait(&mut state),
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
        assert_eq!(queue.next(), Next::Item(0));
        assert_eq!(queue.push(7), Ok(()));
        queue.close();
        assert_eq!(queue.push(8), Err(8));
        assert_eq!(queue.next(), Next::Closed, "also of what waited");
    }

    #[test]
    fn who_waits_hears_of_items_and_of_the_end() {
        let queue = std::sync::Arc::new(Queue::<u8>::default());
        let waiting = std::thread::spawn({
            let queue = queue.clone();
            move || [queue.next(), queue.next()]
        });
        queue.push(1).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        queue.close();
        assert_eq!(waiting.join().unwrap(), [Next::Item(1), Next::Closed]);
    }
}
