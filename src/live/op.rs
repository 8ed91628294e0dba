//! The operations that are counted and traced.

macro_rules! ops {
    ($($name:ident $text:literal,)*) => {
        /// An operation of a mount.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each has the name of a request of the FUSE protocol")]
        #[repr(u8)]
        pub enum Op {
            $($name,)*
        }

        impl Op {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Op] = &[$(Op::$name,)*];

            /// Its name, as users write it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Op::$name => $text,)*
                }
            }
        }
    };
}

ops! {
    Lookup "lookup",
    Forget "forget",
    Getattr "getattr",
    Setattr "setattr",
    Readlink "readlink",
    Symlink "symlink",
    Mknod "mknod",
    Mkdir "mkdir",
    Unlink "unlink",
    Rmdir "rmdir",
    Rename "rename",
    Link "link",
    Open "open",
    Create "create",
    Tmpfile "tmpfile",
    Read "read",
    Write "write",
    Statfs "statfs",
    Release "release",
    Fsync "fsync",
    Fsyncdir "fsyncdir",
    Syncfs "syncfs",
    Flush "flush",
    Setxattr "setxattr",
    Getxattr "getxattr",
    Listxattr "listxattr",
    Removexattr "removexattr",
    Opendir "opendir",
    Readdir "readdir",
    Readdirplus "readdirplus",
    Releasedir "releasedir",
    Ioctl "ioctl",
    Fallocate "fallocate",
    Lseek "lseek",
    CopyFileRange "copy_file_range",
    Other "other",
    CopyUp "copyup",
}

/// How many there are.
pub const COUNT: usize = Op::ALL.len();

impl Op {
    /// The operation of this number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The operation of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.name() == name)
    }
}

/// A set of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ops(pub u64);

impl Ops {
    /// Every operation but those that only give something back to the server, and tell nothing of paths.
    pub const USUAL: Ops = Ops(!(1 << Op::Forget as u64));

    /// No operation.
    pub const NONE: Ops = Ops(0);

    /// Whether `op` is in it.
    pub fn has(self, op: Op) -> bool {
        self.0 & (1 << op as u64) != 0
    }

    /// The set with one more.
    #[must_use]
    pub fn with(self, op: Op) -> Self {
        Ops(self.0 | 1 << op as u64)
    }
}
