//! `mica image`: the commands on images under docker's and podman's name of the group.

use clap::Subcommand;

use super::diff;
use super::history;
use super::images;
use super::import;
use super::inspect;
use super::load;
use super::mount;
use super::prune;
use super::rmi;
use super::save;
use super::tag;
use super::tree;
use super::umount;
use crate::cli::Context;
use crate::cli::error::CliError;

/// Arguments of `mica image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::Args),
    /// Show everything about images, as JSON
    Inspect(inspect::How),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    /// Remove images that no container uses
    Prune(prune::ImageArgs),
    /// Show the steps by which an image was made
    History(history::Args),
    /// Draw which images have which layers in common
    Tree(tree::Args),
    /// Give an image one more name
    Tag(tag::Args),
    /// Load images from an archive
    Load(load::Args),
    /// Save images to an archive
    Save(save::Args),
    /// Make an image of the tar of a root filesystem
    Import(import::Args),
    /// List what is different in two images or layers
    Diff(diff::Args),
    /// Mount an image as a directory
    Mount(mount::Args),
    /// Take a mount away
    #[command(alias = "unmount")]
    Umount(umount::Args),
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    match &args.command {
        Command::Ls(args) => images::run(args, context),
        Command::Inspect(how) => inspect::run_kind(how, inspect::Kind::Image, context),
        Command::Rm(args) => rmi::run(args, context),
        Command::Prune(args) => prune::run_images(args, context),
        Command::History(args) => history::run(args, context),
        Command::Tree(args) => tree::run(args, context),
        Command::Tag(args) => tag::run(args, context),
        Command::Load(args) => load::run(args, context),
        Command::Save(args) => save::run(args, context),
        Command::Import(args) => import::run(args, context),
        Command::Diff(args) => diff::run(args, context),
        Command::Mount(args) => mount::run(args, context),
        Command::Umount(args) => umount::run(args, context),
    }
}
