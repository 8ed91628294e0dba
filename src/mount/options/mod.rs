//! Mount options, parsed and typed. One table ([`table::OPTIONS`]) drives the parser and the help text.

mod rows;
pub mod table;
pub mod text;
pub mod value;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use value::Allow;
pub use value::IdRange;
pub use value::Io;
pub use value::RedirectDir;
pub use value::XattrPermissions;
pub use value::Xino;

/// All that `-o` can say. `None` means: not said, the default of the dialect holds.
#[derive(Debug, Clone, PartialEq)]
pub struct MountOptions {
    /// The lower directories, the topmost first.
    pub lower: Vec<PathBuf>,
    /// Lower directories that hold only the data of metacopy files, below all of `lower`.
    pub data_only: Vec<PathBuf>,
    /// The directory that takes all changes.
    pub upper: Option<PathBuf>,
    /// The directory for unfinished changes, on the filesystem of `upper`.
    pub work: Option<PathBuf>,
    /// The image to mount.
    pub image: Option<String>,
    /// The container to mount.
    pub container: Option<String>,
    /// The directory of the store.
    pub root: Option<PathBuf>,

    /// Renames of lower directories.
    pub redirect_dir: Option<RedirectDir>,
    /// Changes of attributes alone do not copy data up.
    pub metacopy: Option<bool>,
    /// Of a large file, only the blocks that are written to are copied up.
    pub blocks: Option<bool>,
    /// Hard links stay linked over copy-up, on disk.
    pub index: Option<bool>,
    /// Changes are synchronised to disk when a program asks for it.
    pub fsync: bool,
    /// Nothing is synchronised, and a crash may lose the upper directory.
    pub volatile: bool,

    /// User numbers, on disk and shown; empty: as they are.
    pub uid_map: Vec<IdRange>,
    /// Group numbers, on disk and shown; empty: as they are.
    pub gid_map: Vec<IdRange>,
    /// Every file is shown as owned by user and group 0.
    pub squash_to_root: bool,
    /// Every file is shown as owned by this user.
    pub squash_to_uid: Option<u32>,
    /// Every file is shown as owned by this group.
    pub squash_to_gid: Option<u32>,
    /// Where owners and modes are kept.
    pub xattr_permissions: XattrPermissions,
    /// No extended attributes.
    pub no_xattrs: bool,
    /// No access control lists.
    pub no_acl: bool,

    /// How long the kernel may keep names and attributes, in seconds.
    pub timeout: f64,
    /// fuse-overlayfs's word for letting the kernel collect writes. It changes nothing here (`ARCHITECTURE.md`, decision 43).
    pub writeback: bool,
    /// Several requests at once (`threads` says how many).
    pub threaded: Option<bool>,
    /// The most serving threads; `None`: chosen by the machine.
    pub threads: Option<u32>,
    /// The largest write request, in bytes.
    pub max_write: Option<u32>,
    /// The largest read request, in bytes.
    pub max_read: Option<u32>,
    /// How data travels.
    pub io: Io,
    /// Whether requests may come over io_uring.
    pub io_uring: bool,
    /// Whether what a program will ask for next is looked up before it asks.
    pub ahead: bool,
    /// Listings show the inode numbers of the layers.
    pub fast_ino: bool,
    /// The link count of a directory is always 1.
    pub static_nlink: bool,
    /// Inode numbers.
    pub xino: Xino,

    /// The SELinux context, as given.
    pub context: Option<Vec<u8>>,
    /// No change through this mount.
    pub read_only: Option<bool>,
    /// The kernel checks permissions by owner and mode.
    pub default_permissions: Option<bool>,
    /// Who may use the mount; `None` in the outer option: not said.
    pub allow: Option<Allow>,
    /// Set-user-id bits count.
    pub suid: Option<bool>,
    /// Device nodes can be opened.
    pub dev: Option<bool>,
    /// Programs can be started.
    pub exec: Option<bool>,
    /// Access times are kept.
    pub atime: Option<bool>,
    /// Access times of directories are kept.
    pub dir_atime: Option<bool>,
    /// All writes are synchronous.
    pub sync: Option<bool>,
    /// Changes of directories are synchronous.
    pub dir_sync: Option<bool>,
    /// The first column of the mount table.
    pub fs_name: Option<Vec<u8>>,
    /// The mount point may hold files, which the mount hides.
    pub non_empty: bool,
    /// The options are for a mount that is there already.
    pub remount: bool,
    /// Print what happens, and stay in the foreground.
    pub debug: bool,

