//! The numbers and layouts of the FUSE protocol.
//!
//! Source: the kernel's `include/uapi/linux/fuse.h` (protocol 7.45), whose layouts and constants are free to use (BSD-2-Clause as the
//! other choice). All integers are the machine's own, all structures are packed by hand to 64 bits; so they are read and written
//! field by field ([`super::bytes`]), and what stands here are sizes and numbers.

/// The protocol's major version.
pub(super) const MAJOR: u32 = 7;
/// The minor version that is announced: what is newer is not known here.
pub(super) const MINOR: u32 = 45;
/// The oldest minor version that is served: Linux 3.10's. From here on no request or reply has another layout than now, but for
/// the reply to INIT.
pub(super) const OLDEST_MINOR: u32 = 22;
/// From this minor version on the reply to INIT has 64 bytes; before, 24.
pub(super) const LONG_INIT_MINOR: u32 = 23;

/// `struct fuse_in_header`.
pub(super) const IN_HEADER: usize = 40;
/// `struct fuse_out_header`.
pub(super) const OUT_HEADER: usize = 16;
/// `struct fuse_write_in`.
pub(super) const WRITE_IN: usize = 40;
/// `struct fuse_entry_out`.
pub(super) const ENTRY_OUT: usize = 128;
/// `struct fuse_dirent` without the name.
pub(super) const DIRENT: usize = 24;
/// How many pages a request has at most where that is not agreed on (`FUSE_DEFAULT_MAX_PAGES_PER_REQ`).
pub(super) const OLD_PAGES: usize = 32;
/// `FUSE_MIN_READ_BUFFER`.
pub(super) const MIN_READ_BUFFER: usize = 8192;

macro_rules! opcodes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// What a request asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Opcode {
            $($(#[$doc])* $name,)*
            /// One that is not known here, or not answered.
            Other(u32),
        }

        impl Opcode {
            pub(super) fn of(number: u32) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// Its name, as logs show it.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(_) => "another request",
                }
            }
        }
    };
}

opcodes! {
    Lookup = 1 "lookup",
    Forget = 2 "forget",
    Getattr = 3 "getattr",
    Setattr = 4 "setattr",
    Readlink = 5 "readlink",
    Symlink = 6 "symlink",
    Mknod = 8 "mknod",
    Mkdir = 9 "mkdir",
    Unlink = 10 "unlink",
    Rmdir = 11 "rmdir",
    Rename = 12 "rename",
    Link = 13 "link",
    Open = 14 "open",
    Read = 15 "read",
    Write = 16 "write",
    Statfs = 17 "statfs",
    Release = 18 "release",
    Fsync = 20 "fsync",
    Setxattr = 21 "setxattr",
    Getxattr = 22 "getxattr",
    Listxattr = 23 "listxattr",
    Removexattr = 24 "removexattr",
    Flush = 25 "flush",
    Init = 26 "init",
    Opendir = 27 "opendir",
    Readdir = 28 "readdir",
    Releasedir = 29 "releasedir",
    Fsyncdir = 30 "fsyncdir",
    Create = 35 "create",
    Interrupt = 36 "interrupt",
    Destroy = 38 "destroy",
    Ioctl = 39 "ioctl",
    BatchForget = 42 "batch_forget",
    Fallocate = 43 "fallocate",
    Readdirplus = 44 "readdirplus",
    Rename2 = 45 "rename",
    Lseek = 46 "lseek",
    CopyFileRange = 47 "copy_file_range",
    /// Since 7.34.
    Syncfs = 50 "syncfs",
    /// Since 7.37.
    Tmpfile = 51 "tmpfile",
    /// Since 7.45: as [`Opcode::CopyFileRange`], and the reply has room for 64 bits.
    CopyFileRange64 = 53 "copy_file_range",
}

