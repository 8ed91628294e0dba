//! What a listener can make of many events: a table by operation, and the paths that cost most.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::json;

use super::event::Event;
use super::op::Op;
use crate::path::Escaped;

/// How many paths are remembered of each kind; further ones are counted together.
const PATHS_MAX: usize = 16 * 1024;
/// Classes of durations: 16 for each power of two.
const CLASSES: usize = 64 * 16;

/// Sums over events.
#[derive(Debug, Default)]
pub struct Summary {
    rows: HashMap<Op, Durations>,
    copied: Paths,
    missing: Paths,
    /// Events that were lost, and are in no sum.
    pub lost: u64,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The operation.
    pub op: Op,
    /// How many.
    pub count: u64,
    /// How many of them failed. A name that is not there is no failure.
    pub errors: u64,
    /// The time of all, in nanoseconds.
    pub total: u64,
    /// Half of them took no longer, in nanoseconds; within 5 percent.
    pub p50: u64,
    /// 99 of 100 took no longer, in nanoseconds; within 5 percent.
    pub p99: u64,
}

/// Sums by path.
#[derive(Debug, Default)]
struct Paths {
    sums: HashMap<Vec<u8>, (u64, u64)>,
    rest: (u64, u64),
}

impl Paths {
    fn add(&mut self, path: &[u8], bytes: u64) {
        let sum = if self.sums.contains_key(path) || self.sums.len() < PATHS_MAX {
            self.sums.entry(path.to_vec()).or_default()
        } else {
            &mut self.rest
        };
        *sum = (sum.0 + 1, sum.1.saturating_add(bytes));
    }

    /// Path, how often, bytes: most bytes first, then the most often, then by name.
    fn sorted(&self) -> Vec<(&[u8], u64, u64)> {
        let mut all: Vec<_> = self.sums.iter().map(|(path, (n, bytes))| (path.as_slice(), *n, *bytes)).collect();
        all.sort_by(|a, b| (b.2, b.1).cmp(&(a.2, a.1)).then(a.0.cmp(b.0)));
        all
    }
}

#[derive(Debug)]
struct Durations {
    count: u64,
    errors: u64,
    total: u64,
    classes: Box<[u64; CLASSES]>,
}

impl Default for Durations {
    fn default() -> Self {
        Self { count: 0, errors: 0, total: 0, classes: Box::new([0; CLASSES]) }
    }
}

/// The class of a duration: the position of its highest bit, and the four bits below.
fn class(nanos: u64) -> usize {
    let high = nanos.checked_ilog2().unwrap_or(0);
    let below = if high >= 4 { nanos >> (high - 4) & 15 } else { nanos << (4 - high) & 15 };
    (high as usize) << 4 | usize::try_from(below).unwrap_or(0)
}

/// The middle of a class.
fn middle(class: usize) -> u64 {
    let (high, below) = (class >> 4, (class & 15) as u64);
    let scale = |sixteenths: u64| u64::try_from((u128::from(sixteenths) << high) >> 5).unwrap_or(u64::MAX);
    // From (16 + below) to (17 + below) sixteenths of the power of two.
    scale(2 * (16 + below) + 1)
}

impl Durations {
    fn quantile(&self, of_hundred: u64) -> u64 {
        let wanted = (self.count * of_hundred).div_ceil(100).max(1);
        let mut seen = 0;
        for (at, n) in self.classes.iter().enumerate() {
            seen += n;
            if seen >= wanted {
                return middle(at);
            }
        }
        0
    }
}

impl Summary {
    /// Adds one event.
    pub fn add(&mut self, event: &Event) {
        let row = self.rows.entry(event.op).or_default();
        row.count += 1;
        row.errors += u64::from(event.errno != 0 && !event.is_negative_lookup());
        row.total = row.total.saturating_add(event.took);
        if let Some(n) = row.classes.get_mut(class(event.took)) {
            *n += 1;
        }
        if event.op == Op::CopyUp && event.errno == 0 {
            self.copied.add(&event.path, event.bytes);
        }
        if event.is_negative_lookup() {
            self.missing.add(&event.path, 0);
        }
    }

    /// By operation, the one that took the longest first.
    pub fn rows(&self) -> Vec<Row> {
        let row = |(op, d): (&Op, &Durations)| Row {
            op: *op,
            count: d.count,
            errors: d.errors,
            total: d.total,
            p50: d.quantile(50),
            p99: d.quantile(99),
        };
        let mut rows: Vec<_> = self.rows.iter().map(row).collect();
        rows.sort_by(|a, b| b.total.cmp(&a.total).then(a.op.cmp(&b.op)));
        rows
    }

    /// Copy-ups by path: path, how many, bytes; most bytes first.
    pub fn copied(&self) -> Vec<(&[u8], u64, u64)> {
        self.copied.sorted()
    }

    /// Names that were looked for in vain, by path, the most often first.
    pub fn missing(&self) -> Vec<(&[u8], u64)> {
        self.missing.sorted().into_iter().map(|(path, n, _)| (path, n)).collect()
    }

    /// As JSON; paths escaped as everywhere.
    pub fn json(&self) -> Value {
        let text = |path: &[u8]| Escaped(path).to_string();
        let rows = self.rows().into_iter().map(|r| {
            json!({ "op": r.op.name(), "count": r.count, "errors": r.errors, "total_ns": r.total, "p50_ns": r.p50, "p99_ns": r.p99 })
        });
        let copied =
            self.copied().into_iter().map(|(p, n, bytes)| json!({ "path": text(p), "count": n, "bytes": bytes }));
        let missing = self.missing().into_iter().map(|(p, n)| json!({ "path": text(p), "count": n }));
        json!({
            "schema": 1,
            "operations": rows.collect::<Vec<_>>(),
            "copy_ups": copied.collect::<Vec<_>>(),
            "negative_lookups": missing.collect::<Vec<_>>(),
            "lost": self.lost,
        })
    }
}
