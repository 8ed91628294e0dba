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
use crate::explain::rows::Words;
use crate::explain::rows::words;
use crate::explain::text;
use crate::explain::text::Style;
use crate::explain::versions::Row;
use crate::explain::versions::Versions;
use crate::explain::versions::versions;

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
    let Words { state, mode, owner, size, content, note } = words(row, layers);
    let content =
        content.map_or_else(String::new, |content| if style.verbose { content.to_string() } else { content.short() });
    vec![tag, digest, state.to_owned(), mode, owner, size, content, looking::made_by(info, style), note]
}
