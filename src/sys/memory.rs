//! The memory of this process.
#![allow(unsafe_code)]

/// Gives memory that is free, and lies between what is not, back to the kernel. It costs a walk over all that is free.
///
/// The C library does so by itself only at the end of its heap; where there is no way to ask it, as in musl, nothing happens.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number of bytes to keep, no pointer; may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
