//! `mica mount`

use std::io::Write;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::containers;
use crate::engine::containers::NewContainer;
use crate::engine::mounting;
use crate::engine::mounting::What;

/// Arguments of `mica mount`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Let it be changed. The changes go to a new container, which 'mica diff', 'commit' and 'rm' know
    #[arg(long)]
    rw: bool,
    /// The name of that container
    #[arg(long, requires = "rw", conflicts_with = "upper")]
    name: Option<String>,
    /// Let the changes go to this directory instead
    #[arg(long, value_name = "DIR", requires = "work")]
    upper: Option<PathBuf>,
    /// A directory on the same filesystem for unfinished changes
    #[arg(long, value_name = "DIR", requires = "upper")]
    work: Option<PathBuf>,
    /// Mount options, as for mount(8)
    #[arg(short, long = "options", value_name = "OPTIONS")]
    options: Option<String>,
    /// The image
    image: String,
    /// An empty directory
    dir: PathBuf,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let options = args.options.as_deref();
    // Asked here, so that a missing image is reported as everywhere else.
    store.images()?.find(&args.image)?;
    if let (Some(upper), Some(work)) = (&args.upper, &args.work) {
        let what = What::Image(args.image.clone(), Some((upper.clone(), work.clone())));
        return Ok(mounting::mount(&store, &what, &args.dir, options)?);
    }
    if !args.rw {
        return Ok(mounting::mount(&store, &What::Image(args.image.clone(), None), &args.dir, options)?);
    }
    let new = |_: &_| {
        Ok(NewContainer { image: args.image.clone(), name: args.name.clone(), config: None, command: Vec::new() })
    };
    let record = containers::create(&store, new, &args.image)?.record;
    if let Err(e) = mounting::mount(&store, &What::Container(record.id.clone()), &args.dir, options) {
        store.remove_container(&record.id)?;
        return Err(e.into());
    }
    writeln!(context.out, "{}", record.name)?;
    Ok(())
}
