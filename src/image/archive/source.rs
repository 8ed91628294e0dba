//! Archives that can be read at any place: a tar file, and a directory with an OCI layout.

use std::io::Read;
use std::os::fd::OwnedFd;

use rustc_hash::FxHashMap;

use super::Documents;
use super::Error;
use super::outer::Outer;
use super::outer::Skim;
use super::outer::What;
use crate::image::manifest::BadDocument;
use crate::path::RelPath;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::open::Access;

/// How many links may follow each other.
const LINKS_MAX: usize = 8;

/// An archive whose files can be opened in any order, by several threads.
pub trait Blobs: Documents + Sync {
    /// The size in bytes of the file `name`; `None` when there is none.
    fn size(&self, name: &str) -> Option<u64>;

    /// The file `name`; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send + '_>>, Error>;
}

/// Reads a whole file of at most `limit` bytes.
fn read_document(blobs: &impl Blobs, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some(size) = blobs.size(name) else { return Ok(None) };
    if size > limit {
        let source = BadDocument::TooLarge { what: "the document", size, limit };
        return Err(Error::Document { name: name.to_owned(), source });
    }
    let Some(input) = blobs.open(name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    input.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(Error::Truncated(format!("{name:?} has {} of {size} bytes", bytes.len())));
    }
    Ok(Some(bytes))
}

/// A run of a file, read by position; clones of the descriptor do not disturb each other.
#[derive(Debug)]
pub struct FileRange<'a> {
    fd: &'a OwnedFd,
    at: u64,
    end: u64,
}

impl<'a> FileRange<'a> {
    /// The bytes of `fd` from `at` to `end`.
    pub fn new(fd: &'a OwnedFd, at: u64, end: u64) -> Self {
        Self { fd, at, end }
    }
}

impl Read for FileRange<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let want = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buf.len());
        let n = sys::data::read_at(self.fd, buf.get_mut(..want).unwrap_or_default(), self.at)?;
        if n < want && n == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.at += n as u64;
        Ok(n)
    }
}

impl Skim for FileRange<'_> {
    fn skim(&mut self, len: u64) -> std::io::Result<()> {
        if len > self.end.saturating_sub(self.at) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.at += len;
        Ok(())
    }
}

/// A tar file with an index of its entries.
#[derive(Debug)]
pub struct TarFile {
    fd: OwnedFd,
    entries: FxHashMap<String, At>,
}

#[derive(Debug)]
enum At {
    File { offset: u64, size: u64 },
    Link(String),
}

impl TarFile {
    /// Reads the headers of the tar in `fd` from the byte `start` on.
    ///
    /// # Errors
    /// When it is no tar, or ends too early.
    pub fn open(fd: OwnedFd, start: u64) -> Result<Self, Error> {
        let end = sys::attr::fstat(&fd)?.size;
        let mut entries = FxHashMap::default();
        let mut outer = Outer::new(FileRange::new(&fd, start, end));
        while let Some(entry) = outer.next_entry()? {
            let at = match entry.what {
                What::File => At::File { offset: start + entry.offset, size: entry.size },
                What::Link(target) => At::Link(target),
                What::Other => continue,
            };
            if let At::File { offset, size } = at
                && size > end.saturating_sub(offset)
            {
                let have = end.saturating_sub(offset);
                return Err(Error::Truncated(format!("{:?} has {have} of {size} bytes", entry.name)));
            }
            // As when unpacking: of two entries with one name, the later one counts.
            entries.insert(entry.name, at);
        }
        drop(outer);
        Ok(Self { fd, entries })
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut at = self.entries.get(&super::outer::clean(name.as_bytes())?)?;
        for _ in 0..LINKS_MAX {
            match at {
                At::File { offset, size } => return Some((*offset, *size)),
                At::Link(target) => at = self.entries.get(target)?,
            }
        }
        None
    }
}

impl Documents for TarFile {
    fn document(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        read_document(self, name, limit)
    }
}

impl Blobs for TarFile {
    fn size(&self, name: &str) -> Option<u64> {
        self.find(name).map(|(_, size)| size)
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send + '_>>, Error> {
        Ok(self.find(name).map(|(offset, size)| -> Box<dyn Read + Send> {
            Box::new(FileRange::new(&self.fd, offset, offset + size))
        }))
    }
}

/// A directory with an OCI layout. Symlinks in it are not followed.
#[derive(Debug)]
pub struct LayoutDir {
    root: OwnedFd,
}

impl LayoutDir {
    /// The layout in the directory `root`.
    pub fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    fn find(&self, name: &str) -> Result<Option<(OwnedFd, u64)>, Error> {
        let Some((parents, last)) = RelPath::parse(name.as_bytes()).ok().and_then(|path| {
            let (parents, last) = path.split_last()?;
            Some((parents, last.to_buf()))
        }) else {
            return Ok(None);
        };
        let mut dir = sys::open::duplicate(&self.root)?;
        for part in parents.components() {
            dir = match sys::open::dir_at(&dir, part) {
                Ok(dir) => dir,
                Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(e) => return Err(e.into()),
            };
        }
        match sys::attr::stat_at(&dir, last.as_name())? {
            Some(stat) if stat.kind() == Kind::File => {
                let fd = sys::open::file_at(&dir, last.as_name(), Access::Read)?;
                let size = sys::attr::fstat(&fd)?.size;
                Ok(Some((fd, size)))
            }
            _ => Ok(None),
        }
    }
}

impl Documents for LayoutDir {
    fn document(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        read_document(self, name, limit)
    }
}

impl Blobs for LayoutDir {
    fn size(&self, name: &str) -> Option<u64> {
        self.find(name).ok().flatten().map(|(_, size)| size)
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send + '_>>, Error> {
        Ok(self.find(name)?.map(|(fd, _)| -> Box<dyn Read + Send> { Box::new(std::fs::File::from(fd)) }))
    }
}
