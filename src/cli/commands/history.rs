//! `mica history`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::cli::table::Table;
use crate::engine::history::Step;
use crate::engine::history::history;

/// The longest command that is shown in full.
const COMMAND_MAX: usize = 45;

/// Arguments of `mica history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image, by name or id
    image: String,
    /// Print ids and commands in full
    #[arg(long)]
    no_trunc: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let steps = history(&context.store()?, &args.image)?;
    let (now, _) = crate::env::now();
    let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for step in &steps {
        if args.quiet {
            writeln!(context.out, "{}", id(step, args.no_trunc))?;
        }
        let by = step.history.created_by.as_deref().unwrap_or_default();
        table.row(vec![
            id(step, args.no_trunc),
            step.created.map_or_else(|| "N/A".to_owned(), |then| format::ago(then, now)),
            shorten(&clean(by), args.no_trunc),
            format::size(step.size),
            clean(step.history.comment.as_deref().unwrap_or_default()),
        ]);
    }
    if !args.quiet {
        table.print(&mut context.out)?;
    }
    Ok(())
}

fn id(step: &Step, full: bool) -> String {
    match step.image {
        Some(id) if full => id.to_string(),
        Some(id) => id.short(),
        None => "<missing>".to_owned(),
    }
}

/// Texts of an image are shown on one line and without control characters.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn shorten(text: &str, full: bool) -> String {
    if full || text.chars().count() <= COMMAND_MAX {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(COMMAND_MAX - 1).collect();
    short.push('…');
    short
}
