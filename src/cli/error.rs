//! What the user sees when something fails: one line that says what and why, a hint what to do, an exit code like docker's.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::engine;
use crate::image::archive;
use crate::image::archive::write::WriteError;
use crate::layer;
use crate::path;
use crate::store;
use crate::sys::Errno;

/// The exit code of commands that run or look at something, when mica itself fails.
pub const EXIT_MICA: u8 = 125;
/// The exit code of all other commands.
pub const EXIT_FAILURE: u8 = 1;
/// What to do about a full disk.
const MAKE_ROOM: &str = "make room: 'mica rmi' removes images";
/// 128 and the number of SIGPIPE, as a program ends that the signal kills.
const EXIT_PIPE: u8 = 141;
/// 128 and the number of SIGHUP, as a program ends whose terminal vanishes.
const EXIT_HANGUP: u8 = 129;

/// A failed command.
#[derive(Debug)]
pub struct CliError {
    what: String,
    hint: Option<String>,
    code: u8,
    quiet: bool,
    /// The exit code is an answer and stays.
    decided: bool,
}

impl CliError {
    /// A failure in one line.
    pub fn new(what: impl ToString) -> Self {
        Self { what: what.to_string(), hint: None, code: EXIT_FAILURE, quiet: false, decided: false }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl ToString) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Ends with this exit code, which says something.
    #[must_use]
    pub fn code(self, code: u8) -> Self {
        Self { code, decided: true, ..self }
    }

    /// The exit code of a command that runs or looks at something.
    #[must_use]
    pub fn in_run(mut self) -> Self {
        if self.code == EXIT_FAILURE && !self.quiet && !self.decided {
            self.code = EXIT_MICA;
        }
        self
    }

    /// Ends with this exit code and nothing more to say: the answer was printed, and the code is part of it.
    pub fn answered(code: u8) -> Self {
        Self { code, ..Self::reported() }
    }

    /// Fails with what was printed already.
    pub fn reported() -> Self {
        Self { quiet: true, ..Self::new("") }
    }

    /// Ends with the exit code of what was run.
    pub fn ended(code: u8) -> Self {
        Self { code, ..Self::reported() }
    }

    /// The exit code of a command that ends with this.
    pub fn exit_code(&self) -> u8 {
        self.code
    }

    /// What is said about the failure, on one line; empty when there is nothing more to say.
    pub fn message(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        one_line(&format!("{}{hint}", self.what))
    }

    /// Prints the failure without ending the command.
    pub fn print(&self) {
        if self.quiet {
            return;
        }
        let mut text = format!("mica: {}\n", one_line(&self.what));
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {}\n", one_line(hint)));
        }
        // With standard error gone there is nobody left to tell.
        std::io::stderr().write_all(text.as_bytes()).unwrap_or_default();
    }

    /// Prints the failure; the exit code.
    pub fn report(&self) -> ExitCode {
        self.print();
        ExitCode::from(self.code)
    }
}

/// Error texts may hold names out of an image: they stay on one line, and no control character reaches the terminal.
fn one_line(text: &str) -> String {
    let tame = |c: char| match c {
        c if c.is_control() => " ".to_owned(),
        c if path::deceives(c) => path::Escaped(c.encode_utf8(&mut [0; 4]).as_bytes()).to_string(),
        c => c.to_string(),
    };
    text.chars().map(tame).collect()
}

impl From<std::io::Error> for CliError {
    /// Errors of printing.
    fn from(e: std::io::Error) -> Self {
        match e.kind() {
            std::io::ErrorKind::BrokenPipe => Self::ended(EXIT_PIPE),
            // What `cli::output` makes of it.
            std::io::ErrorKind::ConnectionAborted => Self::ended(EXIT_HANGUP),
            _ => Self::new(format!("cannot write the output: {e}")),
        }
    }
}

