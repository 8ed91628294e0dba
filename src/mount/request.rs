//! A mount as it was asked for, whatever the words were.

use std::path::PathBuf;

use super::options::Allow;
use super::options::MountOptions;
use super::source::Source;
use crate::sys::mount::Flags;

/// The three ways of being called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// By mount(8), as `mount.mica SOURCE DIR -o ...`.
    Mount8,
    /// As `fuse-overlayfs`.
    FuseOverlayfs,
    /// With mica's own long options.
    Own,
}

impl Dialect {
    /// The type in the mount table.
    pub fn fs_type(self) -> &'static str {
        match self {
            Dialect::FuseOverlayfs => "fuse.fuse-overlayfs",
            Dialect::Mount8 | Dialect::Own => "fuse.mica",
        }
    }
}

/// A mount to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// How it was asked for; decides defaults and the type.
    pub dialect: Dialect,
    /// What is shown.
    pub source: Source,
    /// Where.
    pub target: PathBuf,
    /// How.
    pub options: MountOptions,
    /// The caller wants to wait until the mount ends.
    pub foreground: bool,
    /// What the caller should be told, one line each.
    pub warnings: Vec<String>,
}

/// The part of a request that the kernel is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The mount flags.
    pub flags: Flags,
    /// The kernel checks owner and mode.
    pub default_permissions: bool,
    /// The kernel lets other users in. With [`Allow::Root`] the server turns away all but root and the owner.
    pub allow: Option<Allow>,
    /// The largest read request, in bytes.
    pub max_read: Option<u32>,
}

impl Request {
    /// What the kernel is told, for a caller with this effective user number.
    ///
    /// Defaults: superusers share the mount with everybody. Set-user-id bits and devices count as mount(8) has it there, as
    /// fuse-overlayfs has it there (`suid`, no `dev`), and not at all in mica's own dialect: an image may come from anywhere.
    pub fn access(&self, uid: u32) -> Access {
        let options = &self.options;
        let root = uid == 0;
        let (suid, dev) = match self.dialect {
            Dialect::Mount8 => (root, root),
            Dialect::FuseOverlayfs => (root, false),
            Dialect::Own => (false, false),
        };
        let flags = Flags {
            read_only: options.read_only.unwrap_or(false) || !self.source.is_writable(),
            no_suid: !options.suid.unwrap_or(suid),
            no_dev: !options.dev.unwrap_or(dev),
            no_exec: !options.exec.unwrap_or(true),
            no_atime: !options.atime.unwrap_or(false),
            no_dir_atime: !options.dir_atime.unwrap_or(true),
            sync: options.sync.unwrap_or(false),
            dir_sync: options.dir_sync.unwrap_or(false),
        };
        Access {
            flags,
            default_permissions: options.default_permissions.unwrap_or(true),
            allow: options.allow.or(root.then_some(Allow::Other)),
            max_read: options.max_read,
        }
    }

    /// The first column of the mount table.
    pub fn fs_name(&self) -> Vec<u8> {
        if let Some(name) = &self.options.fs_name {
            return name.clone();
        }
        match (&self.source, self.dialect) {
            (_, Dialect::FuseOverlayfs) => b"fuse-overlayfs".to_vec(),
            (Source::Dirs { .. }, _) => b"mica".to_vec(),
            (source, _) => source.label().into_bytes(),
        }
    }

    /// Whether the mount point may hold files: as for the kernel's overlay under the name of fuse-overlayfs, and on request.
    pub fn may_hide_files(&self) -> bool {
        self.options.non_empty || self.dialect == Dialect::FuseOverlayfs
    }
}
