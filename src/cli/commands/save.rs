//! `mica save`

use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::output;
use crate::engine::save::Compress;
use crate::engine::save::Request;
use crate::engine::save::save_as;
use crate::engine::save::save_dir;
use crate::image::archive::write::Shape;

/// Arguments of `mica save`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive; standard output without it. With --format oci-dir, the directory to be made
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What is written
    #[arg(long, value_enum, default_value = "docker-archive")]
    format: Format,
    /// Compress the layers of an OCI archive or directory
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "gzip", value_name = "HOW")]
    compress: Option<How>,
    /// Images, by name or id; a name without a tag means all its tags. With --format oci-dir and without -o, the directory first
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A tar that docker, podman, skopeo and every OCI tool read
    DockerArchive,
    /// A tar of an OCI image layout
    #[value(alias = "oci")]
    OciArchive,
    /// A directory with an OCI image layout
    OciDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// What every tool reads
    Gzip,
    /// Smaller and faster, for newer tools
    Zstd,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let compress = args.compress.map(|how| match how {
        How::Gzip => Compress::Gzip,
        How::Zstd => Compress::Zstd,
    });
    if args.format == Format::DockerArchive && compress.is_some() {
        return Err(CliError::new("the layers of a docker archive are not compressed")
            .hint("use --format oci-archive, or compress the whole: mica save IMAGE | zstd > FILE"));
    }
    let shape = if args.format == Format::DockerArchive { Shape::Docker } else { Shape::Oci };
    if args.format == Format::OciDir {
        let (dir, words) = directory(args)?;
        let request = Request { words, shape, compress };
        let store = context.store()?;
        return Ok(output::directory(dir, |dir| save_dir(&store, &request, dir))?);
    }
    let request = Request { words: &args.images, shape, compress };
    let store = context.store()?;
    match &args.output {
        Some(path) => Ok(output::file(path, |out| save_as(&store, &request, out))?),
        None if std::io::stdout().is_terminal() => Err(CliError::new("cowardly refusing to save to a terminal")
            .hint("use -o FILE, or redirect: mica save IMAGE > FILE")),
        None => Ok(save_as(&store, &request, &mut context.out)?),
    }
}

/// The directory and the images: `-o DIR IMAGE...` or `DIR IMAGE...`.
fn directory(args: &Args) -> Result<(&Path, &[String]), CliError> {
    match (&args.output, args.images.as_slice()) {
        (Some(dir), images) => Ok((dir, images)),
        (None, [dir, images @ ..]) if !images.is_empty() => Ok((Path::new(dir), images)),
        _ => Err(CliError::new("--format oci-dir needs a directory and an image")
            .hint("mica save --format oci-dir -o DIR IMAGE")),
    }
}
