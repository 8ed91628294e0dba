//! What was asked of which directory, and by whom: enough to tell who goes through directories from who takes a file here and there.
//!
//! Two tables of fixed size; who comes to a place that another has takes it over. What is forgotten that way is only noticed again.

use parking_lot::Mutex;

/// How many names of a directory must be looked up until it is listed.
const LOOKUPS: u32 = 8;
/// How many names are listed for each that was looked up.
const LISTED: u32 = 32;
/// How many files of a directory must be read until it is looked whether they come in an order.
pub(super) const RUN: usize = 4;
/// How many directories a program must come to until it is looked whether they come in an order.
pub(super) const STEPS: usize = 3;
/// For how many directories it is believed that a program which read files reads the next ones, too: at first, and at most. What was
/// read ahead it does not ask for, so it is not seen to read any more.
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
    /// It is being listed. By itself, as looking where files lie in it takes its time, and most often comes to nothing.
    listing: bool,
    /// Something else is being done for it.
    busy: bool,
}

/// A program. Number 0 is none.
#[derive(Debug, Clone, Copy, Default)]
struct Reader {
    pid: u32,
    /// The file that it read last.
    file: u64,
    /// It asks for the attributes of what it has read.
    asks: bool,
    /// It lists the directories that it comes to.
    lists: bool,
    /// The directories that it came to last, the last one last.
    dirs: [u64; STEPS],
    steps: u32,
    /// At how many of them it is looked again whether they come in an order.
    look_at: u32,
    /// They do: each step is told.
    walks: bool,
    /// It reads files, as far as is known, in so many more directories.
    reads: u32,
    /// In how many that was believed the last time.
    trust: u32,
}

/// What a program wants of the directories that it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wants {
    /// It lists them itself.
    pub lists: bool,
    /// It reads files.
    pub reads: bool,
    /// It asks for the attributes of those that it has read.
    pub asks: bool,
}

/// Files of one directory were read, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Their numbers.
    pub recent: [u64; RUN],
    /// Their attributes are asked for, too, once they were read.
    pub asks: bool,
    /// The names of the directory are known already.
    pub listed: bool,
}

/// A program came to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// The program.
    pub pid: u32,
    /// That directory, last, and where it was before.
    pub dirs: [u64; STEPS],
    /// What for.
    pub wants: Wants,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            dirs: std::iter::repeat_with(Mutex::default).take(DIRS).collect(),
            readers: std::iter::repeat_with(Mutex::default).take(READERS).collect(),
        }
    }
}

