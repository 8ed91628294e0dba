//! Taking a mount of mica away.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Error;
use super::error::Result;
use super::fusermount;
use super::table;
use crate::sys;
use crate::sys::Errno;
use crate::sys::mount as calls;
use crate::sys::mount::Detach;

/// Takes away the mount of mica at `path`, and returns its place. With [`Detach::IfIdle`] everything written is with the daemon
/// when this returns, and the daemon ends by itself.
///
/// # Errors
/// [`Error::NotMounted`], [`Error::NotMica`], [`Error::Busy`]; else the kernel's or fusermount's.
pub fn umount(path: &Path, how: Detach) -> Result<PathBuf> {
    let place = table::place(path)?;
    let entries = table::read()?;
    let entry = table::topmost(&entries, &place).ok_or_else(|| Error::NotMounted(place.clone()))?;
    if !entry.is_union() {
        let kind = String::from_utf8_lossy(&entry.kind).into_owned();
        return Err(Error::NotMica { target: place, kind });
    }
    by_any_means(&place, how)?;
    Ok(place)
}

/// Takes away the topmost mount at `target`, whatever it is: by the kernel, or by fusermount where that is not allowed.
///
/// # Errors
/// [`Error::Busy`] with [`Detach::IfIdle`]; [`Error::NotMounted`], also when somebody else takes it away at the same moment; else the
/// kernel's or fusermount's.
pub fn by_any_means(target: &Path, how: Detach) -> Result<()> {
    let taken = match patiently(|| calls::detach(target, how)) {
        Ok(()) => return Ok(()),
        Err(e) if e.errno() == Errno::BUSY => return Err(Error::Busy(target.to_owned())),
        Err(e) if e.errno() == Errno::PERM => fusermount::unmount(target, how == Detach::Lazy)
            .and_then(|done| if done { Ok(()) } else { Err(Error::Refused(e)) }),
        Err(e) => Err(e.into()),
    };
    match taken {
        Err(_) if table::read().is_ok_and(|entries| table::topmost(&entries, target).is_none()) => {
            Err(Error::NotMounted(target.to_owned()))
        }
        other => other,
    }
}

/// How often, and after how long, a mount that is busy is tried again.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Who only looks at a mount (another command that asks what is mounted there) holds it for a moment, and no longer.
fn patiently(detach: impl Fn() -> sys::Result<()>) -> sys::Result<()> {
    for _ in 1..TRIES {
        match detach() {
            Err(e) if e.errno() == Errno::BUSY => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    detach()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_mount_that_is_busy_for_a_moment_is_taken_away() {
        let busy = || Err(sys::Error::bare("umount", Errno::BUSY));
        let asked = Cell::new(0);
        let soon_free = || {
            asked.set(asked.get() + 1);
            if asked.get() < 4 { busy() } else { Ok(()) }
        };
        assert_eq!(patiently(soon_free), Ok(()));
        assert_eq!(asked.get(), 4);
        assert_eq!(patiently(busy).unwrap_err().errno(), Errno::BUSY, "not for ever");
        let asked = Cell::new(0);
        let refused = || {
            asked.set(asked.get() + 1);
            Err(sys::Error::bare("umount", Errno::PERM))
        };
        assert_eq!(patiently(refused).unwrap_err().errno(), Errno::PERM);
        assert_eq!(asked.get(), 1, "only who is busy is asked again");
    }

    /// As for who finds a mount in the table that another process takes away before he can.
    #[test]
    fn what_another_one_took_away_is_not_mounted() {
        let dir = std::env::temp_dir();
        let name = dir.join(format!("mica-umount-{}", std::process::id()));
        std::fs::create_dir(&name).unwrap();
        let taken = by_any_means(&name, Detach::Lazy);
        std::fs::remove_dir(&name).unwrap();
        match taken {
            Err(Error::NotMounted(place)) => assert_eq!(place, name),
            other => panic!("{other:?}"),
        }
    }
}
