//! `mica system df`

use std::io::Write;

use serde_json::Value;
use serde_json::json;

use crate::cli::Context;
use crate::cli::commands::images;
use crate::cli::commands::ps;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::cli::rows;
use crate::cli::rows::Listing;
use crate::cli::rows::Row;
use crate::cli::template::Style;
use crate::cli::template::Template;
use crate::engine::usage::Total;
use crate::engine::usage::Usage;
use crate::engine::usage::usage;

/// Docker's names of the fields, and their headings.
const HEADINGS: [(&str, &str); 5] =
    [("Type", "TYPE"), ("TotalCount", "TOTAL"), ("Active", "ACTIVE"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")];

/// The fields of a layer, and their headings.
const PACKS: [(&str, &str); 6] = [
    ("ID", "LAYER"),
    ("Images", "IMAGES"),
    ("Size", "SIZE"),
    ("Stored", "STORED"),
    ("Files", "FILES"),
    ("TarSize", "TAR SIZE"),
];

/// Arguments of `mica system df`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Images counts the content of each layer once, as docker does; Packs counts what lies on disk for it, where \
    files that layers have in common are kept once."
)]
pub struct Args {
    /// A line for each image, container and layer
    #[arg(short, long)]
    verbose: bool,
    /// 'table', 'table TEMPLATE', 'json', or a Go template such as '{{.Type}}: {{.Size}}'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let usage = usage(&context.store()?)?;
    if args.verbose {
        return match args.format.trim() {
            "" | "table" => verbose(&usage, &mut context.out),
            "json" => formatted(&usage, "{{json .}}", &mut context.out),
            template => formatted(&usage, &rows::unescaped(template), &mut context.out),
        };
    }
    let columns = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
    let listing = Listing { headings: &HEADINGS, columns: &columns, format: &args.format, quiet: false };
    let rows =
        [row("Images", &usage.image_total), row("Containers", &usage.container_total), row("Packs", &usage.pack_total)];
    listing.print(&mut context.out, rows)
}

fn row(kind: &str, total: &Total) -> Row {
    let percent = match total.size {
        0 => String::new(),
        size => format!(" ({}%)", u128::from(total.reclaimable) * 100 / u128::from(size)),
    };
    Row::new([
        ("Type", kind.to_owned()),
        ("TotalCount", total.count.to_string()),
        ("Active", total.active.to_string()),
        ("Size", format::fine_size(total.size)),
        ("Reclaimable", format!("{}{percent}", format::fine_size(total.reclaimable))),
    ])
}

/// All of it as one document, which docker's templates walk: `{{range .Images}}{{.Repository}}{{end}}`.
fn formatted(usage: &Usage, template: &str, out: &mut impl Write) -> Result<(), CliError> {
    let (now, _) = crate::env::now();
    let list = |rows: Vec<Row>| Value::Array(rows.into_iter().map(Row::value).collect());
    let containers = usage.containers.iter().map(|(c, size)| ps::fields(c, format::size(*size), false, now));
    let document = json!({
        "Images": list(usage.images.iter().map(|image| images::fields(image, false, now)).collect()),
        "Containers": list(containers.collect()),
        "Volumes": [],
        "BuildCache": [],
        "Packs": list(packs(usage).collect()),
    });
    let template = Template::parse(template).map_err(CliError::new)?;
    Ok(writeln!(out, "{}", template.render(&document, Style::Row).map_err(CliError::new)?)?)
}

fn packs(usage: &Usage) -> impl Iterator<Item = Row> {
    usage.packs.iter().map(|(pack, users)| {
        Row::new([
            ("ID", pack.diff_id.short()),
            ("Images", users.to_string()),
            ("Size", format::fine_size(pack.content)),
            ("Stored", format::fine_size(pack.stored)),
            ("Files", pack.files.to_string()),
            ("TarSize", format::fine_size(pack.tar_size)),
        ])
    })
}

fn verbose(usage: &Usage, out: &mut impl Write) -> Result<(), CliError> {
    let (now, _) = crate::env::now();
    let listing = |headings, columns| Listing { headings, columns, format: "", quiet: false };
    writeln!(out, "Images space usage:\n")?;
    let columns = ["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"];
    listing(&images::HEADINGS[..], &columns[..])
        .print(out, usage.images.iter().map(|image| images::fields(image, false, now)))?;
    writeln!(out, "\nContainers space usage:\n")?;
    let columns = ["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"];
    let containers = usage.containers.iter().map(|(c, size)| ps::fields(c, format::size(*size), false, now));
    listing(&ps::HEADINGS[..], &columns[..]).print(out, containers)?;
    writeln!(out, "\nPacks space usage:\n")?;
    let columns = ["ID", "Images", "Size", "Stored", "Files", "TarSize"];
    listing(&PACKS[..], &columns[..]).print(out, packs(usage))
}
