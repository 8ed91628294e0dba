//! The index of a pack on disk, and reading it.
//!
//! All numbers are little endian. The file is
//! ```text
//! header    224 bytes   magic, version, features, sizes, the diff id, and where each table lies
//! tables                nodes, entries, extents, splices, objects, xattrs, text
//! sums                  a CRC-32 of each 64 KiB block of header and tables (feature `COMPAT_BLOCK_SUMS`)
//! checksum  32 bytes    SHA-256 of everything before it
//! ```
//! A table is an array of records of one size; `text` is an array of bytes. Records name others by their position.
//!
//! Damage is found before it is used. A block is compared with its sum when something in it is read for the first time: an image of
//! a million entries has 127 MiB of index, whose checksum alone takes longer than mounting may (measured on a busy machine:
//! 200 to 340 ms with the processor's SHA instructions, against 2 to 11 to open it and find a name). The checksum is verified where the whole index
//! is judged: when a load asks whether it has the layer, and by a check. Packs without sums are verified when they are opened.
//! Still every position and every offset is checked again at its use: an index can be wrong without being damaged, and no file may ever
//! cause a panic.
//!
//! Compatibility, as ext4 does it, by three sets of feature bits. A mica that does not know a bit of `compat` may do anything
//! with the pack; of `ro_compat`, may read it (mount, save), but not judge or remove it or what it needs; of `incompat`, refuses
//! it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use flate2::Crc;

use crate::digest::Digest;
use crate::layer::Error;
use crate::layer::Result;
use crate::sys::attr::Kind;
use crate::sys::attr::Time;
use crate::sys::mmap::Map;

pub(super) const MAGIC: [u8; 8] = *b"micapack";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_LEN: usize = 224;
pub(super) const CHECKSUM_LEN: usize = 32;
/// Where the table of tables starts in the header: seven pairs of offset (u64) and count (u64).
pub(super) const TABLES_AT: usize = 112;

/// Feature of `compat`: each body in the pack file has a CRC-32, so that damage in it has a path.
pub(super) const COMPAT_BODY_SUMS: u64 = 1;

/// Feature of `compat`: the number at [`SUMS_AT`] tells where the CRC-32 of each block stand, the end of what they cover.
pub(super) const COMPAT_BLOCK_SUMS: u64 = 2;
/// Where the header says where the sums are (u64).
pub(super) const SUMS_AT: usize = 96;
/// The size of a block that has a sum, in bytes.
pub(super) const BLOCK: usize = 64 << 10;

/// The sums of the blocks of `covered`.
pub(super) fn block_sums(covered: &[u8]) -> impl Iterator<Item = u32> + '_ {
    covered.chunks(BLOCK).map(crc)
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The directory hides everything below it.
pub(super) const NODE_OPAQUE: u32 = 1;
/// The tar has no entry for this directory; entries below it made it necessary.
pub(super) const NODE_IMPLIED: u32 = 2;
/// The entry is a whiteout and names no node.
pub(super) const ENTRY_WHITEOUT: u16 = 1;

/// The tables of an index, in the order in which the header lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Nodes,
    Entries,
    Extents,
    Splices,
    Objects,
    Xattrs,
    Text,
}

impl Table {
    pub(super) const ALL: [Table; 7] =
        [Table::Nodes, Table::Entries, Table::Extents, Table::Splices, Table::Objects, Table::Xattrs, Table::Text];

    /// The size of one record, in bytes.
    pub(super) const fn record(self) -> usize {
        match self {
            Table::Nodes => 112,
            Table::Entries => 12,
            Table::Extents => 24,
            Table::Splices => 16,
            Table::Objects => 40,
            Table::Xattrs => 16,
            Table::Text => 1,
        }
    }
}

/// Where the body of a regular file lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// No byte.
    #[default]
    Empty,
    /// In the pack file, from this offset on.
    Pack(u64),
    /// In the object of this position.
    Object(u32),
}

impl Place {
    /// The three numbers that record it: kind, object, offset.
    pub(super) fn encode(self) -> (u32, u32, u64) {
        match self {
            Place::Empty => (0, 0, 0),
            Place::Pack(offset) => (1, 0, offset),
            Place::Object(object) => (2, object, 0),
        }
    }
}

/// One inode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub rdev: u64,
    pub size: u64,
    pub mtime: Time,
    pub atime: Time,
    pub ctime: Time,
    pub flags: u32,
    pub place: Place,
    /// Whether `first..first + count` are extents of a sparse file.
    pub sparse: bool,
    /// Entries of a directory, extents of a sparse file, or the text of a symlink.
    pub first: u32,
    pub count: u32,
    pub xattr_first: u32,
    pub xattr_count: u32,
    /// Bytes of the body that are stored (less than `size` when sparse).
    pub stored: u64,
    /// The CRC-32 of the stored bytes, where they lie in the pack file.
    pub sum: u32,
}

