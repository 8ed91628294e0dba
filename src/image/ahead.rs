//! Bytes that another thread reads ahead, in large chunks that go round: who reads (and decompresses) fills a chunk, who takes it apart gives
//! it back. A stage in between may look at each chunk.
//!
//! No more than [`CHUNKS`] are ever under way, so a slow reader holds the filler back. Each end notices that the other is gone, and ends.

use std::io;
use std::io::Read;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;

use super::limits::Exceeded;

/// Large enough that a hand-over costs nothing, small enough that a few of them stay in the cache.
const CHUNK: usize = 256 * 1024;
/// How many chunks there are at most.
const CHUNKS: usize = 6;

/// Some bytes of the source, in order.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    /// Only these count.
    len: usize,
    /// What the filler said of the source when it had filled this.
    mark: u64,
}

impl Chunk {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Fills it as far as the source has bytes.
    fn fill(&mut self, source: &mut impl Read) -> io::Result<()> {
        self.len = 0;
        while let Some(rest) = self.bytes.get_mut(self.len..).filter(|rest| !rest.is_empty()) {
            match source.read(rest) {
                Ok(0) => break,
                Ok(n) => self.len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// What goes from the filler to the reader: a chunk that is not empty, or, as the last one, why there are no more.
pub type Filled = io::Result<Chunk>;

/// The end that reads the source.
#[derive(Debug)]
pub struct Filler {
    out: Sender<Filled>,
    back: Receiver<Chunk>,
    made: usize,
}

impl Filler {
    /// Reads `source` to its end, to an error, or until nobody wants more. Each chunk carries what `mark` says of the source behind it.
    pub fn run<R: Read>(mut self, source: &mut R, mark: impl Fn(&R) -> u64) {
        while let Some(mut chunk) = self.free() {
            let filled = chunk.fill(source).map(|()| {
                chunk.mark = mark(source);
                chunk
            });
            let last = filled.as_ref().map_or(true, |chunk| chunk.len < CHUNK);
            // An empty one says nothing: that there are no more is said by our end of the channel.
            if filled.as_ref().is_ok_and(|chunk| chunk.len == 0) || self.out.send(filled).is_err() || last {
                return;
            }
        }
    }

    /// A chunk that nobody uses; `None` when the reader is gone.
    fn free(&mut self) -> Option<Chunk> {
        if let Ok(chunk) = self.back.try_recv() {
            return Some(chunk);
        }
        if self.made < CHUNKS {
            self.made += 1;
            return Some(Chunk { bytes: vec![0; CHUNK], len: 0, mark: 0 });
        }
        self.back.recv().ok()
    }
}

/// A stage between both ends.
#[derive(Debug)]
pub struct Stage {
    input: Receiver<Filled>,
    out: Sender<Filled>,
}

impl Stage {
    /// Shows each chunk to `look` and passes it on, until there are no more or nobody wants them.
    pub fn run(self, mut look: impl FnMut(&[u8])) {
        for filled in self.input {
            if let Ok(chunk) = &filled {
                look(chunk.bytes());
            }
            if self.out.send(filled).is_err() {
                return;
            }
        }
    }
}

/// The end that takes the bytes. Dropping it ends the others.
#[derive(Debug)]
pub struct Ahead {
    input: Receiver<Filled>,
    back: Sender<Chunk>,
    current: Option<Chunk>,
    at: usize,
    /// Bytes that came.
    read: u64,
    /// Bytes that the caller has consumed.
    consumed: u64,
    mark: u64,
    failed: Option<io::Error>,
}

/// Both ends.
pub fn pair() -> (Filler, Ahead) {
    let (out, input) = crossbeam_channel::bounded(CHUNKS);
    ends(out, input)
}

/// Both ends, and a stage between them.
pub fn staged() -> (Filler, Stage, Ahead) {
    let (out, stage_input) = crossbeam_channel::bounded(CHUNKS);
    let (stage_out, input) = crossbeam_channel::bounded(CHUNKS);
    let (filler, ahead) = ends(out, input);
    (filler, Stage { input: stage_input, out: stage_out }, ahead)
}

fn ends(out: Sender<Filled>, input: Receiver<Filled>) -> (Filler, Ahead) {
    let (give_back, back) = crossbeam_channel::bounded(CHUNKS);
    let filler = Filler { out, back, made: 0 };
    let ahead = Ahead { input, back: give_back, current: None, at: 0, read: 0, consumed: 0, mark: 0, failed: None };
    (filler, ahead)
}

impl Ahead {
    /// The next bytes, at least one but at the end.
    ///
    /// # Errors
    /// The source's, again each time.
    pub fn fill(&mut self) -> io::Result<&[u8]> {
        if let Some(e) = &self.failed {
            return Err(again(e));
        }
        if self.current.as_ref().is_none_or(|chunk| self.at >= chunk.len) {
            if let Some(chunk) = self.current.take() {
                // The filler may have come to the end: then nobody wants it back.
                let _ = self.back.send(chunk);
            }
            self.at = 0;
            match self.input.recv() {
                Ok(Ok(chunk)) => {
                    self.read += chunk.len as u64;
                    self.mark = chunk.mark;
                    self.current = Some(chunk);
                }
                Ok(Err(e)) => {
                    self.failed = Some(again(&e));
                    return Err(e);
                }
                Err(_) => {}
            }
        }
        Ok(self.current.as_ref().and_then(|chunk| chunk.bytes().get(self.at..)).unwrap_or_default())
    }

    /// Goes on by `n` bytes of what [`Ahead::fill`] gave.
    pub fn consume(&mut self, n: usize) {
        self.at += n;
        self.consumed += n as u64;
    }

    /// How many bytes were consumed.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// How many bytes came, what [`Ahead::fill`] gives included; and what the filler said of the source when it had read so far.
    pub fn came(&self) -> (u64, u64) {
        (self.read, self.mark)
    }
}

impl Read for Ahead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill()?;
        let n = bytes.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), bytes.get(..n)) {
            to.copy_from_slice(from);
        }
        self.consume(n);
        Ok(n)
    }
}

