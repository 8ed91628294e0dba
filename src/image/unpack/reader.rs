//! The one pass over a layer's tar.

use std::cell::Cell;
use std::io::Read;

use tar_core::EntryType;

use super::Error;
use super::ImportOptions;
use super::Imported;
use super::What;
use super::header::BLOCK;
use super::header::Block;
use super::header::gnu_extension;
use super::pax::Pax;
use super::pax::Version;
use super::source::Source;
use crate::digest::Hasher;
use crate::digest::Mismatch;
use crate::image::ahead;
use crate::image::ahead::Ahead;
use crate::image::limits::Inflated;
use crate::image::limits::Limits;
use crate::image::limits::check;
use crate::image::limits::check_ratio;
use crate::layer::marks::AUFS_OPAQUE;
use crate::layer::marks::AUFS_PREFIX;
use crate::layer::pack::Attrs;
use crate::layer::pack::PackStore;
use crate::layer::pack::PackWriter;
use crate::layer::pack::SparseRun;
use crate::layer::pack::Tree;
use crate::layer::pack::TreeItem;
use crate::layer::pack::TreeLimits;
use crate::path::Name;
use crate::path::RelPath;
use crate::sys::attr::Kind;
use crate::sys::attr::Time;

/// What an xattr takes in memory beside its bytes.
const XATTR_COST: u64 = 64;

/// A layer that was read to its end and found right.
pub(super) struct ReadLayer {
    pub imported: Imported,
    pub writer: PackWriter,
    pub tree: Tree,
}

/// Reads `stream` into a new pack.
pub(super) fn read(
    stream: impl Read + Send,
    store: &PackStore,
    options: &ImportOptions<'_>,
) -> Result<ReadLayer, Error> {
    let fail = |what: What| Error::new(options, what);
    let mut source = Source::open(stream, options).map_err(fail)?;
    let writer = store.writer().map_err(|e| fail(e.into()))?;
    std::thread::scope(|scope| {
        let (filler, stage, chunks) = ahead::staged();
        let mut reader = Reader {
            chunks,
            writer,
            tree: Tree::new(tree_limits(&options.limits)),
            limits: &options.limits,
            compressed: source.is_compressed(),
            inflated: options.inflated,
            told: Cell::new((0, 0)),
            entries: 0,
            held: 0,
            xattr_bytes: 0,
            name: None,
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let filling = thread("layer")
            .spawn_scoped(scope, move || {
                filler.run(&mut source, Source::seen);
                source
            })
            .map_err(|e| fail(What::Read(e)))?;
        let hashing = thread("diff-id")
            .spawn_scoped(scope, move || {
                let mut hasher = Hasher::new();
                stage.run(|bytes| hasher.update(bytes));
                hasher.finish()
            })
            .map_err(|e| fail(What::Read(e)))?;
        if let Err(what) = reader.archive() {
            return Err(fail(what).at(reader.name.as_deref(), reader.chunks.consumed()));
        }
        let (tar_size, entries) = (reader.chunks.consumed(), reader.entries);
        let gone = |_| fail(What::Read(std::io::Error::other("a thread that reads the layer is gone")));
        let source = filling.join().map_err(gone)?;
        let diff_id = hashing.join().map_err(gone)?;
        let (blob_digest, blob_size) = source.finish(diff_id).map_err(fail)?;
        if let Some(expected) = options.expected_diff_id.filter(|expected| *expected != diff_id) {
            return Err(fail(What::DiffId(Mismatch::Digest { expected, got: diff_id })));
        }
        let blob_digest = Some(blob_digest);
        let imported = Imported { diff_id, blob_digest, blob_size, tar_size, entries, already_there: false };
        Ok(ReadLayer { imported, writer: reader.writer, tree: reader.tree })
    })
}

/// After how many bytes of tar all layers together are looked at.
const TELL: u64 = 1 << 20;

/// What of the limits is about the tree.
fn tree_limits(limits: &Limits) -> TreeLimits {
    TreeLimits { steps: limits.steps, nodes: limits.entries, depth: limits.depth, path: limits.path }
}

struct Reader<'a> {
    chunks: Ahead,
    writer: PackWriter,
    tree: Tree,
    limits: &'a Limits,
    compressed: bool,
    inflated: Option<&'a Inflated>,
    /// How much of blob and tar `inflated` knows of.
    told: Cell<(u64, u64)>,
    entries: u64,
    /// Bytes of names, link targets and maps.
    held: u64,
    xattr_bytes: u64,
    /// The entry that is being read.
    name: Option<Vec<u8>>,
}

