//! Writing a pack: the tar's bytes go in, in order, and what belongs to files goes to objects.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use flate2::Crc;

use super::encode;
use super::encode::Frame;
use super::format::ObjectRef;
use super::format::Place;
use super::format::Splice;
use super::store::Dirs;
use super::tree::Body;
use super::tree::Tree;
use crate::digest::Digest;
use crate::digest::Hasher;
use crate::digest::hex_of;
use crate::layer::Error;
use crate::layer::Result;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::lock::Held;

/// Bodies from this size on become objects, smaller ones stay in the pack file. A file of its own costs an inode, a name and
/// two `open`s, which below this size costs more than sharing it saves.
///
/// Measured with a Debian image of 646 MB in 8 layers and 22,000 files: one `load` each, counted by strace, which no other load on the
/// machine changes; system time of three rounds (development build, ext4 on a virtual disk, busy machine).
/// ```text
/// from      objects   system calls   store KiB   system time, s
///   4 KiB   7071      139,669        611,464     6.2 6.6 6.7
///  16 KiB   3344       72,603        608,652     2.5 3.0 4.4
///  32 KiB   1880       42,583        610,680     1.8 2.1 2.3
///  64 KiB    974            -        613,728     0.6 0.9 1.1
/// 128 KiB    504       16,738        616,520     0.7 0.7 1.0
/// none         0        7,799        633,652     0.3 0.4 0.4
/// ```
/// An object costs some twenty calls. So 128 KiB loads with two fifths of the calls of 32 KiB for one percent more disk; without objects
/// half of these remain, but two images share nothing.
pub const OBJECT_MIN: u64 = 128 * 1024;

/// Bodies up to this size are collected in memory first, so that one that the store has already is never written.
const COLLECT_MAX: u64 = 1 << 20;

/// How much of the pack file is written at a time.
const BUFFER: usize = 256 * 1024;

/// After how many bytes the kernel is asked to begin writing a file: the disk then works while the layer is still read.
/// Asking for every small file costs more than it gains (measured: 4 MiB was the fastest of none, all, and this).
const WRITEBACK: u64 = 4 << 20;

/// A file in `tmp/` that is removed when it is dropped.
#[derive(Debug)]
struct Unfinished {
    dirs: Arc<Dirs>,
    name: Option<NameBuf>,
    fd: OwnedFd,
    len: u64,
    /// Up to here the kernel was asked to begin writing.
    begun: u64,
}

