//! Between the union's words and the protocol's.

use crate::path::BadName;
use crate::path::Name;
use crate::sys::Errno;
use crate::union;
use crate::union::Error;

/// A name out of a request.
pub(super) fn name(bytes: &[u8]) -> union::Result<Name<'_>> {
    Name::new(bytes).map_err(|e| match e {
        BadName::TooLong => Error::Refused(Errno::NAMETOOLONG),
        _ => Error::Refused(Errno::INVAL),
    })
}

/// The kernel's own 32-bit form of a device number (`new_encode_dev`), which the protocol uses.
pub(super) fn device(rdev: u64) -> u32 {
    let (major, minor) = crate::sys::attr::dev_parts(rdev);
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12)
}

/// A device number out of the protocol's form.
pub(super) fn device_of(encoded: u32) -> u64 {
    let major = (encoded & 0x000f_ff00) >> 8;
    let minor = (encoded & 0xff) | ((encoded >> 12) & 0x000f_ff00);
    crate::sys::attr::makedev(major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_protocol() {
        for (major, minor) in [(1, 3), (8, 255), (259, 70_000), (4095, 1_048_575)] {
            let dev = crate::sys::attr::makedev(major, minor);
            assert_eq!(device_of(device(dev)), dev);
        }
    }
}
