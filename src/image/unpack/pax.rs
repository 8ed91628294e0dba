//! Extended headers (POSIX pax): records of `LENGTH KEY=VALUE\n`. Values are bytes: a file capability may well hold a
//! newline, so the length alone tells where a record ends.
//!
//! A malformed record is an error. Skipping it would hide what stands behind it: the size of the entry, for one.

use super::What;
use crate::layer::pack::SparseRun;
use crate::layer::pack::Xattr;
use crate::sys::attr::Time;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an extended header says of its entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<Time>,
    pub atime: Option<Time>,
    pub ctime: Option<Time>,
    pub xattrs: Vec<Xattr>,
    pub sparse: PaxSparse,
}

/// The records of a sparse file: formats 0.0 (offset and length in records of their own), 0.1 (one record) and 1.0 (the
/// map in front of the data).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PaxSparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    pub map: Option<Vec<SparseRun>>,
    offset: Option<u64>,
}

/// How an entry is sparse, if it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// The map was in the records.
    Records(Vec<SparseRun>),
    /// The map stands in front of the data.
    InData,
}

impl PaxSparse {
    /// What the records say together. Unknown versions are read as plain files, as Go and old tars do.
    pub(super) fn version(&mut self) -> Option<Version> {
        match (self.major, self.minor) {
            (Some(1), Some(0)) => Some(Version::InData),
            (None, None) | (Some(0), Some(0 | 1)) => self.map.take().map(Version::Records),
            _ => None,
        }
    }
}

fn bad(what: &str) -> What {
    What::Header(format!("extended header: {what}"))
}

