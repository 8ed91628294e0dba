//! A process beside this one, that has nothing of it but one end of a channel.
//!
//! A server that asks its own mount must not die while it waits: the answer would be its own to give. The kernel ends such a wait when the
//! connection is closed, and it is closed when nobody holds its descriptor, nor memory of a ring that waits at it, any more. So the one who
//! asks is another process, and has neither.

use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use super::Errno;
use super::Error;
use super::Result;
use super::channel;
use super::child;
use super::child::Pid;
use super::daemon;

/// A process beside this one.
#[derive(Debug)]
pub struct Beside {
    /// Its number.
    pub pid: Pid,
    /// The channel to it. It ends when this is closed, or with this process.
    pub channel: OwnedFd,
}

/// Starts one that runs `body` with its end of the channel. It has no other descriptor but the standard ones, which lead nowhere, and no
/// directory.
///
/// # Errors
/// `EBUSY` when this process has more than one thread; else the kernel's.
pub fn start(name: &'static std::ffi::CStr, body: impl FnOnce(&OwnedFd)) -> Result<Beside> {
    let (ours, its) = channel::pair()?;
    let pid = child::fork(|| {
        let ready = leave(&its).and_then(|()| child::die_with_parent());
        if ready.is_err() {
            return 1;
        }
        // Names are for who looks at the processes; without them all goes well, too.
        let _ = rustix::thread::set_name(name);
        title::set(name);
        // Whoever asks this one's favours can do without it.
        daemon::prefer_to_live(0);
        body(&its);
        0
    })?;
    Ok(Beside { pid, channel: ours })
}

fn leave(keep: &OwnedFd) -> Result<()> {
    let io = |e: std::io::Error| Error::new("read", "/proc/self/fd", Errno::from_io_error(&e).unwrap_or(Errno::IO));
    let numbers: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .map_err(io)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number| number > 2 && number != keep.as_raw_fd())
        .collect();
    numbers.into_iter().for_each(child::close_inherited);
    daemon::silence()?;
    daemon::leave_directory()
}

/// What `ps` shows as the arguments of this process.
mod title {
    use std::ffi::CStr;

    /// Sets it, as far as the place of the arguments reaches. Only for a copy of a process, which asks for its arguments no more.
    pub(super) fn set(name: &CStr) {
        let Some((start, len)) = place() else { return };
        // SAFETY: the kernel tells where the arguments of this process lie; that memory is its own and may be written to, and nothing
        // reads it: arguments were parsed before, and this copy of the process parses none.
        #[allow(unsafe_code)]
        let arguments =
            unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut::<u8>(start), len) };
        let name = name.to_bytes();
        arguments.fill(0);
        // The last byte stays zero.
        arguments.iter_mut().take(len.saturating_sub(1)).zip(name).for_each(|(to, from)| *to = *from);
    }

    /// Where the arguments are, and how long: fields 48 and 49 of `stat`, counted behind the name, which may hold anything.
    fn place() -> Option<(usize, usize)> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace().skip(45);
        let (start, end): (usize, usize) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (start != 0).then_some((start, end.checked_sub(start)?))
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn the_place_of_the_arguments_is_found() {
            let (_, len) = super::place().unwrap();
            assert_eq!(len, std::fs::read("/proc/self/cmdline").unwrap().len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::channel;

    /// This process has many threads.
    #[test]
    fn a_process_with_threads_is_not_copied() {
        assert_eq!(start(c"none", |_| ()).unwrap_err().errno(), Errno::BUSY);
    }

    #[test]
    fn messages_arrive_whole_and_the_end_is_told() {
        let (ours, its) = channel::pair().unwrap();
        let long = vec![b'x'; 40_000];
        channel::send(&ours, &long, None).unwrap();
        let mut room = vec![0; 50_000];
        assert_eq!(channel::receive_into(&its, &mut room).unwrap(), 40_000);
        drop(ours);
        assert_eq!(channel::receive_into(&its, &mut room).unwrap(), 0);
    }
}
