//! Errors of running a container, with docker's exit codes.

use crate::sys;

/// The result of running a container.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a container did not start, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command does not exist in the container.
    #[error("exec: \"{command}\": {why}")]
    NotFound {
        /// The command as given, escaped.
        command: String,
        /// What is missing.
        why: String,
    },
    /// The command exists but cannot be executed.
    #[error("exec: \"{command}\": {why}")]
    NotExecutable {
        /// The command as given, escaped.
        command: String,
        /// The reason.
        why: String,
    },
    /// The specification cannot be carried out as it is.
    #[error("{0}")]
    Spec(String),
    /// The rootfs holds something that mica refuses to use.
    #[error("refused: {path} in the container's root: {why}")]
    Refused {
        /// The path inside the root, escaped.
        path: String,
        /// What was found.
        why: String,
    },
    /// A step of the setup failed.
    #[error("cannot {step}: {source}")]
    Setup {
        /// What was being done, as an infinitive.
        step: String,
        /// The system call that failed.
        source: sys::Error,
    },
    /// A failure inside the new process, as it told it.
    #[error("{message}")]
    Inside {
        /// The exit code that belongs to it.
        code: u8,
        /// The message of the error there.
        message: String,
    },
    /// Containers need privileges that this process does not have.
    #[error(
        "running a container needs root: this process has user id {0} \
         (hint: use sudo; containers of ordinary users are not built yet)"
    )]
    NotRoot(u32),
    /// The process that should have become the container vanished.
    #[error("the container's first process ended during its setup: {0}")]
    Vanished(String),
}

impl Error {
    /// Docker's exit code: 127 command not found, 126 command not executable, 125 everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            Self::Inside { code, .. } => *code,
            Self::Spec(_) | Self::Refused { .. } | Self::Setup { .. } | Self::NotRoot(_) | Self::Vanished(_) => 125,
        }
    }
}

/// Names the step in which a system call failed.
pub(super) trait Step<T> {
    /// Turns the error into [`Error::Setup`] with this step.
    fn step(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Step<T> for sys::Result<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Setup { step: step(), source })
    }
}