impl Unfinished {
    fn create(dirs: &Arc<Dirs>) -> Result<Self> {
        let random = crate::env::random::<16>()
            .map_err(|e| sys::Error::new("getrandom", "16", Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
        let name = NameBuf::new(hex_of(&random).as_bytes())
            .map_err(|_| sys::Error::new("openat", "a random name", Errno::INVAL))?;
        let fd = sys::open::create_at(&dirs.tmp, name.as_name(), 0o400)?;
        Ok(Self { dirs: dirs.clone(), name: Some(name), fd, len: 0, begun: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        sys::data::write_all_at(&self.fd, bytes, self.len)?;
        self.len += bytes.len() as u64;
        if self.len - self.begun >= WRITEBACK {
            sys::writeback::start(&self.fd, self.begun, self.len - self.begun);
            self.begun = self.len;
        }
        Ok(())
    }

    /// Closes the file and leaves it, for the caller to name or remove.
    fn keep(mut self) -> Option<NameBuf> {
        self.name.take()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            discard(&self.dirs, &name);
        }
    }
}

/// Removes a file from `tmp/`. That it cannot be is no reason to fail: garbage collection finds it.
fn discard(dirs: &Dirs, name: &NameBuf) {
    if let Err(e) = sys::name::unlink(&dirs.tmp, name.as_name()) {
        log::debug!("an unfinished file stays until garbage is collected: {e}");
    }
}

/// The body that is being written.
#[derive(Debug)]
enum Open {
    None,
    /// Goes to the pack file, from this offset on.
    Pack(u64, Crc),
    /// Is collected in [`PackWriter::collected`].
    Collect,
    /// Goes to a file of its own.
    File(Unfinished, Hasher),
}

/// Writes one pack. Dropped before [`PackWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct PackWriter {
    dirs: Arc<Dirs>,
    lock: Arc<Held>,
    pack: Unfinished,
    buffer: Vec<u8>,
    tar_size: u64,
    splices: Vec<Splice>,
    objects: Vec<ObjectRef>,
    positions: HashMap<Digest, u32, rustc_hash::FxBuildHasher>,
    /// The objects that the store did not have, under their names in `tmp/`.
    fresh: Fresh,
    open: Open,
    collected: Vec<u8>,
    left: u64,
    len: u64,
}

/// Finished objects without a final name; removed when dropped.
#[derive(Debug)]
struct Fresh {
    dirs: Arc<Dirs>,
    files: Vec<(Digest, NameBuf)>,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.files.iter().for_each(|(_, name)| discard(&self.dirs, name));
    }
}

fn misuse(what: &'static str) -> Error {
    sys::Error::new("pack writer", what, Errno::INVAL).into()
}

impl PackWriter {
    pub(super) fn new(dirs: Arc<Dirs>, lock: Arc<Held>) -> Result<Self> {
        let pack = Unfinished::create(&dirs)?;
        let fresh = Fresh { dirs: dirs.clone(), files: Vec::new() };
        Ok(Self {
            dirs,
            lock,
            pack,
            buffer: Vec::with_capacity(BUFFER),
            tar_size: 0,
            splices: Vec::new(),
            objects: Vec::new(),
            positions: HashMap::default(),
            fresh,
            open: Open::None,
            collected: Vec::new(),
            left: 0,
            len: 0,
        })
    }

