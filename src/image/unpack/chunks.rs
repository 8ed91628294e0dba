//! The tar in large chunks, each also handed to a second thread that computes the diff id.

use std::io;
use std::io::Read;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;

use crate::digest::Digest;
use crate::digest::Hasher;

/// Large enough that a hand-over costs nothing, small enough that a few of them stay in the cache.
const CHUNK: usize = 256 * 1024;
/// How many chunks there are at most.
pub(super) const CHUNKS: usize = 6;

/// Bytes of the tar; only the first `len` count.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    len: usize,
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Hashes what it is sent, gives the chunks back, and returns the digest when the sender is gone.
pub(super) fn hash(chunks: &Receiver<Arc<Chunk>>, back: &Sender<Arc<Chunk>>) -> Digest {
    let mut hasher = Hasher::new();
    for chunk in chunks {
        hasher.update(chunk.bytes());
        // The reader may be gone, with an error: then nobody wants it back.
        let _ = back.send(chunk);
    }
    hasher.finish()
}

/// Reads a tar chunk by chunk.
pub(super) struct Chunks<R> {
    source: R,
    out: Sender<Arc<Chunk>>,
    back: Receiver<Arc<Chunk>>,
    current: Option<Arc<Chunk>>,
    at: usize,
    made: usize,
    /// Bytes taken from the source.
    read: u64,
    /// Bytes that the caller has consumed.
    consumed: u64,
    ended: bool,
}

pub(super) fn gone() -> io::Error {
    io::Error::other("the thread that computes the diff id is gone")
}

impl<R: Read> Chunks<R> {
    pub(super) fn new(source: R, out: Sender<Arc<Chunk>>, back: Receiver<Arc<Chunk>>) -> Self {
        Self { source, out, back, current: None, at: 0, made: 0, read: 0, consumed: 0, ended: false }
    }

    /// A chunk that nobody uses.
    fn free(&mut self) -> io::Result<Chunk> {
        self.current = None;
        loop {
            let chunk = match self.back.try_recv() {
                Ok(chunk) => chunk,
                Err(_) if self.made < CHUNKS => {
                    self.made += 1;
                    return Ok(Chunk { bytes: vec![0; CHUNK], len: 0 });
                }
                Err(_) => self.back.recv().map_err(|_| gone())?,
            };
            // Ours was dropped above, and the hasher has given up its own: it is the only one.
            if let Ok(chunk) = Arc::try_unwrap(chunk) {
                return Ok(chunk);
            }
            self.made -= 1;
        }
    }

    /// The next bytes, at least one but at the end of the tar.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        let left = self.current.as_ref().is_some_and(|chunk| self.at < chunk.len);
        if !left && !self.ended {
            let mut chunk = self.free()?;
            chunk.len = 0;
            while let Some(rest) = chunk.bytes.get_mut(chunk.len..).filter(|rest| !rest.is_empty()) {
                match self.source.read(rest) {
                    Ok(0) => {
                        self.ended = true;
                        break;
                    }
                    Ok(n) => chunk.len += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            self.read += chunk.len as u64;
            let chunk = Arc::new(chunk);
            self.out.send(chunk.clone()).map_err(|_| gone())?;
            (self.current, self.at) = (Some(chunk), 0);
        }
        Ok(self.current.as_ref().and_then(|chunk| chunk.bytes().get(self.at..)).unwrap_or_default())
    }

    /// Goes on by `n` bytes of what [`Chunks::fill`] gave.
    pub(super) fn consume(&mut self, n: usize) {
        self.at += n;
        self.consumed += n as u64;
    }

    /// How many bytes of the tar were consumed.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// How many bytes of the tar were read from the source, ahead of what was consumed.
    pub(super) fn read_ahead(&self) -> u64 {
        self.read
    }

    /// The source, back; the hashing thread then comes to its end.
    pub(super) fn into_source(self) -> R {
        self.source
    }
}
