//! The three ways of calling: mount(8)'s, fuse-overlayfs's and mica's own.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use super::error::Error;
use super::error::Result;
use super::options::MountOptions;
use super::request::Dialect;
use super::request::Request;
use super::source::Source;
use super::source::Upper;
use crate::sys;

#[cfg(test)]
mod tests;

/// What the arguments ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A mount.
    Mount(Request),
    /// Other flags for a mount that is there.
    Remount {
        /// The mount point.
        target: PathBuf,
        /// The options; those that were not said stay as they are.
        options: Box<MountOptions>,
    },
    /// A mount that is only checked (`mount -f`).
    Fake(Request),
    /// The help text.
    Help(Dialect),
    /// The version.
    Version(Dialect),
}

/// A command, and the mount namespace (`-N`) to carry it out in.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// The namespace file, as `/proc/PID/ns/mnt`.
    pub namespace: Option<PathBuf>,
}

impl Invocation {
    /// Moves this process into the namespace that was asked for, if any; it must have one thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter_namespace(&self) -> Result<()> {
        Ok(self.namespace.as_deref().map_or(Ok(()), sys::mount::enter_namespace)?)
    }
}

/// Which dialect a program name and its arguments speak: the name `fuse-overlayfs` decides, then any long option.
pub fn detect(argv: &[OsString]) -> Dialect {
    let name = argv.first().map(|name| Path::new(name).file_name().unwrap_or_default().as_bytes());
    let mut arguments = argv.iter().skip(1).map(|a| a.as_bytes());
    if name.is_some_and(|name| name.starts_with(b"fuse-overlayfs")) {
        Dialect::FuseOverlayfs
    } else if argv.len() < 2 || arguments.any(|a| a.starts_with(b"--") || matches!(a, b"-h" | b"-V")) {
        Dialect::Own
    } else {
        Dialect::Mount8
    }
}

/// Reads the arguments; `argv` starts with the program's name.
///
/// # Errors
/// [`Error::Usage`] and [`Error::Option`].
pub fn parse(argv: &[OsString]) -> Result<Invocation> {
    let dialect = detect(argv);
    let mut words = Words::default();
    let mut arguments = argv.iter().skip(1);
    while let Some(argument) = arguments.next() {
        let mut next =
            |name: &str| arguments.next().cloned().ok_or_else(|| Error::usage(format!("{name} needs a value")));
        match argument.as_bytes() {
            b"--" => words.positional.extend(arguments.by_ref().cloned()),
            b"-" | b"" => words.positional.push(argument.clone()),
            [b'-', b'-', long @ ..] => words.long(dialect, long, &mut next)?,
            [b'-', short @ ..] => words.short(dialect, short, &mut next)?,
            _ => words.positional.push(argument.clone()),
        }
    }
    words.finish(dialect)
}

/// What the arguments said, before it is known what they mean together.
#[derive(Default)]
struct Words {
    options: MountOptions,
    positional: Vec<OsString>,
    namespace: Option<PathBuf>,
    warnings: Vec<String>,
    foreground: bool,
    fake: bool,
    sloppy: bool,
    writable: bool,
    help: bool,
    version: bool,
}

type Next<'a> = dyn FnMut(&str) -> Result<OsString> + 'a;

impl Words {
    fn long(&mut self, dialect: Dialect, long: &[u8], next: &mut Next<'_>) -> Result<()> {
        let (name, inline) = match long.iter().position(|&b| b == b'=') {
            Some(at) => (long.get(..at).unwrap_or_default(), long.get(at + 1..)),
            None => (long, None),
        };
        let shown = format!("--{}", String::from_utf8_lossy(name));
        let inline = inline.map(|v| OsString::from_vec(v.to_vec()));
        let mut value = || inline.clone().map_or_else(|| next(&shown), Ok);
        match (name, dialect) {
            (b"help", _) => self.help = true,
            (b"version", _) => self.version = true,
            (b"debug", _) => self.options.debug = true,
            (b"foreground", _) => self.foreground = true,
            (_, Dialect::FuseOverlayfs) => self.warnings.push(format!("unknown argument ignored: {shown}")),
            (b"image", _) => self.options.image = Some(utf8(value()?, &shown)?),
            (b"container", _) => self.options.container = Some(utf8(value()?, &shown)?),
            (b"root", _) => self.options.root = Some(value()?.into()),
            (b"lower", _) => self.options.lower.push(value()?.into()),
            (b"upper", _) => self.options.upper = Some(value()?.into()),
            (b"work", _) => self.options.work = Some(value()?.into()),
            (b"rw", _) => self.writable = true,
            (b"options", _) => self.options.read(value()?.as_bytes())?,
            _ => return Err(unknown_argument(&shown)),
        }
        Ok(())
    }

    fn short(&mut self, dialect: Dialect, short: &[u8], next: &mut Next<'_>) -> Result<()> {
        let mut letters = short;
        while let Some((&letter, rest)) = letters.split_first() {
            letters = rest;
            let shown = format!("-{}", char::from(letter));
            // A value stands behind its letter or is the next argument; it ends the bundle.
            let mut value = || match std::mem::take(&mut letters) {
                [] => next(&shown),
                inline => Ok(OsStr::from_bytes(inline).to_owned()),
            };
            match (letter, dialect) {
                (b'o', _) => self.options.read(value()?.as_bytes())?,
                (b'h', Dialect::FuseOverlayfs | Dialect::Own) => self.help = true,
                (b'V', Dialect::FuseOverlayfs | Dialect::Own) => self.version = true,
                (b'd', Dialect::FuseOverlayfs | Dialect::Own) => self.options.debug = true,
                (b'f', Dialect::FuseOverlayfs | Dialect::Own) => self.foreground = true,
                (b'f', Dialect::Mount8) => self.fake = true,
                (b's', Dialect::Mount8) => self.sloppy = true,
                (b'n' | b'v', Dialect::Mount8) => {}
                (b'r', Dialect::Mount8) => self.options.read_only = Some(true),
                (b'w', Dialect::Mount8) => self.options.read_only = Some(false),
                (b't', Dialect::Mount8) => drop(value()?),
                (b'N', Dialect::Mount8) => self.namespace = Some(namespace(&value()?)),
                (_, Dialect::FuseOverlayfs) => self.warnings.push(format!("unknown argument ignored: {shown}")),
                _ => return Err(unknown_argument(&shown)),
            }
        }
        Ok(())
    }

