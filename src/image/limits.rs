//! What an image layer may ask of the machine: one table of limits with their defaults.
//!
//! A layer comes from anyone. Everything that it could make grow without end (memory, disk, time) has a line here, with a
//! default that real images stay far away from. What documents may hold is fixed, beside what reads them: `manifest::DOCUMENT_MAX`
//! and `LAYERS_MAX`, `config::CONFIG_MAX`, the entries of an archive. An error that says a limit was met names it, and a user can raise it.
//!
//! # Why these ratios
//! Measured (bytes of tar for each byte of the compressed file):
//! ```text
//! layers of Debian images, gzip                   1.9 to 3.1 each; their best 16 MiB 4.5, their best single MiB 9
//! zeros, gzip level 1 (also from flate2 fast)     229
//! zeros, gzip level 6 and 9                       1028 (deflate ends at 1032)
//! zeros, xz                                       6,500
//! zeros, zstd                                     31,000
//! zeros, bzip2                                    370,000
//! ```
//! So 100 lies 20 times above what is real and below the weakest bomb. (It was 400, above what gzip level 1 makes of zeros, so
//! such a bomb went on to `tar-size`.) A real layer may be a file of zeros and little else, as an empty database or swap file is: so
//! below `ratio-from` the ratio does not count, and what a bomb gets is 1 GiB of disk or 100 times its own size, whichever is
//! more. The same holds for all layers of a load together ([`Inflated`]), or a thousand layers would get a GiB each, and for an archive
//! that is compressed as a whole, with what is in it that no image asks for.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// The limits for one layer. Every field can be raised by [`Limits::set`] under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries in a layer: whiteouts, replaced ones, and directories that no entry is for, too.
    pub entries: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// Bytes of a whole archive, once the compression around it is off.
    pub archive_size: u64,
    /// How many times larger than what is compressed the inflated bytes may be, once they are more than
    /// [`Limits::ratio_from`]: those of a layer, of all layers of a load together, and of an archive compressed as a whole.
    pub ratio: u64,
    /// Inflated bytes below which the ratio is of no interest.
    pub ratio_from: u64,
    /// Bytes of all names, link targets and maps of sparse files of a layer: what of it is held in memory.
    pub index_size: u64,
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
            // Each takes some 250 bytes of memory while its layer is read.
            entries: 2_000_000,
            tar_size: 256 << 30,
            archive_size: 1 << 40,
            ratio: 100,
            ratio_from: 1 << 30,
            // Two million entries with names of 128 bytes.
            index_size: 256 << 20,
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
    fn table(&mut self) -> [(&'static str, &mut u64); 14] {
        [
            ("entries", &mut self.entries),
            ("tar-size", &mut self.tar_size),
            ("archive-size", &mut self.archive_size),
            ("ratio", &mut self.ratio),
            ("ratio-from", &mut self.ratio_from),
            ("index-size", &mut self.index_size),
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
        const WHAT: [&str; 14] = [
            "entries, whiteouts, replaced ones and implied folders too",
            "bytes of the uncompressed tar",
            "bytes of an archive without the compression around it",
            "how many times larger than the file it may become ..",
            ".. once it is larger than this",
            "bytes of all names, link targets and maps of sparse files",
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
    pub fn names() -> [&'static str; 14] {
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

/// What was inflated so far, by several layers together.
#[derive(Debug, Default)]
pub struct Inflated {
    from: AtomicU64,
    to: AtomicU64,
}

impl Inflated {
    /// Adds: so many compressed bytes more have become so many more.
    ///
    /// # Errors
    /// [`Exceeded`] when they have grown too much in all.
    pub fn add(&self, limits: &Limits, from: u64, to: u64) -> Result<(), Exceeded> {
        let from = self.from.fetch_add(from, Ordering::Relaxed).saturating_add(from);
        let to = self.to.fetch_add(to, Ordering::Relaxed).saturating_add(to);
        check_ratio(limits, from, to)
    }
}

/// Checks how much `from` compressed bytes have grown.
///
/// # Errors
/// [`Exceeded`] when it is too much.
pub fn check_ratio(limits: &Limits, from: u64, to: u64) -> Result<(), Exceeded> {
    if to <= limits.ratio_from { Ok(()) } else { check("ratio", limits.ratio, to / from.max(1)) }
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
        assert_eq!((limits.entries, limits.steps), (0, 13));
        assert!(!limits.set("nothing", 1));
    }

    #[test]
    fn many_layers_together_may_not_do_what_one_may_not() {
        let limits = Limits { ratio: 100, ratio_from: 1000, ..Limits::default() };
        let all = Inflated::default();
        // Each by itself is below the size from which on the ratio counts.
        assert!(all.add(&limits, 1, 900).is_ok());
        assert_eq!(all.add(&limits, 1, 900).unwrap_err().name, "ratio");
        assert!(Inflated::default().add(&limits, 1_000_000, 100_000_000).is_ok());
    }

    #[test]
    fn an_error_names_the_limit() {
        assert!(check("path", 3, 3).is_ok());
        assert!(check("path", 3, 4).unwrap_err().to_string().contains("path=3"));
    }
}
