//! The results: kept as JSON, shown as a table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::Result;
use crate::subject::Subject;
use crate::workload::Measured;
use crate::workload::ROUND_TRIP;
use crate::workload::Unit;
use crate::workload::Workload;

/// What one workload gave, by subject.
#[derive(Debug, Default)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// Bytes instead of nanoseconds.
    pub bytes: bool,
    values: BTreeMap<String, Vec<f64>>,
    failures: BTreeMap<String, String>,
}

impl Row {
    /// Whether it is a workload's time, which means and the chart are made of.
    pub fn is_work(&self) -> bool {
        !self.bytes && self.name != ROUND_TRIP
    }

    /// The median of a subject.
    pub fn median(&self, subject: &str) -> Option<f64> {
        let mut values = self.values.get(subject)?.clone();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        match n % 2 {
            1 => values.get(n / 2).copied(),
            _ => Some((values.get(n.checked_sub(2)? / 2)? + values.get(n / 2)?) / 2.0),
        }
    }
}

/// All results of a run.
#[derive(Debug)]
pub struct Report {
    head: Value,
    /// The subjects in the order in which they were given.
    pub subjects: Vec<String>,
    /// By workload.
    pub rows: Vec<Row>,
}

fn first_line(path: &str, prefix: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(prefix)).unwrap_or_default();
    line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
}

/// The peer of a ratio: the kernel's overlayfs.
pub const KERNEL: &str = "overlayfs";
/// No union, so no peer.
pub const PLAIN: &str = "plain";

impl Report {
    /// An empty one.
    pub fn new(commit: &str, quick: bool, rounds: usize, subjects: &[Subject]) -> Self {
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let head = json!({
            "benchmark": "fs",
            "commit": commit,
            "form": if quick { "quick" } else { "full" },
            "rounds": rounds,
            "kernel": first_line("/proc/sys/kernel/osrelease", ""),
            "machine": format!(
                "{cpus} x {}, {}",
                first_line("/proc/cpuinfo", "model name"),
                first_line("/proc/meminfo", "MemTotal")
            ),
            "fio": crate::fio::version(),
        });
        Self { head, subjects: subjects.iter().map(|s| s.name.clone()).collect(), rows: Vec::new() }
    }

