//! The mount table of this process: `/proc/self/mountinfo`, and the mounts of mica in it.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use super::error::Error;
use super::error::Result;

#[cfg(test)]
mod tests;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The mount's number, unique while it is mounted.
    pub id: u64,
    /// The number of the mount below it.
    pub parent: u64,
    /// Major and minor device number of its filesystem.
    pub dev: (u32, u32),
    /// The directory of the filesystem that is mounted.
    pub root: Vec<u8>,
    /// The mount point.
    pub target: PathBuf,
    /// The flags of the mount, comma-separated.
    pub flags: Vec<u8>,
    /// The type.
    pub kind: Vec<u8>,
    /// The source, as the mounter wrote it.
    pub source: OsString,
    /// The options of the filesystem, comma-separated.
    pub options: Vec<u8>,
}

impl Entry {
    /// Whether mica made this mount under its own name.
    pub fn is_mica(&self) -> bool {
        self.kind == b"fuse.mica"
    }

    /// Whether it is a union of mica, or one under the name of fuse-overlayfs, which may be another program's.
    pub fn is_union(&self) -> bool {
        self.is_mica() || self.kind == b"fuse.fuse-overlayfs"
    }

    /// Whether a flag such as `ro` is set.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.split(|&b| b == b',').any(|f| f == flag.as_bytes())
    }
}

/// Reads the table: all mounts that this process can reach, in the order they were made at each place.
///
/// # Errors
/// When `/proc` is not there.
pub fn read() -> Result<Vec<Entry>> {
    let path = Path::new("/proc/self/mountinfo");
    let text = std::fs::read(path).map_err(|source| Error::Path { path: path.to_owned(), source })?;
    Ok(parse(&text))
}

/// The mounts of mica.
///
/// # Errors
/// As [`read`].
pub fn mica_mounts() -> Result<Vec<Entry>> {
    Ok(read()?.into_iter().filter(Entry::is_mica).collect())
}

/// The mount that one sees at `target`, the last one made there.
pub fn topmost<'a>(entries: &'a [Entry], target: &Path) -> Option<&'a Entry> {
    // An earlier line can lie on top of a later one (mounts moved or propagated), so a mount that is another's parent at the same
    // place is left out before the last one is taken.
    let here = || entries.iter().filter(|e| e.target == target);
    here().rfind(|e| !here().any(|above| above.parent == e.id))
}

/// Reads lines in the format of `mountinfo`; lines that are not in it are left out.
pub fn parse(text: &[u8]) -> Vec<Entry> {
    text.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let mut words = line.split(|&b| b == b' ');
    let id = number(words.next()?)?;
    let parent = number(words.next()?)?;
    let dev = device(words.next()?)?;
    let root = unescape(words.next()?);
    let target = PathBuf::from(OsString::from_vec(unescape(words.next()?)));
    let flags = words.next()?.to_vec();
    // Then any number of optional words, ended by a lone hyphen.
    words.by_ref().find(|word| *word == b"-")?;
    let kind = unescape(words.next()?);
    let source = OsString::from_vec(unescape(words.next()?));
    let options = words.next().unwrap_or_default().to_vec();
    Some(Entry { id, parent, dev, root, target, flags, kind, source, options })
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn device(word: &[u8]) -> Option<(u32, u32)> {
    let colon = word.iter().position(|&b| b == b':')?;
    Some((number(word.get(..colon)?)?, number(word.get(colon + 1..)?)?))
}

/// Turns `\040` and its like into bytes; a backslash without three octal digits behind it stands for itself.
pub fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, behind)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| octal(behind)).flatten();
        out.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    out
}

fn octal(digits: &[u8]) -> Option<u8> {
    let three = digits.get(..3)?;
    let value = three.iter().try_fold(0u16, |value, &digit| match digit {
        b'0'..=b'7' => Some(value * 8 + u16::from(digit - b'0')),
        _ => None,
    })?;
    u8::try_from(value).ok()
}

/// The path as the mount table would name it: absolute, without symlinks. A mount point whose daemon is gone is named by its
/// parent, since it cannot be looked at itself.
///
/// # Errors
/// When the path, or for a dead mount its parent, cannot be resolved.
pub fn place(path: &Path) -> Result<PathBuf> {
    let wrap = |source| Error::Path { path: path.to_owned(), source };
    match std::fs::canonicalize(path) {
        Ok(place) => Ok(place),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(wrap(e)),
        Err(e) => {
            let name: &OsStr = path.file_name().ok_or_else(|| wrap(e))?;
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok(std::fs::canonicalize(parent).map_err(wrap)?.join(name))
        }
    }
}
