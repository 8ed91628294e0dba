//! Names and relative paths as bytes, parsed once at the border.
//!
//! File names on Linux are bytes without `/` and NUL; they are never assumed to be UTF-8. A [`Name`] is one component
//! that has been checked, so code that holds one need not check again. A [`RelPath`] is a list of such components:
//! there is no way to write `..`, an absolute path or an empty component in it, and it is never joined to a root as a
//! string.

use std::fmt;
use std::sync::Arc;

/// The longest name a Linux filesystem accepts, in bytes.
pub const NAME_MAX: usize = 255;

/// Why bytes are no [`Name`] or no [`RelPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// The name is empty.
    #[error("the name is empty")]
    Empty,
    /// The name is `.` or `..`.
    #[error("the name is '.' or '..'")]
    Dots,
    /// The name holds a `/` or a NUL byte.
    #[error("the name holds a slash or a NUL byte")]
    Byte,
    /// The name is longer than [`NAME_MAX`] bytes.
    #[error("the name is longer than 255 bytes")]
    TooLong,
}

/// One checked path component, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks `bytes` and takes them as one component.
    ///
    /// # Errors
    /// [`BadName`] says which rule the bytes break.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BadName> {
        match bytes {
            [] => Err(BadName::Empty),
            b"." | b".." => Err(BadName::Dots),
            _ if bytes.iter().any(|&b| b == b'/' || b == 0) => Err(BadName::Byte),
            _ if bytes.len() > NAME_MAX => Err(BadName::TooLong),
            _ => Ok(Name(bytes)),
        }
    }

    /// The bytes of the name.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// An owned copy.
    pub fn to_buf(self) -> NameBuf {
        NameBuf(self.0.into())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Escaped(self.0))
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.0).fmt(f)
    }
}

/// One checked path component, owned. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameBuf(Arc<[u8]>);

impl NameBuf {
    /// Checks `bytes` and copies them.
    ///
    /// # Errors
    /// As [`Name::new`].
    pub fn new(bytes: &[u8]) -> Result<Self, BadName> {
        Name::new(bytes).map(Name::to_buf)
    }

    /// The name, borrowed.
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for NameBuf {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

impl fmt::Display for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

/// A path below some root: checked components, possibly none (the root itself).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Vec<NameBuf>);

impl RelPath {
    /// The root itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Splits `bytes` at slashes; empty components and `.` are dropped, so `/a//./b` is `a/b`.
    ///
    /// # Errors
    /// [`BadName::Dots`] for a `..` anywhere, otherwise as [`Name::new`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadName> {
        let parts = bytes.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".");
        parts.map(NameBuf::new).collect::<Result<_, _>>().map(RelPath)
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = Name<'_>> + ExactSizeIterator {
        self.0.iter().map(NameBuf::as_name)
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// This path with one more component.
    #[must_use]
    pub fn child(&self, name: Name<'_>) -> Self {
        let mut parts = self.0.clone();
        parts.push(name.to_buf());
        RelPath(parts)
    }

    /// The path without its last component, and that component; `None` for the root.
    pub fn split_last(&self) -> Option<(RelPath, Name<'_>)> {
        let (last, head) = self.0.split_last()?;
        Some((RelPath(head.to_vec()), last.as_name()))
    }

    /// The path as bytes, components joined by `/`, without a leading slash; empty for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts: Vec<&[u8]> = self.0.iter().map(NameBuf::as_bytes).collect();
        parts.join(&b'/')
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for RelPath {
    /// Prints with a leading slash, hostile bytes escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|part| write!(f, "/{part}"))
    }
}

/// Prints bytes safely: valid printable UTF-8 as it is, everything else as `\xNN`, so that no control sequence of a
/// hostile name ever reaches a terminal.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || deceives(c) {
                    let mut buf = [0u8; 4];
                    c.encode_utf8(&mut buf).bytes().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
                } else if c == '\\' {
                    f.write_str("\\\\")?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            chunk.invalid().iter().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Characters that make one name look like another: they reorder text, break its line, or take no place at all. Joiners stay: scripts
/// and emoji need them.
pub fn deceives(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_or_deceives_is_shown_in_words() {
        let shown = |text: &str| Escaped(text.as_bytes()).to_string();
        assert_eq!(shown("a\u{1b}[2J\u{9b}\u{202e}b\\"), "a\\x1b[2J\\xc2\\x9b\\xe2\\x80\\xaeb\\\\");
        for deceiving in ['\u{61c}', '\u{200b}', '\u{200f}', '\u{2028}', '\u{2060}', '\u{2069}', '\u{feff}'] {
            assert!(shown(&deceiving.to_string()).is_ascii(), "{deceiving:?}");
        }
        assert_eq!(shown("schön \u{1f468}\u{200d}\u{1f469}"), "schön \u{1f468}\u{200d}\u{1f469}", "joiners stay");
    }

    #[test]
    fn a_name_is_one_component() {
        assert!(Name::new(b"a").is_ok());
        assert!(Name::new(b"\xff\xfe").is_ok());
        assert_eq!(Name::new(b""), Err(BadName::Empty));
        assert_eq!(Name::new(b"."), Err(BadName::Dots));
        assert_eq!(Name::new(b".."), Err(BadName::Dots));
        assert_eq!(Name::new(b"a/b"), Err(BadName::Byte));
        assert_eq!(Name::new(b"a\0"), Err(BadName::Byte));
        assert!(Name::new(&[b'x'; 255]).is_ok());
        assert_eq!(Name::new(&[b'x'; 256]), Err(BadName::TooLong));
    }

    #[test]
    fn a_path_cannot_leave_its_root() {
        assert_eq!(RelPath::parse(b"/a//./b/").unwrap().to_bytes(), b"a/b");
        assert!(RelPath::parse(b"///").unwrap().is_root());
        assert_eq!(RelPath::parse(b"a/../b"), Err(BadName::Dots));
        assert_eq!(RelPath::parse(b"a/\0"), Err(BadName::Byte));
    }

    #[test]
    fn hostile_bytes_are_printed_escaped() {
        let shown = Escaped(b"a\x1b[31m\xff\\\xe2\x80\xae").to_string();
        assert_eq!(shown, "a\\x1b[31m\\xff\\\\\\xe2\\x80\\xae");
    }
}
