//! `mica import`

use std::io::IsTerminal;
use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::progress;
use crate::engine;
use crate::engine::import::Request;
use crate::engine::import::import;
use crate::engine::input::Input;
use crate::engine::tag::new_name;
use crate::image::manifest::Platform;

/// Arguments of `mica import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Apply a Dockerfile instruction, such as 'CMD ["sh"]': CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
    /// STOPSIGNAL, USER, VOLUME, WORKDIR. May be given several times
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// What the image is; goes into its history
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// The machine that the image is for [default: this one]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = super::platform)]
    platform: Option<Platform>,
    /// Raise or lower what the tar may ask of this machine: see mica load --help
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::load::limit)]
    limit: Vec<(String, u64)>,
    /// Print only the id
    #[arg(short, long)]
    quiet: bool,
    /// The tar, plain or compressed; '-' is standard input. Proxies come from https_proxy, http_proxy and no_proxy
    #[arg(value_name = "FILE|URL|-")]
    source: String,
    /// The name of the new image
    #[arg(value_name = "NAME[:TAG]")]
    image: Option<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let name = args.image.as_deref().map(new_name).transpose()?;
    let input = input(&args.source)?;
    let store = context.store()?;
    let request = Request {
        name,
        message: args.message.clone(),
        changes: args.change.clone(),
        platform: args.platform.clone(),
        limits: super::load::limits(&args.limit),
    };
    let id = import(&store, input, &request, &*progress::choose(args.quiet, false))?;
    writeln!(context.out, "{id}")?;
    Ok(())
}

fn input(source: &str) -> Result<Input, CliError> {
    if source != "-" {
        return Ok(Input::open_or_fetch(source)?);
    }
    if std::io::stdin().is_terminal() {
        return Err(CliError::new("requested import from stdin, but stdin is a terminal")
            .hint("name the tar, or redirect it: mica import - NAME < FILE"));
    }
    let fd = crate::sys::open::duplicate(std::io::stdin()).map_err(engine::Error::from)?;
    Ok(Input::from_fd(fd, "-"))
}
