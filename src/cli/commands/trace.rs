//! `mica trace`

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::looking;
use crate::cli::trace_json;
use crate::cli::trace_text;
use crate::engine;
use crate::engine::live::Listener;
use crate::engine::live::News;
use crate::env;
use crate::live::Event;
use crate::live::Filter;
use crate::live::Op;
use crate::live::filter::PATTERN_MAX;
use crate::live::summary::Summary;
use crate::path::Escaped;
use crate::sys::signal_wait::Signals;

/// How long a wait without news is: then it is looked whether anybody still reads what is printed.
const LOOK: Duration = Duration::from_millis(200);

/// How long a wait is once a signal came: what was told then may still be on its way.
const LAST: Duration = Duration::from_millis(50);

/// Arguments of `mica trace`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Events come from the server of the mount itself. A listener that does not keep up loses events (\"... 12 events lost\"); the mount \
never waits for it. What this command does on the mount itself is not shown.

Operations: lookup getattr setattr readlink symlink mknod mkdir unlink rmdir rename link open create tmpfile read write statfs release \
fsync setxattr getxattr listxattr removexattr opendir readdir readdirplus releasedir ioctl fallocate lseek copy_file_range forget \
copyup (a file moves to the upper directory before its first change)

The kernel keeps names, attributes and data: what it answers by itself is no event.")]
pub struct Args {
    /// A mountpoint, a running container, or a path on a mount (then only what is below it)
    #[arg(value_name = "MOUNT|CONTAINER|PATH")]
    target: OsString,
    #[command(flatten)]
    wanted: Wanted,
    /// Print one JSON object for each event
    #[arg(long)]
    json: bool,
    /// Write events to FILE as JSON, one on a line, instead of printing them
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print sums at the end instead of events: at Ctrl-C, when the mount ends, or with -n
    #[arg(long)]
    summary: bool,
    /// End after so many events
    #[arg(short = 'n', long = "count", value_name = "COUNT")]
    count: Option<u64>,
}

/// Which operations are told; shared with the shell of `mica debug`.
#[derive(Debug, Default, clap::Args)]
pub struct Wanted {
    /// Only these operations, separated by commas [default: all but forget]
    #[arg(long, value_name = "OP,...", value_delimiter = ',')]
    op: Vec<String>,
    /// Only paths that match: * is any text, slashes too; ? is one byte. Without a slash, the last name alone is matched
    #[arg(long, value_name = "GLOB")]
    path: Option<OsString>,
    /// Only this process, with its threads
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Only what took as long as this or longer: 500us, 5ms, 1s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    slow: Option<Duration>,
}

impl Wanted {
    /// As the server understands it.
    ///
    /// # Errors
    /// For an operation that there is not; for a pattern that is too long.
    pub fn filter(&self) -> Result<Filter, CliError> {
        let unknown = |name: &String| {
            let name = Escaped(name.as_bytes());
            CliError::new(format!("'{name}' is no operation")).hint("mica trace --help lists them")
        };
        let op = |name: &String| Op::of_name(name).ok_or_else(|| unknown(name));
        let ops = self.op.iter().map(op).collect::<Result<Vec<_>, _>>()?;
        let pattern = self.path.as_ref().map(|path| path.as_bytes().to_vec());
        if pattern.as_ref().is_some_and(|pattern| pattern.len() > PATTERN_MAX) {
            return Err(CliError::new(format!("a pattern may have {PATTERN_MAX} bytes")));
        }
        let filter = Filter { pattern, pid: self.pid, ..Filter::default() };
        Ok(filter.with_ops(&ops).with_slow(self.slow.unwrap_or_default()))
    }
}

