//! Writing headers: a ustar header that every reader takes, and an extended one in front of it for what does not fit.

use crate::layer::pack::Xattr;
use crate::sys::attr::Kind;
use crate::sys::attr::PERM_MASK;
use crate::sys::attr::Stat;
use crate::sys::attr::Time;
use crate::sys::attr::dev_parts;

/// Holes of this many bytes in sum are worth a sparse entry, which not every reader knows.
pub(crate) const SPARSE_MIN: u64 = 1 << 20;

const BLOCK: usize = 512;
/// What fits into eleven octal digits.
const OCTAL_11: u64 = 0o77_777_777_777;
/// What fits into seven octal digits.
const OCTAL_7: u64 = 0o7_777_777;

/// What is told of an entry.
#[derive(Debug, Clone)]
pub(crate) struct Header<'a> {
    pub path: &'a [u8],
    pub link: &'a [u8],
    pub kind: u8,
    pub perm: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub rdev: u64,
    /// Bytes that follow, without padding.
    pub size: u64,
    /// The size of the sparse file whose map and data follow.
    pub sparse: Option<u64>,
    pub xattrs: Vec<Xattr>,
}

impl<'a> Header<'a> {
    /// An empty file without a name, as marks are written: like docker's, of nobody's time.
    pub(crate) fn empty() -> Self {
        Header {
            path: b"",
            link: b"",
            kind: b'0',
            perm: 0,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            rdev: 0,
            size: 0,
            sparse: None,
            xattrs: Vec::new(),
        }
    }

    /// The header of an object with these attributes.
    pub(crate) fn of(stat: &Stat) -> Self {
        let kind = match stat.kind() {
            Kind::File | Kind::Socket => b'0',
            Kind::Symlink => b'2',
            Kind::Char => b'3',
            Kind::Block => b'4',
            Kind::Dir => b'5',
            Kind::Fifo => b'6',
        };
        let perm = stat.mode & PERM_MASK;
        let (uid, gid, mtime, rdev) = (stat.uid, stat.gid, stat.mtime, stat.rdev);
        Header { kind, perm, uid, gid, mtime, rdev, ..Header::empty() }
    }

    /// The same as another name of `target`.
    pub(crate) fn hardlink(&self, target: &'a [u8]) -> Self {
        Header { kind: b'1', link: target, ..self.clone() }
    }

    /// The blocks to be written.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let records = self.records();
        let mut out = Vec::with_capacity(4 * BLOCK);
        if !records.is_empty() {
            let size = records.len() as u64;
            let extended = Header { path: b"PaxHeaders.0/entry", kind: b'x', perm: 0o644, size, ..Header::empty() };
            out.extend_from_slice(&extended.block());
            out.extend_from_slice(&records);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        out.extend_from_slice(&self.block());
        out
    }

    /// What the block cannot say.
    fn records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let Time { secs, nanos } = self.mtime;
        if nanos != 0 || !u64::try_from(secs).is_ok_and(|secs| secs <= OCTAL_11) {
            record(&mut out, b"mtime", decimal(self.mtime).as_bytes());
        }
        match self.sparse {
            Some(real) => {
                record(&mut out, b"GNU.sparse.major", b"1");
                record(&mut out, b"GNU.sparse.minor", b"0");
                record(&mut out, b"GNU.sparse.name", self.path);
                record(&mut out, b"GNU.sparse.realsize", real.to_string().as_bytes());
            }
            None if self.path.len() > 100 => record(&mut out, b"path", self.path),
            None => {}
        }
        if self.link.len() > 100 {
            record(&mut out, b"linkpath", self.link);
        }
        for (key, value, limit) in [
            (&b"size"[..], self.size, OCTAL_11),
            (b"uid", self.uid.into(), OCTAL_7),
            (b"gid", self.gid.into(), OCTAL_7),
        ] {
            if value > limit {
                record(&mut out, key, value.to_string().as_bytes());
            }
        }
        for (name, value) in &self.xattrs {
            record(&mut out, &xattr_key(name), value);
        }
        out
    }

    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in block.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        let octal = |value: u64, digits: usize| format!("{value:0digits$o}");
        // A reader that knows no extended headers gets a name that is cut off, and never a number that is another one.
        let fits = |value: u64, limit: u64| if value > limit { 0 } else { value };
        let (major, minor) = match self.kind {
            b'3' | b'4' => dev_parts(self.rdev),
            _ => (0, 0),
        };
        let secs = u64::try_from(self.mtime.secs).unwrap_or(0);
        put(0, self.path.get(..100).unwrap_or(self.path));
        put(100, octal(self.perm.into(), 7).as_bytes());
        put(108, octal(fits(self.uid.into(), OCTAL_7), 7).as_bytes());
        put(116, octal(fits(self.gid.into(), OCTAL_7), 7).as_bytes());
        put(124, octal(fits(self.size, OCTAL_11), 11).as_bytes());
        put(136, octal(fits(secs, OCTAL_11), 11).as_bytes());
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, self.link.get(..100).unwrap_or(self.link));
        put(257, b"ustar\x0000");
        put(329, octal(fits(major.into(), OCTAL_7), 7).as_bytes());
        put(337, octal(fits(minor.into(), OCTAL_7), 7).as_bytes());
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        for (to, from) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
            *to = from;
        }
        block
    }
}

/// The key of a xattr: `=` and `%` are written as GNU tar does, since a key ends at the first `=`.
fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for &byte in name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            _ => key.push(byte),
        }
    }
    key
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A time as decimal seconds, exact.
fn decimal(time: Time) -> String {
    let Time { secs, nanos } = time;
    let text = match (secs < 0, nanos) {
        (_, 0) => return secs.to_string(),
        (false, _) => format!("{secs}.{nanos:09}"),
        // Nanoseconds count forward: -2 s and 0.75 s is -1.25 s.
        (true, _) => format!("-{}.{:09}", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
    };
    text.trim_end_matches('0').to_owned()
}

/// The map of a sparse file of `size` bytes (format 1.0), padded to a block. A hole at the end gets an empty run behind it,
/// without which GNU tar makes the file too short.
pub(crate) fn sparse_map(runs: &[(u64, u64)], size: u64) -> Vec<u8> {
    let end = runs.last().is_none_or(|&(_, to)| to < size).then_some((size, size));
    let mut map = format!("{}\n", runs.len() + usize::from(end.is_some()));
    for (from, to) in runs.iter().chain(&end) {
        map.push_str(&format!("{from}\n{}\n", to - from));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}
