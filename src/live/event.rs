//! One operation, as it is told.

use super::op::Op;
use super::wire::Reader;
use super::wire::Writer;

/// How many layers' words one event carries at most.
pub const STEPS_MAX: usize = 128;
/// The longest path in an event, in bytes; of a longer one the end is kept.
const PATH_MAX: usize = 4096;

/// Where in an encoded event its thread stands.
pub(super) const PID_AT: usize = 8 + 4 + 8 + 1 + 2;
/// The longest name of a process; the kernel's has 15 bytes.
const COMM_MAX: usize = 64;

/// What one layer said about the name that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Said {
    /// Nothing.
    Miss,
    /// It deletes the name.
    Whiteout,
    /// It has the object that is served, or the topmost directory.
    Found,
    /// It has a directory that is merged, or the content of the one above.
    Merged,
    /// It has a directory that hides those below; served or merged.
    Opaque,
    /// It has the name, and does not show.
    Shadowed,
    /// It could not be read.
    Failed,
}

impl Said {
    const ALL: [Said; 7] =
        [Said::Miss, Said::Whiteout, Said::Found, Said::Merged, Said::Opaque, Said::Shadowed, Said::Failed];

    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Said::Miss => "miss",
            Said::Whiteout => "whiteout",
            Said::Found => "found",
            Said::Merged => "merged",
            Said::Opaque => "opaque",
            Said::Shadowed => "shadowed",
            Said::Failed => "failed",
        }
    }
}

/// One layer's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// 0 is the upper directory; lower layers count as images count, 1 being the lowest.
    pub layer: u16,
    /// What it said.
    pub said: Said,
}

impl Step {
    /// `upper` or `layer 3`.
    pub fn place(self) -> String {
        if self.layer == 0 { "upper".to_owned() } else { format!("layer {}", self.layer) }
    }
}

/// One operation that was done, or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it came: seconds and nanoseconds since 1970 (UTC).
    pub at: (i64, u32),
    /// How long it took, in nanoseconds; without the way through the kernel.
    pub took: u64,
    /// What was asked for.
    pub op: Op,
    /// The error number of the answer; 0 for success. A name that is not there is `ENOENT`.
    pub errno: u16,
    /// The thread that asked, as the server sees it; 0 where it does not show, or where the kernel asked by itself.
    pub pid: u32,
    /// Its name, as the server saw it within a millisecond; raw, at most 15 bytes; empty where it does not show.
    pub comm: Vec<u8>,
    /// Its user.
    pub uid: u32,
    /// The inode number.
    pub ino: u64,
    /// Bytes read, written or copied.
    pub bytes: u64,
    /// Where in the file.
    pub offset: u64,
    /// The path in the union, with a leading slash; empty for what has no name any more.
    pub path: Vec<u8>,
    /// The other path (of a rename, a link), or the name of the extended attribute.
    pub other: Vec<u8>,
    /// For a lookup, what each layer said that was asked, top first; else the layer that serves the object.
    pub steps: Vec<Step>,
    /// How many layers more were asked than `steps` holds.
    pub more: u16,
}

impl Event {
    /// The layer that serves the object.
    pub fn served(&self) -> Option<Step> {
        self.steps.iter().copied().find(|step| matches!(step.said, Said::Found | Said::Opaque))
    }

    /// Whether a name was looked up that is not there.
    pub fn is_negative_lookup(&self) -> bool {
        self.op == Op::Lookup && self.errno == ENOENT
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        w.u64(self.at.0.cast_unsigned()).u32(self.at.1).u64(self.took).u8(self.op as u8).u16(self.errno);
        w.u32(self.pid).u32(self.uid).u64(self.ino).u64(self.bytes).u64(self.offset);
        w.bytes(end(&self.comm)).bytes(end(&self.path)).bytes(end(&self.other));
        let steps = self.steps.get(..STEPS_MAX).unwrap_or(&self.steps);
        w.u16(self.more).u16(u16::try_from(steps.len()).unwrap_or(0));
        for step in steps {
            w.u16(step.layer).u8(step.said as u8);
        }
    }

    /// Reads what [`Event::encode`] wrote; `None` for anything else.
    pub(super) fn decode(r: &mut Reader<'_>) -> Option<Self> {
        let at = (r.u64()?.cast_signed(), r.u32()?);
        let (took, op, errno) = (r.u64()?, Op::of_number(r.u8()?)?, r.u16()?);
        let (pid, uid) = (r.u32()?, r.u32()?);
        let (ino, bytes, offset) = (r.u64()?, r.u64()?, r.u64()?);
        let comm = r.bytes(COMM_MAX)?.to_vec();
        let (path, other) = (r.bytes(PATH_MAX)?.to_vec(), r.bytes(PATH_MAX)?.to_vec());
        let (more, count) = (r.u16()?, usize::from(r.u16()?));
        if count > STEPS_MAX {
            return None;
        }
        let step = |_| Some(Step { layer: r.u16()?, said: *Said::ALL.get(usize::from(r.u8()?))? });
        let steps = (0..count).map(step).collect::<Option<Vec<_>>>()?;
        Some(Event { at, took, op, errno, pid, comm, uid, ino, bytes, offset, path, other, steps, more })
    }
}

/// The kernel's.
pub const ENOENT: u16 = 2;

fn end(path: &[u8]) -> &[u8] {
    path.get(path.len().saturating_sub(PATH_MAX)..).unwrap_or_default()
}
