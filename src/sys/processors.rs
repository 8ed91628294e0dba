//! The processors of the machine, and on which of them a thread runs.

use rustix::thread::CpuSet;

/// Lets the thread run on one processor only; `false` where it may not run there.
pub fn pin_thread(processor: usize) -> bool {
    let mut set = CpuSet::new();
    if processor >= CpuSet::MAX_CPU {
        return false;
    }
    set.set(processor);
    rustix::thread::sched_setaffinity(None, &set).is_ok()
}

/// Whether this thread may run on a processor.
pub fn may_run_on(processor: usize) -> bool {
    let set = rustix::thread::sched_getaffinity(None);
    set.is_ok_and(|set| processor < CpuSet::MAX_CPU && set.is_set(processor))
}

/// How many processors this machine may ever have, as the kernel numbers them; `None` where it does not say.
pub fn possible() -> Option<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").ok()?;
    count(text.trim())
}

/// The length of a list like `0-3,5`.
fn count(list: &str) -> Option<usize> {
    let length = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').map(length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_processors_is_counted() {
        let said = ["0-1", "0", "0-3,5", "", "3-1", "x"].map(count);
        assert_eq!(said, [Some(2), Some(1), Some(5), None, None, None]);
    }
}
