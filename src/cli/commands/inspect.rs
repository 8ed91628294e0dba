//! `mica inspect`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::inspect::inspect_image;

/// Arguments of `mica inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images, by name or id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let mut found = Vec::new();
    let mut failed = false;
    for image in &args.images {
        match inspect_image(&store, image) {
            Ok(document) => found.push(document),
            Err(e) => {
                CliError::from(e).print();
                failed = true;
            }
        }
    }
    writeln!(context.out, "{:#}", serde_json::Value::from(found))?;
    if failed { Err(CliError::reported()) } else { Ok(()) }
}
