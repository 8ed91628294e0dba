//! `mica rmi`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine;
use crate::engine::remove::Removed;
use crate::engine::remove::remove;
use crate::store;

/// Arguments of `mica rmi`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Remove also what a stopped container uses, or what has several names
    #[arg(short, long)]
    force: bool,
    /// Keep parents without a name; mica has none, so this changes nothing
    #[arg(long)]
    no_prune: bool,
}

/// Prints what a removal did, in docker's words, which begin with a small letter in a list of a prune.
pub fn report(removed: &[Removed], list: bool, out: &mut impl Write) -> std::io::Result<()> {
    let (untagged, deleted) = if list { ("untagged", "deleted") } else { ("Untagged", "Deleted") };
    for item in removed {
        match item {
            Removed::Untagged(name) => writeln!(out, "{untagged}: {name}")?,
            Removed::Deleted(id) => writeln!(out, "{deleted}: {id}")?,
        }
    }
    Ok(())
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let mut failed = false;
    for image in &args.images {
        match remove(&store, image, args.force) {
            Ok(removed) => report(&removed, false, &mut context.out)?,
            // The others are removed all the same, as docker does.
            Err(e) => {
                context.out.flush()?;
                // With -f, docker does not mind an image that is gone.
                let gone = matches!(e, engine::Error::Store(store::Error::NotFound { .. }));
                CliError::from(e).print();
                failed |= !(args.force && gone);
            }
        }
    }
    if failed { Err(CliError::reported()) } else { Ok(()) }
}
