//! Errors of the union.

use crate::layer;
use crate::sys;
use crate::sys::Errno;

/// The result of an operation on the union.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on the union failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A layer could not be read, or the upper directory could not be read or written.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The rules of a filesystem refuse it: the name exists, the directory is not empty, and the like.
    #[error("{0}")]
    Refused(Errno),
    /// The union cannot be put together: says what is wrong with which directory.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// The error number a program is given.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Layer(e) => e.errno(),
            Error::Refused(e) => *e,
            Error::Setup(_) => Errno::INVAL,
        }
    }

    /// Whether this tells of damage or of a fault below, which the log should have; the rest is what programs expect.
    pub fn is_fault(&self) -> bool {
        matches!(self, Error::Layer(layer::Error::Damaged { .. } | layer::Error::Stale(_)))
            || matches!(self.errno(), Errno::IO | Errno::STALE | Errno::MFILE | Errno::NFILE | Errno::NOMEM)
    }
}

impl From<sys::Error> for Error {
    fn from(e: sys::Error) -> Self {
        Error::Layer(layer::Error::Sys(e))
    }
}

/// Shorthand for [`Error::Refused`].
pub(super) fn refused<T>(errno: Errno) -> Result<T> {
    Err(Error::Refused(errno))
}
