//! Capabilities: what a process may do although it is not, or although it is, root.

use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;

/// A set of capabilities, one bit for each number of `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set(u64);

impl Set {
    /// What docker and podman leave to a container's root: 14 capabilities, none of which reaches outside its
    /// namespaces.
    pub const CONTAINER: Self = Self(
        CapabilitySet::CHOWN.bits()
            | CapabilitySet::DAC_OVERRIDE.bits()
            | CapabilitySet::FSETID.bits()
            | CapabilitySet::FOWNER.bits()
            | CapabilitySet::MKNOD.bits()
            | CapabilitySet::NET_RAW.bits()
            | CapabilitySet::SETGID.bits()
            | CapabilitySet::SETUID.bits()
            | CapabilitySet::SETFCAP.bits()
            | CapabilitySet::SETPCAP.bits()
            | CapabilitySet::NET_BIND_SERVICE.bits()
            | CapabilitySet::SYS_CHROOT.bits()
            | CapabilitySet::KILL.bits()
            | CapabilitySet::AUDIT_WRITE.bits(),
    );

    /// The bits of the set.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// Whether this process may make mounts: it has `CAP_SYS_ADMIN` over the system or in a user namespace of its own.
pub fn may_mount() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Whether this process has `CAP_SYS_ADMIN` over the system, not only in a user namespace of its own.
pub fn administers_the_system() -> bool {
    let has = rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    // A kernel without user namespaces has no such file.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_else(|_| "0 0 4294967295".to_owned());
    has && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Limits this process and everything it will execute to `allowed`, of what it has: bounding, permitted and effective
/// sets; the inheritable and ambient sets become empty.
///
/// # Errors
/// The kernel's; `EPERM` without `CAP_SETPCAP`.
pub fn limit(allowed: Set) -> Result<()> {
    gate::pass("capset", || format!("{:#x}", allowed.0))?;
    drop_bounding(allowed)?;
    match rustix::thread::clear_ambient_capability_set() {
        // Linux before 4.3 has no ambient set.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(e) => return Err(Error::new("prctl", "PR_CAP_AMBIENT_CLEAR_ALL", e)),
    }
    let have = rustix::thread::capabilities(None).map_err(|e| Error::bare("capget", e))?;
    let allowed = CapabilitySet::from_bits_retain(allowed.0);
    let left = have.permitted & allowed;
    let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(|e| Error::new("capset", format!("{left:?}"), e))
}

fn drop_bounding(allowed: Set) -> Result<()> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(one) {
            Ok(true) if allowed.0 & one.bits() == 0 => rustix::thread::remove_capability_from_bounding_set(one)
                .map_err(|e| Error::new("prctl", format!("PR_CAPBSET_DROP, {number}"), e))?,
            Ok(_) => {}
            // The first number that this kernel does not know.
            Err(Errno::INVAL) => break,
            Err(e) => return Err(Error::new("prctl", format!("PR_CAPBSET_READ, {number}"), e)),
        }
    }
    Ok(())
}
