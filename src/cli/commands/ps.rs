//! `mica ps`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::cli::format::Fields;
use crate::cli::format::Format;
use crate::cli::table::Table;
use crate::engine::containers;
use crate::path::Escaped;
use crate::store::containers::ContainerRecord;
use crate::store::containers::State;

/// How much of a command docker shows.
const COMMAND_WIDTH: usize = 20;

/// Arguments of `mica ps`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// All containers, not only those that run
    #[arg(short, long)]
    all: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
    /// Print ids and commands in full
    #[arg(long)]
    no_trunc: bool,
    /// 'table', 'json', or a template such as '{{.Names}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let (now, _) = crate::env::now();
    let records = containers::list(&store)?;
    let shown = records.iter().filter(|r| args.all || matches!(r.state, State::Running { .. }));
    let rows: Vec<Fields> = shown.map(|r| fields(r, args.no_trunc, now)).collect();
    if args.quiet {
        for row in &rows {
            writeln!(context.out, "{}", row.get("ID").map_or("", String::as_str))?;
        }
        return Ok(());
    }
    match Format::parse(args.format.as_deref()) {
        Format::Table => {
            let columns = ["ID", "Image", "Command", "CreatedAgo", "Status", "Ports", "Names"];
            let headings = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
            let mut table = Table::new(&headings);
            for row in &rows {
                table.row(columns.iter().map(|c| row.get(c).cloned().unwrap_or_default()).collect());
            }
            table.print(&mut context.out)?;
        }
        Format::Json => {
            for row in &rows {
                writeln!(context.out, "{}", serde_json::json!(row))?;
            }
        }
        Format::Template(template) => {
            for row in &rows {
                let line = format::fill(&template, row).map_err(|e| CliError::new(format!("--format: {e}")))?;
                writeln!(context.out, "{line}")?;
            }
        }
    }
    Ok(())
}

fn fields(record: &ContainerRecord, no_trunc: bool, now: i64) -> Fields {
    let short = if no_trunc { &record.id } else { record.id.get(..12).unwrap_or(&record.id) };
    let command = record.command.join(" ");
    let cut = !no_trunc && command.chars().count() > COMMAND_WIDTH;
    let command = if cut { command.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect() } else { command };
    let ago = format::ago(record.created, now);
    Fields::from([
        ("ID", short.to_owned()),
        ("Image", Escaped(record.image_name.as_bytes()).to_string()),
        ("Command", format!("\"{}\"", Escaped(command.as_bytes()))),
        ("CreatedAgo", ago.clone()),
        ("RunningFor", ago),
        ("CreatedAt", format::date(record.created)),
        ("Status", status(&record.state, record.created, now)),
        ("State", state(&record.state).to_owned()),
        ("Ports", String::new()),
        ("Names", record.name.clone()),
    ])
}

fn state(state: &State) -> &'static str {
    match state {
        State::Created => "created",
        State::Running { .. } => "running",
        State::Exited { .. } => "exited",
    }
}

fn status(state: &State, created: i64, now: i64) -> String {
    match state {
        State::Created => "Created".to_owned(),
        State::Running { .. } => format!("Up {}", format::ago(created, now).trim_end_matches(" ago")),
        State::Exited { code, finished } => format!("Exited ({code}) {}", format::ago(*finished, now)),
    }
}
