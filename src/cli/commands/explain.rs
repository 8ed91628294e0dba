//! `mica explain`

use std::io::Write;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::looking;
use crate::cli::looking::Asking;
use crate::engine;
use crate::explain::Explanation;
use crate::explain::explain;
use crate::explain::html;
use crate::explain::json;
use crate::explain::text;
use crate::explain::versions::versions;
use crate::live::stats::Known;

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
    let known = known(args, &explanation);
    if args.json {
        let mut document = json::document(&explanation);
        if let (Some(known), Some(all)) = (known, document.as_object_mut()) {
            all.insert("kernel".to_owned(), serde_json::to_value(known).map_err(CliError::new)?);
        }
        writeln!(context.out, "{document:#}")?;
    } else {
        context.out.write_all(text::picture(&explanation, looking::style(args.verbose)).as_bytes())?;
        if let Some(known) = known {
            write!(context.out, "\n{}", kernel(&known))?;
        }
    }
    looking::ended(context, &explanation.outcome)
}

/// What the server of a live mount says that the kernel may keep of the path; `None` for everything else, and where it cannot be asked.
fn known(args: &Args, explanation: &Explanation) -> Option<Known> {
    let mut path = b"/".to_vec();
    path.extend(explanation.components.last()?.path.to_bytes());
    args.asking.live()?.known(&path).ok()
}

fn kernel(known: &Known) -> String {
    let kept = known.timeout_seconds.map_or_else(|| "for ever".to_owned(), |secs| format!("for {secs} seconds"));
    match known.ino {
        Some(ino) if known.references > 0 => format!(
            "known to the kernel\n  inode     {ino}, {} references, {} open handles\n  kept      names and attributes {kept}\n",
            known.references, known.open_handles
        ),
        _ => format!(
            "not known to the kernel under this name\n  kept      by another name at most, or that the name is missing, {kept}\n"
        ),
    }
}
