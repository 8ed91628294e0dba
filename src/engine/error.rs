//! Errors of use cases.

use std::path::PathBuf;

use crate::image::archive;
use crate::image::reference::BadReference;
use crate::store;

/// The result of a use case.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An archive could not be loaded.
    #[error("{archive}: {source}")]
    Archive {
        /// The archive, as the user named it.
        archive: String,
        /// Why.
        source: Box<archive::Error>,
    },
    /// A file that the user named cannot be opened.
    #[error("{path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A word is no name of an image.
    #[error("{name:?}: {source}")]
    Name {
        /// The word.
        name: String,
        /// Why.
        source: BadReference,
    },
    /// What is asked for would harm something else; the words are docker's.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A path could not be explained.
    #[error(transparent)]
    Explain(#[from] crate::explain::Error),
    /// A mount, or what was said about one, is wrong.
    #[error(transparent)]
    Mount(#[from] crate::mount::Error),
    /// A mount tells nothing of its layers.
    #[error("nothing is known of the layers mounted on {}", .0.display())]
    NoRecord(PathBuf),
    /// A path is not where a union is mounted.
    #[error("{} is not on a mount of mica", .0.display())]
    NotInMount(PathBuf),
    /// A tag was asked for under a digest.
    #[error("refusing to create a tag with a digest reference")]
    TagIsDigest,
}

impl From<crate::sys::Error> for Error {
    fn from(e: crate::sys::Error) -> Self {
        Error::Store(e.into())
    }
}
