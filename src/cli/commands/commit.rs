//! `mica commit`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::commit::Request;
use crate::engine::commit::commit;
use crate::engine::tag::new_name;

/// Arguments of `mica commit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who made the change
    #[arg(short, long, value_name = "NAME", default_value = "")]
    author: String,
    /// What was changed
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// Apply a Dockerfile instruction, such as 'CMD ["sh"]': CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
    /// STOPSIGNAL, USER, VOLUME, WORKDIR. May be given several times
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Taken for docker's sake and without effect: a container is not paused while it is committed
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pause: Option<bool>,
    /// Print only the id
    #[arg(short, long)]
    quiet: bool,
    /// Name, id, or the beginning of an id
    container: String,
    /// The name of the new image
    #[arg(value_name = "NAME[:TAG]")]
    image: Option<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let name = args.image.as_deref().map(new_name).transpose()?;
    let store = context.store()?;
    let request = Request {
        container: args.container.clone(),
        name,
        message: args.message.clone(),
        author: args.author.clone(),
        changes: args.change.clone(),
    };
    let id = commit(&store, &request)?;
    writeln!(context.out, "{id}")?;
    Ok(())
}
