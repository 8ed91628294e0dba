//! `mica du`

use std::io::Write;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::cli::looking;
use crate::cli::looking::Asking;
use crate::cli::table::Table;
use crate::engine;
use crate::explain::Outcome;
use crate::explain::documents;
use crate::explain::html;
use crate::explain::usage::Usage;
use crate::explain::usage::usage;
use crate::path::RelPath;

/// Arguments of `mica du`.
#[derive(Debug, clap::Args)]
#[command(after_help = concat!(
    "TOTAL is SHOWN (what the union shows) and WASTED (what upper layers delete or replace, and the image still holds). ",
    "SHARED is held more than once with the same content, as far as indexes know (files of 131 kB and more); UNIQUE is the rest.\n\n",
    "Exit code: 0 the union shows the path, 1 it is hidden, 2 no layer has it, 125 mica failed."
))]
pub struct Args {
    #[command(flatten)]
    asking: Asking,
    /// How deep directories are listed; 1, and 3 on a page
    #[arg(short, long, value_name = "DEPTH")]
    depth: Option<usize>,
    /// What directories are sorted by
    #[arg(long, value_enum, default_value_t = Sort::Total)]
    sort: Sort,
    /// Only so many directories
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Sizes in bytes
    #[arg(short, long)]
    bytes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a page for a browser to FILE instead: layers and directories as large as they are
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    Total,
    Shown,
    Wasted,
    Unique,
    Shared,
    Name,
}

impl Sort {
    fn key(self, usage: &Usage) -> u64 {
        match self {
            Sort::Total => usage.total,
            Sort::Shown => usage.shown,
            Sort::Wasted => usage.wasted,
            Sort::Unique => usage.unique(),
            Sort::Shared => usage.shared,
            Sort::Name => 0,
        }
    }
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let target = args.asking.open_or_root(context)?;
    let explanation = looking::follow(&target)?;
    if !matches!(explanation.outcome, Outcome::Found | Outcome::Hidden { .. }) {
        return Err(looking::not_shown(&explanation));
    }
    let at = explanation.resolved();
    let depth = args.depth.unwrap_or(if args.html.is_some() { 3 } else { 1 });
    let report = usage(&target.subject, &at, depth).map_err(engine::Error::from)?;
    let mut dirs: Vec<(&RelPath, &Usage)> = report.dirs.iter().collect();
    dirs.sort_by_key(|(_, usage)| std::cmp::Reverse(args.sort.key(usage)));
    if let Some(file) = &args.html {
        let size = if args.bytes { |bytes: u64| bytes.to_string() } else { format::size };
        let style = html::space::Style { size, top: args.top };
        looking::page(context, file, &html::space::document(&target.subject, &at, &report, &dirs, style))?;
        return looking::ended(context, &explanation.outcome);
    }
    dirs.truncate(args.top.unwrap_or(usize::MAX));
    if args.json {
        writeln!(context.out, "{:#}", documents::usage(&target.subject, &target.path, &report, &dirs))?;
        return looking::ended(context, &explanation.outcome);
    }
    let style = looking::style(false);
    let cells = |usage: &Usage| {
        let size = |bytes: u64| if args.bytes { bytes.to_string() } else { format::size(bytes) };
        [usage.total, usage.shown, usage.wasted, usage.unique(), usage.shared].map(size).to_vec()
    };
    let mut table =
        Table::new(&["LAYER", "DIGEST", "TOTAL", "SHOWN", "WASTED", "UNIQUE", "SHARED", "FILES", "MADE BY"]);
    for (info, usage) in target.subject.layers().iter().zip(&report.layers) {
        let (tag, digest) = looking::layer(Some(info));
        let end = vec![usage.files.to_string(), looking::made_by(Some(info), style)];
        table.row([vec![tag, digest], cells(usage), end].concat());
    }
    let end = vec![report.total.files.to_string(), String::new()];
    table.row([vec!["all".to_owned(), String::new()], cells(&report.total), end].concat());
    table.print(&mut context.out)?;
    writeln!(context.out)?;
    let mut table = Table::new(&["TOTAL", "SHOWN", "WASTED", "UNIQUE", "SHARED", "FILES", "DIRECTORY"]);
    for (path, usage) in dirs {
        table.row([cells(usage), vec![usage.files.to_string(), path.to_string()]].concat());
    }
    table.print(&mut context.out)?;
    looking::ended(context, &explanation.outcome)
}