impl From<engine::Error> for CliError {
    fn from(e: engine::Error) -> Self {
        match e {
            engine::Error::Store(e) => e.into(),
            engine::Error::Archive { ref source, .. } => {
                let hint = archive_hint(source);
                let error = Self::new(&e);
                hint.map_or(error, |hint| Self::new(&e).hint(hint))
            }
            engine::Error::Conflict(_) => {
                let hint = if e.to_string().contains("multiple repositories") {
                    "remove its names one by one, or all with 'mica rmi -f'"
                } else if e.to_string().contains("must") {
                    "remove the container with 'mica rm', or use 'mica rmi -f'"
                } else {
                    "wait for its command to end, or use 'mica rm -f'; a mount goes with 'mica umount'"
                };
                Self::new(&e).hint(hint)
            }
            engine::Error::Save(WriteError::Write(e)) | engine::Error::Export(e)
                if e.kind() == std::io::ErrorKind::BrokenPipe =>
            {
                e.into()
            }
            engine::Error::Fetch(ref source) => {
                let hint = source.hint();
                let error = Self::new(&e);
                hint.map_or(error, |hint| Self::new(&e).hint(hint))
            }
            engine::Error::NotEmpty(_) => Self::new(&e).hint("name a directory that is not there yet, or an empty one"),
            engine::Error::Settings { .. } => Self::new(&e).hint("a line that is known: keep-blobs = true"),
            engine::Error::Import { .. } => Self::new(&e)
                .hint("'mica import' reads the tar of a root filesystem, plain or in gzip, zstd, bzip2 or xz"),
            engine::Error::Run(ref source) => Self { code: source.exit_code(), ..Self::new(&e) },
            engine::Error::Helper(said) => from_helper(&said),
            engine::Error::NoHelper => Self::new(&e).hint("install mount.mica beside mica, or in /sbin"),
            engine::Error::NoRecord(_) => Self::new(&e)
                .hint("was it mounted by another user or another program? give the image or the directories"),
            engine::Error::NoMount(_) => {
                Self::new(&e).hint("'mica mounts' lists the mounts, 'mica ps' the running containers")
            }
            engine::Error::NoSocket(_) => Self::new(&e).hint(
                "a mount has one where its server could write to /run/mica or $XDG_RUNTIME_DIR/mica, for its owner and root",
            ),
            engine::Error::NotInMount(_) | engine::Error::NoPath(_) => {
                Self::new(&e).hint("a TARGET needs a PATH behind it: IMAGE|CONTAINER|MOUNTPOINT PATH")
            }
            engine::Error::Layer { .. } => Self::new(&e).hint("loading the image again repairs what is damaged"),
            engine::Error::NoRange(_) => Self::new(&e).hint("mica diff IMAGE@2..@5, or mica diff IMAGE IMAGE"),
            engine::Error::WhichImage { .. } => {
                Self::new(&e).hint("name one behind the file: docker-archive:FILE:NAME")
            }
            engine::Error::Mount(ref source) => {
                let hint = source.hint();
                let error = Self::new(&e);
                hint.map_or(error, |hint| Self::new(&e).hint(hint))
            }
            other => Self::new(other),
        }
    }
}

/// What the mount helper printed: `mica: what`, and perhaps `mica: hint: what to do`.
fn from_helper(said: &str) -> CliError {
    let lines = || said.lines().map(|line| line.strip_prefix("mica: ").unwrap_or(line));
    let what: Vec<&str> = lines().filter(|line| !line.starts_with("hint: ")).collect();
    let error = CliError::new(what.join("; "));
    match lines().find_map(|line| line.strip_prefix("hint: ")) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn archive_hint(e: &archive::Error) -> Option<&'static str> {
    match e {
        archive::Error::NotAnImage(_) => Some(
            "'mica load' reads what 'docker save', 'podman save' and 'skopeo copy' write, 'mica import' the tar of a root filesystem",
        ),
        archive::Error::NoDocuments => Some("if it is the tar of a root filesystem, use 'mica import FILE NAME'"),
        archive::Error::Truncated(_) => Some("the archive was not written or copied to its end; make it again"),
        archive::Error::Mismatch { .. } | archive::Error::Layer { .. } => {
            Some("nothing was loaded; the archive is damaged or was changed, make it again")
        }
        archive::Error::Store(cause) if is_full(&**cause) => Some(MAKE_ROOM),
        _ => None,
    }
}

