//! Events of a mount as text and as JSON.

use std::io::Write;

use super::format;
use super::table::Table;
use crate::live::Event;
use crate::live::Op;
use crate::live::summary::Summary;
use crate::path::Escaped;
use crate::sys::Errno;

/// How many paths of each kind a summary shows.
const PATHS_SHOWN: usize = 20;

/// One event on one line.
pub fn line(event: &Event) -> String {
    let mut out = format!("{} {:<11} {:>9}  ", clock(event.at), event.op.name(), took(event.took));
    out.push_str(&if event.path.is_empty() { "-".to_owned() } else { Escaped(&event.path).to_string() });
    let other = Escaped(&event.other);
    match event.op {
        Op::Rename | Op::Link | Op::Symlink | Op::CopyFileRange => out.push_str(&format!(" -> {other}")),
        _ if !event.other.is_empty() => out.push_str(&format!(" {other}")),
        _ => {}
    }
    out.push_str("  ");
    out.push_str(&result(event));
    if event.pid == 0 {
        out.push_str("  kernel");
    } else {
        let comm = if event.comm.is_empty() { "?".to_owned() } else { Escaped(&event.comm).to_string() };
        out.push_str(&format!("  {comm}[{}]", event.pid));
    }
    out
}

/// What came of it, and which layers had a say.
pub fn result(event: &Event) -> String {
    let mut said = String::new();
    if event.errno != 0 {
        said.push_str(&error_name(event.errno));
    }
    let mut add = |text: String| {
        if !said.is_empty() {
            said.push(' ');
        }
        said.push_str(&text);
    };
    match event.op {
        Op::CopyUp => {
            let from = event.steps.first().map_or_else(|| "?".to_owned(), |step| step.place());
            add(format!("{from} -> upper, {}", format::size(event.bytes)));
        }
        Op::Lookup => add(walk(event)),
        _ => {
            if let Some(step) = event.served().filter(|_| event.errno == 0) {
                add(step.place());
            }
            if matches!(event.op, Op::Read | Op::Write) {
                add(format!("{} at {}", format::size(event.bytes), event.offset));
            }
        }
    }
    said
}

/// The layers that a lookup asked: the one that answered, and those above that did not. Runs of the same word are one.
fn walk(event: &Event) -> String {
    let steps = event.steps.as_slice();
    let mut parts = Vec::new();
    for run in steps.chunk_by(|a, b| a.said == b.said && a.layer != 0 && b.layer != 0) {
        let places = match run {
            [first, .., last] => format!("layers {}..{}", first.layer, last.layer),
            [one] => one.place(),
            [] => continue,
        };
        let word = run.first().map_or("", |step| step.said.word());
        parts.push(format!("{places} {word}"));
    }
    if event.more > 0 {
        parts.push(format!("{} more", event.more));
    }
    if parts.is_empty() { "no layer asked".to_owned() } else { parts.join(", ") }
}

/// `ENOENT`, or the number of one that has no name here.
pub fn error_name(errno: u16) -> String {
    let names: &[(Errno, &str)] = &[
        (Errno::PERM, "EPERM"),
        (Errno::NOENT, "ENOENT"),
        (Errno::IO, "EIO"),
        (Errno::ACCESS, "EACCES"),
        (Errno::EXIST, "EEXIST"),
        (Errno::XDEV, "EXDEV"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::ISDIR, "EISDIR"),
        (Errno::INVAL, "EINVAL"),
        (Errno::MFILE, "EMFILE"),
        (Errno::FBIG, "EFBIG"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::ROFS, "EROFS"),
        (Errno::RANGE, "ERANGE"),
        (Errno::NAMETOOLONG, "ENAMETOOLONG"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::NOTEMPTY, "ENOTEMPTY"),
        (Errno::LOOP, "ELOOP"),
        (Errno::NODATA, "ENODATA"),
        (Errno::OPNOTSUPP, "EOPNOTSUPP"),
        (Errno::STALE, "ESTALE"),
        (Errno::DQUOT, "EDQUOT"),
        (Errno::NXIO, "ENXIO"),
        (Errno::NOTTY, "ENOTTY"),
        (Errno::BUSY, "EBUSY"),
    ];
    let known = names.iter().find(|(e, _)| e.raw_os_error() == i32::from(errno));
    known.map_or_else(|| format!("error {errno}"), |(_, name)| (*name).to_owned())
}

/// The time of day (UTC), to the microsecond.
fn clock((secs, nanos): (i64, u32)) -> String {
    let day = secs.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}.{:06}", day / 3600, day / 60 % 60, day % 60, nanos / 1000)
}

/// A duration with three digits.
pub fn took(nanos: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let n = nanos as f64;
    let (value, unit) = match nanos {
        0..1_000_000 => (n / 1e3, "us"),
        1_000_000..1_000_000_000 => (n / 1e6, "ms"),
        _ => (n / 1e9, "s"),
    };
    if value < 10.0 { format!("{value:.2}{unit}") } else { format!("{value:.0}{unit}") }
}

/// Sums as tables.
pub fn summary(summary: &Summary, out: &mut impl Write) -> std::io::Result<()> {
    let mut table = Table::new(&["OPERATION", "COUNT", "ERRORS", "TOTAL", "P50", "P99"]);
    for row in summary.rows() {
        let cells = [row.op.name().to_owned(), row.count.to_string(), row.errors.to_string()];
        table.row(cells.into_iter().chain([row.total, row.p50, row.p99].map(took)).collect());
    }
    table.print(out)?;
    let copied = summary.copied();
    if !copied.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&["COPIED UP", "TIMES", "PATH"]);
        for (path, times, bytes) in copied.iter().take(PATHS_SHOWN) {
            table.row(vec![format::size(*bytes), times.to_string(), Escaped(path).to_string()]);
        }
        table.print(out)?;
        more(copied.len(), out)?;
    }
    let missing = summary.missing();
    if !missing.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&["NOT THERE", "PATH"]);
        for (path, times) in missing.iter().take(PATHS_SHOWN) {
            table.row(vec![times.to_string(), Escaped(path).to_string()]);
        }
        table.print(out)?;
        more(missing.len(), out)?;
    }
    if summary.lost > 0 {
        writeln!(out, "\n... {} events lost, in no sum", summary.lost)?;
    }
    Ok(())
}

fn more(all: usize, out: &mut impl Write) -> std::io::Result<()> {
    match all.checked_sub(PATHS_SHOWN) {
        Some(more) if more > 0 => writeln!(out, "... and {more} more; all with --json"),
        _ => Ok(()),
    }
}
