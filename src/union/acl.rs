//! Default ACLs: what something new inherits where it is built outside its directory, so that the kernel cannot see to it.
//!
//! Source: `acl(5)`, "Object creation and default ACLs"; the stored form is the kernel's `posix_acl_xattr.h`, version 2.

/// The ACL that decides about access.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The ACL that new objects in a directory inherit.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const HEADER: usize = 4;
const ENTRY: usize = 8;
const USER_OBJ: u16 = 1;
const GROUP_OBJ: u16 = 4;
const MASK: u16 = 16;
const OTHER: u16 = 32;

/// The access ACL and the permission bits of something made with `mode` under the default ACL `acl`; `None` for one that is not
/// in the stored form.
pub(super) fn inherit(acl: &[u8], mode: u32) -> Option<(Vec<u8>, u32)> {
    let mut out = acl.to_vec();
    let (header, entries) = out.split_at_mut_checked(HEADER)?;
    if header != 2u32.to_le_bytes() || entries.len() % ENTRY != 0 {
        return None;
    }
    let tag = |entry: &[u8]| Some(u16::from_le_bytes([*entry.first()?, *entry.get(1)?]));
    // With a mask the group bits of the mode are the mask's.
    let group = if entries.chunks(ENTRY).any(|e| tag(e) == Some(MASK)) { MASK } else { GROUP_OBJ };
    let mut bits = 0;
    for entry in entries.chunks_mut(ENTRY) {
        let shift = match tag(entry)? {
            USER_OBJ => 6,
            OTHER => 0,
            t if t == group => 3,
            _ => continue,
        };
        let perm = entry.get_mut(2)?;
        *perm &= u8::try_from(mode >> shift & 7).ok()?;
        bits |= u32::from(*perm) << shift;
    }
    Some((out, mode & !0o777 | bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let entries =
            entries.iter().flat_map(|(tag, perm)| [tag.to_le_bytes(), perm.to_le_bytes(), [255; 2], [255; 2]].concat());
        2u32.to_le_bytes().into_iter().chain(entries).collect()
    }

    #[test]
    fn the_mode_cuts_the_classes() {
        let default = acl(&[(1, 7), (2, 7), (4, 5), (16, 7), (32, 5)]);
        let (access, mode) = inherit(&default, 0o4640).unwrap();
        assert_eq!(access, acl(&[(1, 6), (2, 7), (4, 5), (16, 4), (32, 0)]));
        assert_eq!(mode, 0o4640);
        let (access, mode) = inherit(&acl(&[(1, 7), (4, 5), (32, 1)]), 0o666).unwrap();
        assert_eq!((access, mode), (acl(&[(1, 6), (4, 4), (32, 0)]), 0o640));
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        for bad in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01"] {
            assert_eq!(inherit(bad, 0o644), None, "{bad:?}");
        }
    }
}
