//! `mica images`, `mica image ls`

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::filter;
use crate::cli::filter::Filters;
use crate::cli::format;
use crate::cli::rows;
use crate::cli::rows::Listing;
use crate::cli::rows::Row;
use crate::engine::images::Filter;
use crate::engine::images::ImageRow;
use crate::engine::images::is_pattern;
use crate::engine::images::list;

/// What docker prints where there is nothing.
const NONE: &str = "<none>";

/// Docker's names of the fields, and their headings.
pub const HEADINGS: [(&str, &str); 11] = [
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];

/// Arguments of `mica images`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only names that this means; '*' and '?' are allowed
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// All images; mica has no hidden ones, so this changes nothing
    #[arg(short, long)]
    all: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
    /// Show the digests of the manifests
    #[arg(long)]
    digests: bool,
    /// dangling=true|false, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME, reference=PATTERN
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    #[command(flatten)]
    list: rows::Options,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let (now, _) = crate::env::now();
    let mut filter = conditions(&args.filter, now)?;
    filter.names.extend(args.name.clone());
    let store = context.store()?;
    let rows = list(&store, &filter)?;
    for row in &rows {
        if let Some(damage) = &row.damage {
            CliError::new(format!("image {} is damaged: {damage}", row.id.short())).print();
        }
    }
    let columns: &[&str] = match args.digests {
        false => &["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize"],
        true => &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize"],
    };
    let listing = Listing { headings: &HEADINGS, columns, format: &args.list.format, quiet: args.quiet };
    listing.print(&mut context.out, rows.iter().map(|row| fields(row, args.list.no_trunc, now)))
}

/// The conditions that filters mean.
///
/// # Errors
/// A filter that is not known, or whose value means nothing.
pub fn conditions(filters: &Filters, now: i64) -> Result<Filter, CliError> {
    let mut wanted = Filter::default();
    for (key, value) in filters {
        match key.as_str() {
            "dangling" => wanted.dangling = Some(filter::yes(key, value)?),
            "label" => wanted.labels.push(filter::label(value)),
            "label!" => wanted.not_labels.push(filter::label(value)),
            "before" => wanted.before = Some(value.clone()),
            "since" => wanted.since = Some(value.clone()),
            "until" => wanted.until = Some(filter::time(key, value, now)?),
            "reference" if !is_pattern(value) => {
                return Err(CliError::new("syntax error in pattern")
                    .hint(format!("'[' needs a ']' and '\\' a sign behind it, in {value:?}")));
            }
            "reference" => wanted.names.push(value.clone()),
            _ => return Err(filter::unknown(key)),
        }
    }
    Ok(wanted)
}

/// One image as docker's fields.
pub fn fields(row: &ImageRow, full: bool, now: i64) -> Row {
    let none = || NONE.to_owned();
    let name = row.name.as_ref();
    let digest = name.and_then(|name| name.digest()).or(row.manifest.filter(|_| name.is_some()));
    Row::new([
        ("Repository", name.map_or_else(none, |name| name.familiar_repository())),
        ("Tag", name.and_then(|name| name.tag()).map_or_else(none, str::to_owned)),
        ("Digest", digest.map_or_else(none, |digest| digest.to_string())),
        ("ID", if full { row.id.to_string() } else { row.id.short() }),
        ("CreatedSince", row.created.map_or_else(|| "N/A".to_owned(), |then| format::ago(then, now))),
        ("CreatedAt", row.created.map_or_else(|| "N/A".to_owned(), format::date)),
        ("Size", format::size(row.size)),
        ("VirtualSize", format::fine_size(row.size)),
        ("SharedSize", format::fine_size(row.shared)),
        ("UniqueSize", format::fine_size(row.size.saturating_sub(row.shared))),
        ("Containers", row.containers.to_string()),
    ])
}
