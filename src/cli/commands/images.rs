//! `mica images`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::cli::format::Fields;
use crate::cli::format::Format;
use crate::cli::table::Table;
use crate::engine::images::Filter;
use crate::engine::images::ImageRow;
use crate::engine::images::list;

/// What docker prints where there is nothing.
const NONE: &str = "<none>";

/// Arguments of `mica images`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this repository, or only this name and tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// All images; mica has no hidden ones, so this changes nothing
    #[arg(short, long)]
    all: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
    /// Print ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Show the digests of the manifests
    #[arg(long)]
    digests: bool,
    /// 'table', 'json', or a template such as '{{.Repository}}:{{.Tag}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let filter = Filter::parse(args.name.as_deref())?;
    let store = context.store()?;
    let rows = list(&store, &filter)?;
    let (now, _) = crate::env::now();
    for row in &rows {
        if let Some(damage) = &row.damage {
            CliError::new(format!("image {} is damaged: {damage}", row.id.short())).print();
        }
    }
    if args.quiet {
        // An image with several names once, so that `mica rmi $(mica images -q)` does not ask for it twice.
        let mut seen = rustc_hash::FxHashSet::default();
        for row in rows.iter().filter(|row| seen.insert(row.id)) {
            writeln!(context.out, "{}", id(row, args.no_trunc))?;
        }
        return Ok(());
    }
    let all = rows.iter().map(|row| fields(row, args, now));
    match Format::parse(args.format.as_deref()) {
        Format::Table => table(args, all).print(&mut context.out)?,
        Format::Json => {
            for row in all {
                writeln!(context.out, "{}", serde_json::json!(row))?;
            }
        }
        Format::Template(template) => {
            for row in all {
                let line = format::fill(&template, &row).map_err(|e| CliError::new(format!("--format: {e}")))?;
                writeln!(context.out, "{line}")?;
            }
        }
    }
    Ok(())
}

fn table(args: &Args, rows: impl Iterator<Item = Fields>) -> Table {
    let mut columns = vec!["Repository", "Tag", "ID", "CreatedSince", "Size"];
    let mut headings = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        columns.insert(2, "Digest");
        headings.insert(2, "DIGEST");
    }
    let mut table = Table::new(&headings);
    for row in rows {
        table.row(columns.iter().map(|column| row.get(column).cloned().unwrap_or_default()).collect());
    }
    table
}

fn id(row: &ImageRow, full: bool) -> String {
    if full { row.id.to_string() } else { row.id.short() }
}

fn fields(row: &ImageRow, args: &Args, now: i64) -> Fields {
    let none = || NONE.to_owned();
    let name = row.name.as_ref();
    let digest = name.and_then(|name| name.digest()).or(row.manifest);
    Fields::from([
        ("Repository", name.map_or_else(none, |name| name.familiar_repository())),
        ("Tag", name.and_then(|name| name.tag()).map_or_else(none, str::to_owned)),
        ("Digest", digest.map_or_else(none, |digest| digest.to_string())),
        ("ID", id(row, args.no_trunc)),
        ("CreatedSince", row.created.map_or_else(|| "N/A".to_owned(), |then| format::ago(then, now))),
        ("CreatedAt", row.created.map_or_else(|| "N/A".to_owned(), format::date)),
        ("Size", format::size(row.size)),
    ])
}
