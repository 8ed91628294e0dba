//! Processes: identity, limits, randomness.

use super::Errno;
use super::Error;
use super::Result;

/// Fills `buf` with random bytes: `getrandom`, or `/dev/urandom` on kernels without it.
///
/// # Errors
/// The kernel's.
pub fn random_bytes(buf: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(Errno::NOSYS) => return urandom(rest),
            Err(e) => return Err(Error::bare("getrandom", e)),
        }
    }
    Ok(())
}

fn urandom(buf: &mut [u8]) -> Result<()> {
    use std::io::Read;
    let io = |e: std::io::Error| Error::new("read", "/dev/urandom", Errno::from_io_error(&e).unwrap_or(Errno::IO));
    std::fs::File::open("/dev/urandom").map_err(io)?.read_exact(buf).map_err(io)
}

/// The effective user of this process.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The kernel's number of this thread.
pub fn thread_number() -> u32 {
    rustix::thread::gettid().as_raw_pid().cast_unsigned()
}

/// The effective group of this process.
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Clears the umask of this process, so that files get exactly the mode that is asked for; returns the former one.
pub fn clear_umask() -> u32 {
    rustix::process::umask(rustix::fs::Mode::empty()).as_raw_mode()
}

/// How many files this process may have open at once.
pub fn open_files_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// What this process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in use, in bytes; `None` without `/proc`.
    pub memory: Option<u64>,
    /// The most that ever was.
    pub memory_peak: Option<u64>,
    /// Threads.
    pub threads: u64,
    /// Open descriptors, without the one that counts them.
    pub descriptors: u64,
}

/// What this process uses, as `/proc` tells; zeros without it.
pub fn usage() -> Usage {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let kib = |name| field(name).map(|n| n * 1024);
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1));
    Usage {
        memory: kib("VmRSS:"),
        memory_peak: kib("VmHWM:"),
        threads: field("Threads:").unwrap_or(0),
        descriptors: descriptors as u64,
    }
}

/// Whether a process (or thread) is in the same mount and user namespace as this one; `false` where that cannot be seen.
pub fn shares_namespaces(pid: u32) -> bool {
    ["mnt", "user"].iter().all(|kind| shares(kind, pid))
}

/// Whether a process has a capability (its number) over this process's user namespace, now.
pub fn is_capable(pid: u32, capability: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let effective = text.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    effective.is_some_and(|all| all.checked_shr(capability).unwrap_or(0) & 1 == 1) && shares("user", pid)
}

fn shares(kind: &str, pid: u32) -> bool {
    let of = |who: &str| std::fs::metadata(format!("/proc/{who}/ns/{kind}"));
    match (of("self"), of(&pid.to_string())) {
        (Ok(own), Ok(other)) => {
            use std::os::unix::fs::MetadataExt;
            (own.dev(), own.ino()) == (other.dev(), other.ino())
        }
        // A kernel without this kind has one for all.
        (Err(e), _) => e.kind() == std::io::ErrorKind::NotFound && kind == "user",
        _ => false,
    }
}

/// Whether `thread` is one of the threads of process `pid`.
pub fn is_thread_of(thread: u32, pid: u32) -> bool {
    thread == pid || std::fs::metadata(format!("/proc/{pid}/task/{thread}")).is_ok()
}

/// The name of a process or thread, raw; `None` when it is gone.
pub fn command_name(pid: u32) -> Option<Vec<u8>> {
    let mut name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    if name.last() == Some(&b'\n') {
        name.pop();
    }
    Some(name)
}

/// When a process started, in the kernel's clock ticks since boot; `None` when there is no such process. Together with the
/// process's number it names a process for good, since numbers are used again.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn start_time(pid: u32) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/stat");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Ok(None),
        Err(e) => return Err(Error::new("read", path, Errno::from_io_error(&e).unwrap_or(Errno::IO))),
    };
    // The command's name stands in parentheses and may hold anything: the fields are counted from the last one. A process that is
    // dead but not reaped (state Z) is gone for everybody else.
    let text = String::from_utf8_lossy(&text);
    let fields: Vec<&str> =
        text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    match (fields.first(), fields.get(19).and_then(|f| f.parse().ok())) {
        (Some(&("Z" | "X")), _) => Ok(None),
        (_, Some(ticks)) => Ok(Some(ticks)),
        _ => Err(Error::new("read", path, Errno::INVAL)),
    }
}

/// Whether the process `pid` that started at `start_time` still runs.
pub fn is_running(pid: u32, start: u64) -> bool {
    matches!(start_time(pid), Ok(Some(now)) if now == start)
}

/// Kills a process (`SIGKILL`); one that is gone already is fine.
///
/// # Errors
/// `EPERM` for another user's.
pub fn kill(pid: u32) -> Result<()> {
    let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(number) = number else { return Err(Error::new("kill", pid.to_string(), Errno::SRCH)) };
    match rustix::process::kill_process(number, rustix::process::Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(e) => Err(Error::new("kill", pid.to_string(), e)),
    }
}

/// Waits until a process that was killed is gone; it need not be a child of this one.
///
/// # Errors
/// `ETIMEDOUT` when it holds on for ten seconds (it hangs in the kernel).
pub fn wait_gone(pid: u32, start: u64) -> Result<()> {
    for _ in 0..1000 {
        if !is_running(pid, start) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(Error::new("kill", pid.to_string(), Errno::TIMEDOUT))
}
