//! `mica load`

use std::io::IsTerminal;
use std::io::Write;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::progress;
use crate::engine::load::Input;
use crate::engine::load::Options;
use crate::engine::load::load_as;
use crate::engine::settings::Settings;
use crate::image::archive::Machine;
use crate::image::manifest::Platform;

/// Arguments of `mica load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive or layout directory; standard input without it. Gzip, zstd, bzip2 and xz are recognised
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load the images for this machine only, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = super::platform)]
    platform: Option<Platform>,
    /// Print only what was loaded
    #[arg(short, long)]
    quiet: bool,
    /// Print a line for each layer
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let input = match &args.input {
        Some(path) => Input::open(path)?,
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
