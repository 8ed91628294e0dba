//! `mica load`

use std::io::IsTerminal;
use std::io::Write;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::progress;
use crate::engine::input::Input;
use crate::engine::load::Options;
use crate::engine::load::load_as;
use crate::engine::settings::Settings;
use crate::image::archive::Machine;
use crate::image::limits::Limits;
use crate::image::manifest::Platform;

/// Arguments of `mica load`.
#[derive(Debug, clap::Args)]
#[command(after_help = limits_help())]
pub struct Args {
    /// The archive, a URL of one, or a layout directory; standard input without it. Gzip, zstd, bzip2 and xz are recognised
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load the images for this machine only, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = super::platform)]
    platform: Option<Platform>,
    /// Raise or lower what a layer may ask of this machine; see below
    #[arg(long, value_name = "NAME=VALUE", value_parser = limit)]
    limit: Vec<(String, u64)>,
    /// Print only what was loaded
    #[arg(short, long)]
    quiet: bool,
    /// Print a line for each layer
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

/// `NAME=VALUE` of a limit; the value may end in k, m or g (1024, and so on).
pub(super) fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    if !Limits::names().contains(&name) {
        return Err(format!("there is no limit of that name, only {}", Limits::names().join(", ")));
    }
    let bad = || format!("{value:?} is no number");
    let (digits, shift) = match value.as_bytes().last() {
        Some(b'k' | b'K') => (value.get(..value.len() - 1), 10),
        Some(b'm' | b'M') => (value.get(..value.len() - 1), 20),
        Some(b'g' | b'G') => (value.get(..value.len() - 1), 30),
        _ => (Some(value), 0),
    };
    let number: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or_else(bad)?;
    Ok((name.to_owned(), number.checked_mul(1 << shift).ok_or_else(bad)?))
}

/// The limits with what the user said of them.
pub(super) fn limits(given: &[(String, u64)]) -> Limits {
    let mut limits = Limits::default();
    // The names were checked when they were parsed.
    for (name, value) in given {
        let _ = limits.set(name, *value);
    }
    limits
}

fn limits_help() -> String {
    let mut text = "Limits, against images that would fill memory or disk (--limit NAME=VALUE):\n".to_owned();
    for (name, value, what) in Limits::default().described() {
        text.push_str(&format!("  {name:<12} {value:>14}  {what}\n"));
    }
    text.push_str("Documents: a manifest or index of 4 MiB, a config of 8 MiB, 1000 layers, 100000 entries in the archive (fixed).");
    text
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let input = match &args.input {
        Some(path) => match path.to_str() {
            Some(word) => Input::open_or_fetch(word)?,
            None => Input::open(path)?,
        },
        None if std::io::stdin().is_terminal() => {
            return Err(CliError::new("requested load from stdin, but stdin is a terminal")
                .hint("name the archive with -i FILE, or redirect it: mica load < FILE"));
        }
        None => {
            let fd = crate::sys::open::duplicate(std::io::stdin()).map_err(crate::engine::Error::from)?;
            Input::from_fd(fd, "standard input")
        }
    };
    let options = Options {
        machine: args.platform.clone().map_or(Machine::Host, Machine::Named),
        keep_blobs: Settings::read()?.keep_blobs,
        limits: limits(&args.limit),
    };
    let store = context.store()?;
    let progress = progress::choose(args.quiet, args.verbose);
    for image in load_as(&store, input, &options, &*progress)? {
        if image.names.is_empty() {
            writeln!(context.out, "Loaded image ID: {}", image.id)?;
        }
        for name in &image.names {
            writeln!(context.out, "Loaded image: {name}")?;
        }
    }
    Ok(())
}
