//! Owners on disk and as shown: pure, no I/O.
//!
//! As fuse-overlayfs has it, which containers/storage relies on: a mapping is a list of triples `host:to:len`; `host + i` on disk is
//! shown as `to + i`. Of triples that overlap the last one given wins; a number that none covers is the overflow number. Squashing
//! changes only what is shown, and comes before the mapping: a number for users or groups alone first, then root for both.
//!
//! POSIX ACLs name users and groups, too: [`Ids::acl_shown`] and [`Ids::acl_stored`] translate the numbers in their stored form
//! (the kernel's `struct posix_acl_xattr_entry`: tag, permissions, number, little-endian).

/// What stands for a number that a mapping does not cover; the kernel's default of `/proc/sys/kernel/overflowuid`.
pub const OVERFLOW: u32 = 65_534;

/// `disk + i` on disk is shown as `shown + i`, for `i < len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first number on disk.
    pub disk: u32,
    /// The first number shown.
    pub shown: u32,
    /// How many.
    pub len: u32,
}

/// The numbers of users, or of groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map {
    ranges: Vec<Range>,
    squash: Option<u32>,
}

impl Map {
    /// `ranges` as given, none: numbers stay as they are. `squash`: the one number that is shown, whatever is on disk.
    pub fn new(ranges: Vec<Range>, squash: Option<u32>) -> Self {
        Self { ranges, squash }
    }

    /// Whether every number stays as it is.
    pub fn is_identity(&self) -> bool {
        self.ranges.is_empty() && self.squash.is_none()
    }

    /// What is shown for a number on disk.
    pub fn shown(&self, disk: u32) -> u32 {
        self.squash.unwrap_or_else(|| self.find(disk, |r| (r.disk, r.shown)))
    }

    /// What is stored for a number that a user of the mount gives.
    pub fn stored(&self, shown: u32) -> u32 {
        self.find(shown, |r| (r.shown, r.disk))
    }

    fn find(&self, id: u32, sides: impl Fn(&Range) -> (u32, u32)) -> u32 {
        if self.ranges.is_empty() {
            return id;
        }
        let hit = self.ranges.iter().rev().find_map(|r| {
            let (from, to) = sides(r);
            id.checked_sub(from).filter(|&i| i < r.len).and_then(|i| to.checked_add(i))
        });
        hit.unwrap_or(OVERFLOW)
    }
}

/// How a mount shows owners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    users: Map,
    groups: Map,
}

/// Bytes of an ACL in front of its entries: the version.
const ACL_HEADER: usize = 4;
/// `ACL_USER` and `ACL_GROUP`: the tags of the entries that carry a number.
const ACL_USER: [u8; 2] = [0x02, 0];
const ACL_GROUP: [u8; 2] = [0x08, 0];

/// Whether an attribute holds a POSIX ACL.
pub fn is_acl(xattr: &[u8]) -> bool {
    xattr == b"system.posix_acl_access" || xattr == b"system.posix_acl_default"
}

impl Ids {
    /// Users and groups; `squash_to_root` shows root where no other number was chosen.
    pub fn new(mut users: Map, mut groups: Map, squash_to_root: bool) -> Self {
        if squash_to_root {
            users.squash.get_or_insert(0);
            groups.squash.get_or_insert(0);
        }
        Self { users, groups }
    }

    /// Whether everything is shown as it is on disk.
    pub fn is_identity(&self) -> bool {
        self.users.is_identity() && self.groups.is_identity()
    }

    /// Whether owners are shown that nobody chose: then a change of owner that the filesystem refuses is no error, as it could
    /// not be seen anyway.
    pub fn is_squashing(&self) -> bool {
        self.users.squash.is_some() || self.groups.squash.is_some()
    }

    /// The owner and group that are shown for those on disk.
    pub fn shown(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        (self.users.shown(uid), self.groups.shown(gid))
    }

    /// The owner and group that are stored for those that a user of the mount gives.
    pub fn stored(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        (self.users.stored(uid), self.groups.stored(gid))
    }

    /// The user alone, as [`Ids::stored`].
    pub fn stored_user(&self, uid: u32) -> u32 {
        self.users.stored(uid)
    }

    /// The group alone, as [`Ids::stored`].
    pub fn stored_group(&self, gid: u32) -> u32 {
        self.groups.stored(gid)
    }

    /// An ACL on disk as it is shown. Bytes that are no whole entry stay as they are.
    pub fn acl_shown(&self, acl: &mut [u8]) {
        translate(acl, |id| self.users.shown(id), |id| self.groups.shown(id));
    }

