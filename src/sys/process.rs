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
