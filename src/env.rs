//! The only reader of the clock, of randomness and of environment variables.
//!
//! Everything that depends on the world outside the arguments comes through here, so that a test can find it and a
//! reader can list it.

use std::ffi::OsString;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// The time now, as seconds and nanoseconds since 1970 (UTC).
pub fn now() -> (i64, u32) {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(d) => (i64::try_from(d.as_secs()).unwrap_or(i64::MAX), d.subsec_nanos()),
        Err(before) => (-i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX), 0),
    }
}

/// A monotonic clock for measuring spans.
pub fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}

/// An environment variable, if set and not empty.
pub fn var(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|v| !v.is_empty())
}

/// `N` random bytes from the kernel, for names that nobody can guess.
///
/// # Errors
/// The system's error when neither `getrandom` nor `/dev/urandom` can be read.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0u8; N];
    crate::sys::process::random_bytes(&mut bytes)?;
    Ok(bytes)
}

/// The number that the kernel gave to this boot; after a crash of the system it is another.
///
/// # Errors
/// When `/proc` is not there.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
