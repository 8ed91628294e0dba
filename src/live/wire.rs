//! What goes over the socket of a mount: frames, each with its length first.
//!
//! ```text
//! frame    length: u32 (of what follows), kind: u8, body            all integers little-endian
//!
//! caller   'Q'  JSON of [`Ask`]; the only frame that it sends
//! server   'J'  JSON, the answer to [`Ask::Stats`] and [`Ask::Node`]; then it hangs up
//!          'X'  why it refuses, UTF-8; then it hangs up
//!          'T'  tracing has begun: everything that comes later is told
//!          'E'  one event ([`Event`])
//!          'L'  u64: so many events were lost here
//!          'Z'  the mount has ended
//! ```
//! Neither end trusts the other: lengths are bounded before anything is read or allocated, and what cannot be read ends the
//! conversation. The version of [`Ask`] decides the shape of everything; a server that does not know it refuses with 'X'.

use std::io;
use std::io::Read;
use std::io::Write;

use serde::Deserialize;
use serde::Serialize;

use super::event::Event;
use super::event::PID_AT;
use super::filter::Filter;

/// The version of this protocol.
pub const VERSION: u32 = 1;
/// The longest frame that a caller may send, in bytes.
pub const ASK_MAX: usize = 64 * 1024;
/// The longest frame that a server may send, in bytes.
pub const ANSWER_MAX: usize = 4 << 20;

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// [`VERSION`].
    pub version: u32,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum What {
    /// Counters and abilities, once.
    Stats,
    /// What the kernel may know of a path.
    Node {
        /// From the root of the mount, as bytes.
        path: Vec<u8>,
    },
    /// Events, until somebody hangs up.
    Trace(Filter),
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// An answer as JSON.
    Json(Vec<u8>),
    /// A refusal, and why.
    Refused(String),
    /// From now on events come.
    Started,
    /// An event.
    Event(Box<Event>),
    /// So many events were lost here.
    Lost(u64),
    /// The mount has ended.
    End,
}

impl Frame {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, |w| match self {
            Frame::Json(bytes) => {
                w.u8(b'J').raw(bytes);
            }
            Frame::Refused(why) => {
                w.u8(b'X').raw(why.as_bytes());
            }
            Frame::Started => {
                w.u8(b'T');
            }
            Frame::Event(event) => event.encode(w.u8(b'E')),
            Frame::Lost(count) => {
                w.u8(b'L').u64(*count);
            }
            Frame::End => {
                w.u8(b'Z');
            }
        });
    }

    fn decode(kind: u8, body: &[u8]) -> Option<Self> {
        let mut r = Reader(body);
        let frame = match kind {
            b'J' => return Some(Frame::Json(body.to_vec())),
            b'X' => return Some(Frame::Refused(String::from_utf8_lossy(body).into_owned())),
            b'T' => Frame::Started,
            b'E' => Frame::Event(Box::new(Event::decode(&mut r)?)),
            b'L' => Frame::Lost(r.u64()?),
            b'Z' => Frame::End,
            _ => return None,
        };
        r.0.is_empty().then_some(frame)
    }

    /// Takes the first frame out of bytes that came; `None` while there is not all of it.
    ///
    /// # Errors
    /// For what is no frame.
    pub fn take(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*len) as usize;
        if len == 0 || len > ANSWER_MAX {
            return Err(torn(format!("a frame of {len} bytes")));
        }
        let Some(frame) = rest.get(..len) else { return Ok(None) };
        let (kind, body) = frame.split_first().map_or((0, &[][..]), |(kind, body)| (*kind, body));
        let frame = Self::decode(kind, body).ok_or_else(|| torn(format!("a frame of kind {kind} that is none")))?;
        Ok(Some((frame, len + 4)))
    }
}

/// Appends one frame: its length, and what `fill` writes.
fn frame(out: &mut Vec<u8>, fill: impl FnOnce(&mut Writer)) {
    let at = out.len();
    let mut w = Writer(std::mem::take(out));
    w.u32(0);
    fill(&mut w);
    *out = w.0;
    let len = u32::try_from(out.len() - at - 4).unwrap_or(0);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&len.to_le_bytes());
    }
}

/// Appends [`Frame::Event`].
pub(super) fn put_event(event: &Event, out: &mut Vec<u8>) {
    frame(out, |w| event.encode(w.u8(b'E')));
}

/// The frames that [`put_event`] wrote one after the other, each with the thread that asked.
pub(super) fn events(mut frames: &[u8]) -> impl Iterator<Item = (&[u8], u32)> {
    std::iter::from_fn(move || {
        let len = u32::from_le_bytes(*frames.first_chunk()?) as usize + 4;
        let (frame, rest) = frames.split_at_checked(len)?;
        frames = rest;
        let pid = frame.get(5 + PID_AT..)?.first_chunk()?;
        Some((frame, u32::from_le_bytes(*pid)))
    })
}

/// Sends what is wanted.
///
/// # Errors
/// The stream's.
pub fn send_ask(stream: &mut impl Write, what: What) -> io::Result<()> {
    let body = serde_json::to_vec(&Ask { version: VERSION, what })?;
    let mut w = Writer(Vec::new());
    w.u32(u32::try_from(body.len() + 1).unwrap_or(u32::MAX)).u8(b'Q').raw(&body);
    stream.write_all(&w.0)
}

/// Reads what a caller wants.
///
/// # Errors
/// The stream's; for a frame that is too long, of another kind, of another version, or wants what cannot be.
pub fn read_ask(stream: &mut impl Read) -> io::Result<What> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [a, b, c, d, kind] = head;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if kind != b'Q' || len == 0 || len > ASK_MAX {
        return Err(torn(format!("a question of {len} bytes, kind {kind}")));
    }
    let mut body = vec![0; len - 1];
    stream.read_exact(&mut body)?;
    /// Read first: the rest may have another shape.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(&body).map_err(|e| torn(e.to_string()))?;
    if version != VERSION {
        return Err(torn(format!("version {version} is asked for; this server speaks {VERSION}")));
    }
    let ask: Ask = serde_json::from_slice(&body).map_err(|e| torn(e.to_string()))?;
    match &ask.what {
        What::Trace(filter) if !filter.is_sane() => Err(torn("a pattern is too long".to_owned())),
        What::Node { path } if path.len() > 4096 => Err(torn("a path is too long".to_owned())),
        _ => Ok(ask.what),
    }
}

fn torn(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Builds a message.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(&mut self, n: u8) -> &mut Self {
        self.raw(&[n])
    }

    pub(super) fn u16(&mut self, n: u16) -> &mut Self {
        self.raw(&n.to_le_bytes())
    }

    pub(super) fn u32(&mut self, n: u32) -> &mut Self {
        self.raw(&n.to_le_bytes())
    }

    pub(super) fn u64(&mut self, n: u64) -> &mut Self {
        self.raw(&n.to_le_bytes())
    }

    /// With their length first.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u16(u16::try_from(bytes.len()).unwrap_or(0)).raw(bytes)
    }
}

/// Reads a message; `None` as soon as it is too short.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[n]| n)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes with their length first, `most` at most.
    pub(super) fn bytes(&mut self, most: usize) -> Option<&'a [u8]> {
        let len = usize::from(self.u16()?);
        if len > most {
            return None;
        }
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}
