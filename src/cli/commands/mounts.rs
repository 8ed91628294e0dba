//! `mica mounts`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::rows::Listing;
use crate::cli::rows::Row;
use crate::engine::mounting;

/// The fields, and their headings.
const HEADINGS: [(&str, &str); 3] = [("Source", "SOURCE"), ("Mode", "MODE"), ("Mountpoint", "MOUNTPOINT")];

/// Arguments of `mica mounts`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON list
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// 'table', 'table TEMPLATE', 'json', or a Go template such as '{{.Mountpoint}}'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let mounts = mounting::list()?;
    if args.json {
        let rows: Vec<_> = mounts
            .iter()
            .map(|m| serde_json::json!({"target": m.target, "source": m.source, "read_only": m.read_only, "io": m.io}))
            .collect();
        writeln!(context.out, "{}", serde_json::Value::from(rows))?;
        return Ok(());
    }
    let columns = ["Source", "Mode", "Mountpoint"];
    let listing = Listing { headings: &HEADINGS, columns: &columns, format: &args.format, quiet: false };
    listing.print(
        &mut context.out,
        mounts.into_iter().map(|mount| {
            let mode = if mount.read_only { "ro" } else { "rw" };
            Row::new([("Source", mount.source), ("Mode", mode.to_owned()), ("Mountpoint", mount.target)])
        }),
    )
}
