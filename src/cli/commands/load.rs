//! `mica load`

use std::io::IsTerminal;
use std::io::Write;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::progress;
use crate::engine::load::Input;
use crate::engine::load::load;

/// Arguments of `mica load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive or layout directory; standard input without it. Gzip and zstd are recognised
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
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
    let store = context.store()?;
    let progress = progress::choose(args.quiet, args.verbose);
    for image in load(&store, input, &*progress)? {
        if image.names.is_empty() {
            writeln!(context.out, "Loaded image ID: {}", image.id)?;
        }
        for name in &image.names {
            writeln!(context.out, "Loaded image: {name}")?;
        }
    }
    Ok(())
}