/// Whether an error stands for a full disk.
fn is_full(e: &(dyn std::error::Error + 'static)) -> bool {
    let errno = e.downcast_ref::<layer::Error>().map(layer::Error::errno);
    errno == Some(Errno::NOSPC) || e.source().is_some_and(is_full)
}

impl From<store::Error> for CliError {
    fn from(e: store::Error) -> Self {
        let error = Self::new(&e);
        match &e {
            store::Error::NotFound { what: "image", .. } => error.hint(
                "'mica images' lists the images that are there; 'mica load -i FILE' and 'mica import FILE NAME' bring others",
            ),
            store::Error::NotFound { what: "container", .. } => error.hint("'mica ps -a' lists all containers"),
            store::Error::NameTaken { name, .. } => {
                error.hint(format!("remove that container ('mica rm {name}'), or choose another name"))
            }
            store::Error::Ambiguous { .. } => error.hint("give more digits"),
            store::Error::Owner { owner, .. } => error.hint(format!(
                "run mica as that user (sudo -u '#{owner}' mica ...), name a store of your own with --root DIR, or set MICA_ANY_OWNER=1 if you trust it"
            )),
            store::Error::NoHome => error.hint("name a place with --root DIR or MICA_ROOT"),
            store::Error::Format(_) | store::Error::ReadOnly { .. } => {
                error.hint("use the mica that wrote it, or another store with --root DIR")
            }
            store::Error::Damaged { .. } | store::Error::NoBlob(_) => {
                error.hint("loading the image again repairs what is damaged")
            }
            store::Error::Sys(e) if e.errno() == Errno::NOSPC => error.hint(MAKE_ROOM),
            store::Error::Sys(e) if e.errno() == Errno::ACCESS => {
                error.hint("is it another user's store? --root DIR names one")
            }
            _ => error,
        }
    }
}

/// The store could not be opened.
pub fn opening_store(root: &Path, e: store::Error) -> CliError {
    let mut error = CliError::from(e);
    error.what = format!("cannot open the store {}: {}", root.display(), error.what);
    if error.hint.is_none() {
        error.hint = Some("another place can be named with --root DIR or MICA_ROOT".to_owned());
    }
    error
}

/// Docker's line for a `--filter` that cannot be read.
fn bad_filter(e: &clap::Error) -> Option<String> {
    use clap::error::ContextKind;
    use clap::error::ContextValue;
    let text = |kind| match e.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    };
    let (argument, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let why = std::error::Error::source(e)?;
    argument.starts_with("--filter ").then(|| format!("invalid argument {value:?} for \"-f, --filter\" flag: {why}"))
}

/// A command that docker has and mica has not, and what to do instead: what resembles it in letters would be no help.
fn dockers_own(e: &clap::Error) -> Option<(&str, &'static str)> {
    use clap::error::ContextKind;
    use clap::error::ContextValue;
    let Some(ContextValue::String(word)) = e.get(ContextKind::InvalidSubcommand) else { return None };
    let instead = match word.as_str() {
        "pull" | "push" | "login" | "logout" | "search" => {
            "'mica load -i FILE' reads what 'docker save', 'podman save' and 'skopeo copy' write, and 'mica save' writes it"
        }
        "build" => "change a container of 'mica run' and 'mica commit' it; --change sets what a Dockerfile would",
        "exec" | "attach" | "start" | "stop" | "restart" | "kill" | "wait" | "logs" | "pause" | "unpause"
        | "create" => {
            "a container lives as long as its 'mica run'; 'mica ps' lists those that run, 'mica rm -f' ends one"
        }
        "cp" => {
            "'mica show CONTAINER PATH' prints a file, 'mica export' writes all as a tar, and 'mica run -v' shows one of the host's"
        }
        _ => return None,
    };
    Some((word, instead))
}

/// Whether what clap does not know begins as an option does.
fn is_option(e: &clap::Error) -> bool {
    use clap::error::ContextKind;
    use clap::error::ContextValue;
    match e.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => word.starts_with('-'),
        _ => true,
    }
}

/// Reports what clap found in the arguments. Help and version are no failures.
pub fn usage(e: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if let Some(line) = bad_filter(e) {
        return CliError::new(line).code(EXIT_MICA).hint("see --help").report();
    }
    if let Some((word, instead)) = dockers_own(e) {
        return CliError::new(format!("there is no command {word:?} yet")).hint(instead).report();
    }
    if let Err(printing) = e.print() {
        return CliError::from(printing).report();
    }
    match e.kind() {
        // A group without a command shows what it has, which docker does not count as a failure.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ExitCode::SUCCESS
        }
        ErrorKind::InvalidSubcommand => ExitCode::from(EXIT_FAILURE),
        // As docker does: too few or too many words are a failure, a wrong option is a wrong command line.
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues | ErrorKind::TooManyValues => {
            ExitCode::from(EXIT_FAILURE)
        }
        ErrorKind::UnknownArgument if !is_option(e) => ExitCode::from(EXIT_FAILURE),
        _ => ExitCode::from(EXIT_MICA),
    }
}
