//! `mica ps`, `mica container ls`

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::filter;
use crate::cli::filter::Filters;
use crate::cli::format;
use crate::cli::rows;
use crate::cli::rows::Listing;
use crate::cli::rows::Row;
use crate::cli::rows::shortened;
use crate::engine;
use crate::engine::containers;
use crate::engine::containers::Filter;
use crate::engine::images::Sizes;
use crate::path::Escaped;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::store::containers::State;

/// How much of a command docker shows.
const COMMAND_WIDTH: usize = 20;
/// What `--filter status=` may say; mica's containers are in the first three.
const STATES: [&str; 7] = ["created", "running", "exited", "restarting", "removing", "paused", "dead"];

/// Docker's names of the fields, and their headings.
pub const HEADINGS: [(&str, &str); 16] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("CreatedAgo", "CREATED"),
];

/// Arguments of `mica ps`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// All containers, not only those that run
    #[arg(short, long)]
    all: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
    /// The newest so many, whatever they do
    #[arg(short = 'n', long, value_name = "NUMBER", allow_hyphen_values = true, default_value_t = -1, hide_default_value = true)]
    last: i64,
    /// The newest, whatever it does
    #[arg(short, long)]
    latest: bool,
    /// Show how much each wrote, and with its image
    #[arg(short, long)]
    size: bool,
    /// id=, name=, status=, exited=CODE, label=KEY[=VALUE], ancestor=IMAGE, before=CONTAINER, since=CONTAINER
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    #[command(flatten)]
    list: rows::Options,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let (now, _) = crate::env::now();
    let last = if args.latest { Some(1) } else { usize::try_from(args.last).ok() };
    let filter = Filter { all: args.all, last, ..conditions(&args.filter, now)? };
    let store = context.store()?;
    let records = containers::select(&store, &filter)?;
    let mut columns = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
    if args.size {
        columns.push("Size");
    }
    // Measuring takes a walk of all that a container wrote.
    let measured = args.size || args.list.format.contains(".Size");
    let mut sizes = Sizes::new(&store);
    let mut shown = Vec::with_capacity(records.len());
    for record in &records {
        let size = if measured { size(&store, record, &mut sizes, args.size)? } else { "0B".to_owned() };
        shown.push(fields(record, size, args.list.no_trunc, now));
    }
    let listing = Listing { headings: &HEADINGS, columns: &columns, format: &args.list.format, quiet: args.quiet };
    listing.print(&mut context.out, shown)
}

/// The conditions that filters mean.
///
/// # Errors
/// A filter that is not known, or whose value means nothing.
pub fn conditions(filters: &Filters, now: i64) -> Result<Filter, CliError> {
    let mut wanted = Filter::default();
    for (key, value) in filters {
        match key.as_str() {
            "id" => wanted.ids.push(value.clone()),
            "name" => wanted.names.push(value.clone()),
            "status" if STATES.contains(&value.as_str()) => wanted.status.push(value.clone()),
            "exited" => wanted.exited.push(value.parse().map_err(|_| filter::invalid(key, value))?),
            "label" => wanted.labels.push(filter::label(value)),
            "label!" => wanted.not_labels.push(filter::label(value)),
            "ancestor" => wanted.ancestors.push(value.clone()),
            "before" => wanted.before = Some(value.clone()),
            "since" => wanted.since = Some(value.clone()),
            "until" => wanted.until = Some(filter::time(key, value, now)?),
            "status" => return Err(filter::invalid(key, value)),
            _ => return Err(filter::unknown(key)),
        }
    }
    Ok(wanted)
}

/// Docker's words: what the container wrote, and with `both` also that with its image.
fn size(store: &Store, record: &ContainerRecord, sizes: &mut Sizes<'_>, both: bool) -> Result<String, engine::Error> {
    let written = engine::usage::upper_size(store, record)?;
    if !both {
        return Ok(format::size(written));
    }
    let image: u64 = record.layers.iter().map(|layer| sizes.layer(layer).map_or(0, |info| info.content)).sum();
    Ok(format!("{} (virtual {})", format::size(written), format::size(written.saturating_add(image))))
}

/// One container as docker's fields.
pub fn fields(record: &ContainerRecord, size: String, full: bool, now: i64) -> Row {
    let short = if full { &record.id } else { record.id.get(..12).unwrap_or(&record.id) };
    let ago = format::ago(record.created, now);
    let labels = containers::config_of(record).map(|run| run.labels).unwrap_or_default();
    let labels: Vec<String> = labels.iter().map(|(key, value)| rows::clean(&format!("{key}={value}"))).collect();
    Row::new([
        ("ID", short.to_owned()),
        ("Image", Escaped(record.image_name.as_bytes()).to_string()),
        ("Command", command(&record.command, full)),
        ("CreatedAgo", ago.clone()),
        ("RunningFor", ago),
        ("CreatedAt", format::date(record.created)),
        ("Status", status(&record.state, record.created, now)),
        ("State", containers::state_word(&record.state).to_owned()),
        ("Ports", String::new()),
        ("Names", record.name.clone()),
        ("Size", size),
        ("Labels", labels.join(",")),
        ("LocalVolumes", "0".to_owned()),
        ("Mounts", String::new()),
        ("Networks", "host".to_owned()),
        ("Platform", String::new()),
    ])
}

/// In quotes, arguments with spaces in quotes of their own, cut to docker's width.
fn command(words: &[String], full: bool) -> String {
    let quoted = |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    let mut command = words.iter().take(1).cloned().collect::<String>();
    for word in words.iter().skip(1) {
        command.push(' ');
        command.push_str(&quoted(word));
    }
    format!("\"{}\"", Escaped(shortened(&command, COMMAND_WIDTH, full).as_bytes()))
}

fn status(state: &State, created: i64, now: i64) -> String {
    match state {
        State::Created => "Created".to_owned(),
        State::Running { .. } => format!("Up {}", format::ago(created, now).trim_end_matches(" ago")),
        State::Exited { code, finished } => format!("Exited ({code}) {}", format::ago(*finished, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_and_cut_as_docker_does() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let long = words(&["/bin/sh", "-c", "echo hi > /x; exit 3"]);
        assert_eq!(command(&long, false), "\"/bin/sh -c 'echo hi…\"");
        assert_eq!(command(&long, true), "\"/bin/sh -c 'echo hi > /x; exit 3'\"");
        assert_eq!(command(&words(&["/bin/sh"]), false), "\"/bin/sh\"");
    }
}
