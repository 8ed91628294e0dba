use super::*;
use crate::union::manners::Manners;
use crate::union::testing::Area;
use crate::union::testing::find;

#[test]
fn an_index_names_the_directories_in_order() {
    let name = |text: &'static str| Name::new(text.as_bytes()).unwrap();
    let mut pairs = vec![(hash(name("a")), 3), (hash(name("a")), 7), (hash(name("b")), 0)];
    pairs.sort_unstable();
    let index = Index(pairs.into());
    assert_eq!(index.next(name("a"), 0), Some(3));
    assert_eq!(index.next(name("a"), 4), Some(7));
    assert_eq!(index.next(name("a"), 8), None);
    assert_eq!(index.next(name("b"), 0), Some(0));
    assert_eq!(index.next(name("c"), 0), None);
}

fn knows_names(union: &crate::union::Union) -> bool {
    union.root_dirs().unwrap().lowers.index().is_some()
}

#[test]
fn after_many_misses_the_names_are_known_and_all_are_still_found() {
    let area = Area::new();
    (0..20).for_each(|i| area.put(&format!("low/f{i}"), "x"));
    let union = area.union(Manners::default());
    (0..2 * PATIENCE).for_each(|i| assert!(find(&union, &format!("none{i}")).is_none()));
    assert!(knows_names(&union), "on this filesystem names are listed as they are found");
    (0..20).for_each(|i| assert!(find(&union, &format!("f{i}")).is_some()));
    // A refresh after a change from outside finds the new name.
    area.put("low/late", "x");
    assert!(find(&union, "late").is_none());
    union.refresh(&union.node(crate::union::node::ROOT).unwrap(), &mut Vec::new()).unwrap();
    assert!(find(&union, "late").is_some());
}

#[test]
fn where_layers_change_at_any_time_nothing_is_remembered() {
    let area = Area::new();
    let union = area.union(Manners { unsteady: true, ..Manners::default() });
    (0..2 * PATIENCE).for_each(|i| assert!(find(&union, &format!("none{i}")).is_none()));
    assert!(!knows_names(&union));
    area.put("low/late", "x");
    assert!(find(&union, "late").is_some());
}
