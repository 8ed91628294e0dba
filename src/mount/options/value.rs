//! The types of option values.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::text;

/// What a value should have been, for the error.
pub type Expected = &'static str;

/// How directories that lie in a lower layer can be renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectDir {
    /// They cannot (`EXDEV`), and existing redirects are followed only if [`RedirectDir::Follow`] says so.
    Off,
    /// Renames write redirects, and redirects are followed.
    On,
    /// Existing redirects are followed, none is written.
    Follow,
    /// Redirects are neither followed nor written.
    NoFollow,
}

/// Where owners and modes are kept that the upper filesystem cannot hold itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XattrPermissions {
    /// In the inode.
    #[default]
    Off,
    /// In `security.fuseoverlayfs.override_stat`.
    Security,
    /// In `user.containers.override_stat`.
    User,
}

/// Whether inode numbers carry the number of their filesystem in their high bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Xino {
    /// Never.
    Off,
    /// Where the underlying numbers leave room.
    #[default]
    Auto,
    /// Always.
    On,
}

/// How file data travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// Through the page cache; files are opened and closed without telling the server, where the kernel can do that.
    #[default]
    Auto,
    /// Through the page cache; the server takes part in every opening and closing.
    Cache,
    /// The kernel reads and writes the files itself; as `Auto` where it or the rights of this process do not allow that.
    Passthrough,
}

/// Who besides the mounting user may use the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allow {
    /// Everybody (file modes decide).
    Other,
    /// The superuser only.
    Root,
}

/// A run of user or group numbers: `host + i` on disk is `to + i` in the mount, for `i < len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first number on disk.
    pub host: u32,
    /// The first number shown.
    pub to: u32,
    /// How many.
    pub len: u32,
}

/// `1`, `on`, `yes`, `true` or no value at all; `0`, `off`, `no`, `false`.
pub(super) fn boolean(value: Option<&[u8]>) -> Result<bool, Expected> {
    match value {
        None | Some(b"1" | b"on" | b"yes" | b"true") => Ok(true),
        Some(b"0" | b"off" | b"no" | b"false") => Ok(false),
        Some(_) => Err("0 or 1"),
    }
}

pub(super) fn text(value: Option<&[u8]>, expected: Expected) -> Result<&str, Expected> {
    value.and_then(|v| std::str::from_utf8(v).ok()).filter(|v| !v.is_empty()).ok_or(expected)
}

pub(super) fn number(value: Option<&[u8]>, expected: Expected) -> Result<u32, Expected> {
    decimal(text(value, expected)?).ok_or(expected)
}

/// Decimal digits only: `parse` alone would take a `+`.
fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

pub(super) fn path(value: Option<&[u8]>) -> Result<PathBuf, Expected> {
    let bytes = text::unescape(value.unwrap_or_default());
    if bytes.is_empty() || bytes.contains(&0) {
        return Err("a path");
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

pub(super) fn seconds(value: Option<&[u8]>) -> Result<f64, Expected> {
    let expected = "a number of seconds, 0 or more";
    let seconds: f64 = text(value, expected)?.parse().map_err(|_| expected)?;
    if seconds.is_finite() && seconds >= 0.0 { Ok(seconds) } else { Err(expected) }
}

/// `host:to:len`, any number of times, joined by colons.
pub(super) fn id_ranges(value: Option<&[u8]>) -> Result<Vec<IdRange>, Expected> {
    let expected = "triples HOST:TO:LENGTH of numbers, joined by colons";
    let numbers = text(value, expected)?.split(':').map(decimal).collect::<Option<Vec<u32>>>().ok_or(expected)?;
    let (triples, rest) = numbers.as_chunks::<3>();
    let ranges: Vec<IdRange> = triples.iter().map(|&[host, to, len]| IdRange { host, to, len }).collect();
    if !rest.is_empty() || !ranges.iter().all(is_in_range) {
        return Err(expected);
    }
    Ok(ranges)
}

fn is_in_range(range: &IdRange) -> bool {
    let last = range.len.checked_sub(1);
    last.is_some_and(|last| range.host.checked_add(last).is_some() && range.to.checked_add(last).is_some())
}
