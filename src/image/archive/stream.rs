//! Archives that come once, from front to back: a pipe, or a file that is compressed as a whole.
//!
//! `manifest.json` comes last in most archives, so layers are imported before anyone knows whether they are wanted. What is no
//! JSON is given to the importer as it comes; when the documents are known, the plans are matched with what was taken, and
//! the rest is dropped.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;

use rustc_hash::FxHashMap;

use super::Contents;
use super::Documents;
use super::Error;
use super::ImportError;
use super::Importer;
use super::LayerPlan;
use super::Machine;
use super::Taken;
use super::Wanted;
use super::check_file_size;
use super::check_taken;
use super::digest_of_blob_name;
use super::outer::Entry;
use super::outer::Outer;
use super::outer::Pipe;
use super::outer::What;
use super::outer::clean;
use crate::image::Digest;
use crate::image::ahead;
use crate::image::compression::Compression;
use crate::image::compression::Decoder;
use crate::image::config::CONFIG_MAX;
use crate::image::limits;
use crate::image::limits::Limits;
use crate::image::manifest::BadDocument;

/// The most that all documents of an archive may take in memory, in bytes.
const DOCUMENTS_MAX: u64 = 64 << 20;
/// How many links may follow each other.
const LINKS_MAX: usize = 8;
/// Whether an archive that begins with these bytes is compressed as a whole, in whatever way.
pub fn is_compressed(start: &[u8]) -> bool {
    Compression::of(start) != Ok(Compression::None)
}

/// The archive in `input` without the compression around it, which may not grow it beyond the limits.
fn decompressed<R: Read + Send>(input: R, limits: &Limits) -> Result<Inflating<'_, R>, Error> {
    let mut input = BufReader::with_capacity(256 << 10, Counted { input, bytes: 0 });
    let start = input.fill_buf()?;
    if start.is_empty() {
        return Err(Error::NotAnImage("it is empty".to_owned()));
    }
    let compression = Compression::of(start).map_err(|e| Error::NotAnImage(e.to_string()))?;
    let limits = (compression != Compression::None).then_some(limits);
    Ok(Inflating { decoder: Decoder::new(compression, input)?, bytes: 0, limits })
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buf)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

/// Decompresses, and fails as soon as too much came out: an archive may hold entries that no image asks for and no other limit
/// sees.
struct Inflating<'a, R: Read> {
    decoder: Decoder<BufReader<Counted<R>>>,
    bytes: u64,
    /// `None` when nothing is compressed.
    limits: Option<&'a Limits>,
}

impl<R: Read> Read for Inflating<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if let Some(limits) = self.limits {
            let from = self.decoder.get_ref().get_ref().bytes;
            limits::check("archive-size", limits.archive_size, self.bytes)
                .and_then(|()| limits::check_ratio(limits, from, self.bytes))
                .map_err(std::io::Error::other)?;
        }
        let n = self.decoder.read(buf)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

/// Reads all images of a pipe, which may be compressed and then grow only within `limits`.
///
/// # Errors
/// [`Error`]; no layer that was taken is published then.
pub fn load<I: Importer>(
    input: impl Read + Send,
    importer: &I,
    machine: &Machine,
    limits: &Limits,
) -> Result<Contents<I::Layer>, Error> {
    read_entries(decompressed(input, limits)?, importer, machine)
}

/// As [`load`], for a file: what is around its layers is taken off by a thread of its own, which reads ahead. (A pipe may make that thread
/// wait for what never comes, and the caller for the thread.)
///
/// # Errors
/// As [`load`].
pub fn load_file<I: Importer>(
    input: impl Read + Send,
    importer: &I,
    machine: &Machine,
    limits: &Limits,
) -> Result<Contents<I::Layer>, Error> {
    let mut input = decompressed(input, limits)?;
    std::thread::scope(|scope| {
        let (filler, bytes) = ahead::pair();
        std::thread::Builder::new()
            .name("archive".into())
            .spawn_scoped(scope, move || filler.run(&mut input, |_| 0))?;
        read_entries(bytes, importer, machine)
    })
}

fn read_entries<I: Importer>(
    input: impl Read + Send,
    importer: &I,
    machine: &Machine,
) -> Result<Contents<I::Layer>, Error> {
    let mut outer = Outer::new(Pipe(input));
    let mut found =
        Found { documents: FxHashMap::default(), held: 0, layers: FxHashMap::default(), links: FxHashMap::default() };
    while let Some(entry) = outer.next_entry()? {
        found.take(&mut outer, entry, importer)?;
    }
    outer.drain()?;
    found.finish(importer, machine)
}

/// What came so far.
struct Found<L> {
    documents: FxHashMap<String, Document>,
    held: u64,
    layers: FxHashMap<String, Outcome<L>>,
    links: FxHashMap<String, String>,
}

enum Document {
    Held(Vec<u8>),
    TooLarge(u64),
}

enum Outcome<L> {
    Taken(Taken<L>),
    /// The layer was there already; this diff id follows from the entry's name.
    Skipped(Digest),
    Failed(ImportError),
}

