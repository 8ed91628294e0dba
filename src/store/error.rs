//! Errors of the store.

use crate::image::Digest;
use crate::path::BadName;
use crate::sys;

/// The result of a call of the store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// The layers could not be read or written.
    #[error("{0}")]
    Layers(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The user has no home directory to keep a store in.
    #[error("no place for the store: neither XDG_DATA_HOME nor HOME is set")]
    NoHome,
    /// The store was written by a mica that this one does not understand.
    #[error("the store needs a newer mica: {0}")]
    Format(String),
    /// The store may be read by this mica, but not changed.
    #[error("the store {path} was written by a newer mica and can only be read")]
    ReadOnly {
        /// Where it lies.
        path: String,
    },
    /// The store is another user's.
    #[error("the directory belongs to user {owner}, and this is user {user}")]
    Owner {
        /// Who owns the store's root.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// A file of the store is damaged.
    #[error("damaged store: {file}: {why}")]
    Damaged {
        /// Which file, from the root of the store.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// A blob that something refers to is missing.
    #[error("damaged store: blob {0} is missing")]
    NoBlob(Digest),
    /// A name that came from outside is no file name.
    #[error("{name:?}: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong.
        why: BadName,
    },
    /// Nothing has this name or id.
    #[error("No such {what}: {name}")]
    NotFound {
        /// `image`, `container` or `mount`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Several things have an id that begins so.
    #[error("{name} is the beginning of several {what} ids")]
    Ambiguous {
        /// `image` or `container`.
        what: &'static str,
        /// The beginning.
        name: String,
    },
    /// A container has the name already.
    #[error("the container name {name:?} is already in use by container {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
}