/// Reads a duration with its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| "a number and a unit: 500us, 5ms, 1s".to_owned())?;
    let seconds = match text.get(digits.len()..).unwrap_or_default() {
        "ns" => number / 1e9,
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        _ => return Err("the unit is one of ns, us, ms, s".to_owned()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let filter = args.wanted.filter()?;
    let target = looking::mounted(&args.target, context)?;
    let mut sink = Sink::new(args)?;
    // From here on Ctrl-C ends the listening, not this process: sums are still to be printed, or a file to be completed.
    let ends_late = args.summary || args.record.is_some();
    let stop = ends_late.then(Signals::block).transpose().map_err(engine::Error::from)?;
    let mut listener = target.listen(&filter)?;
    let end = until_end(&mut listener, args.count, context, &mut sink, stop.as_ref())?;
    sink.finish(context)?;
    if let Some(why) = end {
        context.out.flush()?;
        // With standard error gone there is nobody left to tell.
        writeln!(std::io::stderr(), "mica: {why}").unwrap_or_default();
    }
    Ok(())
}

/// Where events go.
struct Sink {
    summary: Option<Summary>,
    record: Option<std::io::BufWriter<std::fs::File>>,
    json: bool,
    /// One event as JSON, used again and again.
    line: Vec<u8>,
}

impl Sink {
    fn new(args: &Args) -> Result<Self, CliError> {
        let create = |path: &PathBuf| {
            let file = std::fs::File::create(path);
            file.map_err(|e| CliError::new(format!("cannot record to {}: {e}", path.display())))
        };
        let record =
            args.record.as_ref().map(create).transpose()?.map(|file| std::io::BufWriter::with_capacity(1 << 18, file));
        Ok(Self { summary: args.summary.then(Summary::default), record, json: args.json, line: Vec::new() })
    }

    fn event(&mut self, event: &Event, context: &mut Context) -> std::io::Result<()> {
        if let Some(summary) = &mut self.summary {
            summary.add(event);
        }
        self.line.clear();
        if self.record.is_some() || self.json && self.summary.is_none() {
            trace_json::line(event, &mut self.line);
        }
        match (&mut self.record, &self.summary) {
            (Some(file), _) => file.write_all(&self.line),
            (None, Some(_)) => Ok(()),
            (None, None) if self.json => context.out.write_all(&self.line),
            (None, None) => writeln!(context.out, "{}", trace_text::line(event)),
        }
    }

    fn lost(&mut self, count: u64, context: &mut Context) -> std::io::Result<()> {
        if let Some(summary) = &mut self.summary {
            summary.lost += count;
        }
        let json = || serde_json::json!({ "lost": count });
        match (&mut self.record, &self.summary) {
            (Some(file), _) => writeln!(file, "{}", json()),
            (None, Some(_)) => Ok(()),
            (None, None) if self.json => writeln!(context.out, "{}", json()),
            (None, None) => writeln!(context.out, "... {count} events lost"),
        }
    }

    fn finish(&mut self, context: &mut Context) -> Result<(), CliError> {
        if let Some(file) = &mut self.record {
            file.flush()?;
        }
        if let Some(summary) = &self.summary {
            if self.json {
                writeln!(context.out, "{:#}", summary.json())?;
            } else {
                trace_text::summary(summary, &mut context.out)?;
            }
        }
        Ok(())
    }
}

/// Takes events until enough came, the mount ends, or nobody reads any more; what is to be said of the end.
fn until_end(
    listener: &mut Listener,
    mut left: Option<u64>,
    context: &mut Context,
    sink: &mut Sink,
    stop: Option<&Signals>,
) -> Result<Option<&'static str>, CliError> {
    // What is recorded needs no reader.
    let watched = sink.record.is_none();
    let stopped = || stop.is_some_and(|signals| !matches!(signals.came(), Ok(None)));
    // What was told before the signal came is taken still.
    let mut last: Option<Instant> = None;
    while left != Some(0) && last.is_none_or(|last| env::monotonic() < last) {
        if last.is_none() && stopped() {
            last = Some(env::monotonic() + LOOK);
        }
        match listener.next(if last.is_some() { LAST } else { LOOK })? {
            News::Event(event) => {
                sink.event(&event, context)?;
                left = left.map(|n| n - 1);
            }
            News::Lost(count) => sink.lost(count, context)?,
            News::Ended => return Ok(Some("the mount has ended")),
            News::Gone => return Ok(Some("the server of the mount is gone")),
            News::Quiet if last.is_some() => break,
            News::Quiet => {}
        }
        if !listener.has_more() {
            context.out.flush()?;
            if watched {
                context.out.still_read()?;
            }
        }
    }
    Ok(None)
}