/// What the two sides agree on in INIT (`FUSE_*`); the upper half travels in `flags2`.
pub(super) mod init {
    pub(in super::super) const ASYNC_READ: u64 = 1 << 0;
    pub(in super::super) const ATOMIC_O_TRUNC: u64 = 1 << 3;
    /// `ENOSYS` for OPEN means that all opens succeed, and that neither they nor closes are to be sent any more.
    pub(in super::super) const NO_OPEN_SUPPORT: u64 = 1 << 17;
    pub(in super::super) const BIG_WRITES: u64 = 1 << 5;
    pub(in super::super) const DONT_MASK: u64 = 1 << 6;
    pub(in super::super) const HAS_IOCTL_DIR: u64 = 1 << 11;
    pub(in super::super) const AUTO_INVAL_DATA: u64 = 1 << 12;
    pub(in super::super) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(in super::super) const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub(in super::super) const ASYNC_DIO: u64 = 1 << 15;
    pub(in super::super) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(in super::super) const POSIX_ACL: u64 = 1 << 20;
    pub(in super::super) const MAX_PAGES: u64 = 1 << 22;
    pub(in super::super) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(in super::super) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub(in super::super) const SETXATTR_EXT: u64 = 1 << 29;
    /// There is a `flags2` (since 7.36).
    pub(in super::super) const INIT_EXT: u64 = 1 << 30;
    /// Files can be lent to the kernel (since 7.40).
    pub(in super::super) const PASSTHROUGH: u64 = 1 << 37;
    /// Requests go over io_uring as soon as memory for them is registered for each processor (since 7.42, where the administrator allows
    /// it).
    pub(in super::super) const OVER_IO_URING: u64 = 1 << 41;
}

/// FUSE over io_uring: commands, and where what stands in the header of a slot (`struct fuse_uring_req_header`).
pub(super) mod uring {
    use std::ops::Range;

    /// `FUSE_IO_URING_CMD_REGISTER`: here is memory for a request.
    pub(in super::super) const REGISTER: u32 = 1;
    /// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`: here is an answer, and memory for the next request.
    pub(in super::super) const COMMIT_AND_FETCH: u32 = 2;
    /// Where the arguments of fixed size begin, and how many bytes they have at most.
    pub(in super::super) const ARGUMENTS: usize = 128;
    pub(in super::super) const ARGUMENTS_MAX: usize = 128;
    /// `fuse_uring_ent_in_out.commit_id`.
    pub(in super::super) const COMMIT_ID: Range<usize> = 264..272;
    /// `fuse_uring_ent_in_out.payload_sz`.
    pub(in super::super) const PAYLOAD: Range<usize> = 272..276;
}

/// `fuse_setattr_in.valid`: which fields say something.
pub(super) mod fattr {
    pub(in super::super) const MODE: u32 = 1 << 0;
    pub(in super::super) const UID: u32 = 1 << 1;
    pub(in super::super) const GID: u32 = 1 << 2;
    pub(in super::super) const SIZE: u32 = 1 << 3;
    pub(in super::super) const ATIME: u32 = 1 << 4;
    pub(in super::super) const MTIME: u32 = 1 << 5;
    pub(in super::super) const ATIME_NOW: u32 = 1 << 7;
    pub(in super::super) const MTIME_NOW: u32 = 1 << 8;
    pub(in super::super) const KILL_SUIDGID: u32 = 1 << 11;
}

/// What a reply to OPEN or OPENDIR lets the kernel do (`FOPEN_*`).
pub(super) mod fopen {
    pub(in super::super) const KEEP_CACHE: u32 = 1 << 1;
    pub(in super::super) const CACHE_DIR: u32 = 1 << 3;
    /// The reply names a file that was lent. The kernel takes none of the other flags with it.
    pub(in super::super) const PASSTHROUGH: u32 = 1 << 7;
}

/// `FUSE_OPEN_KILL_SUIDGID` in `open_flags` of OPEN, CREATE and TMPFILE.
pub(super) const OPEN_KILL_SUIDGID: u32 = 1 << 0;
/// `FUSE_WRITE_KILL_SUIDGID`.
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// `O_APPEND` in the flags of an open file, which a WRITE carries.
pub(super) const O_APPEND: u32 = 0o2000;
/// `FUSE_FSYNC_FDATASYNC`.
pub(super) const FSYNC_DATA: u32 = 1 << 0;
/// `FUSE_SETXATTR_ACL_KILL_SGID`.
pub(super) const SETXATTR_ACL_KILL_SGID: u32 = 1 << 0;

/// `FUSE_NOTIFY_INVAL_INODE`.
pub(super) const NOTIFY_INVAL_INODE: i32 = 2;
/// `FUSE_NOTIFY_INVAL_ENTRY`.
pub(super) const NOTIFY_INVAL_ENTRY: i32 = 3;

/// `RENAME_NOREPLACE`.
pub(super) const RENAME_NOREPLACE: u32 = 1 << 0;
/// `RENAME_EXCHANGE`.
pub(super) const RENAME_EXCHANGE: u32 = 1 << 1;