    fn row(&mut self, workload: &Workload) -> &mut Row {
        let at = self.rows.iter().position(|r| r.name == workload.name).unwrap_or_else(|| {
            self.rows.push(Row { name: workload.name.to_owned(), ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Notes a result.
    pub fn add(&mut self, workload: &Workload, subject: &Subject, measured: Measured) {
        let row = self.row(workload);
        row.bytes = measured.unit == Unit::Bytes;
        row.values.entry(subject.name.clone()).or_default().push(measured.value);
    }

    /// Notes that a subject cannot do it.
    pub fn add_failure(&mut self, workload: &Workload, subject: &Subject, why: &str) {
        self.row(workload).failures.insert(subject.name.clone(), why.to_owned());
    }

    /// Whether a subject failed before: once is enough.
    pub fn is_hopeless(&self, workload: &Workload, subject: &Subject) -> bool {
        self.rows.iter().any(|r| r.name == workload.name && r.failures.contains_key(&subject.name))
    }

    /// The subject whose figures are compared with the others': mica's first.
    pub fn ours(&self) -> &str {
        self.subjects.iter().find(|s| s.starts_with("mica")).map_or("mica", String::as_str)
    }

    fn is_peer(subject: &str) -> bool {
        subject != PLAIN && subject != KERNEL && !subject.starts_with("mica")
    }

    /// A subject's median by the kernel's.
    pub fn by_kernel(&self, row: &Row, subject: &str) -> Option<f64> {
        Some(row.median(subject)? / row.median(KERNEL)?)
    }

    /// Our median by that of the best FUSE peer.
    pub fn by_best_peer(&self, row: &Row) -> Option<f64> {
        let peers = self.subjects.iter().filter(|s| Self::is_peer(s)).filter_map(|s| row.median(s));
        Some(row.median(self.ours())? / peers.min_by(f64::total_cmp)?)
    }

    /// What the cheapest request takes here, of our server.
    pub fn round_trip(&self) -> Option<Measured> {
        let row = self.rows.iter().find(|row| row.name == ROUND_TRIP)?;
        Some(Measured { value: row.median(self.ours())?, unit: Unit::Nanos })
    }

    fn geometric_mean(ratios: impl Iterator<Item = f64>) -> Option<f64> {
        let logs: Vec<f64> = ratios.map(f64::ln).collect();
        (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
    }

    /// The results as JSON.
    pub fn json(&self) -> Value {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                json!({ "workload": row.name, "unit": if row.bytes { "bytes" } else { "ns" },
                        "values": row.values, "failures": row.failures })
            })
            .collect();
        json!({ "run": self.head, "subjects": self.subjects, "results": rows })
    }

    /// Results that were kept.
    pub fn read(path: &Path) -> Result<Self> {
        let kept: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        let rows = kept["results"].as_array().ok_or("no results")?.iter().map(|row| {
            Ok(Row {
                name: row["workload"].as_str().ok_or("a result without a name")?.to_owned(),
                bytes: row["unit"] == "bytes",
                values: serde_json::from_value(row["values"].clone())?,
                failures: serde_json::from_value(row["failures"].clone())?,
            })
        });
        Ok(Self {
            head: kept["run"].clone(),
            subjects: serde_json::from_value(kept["subjects"].clone())?,
            rows: rows.collect::<Result<_>>()?,
        })
    }

    /// Writes `fs.json`, `fs.md` and `fs.svg` (of the quick form: `fs-quick`).
    pub fn write(&self, dir: &Path) -> Result<()> {
        let stem = if self.head["form"] == "quick" { "fs-quick" } else { "fs" };
        fs::create_dir_all(dir)?;
        let at = |end: &str| dir.join(format!("{stem}.{end}"));
        fs::write(at("json"), serde_json::to_string_pretty(&self.json())? + "\n")?;
        fs::write(at("md"), self.markdown())?;
        Ok(fs::write(at("svg"), crate::chart::draw(self))?)
    }

    /// The results as a table.
    pub fn markdown(&self) -> String {
        let text = |key: &str| self.head[key].to_string().replace('"', "");
        let ours = self.ours();
        let floor = self.round_trip().map_or_else(String::new, |floor| {
            format!(" One round trip to a server took {floor}: nothing that asks it is faster.")
        });
        // Older results have no such word: their programs were all our own.
        let tool = self.head["fio"].as_str().map_or_else(String::new, |fio| {
            format!(" Reads and writes that are big, random or 4k, appends and fsyncs are done by {fio}.")
        });
        let mut out = format!(
            "# Filesystem benchmark, {} form\n\ncommit {}, kernel {}, {}; medians of {} rounds; less is better.{floor}{tool}\n\n",
            text("form"),
            text("commit"),
            text("kernel"),
            text("machine"),
            text("rounds")
        );
        out += &format!("| workload | {} | {ours} / {KERNEL} | {ours} / best peer |\n", self.subjects.join(" | "));
        out += &format!("|---|{}\n", "--:|".repeat(self.subjects.len() + 2));
        let ratio = |r: Option<f64>| r.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
        for row in &self.rows {
            let unit = if row.bytes { Unit::Bytes } else { Unit::Nanos };
            let cells: Vec<_> = self
                .subjects
                .iter()
                .map(|s| match row.median(s) {
                    Some(value) => Measured { value, unit }.to_string(),
                    None if row.failures.contains_key(s) => "fails".to_owned(),
                    None => "-".to_owned(),
                })
                .collect();
            let (kernel, peer) = (self.by_kernel(row, ours), self.by_best_peer(row));
            out += &format!("| {} | {} | {} | {} |\n", row.name, cells.join(" | "), ratio(kernel), ratio(peer));
        }
        let timed = || self.rows.iter().filter(|r| r.is_work());
        let means =
            self.subjects.iter().map(|s| ratio(Self::geometric_mean(timed().filter_map(|r| self.by_kernel(r, s)))));
        let peer = Self::geometric_mean(timed().filter_map(|r| self.by_best_peer(r)));
        let means: Vec<_> = means.collect();
        let own = Self::geometric_mean(timed().filter_map(|r| self.by_kernel(r, ours)));
        out += &format!("| geometric mean / {KERNEL} | {} | {} | {} |\n", means.join(" | "), ratio(own), ratio(peer));
        let failures =
            self.rows.iter().flat_map(|r| r.failures.iter().map(move |(s, why)| format!("- {}, {s}: {why}\n", r.name)));
        let failures: String = failures.collect();
        if !failures.is_empty() {
            out += &format!("\nWhat failed:\n\n{failures}");
        }
        out
    }
}
