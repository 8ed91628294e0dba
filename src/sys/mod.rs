//! System calls, and the only `unsafe` code of mica.
//!
//! Three rules hold here:
//! - a call takes **one name relative to a directory descriptor** ([`crate::path::Name`]), never a joined path, and does not
//!   follow a symlink in it (decision 3 in `src/ARCHITECTURE.md`: this needs no `openat2`, and neither symlinks nor later mounts can
//!   mislead it);
//! - every **mutating** call passes [`gate::pass`] first: one place to count, trace and inject faults;
//! - an [`Error`] of a mutating call carries the call with its arguments; reads on the hot path return a bare [`Errno`].
//!
//! Calls newer than Linux 3.10 have a fallback, chosen by the error that the kernel gives.

pub mod apart;
pub mod attach;
pub mod attr;
pub mod capability;
pub mod channel;
pub mod child;
pub mod control;
#[cfg(test)]
pub mod counted;
pub mod daemon;
pub mod data;
pub mod device;
pub mod dir;
pub mod fd_passing;
pub mod gate;
pub mod identity;
pub mod inode_flags;
pub mod lock;
pub mod look;
pub mod memory;
pub mod mmap;
pub mod mount;
pub mod name;
pub mod namespace;
pub mod open;
pub mod plain_names;
pub mod private_tree;
pub mod process;
pub mod processors;
pub mod ring;
pub mod rlimit;
pub mod signal;
pub mod signal_wait;
pub mod socket;
pub mod trampoline;
pub mod tty;
pub mod writeback;
pub mod xattr;

pub use rustix::io::Errno;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed system call: its name, its arguments where they were worth keeping, and the error number.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    call: &'static str,
    args: Option<Box<str>>,
    errno: Errno,
}

impl Error {
    /// An error of `call` without its arguments; for reads on the hot path, where nothing may be allocated.
    pub const fn bare(call: &'static str, errno: Errno) -> Self {
        Self { call, args: None, errno }
    }

    /// An error of `call` with its arguments as text.
    pub fn new(call: &'static str, args: impl Into<Box<str>>, errno: Errno) -> Self {
        Self { call, args: Some(args.into()), errno }
    }

    /// The error number.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The name of the system call.
    pub fn call(&self) -> &'static str {
        self.call
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let args = self.args.as_deref().unwrap_or("..");
        write!(f, "{}({args}): {}", self.call, self.errno)
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(e: Error) -> Self {
        std::io::Error::new(std::io::Error::from_raw_os_error(e.errno.raw_os_error()).kind(), e)
    }
}

/// Whether a call failed because this kernel, filesystem or seccomp filter does not have it, so that a fallback is due.
///
/// `EPERM` is not here: it also is a real refusal; the few calls that seccomp filters answer with it say so themselves.
pub fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::XDEV)
}
