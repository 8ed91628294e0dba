//! What an image layer may ask of the machine: one table of limits with their defaults.
//!
//! A layer comes from anyone. Everything that it could make grow without end (memory, disk, time) has a line here, with a
//! default that real images stay far away from. What documents may hold is fixed, beside what reads them: `manifest::DOCUMENT_MAX`
//! and `LAYERS_MAX`, `config::CONFIG_MAX`, the entries of an archive. An error that says a limit was met names it, and a user can raise it.

/// The limits for one layer. Every field can be raised by [`Limits::set`] under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries in a layer, whiteouts and replaced ones too.
    pub entries: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// How many times larger than the compressed blob the tar may be, once it is larger than [`Limits::ratio_from`].
    pub ratio: u64,
    /// Bytes of tar below which the ratio is of no interest.
    pub ratio_from: u64,
    /// Bytes of one entry's path, and of a link's target.
    pub path: u64,
    /// Components of one entry's path.
    pub depth: u64,
    /// Bytes of the extended header of one entry.
    pub header: u64,
    /// Extended attributes of one entry.
    pub xattrs: u64,
    /// Bytes of one extended attribute's value.
    pub xattr_size: u64,
    /// Bytes of all extended attributes of a layer.
    pub xattr_total: u64,
    /// Runs of data in one sparse file.
    pub extents: u64,
    /// Steps to resolve all paths of a layer; an entry needs as many as its path has components.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            tar_size: 256 << 30,
            ratio: 400,
            ratio_from: 1 << 30,
            // PATH_MAX: no program could name a longer one.
            path: 4096,
            depth: 2048,
            header: 1 << 20,
            xattrs: 1024,
            // The kernel's own limit.
            xattr_size: 64 << 10,
            xattr_total: 256 << 20,
            extents: 100_000,
            steps: 64 << 20,
        }
    }
}

/// A limit was met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found} is more than the limit {name}={limit}; if the image is to be trusted, raise that limit: --limit {name}=.."
)]
pub struct Exceeded {
    /// The limit's name, as [`Limits::set`] takes it.
    pub name: &'static str,
    /// Its value.
    pub limit: u64,
    /// What was asked for; the least that is known when the whole is not.
    pub found: u64,
}

impl Limits {
    fn table(&mut self) -> [(&'static str, &mut u64); 12] {
        [
            ("entries", &mut self.entries),
            ("tar-size", &mut self.tar_size),
            ("ratio", &mut self.ratio),
            ("ratio-from", &mut self.ratio_from),
            ("path", &mut self.path),
            ("depth", &mut self.depth),
            ("header", &mut self.header),
            ("xattrs", &mut self.xattrs),
            ("xattr-size", &mut self.xattr_size),
            ("xattr-total", &mut self.xattr_total),
            ("extents", &mut self.extents),
            ("steps", &mut self.steps),
        ]
    }

    /// Every limit: its name, its value, and what it is about.
    pub fn described(mut self) -> Vec<(&'static str, u64, &'static str)> {
        const WHAT: [&str; 12] = [
            "entries, whiteouts and replaced ones too",
            "bytes of the uncompressed tar",
            "how many times larger than its file the tar may be ..",
            ".. once it is larger than this",
            "bytes of a path or of a link's target",
            "components of a path",
            "bytes of the extended headers of one entry",
            "extended attributes of one entry",
            "bytes of one extended attribute",
            "bytes of all extended attributes",
            "runs of data in one sparse file",
            "steps to resolve all paths",
        ];
        self.table().into_iter().zip(WHAT).map(|((name, value), what)| (name, *value, what)).collect()
    }

    /// The names of all limits.
    pub fn names() -> [&'static str; 12] {
        Self::default().table().map(|(name, _)| name)
    }

    /// Sets the limit `name`; `false` when there is none of that name.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let found = self.table().into_iter().find(|(known, _)| *known == name);
        found.map(|(_, limit)| *limit = value).is_some()
    }
}

/// Checks `found` against a limit.
///
/// # Errors
/// [`Exceeded`] when it is more.
pub fn check(name: &'static str, limit: u64, found: u64) -> Result<(), Exceeded> {
    if found <= limit { Ok(()) } else { Err(Exceeded { name, limit, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_can_be_set_by_its_name() {
        let mut limits = Limits::default();
        for (n, name) in Limits::names().iter().enumerate() {
            assert!(limits.set(name, n as u64), "{name}");
        }
        assert_eq!((limits.entries, limits.steps), (0, 11));
        assert!(!limits.set("nothing", 1));
    }

    #[test]
    fn an_error_names_the_limit() {
        assert!(check("path", 3, 3).is_ok());
        assert!(check("path", 3, 4).unwrap_err().to_string().contains("path=3"));
    }
}
