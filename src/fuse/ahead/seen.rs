//! What was asked of which directory, and by whom: enough to tell who goes through a directory from who takes a file here and there.
//!
//! Two tables of fixed size; who comes to a place that another has takes it over. What is forgotten that way is only noticed again.

use parking_lot::Mutex;

use super::order::Order;

/// How many names of a directory must be looked up until it is listed.
const LOOKUPS: u32 = 8;
/// How many names are listed for each that was looked up.
const LISTED: u32 = 32;
/// How many files must be read one behind the other until the next are read ahead.
pub(super) const RUN: usize = 4;
/// For how many directories it is believed that a program that went through one goes through the next, too: at first, and at most.
const TRUST: (u32, u32) = (4, 64);

const DIRS: usize = 256;
const READERS: usize = 64;

/// The tables.
#[derive(Debug)]
pub(super) struct Seen {
    dirs: Box<[Mutex<Dir>]>,
    readers: Box<[Mutex<Reader>]>,
}

/// A directory. Number 0 is none.
#[derive(Debug, Clone, Copy, Default)]
struct Dir {
    ino: u64,
    /// Names that were looked up and found.
    found: u32,
    /// At how many of them it is listed next.
    list_at: u32,
    /// It was listed, so its names are known.
    listed: bool,
    /// Files that were read, the last one last.
    recent: [u64; RUN],
    reads: u32,
    /// At how many of them it is looked again whether they come in an order.
    read_at: u32,
    /// Something is being done for it.
    busy: bool,
}

/// A program that reads files. Number 0 is none.
#[derive(Debug, Clone, Copy, Default)]
struct Reader {
    pid: u32,
    /// The file that it read last.
    last: u64,
    /// It asks for the attributes of what it has read.
    asks: bool,
    /// The order in which it goes through directories, for so many more of them.
    order: Option<Order>,
    left: u32,
    /// For how many it was believed the last time.
    trust: u32,
}

/// That a program reads a directory's files one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The program.
    pub pid: u32,
    /// The last files that were read, in turn; with an order only the last one counts.
    pub recent: [u64; RUN],
    /// The order, where it is known from another directory.
    pub order: Option<Order>,
    /// Their attributes are asked for, too, once they were read.
    pub asks: bool,
    /// The names are known already.
    pub listed: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            dirs: std::iter::repeat_with(Mutex::default).take(DIRS).collect(),
            readers: std::iter::repeat_with(Mutex::default).take(READERS).collect(),
        }
    }
}

