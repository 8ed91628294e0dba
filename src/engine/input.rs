//! What a user names to be read: a file, a pipe, a layout directory, or an address.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Error;
use super::Result;
use crate::registry::http;
use crate::registry::http::Body;
use crate::registry::http::Client;
use crate::registry::http::Proxies;
use crate::registry::http::Times;
use crate::registry::http::Url;

/// An opened archive, and how the user calls it.
#[derive(Debug)]
pub struct Input {
    pub(super) label: String,
    pub(super) kind: InputKind,
    pub(super) failure: Failure,
}

#[derive(Debug)]
pub(super) enum InputKind {
    File(File),
    Directory(OwnedFd),
    Download(Download),
}

impl Input {
    fn new(label: String, kind: InputKind) -> Self {
        Self { label, kind, failure: Failure::default() }
    }

    /// Opens the file, pipe or layout directory that the user named.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let fail = |source| Error::Open { path: label.clone(), source };
        let file = File::open(path).map_err(fail)?;
        let is_dir = file.metadata().map_err(fail)?.is_dir();
        let kind = if is_dir { InputKind::Directory(file.into()) } else { InputKind::File(file) };
        Ok(Self::new(label, kind))
    }

    /// What the user named: an address is asked, anything else is opened.
    ///
    /// # Errors
    /// [`Error::Fetch`], [`Error::Open`].
    pub fn open_or_fetch(word: &str) -> Result<Self> {
        if !Url::is_meant(word) {
            return Self::open(Path::new(word));
        }
        let url = Url::parse(word)?;
        let body = Client::new(Proxies::from_env(), Times::default()).get(&url)?;
        let failure = Failure::default();
        let kind = InputKind::Download(Download { body, failure: failure.clone() });
        // Without the query, which may be a secret, and the sign for it.
        Ok(Self { label: url.to_string().trim_end_matches("?...").to_owned(), kind, failure })
    }

    /// An open descriptor, such as standard input.
    pub fn from_fd(fd: OwnedFd, label: impl Into<String>) -> Self {
        Self::new(label.into(), InputKind::File(fd.into()))
    }

    /// What comes in, and in how many bytes; 0 when that is not known.
    ///
    /// # Errors
    /// [`Error::Open`] for a directory.
    pub(super) fn into_stream(self) -> Result<(Box<dyn Read + Send>, u64)> {
        match self.kind {
            InputKind::File(file) => {
                let size = file.metadata().map_or(0, |m| if m.is_file() { m.len() } else { 0 });
                Ok((Box::new(file), size))
            }
            InputKind::Download(download) => {
                let size = download.body.length().unwrap_or(0);
                Ok((Box::new(download), size))
            }
            InputKind::Directory(_) => {
                Err(Error::Open { path: self.label, source: std::io::ErrorKind::IsADirectory.into() })
            }
        }
    }
}

/// What ended a download. Whoever reads it sees only that there is no more; the reason is taken from here.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<http::Error>>>);

impl Failure {
    /// The reason, once.
    pub(super) fn take(&self) -> Option<Error> {
        self.0.lock().take().map(Error::Fetch)
    }
}

/// A download that keeps the reason why it ended.
#[derive(Debug)]
pub(super) struct Download {
    body: Body,
    failure: Failure,
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.body.read_some(buf).map_err(|e| {
            let short = std::io::Error::other("the download was broken off");
            *self.failure.0.lock() = Some(e);
            short
        })
    }
}