fn push<const N: usize>(ring: &mut [u64; N], number: u64) {
    ring.rotate_left(1);
    if let Some(last) = ring.last_mut() {
        *last = number;
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
            *reader = Reader { pid, look_at: STEPS as u32, ..Reader::default() };
        }
        change(&mut reader)
    }

    /// A name in the directory `dir` was looked up and found. How many of its names are to be listed now, if it is worth it.
    pub(super) fn looked_up(&self, dir: u64) -> Option<u32> {
        self.dir(dir, |dir| {
            dir.found = dir.found.saturating_add(1);
            if dir.found < dir.list_at || dir.listing {
                return None;
            }
            dir.list_at = dir.found.saturating_mul(2);
            (dir.listing, dir.listed) = (true, true);
            Some(dir.found.saturating_mul(LISTED))
        })
    }

    /// The file `file` of `dir` was read from its start by `pid`. Tells when it may be worth to look where the next ones are.
    pub(super) fn read(&self, pid: u32, dir: u64, file: u64) -> Option<Run> {
        let asks = self.reader(pid, |reader| {
            reader.file = file;
            if reader.reads == 0 {
                let (first, most) = TRUST;
                reader.trust = (reader.trust * 2).clamp(first, most);
            }
            reader.reads = reader.trust;
            reader.asks
        });
        self.dir(dir, |dir| {
            push(&mut dir.recent, file);
            dir.reads = dir.reads.saturating_add(1);
            if dir.busy || dir.reads < dir.read_at {
                return None;
            }
            dir.read_at = dir.reads.saturating_mul(2);
            dir.busy = true;
            let listed = std::mem::replace(&mut dir.listed, true);
            Some(Run { recent: dir.recent, asks, listed })
        })
    }

    /// The files of `dir` are read in an order: the next run is looked for as soon as four more were read.
    pub(super) fn in_order(&self, dir: u64) {
        self.dir(dir, |dir| dir.read_at = dir.reads.saturating_add(RUN as u32));
    }

    /// The attributes of `node` were asked for by `pid`.
    pub(super) fn asked(&self, pid: u32, node: u64) {
        self.reader(pid, |reader| reader.asks |= node == reader.file);
    }

    /// The directory `dir` is listed by `pid` from its start.
    pub(super) fn listed(&self, pid: u32, dir: u64) -> Option<Step> {
        self.dir(dir, |dir| dir.listed = true);
        self.step(pid, dir, |reader| reader.lists = true)
    }

    /// Something in `dir` was looked up, or read, by `pid`.
    pub(super) fn used(&self, pid: u32, dir: u64) -> Option<Step> {
        self.step(pid, dir, |reader| reader.lists = false)
    }

    /// Tells of a step to another directory, where the program walks, or may be found to.
    fn step(&self, pid: u32, dir: u64, new: impl FnOnce(&mut Reader)) -> Option<Step> {
        self.reader(pid, |reader| {
            if reader.dirs.last() == Some(&dir) {
                return None;
            }
            new(reader);
            push(&mut reader.dirs, dir);
            reader.steps = reader.steps.saturating_add(1);
            reader.reads = reader.reads.saturating_sub(1);
            if reader.lists && reader.trust == 0 {
                // It is told all with the listings, and was never seen to read.
                return None;
            }
            if !reader.walks {
                if reader.steps < reader.look_at {
                    return None;
                }
                reader.look_at = reader.steps.saturating_mul(2);
            }
            let wants = Wants { lists: reader.lists, reads: reader.reads > 0, asks: reader.asks };
            Some(Step { pid, dirs: reader.dirs, wants })
        })
    }

    /// Whether the program goes through directories in an order that is known. If not, it is looked again when it came to as many more
    /// as it came to so far.
    pub(super) fn walks(&self, pid: u32, walks: bool) {
        self.reader(pid, |reader| {
            reader.walks = walks;
            reader.look_at = reader.steps.saturating_mul(2).max(STEPS as u32);
        });
    }

    /// Something is done for a directory from now on; `false` when it is so already.
    pub(super) fn begin(&self, dir: u64) -> bool {
        self.dir(dir, |dir| {
            (dir.listed, dir.listing) = (true, true);
            !std::mem::replace(&mut dir.busy, true)
        })
    }

    /// What was to be done for the directory is done.
    pub(super) fn done(&self, dir: u64) {
        self.dir(dir, |dir| (dir.busy, dir.listing) = (false, false));
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
        assert!(seen.begin(7), "something else");
        assert!(!seen.begin(7));
        seen.done(7);
        assert!(seen.begin(7));
        assert_eq!(seen.looked_up(7), None);
    }

    #[test]
    fn four_files_make_a_run_and_four_more_the_next_if_they_come_in_an_order() {
        let runs = |in_order: bool| -> Vec<u64> {
            let seen = Seen::default();
            let mut at = Vec::new();
            for file in 1..=32 {
                if let Some(run) = seen.read(9, 7, file) {
                    assert_eq!(run.recent, [file - 3, file - 2, file - 1, file]);
                    at.push(file);
                    if in_order {
                        seen.in_order(7);
                    }
                    seen.done(7);
                }
            }
            at
        };
        assert_eq!(runs(true), [4, 8, 12, 16, 20, 24, 28, 32]);
        assert_eq!(runs(false), [4, 8, 16, 32]);
    }

    #[test]
    fn steps_are_told_at_times_and_all_of_them_of_who_walks() {
        let seen = Seen::default();
        let told = |dirs: std::ops::Range<u64>| dirs.filter(|dir| seen.used(9, *dir).is_some()).collect::<Vec<_>>();
        assert_eq!(told(1..30), [3, 6, 12, 24]);
        seen.walks(9, true);
        assert_eq!(told(30..40).len(), 10);
        assert_eq!(seen.used(9, 39), None, "no step");
        seen.walks(9, false);
        assert_eq!(told(40..100), [78]);
    }

    #[test]
    fn what_a_program_wants_is_what_it_did_before() {
        let seen = Seen::default();
        seen.walks(9, true);
        let wants = |step: Option<Step>| step.expect("a step").wants;
        assert_eq!(seen.listed(9, 1), None, "who only lists needs nothing");
        seen.asked(9, 99);
        seen.read(9, 1, 50);
        assert_eq!(wants(seen.listed(9, 2)), Wants { lists: true, reads: true, asks: false });
        seen.read(9, 2, 51);
        seen.asked(9, 51);
        assert_eq!(wants(seen.used(9, 3)), Wants { lists: false, reads: true, asks: true });
    }

    #[test]
    fn who_is_not_seen_to_read_is_believed_to_for_longer_each_time() {
        let seen = Seen::default();
        seen.walks(9, true);
        let mut dir = 0;
        let believed: Vec<usize> = (0..6)
            .map(|_| {
                seen.read(9, dir, 50);
                let steps = std::iter::from_fn(|| {
                    dir += 1;
                    seen.used(9, dir).filter(|step| step.wants.reads)
                });
                steps.count()
            })
            .collect();
        assert_eq!(believed, [3, 7, 15, 31, 63, 63]);
    }
}