impl<L> Found<L> {
    fn take<I, R>(&mut self, outer: &mut Outer<R>, entry: Entry, importer: &I) -> Result<(), Error>
    where
        I: Importer<Layer = L>,
        R: super::outer::Skim + Send,
    {
        match entry.what {
            What::Link(target) => {
                self.links.insert(entry.name, target);
            }
            What::File => {
                let mut content = BufReader::with_capacity(64 << 10, outer);
                if is_document(&mut content)? {
                    self.hold(entry.name, entry.size, content)?;
                } else {
                    let outcome = take_layer(&mut content, &entry, importer)?;
                    self.layers.insert(entry.name, outcome);
                }
            }
            What::Other => {}
        }
        Ok(())
    }

    fn hold(&mut self, name: String, size: u64, content: impl Read) -> Result<(), Error> {
        if size > CONFIG_MAX || self.held + size > DOCUMENTS_MAX {
            self.documents.insert(name, Document::TooLarge(size));
            return Ok(());
        }
        let mut bytes = Vec::new();
        content.take(size).read_to_end(&mut bytes)?;
        self.held += size;
        self.documents.insert(name, Document::Held(bytes));
        Ok(())
    }

    /// The entry that a name means, links followed.
    fn follow(&self, name: &str) -> Option<String> {
        let mut name = clean(name.as_bytes())?;
        for _ in 0..LINKS_MAX {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return Some(name),
            }
        }
        None
    }

    /// Matches the documents' plans with what was taken.
    fn finish<I: Importer<Layer = L>>(mut self, importer: &I, machine: &Machine) -> Result<Contents<L>, Error> {
        let images = super::resolve(&self, machine)?;
        let mut taken: FxHashMap<Digest, Taken<L>> = FxHashMap::default();
        for plan in images.iter().flat_map(|image| &image.layers) {
            if taken.contains_key(&plan.diff_id) {
                continue;
            }
            if let Some(layer) = self.claim(plan, importer)? {
                taken.insert(plan.diff_id, layer);
            }
        }
        Ok(Contents { images, layers: taken.into_values().collect() })
    }

    fn claim<I: Importer<Layer = L>>(&mut self, plan: &LayerPlan, importer: &I) -> Result<Option<Taken<L>>, Error> {
        let name = self.follow(&plan.name).unwrap_or_default();
        match self.layers.remove(&name) {
            Some(Outcome::Taken(layer)) => {
                check_file_size(plan, layer.blob_size)?;
                check_taken(plan, &layer)?;
                Ok(Some(layer))
            }
            Some(Outcome::Skipped(diff_id)) if diff_id == plan.diff_id => Ok(None),
            Some(Outcome::Skipped(diff_id)) => {
                Err(plan.failed(format!("the digest of the layer is {diff_id}, expected {}", plan.diff_id)))
            }
            Some(Outcome::Failed(why)) => Err(plan.failed(why)),
            None if importer.present(&plan.diff_id) => Ok(None),
            None => Err(super::missing_layer(plan)),
        }
    }
}

impl<L> Documents for Found<L> {
    fn document(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let document = self.follow(name).and_then(|name| self.documents.get(&name));
        let size = match document {
            None => return Ok(None),
            Some(Document::Held(bytes)) if bytes.len() as u64 <= limit => return Ok(Some(bytes.clone())),
            Some(Document::Held(bytes)) => bytes.len() as u64,
            Some(Document::TooLarge(size)) => *size,
        };
        let source = BadDocument::TooLarge { what: "the document", size, limit };
        Err(Error::Document { name: name.to_owned(), source })
    }
}

/// Whether the content is JSON and no tar whose first name happens to begin like it.
fn is_document(content: &mut impl BufRead) -> Result<bool, Error> {
    let start = content.fill_buf()?;
    let text = start.iter().find(|b| !b.is_ascii_whitespace());
    let is_tar = start.get(257..262) == Some(b"ustar");
    Ok(matches!(text, Some(b'{' | b'[')) && !is_tar)
}

fn take_layer<I: Importer>(
    content: &mut (dyn Read + Send),
    entry: &Entry,
    importer: &I,
) -> Result<Outcome<I::Layer>, Error> {
    let wanted = Wanted { plan: None, name: &entry.name, size: entry.size };
    if let Some(diff_id) = present_by_name(&entry.name, importer) {
        importer.skipped(&wanted);
        return Ok(Outcome::Skipped(diff_id));
    }
    match importer.import(content, &wanted) {
        Ok(taken) => Ok(Outcome::Taken(taken)),
        Err(ImportError::Store(why)) => Err(Error::Store(why)),
        // Whether the entry was wanted at all turns out later. An archive that ends here is found out by the next entry.
        Err(e) => Ok(Outcome::Failed(e)),
    }
}

/// The diff id of a layer that is there already, from a name that tells it: podman's `DIFF_ID.tar`, or a blob's name.
fn present_by_name<I: Importer>(name: &str, importer: &I) -> Option<Digest> {
    let digest = match digest_of_blob_name(name) {
        Some(blob) => match importer.known_blob(&blob) {
            Some(diff_id) => return (diff_id == blob || !importer.wants_file(&blob)).then_some(diff_id),
            None => blob,
        },
        None => Digest::from_hex(name.strip_suffix(".tar")?).ok()?,
    };
    importer.present(&digest).then_some(digest)
}
