//! What the scout is asked to do, and what it answers, as they travel between the two processes.
//!
//! Both are the same program, so nothing here is checked twice: what cannot be read is no job.

use crate::path::Name;
use crate::path::NameBuf;

/// The most bytes of a job.
pub(super) const LARGEST: usize = 128 << 10;

/// What is to be asked for of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Job {
    /// Its number; stays here.
    pub dir: u64,
    /// Its path, from the root of the mount.
    pub path: Vec<u8>,
    /// At least so many of its names, with attributes.
    pub list: usize,
    /// The content of these files, in the order in which they will be read.
    pub names: Vec<NameBuf>,
    /// And their attributes after that.
    pub asks: bool,
}

/// What came of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The mount was found.
    pub found: bool,
    /// Names that were listed.
    pub names: u64,
    /// Files that were read.
    pub files: u64,
    /// The number of the scout's second thread.
    pub helper: u32,
}

impl Job {
    /// One that only lets the scout come to the mount.
    pub(super) fn nothing() -> Self {
        Self { path: b"/".to_vec(), ..Self::default() }
    }

    /// The job as bytes; names that find no room are left out.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = u32::try_from(self.list).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        bytes.push(u8::from(self.asks));
        bytes.extend(&self.path);
        for name in &self.names {
            let name = name.as_bytes();
            if bytes.len() + 1 + name.len() > LARGEST {
                break;
            }
            bytes.push(0);
            bytes.extend(name);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (list, rest) = bytes.split_first_chunk()?;
        let (asks, rest) = rest.split_first()?;
        // Neither a path nor a name has a zero in it.
        let mut texts = rest.split(|byte| *byte == 0);
        let path = texts.next()?.to_vec();
        let names = texts.map(|name| Some(Name::new(name).ok()?.to_buf())).collect::<Option<_>>()?;
        Some(Self { dir: 0, path, list: u32::from_le_bytes(*list) as usize, names, asks: *asks != 0 })
    }
}

impl Report {
    pub(super) fn encode(self) -> Vec<u8> {
        let Self { found, names, files, helper } = self;
        [&[u8::from(found)][..], &names.to_le_bytes(), &files.to_le_bytes(), &helper.to_le_bytes()].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (found, rest) = bytes.split_first()?;
        let (names, rest) = rest.split_first_chunk()?;
        let (files, helper) = rest.split_first_chunk()?;
        let (names, files) = (u64::from_le_bytes(*names), u64::from_le_bytes(*files));
        Some(Self { found: *found != 0, names, files, helper: u32::from_le_bytes(helper.try_into().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NameBuf {
        Name::new(text.as_bytes()).unwrap().to_buf()
    }

    #[test]
    fn what_is_sent_is_what_arrives() {
        let job =
            Job { dir: 0, path: b"/a/b\xff".to_vec(), list: 300, names: vec![name("x"), name("y z")], asks: true };
        assert_eq!(Job::decode(&job.encode()), Some(job));
        let bare = Job { path: b"/".to_vec(), ..Job::default() };
        assert_eq!(Job::decode(&bare.encode()), Some(bare));
        let report = Report { found: true, names: 7, files: u64::MAX, helper: 99 };
        assert_eq!(Report::decode(&report.encode()), Some(report));
    }

    #[test]
    fn what_is_too_short_or_no_name_is_no_job() {
        assert_eq!(Job::decode(b""), None);
        assert_eq!(Job::decode(b"\0\0\0\0"), None);
        assert_eq!(Job::decode(b"\0\0\0\0\0/a\0.."), None);
        assert_eq!(Job::decode(b"\0\0\0\0\0/a\0b/c"), None);
        assert_eq!(Report::decode(b"\x01\0\0"), None);
    }

    #[test]
    fn names_without_room_are_left_out() {
        let names: Vec<NameBuf> = (0..1000).map(|n| name(&format!("{n:0250}"))).collect();
        let job = Job { path: b"/".to_vec(), names: names.clone(), ..Job::default() };
        let bytes = job.encode();
        assert!(bytes.len() <= LARGEST);
        let kept = Job::decode(&bytes).unwrap().names;
        assert!(kept.len() > 500 && kept[..] == names[..kept.len()]);
    }
}
