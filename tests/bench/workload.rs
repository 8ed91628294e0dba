//! What a workload is, and the table of all.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::Result;
use crate::change;
use crate::data;
use crate::fio;
use crate::fixture::Fixture;
use crate::fixture::Stack;
use crate::meta;
use crate::subject::Kind;
use crate::subject::Mounted;
use crate::subject::Subject;

/// One kind of work.
pub struct Workload {
    /// Its name in the results.
    pub name: &'static str,
    /// The layers it stands on.
    pub stack: Stack,
    /// Whether it changes anything: the layers themselves cannot stand for a plain directory then.
    pub writes: bool,
    /// Left out of the quick run.
    pub full_only: bool,
    /// Does it once.
    pub run: fn(&Ctx<'_>) -> Result<Measured>,
}

/// What a workload works on.
pub struct Ctx<'a> {
    /// The mounted tree.
    pub top: PathBuf,
    /// Sizes.
    pub fixture: &'a Fixture,
    /// The mount.
    pub mounted: &'a Mounted,
}

impl Ctx<'_> {
    /// Measures `body`, which does `ops` operations.
    pub fn time(&self, ops: usize, body: impl FnOnce() -> Result<()>) -> Result<Measured> {
        let start = Instant::now();
        body()?;
        Ok(Measured { value: start.elapsed().as_nanos() as f64 / ops as f64, unit: Unit::Nanos })
    }

    /// A path in the tree.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.top.join(name)
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds an operation.
    Nanos,
    /// Bytes an inode.
    Bytes,
}

/// A result; less is better.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The figure.
    pub value: f64,
    /// Of what.
    pub unit: Unit,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Bytes => write!(f, "{:.0} B", self.value),
            Unit::Nanos if self.value >= 1e9 => write!(f, "{:.2} s", self.value / 1e9),
            Unit::Nanos if self.value >= 1e6 => write!(f, "{:.2} ms", self.value / 1e6),
            Unit::Nanos => write!(f, "{:.2} us", self.value / 1e3),
        }
    }
}

impl Workload {
    /// Whether it can be done with this subject.
    pub fn fits(&self, subject: &Subject) -> bool {
        match subject.kind {
            // A copy of a gigabyte is no plain write of one byte.
            Kind::Plain => !(self.name.starts_with("memory") || self.writes && self.stack == Stack::Big),
            Kind::Kernel => !self.name.starts_with("memory"),
            // It takes no more branches than an argument holds, and checks each.
            Kind::Unionfs => !matches!(self.stack, Stack::Deep(n) if n > 60),
            Kind::Overlay => true,
        }
    }

    /// Does it once, on a mount of its own.
    pub fn measure(&self, fixture: &Fixture, subject: &Subject) -> Result<Measured> {
        let place = fixture.base.join("place");
        std::fs::create_dir_all(&place)?;
        let result = self.measure_in(fixture, subject, &place);
        std::fs::remove_dir_all(&place)?;
        // What the last one left to be written is not the next one's to wait for.
        if self.writes {
            rustix::fs::sync();
            std::thread::sleep(Duration::from_millis(50));
        }
        result
    }

    fn measure_in(&self, fixture: &Fixture, subject: &Subject, place: &Path) -> Result<Measured> {
        let mut lowers = fixture.lowers(self.stack);
        if subject.kind == Kind::Plain {
            if matches!(self.stack, Stack::Deep(_)) {
                lowers = lowers.pop().into_iter().collect();
            } else if self.writes && lowers.len() == 1 {
                lowers.push(lowers[0].clone());
            }
        }
        let mounted = subject.mount(&fixture.base, &lowers, place)?;
        (self.run)(&Ctx { top: mounted.top.clone(), fixture, mounted: &mounted })
    }
}

const fn reads(name: &'static str, stack: Stack, run: fn(&Ctx<'_>) -> Result<Measured>) -> Workload {
    Workload { name, stack, writes: false, full_only: false, run }
}

