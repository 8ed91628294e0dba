//! Between the union's words and the protocol's.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use fuser::FileAttr;
use fuser::FileType;
use fuser::INodeNo;
use fuser::TimeOrNow;

use crate::sys::attr::Kind;
use crate::sys::attr::PERM_MASK;
use crate::sys::attr::SetTime;
use crate::sys::attr::Stat;
use crate::sys::attr::Time;

pub(super) fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

/// The attributes as the protocol carries them; `ino` is also the node's number.
pub(super) fn attr(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(stat.ino),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.atime),
        mtime: system_time(stat.mtime),
        ctime: system_time(stat.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(stat.kind()),
        perm: u16::try_from(stat.mode & PERM_MASK).unwrap_or(0),
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: device(stat.rdev),
        blksize: if stat.blksize == 0 { 4096 } else { stat.blksize },
        flags: 0,
    }
}

/// The reply that tells the kernel to remember that a name does not exist: an entry without a node.
pub(super) fn absent() -> FileAttr {
    FileAttr { ino: INodeNo(0), ..attr(&Stat { mode: 0o100_000, ..Stat::default() }) }
}

/// The kernel's own 32-bit form of a device number (`new_encode_dev`), which the protocol uses.
fn device(rdev: u64) -> u32 {
    let (major, minor) = crate::sys::attr::dev_parts(rdev);
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12)
}

/// A device number out of the protocol's form.
pub(super) fn device_of(encoded: u32) -> u64 {
    let major = (encoded & 0x000f_ff00) >> 8;
    let minor = (encoded & 0xff) | ((encoded >> 12) & 0x000f_ff00);
    crate::sys::attr::makedev(major, minor)
}

fn system_time(t: Time) -> SystemTime {
    let whole = Duration::from_secs(t.secs.unsigned_abs());
    let base = if t.secs >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
    base.and_then(|b| b.checked_add(Duration::from_nanos(u64::from(t.nanos)))).unwrap_or(UNIX_EPOCH)
}

/// A time that a client sets. Undoes what fuser 0.18 does to times before 1970: it takes the nanoseconds for part of the distance
/// to 1970, while the protocol counts them forward from the second.
pub(super) fn set_time(t: TimeOrNow) -> SetTime {
    match t {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(t) => SetTime::At(match t.duration_since(UNIX_EPOCH) {
            Ok(d) => Time { secs: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), nanos: d.subsec_nanos() },
            Err(before) => {
                let d = before.duration();
                Time { secs: i64::try_from(d.as_secs()).map_or(i64::MIN, |s| -s), nanos: d.subsec_nanos() }
            }
        }),
    }
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

    #[test]
    fn times_before_1970_are_shown_as_they_are() {
        let t = system_time(Time { secs: -2, nanos: 250_000_000 });
        assert_eq!(UNIX_EPOCH.duration_since(t).unwrap(), Duration::from_millis(1750));
    }
}
