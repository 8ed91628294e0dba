//! `mica image prune`, `mica container prune`, and what they share with `mica system prune`.

use std::io::BufRead;
use std::io::Write;

use super::images;
use super::ps;
use super::rmi;
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::filter;
use crate::cli::filter::Filters;
use crate::cli::format;
use crate::engine::prune;
use crate::engine::prune::Pruned;

/// What every prune takes.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter::parse)]
    pub filter: Vec<(String, String)>,
}

/// Arguments of `mica image prune`.
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    options: Options,
}

/// Arguments of `mica container prune`.
#[derive(Debug, clap::Args)]
pub struct ContainerArgs {
    #[command(flatten)]
    options: Options,
}

/// `mica image prune`.
pub fn run_images(args: &ImageArgs, context: &mut Context) -> Result<(), CliError> {
    let conditions = images::conditions(known(&args.options.filter, true)?, crate::env::now().0)?;
    let what =
        if args.all { "all images without at least one container associated to them" } else { "all dangling images" };
    if !args.options.force && !agreed(&format!("WARNING! This will remove {what}.\n"), context)? {
        return Ok(());
    }
    let pruned = prune::images(&context.store()?, args.all, &conditions)?;
    report(&pruned, context)
}

/// `mica container prune`.
pub fn run_containers(args: &ContainerArgs, context: &mut Context) -> Result<(), CliError> {
    let conditions = ps::conditions(known(&args.options.filter, false)?, crate::env::now().0)?;
    let warning = "WARNING! This will remove all stopped containers.\n";
    if !args.options.force && !agreed(warning, context)? {
        return Ok(());
    }
    let pruned = prune::containers(&context.store()?, &conditions)?;
    report(&pruned, context)
}

/// The filters that a prune knows: images may be filtered by `dangling`, too.
///
/// # Errors
/// One that it does not know.
pub fn known(filters: &Filters, images: bool) -> Result<&Filters, CliError> {
    for (key, _) in filters {
        let known = matches!(key.as_str(), "until" | "label" | "label!") || images && key == "dangling";
        if !known {
            return Err(filter::unknown(key));
        }
    }
    Ok(filters)
}

/// Warns and asks, as docker does: only `y` is a yes, and an input that ends is a no.
///
/// # Errors
/// Those of the terminal.
pub fn agreed(warning: &str, context: &mut Context) -> Result<bool, CliError> {
    write!(context.out, "{warning}Are you sure you want to continue? [y/N] ")?;
    context.out.flush()?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| CliError::new(format!("cannot read the answer: {e}")))?;
    let agreed = answer.trim().eq_ignore_ascii_case("y");
    if !answer.ends_with('\n') {
        writeln!(context.out)?;
    }
    Ok(agreed)
}

/// Prints what is gone, in docker's words.
///
/// # Errors
/// Those of the output.
pub fn report(pruned: &Pruned, context: &mut Context) -> Result<(), CliError> {
    let out = &mut context.out;
    if !pruned.containers.is_empty() {
        writeln!(out, "Deleted Containers:\n{}\n", pruned.containers.join("\n"))?;
    }
    if !pruned.images.is_empty() {
        writeln!(out, "Deleted Images:")?;
        rmi::report(&pruned.images, true, out)?;
        writeln!(out)?;
    }
    Ok(writeln!(out, "Total reclaimed space: {}", format::fine_size(pruned.reclaimed))?)
}