    /// The next bytes of the tar that are no file's body: headers, padding, the end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn tar(&mut self, bytes: &[u8]) -> Result<()> {
        self.tar_size += bytes.len() as u64;
        self.append(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.pack.append(&self.buffer)?;
            self.buffer.clear();
            if bytes.len() >= BUFFER {
                return self.pack.append(bytes);
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn pack_len(&self) -> u64 {
        self.pack.len + self.buffer.len() as u64
    }

    /// Begins a file's body of `len` bytes: the next bytes of the tar, passed to [`PackWriter::body`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn begin_body(&mut self, len: u64) -> Result<()> {
        (self.left, self.len) = (len, len);
        self.open = match len {
            _ if len < OBJECT_MIN => Open::Pack(self.pack_len(), Crc::new()),
            _ if len <= COLLECT_MAX => {
                self.collected.clear();
                Open::Collect
            }
            _ => Open::File(Unfinished::create(&self.dirs)?, Hasher::new()),
        };
        Ok(())
    }

    /// The next bytes of the body.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for more bytes than announced.
    pub fn body(&mut self, bytes: &[u8]) -> Result<()> {
        let len = bytes.len() as u64;
        self.left = self.left.checked_sub(len).ok_or_else(|| misuse("more bytes than the body has"))?;
        self.tar_size += len;
        match &mut self.open {
            Open::None => Err(misuse("a body that was not begun")),
            Open::Pack(_, sum) => {
                sum.update(bytes);
                self.append(bytes)
            }
            Open::Collect => {
                self.collected.extend_from_slice(bytes);
                Ok(())
            }
            Open::File(file, hasher) => {
                hasher.update(bytes);
                file.append(bytes)
            }
        }
    }

    /// Ends the body and tells where it lies.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` when fewer bytes came than announced.
    pub fn end_body(&mut self) -> Result<Body> {
        if self.left != 0 {
            return Err(misuse("fewer bytes than the body has"));
        }
        let mut sum = 0;
        let place = match std::mem::replace(&mut self.open, Open::None) {
            Open::None => return Err(misuse("a body that was not begun")),
            Open::Pack(..) if self.len == 0 => Place::Empty,
            Open::Pack(offset, crc) => {
                sum = crc.sum();
                Place::Pack(offset)
            }
            Open::Collect => {
                let digest = Digest::of(&self.collected);
                match self.known(&digest)? {
                    Some(position) => self.splice(position),
                    None => {
                        let mut file = Unfinished::create(&self.dirs)?;
                        file.append(&self.collected)?;
                        self.object(digest, Some(file))?
                    }
                }
            }
            Open::File(file, hasher) => {
                let digest = hasher.finish();
                match self.known(&digest)? {
                    Some(position) => self.splice(position),
                    None => self.object(digest, Some(file))?,
                }
            }
        };
        Ok(Body { place, stored: self.len, sum })
    }

    /// The position of an object that need not be written: this pack or the store has it.
    fn known(&mut self, digest: &Digest) -> Result<Option<u32>> {
        if let Some(&position) = self.positions.get(digest) {
            return Ok(Some(position));
        }
        if !self.dirs.has_object(digest)? {
            return Ok(None);
        }
        if self.dirs.object_len(digest)? != Some(self.len) {
            // A damaged object: a whole one takes its place when this pack is published.
            self.dirs.drop_object(digest)?;
            return Ok(None);
        }
        self.position(*digest).map(Some)
    }

    fn position(&mut self, digest: Digest) -> Result<u32> {
        let position = u32::try_from(self.objects.len()).map_err(|_| misuse("too many objects"))?;
        self.objects.push(ObjectRef { digest, len: self.len });
        self.positions.insert(digest, position);
        Ok(position)
    }

    fn splice(&mut self, object: u32) -> Place {
        self.splices.push(Splice { at: self.pack_len(), object });
        Place::Object(object)
    }

    fn object(&mut self, digest: Digest, file: Option<Unfinished>) -> Result<Place> {
        if let Some(name) = file.and_then(Unfinished::keep) {
            self.fresh.files.push((digest, name));
        }
        let position = self.position(digest)?;
        Ok(self.splice(position))
    }

    /// Writes the rest and the index. The pack is complete then, but not there before [`super::PackStore::publish`].
    ///
    /// # Errors
    /// The kernel's; `EFBIG` for a layer with more entries or names than an index can hold.
    pub fn finish(mut self, diff_id: Digest, tree: &Tree) -> Result<Prepared> {
        self.pack.append(&self.buffer)?;
        let frame = Frame {
            diff_id,
            pack_len: self.pack.len,
            tar_size: self.tar_size,
            splices: &self.splices,
            objects: &self.objects,
        };
        let bytes = encode::encode(tree, &frame)
            .map_err(|_| sys::Error::new("pack writer", "the index is too large", Errno::FBIG))?;
        let mut index = Unfinished::create(&self.dirs)?;
        index.append(&bytes)?;
        let (Some(pack), Some(index)) = (self.pack.keep(), index.keep()) else {
            return Err(misuse("a file that has no name"));
        };
        let objects = std::mem::take(&mut self.fresh.files);
        Ok(Prepared { diff_id, dirs: self.dirs, _lock: self.lock, pack, index, objects, published: false })
    }

    /// How many bytes of the tar were taken.
    pub fn tar_size(&self) -> u64 {
        self.tar_size
    }
}

/// A pack that is complete and waits for [`super::PackStore::publish`]; dropped before, it leaves nothing.
#[derive(Debug)]
pub struct Prepared {
    pub(super) diff_id: Digest,
    pub(super) pack: NameBuf,
    pub(super) index: NameBuf,
    pub(super) objects: Vec<(Digest, NameBuf)>,
    dirs: Arc<Dirs>,
    _lock: Arc<Held>,
    published: bool,
}

impl Prepared {
    /// The layer's diff id.
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// All files have their names now.
    pub(super) fn published(mut self) {
        self.published = true;
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.published {
            let objects = self.objects.iter().map(|(_, name)| name);
            objects.chain([&self.pack, &self.index]).for_each(|name| discard(&self.dirs, name));
        }
    }
}