const fn writes(name: &'static str, stack: Stack, run: fn(&Ctx<'_>) -> Result<Measured>) -> Workload {
    Workload { name, stack, writes: true, full_only: false, run }
}

const fn full(workload: Workload) -> Workload {
    Workload { full_only: true, ..workload }
}

/// The floor under all that asks the server; no work of its own, so it counts in no mean.
pub const ROUND_TRIP: &str = "round trip";

/// Every workload.
pub fn all() -> Vec<Workload> {
    vec![
        reads(ROUND_TRIP, Stack::Small, meta::round_trip),
        reads("stat warm, 2 layers", Stack::Small, meta::stat_warm),
        reads("stat cold, 1 layer", Stack::Tree, meta::stat_cold),
        reads("stat miss, 2 layers", Stack::Small, meta::stat_miss),
        reads("stat miss, 10 layers", Stack::Deep(10), meta::stat_miss),
        reads("stat miss, 60 layers", Stack::Deep(60), meta::stat_miss),
        reads("stat miss, 500 layers", Stack::Deep(500), meta::stat_miss),
        full(reads("stat hit, 60 layers", Stack::Deep(60), meta::stat_hit)),
        full(reads("stat hit, 500 layers", Stack::Deep(500), meta::stat_hit)),
        reads("stat miss warm", Stack::Small, meta::stat_miss_warm),
        reads("find cold", Stack::Tree, meta::find_cold),
        reads("find warm", Stack::Tree, meta::find_warm),
        reads("readdir of a wide directory", Stack::Wide, meta::readdir_cold),
        reads("readdir again", Stack::Wide, meta::readdir_warm),
        reads("small read cold", Stack::Tree, data::small_cold),
        reads("small read warm", Stack::Tree, data::small_warm),
        reads("small read warm, 2 clients", Stack::Tree, data::small_warm_2),
        full(reads("small read warm, 4 clients", Stack::Tree, data::small_warm_4)),
        full(reads("small read cold, 2 clients", Stack::Tree, data::small_cold_2)),
        reads("big read cold", Stack::Big, fio::big_cold),
        reads("big read warm", Stack::Big, fio::big_warm),
        reads("random 4k read warm", Stack::Big, fio::random_warm),
        reads("fio: random 4k read warm, 2 jobs", Stack::Big, fio::random_warm_2),
        reads("mmap read warm", Stack::Big, data::mmap_warm),
        reads("fio: mmap read warm", Stack::Big, fio::mmap_warm),
        writes("create empty", Stack::Small, change::create_empty),
        writes("create and write", Stack::Small, change::create_and_write),
        full(writes("create and write, 2 clients", Stack::Small, change::create_and_write_2)),
        writes("mkdir", Stack::Small, change::mkdir),
        writes("rename in upper", Stack::Small, change::rename_upper),
        writes("big write", Stack::Small, fio::big_write),
        writes("4k write", Stack::Small, fio::small_writes),
        writes("append", Stack::Small, fio::append),
        writes("write and fsync", Stack::Small, fio::write_fsync),
        writes("copy-up of small files", Stack::Small, change::copy_up_small),
        writes("one byte into a big file", Stack::Big, change::copy_up_big),
        writes("chmod of a big file", Stack::Big, change::chmod_big),
        writes("chmod of lower files", Stack::Small, change::chmod_lower),
        writes("chown of lower files", Stack::Small, change::chown_lower),
        writes("rename of lower files", Stack::Small, change::rename_lower),
        writes("unlink of lower files", Stack::Small, change::unlink_lower),
        writes("unlink in upper", Stack::Small, change::unlink_upper),
        writes("rm -rf of a merged tree", Stack::Small, change::rm_rf),
        writes("touch during a copy-up", Stack::Big, change::touch_during_copy_up),
        reads("memory an inode", Stack::Tree, meta::memory),
    ]
}