/// What stands in front of an entry's own header.
#[derive(Debug, Default)]
struct Before {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// Bytes of all of it.
    bytes: u64,
}

/// What an entry's name says.
enum Place {
    Plain(RelPath),
    Whiteout(RelPath),
    Opaque(RelPath),
    /// AUFS's own bookkeeping, which docker skips too.
    Skip,
}

impl Reader<'_> {
    fn archive(&mut self) -> Result<(), What> {
        let mut before = Before::default();
        while let Some(block) = self.block()? {
            if is_zero(&block) {
                match self.block()? {
                    Some(second) if !is_zero(&second) => {
                        return Err(What::Header("a lone block of zeros".into()));
                    }
                    _ => break,
                }
            }
            let first = self.chunks.consumed() == BLOCK as u64;
            let block = Block::new(&block).map_err(|e| if first { What::NotATar } else { e })?;
            match block.kind() {
                EntryType::XHeader => {
                    let data = self.extension(&block, &mut before.bytes)?;
                    before.pax = Some(Pax::parse(&data, self.limits.extents)?);
                }
                EntryType::GnuLongName => before.long_name = Some(self.long_name(&block, &mut before.bytes)?),
                EntryType::GnuLongLink => before.long_link = Some(self.long_name(&block, &mut before.bytes)?),
                EntryType::XGlobalHeader => {
                    // Defaults for all entries behind it: not applied, as docker and containerd do not.
                    self.extension(&block, &mut 0)?;
                    before = Before::default();
                }
                _ => {
                    self.entry(&block, std::mem::take(&mut before))?;
                    self.name = None;
                }
            }
        }
        if before.bytes > 0 {
            return Err(What::Truncated);
        }
        // What stands behind the end is part of the diff id.
        self.skip(u64::MAX)?;
        self.tell()
    }

    /// The next block, which goes to the pack file; `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, What> {
        let mut block = [0; BLOCK];
        let mut done = 0;
        while let Some(rest) = block.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let bytes = self.chunks.fill()?;
            let n = bytes.len().min(rest.len());
            if n == 0 && done == 0 {
                return Ok(None);
            }
            if n == 0 {
                return Err(if self.chunks.consumed() < BLOCK as u64 { What::NotATar } else { What::Truncated });
            }
            for (to, from) in rest.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.chunks.consume(n);
            done += n;
        }
        self.writer.tar(&block)?;
        self.grown()?;
        Ok(Some(block))
    }

    /// Checks how much the tar has grown so far.
    fn grown(&self) -> Result<(), What> {
        let (size, blob) = self.chunks.came();
        check("tar-size", self.limits.tar_size, size)?;
        if self.compressed {
            check_ratio(self.limits, blob, size)?;
        }
        if size - self.told.get().1 < TELL { Ok(()) } else { self.tell() }
    }

    /// Adds what came since to what all layers together have grown to.
    fn tell(&self) -> Result<(), What> {
        let Some(inflated) = self.inflated else { return Ok(()) };
        let (to, blob) = self.chunks.came();
        let from = if self.compressed { blob } else { to };
        let (old_from, old_to) = self.told.replace((from, to));
        Ok(inflated.add(self.limits, from - old_from, to - old_to)?)
    }

    /// Counts what has to be held in memory of a layer until its end.
    fn hold(&mut self, bytes: usize) -> Result<(), What> {
        self.held += bytes as u64;
        Ok(check("index-size", self.limits.index_size, self.held)?)
    }

    /// Passes the next `len` bytes to the pack file; fewer only at the end of the stream. How many they were.
    fn skip(&mut self, len: u64) -> Result<u64, What> {
        let mut left = len;
        while left > 0 {
            let bytes = self.chunks.fill()?;
            let n = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if n == 0 {
                break;
            }
            self.writer.tar(bytes.get(..n).unwrap_or_default())?;
            self.chunks.consume(n);
            left -= n as u64;
            self.grown()?;
        }
        Ok(len - left)
    }

    fn skip_exact(&mut self, len: u64) -> Result<(), What> {
        if self.skip(len)? == len { Ok(()) } else { Err(What::Truncated) }
    }

    /// The data of a header that describes the next one.
    fn extension(&mut self, block: &Block, total: &mut u64) -> Result<Vec<u8>, What> {
        let size = block.size()?;
        *total = total.saturating_add(size).saturating_add(BLOCK as u64);
        check("header", self.limits.header, *total)?;
        let mut data = Vec::new();
        for _ in 0..size.div_ceil(BLOCK as u64) {
            data.extend_from_slice(&self.block()?.ok_or(What::Truncated)?);
        }
        data.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(data)
    }

    /// A GNU long name: up to the first NUL, as GNU tar and Go read it.
    fn long_name(&mut self, block: &Block, total: &mut u64) -> Result<Vec<u8>, What> {
        let mut name = self.extension(block, total)?;
        name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn entry(&mut self, block: &Block, before: Before) -> Result<(), What> {
        let mut pax = before.pax.unwrap_or_default();
        let path = pax.path.take().or(before.long_name).unwrap_or_else(|| block.path());
        let path = pax.sparse.name.take().unwrap_or(path);
        let link = pax.link.take().or(before.long_link).unwrap_or_else(|| block.link());
        self.name = Some(path.clone());
        self.entries += 1;
        check("entries", self.limits.entries, self.entries)?;
        self.hold(path.len() + link.len())?;
        let place = self.place(&path)?;
        let size = pax.size.map_or_else(|| block.size(), Ok)?;
        let attrs = self.attrs(block, &mut pax)?;
        // A regular file of the oldest tars is a directory when its name ends in a slash.
        let old_dir = block.type_byte() == 0 && path.ends_with(b"/");
        let item = match block.kind() {
            _ if old_dir => TreeItem::Dir,
            EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => match place {
                Place::Plain(path) => {
                    let file = self.file(block, size, pax)?;
                    return Ok(self.tree.add(&path, attrs, file)?);
                }
                // The content of a mark means nothing.
                _ => {
                    self.skip_exact(padded(size)?)?;
                    return self.mark(&place);
                }
            },
            EntryType::Link => return self.hardlink(&place, &link),
            EntryType::Symlink => {
                check("path", self.limits.path, link.len() as u64)?;
                if link.is_empty() || link.contains(&0) {
                    return Err(What::Header("a symlink without a text".into()));
                }
                TreeItem::Symlink(link.into())
            }
            EntryType::Char => TreeItem::Special(Kind::Char, block.rdev()?),
            EntryType::Block => TreeItem::Special(Kind::Block, block.rdev()?),
            EntryType::Fifo => TreeItem::Special(Kind::Fifo, 0),
            EntryType::Directory => TreeItem::Dir,
            _ => return Err(What::Header(format!("unknown type {:#04x}", block.type_byte()))),
        };
        // These types have no data, whatever their size says: so Go reads them.
        match (&place, item) {
            // What overlay2 makes of it: the kernel's own whiteout.
            (Place::Plain(path), TreeItem::Special(Kind::Char, 0)) => Ok(self.tree.whiteout(path)?),
            (Place::Plain(path), item) => Ok(self.tree.add(path, attrs, item)?),
            _ => self.mark(&place),
        }
    }

    fn mark(&mut self, place: &Place) -> Result<(), What> {
        match place {
            Place::Whiteout(path) => Ok(self.tree.whiteout(path)?),
            Place::Opaque(dir) => Ok(self.tree.opaque(dir)?),
            Place::Plain(_) | Place::Skip => Ok(()),
        }
    }

    fn hardlink(&mut self, place: &Place, target: &[u8]) -> Result<(), What> {
        check("path", self.limits.path, target.len() as u64)?;
        let Place::Plain(path) = place else { return self.mark(place) };
        Ok(self.tree.hardlink(path, &RelPath::parse(target)?)?)
    }

    /// What the name says; `.wh.` is about the last component only.
    fn place(&self, bytes: &[u8]) -> Result<Place, What> {
        check("path", self.limits.path, bytes.len() as u64)?;
        if bytes.is_empty() {
            return Err(What::Reserved("it is empty"));
        }
        let path = RelPath::parse(bytes)?;
        check("depth", self.limits.depth, path.components().len() as u64)?;
        let Some((parent, name)) = path.split_last() else { return Ok(Place::Plain(path)) };
        // AUFS keeps hardlinks and orphans in directories of such names.
        let reserved = [AUFS_PREFIX, AUFS_PREFIX].concat();
        if parent.components().any(|part| part.as_bytes().starts_with(&reserved)) {
            return Ok(Place::Skip);
        }
        if parent.components().any(|part| part.as_bytes().starts_with(AUFS_PREFIX)) {
            return Err(What::Reserved("a whiteout has nothing below it"));
        }
        if name.as_bytes() == AUFS_OPAQUE {
            return Ok(Place::Opaque(parent));
        }
        match name.as_bytes().strip_prefix(AUFS_PREFIX) {
            None => Ok(Place::Plain(path.clone())),
            Some(rest) if rest.starts_with(AUFS_PREFIX) => Ok(Place::Skip),
            Some(rest) => match Name::new(rest) {
                Ok(hidden) => Ok(Place::Whiteout(parent.child(hidden))),
                Err(_) => Err(What::Reserved("a whiteout of nothing")),
            },
        }
    }

    fn attrs(&mut self, block: &Block, pax: &mut Pax) -> Result<Attrs, What> {
        let xattrs = std::mem::take(&mut pax.xattrs);
        check("xattrs", self.limits.xattrs, xattrs.len() as u64)?;
        for (name, value) in &xattrs {
            check("xattr-size", self.limits.xattr_size, value.len() as u64)?;
            // What it takes in memory: names count, too, and empty values are not free.
            self.xattr_bytes += (name.len() + value.len()) as u64 + XATTR_COST;
        }
        check("xattr-total", self.limits.xattr_total, self.xattr_bytes)?;
        let mtime = match pax.mtime {
            Some(time) => time,
            None => Time { secs: block.mtime()?, nanos: 0 },
        };
        Ok(Attrs {
            perm: block.perm()?,
            uid: pax.uid.map_or_else(|| block.uid(), Ok)?,
            gid: pax.gid.map_or_else(|| block.gid(), Ok)?,
            mtime,
            atime: pax.atime,
            ctime: pax.ctime,
            xattrs,
        })
    }

    /// Reads the body of a regular file with what may stand in front of it.
    fn file(&mut self, block: &Block, size: u64, mut pax: Pax) -> Result<TreeItem, What> {
        let mut runs = Vec::new();
        let (body, real_size, sparse) = if block.kind() == EntryType::GnuSparse {
            let (real_size, mut more) = block.gnu_sparse(&mut runs)?;
            while more {
                more = gnu_extension(&self.block()?.ok_or(What::Truncated)?, &mut runs)?;
                check("extents", self.limits.extents, runs.len() as u64)?;
            }
            (size, real_size, true)
        } else {
            let real_size = pax.sparse.real_size;
            let missing = || What::Header("a sparse file without its size".into());
            match pax.sparse.version() {
                None => (size, size, false),
                Some(Version::Records(map)) => {
                    runs = map;
                    (size, real_size.ok_or_else(missing)?, true)
                }
                Some(Version::InData) => {
                    let map = self.sparse_map(size, &mut runs)?;
                    let body = size.checked_sub(map).ok_or_else(|| What::Header("bad sparse map".into()))?;
                    (body, real_size.ok_or_else(missing)?, true)
                }
            }
        };
        if sparse {
            check_sparse(&runs, body, real_size)?;
            self.hold(runs.len() * size_of::<SparseRun>())?;
        }
        i64::try_from(real_size).map_err(|_| What::Header("the size of the file is too large".into()))?;
        let padding = padded(body)? - body;
        self.writer.begin_body(body)?;
        let mut left = body;
        while left > 0 {
            let bytes = self.chunks.fill()?;
            let n = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if n == 0 {
                return Err(What::Truncated);
            }
            self.writer.body(bytes.get(..n).unwrap_or_default())?;
            self.chunks.consume(n);
            left -= n as u64;
            self.grown()?;
        }
        let stored = self.writer.end_body()?;
        self.skip_exact(padding)?;
        Ok(TreeItem::File { body: stored, size: real_size, sparse: sparse.then(|| runs.into()) })
    }

    /// The map in front of the data of a sparse file (format 1.0): decimal lines, padded to a block. Its size in bytes.
    fn sparse_map(&mut self, size: u64, runs: &mut Vec<SparseRun>) -> Result<u64, What> {
        let bad = || What::Header("bad sparse map".into());
        let mut lines = Lines::default();
        let mut read = 0;
        let mut next = |reader: &mut Self| loop {
            if let Some(number) = lines.next().ok_or_else(bad)? {
                return Ok(number);
            }
            read += BLOCK as u64;
            if read > size {
                return Err(bad());
            }
            lines.push(&reader.block()?.ok_or(What::Truncated)?);
        };
        let count = next(self)?;
        check("extents", self.limits.extents, count)?;
        for _ in 0..count {
            runs.push(SparseRun { at: next(self)?, len: next(self)? });
        }
        Ok(read)
    }
}

