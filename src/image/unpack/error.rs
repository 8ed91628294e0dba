//! Errors of taking a layer.

use std::io;

use super::ImportOptions;
use crate::digest::Mismatch;
use crate::image::compression::Unsupported;
use crate::image::limits::Exceeded;
use crate::layer;
use crate::layer::pack::TreeError;
use crate::path::BadName;
use crate::path::Escaped;

/// Why a layer was not taken: which layer, which entry (where it is about one), and what.
#[derive(Debug)]
pub struct Error {
    /// The layer, as far as it is known: the beginning of its expected diff id or digest.
    pub layer: String,
    /// The entry's name, escaped for a terminal.
    pub entry: Option<String>,
    /// How far the tar was read, in bytes.
    pub offset: u64,
    /// What happened.
    pub what: Box<What>,
}

/// What was wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum What {
    /// The stream could not be read, or not be decompressed.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// The stream is compressed in a way that layers are not.
    #[error(transparent)]
    Compression(#[from] Unsupported),
    /// The stream is not the announced one.
    #[error(transparent)]
    Blob(Mismatch),
    /// The tar is not the announced one.
    #[error("the uncompressed tar is not the expected one: {0}")]
    DiffId(Mismatch),
    /// The first block is no tar header.
    #[error("it is not a tar")]
    NotATar,
    /// The tar ends within an entry.
    #[error("it is cut short")]
    Truncated,
    /// A header or extended header makes no sense.
    #[error("bad header: {0}")]
    Header(String),
    /// The name is not one that a file can have in a layer.
    #[error("bad name: {0}")]
    Name(#[from] BadName),
    /// The name is one that layers have no use for.
    #[error("bad name: {0}")]
    Reserved(&'static str),
    /// The entry does not fit to those before it.
    #[error(transparent)]
    Tree(TreeError),
    /// A limit was met.
    #[error(transparent)]
    Limit(#[from] Exceeded),
    /// The store failed.
    #[error("cannot be stored: {0}")]
    Store(#[from] layer::Error),
}

impl Error {
    pub(super) fn new(options: &ImportOptions<'_>, what: impl Into<What>) -> Self {
        let digest = options.expected_diff_id.or(options.expected_blob.map(|(digest, _)| digest));
        let layer = digest.map_or_else(|| "(digest not known yet)".to_owned(), |digest| digest.short());
        Self { layer, entry: None, offset: 0, what: Box::new(what.into()) }
    }

    pub(super) fn at(mut self, entry: Option<&[u8]>, offset: u64) -> Self {
        self.entry = entry.map(|name| Escaped(name.get(..256).unwrap_or(name)).to_string());
        self.offset = offset;
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "layer {}", self.layer)?;
        if let Some(entry) = &self.entry {
            write!(f, ", entry '{entry}'")?;
        }
        if self.offset > 0 {
            write!(f, ", before byte {}", self.offset)?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.what)
    }
}

impl From<TreeError> for What {
    fn from(e: TreeError) -> Self {
        match e {
            TreeError::Limit { name, limit } => What::Limit(Exceeded { name, limit, found: limit.saturating_add(1) }),
            e => What::Tree(e),
        }
    }
}

impl From<io::Error> for What {
    fn from(e: io::Error) -> Self {
        match e.get_ref().and_then(|inner| inner.downcast_ref::<Mismatch>()) {
            Some(mismatch) => What::Blob(mismatch.clone()),
            None if e.kind() == io::ErrorKind::UnexpectedEof => What::Truncated,
            None => What::Read(e),
        }
    }
}
