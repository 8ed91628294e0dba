//! `mica which`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::looking;
use crate::cli::looking::Asking;
use crate::cli::table::Table;
use crate::engine;
use crate::explain::LayerInfo;
use crate::explain::documents;
use crate::explain::layers::Has;
use crate::explain::layers::State;
use crate::explain::layers::Version;
use crate::explain::text;
use crate::explain::text::Style;
use crate::explain::trace::Cut;
use crate::explain::trace::How;
use crate::explain::versions::Row;
use crate::explain::versions::Versions;
use crate::explain::versions::versions;
use crate::sys::attr::Kind;

/// Arguments of `mica which`.
#[derive(Debug, clap::Args)]
#[command(after_help = looking::CODES)]
pub struct Args {
    #[command(flatten)]
    asking: Asking,
    /// Follow the path if it is a symlink itself
    #[arg(short = 'L', long)]
    follow: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Digests and commands in full
    #[arg(short, long)]
    verbose: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let target = args.asking.open(context)?;
    let found = versions(&target.subject, &target.path, args.follow).map_err(engine::Error::from)?;
    if args.json {
        writeln!(context.out, "{:#}", documents::which(&target.subject, &found))?;
        return looking::ended(context, &found.explanation.outcome);
    }
    print(&found, target.subject.layers(), looking::style(args.verbose), &mut context.out)?;
    looking::ended(context, &found.explanation.outcome)
}

/// The verdict in a line, and a table of the versions.
pub fn print(found: &Versions, layers: &[LayerInfo], style: Style, mut out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{}", text::verdict(&found.explanation))?;
    if found.rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["LAYER", "DIGEST", "STATE", "MODE", "OWNER", "SIZE", "CONTENT", "MADE BY", "NOTE"]);
    for row in &found.rows {
        table.row(cells(row, layers, style));
    }
    table.print(&mut out)
}

fn cells(row: &Row, layers: &[LayerInfo], style: Style) -> Vec<String> {
    let info = layers.get(row.layer());
    let (tag, digest) = looking::layer(info);
    let by = looking::made_by(info, style);
    match row {
        Row::Above(cut) => {
            let note = format!("hides what is below by {}", what(cut));
            vec![
                tag,
                digest,
                cut.how.word().to_owned(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                by,
                note,
            ]
        }
        Row::Version { version, digest: content, hides } => {
            let (mode, owner, size) = attributes(version);
            let content = content
                .map_or_else(String::new, |content| if style.verbose { content.to_string() } else { content.short() });
            let state = documents::state_word(&version.state).to_owned();
            vec![tag, digest, state, mode, owner, size, content, by, note(version, *hides, layers)]
        }
    }
}

fn what(cut: &Cut) -> String {
    match cut.how {
        How::Whiteout => format!("the whiteout of {}", cut.path),
        How::Opaque => format!("the opaque directory {}", cut.path),
        How::Covered => format!("its own {}", cut.path),
    }
}

fn attributes(version: &Version) -> (String, String, String) {
    match &version.has {
        Has::Whiteout => ("whiteout".to_owned(), String::new(), String::new()),
        Has::Object { stat, .. } => {
            let size = if stat.kind() == Kind::File { stat.size.to_string() } else { String::new() };
            (text::mode(stat), format!("{}:{}", stat.uid, stat.gid), size)
        }
    }
}

fn note(version: &Version, hides: bool, layers: &[LayerInfo]) -> String {
    let mut notes = Vec::new();
    if let Has::Object { marks, .. } = &version.has {
        text::mark_notes(marks, &mut notes);
    }
    match &version.state {
        State::Hidden(Some(cut)) => notes.push(format!("hidden: {}", text::reason(cut, layers))),
        _ if hides && notes.is_empty() => notes.push("hides what is below".to_owned()),
        _ => {}
    }
    notes.join("; ")
}
