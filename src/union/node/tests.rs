use super::super::Options;
use super::super::Union;
use super::super::manners::Manners;
use super::super::stack::Stack;
use super::super::testing::Area;
use super::*;
use crate::digest::Digest;
use crate::layer::Layer;
use crate::layer::pack;
use crate::path::RelPath;
use crate::sys::counted;

/// The bar: bytes for each inode that the kernel knows, beyond its name.
const MOST: isize = 200;
const DIRS: usize = 100;
const FILES: usize = 100;

fn name(i: usize) -> String {
    format!("file-{i:07}")
}

fn look(union: &Union, parent: &Arc<Node>, name: &str) -> Arc<Node> {
    union.lookup(parent, Name::new(name.as_bytes()).unwrap()).unwrap().unwrap().node
}

/// Looks up everything there is as the kernel does in a `find`, and forgets it; the bytes for each inode meanwhile.
fn measure(union: &Union) -> isize {
    let root = union.node(ROOT).unwrap();
    // What is set up once, by the first lookup.
    let first = look(union, &root, "d0");
    union.forget(first.ino, 1);
    drop(first);
    let (before, mut known) = (counted::held(), Vec::with_capacity(DIRS * (FILES + 1)));
    let own = counted::held() - before;
    let mut names = 0;
    for d in 0..DIRS {
        let dir = look(union, &root, &format!("d{d}"));
        for f in 0..FILES {
            let name = name(f);
            names += name.len() as isize;
            known.push(look(union, &dir, &name).ino);
        }
        known.push(dir.ino);
    }
    let each = (counted::held() - before - own - names) / known.len() as isize;
    assert_eq!(union.table().len(), known.len() + 1);
    for ino in &known {
        union.forget(*ino, 1);
    }
    union.table().collect();
    assert_eq!(union.table().len(), 1);
    let left = counted::held() - before - own;
    // The table's shards keep a few places each.
    assert!(left < 32 * 1024, "{left} bytes are not given back");
    assert!(each <= MOST, "{each} bytes for each inode");
    each
}

#[test]
fn an_inode_costs_at_most_200_bytes_beyond_its_name() {
    let area = Area::new();
    for d in 0..DIRS {
        (0..FILES).for_each(|f| area.put(&format!("low/d{d}/{}", name(f)), ""));
    }
    let on_disk = measure(&area.union(Manners::default()));
    println!("in a directory layer: {on_disk} bytes for each inode");
    std::fs::rename(area.at("low"), area.at("kept")).unwrap();
    std::fs::create_dir(area.at("low")).unwrap();
    std::fs::remove_dir(area.at("upper")).unwrap();
    std::fs::rename(area.at("kept"), area.at("upper")).unwrap();
    let in_upper = measure(&area.union(Manners::default()));
    println!("in upper: {in_upper} bytes for each inode");
}

#[test]
fn an_inode_of_a_pack_costs_at_most_200_bytes_beyond_its_name() {
    let scratch = pack::testing::Scratch::new();
    let store = scratch.store();
    let writer = store.writer().unwrap();
    let mut tree = pack::Tree::new(pack::TreeLimits { steps: u64::MAX, nodes: u64::MAX, depth: 100, path: 4096 });
    for d in 0..DIRS {
        for f in 0..FILES {
            let path = RelPath::parse(format!("d{d}/{}", name(f)).as_bytes()).unwrap();
            let item = pack::TreeItem::Symlink(b"text"[..].into());
            tree.add(&path, pack::Attrs::default(), item).unwrap();
        }
    }
    let prepared = writer.finish(Digest::of(b""), &tree).unwrap();
    store.publish(vec![prepared]).unwrap();
    let layer: Arc<dyn Layer> = Arc::new(store.open(&Digest::of(b"")).unwrap());
    let union = Union::new(Stack::new(None, vec![layer]).unwrap(), Options::default()).unwrap();
    let each = measure(&union);
    println!("in a pack: {each} bytes for each inode");
}

#[test]
fn a_node_with_references_without_number_stays() {
    let table = Table::default();
    let node = table.intern(7, |_| true, || Node::new(7, Kind::Fifo, None, upper(7))).unwrap();
    node.lookups.store(u32::MAX - 1, Ordering::Relaxed);
    (0..3).for_each(|_| drop(table.intern(7, |_| true, || unreachable!())));
    drop(node);
    table.forget(7, u64::MAX);
    assert_eq!(table.len(), 1, "nobody knows any more how many there are");
}

/// A node that goes takes its numbers with it; one of the same object that comes at this moment keeps them.
#[test]
fn an_object_that_is_forgotten_and_looked_up_side_by_side_has_one_node() {
    let (table, id) = (Table::default(), ObjectId { dev: 1, ino: 9 });
    let same = |node: &Node| node.upper_id() == Some(id);
    let look =
        || table.intern_dynamic(None, id, same, |ino| Node::new(ino, Kind::Fifo, None, upper(id.ino))).unwrap().ino;
    let differ = || {
        (0..200_000).any(|_| {
            let first = look();
            let second = look();
            table.forget(first, 1);
            table.forget(second, 1);
            first != second
        })
    };
    let differed = std::thread::scope(|scope| {
        let others = [scope.spawn(differ), scope.spawn(differ), scope.spawn(differ)];
        others.map(|other| other.join().unwrap())
    });
    assert_eq!(differed, [false; 3]);
    table.collect();
    assert_eq!(table.len(), 0);
    assert!(table.dynamic.lock().numbers.is_empty() && table.dynamic.lock().objects.is_empty());
}

fn upper(ino: u64) -> Real {
    Real::Upper { id: ObjectId { dev: 1, ino }, held: None }
}
