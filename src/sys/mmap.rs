//! Reading a file through memory.

use std::ops::Deref;
use std::os::fd::AsFd;

use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;

use super::Errno;
use super::Error;
use super::Result;

/// A file mapped for reading.
#[derive(Debug)]
pub struct Map {
    start: *mut std::ffi::c_void,
    len: usize,
}

// SAFETY: the mapping is private, read-only, and owned by this value alone; reading it from several threads is reading
// shared immutable bytes.
#[allow(unsafe_code)]
unsafe impl Send for Map {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `len` bytes of an open file, which must be that long now and must not change as long as the map lives:
    /// it is for files that mica writes once, makes read-only and only ever removes. (A file cut short by someone else under
    /// a live map ends the process with `SIGBUS`, as it does for every program that maps.)
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a length of zero.
    pub fn read_only(fd: impl AsFd, len: usize) -> Result<Self> {
        if len == 0 {
            return Err(Error::bare("mmap", Errno::INVAL));
        }
        // SAFETY: the kernel chooses the address, so no existing memory is touched; the mapping is private and read-only.
        #[allow(unsafe_code)]
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, fd.as_fd(), 0) }
                .map_err(|e| Error::bare("mmap", e))?;
        Ok(Self { start, len })
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is the start of a readable mapping of `len` bytes that lives until `drop`, and nobody writes to
        // the file (see `read_only`).
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.cast::<u8>(), self.len)
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `mmap` returned, and no reference into it outlives `self`.
        #[allow(unsafe_code)]
        let unmapped = unsafe { rustix::mm::munmap(self.start, self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of an own mapping failed");
    }
}
