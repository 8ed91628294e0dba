//! What is to be mounted.

use std::path::PathBuf;

/// What the caller asks to see at the mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The layers of an image.
    Image {
        /// The image, as the user wrote it.
        reference: String,
        /// The store's directory, if it was given.
        root: Option<PathBuf>,
        /// Where changes go.
        upper: Upper,
    },
    /// The layers and the upper directory of a container.
    Container {
        /// Its id, the beginning of its id, or its name.
        id: String,
        /// The store's directory, if it was given.
        root: Option<PathBuf>,
    },
    /// Directories.
    Dirs {
        /// The lower directories, the topmost first; never empty.
        lower: Vec<PathBuf>,
        /// Directories that hold only the data of metacopy files.
        data_only: Vec<PathBuf>,
        /// Where changes go.
        upper: Upper,
    },
}

/// Where changes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// Nowhere: the mount is read-only.
    None,
    /// To a new place that the program chooses.
    Fresh,
    /// To these directories.
    At {
        /// Holds the changes.
        upper: PathBuf,
        /// Holds unfinished changes.
        work: PathBuf,
    },
}

impl Source {
    /// Whether anything can be changed through the mount.
    pub fn is_writable(&self) -> bool {
        match self {
            Source::Image { upper, .. } | Source::Dirs { upper, .. } => *upper != Upper::None,
            Source::Container { .. } => true,
        }
    }

    /// A short name for messages and for the mount table.
    pub fn label(&self) -> String {
        match self {
            Source::Image { reference, .. } => reference.clone(),
            Source::Container { id, .. } => id.clone(),
            Source::Dirs { lower, .. } => match lower.as_slice() {
                [only] => only.display().to_string(),
                [top, rest @ ..] => format!("{} and {} more", top.display(), rest.len()),
                [] => "nothing".to_owned(),
            },
        }
    }
}
