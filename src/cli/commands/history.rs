//! `mica history`

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::cli::rows;
use crate::cli::rows::Listing;
use crate::cli::rows::Row;
use crate::cli::rows::clean;
use crate::cli::rows::shortened;
use crate::engine::history::Step;
use crate::engine::history::history;

/// The longest command that is shown in full.
const COMMAND_MAX: usize = 45;

/// Docker's names of the fields, and their headings; the author is mica's own.
const HEADINGS: [(&str, &str); 7] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
    ("Author", "AUTHOR"),
];

/// Arguments of `mica history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image, by name or id
    image: String,
    /// Sizes and dates for people; =false prints bytes and full times
    #[arg(short = 'H', long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    list: rows::Options,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let steps = history(&context.store()?, &args.image)?;
    let (now, _) = crate::env::now();
    // Docker has no column for the author; it comes last, and only where somebody is named.
    let told = steps.iter().any(|step| step.history.author.as_deref().is_some_and(|author| !author.is_empty()));
    let created = if args.human { "CreatedSince" } else { "CreatedAt" };
    let mut columns = vec!["ID", created, "CreatedBy", "Size", "Comment"];
    if told {
        columns.push("Author");
    }
    let listing = Listing { headings: &HEADINGS, columns: &columns, format: &args.list.format, quiet: args.quiet };
    listing.print(&mut context.out, steps.iter().map(|step| fields(step, args, now)))
}

fn fields(step: &Step, args: &Args, now: i64) -> Row {
    let text = |text: &Option<String>| clean(text.as_deref().unwrap_or_default());
    let unknown = || "N/A".to_owned();
    Row::new([
        ("ID", id(step, args.list.no_trunc)),
        ("CreatedSince", step.created.map_or_else(unknown, |then| format::ago(then, now))),
        ("CreatedAt", step.created.map_or_else(unknown, format::rfc3339)),
        ("CreatedBy", shortened(&text(&step.history.created_by), COMMAND_MAX, args.list.no_trunc)),
        ("Size", if args.human { format::size(step.size) } else { step.size.to_string() }),
        ("Comment", text(&step.history.comment)),
        ("Author", text(&step.history.author)),
    ])
}

fn id(step: &Step, full: bool) -> String {
    match step.image {
        Some(id) if full => id.to_string(),
        Some(id) => id.short(),
        None => "<missing>".to_owned(),
    }
}
