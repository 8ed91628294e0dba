//! What a mount tells of itself when it is asked: counters since it was made, what it holds now, and what was found possible.
//!
//! The JSON of [`Stats`] is what `mica stats --json` prints. Fields may be added; those that are here keep their meaning.

use serde::Deserialize;
use serde::Serialize;

/// The version of the document's shape.
pub const SCHEMA: u32 = 1;

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of the server.
    pub version: String,
    /// The process that serves.
    pub pid: u32,
    /// For how long it serves, in seconds.
    pub uptime_seconds: u64,
    /// Read-only layers.
    pub layers: u64,
    /// What the server holds.
    pub held: Held,
    /// The cache of directory descriptors.
    pub directory_cache: Cache,
    /// Requests by operation; those that never came are not in it.
    pub requests: Vec<OpCount>,
    /// Copies from lower layers to the upper directory.
    pub copy_ups: CopyUps,
    /// What was looked up before somebody asked for it.
    #[serde(default)]
    pub ahead: Ahead,
    /// Who listens to operations now.
    pub listeners: u64,
    /// What was agreed on with the kernel.
    pub kernel: Kernel,
    /// The upper directory; `null` on a read-only mount.
    pub upper: Option<Upper>,
}

/// What a server holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Inodes that the kernel, or something below them, refers to.
    pub nodes: u64,
    /// References to them that the kernel holds.
    pub references: u64,
    /// Open handles of files.
    pub open_handles: u64,
    /// Files of layers and of the upper directory that are open for them.
    pub open_files: u64,
    /// Listings of directories that are being read.
    pub listings: u64,
    /// Descriptors of the process.
    pub descriptors: u64,
    /// How many it may have.
    pub descriptors_max: u64,
    /// Its threads.
    pub threads: u64,
    /// Its memory in use, in bytes; `null` without `/proc`.
    pub memory_bytes: Option<u64>,
    /// The most it ever used, in bytes.
    pub memory_peak_bytes: Option<u64>,
}

/// A cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// How many it may hold.
    pub capacity: u64,
    /// How often what was asked for was there.
    pub hits: u64,
    /// How often it had to be opened.
    pub misses: u64,
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpCount {
    /// Its name, as `mica trace --op` takes it.
    pub op: String,
    /// How many came.
    pub count: u64,
    /// How many of them were answered with an error. A name that is not there is none.
    pub errors: u64,
}

/// Copies from lower layers to the upper directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyUps {
    /// Files and other objects, and contents that were left below at first.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// The time they took, in microseconds.
    pub micros: u64,
}

/// What the server asked of its own mount, so that programs need not wait for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// Requests that came of it; they are counted among all others, too.
    pub requests: u64,
    /// Names that were listed.
    pub names: u64,
    /// Files that were read.
    pub files: u64,
}

/// What was agreed on with the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Its protocol: `7.45`.
    pub protocol: String,
    /// Each ability by name: whether the kernel offered it, and whether it is used.
    pub abilities: Vec<Ability>,
    /// The largest write request, in bytes.
    pub max_write: u64,
    /// Files of layers are read by the kernel itself.
    pub passthrough: bool,
    /// Files are opened without a request.
    pub no_open: bool,
    /// How long the kernel may keep what it was told, in seconds; `null` for ever.
    pub timeout_seconds: Option<f64>,
}

/// One ability of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ability {
    /// The protocol's name, in lower case.
    pub name: String,
    /// The kernel can.
    pub offered: bool,
    /// It is used.
    pub used: bool,
}

/// What can be done in the upper directory, found out by trying when it was mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upper {
    /// Whiteouts are character devices 0:0; else `.wh.` files.
    pub device_whiteouts: bool,
    /// Two names can be exchanged in one step.
    pub rename_exchange: bool,
    /// A name can be moved and leave a whiteout in one step.
    pub rename_whiteout: bool,
    /// The kind of extended attributes that carries marks: `trusted`, `user`, or `null` where neither can be set.
    pub mark_xattrs: Option<String>,
    /// Files can be made without a name.
    pub tmpfile: bool,
    /// Nothing is synced.
    pub volatile: bool,
}

/// What a mount knows of a path, and so what the kernel may keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// The inode number; `None` when the server has no inode for this path, or found it under another of its names last.
    pub ino: Option<u64>,
    /// References that the kernel holds: with any, it knows the inode, under one name at least.
    pub references: u64,
    /// Handles that are open.
    pub open_handles: u64,
    /// How long the kernel may keep names and attributes, in seconds; `None` for ever.
    pub timeout_seconds: Option<f64>,
}