    fn finish(mut self, dialect: Dialect) -> Result<Invocation> {
        if self.help || self.version {
            let command = if self.help { Command::Help(dialect) } else { Command::Version(dialect) };
            return Ok(Invocation { command, namespace: None });
        }
        self.judge_unknown(dialect)?;
        let (given, target) = self.positions()?;
        let namespace = self.namespace.take();
        if self.options.remount {
            let command = Command::Remount { target, options: Box::new(self.options) };
            return Ok(Invocation { command, namespace });
        }
        let source = source(&self.options, given.as_deref(), dialect, self.writable)?;
        let request = Request {
            dialect,
            source,
            target,
            foreground: self.foreground || self.options.debug,
            options: self.options,
            warnings: self.warnings,
        };
        let command = if self.fake { Command::Fake(request) } else { Command::Mount(request) };
        Ok(Invocation { command, namespace })
    }

    /// Unknown options are a warning where callers are used to that, else an error.
    fn judge_unknown(&mut self, dialect: Dialect) -> Result<()> {
        for option in &self.options.unknown {
            let shown = option.escape_ascii();
            if dialect == Dialect::FuseOverlayfs || self.sloppy {
                self.warnings.push(format!("unknown mount option ignored: {shown}"));
                continue;
            }
            let hint = MountOptions::similar(option).map(|known| format!("did you mean {known}?"));
            let hint = hint.or_else(|| Some("see mount.mica --help for the options".to_owned()));
            return Err(Error::Usage { what: format!("unknown mount option: {shown}"), hint });
        }
        Ok(())
    }

    fn positions(&mut self) -> Result<(Option<OsString>, PathBuf)> {
        let mut positional = std::mem::take(&mut self.positional).into_iter();
        match (positional.next(), positional.next(), positional.next()) {
            (Some(target), None, None) => Ok((None, target.into())),
            (Some(source), Some(target), None) => Ok((Some(source), target.into())),
            (None, ..) => Err(Error::Usage {
                what: "no mount point".to_owned(),
                hint: Some("the last argument is the directory to mount on".to_owned()),
            }),
            (.., Some(extra)) => Err(Error::usage(format!("too many arguments: {}", extra.display()))),
        }
    }
}

fn unknown_argument(shown: &str) -> Error {
    Error::Usage { what: format!("unknown argument {shown}"), hint: Some("see mount.mica --help".to_owned()) }
}

fn utf8(value: OsString, name: &str) -> Result<String> {
    value.into_string().map_err(|v| Error::usage(format!("{name}: '{}' is not UTF-8", v.display())))
}

/// mount(8) hands over a process number or the path of a namespace file.
fn namespace(value: &OsStr) -> PathBuf {
    let is_number = !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    if is_number { Path::new("/proc").join(value).join("ns/mnt") } else { value.into() }
}

/// Names that callers write where no source is needed.
const NO_SOURCE: [&[u8]; 6] = [b"", b"none", b"mica", b"overlay", b"fuse-overlayfs", b"overlayfs"];

fn source(options: &MountOptions, given: Option<&OsStr>, dialect: Dialect, writable: bool) -> Result<Source> {
    let upper = upper(options, writable)?;
    let root = options.root.clone();
    let dirs = !options.lower.is_empty();
    match (&options.image, &options.container) {
        (None, Some(id)) if !dirs => return Ok(Source::Container { id: id.clone(), root }),
        (Some(reference), None) if !dirs => return Ok(Source::Image { reference: reference.clone(), root, upper }),
        (None, None) => {}
        _ => return Err(Error::usage("choose one of image, container and lowerdir")),
    }
    if dirs {
        let (lower, data_only) = (options.lower.clone(), options.data_only.clone());
        return Ok(Source::Dirs { lower, data_only, upper });
    }
    match given.filter(|given| dialect != Dialect::FuseOverlayfs && !NO_SOURCE.contains(&given.as_bytes())) {
        Some(given) => Ok(Source::Image { reference: utf8(given.to_owned(), "source")?, root, upper }),
        None => Err(nothing_to_mount(dialect)),
    }
}

fn nothing_to_mount(dialect: Dialect) -> Error {
    let what = match dialect {
        Dialect::FuseOverlayfs => "lowerdir not specified",
        Dialect::Mount8 | Dialect::Own => "nothing to mount: neither an image, nor a container, nor lowerdir",
    };
    Error::Usage { what: what.to_owned(), hint: Some("for directories: -o lowerdir=TOP:...:BOTTOM".to_owned()) }
}

fn upper(options: &MountOptions, writable: bool) -> Result<Upper> {
    match (&options.upper, &options.work) {
        (Some(upper), Some(work)) => Ok(Upper::At { upper: upper.clone(), work: work.clone() }),
        (Some(_), None) => Err(Error::Usage {
            what: "workdir not specified".to_owned(),
            hint: Some("upperdir needs an empty workdir on the same filesystem".to_owned()),
        }),
        (None, _) => Ok(if writable { Upper::Fresh } else { Upper::None }),
    }
}