impl Seen {
    #[allow(clippy::indexing_slicing, reason = "the remainder is below the length")]
    fn dir<T>(&self, ino: u64, change: impl FnOnce(&mut Dir) -> T) -> T {
        // Numbers of directories that were made together are close to each other.
        let place = (ino.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % DIRS;
        let mut dir = self.dirs[place].lock();
        if dir.ino != ino {
            *dir = Dir { ino, list_at: LOOKUPS, read_at: RUN as u32, ..Dir::default() };
        }
        change(&mut dir)
    }

    #[allow(clippy::indexing_slicing, reason = "the remainder is below the length")]
    fn reader<T>(&self, pid: u32, change: impl FnOnce(&mut Reader) -> T) -> T {
        let mut reader = self.readers[pid as usize % READERS].lock();
        if reader.pid != pid {
            *reader = Reader { pid, ..Reader::default() };
        }
        change(&mut reader)
    }

    /// A name in the directory `dir` was looked up and found. How many of its names are to be listed now, if it is worth it.
    pub(super) fn looked_up(&self, dir: u64) -> Option<u32> {
        self.dir(dir, |dir| {
            dir.found = dir.found.saturating_add(1);
            if dir.found < dir.list_at || dir.busy {
                return None;
            }
            dir.list_at = dir.found.saturating_mul(2);
            (dir.busy, dir.listed) = (true, true);
            Some(dir.found.saturating_mul(LISTED))
        })
    }

    /// The file `file` of `dir` was read from its start by `pid`. Tells when the next may be worth reading.
    pub(super) fn read(&self, pid: u32, dir: u64, file: u64) -> Option<Run> {
        let (order, asks) = self.reader(pid, |reader| {
            reader.last = file;
            (reader.order.filter(|_| reader.left > 0), reader.asks)
        });
        let run = self.dir(dir, |dir| {
            dir.recent.rotate_left(1);
            if let Some(last) = dir.recent.last_mut() {
                *last = file;
            }
            dir.reads = dir.reads.saturating_add(1);
            if dir.busy || (order.is_none() && dir.reads < dir.read_at) {
                return None;
            }
            dir.read_at = dir.reads.saturating_mul(2);
            dir.busy = true;
            let listed = std::mem::replace(&mut dir.listed, true);
            Some(Run { pid, recent: dir.recent, order, asks, listed })
        });
        run.inspect(|_| self.reader(pid, |reader| reader.left = reader.left.saturating_sub(1)))
    }

    /// The attributes of `node` were asked for by `pid`.
    pub(super) fn asked(&self, pid: u32, node: u64) {
        self.reader(pid, |reader| reader.asks |= node == reader.last);
    }

    /// The directory `dir` is listed by `pid` from its start. Tells when it will read the files, too.
    pub(super) fn listed(&self, pid: u32, dir: u64) -> Option<Run> {
        let run = self.reader(pid, |reader| {
            let order = reader.order.filter(|_| reader.left > 0)?;
            reader.left -= 1;
            Some(Run { pid, recent: [0; RUN], order: Some(order), asks: reader.asks, listed: true })
        });
        let is_free = self.dir(dir, |dir| {
            dir.listed = true;
            let was_free = !dir.busy;
            dir.busy |= run.is_some();
            was_free
        });
        run.filter(|_| is_free)
    }

    /// What was to be done for the directory is done.
    pub(super) fn done(&self, dir: u64) {
        self.dir(dir, |dir| dir.busy = false);
    }

    /// A program was found to read files in an order; that is believed of the next directories. Each time that it turns out right, for
    /// longer: in between it must show again, in a directory in which nothing was read ahead of it.
    pub(super) fn trust(&self, pid: u32, order: Order) {
        self.reader(pid, |reader| {
            let (first, most) = TRUST;
            reader.trust = (reader.trust * 2).clamp(first, most);
            (reader.order, reader.left) = (Some(order), reader.trust);
        });
    }

    /// A program that was believed to read in an order does not.
    pub(super) fn distrust(&self, pid: u32) {
        self.reader(pid, |reader| (reader.order, reader.left, reader.trust) = (None, 0, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_listed_after_some_lookups_and_again_after_twice_as_many() {
        let seen = Seen::default();
        let at: Vec<(u32, u32)> = (1..=40)
            .filter_map(|n| {
                let most = seen.looked_up(7);
                seen.done(7);
                most.map(|most| (n, most))
            })
            .collect();
        assert_eq!(at, [(8, 256), (16, 512), (32, 1024)]);
    }

    #[test]
    fn nothing_is_begun_for_a_directory_twice_at_a_time() {
        let seen = Seen::default();
        let mut begun = (0..100).filter_map(|_| seen.looked_up(7));
        assert!(begun.next().is_some());
        assert!(begun.next().is_none());
        seen.done(7);
        assert!(seen.looked_up(7).is_some());
    }

    #[test]
    fn four_files_make_a_run_and_one_does_for_who_is_trusted() {
        let seen = Seen::default();
        let runs: Vec<_> = (1..=4).map(|file| seen.read(9, 7, file)).collect();
        assert_eq!(runs[..3], [None, None, None]);
        let run = Run { pid: 9, recent: [1, 2, 3, 4], order: None, asks: false, listed: false };
        assert_eq!(runs[3], Some(run));
        seen.asked(9, 4);
        seen.trust(9, Order::Listed);
        let next = seen.read(9, 8, 30).expect("trusted");
        assert_eq!((next.order, next.asks, next.recent[3]), (Some(Order::Listed), true, 30));
        assert_eq!(seen.read(10, 11, 31), None, "nobody knows this one");
        seen.distrust(9);
        assert_eq!(seen.read(9, 12, 32), None);
    }

    #[test]
    fn trust_runs_out_and_grows_when_it_is_earned_again() {
        let seen = Seen::default();
        let believed = || (100..200).take_while(|dir| seen.listed(9, *dir).is_some()).count();
        assert_eq!(believed(), 0);
        let mut rounds = Vec::new();
        for _ in 0..6 {
            seen.trust(9, Order::Named);
            rounds.push(believed());
            (100..200).for_each(|dir| seen.done(dir));
        }
        assert_eq!(rounds, [4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn attributes_that_are_asked_for_before_anything_was_read_say_nothing() {
        let seen = Seen::default();
        (1..=4).for_each(|file| {
            seen.asked(9, file + 1);
            seen.read(9, 7, file);
        });
        seen.trust(9, Order::Listed);
        assert!(!seen.listed(9, 8).expect("trusted").asks);
    }
}