    /// Options that the table does not know, as written.
    pub unknown: Vec<Vec<u8>>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            lower: Vec::new(),
            data_only: Vec::new(),
            upper: None,
            work: None,
            image: None,
            container: None,
            root: None,
            redirect_dir: None,
            metacopy: None,
            blocks: None,
            index: None,
            fsync: true,
            volatile: false,
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            squash_to_root: false,
            squash_to_uid: None,
            squash_to_gid: None,
            xattr_permissions: XattrPermissions::Off,
            no_xattrs: false,
            no_acl: false,
            timeout: 1e9,
            writeback: true,
            threaded: None,
            threads: None,
            max_write: None,
            max_read: None,
            io: Io::Auto,
            io_uring: true,
            ahead: true,
            fast_ino: false,
            static_nlink: false,
            xino: Xino::Auto,
            context: None,
            read_only: None,
            default_permissions: None,
            allow: None,
            suid: None,
            dev: None,
            exec: None,
            atime: None,
            dir_atime: None,
            sync: None,
            dir_sync: None,
            fs_name: None,
            non_empty: false,
            remount: false,
            debug: false,
            unknown: Vec::new(),
        }
    }
}

/// An option that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value has the wrong shape.
    #[error("mount option {name}: {} is not {expected}", shown(value.as_deref()))]
    Value {
        /// The option.
        name: String,
        /// What was given.
        value: Option<Vec<u8>>,
        /// What it should have been.
        expected: value::Expected,
    },
    /// An option of fuse-overlayfs that mica does not have, and whose absence would show wrong files.
    #[error("mount option {name} is not supported: {why}")]
    Unsupported {
        /// The option.
        name: String,
        /// Why.
        why: &'static str,
    },
}

fn shown(value: Option<&[u8]>) -> String {
    value.map_or_else(|| "no value".to_owned(), |v| format!("'{}'", v.escape_ascii()))
}

impl MountOptions {
    /// Reads one `-o` text into these options; a later option wins over an earlier one. Unknown ones are collected in
    /// [`MountOptions::unknown`].
    ///
    /// # Errors
    /// The first option whose value is wrong.
    pub fn read(&mut self, text: &[u8]) -> Result<(), Error> {
        text::fields(text).try_for_each(|field| self.read_field(field))
    }

    fn read_field(&mut self, field: text::Field<'_>) -> Result<(), Error> {
        let Some(spec) = table::find(field.name) else {
            self.unknown.push(as_written(field));
            return Ok(());
        };
        let name = || String::from_utf8_lossy(field.name).into_owned();
        let wrong = |expected| Error::Value { name: name(), value: field.value.map(<[u8]>::to_vec), expected };
        match (spec.shape, field.value) {
            (table::Shape::Switch, Some(_)) => return Err(wrong("without a value")),
            (table::Shape::Value(_), None) => return Err(wrong("a value")),
            _ => {}
        }
        match spec.apply {
            table::Apply::Set(set) => set(self, field.value).map_err(wrong),
            table::Apply::Ignore => Ok(()),
            table::Apply::Refuse(why) => Err(Error::Unsupported { name: name(), why }),
        }
    }

    /// A known option that is spelled like `name`, for a hint.
    pub fn similar(name: &[u8]) -> Option<&'static str> {
        let name = name.split(|&b| b == b'=').next().unwrap_or_default();
        let candidates = table::OPTIONS.iter().flat_map(|spec| spec.names.iter().copied());
        let (distance, best) = candidates.map(|known| (distance(name, known.as_bytes()), known)).min()?;
        (distance <= 2 && distance < best.len()).then_some(best)
    }
}

fn as_written(field: text::Field<'_>) -> Vec<u8> {
    match field.value {
        None => field.name.to_vec(),
        Some(value) => [field.name, b"=", value].concat(),
    }
}

/// The number of single-byte edits between two words, by the usual row-by-row table; long words count as far away.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}