/// The same error once more, as far as anyone asks: its kind, its words, and the limit that was met.
fn again(e: &io::Error) -> io::Error {
    match (e.get_ref().and_then(|inner| inner.downcast_ref::<Exceeded>()), e.raw_os_error()) {
        (Some(limit), _) => io::Error::other(limit.clone()),
        (None, Some(number)) => io::Error::from_raw_os_error(number),
        (None, None) => io::Error::new(e.kind(), e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `good` bytes, three at a time at most, then an error or the end.
    struct Source {
        good: usize,
        then: Option<Exceeded>,
        given: usize,
    }

    impl Read for Source {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = buf.len().min(self.good - self.given).min(100_003);
            if n == 0
                && let Some(limit) = &self.then
            {
                return Err(io::Error::other(limit.clone()));
            }
            for (at, byte) in buf[..n].iter_mut().enumerate() {
                *byte = u8::try_from((self.given + at) % 251).unwrap();
            }
            self.given += n;
            Ok(n)
        }
    }

    fn source(good: usize) -> Source {
        Source { good, then: None, given: 0 }
    }

    #[test]
    fn all_bytes_come_in_order_and_once() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 20 * CHUNK + 17] {
            let (filler, mut ahead) = pair();
            let mut all = Vec::new();
            std::thread::scope(|scope| {
                scope.spawn(|| filler.run(&mut source(size), |source| source.given as u64));
                ahead.read_to_end(&mut all).unwrap();
            });
            assert!(all.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251), "{size}");
            assert_eq!((all.len() as u64, ahead.consumed()), (size as u64, size as u64));
            assert_eq!(ahead.came(), (size as u64, size as u64));
            assert_eq!(ahead.fill().unwrap(), b"", "the end stays");
        }
    }

    #[test]
    fn a_stage_sees_what_the_reader_gets() {
        let (filler, stage, mut ahead) = staged();
        let (mut seen, mut all) = (Vec::new(), Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(|| filler.run(&mut source(9 * CHUNK + 1), |_| 0));
            scope.spawn(|| stage.run(|bytes| seen.extend_from_slice(bytes)));
            ahead.read_to_end(&mut all).unwrap();
        });
        assert!(seen == all && all.len() == 9 * CHUNK + 1);
    }

    /// The loader reads on behind a layer that failed: it must not take a damaged archive for one that is cut.
    #[test]
    fn an_error_comes_again() {
        let limit = Exceeded { name: "ratio", limit: 1, found: 2 };
        let (filler, mut ahead) = pair();
        std::thread::scope(|scope| {
            let mut source = Source { then: Some(limit.clone()), ..source(CHUNK + 5) };
            scope.spawn(move || filler.run(&mut source, |_| 0));
            for _ in 0..3 {
                let error = ahead.read_to_end(&mut Vec::new()).unwrap_err();
                assert_eq!(error.get_ref().unwrap().downcast_ref::<Exceeded>(), Some(&limit));
            }
        });
    }

    /// Else a layer with a fault in its first entry would be read to its end, or never done.
    #[test]
    fn the_others_end_when_the_reader_is_gone() {
        let (filler, stage, mut ahead) = staged();
        std::thread::scope(|scope| {
            let mut source = source(1000 * CHUNK);
            let filling = scope.spawn(move || {
                filler.run(&mut source, |_| 0);
                source.given
            });
            scope.spawn(|| stage.run(|_| {}));
            ahead.fill().unwrap();
            drop(ahead);
            assert!(filling.join().unwrap() <= (2 * CHUNKS + 2) * CHUNK);
        });
    }
}
