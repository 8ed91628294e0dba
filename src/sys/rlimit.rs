//! Resource limits of a process.

use rustix::process::Resource as Raw;
use rustix::process::Rlimit;

use super::Error;
use super::Result;
use super::gate;

macro_rules! resources {
    ($($variant:ident $raw:ident $name:literal $doc:literal,)*) => {
        /// A limited resource.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Resource { $(#[doc = $doc] $variant,)* }

        impl Resource {
            /// The resource with this name, as in `--ulimit NAME=..`.
            pub fn by_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            fn raw(self) -> Raw {
                match self { $(Self::$variant => Raw::$raw,)* }
            }
        }
    };
}

resources! {
    Cpu Cpu "cpu" "Processor time, in seconds.",
    FileSize Fsize "fsize" "Size of a file, in bytes.",
    Data Data "data" "Data segment, in bytes.",
    Stack Stack "stack" "Stack of the first thread, in bytes.",
    Core Core "core" "Size of a core dump, in bytes.",
    Resident Rss "rss" "Resident memory, in bytes; without effect today.",
    Processes Nproc "nproc" "Processes of the user.",
    OpenFiles Nofile "nofile" "One more than the highest file descriptor.",
    Locked Memlock "memlock" "Locked memory, in bytes.",
    AddressSpace As "as" "Address space, in bytes.",
    Locks Locks "locks" "File locks; without effect today.",
    Signals Sigpending "sigpending" "Queued signals.",
    MessageQueues Msgqueue "msgqueue" "POSIX message queues, in bytes.",
    Nice Nice "nice" "Ceiling of the nice value, as 20 minus it.",
    RealTimePriority Rtprio "rtprio" "Ceiling of the real-time priority.",
    RealTime Rttime "rttime" "Real-time processor time without a blocking call, in microseconds.",
}

/// Sets soft and hard limit of this process, neither above the hard limit that it has; `None` asks for no limit.
///
/// A machine without `CAP_SYS_RESOURCE` cannot give more than it has, and refusing to start would help nobody.
///
/// # Errors
/// The kernel's.
pub fn set_clamped(resource: Resource, soft: Option<u64>, hard: Option<u64>) -> Result<()> {
    let args = || format!("{resource:?}, {soft:?}, {hard:?}");
    gate::pass("setrlimit", args)?;
    let own = rustix::process::getrlimit(resource.raw()).maximum;
    let maximum = lower(hard, own);
    let new = Rlimit { current: lower(soft, maximum), maximum };
    rustix::process::setrlimit(resource.raw(), new).map_err(|e| Error::new("setrlimit", args(), e))
}

/// The lower of two limits, where `None` is no limit.
fn lower(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::lower;

    #[test]
    fn no_limit_is_the_highest() {
        assert_eq!(lower(None, None), None);
        assert_eq!(lower(Some(5), None), Some(5));
        assert_eq!(lower(None, Some(7)), Some(7));
        assert_eq!(lower(Some(5), Some(7)), Some(5));
    }
}
