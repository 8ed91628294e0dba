//! A thread whose descriptors are its own.
//!
//! A server that asks its own mount must not die while it waits: the answer would be its own to give. The kernel ends such a wait when the
//! connection is closed, and it is closed when nobody holds its descriptor any more; so the thread that asks must hold none.
#![allow(unsafe_code)]

use rustix::thread::UnshareFlags;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;

/// Starts a thread that shares no descriptor with the rest of the process: it has the standard ones and those that it opens itself.
///
/// `work` must neither use nor drop a descriptor of another thread: the number would mean another file here. It is called with what came
/// of leaving the others, and the number of the thread.
///
/// # Errors
/// Those of starting a thread.
pub fn spawn(name: &str, work: impl FnOnce(Result<u32>) + Send + 'static) -> std::io::Result<()> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(leave()));
    started.map(drop)
}

fn leave() -> Result<u32> {
    gate::pass("unshare", || "CLONE_FILES".to_owned())?;
    // SAFETY: this thread was just started, and has opened nothing; what it was given uses no descriptor, as `spawn` demands.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }
        .map_err(|e| Error::new("unshare", "CLONE_FILES", e))?;
    close_all_but_standard()?;
    Ok(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned())
}

fn close_all_but_standard() -> Result<()> {
    // SAFETY: the table is this thread's own since a moment ago, and nothing that this thread owns is in it.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => {
            let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
            Err(Error::new("close_range", "3, ~0", errno))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_thread_has_none_of_the_descriptors_of_the_others() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = file.as_raw_fd();
        assert!(number > 2);
        let (tell, told) = mpsc::channel();
        spawn("apart", move |left| {
            let tid = left.unwrap();
            // SAFETY: asks only whether the number means anything.
            let open = unsafe { libc::fcntl(number, libc::F_GETFD) } != -1;
            tell.send((open, tid)).unwrap();
        })
        .unwrap();
        let (open, tid) = told.recv().unwrap();
        assert!(!open, "it would keep the file open");
        assert_ne!(tid, std::process::id(), "a thread's number, not the process's");
        // SAFETY: as above; here it is open still.
        assert_ne!(unsafe { libc::fcntl(number, libc::F_GETFD) }, -1);
    }
}
