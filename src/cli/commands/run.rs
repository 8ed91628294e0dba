//! `mica run`

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::run::Request;
use crate::engine::run::run as run_container;
use crate::run::spec::Bind;
use crate::run::spec::Overrides;

/// Arguments of `mica run`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, override_usage = "mica run [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub struct Args {
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// The container's name
    #[arg(long)]
    name: Option<String>,
    /// Set a variable; without '=' it is handed on from here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<OsString>,
    /// Show a directory or file of the host inside
    #[arg(short, long, value_name = "HOST:INSIDE[:ro]")]
    volume: Vec<OsString>,
    /// Start in this directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// Run as this user
    #[arg(short, long, value_name = "NAME|UID[:GROUP|GID]")]
    user: Option<String>,
    /// The host name inside
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<OsString>,
    /// The root cannot be changed
    #[arg(long)]
    read_only: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image, and what to run instead of its command: whatever follows the image is the container's, also what looks like an option
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]")]
    words: Vec<OsString>,
}

pub fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    if args.tty && args.interactive && !std::io::stdin().is_terminal() {
        return Err(
            CliError::new("the input device is not a TTY").hint("leave out -t when the input is a file or a pipe")
        );
    }
    let mut words = args.words.into_iter();
    let image = words.next().unwrap_or_default();
    let image = image.into_string().map_err(|image| {
        CliError::new(format!("invalid reference format: {}", crate::path::Escaped(image.as_bytes())))
    })?;
    let binds = args.volume.iter().map(bind).collect::<Result<_, _>>()?;
    let request = Request {
        image,
        name: args.name,
        remove: args.rm,
        overrides: Overrides {
            args: words.collect(),
            entrypoint: args.entrypoint,
            env: args.env.into_iter().map(variable).collect(),
            workdir: args.workdir.map(OsString::into_vec),
            user: args.user,
            hostname: args.hostname.unwrap_or_default(),
            tty: args.tty,
            interactive: args.interactive,
        },
        binds,
        read_only: args.read_only,
    };
    let store = context.store()?;
    let status = run_container(&store, &request)?;
    match status.code() {
        0 => Ok(()),
        code => Err(CliError::ended(code)),
    }
}

/// `-e KEY` takes the value from here; a variable that is not set here is not set inside either.
fn variable(var: OsString) -> OsString {
    if var.as_bytes().contains(&b'=') {
        return var;
    }
    match var.to_str().and_then(crate::env::var) {
        Some(value) => [var, value].join(std::ffi::OsStr::new("=")),
        None => var,
    }
}

fn bind(text: &OsString) -> Result<Bind, CliError> {
    let shown = || crate::path::Escaped(text.as_bytes());
    let parts: Vec<&[u8]> = text.as_bytes().split(|&b| b == b':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (*source, *target, &b""[..]),
        [source, target, options] => (*source, *target, *options),
        _ => {
            return Err(CliError::new(format!("invalid volume {}", shown())).hint(
                "write it as HOST:INSIDE or HOST:INSIDE:ro; volumes without a directory of the host are not supported",
            ));
        }
    };
    let mut read_only = false;
    for option in options.split(|&b| b == b',').filter(|option| !option.is_empty()) {
        match option {
            b"ro" => read_only = true,
            // Labels of SELinux, and what other systems make of consistency: nothing to do.
            b"rw" | b"z" | b"Z" | b"cached" | b"delegated" | b"consistent" => {}
            _ => {
                let what = format!("invalid volume {}: unknown mode {}", shown(), crate::path::Escaped(option));
                return Err(CliError::new(what).hint("modes are ro, rw, z, Z, cached, delegated and consistent"));
            }
        }
    }
    Ok(Bind { source: host_path(source)?, target: target.to_vec(), read_only })
}

/// What a volume names on the host. As docker: `.` and what begins with `./` or `../` counts from here, and a directory that is missing is made.
fn host_path(source: &[u8]) -> Result<PathBuf, CliError> {
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(source));
    let is_relative = path.starts_with(".") || path.starts_with("..");
    if !path.is_absolute() && !is_relative {
        return Err(CliError::new(format!("the volume {} names no path", crate::path::Escaped(source)))
            .hint("named volumes are not supported; write the path of a directory of the host, as ./NAME"));
    }
    let failed = |e| CliError::new(format!("cannot make the volume's directory {}: {e}", crate::path::Escaped(source)));
    let path = std::path::absolute(path).map_err(failed)?;
    match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => std::fs::create_dir_all(&path).map_err(failed)?,
        _ => {}
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Args {
        Line::try_parse_from(["run"].into_iter().chain(line.split(' '))).map(|line| line.args).unwrap()
    }

    #[test]
    fn whatever_follows_the_image_is_the_containers() {
        let args = parsed("--rm -e A=1 -i curl -i -t --name x --help -v -- -u me --root /");
        assert_eq!(args.words, "curl -i -t --name x --help -v -- -u me --root /".split(' ').collect::<Vec<_>>());
        assert!(args.rm && args.interactive && !args.tty && args.name.is_none() && args.volume.is_empty());
        assert_eq!(parsed("-it -- busybox -c").words, ["busybox", "-c"]);
        for refused in ["-d busybox", "--unknown busybox sh", "-it"] {
            assert!(Line::try_parse_from(["run"].into_iter().chain(refused.split(' '))).is_err(), "{refused}");
        }
    }

    #[test]
    fn modes_of_volumes_are_dockers() {
        let read = |text: &str| bind(&text.into());
        for (text, read_only) in
            [("/:/x", false), ("/:/x:ro,z", true), ("/:/x:Z", false), ("/:/x:rw", false), ("/:/x:cached", false)]
        {
            let bind = read(text).unwrap();
            assert_eq!((bind.source.to_str(), &bind.target[..], bind.read_only), (Some("/"), &b"/x"[..], read_only));
        }
        assert_eq!(read(".:/x").unwrap().source, std::env::current_dir().unwrap());
        for refused in ["/x", "name:/x", "/:/x:nocopy", "/:/x:ro:rw", ""] {
            assert!(read(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_volume_that_is_missing_is_made() {
        let dir = std::env::temp_dir().join(format!("mica-volume-{}", std::process::id()));
        let made = bind(&format!("{}/a/b:/x", dir.display()).into()).unwrap();
        let is_there = made.source.is_dir();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(is_there && made.source == dir.join("a/b"));
    }
}
