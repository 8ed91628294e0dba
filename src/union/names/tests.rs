use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::sys::gate;
use crate::union::manners::Manners;
use crate::union::rename::RenameFlags;
use crate::union::testing::Area;
use crate::union::testing::find;

/// The system calls of `body`, by name.
fn calls(body: impl FnOnce()) -> Vec<&'static str> {
    let made = Rc::new(RefCell::new(Vec::new()));
    let noted = made.clone();
    let hook = move |call: &gate::Call<'_>| {
        noted.borrow_mut().push(call.name);
        None
    };
    gate::with_hook_on_all(hook, body);
    made.take()
}

const ROOT: Caller = Caller { uid: 0, gid: 0, umask: 0o022 };

/// What one request costs below the union. A job makes hundreds of thousands of them, so each call more shows in it.
#[test]
fn each_operation_makes_few_system_calls() {
    let area = Area::new();
    area.put("low/usr/share/text", "x");
    area.put("low/usr/share/other", "y");
    let union = area.union(Manners::default());
    let name = |text: &'static str| Name::new(text.as_bytes()).unwrap();
    let look = |at: &Arc<Node>, text| union.lookup(at, name(text)).unwrap();
    let usr = find(&union, "usr").unwrap();
    let mut wrong = Vec::new();
    let mut at_most = |what: &str, most: usize, body: &mut dyn FnMut()| {
        let made = calls(body);
        eprintln!("{:2} (at most {most}) {what}: {}", made.len(), made.join(" "));
        if made.len() > most {
            wrong.push(format!("{what}: {} > {most}: {}", made.len(), made.join(" ")));
        }
    };
    // One lower layer has nothing below it, so its directories are not asked whether they hide something. That any name there begins with
    // `.wh.` is looked for once.
    at_most("look up a lower directory", 5, &mut || drop(look(&usr, "share")));
    let share = find(&union, "usr/share").unwrap();
    at_most("look up the first lower file of a directory", 3, &mut || drop(look(&share, "text")));
    at_most("look up another", 1, &mut || drop(look(&share, "other")));
    at_most("a miss", 3, &mut || drop(look(&share, "none")));
    let text = find(&union, "usr/share/text").unwrap();
    let mut buf = [0; 16];
    at_most("the first read of a lower file", 3, &mut || assert_eq!(union.read(&text, &mut buf, 0).unwrap(), 1));
    let root = union.node(crate::union::node::ROOT).unwrap();
    let make = |at: &Arc<Node>, text, kind| union.make(at, name(text), kind, 0o755, ROOT, true).unwrap().node;
    make(&root, "top", MakeKind::Dir);
    let top = find(&union, "top").unwrap();
    at_most("make a directory", 6, &mut || drop(make(&top, "d", MakeKind::Dir)));
    let dir = find(&union, "top/d").unwrap();
    at_most("a miss in a new directory", 3, &mut || assert!(look(&dir, "f").is_none()));
    at_most("the first file of a new directory", 4, &mut || drop(make(&dir, "f", MakeKind::File)));
    at_most("another file", 4, &mut || drop(make(&dir, "g", MakeKind::File)));
    let file = find(&union, "top/d/f").unwrap();
    at_most("a second name", 3, &mut || drop(union.link(&file, &dir, name("h")).unwrap()));
    at_most("remove a name", 2, &mut || union.unlink(&dir, name("h")).unwrap());
    at_most("rename", 6, &mut || {
        union.rename(&dir, name("f"), &dir, name("i"), RenameFlags::default()).unwrap();
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whoever looks another name of a file up while one of them goes must not make the count wrong.
#[test]
fn names_are_counted_right_while_others_are_looked_up() {
    let area = Area::new();
    area.put("upper/c/b", "two names");
    let union = area.union(Manners::default());
    let name = |text: &'static str| Name::new(text.as_bytes()).unwrap();
    let [root, c] =
        ["", "c"].map(|path| if path.is_empty() { union.node(1).unwrap() } else { find(&union, path).unwrap() });
    let file = find(&union, "c/b").unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let entry = union.lookup(&c, name("b")).unwrap().unwrap();
                union.forget(entry.node.ino, 1);
            }
        });
        /// Also when something fails.
        struct Done<'a>(&'a std::sync::atomic::AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let _done = Done(&done);
        let mut wrong = Vec::new();
        for round in 0..1000 {
            union.link(&file, &root, name("second")).unwrap();
            if round % 2 == 0 {
                union.unlink(&root, name("second")).unwrap();
            } else {
                union.make(&root, name("new"), MakeKind::File, 0o644, ROOT, false).unwrap();
                union.rename(&root, name("new"), &root, name("second"), RenameFlags::default()).unwrap();
                union.unlink(&root, name("second")).unwrap();
            }
            let links = union.getattr(&file).unwrap().nlink;
            if links != 1 {
                wrong.push((round, links));
                break;
            }
        }
        assert_eq!(wrong, []);
    });
}
