//! SHA-256 digests as OCI documents spell them: `sha256:` and 64 lowercase hex digits.
//!
//! Source: OCI image specification `descriptor.md`, "Digests". Other algorithms, upper case and any other spelling are
//! refused, so that a digest from a hostile document can be used as a file name without another check.

use std::fmt;
use std::io;
use std::io::Read;
use std::io::Write;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use sha2::Digest as _;
use sha2::Sha256;

const PREFIX: &str = "sha256:";

/// A SHA-256 digest: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no digest: it must be 'sha256:' and 64 lowercase hex digits")]
pub struct BadDigest(String);

impl Digest {
    /// Takes 32 bytes as a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lowercase hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        hex_of(&self.0)
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> String {
        hex_of(self.0.get(..6).unwrap_or_default())
    }

    /// Reads 64 lowercase hex digits, without the algorithm.
    ///
    /// # Errors
    /// [`BadDigest`] for anything else.
    pub fn from_hex(hex: &str) -> Result<Self, BadDigest> {
        let bad = || BadDigest(shown(hex));
        if hex.len() != 64 {
            return Err(bad());
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let &[high, low] = pair else { return Err(bad()) };
            *byte = (nibble(high).ok_or_else(bad)? << 4) | nibble(low).ok_or_else(bad)?;
        }
        Ok(Self(bytes))
    }
}

/// Two lowercase hex digits for each byte.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |n: u8| DIGITS.get(usize::from(n & 15)).copied().unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// What an error shows of a bad text: its beginning, escaped.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(100).collect();
    crate::path::Escaped(cut.as_bytes()).to_string()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let hex = text.strip_prefix(PREFIX).ok_or_else(|| BadDigest(shown(text)))?;
        Self::from_hex(hex).map_err(|_| BadDigest(shown(text)))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes the digest of what it is fed.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was fed.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Passes bytes on to a writer and computes their digest.
#[derive(Debug)]
pub struct Sha256Writer<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Sha256Writer<W> {
    /// Wraps `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(), size: 0 }
    }

    /// The inner writer, the digest of what went through, and how many bytes that were.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.size)
    }
}

impl<W: Write> Write for Sha256Writer<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(buf.get(..n).unwrap_or_default());
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What a [`VerifyingReader`] found wrong; the inner error of the [`io::Error`] that it returns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// More bytes came than were announced.
    #[error("more than the expected {expected} bytes")]
    TooLong {
        /// The announced size in bytes.
        expected: u64,
    },
    /// Fewer bytes came than were announced.
    #[error("{got} bytes instead of the expected {expected}")]
    TooShort {
        /// The announced size in bytes.
        expected: u64,
        /// How many bytes came.
        got: u64,
    },
    /// The bytes are others than those announced.
    #[error("the digest is {got} instead of the expected {expected}")]
    Digest {
        /// The announced digest.
        expected: Digest,
        /// The digest of what came.
        got: Digest,
    },
}

impl From<Mismatch> for io::Error {
    fn from(e: Mismatch) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, e)
    }
}

/// Reads through, and fails as soon as the bytes cannot be the announced ones: at the first byte too many, or at the end
/// when size or digest differ. Only a reader that has returned `Ok(0)` has been verified.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    expected: (Digest, u64),
    hasher: Option<Hasher>,
    size: u64,
}

impl<R: Read> VerifyingReader<R> {
    /// Wraps `inner`, which must give exactly `size` bytes with this digest.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        Self { inner, expected: (digest, size), hasher: Some(Hasher::new()), size: 0 }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let (digest, expected) = self.expected;
        let n = self.inner.read(buf)?;
        self.size += n as u64;
        if self.size > expected {
            return Err(Mismatch::TooLong { expected }.into());
        }
        if n > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(buf.get(..n).unwrap_or_default());
            }
        } else if let Some(hasher) = self.hasher.take() {
            if self.size < expected {
                return Err(Mismatch::TooShort { expected, got: self.size }.into());
            }
            let got = hasher.finish();
            if got != digest {
                return Err(Mismatch::Digest { expected: digest, got }.into());
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_the_one_spelling_is_read() {
        let empty: Digest = EMPTY.parse().unwrap();
        assert_eq!(empty, Digest::of(b""));
        assert_eq!(empty.to_string(), EMPTY);
        assert_eq!(empty.short(), "e3b0c44298fc");
        let hex = EMPTY.strip_prefix("sha256:").unwrap();
        for bad in [
            "",
            "sha256:",
            hex,
            &format!("sha512:{hex}"),
            &EMPTY.to_uppercase(),
            &format!("sha256:{}", hex.to_uppercase()),
            &format!("{EMPTY}0"),
            "sha256:../../../../../../../../../../../../../../../../../../../../../etc",
            "sha256:é3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Digest>(&format!("\"{EMPTY}\"")).unwrap(), empty);
    }

    #[test]
    fn a_verifying_reader_believes_nothing() {
        let read = |bytes: &[u8], size| {
            io::copy(&mut VerifyingReader::new(bytes, Digest::of(b"hello"), size), &mut io::sink())
                .map_err(|e| e.to_string())
        };
        assert_eq!(read(b"hello", 5).unwrap(), 5);
        assert!(read(b"hello!", 5).unwrap_err().contains("more than"));
        assert!(read(b"hell", 5).unwrap_err().contains("4 bytes instead"));
        let wrong = read(b"hallo", 5).unwrap_err();
        assert!(wrong.contains(&Digest::of(b"hello").to_string()) && wrong.contains(&Digest::of(b"hallo").to_string()));
    }

    #[test]
    fn a_writer_tells_what_went_through() {
        let mut writer = Sha256Writer::new(Vec::new());
        writer.write_all(b"hello").unwrap();
        assert_eq!(writer.finish(), (b"hello".to_vec(), Digest::of(b"hello"), 5));
    }
}
