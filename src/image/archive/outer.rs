//! The outer tar of an archive, entry by entry, from any reader.
//!
//! Only names, types and sizes matter here. `tar-core` bounds what a header may make us hold (names, PAX records).

use std::io::Read;

use tar_core::parse::Limits;
use tar_core::parse::ParseEvent;
use tar_core::parse::Parser;

use super::Error;
use crate::path::Escaped;
use crate::path::RelPath;

/// The most entries an archive may have.
const ENTRIES_MAX: usize = 100_000;
/// The most that the names of all entries and the targets of links may take, in bytes: all of them are held. Archives of a hundred images
/// need some hundred KiB.
const NAMES_MAX: usize = 16 << 20;
/// The unit of a tar.
const BLOCK: u64 = 512;
/// How much behind the end mark of a pipe is read and dropped, so that its writer is not killed by a closed pipe.
const DRAIN_MAX: u64 = 16 << 20;

/// Bytes that can be passed over.
pub trait Skim: Read {
    /// Passes over `len` bytes.
    ///
    /// # Errors
    /// As reading them; an end before `len` is `UnexpectedEof`.
    fn skim(&mut self, len: u64) -> std::io::Result<()> {
        let mut this = self;
        let copied = std::io::copy(&mut Read::take(&mut this, len), &mut std::io::sink())?;
        if copied == len { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// A reader that can only be read.
#[derive(Debug)]
pub struct Pipe<R>(pub R);

impl<R: Read> Read for Pipe<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: Read> Skim for Pipe<R> {}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File,
    /// A symlink or hard link to the entry of this name.
    Link(String),
    /// A directory, or something that no image archive uses.
    Other,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without leading `/` and `./`.
    pub name: String,
    /// What it is.
    pub what: What,
    /// The size of its content in bytes.
    pub size: u64,
    /// Where its content starts in the archive.
    pub offset: u64,
}

/// The entries of a tar, in order.
#[derive(Debug)]
pub struct Outer<R> {
    input: R,
    parser: Parser,
    header: Vec<u8>,
    /// Where `input` stands.
    position: u64,
    /// What is left of the current entry's content, and of the padding behind it.
    content: u64,
    padding: u64,
    entries: usize,
    /// Bytes of all names and targets.
    names: usize,
    current: String,
}

impl<R: Skim> Outer<R> {
    /// The entries of the tar that `input` holds from where it stands.
    pub fn new(input: R) -> Self {
        let limits = Limits { max_metadata_size: 64 << 10, max_path_len: Some(4096), ..Limits::default() };
        Self {
            input,
            parser: Parser::new(limits),
            header: Vec::new(),
            position: 0,
            content: 0,
            padding: 0,
            entries: 0,
            names: 0,
            current: String::new(),
        }
    }

    /// The next entry that has a usable name; what is left of the one before is passed over. `None` at the end.
    ///
    /// # Errors
    /// When it is no tar, ends too early, or has too many entries.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            self.pass_over()?;
            let Some(entry) = self.read_header()? else { return Ok(None) };
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(Error::NotAnImage(format!("it has more than {ENTRIES_MAX} entries")));
            }
            self.names += entry.name.len() + if let What::Link(target) = &entry.what { target.len() } else { 0 };
            if self.names > NAMES_MAX {
                return Err(Error::NotAnImage(format!("the names in it take more than {} MiB", NAMES_MAX >> 20)));
            }
            self.content = entry.size;
            self.padding = entry.size.wrapping_neg() % BLOCK;
            self.current.clone_from(&entry.name);
            if !entry.name.is_empty() {
                return Ok(Some(entry));
            }
        }
    }

    /// Reads on behind the end mark, so that the writer of a pipe can end, and so that a checksum there is checked.
    ///
    /// # Errors
    /// When reading fails.
    pub fn drain(&mut self) -> Result<(), Error> {
        std::io::copy(&mut self.input.by_ref().take(DRAIN_MAX), &mut std::io::sink())?;
        Ok(())
    }

    fn pass_over(&mut self) -> Result<(), Error> {
        let rest = self.content + self.padding;
        if rest > 0 {
            self.input.skim(rest).map_err(|e| self.early_end(e))?;
            self.position += rest;
            (self.content, self.padding) = (0, 0);
        }
        Ok(())
    }

    fn early_end(&self, e: std::io::Error) -> Error {
        if e.kind() == std::io::ErrorKind::UnexpectedEof {
            Error::Truncated(format!("it ends inside {:?}", self.current))
        } else {
            self.at_entry(e.into())
        }
    }

    /// An error, with the entry at which it happened.
    fn at_entry(&self, e: Error) -> Error {
        match e {
            Error::Limit { source, .. } => Error::Limit { entry: self.current.clone(), source },
            e => e,
        }
    }

    /// Reads one header with its extensions; `None` at the end. The name is empty when it cannot be used.
    fn read_header(&mut self) -> Result<Option<Entry>, Error> {
        self.header.clear();
        let mut want = 512;
        loop {
            let missing = want - self.header.len();
            let got = self
                .input
                .by_ref()
                .take(missing as u64)
                .read_to_end(&mut self.header)
                .map_err(|e| self.at_entry(e.into()))?;
            self.position += got as u64;
            match (got < missing, self.header.len()) {
                // Some writers leave out the end mark, and some write only half of it.
                (true, 0) => return Ok(None),
                (true, 512) if self.header.iter().all(|&b| b == 0) => return Ok(None),
                (true, _) => return Err(self.cut_header()),
                (false, _) => {}
            }
            match self.parser.parse(&self.header) {
                Ok(ParseEvent::NeedData { min_bytes }) if min_bytes > self.header.len() => want = min_bytes,
                Ok(ParseEvent::Entry { entry, .. }) => {
                    let target = entry.link_target.as_deref().unwrap_or_default();
                    let name = clean(&entry.path).unwrap_or_default();
                    let what = if entry.is_file() {
                        What::File
                    } else if entry.is_symlink() {
                        resolve_link(&name, target).map_or(What::Other, What::Link)
                    } else if entry.is_hard_link() {
                        clean(target).map_or(What::Other, What::Link)
                    } else {
                        What::Other
                    };
                    // A hard link has no content, whatever its header says, and neither has a symlink.
                    let size = if matches!(what, What::Link(_)) { 0 } else { entry.size };
                    if size > i64::MAX as u64 {
                        return Err(Error::NotAnImage(format!("an entry of {size} bytes")));
                    }
                    return Ok(Some(Entry { name, what, size, offset: self.position }));
                }
                Ok(ParseEvent::GlobalExtensions { .. }) => {
                    self.header.clear();
                    want = 512;
                }
                Ok(ParseEvent::End { .. }) => return Ok(None),
                Ok(ParseEvent::SparseEntry { .. } | ParseEvent::NeedData { .. }) => {
                    return Err(Error::NotAnImage("its outer tar has sparse files".to_owned()));
                }
                Err(e) if self.entries == 0 => {
                    log::debug!("no tar header: {e}");
                    return Err(Error::NotAnImage("it is no tar, also not a compressed one".to_owned()));
                }
                Err(e) => {
                    let what = Escaped(e.to_string().as_bytes()).to_string();
                    return Err(Error::NotAnImage(format!("a damaged tar, behind {:?}: {what}", self.current)));
                }
            }
        }
    }

    fn cut_header(&self) -> Error {
        if self.entries == 0 {
            return Error::NotAnImage("it is no tar: it is too short".to_owned());
        }
        Error::Truncated(format!("it ends in a header behind {:?}", self.current))
    }
}

impl<R: Skim> Read for Outer<R> {
    /// Reads the content of the current entry.
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let want = usize::try_from(self.content).unwrap_or(usize::MAX).min(buf.len());
        if want == 0 {
            return Ok(0);
        }
        let n = self.input.read(buf.get_mut(..want).unwrap_or_default())?;
        if n == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                format!("the archive is truncated: it ends inside {:?}", self.current),
            ));
        }
        self.content -= n as u64;
        self.position += n as u64;
        Ok(n)
    }
}

/// A name as a key: no leading slash, no `.`; `None` for one with `..` or that is not UTF-8.
pub fn clean(name: &[u8]) -> Option<String> {
    String::from_utf8(RelPath::parse(name).ok()?.to_bytes()).ok()
}

/// The key to which the symlink `name` with the text `target` points; `None` when that is outside the archive.
fn resolve_link(name: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
