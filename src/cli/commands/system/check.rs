//! `mica system check`, which is also `mica check` without a directory.

use std::io::IsTerminal;
use std::io::Write;

use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use serde_json::Value;
use serde_json::json;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::store::Store;
use crate::store::check::Outcome;
use crate::store::check::Problem;
use crate::store::check::Report;
use crate::store::check::User;
use crate::store::check::Watch;

/// Arguments of `mica system check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every byte of every layer is read. A repair needs the store for itself. It removes what is damaged, so \
                        that 'mica load' brings it back, and what nothing refers to; what containers wrote is \
                        never touched.\n\n\
                        Exit code: 0 nothing is wrong, or all of it was repaired; 1 something is wrong."
)]
pub struct Args {
    /// Remove what is damaged or left over, and make anew what can be
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let bar = Bar::new(args.quiet || args.json);
    let report = if args.repair { repair(&store, &bar)? } else { store.check(&bar)? };
    bar.0.finish_and_clear();
    let left = report.unsettled();
    if args.json {
        writeln!(context.out, "{:#}", document(&store, &report))?;
        return if left == 0 { Ok(()) } else { Err(CliError::answered(1)) };
    }
    for problem in &report.problems {
        writeln!(context.out, "{}", line(problem))?;
    }
    for line in harmless(&report) {
        writeln!(context.out, "{line}")?;
    }
    if left == 0 {
        let read = report.checked;
        let what = if report.problems.is_empty() { "whole" } else { "whole again" };
        let counts = [
            format::count(read.images, "image", "images"),
            format::count(read.layers, "layer", "layers"),
            format::count(read.objects, "object", "objects"),
            format::count(read.documents, "document", "documents"),
        ];
        return Ok(writeln!(context.out, "the store is {what}: checked {}", counts.join(", "))?);
    }
    let error = CliError::new(format!("{} in the store", format::count(left, "problem", "problems")));
    Err(if args.repair {
        error.hint("'mica load' of the named images brings back what was damaged")
    } else {
        error.hint("'mica system check --repair' removes what is damaged; loading the images again brings it back")
    })
}

fn repair(store: &Store, bar: &Bar) -> Result<Report, CliError> {
    let busy = || {
        CliError::new("another mica is at work in this store, and a repair needs it for itself")
            .hint("wait for its end and try again")
    };
    let guard = store.try_collecting()?.ok_or_else(busy)?;
    Ok(store.repair(&guard, bar)?)
}

fn line(problem: &Problem) -> String {
    let text = format!("{}: {}", problem.place(), problem.why);
    match &problem.outcome {
        Outcome::Found => text,
        Outcome::Repaired(how) => format!("{text}: repaired: {how}"),
        Outcome::LoadAgain => format!("{text}: removed, load the image again"),
        Outcome::Left(what) => format!("{text}: not repaired: {what}"),
        Outcome::Failed(e) => format!("{text}: the repair failed: {e}"),
    }
}

/// What is no problem, but takes space.
fn harmless(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let (layers, objects, documents) = (report.loose_layers, report.loose_objects, report.loose_blobs);
    if layers + objects + documents > 0 {
        let done = if report.collected { "removed" } else { "'mica system prune' or '--repair' removes them" };
        let size = format::size(report.loose_bytes);
        let counts = [
            format::count(layers, "layer", "layers"),
            format::count(objects, "object", "objects"),
            format::count(documents, "document", "documents"),
        ];
        lines.push(format!("unreferenced: {}, {size}: {done}", counts.join(", ")));
    }
    if report.leftovers > 0 {
        let done = if report.collected { "removed" } else { "the next 'mica load' or '--repair' removes them" };
        let files = format::count(report.leftovers, "file", "files");
        lines.push(format!("left by killed commands: {files}: {done}"));
    }
    if report.busy {
        lines.push("another mica is at work: what it is writing was not looked at".to_owned());
    }
    lines
}

/// `{ "schema": 1, "store", "unsettled": COUNT, "problems": [{ "fault": TAG, "what", "users": [{ "kind", "name", "layer", "of" }],
/// "digest": TEXT | null, "path": TEXT | null, "why", "outcome": TAG, "detail": TEXT | null }], "unreferenced": { "layers",
/// "objects", "documents", "bytes" }, "leftovers", "busy", "collected", "checked": { ... } }`
fn document(store: &Store, report: &Report) -> Value {
    let user = |user: &User| json!({ "kind": user.what, "name": user.name, "layer": user.number, "of": user.count });
    let problem = |p: &Problem| {
        let (tag, detail) = match &p.outcome {
            Outcome::Found => ("found", None),
            Outcome::Repaired(how) => ("repaired", Some((*how).to_owned())),
            Outcome::LoadAgain => ("load-again", None),
            Outcome::Left(what) => ("left", Some((*what).to_owned())),
            Outcome::Failed(e) => ("failed", Some(e.clone())),
        };
        json!({
            "fault": p.fault.tag(), "what": p.what, "users": p.users.iter().map(user).collect::<Vec<_>>(),
            "digest": p.layer.map(|digest| digest.to_string()), "path": p.path, "why": p.why, "outcome": tag, "detail": detail,
        })
    };
    let checked = report.checked;
    json!({
        "schema": 1, "store": store.path().display().to_string(), "unsettled": report.unsettled(),
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
        "unreferenced": {
            "layers": report.loose_layers, "objects": report.loose_objects, "documents": report.loose_blobs,
            "bytes": report.loose_bytes,
        },
        "leftovers": report.leftovers, "busy": report.busy, "collected": report.collected,
        "checked": {
            "images": checked.images, "layers": checked.layers, "objects": checked.objects, "documents": checked.documents,
        },
    })
}

/// A bar on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("checking [{bar:40}] {decimal_bytes}/{decimal_total_bytes} {eta}")
            .map(|style| style.progress_chars("=> "))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::new(0).with_style(style))
    }
}

impl Watch for Bar {
    fn total(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn read(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