/// Key, value, and what stands behind the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits the next record off; `None` at the end.
fn record(data: &[u8]) -> Result<Option<Record<'_>>, What> {
    // Some writers pad with NULs.
    if data.iter().all(|&b| b == 0) {
        return Ok(None);
    }
    let split = || {
        let space = data.iter().take(20).position(|&b| b == b' ')?;
        let len = usize::try_from(digits(data.get(..space)?)?).ok()?;
        let (record, rest) = data.split_at_checked(len)?;
        let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
        let equals = pair.iter().position(|&b| b == b'=').filter(|&at| at > 0)?;
        Some((pair.get(..equals)?, pair.get(equals + 1..)?, rest))
    };
    split().map(Some).ok_or_else(|| bad("a malformed record"))
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &b| match b {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// Seconds with a fraction and perhaps a sign. What is finer than nanoseconds is cut off.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut parts = text.splitn(2, |&b| b == b'.');
    let secs = i64::try_from(digits(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = fraction.iter().chain(std::iter::repeat(&b'0')).take(9).fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    Some(match (negative, nanos) {
        (false, _) => Time { secs, nanos },
        (true, 0) => Time { secs: -secs, nanos },
        (true, _) => Time { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// `%3D` and `%25` in the name of a xattr stand for `=` and `%` (GNU tar).
fn xattr_name(name: &[u8]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, tail) = match rest {
            [b'%', b'3', b'D', tail @ ..] => (b'=', tail),
            [b'%', b'2', b'5', tail @ ..] => (b'%', tail),
            _ => (first, tail),
        };
        out.push(byte);
        rest = tail;
    }
    out.into()
}

/// Of several values with one name the last. Sorted and not searched: a header may hold tens of thousands.
fn last_of_each(mut xattrs: Vec<Xattr>) -> Vec<Xattr> {
    xattrs.reverse();
    xattrs.sort_by(|(a, _), (b, _)| a.cmp(b));
    xattrs.dedup_by(|(later, _), (kept, _)| later == kept);
    xattrs
}

impl Pax {
    /// Reads all records; of several with one key the last one counts.
    pub(super) fn parse(mut data: &[u8], max_runs: u64) -> Result<Self, What> {
        let mut pax = Pax::default();
        while let Some((key, value, rest)) = record(data)? {
            pax.take(key, value, max_runs)?;
            data = rest;
        }
        pax.xattrs = last_of_each(std::mem::take(&mut pax.xattrs));
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8], max_runs: u64) -> Result<(), What> {
        if let Some(name) = key.strip_prefix(XATTR) {
            return self.xattr(name, value);
        }
        let said = || format!("a bad value of '{}'", crate::path::Escaped(key));
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse(key, value, max_runs).ok_or_else(|| bad(&said()));
        }
        // An empty value takes back what an earlier header said: that of the entry's own header counts.
        let number = || if value.is_empty() { Ok(None) } else { digits(value).map(Some).ok_or_else(|| bad(&said())) };
        let id = || match number()?.map(u32::try_from) {
            Some(Ok(id)) => Ok(Some(id)),
            None => Ok(None),
            Some(Err(_)) => Err(bad(&said())),
        };
        let when = || if value.is_empty() { Ok(None) } else { time(value).map(Some).ok_or_else(|| bad(&said())) };
        let name = || match value.contains(&0) {
            true => Err(bad(&said())),
            false => Ok((!value.is_empty()).then(|| value.to_vec())),
        };
        match key {
            b"path" => self.path = name()?,
            b"linkpath" => self.link = name()?,
            b"size" => self.size = number()?,
            b"uid" => self.uid = id()?,
            b"gid" => self.gid = id()?,
            b"mtime" => self.mtime = when()?,
            b"atime" => self.atime = when()?,
            b"ctime" => self.ctime = when()?,
            _ => {}
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), What> {
        let name = xattr_name(name);
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(bad("a bad name of an extended attribute"));
        }
        self.xattrs.push((name, value.into()));
        Ok(())
    }

    fn sparse(&mut self, key: &[u8], value: &[u8], max_runs: u64) -> Option<()> {
        let sparse = &mut self.sparse;
        match key {
            b"major" => sparse.major = Some(digits(value)?),
            b"minor" => sparse.minor = Some(digits(value)?),
            b"size" | b"realsize" => sparse.real_size = Some(digits(value)?),
            b"name" => sparse.name = Some(value.to_vec()).filter(|name| !name.contains(&0)),
            b"offset" => sparse.offset = Some(digits(value)?),
            b"numbytes" => {
                let run = SparseRun { at: sparse.offset.take()?, len: digits(value)? };
                let map = sparse.map.get_or_insert_default();
                ((map.len() as u64) < max_runs).then(|| map.push(run))?;
            }
            b"map" => {
                let numbers: Vec<u64> = value.split(|&b| b == b',').map(digits).collect::<Option<_>>()?;
                if numbers.len() as u64 / 2 > max_runs {
                    return None;
                }
                let (pairs, rest) = numbers.as_chunks::<2>();
                sparse.map = rest.is_empty().then(|| pairs.iter().map(|&[at, len]| SparseRun { at, len }).collect());
                sparse.map.as_ref()?;
            }
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_bytes() {
        let pax = Pax::parse(b"33 SCHILY.xattr.user.a%3Db=x\n=\ny\n12 mtime=-1\n", 9).unwrap();
        assert_eq!(*pax.xattrs, [(b"user.a=b"[..].into(), b"x\n=\ny"[..].into())]);
        assert_eq!(pax.mtime, Some(Time { secs: -1, nanos: 0 }));
    }

    #[test]
    fn of_several_values_the_last_one_counts() {
        let record =
            |name: &str, value: &str| format!("{} SCHILY.xattr.{name}={value}\n", name.len() + value.len() + 18);
        let text = [record("a", "1"), record("b", "2"), record("a", "3")].concat();
        let pax = Pax::parse(text.as_bytes(), 9).unwrap();
        assert_eq!(*pax.xattrs, [(b"a"[..].into(), b"3"[..].into()), (b"b"[..].into(), b"2"[..].into())]);
    }

    #[test]
    fn malformed_records_are_errors() {
        for data in [
            &b"x"[..],
            b"8 path=a\n",
            b"11 path=a\n",
            b"0 path=a\n",
            b"10 path=a\n\n",
            b"9 pathaaa\n",
            b"7 =aaa\n",
            b"99999999999999999999 path=a\n",
            b"-1 path=a\n",
            b"11 path=a\0\n",
            b"10 size=-1\n",
            b"10 mtime=\n\n",
            b"12 mtime=x1\n",
            b"19 uid=99999999999\n",
        ] {
            assert!(Pax::parse(data, 9).is_err(), "{}", crate::path::Escaped(data));
        }
    }

    #[test]
    fn times() {
        let t = |secs, nanos| Some(Time { secs, nanos });
        assert_eq!(time(b"12.5"), t(12, 500_000_000));
        assert_eq!(time(b"-1.25"), t(-2, 750_000_000));
        assert_eq!(time(b"1.0000000019"), t(1, 1));
        for text in ["", "-", "1e3", "nan", "1.x", "99999999999999999999", "1.-5", "."] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }
}
