//! Reading a file through memory.
//!
//! A page of a map that cannot be read, because the disk fails or someone cut the file short, is `SIGBUS`, which would end the process
//! and with it every mount that it serves. A handler puts a page of zeros in its place instead, and the map is *lost* from then on:
//! [`Map::is_lost`]. Whoever reads asks that after reading, and not before. (systemd's journal does the same.)

use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::Once;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;

use super::Errno;
use super::Error;
use super::Result;

/// How many maps the handler knows at a time; a map beyond that is an ordinary one.
const SLOTS: usize = 2048;

/// One map, as the handler finds it.
struct Slot {
    taken: AtomicBool,
    /// The address of its first byte; 0 for none.
    start: AtomicUsize,
    /// The address behind its last byte.
    end: AtomicUsize,
    lost: AtomicBool,
}

static MAPS: [Slot; SLOTS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
    }
}; SLOTS];

static PAGE: AtomicUsize = AtomicUsize::new(4096);
static HANDLER: Once = Once::new();

/// A file mapped for reading.
#[derive(Debug)]
pub struct Map {
    start: *mut std::ffi::c_void,
    len: usize,
    slot: Option<usize>,
}

// SAFETY: the mapping is private, read-only, and owned by this value alone; reading it from several threads is reading
// shared immutable bytes.
#[allow(unsafe_code)]
unsafe impl Send for Map {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `len` bytes of an open file, which must be that long now and should not change as long as the map lives:
    /// it is for files that mica writes once, makes read-only and only ever removes.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a length of zero.
    pub fn read_only(fd: impl AsFd, len: usize) -> Result<Self> {
        if len == 0 {
            return Err(Error::bare("mmap", Errno::INVAL));
        }
        HANDLER.call_once(install);
        // SAFETY: the kernel chooses the address, so no existing memory is touched; the mapping is private and read-only.
        #[allow(unsafe_code)]
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, fd.as_fd(), 0) }
                .map_err(|e| Error::bare("mmap", e))?;
        Ok(Self { start, len, slot: register(start as usize, len) })
    }

    /// Whether a page of it could not be read, so that zeros were seen in its place.
    pub fn is_lost(&self) -> bool {
        self.slot.and_then(|at| MAPS.get(at)).is_some_and(|slot| slot.lost.load(Ordering::Acquire))
    }
}

fn register(start: usize, len: usize) -> Option<usize> {
    let page = PAGE.load(Ordering::Relaxed);
    let at = MAPS.iter().position(|slot| !slot.taken.swap(true, Ordering::AcqRel))?;
    let slot = MAPS.get(at)?;
    slot.lost.store(false, Ordering::Relaxed);
    slot.end.store(start.saturating_add(len.next_multiple_of(page)), Ordering::Relaxed);
    slot.start.store(start, Ordering::Release);
    Some(at)
}

/// Has `SIGBUS` handled by [`lost_page`].
#[allow(unsafe_code)]
fn install() {
    PAGE.store(rustix::param::page_size(), Ordering::Relaxed);
    // SAFETY: the structure is zeroed, which is a valid value of it, and then filled; the handler has the signature that
    // SA_SIGINFO asks for and does nothing but what a signal handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = lost_page as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

/// Puts zeros where a page of a known map cannot be read; any other `SIGBUS` ends the process as it always did.
#[allow(unsafe_code)]
extern "C" fn lost_page(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid structure, and SIGBUS has an address. Only atomics are read and written; `mmap` is
    // one system call, with MAP_FIXED on a page that lies within a live read-only mapping of our own, which nobody else uses the
    // memory of. `errno` is left as the interrupted code had it.
    unsafe {
        let address = (*info).si_addr() as usize;
        let known = MAPS.iter().find(|slot| {
            let start = slot.start.load(Ordering::Acquire);
            start != 0 && start <= address && address < slot.end.load(Ordering::Relaxed)
        });
        let errno = *libc::__errno_location();
        if let Some(slot) = known {
            let page = PAGE.load(Ordering::Relaxed);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let at = (address & !(page - 1)) as *mut libc::c_void;
            slot.lost.store(true, Ordering::Release);
            if libc::mmap(at, page, libc::PROT_READ, flags, -1, 0) != libc::MAP_FAILED {
                *libc::__errno_location() = errno;
                return;
            }
        }
        // The same access comes again, and then as it is without a handler.
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
        *libc::__errno_location() = errno;
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is the start of a readable mapping of `len` bytes that lives until `drop`, and nobody writes to
        // the file (see `read_only`); a page that is lost reads as zeros.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.cast::<u8>(), self.len)
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.and_then(|at| MAPS.get(at)) {
            slot.start.store(0, Ordering::Release);
        }
        // SAFETY: exactly the range that `mmap` returned, and no reference into it outlives `self`.
        #[allow(unsafe_code)]
        let unmapped = unsafe { rustix::mm::munmap(self.start, self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of an own mapping failed");
        if let Some(slot) = self.slot.and_then(|at| MAPS.get(at)) {
            slot.taken.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_under_a_map_is_lost_and_no_end() {
        let path = std::env::temp_dir().join(format!("mica-mmap-{}", std::process::id()));
        std::fs::write(&path, vec![7; 3 * 4096]).unwrap();
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (map, other) = (Map::read_only(&file, 3 * 4096).unwrap(), Map::read_only(&file, 4096).unwrap());
        assert_eq!((map[8192], map.is_lost()), (7, false));
        file.set_len(4096).unwrap();
        assert_eq!((map[8192], map.is_lost(), map[0]), (0, true, 7));
        assert!(!other.is_lost());
        drop(map);
        assert!(!Map::read_only(&file, 4096).unwrap().is_lost(), "a new one in its place is not lost");
    }
}
