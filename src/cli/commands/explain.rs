//! `mica explain`

use std::io::Write;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::looking;
use crate::cli::looking::Asking;
use crate::engine;
use crate::explain::explain;
use crate::explain::html;
use crate::explain::json;
use crate::explain::text;
use crate::explain::versions::versions;

/// Arguments of `mica explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = looking::CODES)]
pub struct Args {
    #[command(flatten)]
    asking: Asking,
    /// Follow the path if it is a symlink itself; those in the middle of it are always followed
    #[arg(short = 'L', long)]
    follow: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a page for a browser to FILE instead: the stack as a picture, the versions, the walk
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
    /// A line for every layer, and commands in full
    #[arg(short, long)]
    verbose: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let target = args.asking.open(context)?;
    if let Some(file) = &args.html {
        let found = versions(&target.subject, &target.path, args.follow).map_err(engine::Error::from)?;
        looking::page(context, file, &html::path::document(&found, args.verbose))?;
        return looking::ended(context, &found.explanation.outcome);
    }
    let explanation = explain(&target.subject, &target.path, args.follow).map_err(engine::Error::from)?;
    if args.json {
        writeln!(context.out, "{:#}", json::document(&explanation))?;
    } else {
        context.out.write_all(text::picture(&explanation, looking::style(args.verbose)).as_bytes())?;
    }
    looking::ended(context, &explanation.outcome)
}