/// Decimal numbers, one a line, that come in blocks.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    at: usize,
}

impl Lines {
    fn push(&mut self, block: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(block);
    }

    /// The next number: `Some(None)` when its line is not complete, `None` when it is no number.
    fn next(&mut self) -> Option<Option<u64>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(end) = rest.iter().position(|&b| b == b'\n') else {
            // No number has more than 20 digits.
            return (rest.len() <= 20).then_some(None);
        };
        let number = std::str::from_utf8(rest.get(..end)?).ok()?;
        self.at += end + 1;
        number.parse().ok().filter(|_| !number.starts_with('+')).map(Some)
    }
}

fn check_sparse(runs: &[SparseRun], body: u64, real_size: u64) -> Result<(), What> {
    let mut last = 0;
    let mut sum: u64 = 0;
    for run in runs {
        let end = run.at.checked_add(run.len).filter(|&end| run.at >= last && end <= real_size);
        last = end.ok_or_else(|| What::Header("the runs of a sparse file overlap or reach too far".into()))?;
        sum = sum.saturating_add(run.len);
    }
    match sum == body {
        true => Ok(()),
        false => Err(What::Header("the runs of a sparse file are not as long as its data".into())),
    }
}

fn padded(size: u64) -> Result<u64, What> {
    let padded = size.checked_next_multiple_of(BLOCK as u64);
    padded.ok_or_else(|| What::Header("the size of the entry is too large".into()))
}

fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|&b| b == 0)
}
