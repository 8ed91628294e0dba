//! `mica save`

use std::fs::File;
use std::io::BufWriter;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::save::save;

/// How much of an archive is written at a time, in bytes.
const BUFFER: usize = 256 << 10;

/// Arguments of `mica save`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Images, by name or id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    match &args.output {
        Some(path) => to_file(path, |file| Ok(save(&store, &args.images, BufWriter::with_capacity(BUFFER, file))?)),
        None if std::io::stdout().is_terminal() => Err(CliError::new("cowardly refusing to save to a terminal")
            .hint("use -o FILE, or redirect: mica save IMAGE > FILE")),
        None => Ok(save(&store, &args.images, &mut context.out)?),
    }
}

/// Writes a file beside, and gives it its name when it is whole: half an archive is worse than none. A device or pipe that the
/// user named is written itself.
fn to_file(path: &Path, write: impl FnOnce(&File) -> Result<(), CliError>) -> Result<(), CliError> {
    let failed = |e: std::io::Error| CliError::new(format!("{}: {e}", path.display()));
    if path.exists() && !path.is_file() {
        return write(&File::options().write(true).open(path).map_err(failed)?);
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let file = File::create(&partial).map_err(failed)?;
    let result = write(&file)
        .and_then(|()| file.sync_all().map_err(failed))
        .and_then(|()| std::fs::rename(&partial, path).map_err(failed));
    if result.is_err() {
        // The first error counts; the leftover says by its name what it is.
        std::fs::remove_file(&partial).unwrap_or_default();
    }
    result
}
