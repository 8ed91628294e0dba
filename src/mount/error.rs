//! Why a mount could not be made, served or taken away, with a hint for each.

use std::path::PathBuf;

use super::options;
use crate::sys;
use crate::sys::Errno;

/// The result of a mount operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why it failed. [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments make no sense.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// An option has a wrong value.
    #[error(transparent)]
    Option(#[from] options::Error),
    /// A mount was asked for and failed.
    #[error("cannot mount {what} on {}: {why}", target.display())]
    Mount {
        /// The source, as people call it.
        what: String,
        /// The mount point.
        target: PathBuf,
        /// The reason.
        why: Box<Error>,
    },
    /// The mount point does not exist.
    #[error("the mount point does not exist")]
    PointMissing,
    /// The mount point is a file.
    #[error("the mount point is not a directory")]
    PointNotDirectory,
    /// The mount point holds files.
    #[error("the mount point is not empty")]
    PointNotEmpty,
    /// The mount point is covered by a mount whose daemon is gone.
    #[error("a dead mount is on it (its daemon is gone)")]
    PointDead(PathBuf),
    /// There is no FUSE device.
    #[error("this system has no usable FUSE: {0}")]
    NoDevice(sys::Error),
    /// Neither the kernel nor fusermount let this user mount.
    #[error("no permission to mount: {0}")]
    Refused(sys::Error),
    /// fusermount refused.
    #[error("{program}: {said}")]
    Fusermount {
        /// Its name.
        program: &'static str,
        /// What it printed.
        said: String,
    },
    /// The layers could not be opened.
    #[error("{0}")]
    Source(String),
    /// Serving failed.
    #[error("{0}")]
    Serve(String),
    /// The daemon reported this before it served.
    #[error("{reason}")]
    Daemon {
        /// The error.
        reason: String,
        /// Its hint.
        hint: Option<String>,
    },
    /// No mount is at the path.
    #[error("nothing is mounted on {}", .0.display())]
    NotMounted(PathBuf),
    /// Another filesystem is mounted there.
    #[error("the mount on {} is not mica's but of type {kind}", target.display())]
    NotMica {
        /// The path.
        target: PathBuf,
        /// The type.
        kind: String,
    },
    /// The mount is in use.
    #[error("{} is in use", .0.display())]
    Busy(PathBuf),
    /// A path could not be used.
    #[error("{}: {source}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Another system call failed.
    #[error(transparent)]
    Sys(#[from] sys::Error),
}

impl Error {
    /// A usage error without a hint.
    pub fn usage(what: impl Into<String>) -> Self {
        Error::Usage { what: what.into(), hint: None }
    }

    /// What the user can do about it, in one line.
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Error::Usage { hint, .. } | Error::Daemon { hint, .. } => return hint.clone(),
            Error::Mount { why, .. } => return why.hint(),
            Error::PointDead(path) => return Some(format!("take it away with: umount -l {}", path.display())),
            Error::PointMissing => "make it with mkdir -p",
            Error::PointNotDirectory => "choose a directory",
            Error::PointNotEmpty => "choose an empty directory, or give -o nonempty to hide what is in it",
            Error::NoDevice(_) => {
                "load the module with modprobe fuse; in a container, start it with --device /dev/fuse"
            }
            Error::Refused(_) => "mount as root, in a user namespace, or install fusermount3 (package fuse3)",
            Error::Fusermount { said, .. } if said.contains("user_allow_other") => {
                "add the line user_allow_other to /etc/fuse.conf, or leave out allow_other"
            }
            Error::Busy(_) => "end what uses it (see fuser -vm DIR), or give --lazy to take it away at once",
            Error::NotMica { .. } => "use umount(8) for it",
            Error::NotMounted(_) => "see mica mounts",
            Error::Sys(e) if e.errno() == Errno::MFILE => "raise the limit of open files (ulimit -n)",
            _ => return None,
        };
        Some(fixed.to_owned())
    }

    /// The exit code by mount(8)'s table: 1 for wrong arguments or permissions, 32 for a failed mount.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage { .. } | Error::Option(_) | Error::Refused(_) => 1,
            _ => 32,
        }
    }
}