    /// An ACL that a user of the mount sets, as it is stored.
    pub fn acl_stored(&self, acl: &mut [u8]) {
        translate(acl, |id| self.users.stored(id), |id| self.groups.stored(id));
    }
}

fn translate(acl: &mut [u8], user: impl Fn(u32) -> u32, group: impl Fn(u32) -> u32) {
    let entries = acl.get_mut(ACL_HEADER..).unwrap_or_default();
    for [t0, t1, _, _, id @ ..] in entries.as_chunks_mut::<8>().0 {
        let number = u32::from_le_bytes(*id);
        match [*t0, *t1] {
            ACL_USER => *id = user(number).to_le_bytes(),
            ACL_GROUP => *id = group(number).to_le_bytes(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(disk: u32, shown: u32, len: u32) -> Range {
        Range { disk, shown, len }
    }

    #[test]
    fn numbers_there_and_back() {
        let two = || vec![range(1000, 0, 1), range(100_000, 1, 65_536)];
        // Ranges, number on disk, number shown.
        let table = [
            (vec![], 7, 7),
            (two(), 1000, 0),
            (two(), 100_000, 1),
            (two(), 165_535, 65_536),
            (vec![range(u32::MAX - 1, 5, 2)], u32::MAX, 6),
            (vec![range(0, 0, u32::MAX)], 12, 12),
        ];
        for (ranges, disk, shown) in table {
            let map = Map::new(ranges, None);
            assert_eq!(map.shown(disk), shown, "{map:?}");
            assert_eq!(map.stored(shown), disk, "{map:?}");
        }
    }

    #[test]
    fn a_number_outside_is_the_overflow_number() {
        let map = Map::new(vec![range(1000, 0, 10), range(5000, 50, 1)], None);
        for outside in [0, 999, 1010, 5001, u32::MAX] {
            assert_eq!(map.shown(outside), OVERFLOW, "{outside}");
        }
        for outside in [10, 49, 51, 1000, u32::MAX] {
            assert_eq!(map.stored(outside), OVERFLOW, "{outside}");
        }
    }

    #[test]
    fn the_last_of_overlapping_ranges_wins() {
        let map = Map::new(vec![range(0, 100, 10), range(5, 200, 1)], None);
        assert_eq!([4, 5, 6].map(|id| map.shown(id)), [104, 200, 106]);
        // Both numbers shown lead to the same number on disk.
        assert_eq!([105, 200].map(|id| map.stored(id)), [5, 5]);
        let map = Map::new(vec![range(1, 7, 1), range(2, 7, 1)], None);
        assert_eq!(map.stored(7), 2);
    }

    #[test]
    fn squashing_is_for_showing_and_the_particular_comes_first() {
        let ids = |uid, gid, root| Ids::new(Map::new(vec![range(1000, 0, 10)], uid), Map::new(Vec::new(), gid), root);
        assert_eq!(ids(None, None, false).shown((1001, 3)), (1, 3));
        assert_eq!(ids(None, None, true).shown((1001, 3)), (0, 0));
        assert_eq!(ids(Some(44), None, true).shown((1001, 3)), (44, 0));
        assert_eq!(ids(Some(44), Some(55), false).shown((1001, 3)), (44, 55));
        assert_eq!(ids(Some(44), Some(55), true).stored((1, 3)), (1001, 3));
        assert!(!ids(None, None, false).is_squashing() && ids(None, Some(1), false).is_squashing());
        assert!(Ids::default().is_identity() && !ids(None, None, false).is_identity());
    }

    #[test]
    fn acls_carry_numbers_of_named_users_and_groups_only() {
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &6u16.to_le_bytes(), &id.to_le_bytes()].concat();
        let acl = |user, group| {
            [2u32.to_le_bytes().to_vec(), entry(1, u32::MAX), entry(2, user), entry(8, group), entry(0x20, u32::MAX)]
                .concat()
        };
        let map = || Map::new(vec![range(1000, 0, 10)], None);
        let ids = Ids::new(map(), map(), false);
        let mut bytes = acl(1003, 7);
        ids.acl_shown(&mut bytes);
        assert_eq!(bytes, acl(3, OVERFLOW));
        ids.acl_stored(&mut bytes);
        assert_eq!(bytes, acl(1003, OVERFLOW));
        for torn in [&b""[..], b"\x02", b"\x02\0\0\0\x02\0\x06"] {
            let mut bytes = torn.to_vec();
            ids.acl_shown(&mut bytes);
            assert_eq!(bytes, torn);
        }
    }
}
