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