impl Node {
    /// The type of the file.
    pub(super) fn kind(&self) -> Option<Kind> {
        Kind::of_mode(self.mode)
    }
}

/// One name in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub name: &'a [u8],
    /// `None` for a whiteout.
    pub node: Option<u32>,
}

/// A place in the pack file at which the tar goes on with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Splice {
    pub at: u64,
    pub object: u32,
}

/// An object that the pack uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObjectRef {
    pub digest: Digest,
    pub len: u64,
}

/// What of an index with a whole checksum only a newer mica knows. With a wrong one it is damage, whatever it says.
fn newer(bytes: &[u8]) -> Option<String> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_LEN)?)?;
    let (version, incompat) = u32_at(body, 8).zip(u64_at(body, 32))?;
    let known = array(body, 0) != Some(MAGIC) || version == VERSION && incompat == 0;
    if known || Digest::of(body).as_bytes().as_slice() != checksum {
        return None;
    }
    Some(format!("format {version} with features {incompat:#x}"))
}

/// Compares an index with its checksum.
fn check_whole(bytes: &[u8]) -> std::result::Result<(), String> {
    let parts = bytes.len().checked_sub(CHECKSUM_LEN).and_then(|at| bytes.split_at_checked(at));
    match parts {
        Some((body, checksum)) if Digest::of(body).as_bytes().as_slice() == checksum => Ok(()),
        _ => Err("the checksum of the index is wrong".into()),
    }
}

/// Compares a block with its sum; the sums stand at `sums`, behind all blocks.
fn compare(bytes: &[u8], sums: usize, block: usize) -> std::result::Result<(), String> {
    let found = || {
        let start = block.checked_mul(BLOCK).filter(|start| *start < sums)?;
        let sum = u32_at(bytes, sums.checked_add(block.checked_mul(4)?)?)?;
        Some(crc(bytes.get(start..sums.min(start.checked_add(BLOCK)?))?) == sum)
    };
    if found() == Some(true) { Ok(()) } else { Err(format!("the checksum of block {block} of the index is wrong")) }
}

/// An opened index.
#[derive(Debug)]
pub(super) struct Index {
    bytes: Bytes,
    tables: [(usize, usize); 7],
    label: String,
    pub diff_id: Digest,
    pub pack_len: u64,
    pub tar_size: u64,
    /// Whether nodes have the sums of [`COMPAT_BODY_SUMS`].
    pub sums: bool,
    /// The bits of `ro_compat`, none of which this mica knows.
    newer: u64,
    /// Where the sums of the blocks stand; `None` for an index that has none, and was compared with its checksum.
    sums_at: Option<usize>,
    /// By block, one bit: it has been compared with its sum.
    compared: Box<[AtomicU64]>,
}

/// The index's bytes: mapped, or in memory in tests of damage.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped(Map),
    #[cfg(test)]
    Owned(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            #[cfg(test)]
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// `N` bytes of `bytes` at `at`.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn time_at(bytes: &[u8], secs: usize, nanos: usize) -> Option<Time> {
    let secs = array(bytes, secs).map(i64::from_le_bytes)?;
    u32_at(bytes, nanos).filter(|&n| n < 1_000_000_000).map(|nanos| Time { secs, nanos })
}

impl Index {
    /// Checks the header and the place of every table, and the checksum of an index without sums.
    ///
    /// # Errors
    /// [`Error::Damaged`], which says what is wrong; `label` names the layer in it.
    pub(super) fn open(bytes: Bytes, label: &str) -> Result<Self> {
        if let Some(what) = newer(&bytes) {
            return Err(Error::Newer { layer: label.to_owned(), what });
        }
        Self::parse(bytes, label).map_err(|what| Error::Damaged { layer: label.to_owned(), what })
    }

