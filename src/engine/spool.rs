//! Layers that are compressed for an archive: their digests and sizes must be known before they are written.

use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::os::fd::OwnedFd;

use super::Error;
use super::Result;
use crate::digest::Sha256Writer;
use crate::image::Digest;
use crate::image::archive::source::FileRange;
use crate::image::manifest::media_type;
use crate::store::Store;
use crate::sys;
use crate::sys::data::Appender;

/// How layers are compressed. The same layer gives the same bytes with the same mica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compress {
    /// gzip, which everybody reads.
    Gzip,
    /// zstd: faster and smaller; docker reads it since version 23, podman since 2.
    Zstd,
}

/// The levels of the command line tools.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

impl Compress {
    /// The media type of a layer that is compressed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Compress::Gzip => media_type::OCI_LAYER_GZIP,
            Compress::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }

    fn copy(self, from: &mut dyn Read, to: &mut dyn Write) -> std::io::Result<()> {
        match self {
            Compress::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::new(GZIP_LEVEL));
                std::io::copy(from, &mut encoder)?;
                encoder.finish().map(drop)
            }
            Compress::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(to, ZSTD_LEVEL)?;
                std::io::copy(from, &mut encoder)?;
                encoder.finish().map(drop)
            }
        }
    }
}

/// One file in the store's filesystem, without a name, that holds compressed layers one behind the other.
#[derive(Debug)]
pub(super) struct Spool {
    file: Appender<OwnedFd>,
}

/// A layer in the spool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spooled {
    /// The digest of the compressed bytes.
    pub blob: Digest,
    /// Where they begin.
    pub at: u64,
    /// Their number.
    pub size: u64,
}

impl Spool {
    pub(super) fn new(store: &Store) -> Result<Self> {
        let fd = match sys::open::tmpfile(store.root(), 0o600)? {
            Some(fd) => fd,
            None => store.nameless_file()?,
        };
        Ok(Self { file: Appender::new(fd) })
    }

    /// Compresses what `from` gives.
    pub(super) fn add(&mut self, how: Compress, from: &mut dyn Read) -> Result<Spooled> {
        let fail = |source| Error::Output { path: "a compressed layer".to_owned(), source };
        let at = self.file.len();
        let mut out = Sha256Writer::new(BufWriter::with_capacity(256 << 10, &mut self.file));
        how.copy(from, &mut out).map_err(fail)?;
        let (mut out, blob, size) = out.finish();
        out.flush().map_err(fail)?;
        Ok(Spooled { blob, at, size })
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.file.into_inner()
    }
}

impl Spooled {
    /// The compressed bytes.
    pub(super) fn read<'a>(&self, spool: &'a OwnedFd) -> FileRange<'a> {
        FileRange::new(spool, self.at, self.at + self.size)
    }
}
