//! One header block: its numbers, names and type.
//!
//! `tar-core` has the layout and the checksum. The numbers are read here: a number in base 256 that does not fit 64 bits,
//! or is negative where that makes no sense, must be an error and not another number.

use tar_core::EntryType;
use tar_core::Header;

use super::What;
use crate::layer::pack::SparseRun;

/// The size of a block, in bytes.
pub(super) const BLOCK: usize = 512;

/// A header block whose checksum is right.
#[derive(Debug, Clone)]
pub(super) struct Block {
    header: Header,
}

/// Reads a number: octal digits among spaces and NULs, or big endian base 256 when the first bit is set (GNU).
fn number(field: &[u8], what: &str) -> Result<i64, What> {
    let bad = || What::Header(format!("the {what} is no number"));
    if field.first().is_some_and(|b| b & 0x80 != 0) {
        // The second bit is the sign.
        let negative = field.first().is_some_and(|b| b & 0x40 != 0);
        let mut value: i128 = if negative { -1 } else { 0 };
        for (n, &byte) in field.iter().enumerate() {
            let byte = match (n, negative) {
                (0, true) => byte | 0x80,
                (0, false) => byte & 0x7f,
                _ => byte,
            };
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| bad());
    }
    let digits = field.split(|&b| b == 0).find(|part| !part.is_empty()).unwrap_or_default().trim_ascii();
    digits
        .iter()
        .try_fold(0i64, |value, &b| match b {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(b - b'0')),
            _ => None,
        })
        .ok_or_else(bad)
}

fn size(field: &[u8], what: &str) -> Result<u64, What> {
    u64::try_from(number(field, what)?).map_err(|_| What::Header(format!("the {what} is negative")))
}

fn id(field: &[u8], what: &str) -> Result<u32, What> {
    u32::try_from(number(field, what)?).map_err(|_| What::Header(format!("the {what} does not fit 32 bits")))
}

impl Block {
    /// Takes a block that is not all zeros.
    pub(super) fn new(bytes: &[u8; BLOCK]) -> Result<Self, What> {
        let header = *Header::from_bytes(bytes);
        header.verify_checksum().map_err(|_| What::Header("the checksum is wrong".into()))?;
        Ok(Self { header })
    }

    pub(super) fn kind(&self) -> EntryType {
        self.header.entry_type()
    }

    /// The type byte: it alone tells the old regular file (NUL) from the new (`0`).
    pub(super) fn type_byte(&self) -> u8 {
        let [byte] = self.header.as_ustar().typeflag;
        byte
    }

    /// The name, with the prefix of a ustar header.
    pub(super) fn path(&self) -> Vec<u8> {
        match self.header.prefix() {
            Some(prefix) if !prefix.is_empty() => [prefix, b"/", self.header.path_bytes()].concat(),
            _ => self.header.path_bytes().to_vec(),
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.header.link_name_bytes().to_vec()
    }

    pub(super) fn size(&self) -> Result<u64, What> {
        size(&self.header.as_ustar().size, "size")
    }

    /// Permission, set-id and sticky bits.
    pub(super) fn perm(&self) -> Result<u32, What> {
        let mode = number(&self.header.as_ustar().mode, "mode")?;
        Ok(u32::try_from(mode & 0o7777).unwrap_or(0))
    }

    pub(super) fn uid(&self) -> Result<u32, What> {
        id(&self.header.as_ustar().uid, "owner")
    }

    pub(super) fn gid(&self) -> Result<u32, What> {
        id(&self.header.as_ustar().gid, "group")
    }

    pub(super) fn mtime(&self) -> Result<i64, What> {
        number(&self.header.as_ustar().mtime, "time")
    }

    /// The device number, as `makedev` composes it.
    pub(super) fn rdev(&self) -> Result<u64, What> {
        let ustar = self.header.as_ustar();
        let (major, minor) = (id(&ustar.dev_major, "device")?, id(&ustar.dev_minor, "device")?);
        Ok(crate::sys::attr::makedev(major, minor))
    }

    /// The old GNU sparse map of this header: its runs, the size of the file, and whether more blocks follow.
    pub(super) fn gnu_sparse(&self, runs: &mut Vec<SparseRun>) -> Result<(u64, bool), What> {
        if !self.header.is_gnu() {
            return Err(What::Header("a sparse file without the magic of GNU tar".into()));
        }
        let bytes = self.header.as_bytes();
        let (map, rest) = bytes.get(386..).and_then(|tail| tail.split_at_checked(4 * 24)).unwrap_or_default();
        let real_size = size(rest.get(1..13).unwrap_or_default(), "size of the sparse file")?;
        gnu_runs(map, runs)?;
        Ok((real_size, rest.first().is_some_and(|&more| more != 0)))
    }
}

/// The runs of an old GNU sparse map's extension block, and whether one more follows.
pub(super) fn gnu_extension(block: &[u8; BLOCK], runs: &mut Vec<SparseRun>) -> Result<bool, What> {
    let (map, rest) = block.split_at(21 * 24);
    gnu_runs(map, runs)?;
    Ok(rest.first().is_some_and(|&more| more != 0))
}

fn gnu_runs(map: &[u8], runs: &mut Vec<SparseRun>) -> Result<(), What> {
    for pair in map.chunks_exact(24) {
        let (at, len) = pair.split_at(12);
        if at.first() == Some(&0) || len.first() == Some(&0) {
            break;
        }
        runs.push(SparseRun { at: size(at, "sparse map")?, len: size(len, "sparse map")? });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let read = |field: &[u8]| number(field, "x").ok();
        assert_eq!(read(b"0000644\0"), Some(0o644));
        assert_eq!(read(b"   644 \0"), Some(0o644));
        assert_eq!(read(b"\0\0\0\0"), Some(0));
        assert_eq!(read(b"0000008\0"), None);
        assert_eq!(read(b"-000001\0"), None);
        assert_eq!(read(b"\x80\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(read(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(read(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), None);
        assert_eq!(read(b"77777777777\0"), Some(0o77_777_777_777));
    }
}