    fn parse(bytes: Bytes, label: &str) -> std::result::Result<Self, String> {
        let short = || format!("the index is cut short ({} bytes)", bytes.len());
        if array(&bytes, 0) != Some(MAGIC) {
            return Err("the index does not begin with the magic of a pack".into());
        }
        let (compat, newer) = u64_at(&bytes, 16).zip(u64_at(&bytes, 24)).ok_or_else(short)?;
        if u32_at(&bytes, 8) != Some(VERSION) || u64_at(&bytes, 32) != Some(0) {
            // `newer` has found that the checksum is wrong.
            return Err("the checksum of the index is wrong, and its format one that this mica does not know".into());
        }
        let total = u64_at(&bytes, 40).and_then(|n| usize::try_from(n).ok()).ok_or_else(short)?;
        if total != bytes.len() || total < HEADER_LEN + CHECKSUM_LEN {
            return Err(format!("the index has {} bytes and says {total}", bytes.len()));
        }
        let body = bytes.get(..total - CHECKSUM_LEN).ok_or_else(short)?;
        let sums_at = match compat & COMPAT_BLOCK_SUMS {
            0 => {
                check_whole(&bytes)?;
                None
            }
            _ => {
                let at = u64_at(body, SUMS_AT).and_then(|n| usize::try_from(n).ok()).ok_or_else(short)?;
                let room = at.checked_add(at.div_ceil(BLOCK).saturating_mul(4)).filter(|_| at >= HEADER_LEN);
                if room != Some(body.len()) {
                    return Err("the sums do not fit into the index".into());
                }
                // The header is in the first block.
                compare(body, at, 0)?;
                Some(at)
            }
        };
        let covered = body.get(..sums_at.unwrap_or(body.len())).ok_or_else(short)?;
        let compared = (0..covered.len().div_ceil(BLOCK).div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let mut tables = [(0, 0); 7];
        for ((at, slot), table) in (TABLES_AT..).step_by(16).zip(&mut tables).zip(Table::ALL) {
            let read = |at| u64_at(body, at).and_then(|n| usize::try_from(n).ok());
            let place = read(at).zip(read(at + 8));
            let fits = |(offset, count): &(usize, usize)| {
                let end = count.checked_mul(table.record()).and_then(|len| len.checked_add(*offset));
                end.is_some_and(|end| end <= covered.len())
            };
            *slot = place.filter(fits).ok_or_else(|| format!("table {table:?} does not fit into the index"))?;
        }
        let diff_id = array(body, 64).map(Digest::from_bytes).ok_or_else(short)?;
        let (pack_len, tar_size) = u64_at(body, 48).zip(u64_at(body, 56)).ok_or_else(short)?;
        let sums = compat & COMPAT_BODY_SUMS != 0;
        let label = label.to_owned();
        Ok(Self { bytes, tables, label, diff_id, pack_len, tar_size, sums, newer, sums_at, compared })
    }

    /// Compares the whole index with its checksum.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(super) fn must_be_whole(&self) -> Result<()> {
        check_whole(&self.bytes).map_err(|what| self.damaged(what))
    }

    /// `len` bytes of a table at `at`, of blocks that have their sums.
    fn checked(&self, at: usize, len: usize) -> Option<Result<&[u8]>> {
        let bytes = self.bytes.get(at..at.checked_add(len)?)?;
        let blocks = at / BLOCK..=at.saturating_add(len.saturating_sub(1)) / BLOCK;
        let sound = self.sums_at.map_or(Ok(()), |sums| blocks.into_iter().try_for_each(|n| self.trust(sums, n)));
        Some(sound.map(|()| bytes))
    }

    fn trust(&self, sums: usize, block: usize) -> Result<()> {
        let (word, bit) = (self.compared.get(block / 64), 1_u64 << (block % 64));
        if word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0) {
            return Ok(());
        }
        compare(&self.bytes, sums, block)
            .map_err(|what| self.must_be_readable().err().unwrap_or(self.damaged(what)))?;
        if let Some(word) = word {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Refuses what needs to know everything about the pack, such as judging or removing what it uses.
    ///
    /// # Errors
    /// [`Error::Newer`] for a pack with a feature that this mica may only read around.
    pub(super) fn must_be_known(&self) -> Result<()> {
        match self.newer {
            0 => Ok(()),
            bits => Err(Error::Newer { layer: self.label.clone(), what: format!("read-only features {bits:#x}") }),
        }
    }

    /// Asked after reading: what was read of a page that the disk did not give was zeros.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(super) fn must_be_readable(&self) -> Result<()> {
        match &self.bytes {
            Bytes::Mapped(map) if map.is_lost() => {
                Err(self.damaged("a part of the index could not be read: a disk error, or the file was cut short"))
            }
            _ => Ok(()),
        }
    }

