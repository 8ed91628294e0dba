//! The open backing file of a node: where its content is read and written.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::error::Error;
use super::error::Result;
use super::parts::Partly;
use crate::layer::Content;
use crate::sys::Errno;

/// An open backing file.
#[derive(Debug, Clone)]
pub(super) enum Io {
    /// The content of a lower file.
    Lower(Content),
    /// A file in upper, and what it is open for.
    Upper(Arc<OwnedFd>, OpenFor),
    /// A file in upper over the content of a lower one.
    Partly(Arc<Partly>),
}

impl Io {
    /// The file in upper, and what it is open for.
    pub fn upper(&self) -> Option<(&Arc<OwnedFd>, OpenFor)> {
        match self {
            Self::Lower(_) => None,
            Self::Upper(fd, how) => Some((fd, *how)),
            Self::Partly(file) => Some((&file.own, file.how)),
        }
    }

    /// Runs `write` with the file in upper.
    pub fn write<T>(&self, write: impl FnOnce(&OwnedFd) -> Result<T>) -> Result<T> {
        match self {
            Self::Lower(_) => Err(Error::Refused(Errno::IO)),
            Self::Upper(fd, _) => write(fd),
            Self::Partly(file) => {
                // Before, for who looks meanwhile; and after, for who began to look meanwhile.
                file.here.is_written();
                let done = write(&file.own);
                file.here.is_written();
                done
            }
        }
    }

    /// Whether it can be written to.
    pub fn writes(&self) -> bool {
        self.upper().is_some_and(|(_, how)| how.writing())
    }
}

/// What a file in upper is open for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenFor {
    /// Reading.
    Reading,
    /// Reading and writing.
    Writing,
    /// Reading, and writing at its end: the file is append-only.
    Appending,
}

impl OpenFor {
    pub(super) fn writing(self) -> bool {
        self != Self::Reading
    }
}
