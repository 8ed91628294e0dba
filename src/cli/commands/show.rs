//! `mica show`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::looking;
use crate::cli::looking::Asking;
use crate::engine;
use crate::explain::Outcome;
use crate::explain::content::each_chunk;
use crate::explain::versions::entry_at;

/// Arguments of `mica show`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "mica show TARGET:PATH\n       mica show TARGET PATH\n       mica show -o OPTIONS PATH",
    after_help = looking::CODES
)]
pub struct Args {
    #[command(flatten)]
    asking: Asking,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let target = args.asking.open_joined(context)?;
    let explanation = looking::follow(&target)?;
    if explanation.outcome != Outcome::Found {
        return Err(looking::not_shown(&explanation));
    }
    let path = explanation.resolved();
    let entry = entry_at(&target.subject, &path).map_err(engine::Error::from)?;
    let Some(object) = entry.as_ref().and_then(|entry| entry.content()) else {
        let is_dir = path.is_root()
            || entry.as_ref().and_then(|e| e.stat).is_some_and(|s| s.kind() == crate::sys::attr::Kind::Dir);
        return Err(match is_dir {
            true => CliError::new(format!("{path} is a directory")).hint("'mica blame' lists it"),
            false => CliError::new(format!("{path} is no regular file")),
        });
    };
    let content = object.open_checked().map_err(explained)?;
    let out = &mut context.out;
    each_chunk::<Failed>(&content, &mut |bytes| Ok(out.write_all(bytes)?)).map_err(|failed| match failed {
        Failed::Layer(e) => explained(e),
        Failed::Printing(e) => e.into(),
    })
}

enum Failed {
    Layer(crate::layer::Error),
    Printing(std::io::Error),
}

impl From<crate::layer::Error> for Failed {
    fn from(e: crate::layer::Error) -> Self {
        Failed::Layer(e)
    }
}

impl From<std::io::Error> for Failed {
    fn from(e: std::io::Error) -> Self {
        Failed::Printing(e)
    }
}

fn explained(e: crate::layer::Error) -> CliError {
    engine::Error::from(crate::explain::Error::from(e)).into()
}
