//! In which order a program goes through a directory.

use crate::sys::attr::Kind;
use crate::union::readdir::ListEntry;

/// How many files may lie between two that are read one behind the other: a program that goes through a directory leaves some out.
const SKIPPED: usize = 8;

/// An order of the files of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// That of the listing: `grep -r`, `cp -a`.
    Listed,
    /// By name: a shell's `*`, rsync, git.
    Named,
    /// By number, as it means less seeking on a disk: tar.
    Numbered,
}

/// All of them; the likeliest first.
pub(super) const ORDERS: [Order; 3] = [Order::Listed, Order::Named, Order::Numbered];

/// What a listing has of a kind, in an order.
pub(super) fn of_kind(entries: &[ListEntry], kind: Kind, order: Order) -> Vec<&ListEntry> {
    let mut found: Vec<&ListEntry> = entries.iter().filter(|entry| entry.kind == kind).collect();
    match order {
        Order::Listed => {}
        Order::Named => found.sort_unstable_by(|a, b| a.name.as_name().cmp(&b.name.as_name())),
        Order::Numbered => found.sort_unstable_by_key(|entry| entry.ino),
    }
    found
}

/// The order in which files with the numbers `recent` were read one behind the other, if there is one.
pub(super) fn of(entries: &[ListEntry], recent: &[u64]) -> Option<Order> {
    ORDERS.into_iter().find(|order| {
        let files = of_kind(entries, Kind::File, *order);
        let places = recent.iter().map(|ino| files.iter().position(|entry| entry.ino == *ino));
        let Some(places) = places.collect::<Option<Vec<usize>>>() else { return false };
        places.windows(2).all(|pair| match pair {
            [before, behind] => (before + 1..=before + 1 + SKIPPED).contains(behind),
            _ => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Name;

    /// Names in the order of the listing, with their numbers.
    fn listing(names: &[(&str, u64, Kind)]) -> Vec<ListEntry> {
        let entry = |(cookie, (name, ino, kind)): (usize, &(&str, u64, Kind))| ListEntry {
            name: Name::new(name.as_bytes()).unwrap().to_buf(),
            ino: *ino,
            kind: *kind,
            cookie: cookie as u64 + 3,
        };
        names.iter().enumerate().map(entry).collect()
    }

    fn mixed() -> Vec<ListEntry> {
        let f = Kind::File;
        listing(&[("d", 50, f), ("a", 40, f), ("sub", 1, Kind::Dir), ("c", 10, f), ("b", 30, f), ("e", 20, f)])
    }

    #[test]
    fn each_order_is_told_from_the_others() {
        let entries = mixed();
        assert_eq!(of(&entries, &[50, 40, 10, 30]), Some(Order::Listed));
        assert_eq!(of(&entries, &[40, 30, 10, 50]), Some(Order::Named));
        assert_eq!(of(&entries, &[10, 20, 30, 40]), Some(Order::Numbered));
    }

    #[test]
    fn who_jumps_about_or_reads_one_file_again_has_none() {
        let entries = mixed();
        assert_eq!(of(&entries, &[20, 50, 10, 40]), None);
        assert_eq!(of(&entries, &[40, 40, 40, 40]), None);
        assert_eq!(of(&entries, &[40, 30, 99, 50]), None, "a file that is not listed");
        assert_eq!(of(&entries, &[40, 30, 1, 50]), None, "a directory");
    }

    #[test]
    fn some_files_may_be_left_out_but_not_many() {
        let names: Vec<String> = (0..40).map(|n| format!("f{n:02}")).collect();
        let named: Vec<_> = names.iter().zip(100..).map(|(name, ino)| (name.as_str(), ino, Kind::File)).collect();
        let entries = listing(&named);
        assert_eq!(of(&entries, &[100, 103, 112, 113]), Some(Order::Listed));
        assert_eq!(of(&entries, &[100, 110, 111, 112]), None);
    }

    #[test]
    fn only_regular_files_are_in_an_order() {
        let names =
            |order| -> Vec<u64> { of_kind(&mixed(), Kind::File, order).iter().map(|entry| entry.ino).collect() };
        assert_eq!(names(Order::Listed), [50, 40, 10, 30, 20]);
        assert_eq!(names(Order::Named), [40, 30, 10, 50, 20]);
        assert_eq!(names(Order::Numbered), [10, 20, 30, 40, 50]);
    }
}
