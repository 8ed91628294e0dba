//! Runs operations of the core in this process, so that callgrind can count their instructions: a figure without noise. Each is
//! run for N files; `scripts/bench instructions` runs it for two N and divides the difference.
//!
//! `instructions DIR OPERATION N`: OPERATION is one of `lookup`, `miss`, `getattr`, `read`, `create`,
//! `forget`, over directory layers; `fill` makes these.

use std::path::Path;
use std::sync::Arc;

use micafs::layer::Layer;
use micafs::layer::dir::DirLayer;
use micafs::layer::handle::FdCache;
use micafs::path::Name;
use micafs::union::Caller;
use micafs::union::MakeKind;
use micafs::union::Options;
use micafs::union::Union;
use micafs::union::node::Node;
use micafs::union::node::ROOT;
use micafs::union::stack::Stack;
use micafs::union::work::Upper;

/// How many files there are in each layer.
const FILES: usize = 2000;
/// How many layers.
const LAYERS: usize = 10;

fn name(i: usize) -> String {
    format!("file-{i:05}")
}

fn union(dir: &Path) -> Union {
    let fds = FdCache::new(64);
    let open = |layer: usize| -> Arc<dyn Layer> {
        Arc::new(DirLayer::open(&dir.join(format!("layer{layer}")), fds.clone()).unwrap())
    };
    let layers = (0..LAYERS).map(open).collect();
    let upper = Upper::open(&dir.join("upper"), &dir.join("work"), fds.clone(), true).unwrap();
    let union = Union::new(Stack::new(Some(upper), layers).unwrap(), Options::default()).unwrap();
    union.stop_counting_handles(64);
    union
}

/// The files lie in the lowest layer; the others have the directory, too.
fn fill(dir: &Path) {
    for layer in 0..LAYERS {
        std::fs::create_dir_all(dir.join(format!("layer{layer}/d"))).unwrap();
    }
    for name in ["upper", "work"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    for i in 0..FILES {
        std::fs::write(dir.join(format!("layer{}/d/{}", LAYERS - 1, name(i))), "text").unwrap();
    }
}

fn look(union: &Union, parent: &Arc<Node>, name: &str) -> Option<Arc<Node>> {
    Some(union.lookup(parent, Name::new(name.as_bytes()).unwrap()).unwrap()?.node)
}

fn run(union: &Union, operation: &str, count: usize) {
    let parent = look(union, &union.node(ROOT).unwrap(), "d").unwrap();
    // What is learnt of the directory once.
    (0..200).for_each(|i| drop(look(union, &parent, &format!("none{i}"))));
    let names: Vec<String> = (0..count).map(name).collect();
    let new: Vec<String> = (0..count).map(|i| format!("new-{i:05}")).collect();
    let mut buf = vec![0; 4096];
    match operation {
        "none" => {}
        "miss" => new.iter().for_each(|name| assert!(look(union, &parent, name).is_none())),
        "create" => {
            for name in &new {
                let name = Name::new(name.as_bytes()).unwrap();
                union.make(&parent, name, MakeKind::File, 0o644, Caller::default(), false).unwrap();
            }
        }
        _ => {
            let nodes: Vec<_> = names.iter().map(|name| look(union, &parent, name).unwrap()).collect();
            match operation {
                "getattr" => nodes.iter().for_each(|node| {
                    union.getattr(node).unwrap();
                }),
                "read" => nodes.iter().for_each(|node| assert_eq!(union.read(node, &mut buf, 0).unwrap(), 4)),
                "forget" => {
                    let inos: Vec<u64> = nodes.iter().map(|node| node.ino).collect();
                    drop(nodes);
                    inos.iter().for_each(|ino| union.forget(*ino, 1));
                }
                _ => assert_eq!(operation, "lookup"),
            }
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, dir, operation, count] = args.as_slice() else {
        // Without arguments, as `cargo bench` starts it, there is nothing to do.
        return;
    };
    let dir = Path::new(dir);
    if operation == "fill" {
        return fill(dir);
    }
    run(&union(dir), operation, count.parse().unwrap());
}
