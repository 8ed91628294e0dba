//! Errors of layers.

use crate::sys;
use crate::sys::Errno;

/// The result of reading a layer.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a layer could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// The stored layer is damaged; says what and where.
    #[error("damaged layer {layer}: {what}")]
    Damaged {
        /// The layer's label.
        layer: String,
        /// What was found, and at which offset or path.
        what: String,
    },
    /// The stored layer was written by a newer mica, with features that this one does not know.
    #[error("layer {layer} needs a newer mica: {what}")]
    Newer {
        /// The layer's label.
        layer: String,
        /// What is not known.
        what: String,
    },
    /// The object is not of the kind that was asked for.
    #[error("{0}")]
    WrongKind(Errno),
    /// A directory of the layer is no longer the one that was seen before: someone changed the layer from outside.
    #[error("the layer was changed from outside: {0} is another directory now")]
    Stale(String),
}

impl Error {
    /// The error number a program is given.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Sys(e) => e.errno(),
            Error::Damaged { .. } | Error::Newer { .. } => Errno::IO,
            Error::WrongKind(e) => *e,
            Error::Stale(_) => Errno::STALE,
        }
    }
}
