//! Errors of use cases.

use std::path::PathBuf;

use crate::image::archive;
use crate::image::archive::write::WriteError;
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
    /// What the user named cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] crate::registry::http::Error),
    /// A file that the user named cannot be written.
    #[error("{path}: {source}")]
    Output {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A directory that shall be made is there already, and not empty.
    #[error("{0} is there already and is not empty")]
    NotEmpty(String),
    /// The configuration file is wrong.
    #[error("{path}: {why}")]
    Settings {
        /// The file.
        path: String,
        /// What is wrong, and where.
        why: String,
    },
    /// A root filesystem could not be imported.
    #[error("{archive}: {source}")]
    Import {
        /// The archive, as the user named it.
        archive: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A change that an image shall get makes no sense.
    #[error(transparent)]
    Change(#[from] crate::image::change::BadChange),
    /// A container's tree could not be written as a tar.
    #[error("cannot write the tar: {0}")]
    Export(std::io::Error),
    /// An archive could not be written.
    #[error(transparent)]
    Save(#[from] WriteError),
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
    /// The mount helper is not installed.
    #[error("the mount helper mount.mica was not found beside mica, in the system's folders, or in PATH")]
    NoHelper,
    /// The mount helper failed; its own words.
    #[error("{0}")]
    Helper(String),
    /// A container could not be started.
    #[error(transparent)]
    Run(crate::run::Error),
    /// A word is no name for a container.
    #[error("invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    ContainerName(String),
    /// The changes of a container could not be written as a layer.
    #[error("cannot commit: {0}")]
    Commit(String),
    /// Something that cannot happen.
    #[error("internal error: {0}")]
    Internal(String),
    /// The union over a container's layers could not be read.
    #[error(transparent)]
    Union(#[from] crate::union::Error),
    /// A layer of something that is looked at cannot be read.
    #[error("layer {number} of {count} of {target} ({diff_id}) cannot be read: {source}")]
    Layer {
        /// What the user calls it.
        target: String,
        /// Which layer, from 1, lowest first.
        number: usize,
        /// Of how many.
        count: usize,
        /// Its diff id.
        diff_id: crate::image::Digest,
        /// Why.
        source: Box<store::Error>,
    },
    /// A range of layers where one stack is meant.
    #[error("{0:?} is a range of layers; only 'mica diff' compares two stacks")]
    RangeHere(String),
    /// One stack where two are meant.
    #[error("{0:?} is one image; a comparison needs two, or a range of layers")]
    NoRange(String),
    /// A target without a path.
    #[error("no PATH is given for {0}")]
    NoPath(String),
    /// An archive of several images.
    #[error("{archive} holds several images: {names}")]
    WhichImage {
        /// The archive.
        archive: String,
        /// The names of its images.
        names: String,
    },
    /// The system gives no random numbers.
    #[error("cannot get random bytes: {0}")]
    Random(std::io::Error),
    /// A path could not be explained.
    #[error(transparent)]
    Explain(#[from] crate::explain::Error),
    /// A mount, or what was said about one, is wrong.
    #[error(transparent)]
    Mount(#[from] crate::mount::Error),
    /// A mount tells nothing of its layers.
    #[error("nothing is known of the layers mounted on {}", .0.display())]
    NoRecord(PathBuf),
    /// A word leads to no mount, where only a mount will do.
    #[error("{} is neither a running container nor on a mount of mica", .0.display())]
    NoMount(PathBuf),
    /// A mount cannot be asked about itself.
    #[error("the server of {} cannot be asked: it has no socket that this user can reach", .0.display())]
    NoSocket(PathBuf),
    /// The server of a mount does not answer; says why.
    #[error("{0}")]
    NotServed(String),
    /// A path is not where a union is mounted.
    #[error("{} is not on a mount of mica", .0.display())]
    NotInMount(PathBuf),
    /// A mount could not be refreshed.
    #[error("cannot refresh {path}: {source}")]
    Refresh {
        /// The path, as the user named it.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A tag was asked for under a digest.
    #[error("refusing to create a tag with a digest reference")]
    TagIsDigest,
}

impl From<crate::sys::Error> for Error {
    fn from(e: crate::sys::Error) -> Self {
        Error::Store(e.into())
    }
}
