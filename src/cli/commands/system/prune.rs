//! `mica system prune`

use crate::cli::Context;
use crate::cli::commands::images;
use crate::cli::commands::prune;
use crate::cli::commands::ps;
use crate::cli::error::CliError;
use crate::engine;
use crate::engine::prune::Pruned;

/// Arguments of `mica system prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Taken for docker's sake: there are no volumes
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    options: prune::Options,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let (now, _) = crate::env::now();
    let filters = prune::known(&args.options.filter, false)?;
    let (of_images, of_containers) = (images::conditions(filters, now)?, ps::conditions(filters, now)?);
    if !args.options.force && !prune::agreed(&warning(args), context)? {
        return Ok(());
    }
    let store = context.store()?;
    // Containers first: an image whose last container goes may go, too.
    let containers = engine::prune::containers(&store, &of_containers)?;
    let images = engine::prune::images(&store, args.all, &of_images)?;
    let reclaimed = containers.reclaimed.saturating_add(images.reclaimed);
    prune::report(&Pruned { containers: containers.containers, images: images.images, reclaimed }, context)
}

fn warning(args: &Args) -> String {
    let images =
        if args.all { "all images without at least one container associated to them" } else { "all dangling images" };
    let mut text = format!("WARNING! This will remove:\n  - all stopped containers\n  - {images}\n");
    if !args.options.filter.is_empty() {
        let filters: Vec<String> = args.options.filter.iter().map(|(key, value)| format!("{key}={value}")).collect();
        text.push_str(&format!("\n  Items to be pruned will be filtered with:\n  - {}\n", filters.join("\n  - ")));
    }
    text.push('\n');
    text
}