    /// The layer's label.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The error for a record that makes no sense.
    pub(super) fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { layer: self.label.clone(), what: what.into() }
    }

    fn table(&self, table: Table) -> (usize, usize) {
        self.tables.get(table as usize).copied().unwrap_or_default()
    }

    /// How many records a table has.
    pub(super) fn count(&self, table: Table) -> usize {
        self.table(table).1
    }

    /// The size of the index file, in bytes.
    pub(super) fn file_len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn record(&self, table: Table, position: u32) -> Result<&[u8]> {
        let (offset, count) = self.table(table);
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        let at = position.checked_mul(table.record()).and_then(|n| n.checked_add(offset));
        at.filter(|_| position < count)
            .and_then(|at| self.checked(at, table.record()))
            .unwrap_or_else(|| Err(self.damaged(format!("{table:?} {position} of {count}"))))
    }

    /// A run of the text.
    pub(super) fn text(&self, first: u32, len: u32) -> Result<&[u8]> {
        let (offset, count) = self.table(Table::Text);
        let range = || {
            let first = usize::try_from(first).ok()?;
            let end = first.checked_add(usize::try_from(len).ok()?).filter(|&end| end <= count)?;
            self.checked(offset.checked_add(first)?, end - first)
        };
        range().unwrap_or_else(|| Err(self.damaged(format!("text {first}+{len} of {count}"))))
    }

    /// The inode at `position`; 0 is the root.
    pub(super) fn node(&self, position: u32) -> Result<Node> {
        let r = self.record(Table::Nodes, position)?;
        let decode = || {
            let place = match (u32_at(r, 72)?, u32_at(r, 76)?, u64_at(r, 80)?) {
                (0, ..) => Place::Empty,
                (1, _, offset) => Place::Pack(offset),
                (2, object, _) => Place::Object(object),
                _ => return None,
            };
            Some(Node {
                mode: u32_at(r, 0)?,
                uid: u32_at(r, 4)?,
                gid: u32_at(r, 8)?,
                nlink: u32_at(r, 12)?,
                rdev: u64_at(r, 16)?,
                size: u64_at(r, 24)?,
                mtime: time_at(r, 32, 56)?,
                atime: time_at(r, 40, 60)?,
                ctime: time_at(r, 48, 64)?,
                flags: u16_at(r, 68)?.into(),
                sparse: u16_at(r, 70)? != 0,
                place,
                first: u32_at(r, 88)?,
                count: u32_at(r, 92)?,
                xattr_first: u32_at(r, 96)?,
                xattr_count: u32_at(r, 100)?,
                stored: u64_at(r, 104)?,
                sum: u32_at(r, 76)?,
            })
        };
        decode()
            .filter(|node| node.kind().is_some() && i64::try_from(node.size).is_ok())
            .ok_or_else(|| self.damaged(format!("node {position} makes no sense")))
    }

    /// The directory entry at `position`.
    pub(super) fn entry(&self, position: u32) -> Result<Entry<'_>> {
        let r = self.record(Table::Entries, position)?;
        let fields = u32_at(r, 0).zip(u16_at(r, 4)).zip(u16_at(r, 6)).zip(u32_at(r, 8));
        let (((first, len), flags), node) = fields.ok_or_else(|| self.damaged(format!("entry {position}")))?;
        let name = self.text(first, len.into())?;
        Ok(Entry { name, node: (flags & ENTRY_WHITEOUT == 0).then_some(node) })
    }

    /// The extent at `position`: place in the content, offset in the body, length.
    pub(super) fn extent(&self, position: u32) -> Result<(u64, u64, u64)> {
        let r = self.record(Table::Extents, position)?;
        let fields = u64_at(r, 0).zip(u64_at(r, 8)).zip(u64_at(r, 16));
        fields.map(|((at, offset), len)| (at, offset, len)).ok_or_else(|| self.damaged(format!("extent {position}")))
    }

    /// The splice at `position`.
    pub(super) fn splice(&self, position: u32) -> Result<Splice> {
        let r = self.record(Table::Splices, position)?;
        let fields = u64_at(r, 0).zip(u32_at(r, 8));
        fields.map(|(at, object)| Splice { at, object }).ok_or_else(|| self.damaged(format!("splice {position}")))
    }

    /// The object at `position`.
    pub(super) fn object(&self, position: u32) -> Result<ObjectRef> {
        let r = self.record(Table::Objects, position)?;
        let fields = array(r, 0).zip(u64_at(r, 32));
        fields
            .map(|(digest, len)| ObjectRef { digest: Digest::from_bytes(digest), len })
            .ok_or_else(|| self.damaged(format!("object {position}")))
    }

    /// Name and value of the xattr at `position`.
    pub(super) fn xattr(&self, position: u32) -> Result<(&[u8], &[u8])> {
        let r = self.record(Table::Xattrs, position)?;
        let fields = u32_at(r, 0).zip(u32_at(r, 4)).zip(u32_at(r, 8)).zip(u32_at(r, 12));
        let (((name, name_len), value), value_len) = fields.ok_or_else(|| self.damaged(format!("xattr {position}")))?;
        Ok((self.text(name, name_len)?, self.text(value, value_len)?))
    }

    /// All records of a table by position.
    pub(super) fn positions(&self, table: Table) -> std::ops::Range<u32> {
        0..u32::try_from(self.count(table)).unwrap_or(u32::MAX)
    }
}
