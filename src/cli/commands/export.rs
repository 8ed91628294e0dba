//! `mica export`

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::export::Exported;
use crate::engine::export::export;
use crate::engine::output;

/// Arguments of `mica export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tar; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name, id, or the beginning of an id
    container: String,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let record = store.find_container(&args.container)?;
    let mut done = Exported::default();
    match &args.output {
        Some(path) => output::file(path, |out| {
            done = export(&store, &record, out)?;
            Ok(())
        })?,
        None if std::io::stdout().is_terminal() => {
            return Err(CliError::new("cowardly refusing to save to a terminal")
                .hint("use -o FILE, or redirect: mica export CONTAINER > FILE"));
        }
        None => done = export(&store, &record, &mut context.out)?,
    }
    if done.sockets > 0 {
        log::info!("{} sockets were left out: a tar cannot hold them", done.sockets);
    }
    if done.shrunk > 0 {
        log::warn!("{} files became shorter while they were read; the rest of them is zeros", done.shrunk);
    }
    Ok(())
}
