//! How bytes are compressed, told by how they begin, and read without it.
//!
//! Layers and archives come plain, or in any of the four formats that `docker load` and `docker import` read. Every decoder
//! reads several streams one behind the other (`pigz`, `pzstd` and `cat` make such files), and none takes memory without
//! end: gzip and bzip2 by their design, zstd by its default window of at most 128 MiB, xz by [`XZ_MEMORY`].

use std::io;
use std::io::BufRead;
use std::io::Read;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::CONCATENATED;
use liblzma::stream::Stream;

/// How much memory an xz stream may ask for, in bytes. `xz -9` makes streams that need 65 MiB.
pub const XZ_MEMORY: u64 = 256 << 20;
/// How many bytes tell the format.
pub const SNIFF: usize = 6;

/// A format of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

/// The name of a format that is recognised, but not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is compressed with {0}, which is not supported")]
pub struct Unsupported(pub &'static str);

impl Compression {
    /// The format of what begins with `start`, of which the first [`SNIFF`] bytes are enough.
    ///
    /// # Errors
    /// [`Unsupported`]
    pub fn of(start: &[u8]) -> Result<Self, Unsupported> {
        Ok(match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // A frame, or a skippable frame in front of one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            // The start of a block, or the end of an empty stream: a tar may have a first name like BZh9.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => {
                Compression::Bzip2
            }
            [b'P', b'K', 3, 4, ..] => return Err(Unsupported("zip")),
            [0x04, 0x22, 0x4d, 0x18, ..] => return Err(Unsupported("lz4")),
            [b'L', b'Z', b'I', b'P', 1, ..] => return Err(Unsupported("lzip")),
            [0x5d, 0, 0, ..] => return Err(Unsupported("lzma")),
            [0x1f, 0x9d, ..] => return Err(Unsupported("compress")),
            _ => Compression::None,
        })
    }
}

/// A reader without the compression around it.
pub enum Decoder<R: BufRead> {
    /// As it comes.
    Plain(R),
    /// From gzip.
    Gzip(Box<MultiGzDecoder<R>>),
    /// From zstd.
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
    /// From bzip2.
    Bzip2(Box<MultiBzDecoder<R>>),
    /// From xz.
    Xz(Box<XzDecoder<R>>),
}

impl<R: BufRead> std::fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl<R: BufRead> Decoder<R> {
    /// Reads `input`, which is compressed so.
    ///
    /// # Errors
    /// When the decoder has no memory.
    pub fn new(compression: Compression, input: R) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Decoder::Plain(input),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => Decoder::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(input)?)),
            Compression::Bzip2 => Decoder::Bzip2(Box::new(MultiBzDecoder::new(input))),
            Compression::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                Decoder::Xz(Box::new(XzDecoder::new_stream(input, stream)))
            }
        })
    }

    /// The reader below.
    pub fn get_ref(&self) -> &R {
        match self {
            Decoder::Plain(inner) => inner,
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Zstd(decoder) => decoder.get_ref(),
            Decoder::Bzip2(decoder) => decoder.get_ref(),
            Decoder::Xz(decoder) => decoder.get_ref(),
        }
    }

    /// The reader below, wherever it stands.
    pub fn into_inner(self) -> R {
        match self {
            Decoder::Plain(inner) => inner,
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.finish(),
            Decoder::Bzip2(decoder) => decoder.into_inner(),
            Decoder::Xz(decoder) => decoder.into_inner(),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(inner) => inner.read(buf),
            Decoder::Gzip(decoder) => decoder.read(buf),
            Decoder::Zstd(decoder) => decoder.read(buf),
            Decoder::Bzip2(decoder) => decoder.read(buf),
            Decoder::Xz(decoder) => decoder.read(buf),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"what is compressed";

    fn every_format() -> [(Compression, Vec<u8>); 4] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TEXT).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(TEXT).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(TEXT).unwrap();
        [
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Zstd, zstd::encode_all(TEXT, 1).unwrap()),
            (Compression::Bzip2, bzip2.finish().unwrap()),
            (Compression::Xz, xz.finish().unwrap()),
        ]
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let compression = Compression::of(bytes).expect("supported");
        let mut out = Vec::new();
        Decoder::new(compression, bytes)?.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn every_format_is_recognised_and_read() {
        for (compression, bytes) in every_format() {
            assert_eq!(Compression::of(&bytes), Ok(compression));
            assert_eq!(read(&bytes).unwrap(), TEXT, "{compression:?}");
            assert_eq!(read(&[&bytes[..], &bytes].concat()).unwrap(), [TEXT, TEXT].concat(), "{compression:?} twice");
        }
        assert_eq!(read(TEXT).unwrap(), TEXT);
        assert_eq!(Compression::of(b"BZh9"), Ok(Compression::None), "a name in a tar");
    }

    #[test]
    fn a_cut_stream_is_an_error_at_every_byte() {
        for (compression, bytes) in every_format() {
            for cut in SNIFF..bytes.len() {
                assert!(read(&bytes[..cut]).is_err(), "{compression:?} cut at {cut} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn an_xz_stream_that_asks_for_too_much_memory_is_refused() {
        let crc = |bytes: &[u8]| {
            let bit = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            !bytes.iter().fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
        };
        let [.., (_, mut xz)] = every_format();
        // The header of the first block: its size, flags, the filter LZMA2 with one byte that says how large its window is.
        let end = 12 + (usize::from(xz[12]) + 1) * 4;
        assert_eq!(xz[12 + 2..12 + 4], [0x21, 1]);
        assert_eq!(xz[end - 4..end], crc(&xz[12..end - 4]).to_le_bytes());
        xz[12 + 4] = 37; // 1.5 GiB
        let sum = crc(&xz[12..end - 4]).to_le_bytes();
        xz[end - 4..end].copy_from_slice(&sum);
        assert!(read(&xz).is_err());
        xz[12 + 4] = 28; // 64 MiB, what xz -9 makes
        let sum = crc(&xz[12..end - 4]).to_le_bytes();
        xz[end - 4..end].copy_from_slice(&sum);
        assert_eq!(read(&xz).unwrap(), TEXT);
    }

    #[test]
    fn what_is_not_read_is_named() {
        for (start, name) in [(&b"PK\x03\x04.."[..], "zip"), (b"\x04\x22\x4d\x18..", "lz4"), (b"LZIP\x01.", "lzip")] {
            assert_eq!(Compression::of(start), Err(Unsupported(name)));
        }
    }
}
