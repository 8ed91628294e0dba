use std::sync::Arc;

use crate::path::Name;
use crate::union::Union;
use crate::union::manners::Manners;
use crate::union::node;
use crate::union::node::Node;
use crate::union::testing::Area;
use crate::union::testing::find;

fn read(union: &Union, node: &Arc<Node>) -> Vec<u8> {
    let mut buf = vec![0; 4096];
    let n = union.read(node, &mut buf, 0).unwrap();
    buf[..n].to_vec()
}

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

/// Half of the files are written, all are read, more than may stay open; then some lose their names.
#[test]
fn so_many_files_stay_open_and_no_more() {
    let area = Area::new();
    (0..60).for_each(|i| area.put(&format!("low/f{i}"), &format!("text {i}")));
    let union = area.union(Manners::default());
    union.stop_counting_handles(8);
    let nodes: Vec<_> = (0..60).map(|i| find(&union, &format!("f{i}")).unwrap()).collect();
    let open = || nodes.iter().filter(|node| node.body.read().rare().io.is_some()).count();
    for (i, node) in nodes.iter().enumerate() {
        assert_eq!(read(&union, node), format!("text {i}").into_bytes());
        if i % 2 == 0 {
            assert_eq!(union.write_unopened(node, b"TEXT", 0, false).unwrap(), 4);
        }
        assert!(open() <= 8, "{} open", open());
    }
    let root = union.node(node::ROOT).unwrap();
    (0..10).for_each(|i| union.unlink(&root, name(&format!("f{i}"))).unwrap());
    for (i, node) in nodes.iter().enumerate() {
        let word = if i % 2 == 0 { "TEXT" } else { "text" };
        assert_eq!(read(&union, node), format!("{word} {i}").into_bytes(), "file {i}");
        // Also one that was never written before it lost its name.
        union.write_unopened(node, b"last", 0, false).unwrap();
        assert_eq!(read(&union, node), format!("last {i}").into_bytes(), "file {i}");
    }
    assert!(open() <= 8, "{} open", open());
    assert!(!area.at("upper/f3").is_file(), "a file without a name is none in upper");
}

#[test]
fn reading_and_closing_copy_nothing_up_and_a_reader_sees_what_is_written() {
    let area = Area::new();
    area.put("low/f", "lower");
    let union = area.union(Manners::default());
    union.stop_counting_handles(8);
    let node = find(&union, "f").unwrap();
    assert_eq!(read(&union, &node), b"lower");
    assert!(!area.at("upper/f").exists());
    union.write_unopened(&node, b"upper", 0, false).unwrap();
    assert_eq!(read(&union, &node), b"upper");
    assert_eq!(std::fs::read(area.at("low/f")).unwrap(), b"lower");
    // What the kernel says of a handle from before it knew does no harm.
    union.release(&node);
    assert_eq!(read(&union, &node), b"upper");
}
