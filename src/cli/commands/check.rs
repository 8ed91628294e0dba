//! `mica check`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;

/// Arguments of `mica check`.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: &Args, context: &mut Context) -> Result<(), CliError> {
    let report = context.store()?.check()?;
    for problem in &report.problems {
        writeln!(context.out, "{}: {}", problem.what, problem.why)?;
    }
    let loose = report.loose_layers + report.loose_blobs;
    if loose > 0 {
        writeln!(context.out, "{loose} unused layers and documents; the next 'mica rmi' removes them")?;
    }
    match report.problems.len() {
        0 => Ok(writeln!(context.out, "the store is whole")?),
        n => Err(CliError::new(format!("{n} problems in the store"))
            .hint("loading or pulling the images again repairs what is damaged")),
    }
}
