//! `mica mount`

use std::io::Write;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::containers;
use crate::engine::containers::NewContainer;
use crate::engine::mounting;
use crate::engine::mounting::What;
use crate::image::reference::Layers;
use crate::image::reference::split_layers;
use crate::store::mounts::EACH_LAYER;

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
    /// Show each layer as a directory of its own: DIR/1-DIGEST, DIR/2-DIGEST ...
    ///
    /// Whiteouts are shown as character devices 0:0, and opaque directories have the attribute trusted.overlay.opaque, as the
    /// kernel's overlayfs has it.
    #[arg(long, conflicts_with_all = ["rw", "upper"])]
    layers: bool,
    /// The image; IMAGE@3 is what its first three layers show
    image: String,
    /// An empty directory
    dir: PathBuf,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let options = args.options.as_deref();
    // Asked here, so that a missing image is reported as everywhere else.
    let (name, part) = split_layers(&args.image);
    store.images()?.find(name)?;
    if args.layers {
        let what = What::Image(format!("{}{EACH_LAYER}", args.image), None);
        return Ok(mounting::mount(&store, &what, &args.dir, options)?);
    }
    if args.rw && part != Layers::All {
        return Err(CliError::new("changes to a part of an image's layers make no container")
            .hint("let them go to directories: --upper DIR --work DIR"));
    }
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
