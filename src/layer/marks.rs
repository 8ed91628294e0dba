//! Every encoding of a whiteout, an opaque directory and a redirect: parse and print. Pure, no I/O.
//!
//! Sources: the kernel's `Documentation/filesystems/overlayfs.rst` (whiteouts and opaque directories, redirect_dir, nesting),
//! the OCI image specification `layer.md` (whiteouts), and the aufs manual (`.wh.` names).

use crate::path::Name;
use crate::path::NameBuf;
use crate::path::RelPath;

/// The prefix of whiteout files in OCI layers and AUFS branches.
pub const AUFS_PREFIX: &[u8] = b".wh.";
/// The name that marks its directory opaque in OCI layers and AUFS branches.
pub const AUFS_OPAQUE: &[u8] = b".wh..wh..opq";
/// The older spelling of [`AUFS_OPAQUE`] that fuse-overlayfs left behind.
pub const AUFS_OPAQUE_OLD: &[u8] = b".wh..opq";

/// The xattr families that hold the marks of a union on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `trusted.overlay.`: the kernel's, for root.
    Trusted,
    /// `user.overlay.`: the kernel's with `userxattr`, without root.
    User,
}

impl Family {
    /// The prefix of the family's names.
    pub fn prefix(self) -> &'static str {
        match self {
            Family::Trusted => "trusted.overlay.",
            Family::User => "user.overlay.",
        }
    }

    /// The full xattr name of a mark.
    pub fn name(self, mark: &str) -> Vec<u8> {
        [self.prefix().as_bytes(), mark.as_bytes()].concat()
    }
}

/// The names under which a directory says that it is opaque, in the order in which they are asked for.
pub const OPAQUE_NAMES: [&[u8]; 3] = [b"trusted.overlay.opaque", b"user.overlay.opaque", b"user.fuseoverlayfs.opaque"];

/// What the value of an opaque xattr means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opaque {
    /// `y`: nothing below shows.
    Yes,
    /// `x`: not opaque, but the directory may hold whiteouts in the form of a xattr on an empty file.
    XattrWhiteouts,
    /// Anything else: no mark.
    No,
}

impl Opaque {
    /// Reads the value of an opaque xattr.
    pub fn parse(value: &[u8]) -> Self {
        match value {
            b"y" => Opaque::Yes,
            b"x" => Opaque::XattrWhiteouts,
            _ => Opaque::No,
        }
    }
}

/// The part that means something of a name by which a mount tells of itself (`user.mica.layer`: `layer`); `None` for any other name.
/// Nothing is stored under these, and what a layer holds there never shows, so no layer can lie.
pub fn virtual_xattr(name: &[u8]) -> Option<&[u8]> {
    let what = [&b"user.mica."[..], b"trusted.mica."].iter().find_map(|prefix| name.strip_prefix(*prefix))?;
    let known = matches!(what, b"layer" | b"layers" | b"realpath" | b"origin" | b"explain" | b"whiteout-by");
    (known || what.starts_with(b"whiteout-by.")).then_some(what)
}

/// Whether a raw xattr name is one of a union's own marks, which users of the mount do not see.
pub fn is_private_xattr(name: &[u8]) -> bool {
    let marks = [&b"trusted.overlay."[..], b"user.overlay.", b"user.fuseoverlayfs."];
    marks.iter().any(|p| name.starts_with(p)) || virtual_xattr(name).is_some()
}

/// What a name in an OCI layer or AUFS branch means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AufsName<'a> {
    /// An ordinary name.
    Plain(Name<'a>),
    /// The whiteout of this name.
    Whiteout(Name<'a>),
    /// The mark that makes the directory opaque.
    Opaque,
    /// A name of AUFS's own bookkeeping (`.wh..wh.plnk` and others), or one that says nothing (`.wh.` alone, `.wh...`).
    Reserved,
}

impl<'a> AufsName<'a> {
    /// Reads a name as an OCI layer or AUFS branch spells it.
    pub fn parse(name: Name<'a>) -> Self {
        let bytes = name.as_bytes();
        if bytes == AUFS_OPAQUE || bytes == AUFS_OPAQUE_OLD {
            return AufsName::Opaque;
        }
        match bytes.strip_prefix(AUFS_PREFIX) {
            None => AufsName::Plain(name),
            Some(rest) if rest.starts_with(AUFS_PREFIX) => AufsName::Reserved,
            Some(rest) => Name::new(rest).map_or(AufsName::Reserved, AufsName::Whiteout),
        }
    }

    /// The name of the whiteout file of `name`; `None` when it would be too long.
    pub fn whiteout_of(name: Name<'_>) -> Option<NameBuf> {
        NameBuf::new(&[AUFS_PREFIX, name.as_bytes()].concat()).ok()
    }
}

/// Where the lower part of a renamed directory or of a metadata-only copy lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Under this name in the same directory.
    Sibling(NameBuf),
    /// At this path from the root of each lower layer.
    Path(RelPath),
}

impl Redirect {
    /// The longest redirect that the kernel follows, in bytes.
    pub const MAX: usize = 256;

    /// Reads the value of a redirect xattr; `None` for one that must not be followed (too long, `..`, empty components).
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.is_empty() || value.len() > Self::MAX {
            return None;
        }
        match value.strip_prefix(b"/") {
            Some(rest) if rest.split(|&b| b == b'/').any(|part| Name::new(part).is_err()) => None,
            Some(rest) => RelPath::parse(rest).ok().map(Redirect::Path),
            None => NameBuf::new(value).ok().map(Redirect::Sibling),
        }
    }

    /// The value to be stored.
    pub fn print(&self) -> Vec<u8> {
        match self {
            Redirect::Sibling(name) => name.as_bytes().to_vec(),
            Redirect::Path(path) => [b"/", path.to_bytes().as_slice()].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> AufsName<'_> {
        AufsName::parse(Name::new(name.as_bytes()).unwrap())
    }

    #[test]
    fn aufs_names() {
        assert!(matches!(parse("a"), AufsName::Plain(_)));
        assert_eq!(parse(".wh.a"), AufsName::Whiteout(Name::new(b"a").unwrap()));
        assert_eq!(parse(".wh..wh..opq"), AufsName::Opaque);
        assert_eq!(parse(".wh..wh.plnk"), AufsName::Reserved);
        assert_eq!(parse(".wh."), AufsName::Reserved);
        assert_eq!(parse(".wh..."), AufsName::Reserved);
    }

    #[test]
    fn redirects_cannot_leave_the_layer() {
        assert!(matches!(Redirect::parse(b"b"), Some(Redirect::Sibling(_))));
        assert!(matches!(Redirect::parse(b"/a/b"), Some(Redirect::Path(_))));
        for bad in [&b""[..], b"/", b"a/b", b"/a//b", b"/../x", b"..", b"/a/", &[b'x'; 257]] {
            assert_eq!(Redirect::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_redirect_survives_printing() {
        for text in [&b"name"[..], b"/a/b", b"/\xff"] {
            assert_eq!(Redirect::parse(text).unwrap().print(), text);
        }
    }
}
