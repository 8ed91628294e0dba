//! What to run: the specification, and how it comes from an image's configuration and the command line.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::error::Error;
use super::error::Result;
use crate::path::Escaped;
use crate::sys::rlimit::Resource;

/// `PATH` of a container whose image sets none, as in docker.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The network that the container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    #[default]
    Host,
}

/// A directory or file of the host that appears in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Path on the host; symlinks are followed.
    pub source: PathBuf,
    /// Path in the container; symlinks are resolved inside it, what is missing is made.
    pub target: Vec<u8>,
    /// The container cannot write there.
    pub read_only: bool,
}

/// A resource limit; `None` is no limit. Clamped to what this process itself may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// The resource.
    pub resource: Resource,
    /// The limit in force.
    pub soft: Option<u64>,
    /// How far the container may raise it.
    pub hard: Option<u64>,
}

impl Rlimit {
    /// Parses `NAME=SOFT[:HARD]`, where -1 is no limit, as `--ulimit` gives it.
    ///
    /// # Errors
    /// [`Error::Spec`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::Spec(format!("invalid ulimit {}: {why}", Escaped(text.as_bytes())));
        let (name, values) = text.split_once('=').ok_or_else(|| bad("NAME=SOFT[:HARD] is needed"))?;
        let resource = Resource::by_name(name).ok_or_else(|| bad("there is no such resource"))?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let number = |n: &str| match n {
            "-1" => Ok(None),
            n => n.parse().map(Some).map_err(|_| bad("the limit is not a number")),
        };
        let (soft, hard) = (number(soft)?, number(hard)?);
        if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
            return Err(bad("the soft limit is above the hard limit"));
        }
        Ok(Self { resource, soft, hard })
    }
}

/// A container process: what runs, where, as whom, and with what it is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The root directory on the host, ready to use (mounted already if it is a mount).
    pub rootfs: PathBuf,
    /// Command and arguments; the command is looked up in the container's `PATH` when it has no slash. Never empty.
    pub argv: Vec<OsString>,
    /// `KEY=VALUE` each. `HOME` is added from the container's `/etc/passwd` when it is not here.
    pub env: Vec<OsString>,
    /// Working directory in the container; made when missing. Empty is `/`.
    pub cwd: Vec<u8>,
    /// `uid[:gid]` or `name[:group]`; `None` is root.
    pub user: Option<String>,
    /// Host name, 1 to 64 bytes.
    pub hostname: String,
    /// The container gets a pseudo terminal of its own.
    pub tty: bool,
    /// Standard input is passed in; otherwise it is `/dev/null`.
    pub interactive: bool,
    /// The root cannot be written; mounts in it still can.
    pub read_only: bool,
    /// Resource limits to set.
    pub rlimits: Vec<Rlimit>,
    /// What of the host appears in the container, mounted in this order.
    pub binds: Vec<Bind>,
    /// The network.
    pub network: Network,
}

/// What an image says about running it: the fields of the same names of its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Goes before the arguments.
    pub entrypoint: Vec<OsString>,
    /// The arguments when none are given.
    pub cmd: Vec<OsString>,
    /// `KEY=VALUE` each.
    pub env: Vec<OsString>,
    /// As [`Spec::user`]; empty is root.
    pub user: String,
    /// As [`Spec::cwd`].
    pub workdir: Vec<u8>,
}

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Arguments after the image; replace `cmd`.
    pub args: Vec<OsString>,
    /// `--entrypoint`: replaces the image's entrypoint and drops its `cmd`; empty means none.
    pub entrypoint: Option<OsString>,
    /// `-e KEY=VALUE`; a `KEY` without `=` removes the variable.
    pub env: Vec<OsString>,
    /// `-w`.
    pub workdir: Option<Vec<u8>>,
    /// `-u`.
    pub user: Option<String>,
    /// `-h`.
    pub hostname: String,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
}

/// Puts image and command line together by docker's rules. What neither knows (`read_only`, `rlimits`, `binds`) is left
/// empty for the caller to fill in.
///
/// # Errors
/// [`Error::Spec`] when there is no command, or something holds a NUL byte.
pub fn from_image(rootfs: PathBuf, image: &ImageConfig, over: &Overrides) -> Result<Spec> {
    let spec = Spec {
        rootfs,
        argv: command(image, over),
        env: environment(image, over),
        cwd: over.workdir.clone().unwrap_or_else(|| image.workdir.clone()),
        user: over.user.clone().or_else(|| Some(image.user.clone())).filter(|u| !u.is_empty()),
        hostname: over.hostname.clone(),
        tty: over.tty,
        interactive: over.interactive,
        read_only: false,
        rlimits: Vec::new(),
        binds: Vec::new(),
        network: Network::Host,
    };
    spec.check()?;
    Ok(spec)
}

fn command(image: &ImageConfig, over: &Overrides) -> Vec<OsString> {
    let (entrypoint, default_args) = match &over.entrypoint {
        None => (image.entrypoint.clone(), image.cmd.as_slice()),
        Some(one) if one.is_empty() => (Vec::new(), [].as_slice()),
        Some(one) => (vec![one.clone()], [].as_slice()),
    };
    let args = if over.args.is_empty() { default_args } else { &over.args };
    entrypoint.into_iter().chain(args.iter().cloned()).collect()
}

fn environment(image: &ImageConfig, over: &Overrides) -> Vec<OsString> {
    let mut env = vec![OsString::from(DEFAULT_PATH), OsString::from(format!("HOSTNAME={}", over.hostname))];
    if over.tty {
        env.push(OsString::from("TERM=xterm"));
    }
    for var in image.env.iter().filter(|v| v.as_bytes().contains(&b'=')) {
        set(&mut env, var);
    }
    for var in &over.env {
        if var.as_bytes().contains(&b'=') {
            set(&mut env, var);
        } else {
            env.retain(|v| key(v) != var.as_bytes());
        }
    }
    env
}

/// The name of a `KEY=VALUE`.
pub(super) fn key(var: &OsStr) -> &[u8] {
    var.as_bytes().split(|&b| b == b'=').next().unwrap_or_default()
}

fn set(env: &mut Vec<OsString>, var: &OsStr) {
    match env.iter_mut().find(|v| key(v) == key(var)) {
        Some(place) => var.clone_into(place),
        None => env.push(var.to_owned()),
    }
}

impl Spec {
    /// Whether the specification can be carried out at all.
    ///
    /// # Errors
    /// [`Error::Spec`] says what is wrong.
    pub fn check(&self) -> Result<()> {
        let fail = |why: &str| Err(Error::Spec(why.to_owned()));
        if self.argv.first().is_none_or(|a| a.is_empty()) {
            return fail("no command specified, and the image has none");
        }
        let texts = self.argv.iter().chain(&self.env).map(|s| s.as_bytes());
        if texts.chain([self.cwd.as_slice()]).any(|s| s.contains(&0)) {
            return fail("the command, its environment or working directory holds a NUL byte");
        }
        if !self.cwd.is_empty() && !self.cwd.starts_with(b"/") {
            let cwd = Escaped(&self.cwd);
            return Err(Error::Spec(format!(
                "the working directory '{cwd}' is invalid, it needs to be an absolute path"
            )));
        }
        let host_char = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if self.hostname.is_empty() || self.hostname.len() > 64 || !self.hostname.bytes().all(host_char) {
            return fail("the host name must have 1 to 64 characters of a-z, 0-9, '-', '.' and '_'");
        }
        if self.binds.iter().any(|b| !b.target.starts_with(b"/") || b.target.contains(&0)) {
            return fail("the target of a bind mount must be an absolute path");
        }
        Ok(())
    }
}
