//! The stream as it comes: counted, digested, checked against what was announced, decompressed.

use std::io;
use std::io::BufReader;
use std::io::Read;

use super::ImportOptions;
use super::What;
use crate::digest::Digest;
use crate::digest::Hasher;
use crate::digest::Mismatch;
use crate::image::compression::Compression;
use crate::image::compression::Decoder;
use crate::image::compression::SNIFF;

/// Reads a blob through, and remembers what went by.
pub(super) struct Blob<'a, R> {
    inner: R,
    hasher: Option<Hasher>,
    size: u64,
    options: &'a ImportOptions<'a>,
}

impl<R: Read> Read for Blob<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = loop {
            match self.inner.read(buf) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.size += n as u64;
        if let Some((_, expected)) = self.options.expected_blob
            && self.size > expected
        {
            return Err(Mismatch::TooLong { expected }.into());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(buf.get(..n).unwrap_or_default());
        }
        if let Some(progress) = self.options.progress {
            progress(self.size);
        }
        Ok(n)
    }
}

impl<R: Read> Blob<'_, R> {
    /// Checks size and digest; `diff_id` is the blob's digest when it is not compressed.
    fn finish(self, diff_id: Digest) -> Result<(Digest, u64), What> {
        let got = self.hasher.map_or(diff_id, Hasher::finish);
        if let Some((expected, size)) = self.options.expected_blob {
            if self.size < size {
                return Err(What::Blob(Mismatch::TooShort { expected: size, got: self.size }));
            }
            if got != expected {
                return Err(What::Blob(Mismatch::Digest { expected, got }));
            }
        }
        Ok((got, self.size))
    }
}

type Chained<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

/// The uncompressed tar of a blob.
pub(super) enum Source<'a, R: Read> {
    /// Without a buffer in between: the reader of the tar has its own.
    Plain(Blob<'a, Chained<R>>),
    Compressed(Decoder<BufReader<Blob<'a, Chained<R>>>>),
}

const BUFFER: usize = 128 * 1024;

impl<'a, R: Read> Source<'a, R> {
    /// Looks at the first bytes of `stream`.
    pub(super) fn open(mut stream: R, options: &'a ImportOptions<'a>) -> Result<Self, What> {
        let mut start = Vec::new();
        (&mut stream).take(SNIFF as u64).read_to_end(&mut start)?;
        let compression = Compression::of(&start)?;
        let hasher = (compression != Compression::None).then(Hasher::new);
        let blob = Blob { inner: io::Cursor::new(start).chain(stream), hasher, size: 0, options };
        if compression == Compression::None {
            return Ok(Source::Plain(blob));
        }
        Ok(Source::Compressed(Decoder::new(compression, BufReader::with_capacity(BUFFER, blob))?))
    }

    /// Whether the blob is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        !matches!(self, Source::Plain(_))
    }

    /// How many bytes of the blob were read.
    pub(super) fn seen(&self) -> u64 {
        match self {
            Source::Plain(blob) => blob.size,
            Source::Compressed(decoder) => decoder.get_ref().get_ref().size,
        }
    }

    /// The blob's digest and size, checked, after the tar was read to its end.
    pub(super) fn finish(self, diff_id: Digest) -> Result<(Digest, u64), What> {
        let mut blob = match self {
            Source::Plain(blob) => blob,
            Source::Compressed(decoder) => decoder.into_inner().into_inner(),
        };
        // A decoder may stop before the end of the blob; the digest is about all of it.
        io::copy(&mut blob, &mut io::sink())?;
        blob.finish(diff_id)
    }
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Plain(blob) => blob.read(buf),
            Source::Compressed(decoder) => decoder.read(buf),
        }
    }
}
