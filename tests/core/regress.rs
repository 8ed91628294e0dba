//! Faults that were found once, each as a short story.

use micafs::layer::Content;
use micafs::layer::Layer;
use micafs::layer::Seen;
use micafs::layer::mem::Entry;
use micafs::layer::mem::MemLayer;
use micafs::layer::mem::Shape;
use micafs::path::Name;
use micafs::sys::Errno;
use micafs::sys::attr::Kind;
use micafs::sys::xattr::SetMode;
use micafs::union::Caller;
use micafs::union::MakeKind;
use micafs::union::Whence;
use micafs::union::node::ROOT;

use crate::client::Client;
use crate::layers::dir;
use crate::layers::entry;
use crate::layers::file;
use crate::layers::rel;
use crate::ops::Flag;
use crate::snap;
use crate::support::report_skip;
use crate::world::Limits;
use crate::world::Scratch;
use crate::world::Setup;

fn client(layers: Vec<Vec<Entry>>, redirect: bool, limits: Limits) -> (Setup, Scratch, Client) {
    let mut setup = Setup::of_dirs(layers);
    (setup.redirect, setup.limits) = (redirect, limits);
    let scratch = Scratch::new();
    setup.write_layers(&scratch);
    let client = Client::new(setup.mount(&scratch));
    (setup, scratch, client)
}

/// The same upper, mounted anew.
fn again(setup: &Setup, scratch: &Scratch, mut client: Client) -> Client {
    client.pins.forget_all(&client.union);
    client.union.table().collect();
    assert_eq!(client.union.table().len(), 1, "nodes are left");
    drop(client);
    Client::new(setup.mount(scratch))
}

macro_rules! needs_root {
    () => {
        if crate::model::skip() {
            return;
        }
    };
}

/// `xattr::list(owned fd)` closed the descriptor before it used its number.
#[test]
fn xattrs_of_a_lower_file_are_read_through_an_open_descriptor() {
    needs_root!();
    let mut e = file("f", "x");
    e.xattrs.push((b"trusted.t".to_vec(), b"v".to_vec()));
    let (_setup, _scratch, mut c) = client(vec![vec![e]], false, Limits::default());
    let node = c.find("f").unwrap();
    assert_eq!(c.union.listxattr(&node).unwrap(), vec![b"trusted.t".to_vec()]);
    assert_eq!(c.union.getxattr(&node, b"trusted.t").unwrap().unwrap(), b"v");
}

/// The node's body was locked over the copy-up that wants to write it.
#[test]
fn copy_up_of_a_directory_does_not_wait_for_itself() {
    needs_root!();
    let (_setup, _scratch, mut c) = client(vec![vec![dir("d"), dir("d/e")]], false, Limits::default());
    c.write("d/e/new", "new").unwrap();
    assert_eq!(c.read("d/e/new").unwrap(), "new");
}

/// A hard-linked lower file has no origin record: its copy was found as another node.
#[test]
fn a_copied_hard_link_stays_one_node() {
    needs_root!();
    let layer = vec![file("a", "old"), entry("b", Shape::Link(rel("a")))];
    let (_setup, _scratch, mut c) = client(vec![layer], false, Limits::default());
    let before = c.find("a").unwrap().ino;
    c.write("a", "new").unwrap();
    assert_eq!(c.find("a").unwrap().ino, before);
    assert_eq!(c.find("b").unwrap().ino, before);
    assert_eq!(c.read("b").unwrap(), "new");
    let listing = c.union.list(&c.union.node(ROOT).unwrap(), 0).unwrap();
    assert!(listing.entries.iter().all(|e| e.ino == before));
}

/// The other lower name of a copied-up file is nothing in upper: renaming it failed with `ENOENT`.
#[test]
fn the_other_name_of_a_copied_hard_link_can_be_renamed() {
    needs_root!();
    let layer = vec![file("a", "old"), entry("b", Shape::Link(rel("a"))), dir("d")];
    let (setup, scratch, mut c) = client(vec![layer], false, Limits::default());
    c.write("a", "new").unwrap();
    c.rename("b", "d/moved", Flag::None).unwrap();
    assert_eq!(c.read("d/moved").unwrap(), "new");
    assert_eq!(c.find("d/moved").unwrap().ino, c.find("a").unwrap().ino);
    let node = c.find("a").unwrap();
    assert_eq!(c.union.getattr(&node).unwrap().nlink, 2);
    drop(node);
    let mut c = again(&setup, &scratch, c);
    assert_eq!(c.find("b").err(), Some(Errno::NOENT));
    assert_eq!(c.read("d/moved").unwrap(), "new");
    assert_eq!(c.find("d/moved").unwrap().ino, c.find("a").unwrap().ino);
}

/// What was written through the second name showed only as long as the first one's copy was known: not after the next mount.
#[test]
fn a_write_through_the_second_name_of_a_copied_hard_link_stays() {
    needs_root!();
    let layer = vec![dir("d"), dir("e"), file("d/a", "old"), entry("e/b", Shape::Link(rel("d/a")))];
    let (setup, scratch, mut c) = client(vec![layer], false, Limits::default());
    c.write("d/a", "one").unwrap();
    c.write("e/b", "two").unwrap();
    assert_eq!(c.read("d/a").unwrap(), "two");
    let node = c.find("d/a").unwrap();
    assert_eq!(c.union.getattr(&node).unwrap().nlink, 2);
    drop(node);
    let mut c = again(&setup, &scratch, c);
    assert_eq!((c.read("d/a").unwrap(), c.read("e/b").unwrap()), ("two".to_owned(), "two".to_owned()));
    assert_eq!(c.find("d/a").unwrap().ino, c.find("e/b").unwrap().ino);
}

/// Both names seen before the copy-up: the copy gets both, and a name that was taken away meanwhile stays away.
#[test]
fn names_of_a_hard_link_that_went_are_not_brought_back() {
    needs_root!();
    let link = |name: &str| entry(name, Shape::Link(rel("a")));
    let (setup, scratch, mut c) = client(vec![vec![file("a", "old"), link("b"), link("c")]], false, Limits::default());
    ["a", "b", "c"].iter().for_each(|name| drop(c.find(name).unwrap()));
    c.unlink("b").unwrap();
    c.write("c", "new").unwrap();
    assert_eq!(c.read("a").unwrap(), "new");
    let mut c = again(&setup, &scratch, c);
    assert_eq!(c.find("b").err(), Some(Errno::NOENT));
    assert_eq!((c.read("a").unwrap(), c.read("c").unwrap()), ("new".to_owned(), "new".to_owned()));
}

/// An engine that stops a container and starts it again unmounts and mounts at once: the lock was not given back yet.
#[test]
fn an_upper_in_use_by_a_mount_that_ends_is_waited_for() {
    needs_root!();
    let (setup, scratch, c) = client(vec![vec![file("a", "old")]], false, Limits::default());
    let ending = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(c);
    });
    let mut c = Client::new(setup.mount(&scratch));
    ending.join().unwrap();
    assert_eq!(c.read("a").unwrap(), "old");
}

/// A directory with a redirect was listed under its own number, and looked up under that of its lower part.
#[test]
fn a_redirected_directory_is_listed_under_its_number() {
    needs_root!();
    let (_setup, _scratch, mut c) = client(vec![vec![dir("d"), file("d/f", "x")]], true, Limits::default());
    c.rename("d", "e", Flag::None).unwrap();
    snap::of_union(&c.union, &mut c.pins).unwrap();
    assert_eq!(c.read("e/f").unwrap(), "x");
}

/// In a directory without a lower part the redirect of what was moved there was not read.
#[test]
fn a_redirect_into_a_new_directory_is_followed() {
    needs_root!();
    let (setup, scratch, mut c) = client(vec![vec![dir("d"), file("d/f", "x")]], true, Limits::default());
    c.mkdir("new").unwrap();
    c.rename("d", "new/d", Flag::None).unwrap();
    assert_eq!(c.read("new/d/f").unwrap(), "x");
    let mut c = again(&setup, &scratch, c);
    assert_eq!(c.read("new/d/f").unwrap(), "x");
    assert_eq!(c.find("d").err(), Some(Errno::NOENT));
}

/// Without `RENAME_WHITEOUT` the mark beside the old name hid the lower part of the directory that was to move.
#[test]
fn without_device_whiteouts_a_lower_directory_is_not_renamed() {
    needs_root!();
    let limits = Limits { no_devices: true, ..Limits::default() };
    let (setup, scratch, mut c) = client(vec![vec![dir("d"), file("d/f", "x")]], true, limits);
    assert_eq!(c.rename("d", "e", Flag::None), Err(Errno::XDEV));
    let mut c = again(&setup, &scratch, c);
    assert_eq!(c.read("d/f").unwrap(), "x");
}

/// mkdir gives no set-id bits, whether it is built in place or over a whiteout.
#[test]
fn mkdir_takes_no_set_id_bits() {
    needs_root!();
    let (_setup, _scratch, mut c) = client(vec![vec![file("f", "x")]], false, Limits::default());
    c.unlink("f").unwrap();
    let root = c.union.node(ROOT).unwrap();
    for name in [&b"f"[..], b"g"] {
        let name = Name::new(name).unwrap();
        let made = c.union.make(&root, name, MakeKind::Dir, 0o7777, Default::default(), false).unwrap();
        assert_eq!(made.attr.mode & 0o7777, 0o1777);
        c.union.forget(made.node.ino, 1);
    }
}

/// A default ACL is inherited also where something new takes the place of a whiteout, and is built elsewhere.
#[test]
fn a_default_acl_is_inherited_over_a_whiteout() {
    needs_root!();
    let (_setup, _scratch, mut c) =
        client(vec![vec![dir("d"), file("d/f", "x"), dir("d/g")]], false, Limits::default());
    // Version 2; user::rwx, user:1234:rwx, group::r-x, mask::rwx, other::---.
    let entries: [(u16, u16, u32); 5] = [(1, 7, !0), (2, 7, 1234), (4, 5, !0), (16, 7, !0), (32, 0, !0)];
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let d = c.find("d").unwrap();
    if let Err(e) = c.union.setxattr(&d, b"system.posix_acl_default", &acl, SetMode::Any) {
        report_skip(&format!("no ACLs here: {e}"));
        return;
    }
    c.unlink("d/f").unwrap();
    c.rmdir("d/g").unwrap();
    for (over, beside, kind) in [("d/f", "d/f2", MakeKind::File), ("d/g", "d/g2", MakeKind::Dir)] {
        c.make(over, kind).unwrap();
        c.make(beside, kind).unwrap();
        let (over, beside) = (c.find(over).unwrap(), c.find(beside).unwrap());
        for name in [&b"system.posix_acl_access"[..], b"system.posix_acl_default"] {
            let (a, b) = (c.union.getxattr(&over, name).unwrap(), c.union.getxattr(&beside, name).unwrap());
            assert_eq!(a, b, "{kind:?}: {}", String::from_utf8_lossy(name));
        }
        assert_eq!(c.union.getattr(&over).unwrap().mode, c.union.getattr(&beside).unwrap().mode, "{kind:?}");
    }
}

/// Names of whiteouts, and devices that are whiteouts, are refused.
#[test]
fn nothing_that_reads_as_a_whiteout_can_be_made() {
    needs_root!();
    let (_setup, _scratch, mut c) = client(vec![vec![file("f", "x")]], false, Limits::default());
    assert_eq!(c.make("w", MakeKind::Node(Kind::Char, 0)), Err(Errno::PERM));
    assert_eq!(c.make(".wh.f", MakeKind::File), Err(Errno::INVAL));
    assert_eq!(c.mkdir(".wh..wh..opq"), Err(Errno::INVAL));
    assert_eq!(c.rename("f", ".wh.g", Flag::None), Err(Errno::INVAL));
    assert_eq!(c.link("f", ".wh.g"), Err(Errno::INVAL));
    assert_eq!(c.read("f").unwrap(), "x");
}

/// A second mount of the same upper is refused as long as the first lives.
#[test]
fn an_upper_in_use_is_refused() {
    needs_root!();
    let (_setup, scratch, c) = client(vec![vec![]], false, Limits::default());
    let fds = micafs::layer::handle::FdCache::new(8);
    let second = micafs::union::work::Upper::open(&scratch.0.join("upper"), &scratch.0.join("work"), fds, true);
    assert!(second.is_err());
    drop(c);
}

/// Copying up keeps holes.
#[test]
fn holes_stay_holes_over_a_copy_up() {
    needs_root!();
    let shape = Shape::File(64 << 20, vec![(0, vec![1; 10]), (32 << 20, vec![2; 4096])]);
    let (_setup, _scratch, mut c) = client(vec![vec![entry("sparse", shape)]], false, Limits::default());
    c.chmod("sparse").unwrap();
    let node = c.find("sparse").unwrap();
    let stat = c.union.getattr(&node).unwrap();
    assert_eq!(stat.size, 64 << 20);
    assert!(stat.blocks < 1000, "{} blocks", stat.blocks);
    assert_eq!(c.union.seek(&node, 1 << 20, Whence::Data).unwrap(), 32 << 20);
}

/// A reader that goes on while names come and go sees every name that stays exactly once.
#[test]
fn a_listing_in_pieces_shows_what_stays_exactly_once() {
    needs_root!();
    let layer = (0..50).map(|i| file(&format!("l{i}"), "")).collect();
    let (_setup, _scratch, mut c) = client(vec![layer], false, Limits::default());
    for i in 0..50 {
        c.write(&format!("u{i}"), "").unwrap();
    }
    let root = c.union.node(ROOT).unwrap();
    let (mut cookie, mut seen, mut round) = (0, Vec::new(), 0);
    loop {
        let listing = c.union.list(&root, cookie).unwrap();
        let piece: Vec<_> = listing.after(cookie).iter().take(7).cloned().collect();
        let Some(last) = piece.last() else { break };
        cookie = last.cookie;
        seen.extend(piece.into_iter().map(|e| e.name));
        // What changes is among the odd ones, or new.
        c.unlink(&format!("l{}", round * 2 + 1)).unwrap();
        c.unlink(&format!("u{}", round * 2 + 1)).unwrap();
        c.write(&format!("new{round}"), "").unwrap();
        if round == 5 {
            // Another reader starts over: the listing is made anew.
            c.union.list(&root, 0).unwrap();
        }
        round += 1;
    }
    for i in (0..50).step_by(2) {
        for kind in ["l", "u"] {
            let name = format!("{kind}{i}");
            assert_eq!(seen.iter().filter(|n| n.as_bytes() == name.as_bytes()).count(), 1, "{name}");
        }
    }
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), seen.len(), "a name was seen twice");
}

/// An open file keeps its content and its attributes when its name goes, is replaced, or is copied up.
#[test]
fn an_open_file_outlives_its_name() {
    needs_root!();
    let layer = vec![file("a", "lower a"), file("b", "lower b"), file("c", "lower c")];
    let (_setup, scratch, mut c) = client(vec![layer], false, Limits::default());
    let open: Vec<_> = ["a", "b", "c"].iter().map(|n| c.find(n).unwrap()).collect();
    open.iter().for_each(|n| c.union.open(n, false, false).unwrap());
    c.unlink("a").unwrap();
    c.rename("c", "b", Flag::None).unwrap();
    let text = |c: &Client, i: usize| {
        let mut buf = [0; 20];
        let n = c.union.read(&open[i], &mut buf, 0).unwrap();
        String::from_utf8_lossy(&buf[..n]).into_owned()
    };
    assert_eq!([text(&c, 0), text(&c, 1), text(&c, 2)], ["lower a", "lower b", "lower c"]);
    assert_eq!(c.union.getattr(&open[0]).unwrap().nlink, 0);
    assert_eq!(c.union.getattr(&open[1]).unwrap().nlink, 0);
    // The deleted lower file is copied up without a name.
    c.union.write(&open[0], b"UPPER", 0).unwrap();
    assert_eq!(text(&c, 0), "UPPER a");
    assert_eq!(c.union.getattr(&open[0]).unwrap().nlink, 0);
    assert_eq!(c.find("a").err(), Some(Errno::NOENT));
    assert_eq!(snap::of_dir(&scratch.0.join("work/work")).unwrap().len(), 1, "nothing is left in work");
    open.iter().for_each(|n| c.union.release(n));
}

/// Contents of a layer in memory come from slices and extents of one file.
#[test]
fn a_layer_in_memory_reads_and_seeks() {
    let sparse = Shape::File(10_000, vec![(0, b"start".to_vec()), (9_000, b"end".to_vec())]);
    let layer = MemLayer::new("m", &[file("f", "text"), entry("s", sparse), entry("w", Shape::Whiteout)]).unwrap();
    let open = |name: &[u8]| -> Content {
        match layer.root().unwrap().lookup(Name::new(name).unwrap()).unwrap() {
            Seen::Found(obj, _) => obj.open().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let mut buf = [9; 10];
    assert_eq!(open(b"f").read_at(&mut buf, 1).unwrap(), 3);
    assert_eq!(&buf[..3], b"ext");
    let s = open(b"s");
    assert_eq!(s.read_at(&mut buf, 8_998).unwrap(), 10);
    assert_eq!(&buf, b"\0\0end\0\0\0\0\0");
    assert_eq!((s.seek_data(5).unwrap(), s.seek_data(9_003).unwrap()), (Some(9_000), None));
    assert_eq!((s.seek_hole(0).unwrap(), s.seek_hole(9_000).unwrap()), (Some(5), Some(9_003)));
    assert!(matches!(layer.root().unwrap().lookup(Name::new(b"w").unwrap()).unwrap(), Seen::Whiteout));
    assert!(MemLayer::new("m", &[file("no/parent", "")]).is_err());
}

/// Data is on disk before the name that shows it, and a sync of a file reaches the names above it.
#[test]
fn a_copy_is_synced_before_it_is_published() {
    needs_root!();
    let setup = Setup::of_dirs(vec![vec![dir("d"), file("d/f", "x")]]);
    let scratch = Scratch::new();
    setup.write_layers(&scratch);
    let mut c = Client::new(setup.mount_durable(&scratch));
    let calls = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = calls.clone();
    let hook = move |call: &micafs::sys::gate::Call<'_>| {
        log.borrow_mut().push(call.name);
        None
    };
    micafs::sys::gate::with_hook(hook, || {
        c.write_at("d/f", 0, "y").unwrap();
        let of = |name| calls.borrow().iter().rposition(|n| *n == name);
        assert!(of("fsync").is_some() && of("fsync") < of("linkat"), "{:?}", calls.borrow());
        calls.borrow_mut().clear();
        let node = c.find("d/f").unwrap();
        c.union.fsync(&node, true).unwrap();
        // The file, the directory that got the file, and the root that got the directory.
        assert_eq!(*calls.borrow(), ["fsync", "fsync", "fsync"]);
        calls.borrow_mut().clear();
        c.union.fsync(&node, true).unwrap();
        assert_eq!(*calls.borrow(), ["fdatasync"]);
    });
}

/// That a name may not be on disk yet is not forgotten with the node.
#[test]
fn a_sync_after_a_forget_writes_the_names_too() {
    needs_root!();
    let setup = Setup::of_dirs(vec![vec![dir("d")]]);
    let scratch = Scratch::new();
    setup.write_layers(&scratch);
    let mut c = Client::new(setup.mount_durable(&scratch));
    c.write("d/f", "x").unwrap();
    c.pins.forget_all(&c.union);
    c.union.table().collect();
    assert_eq!(c.union.table().len(), 1, "all is forgotten");
    let node = c.find("d/f").unwrap();
    let calls = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = calls.clone();
    let hook = move |call: &micafs::sys::gate::Call<'_>| {
        log.borrow_mut().push(call.name);
        None
    };
    micafs::sys::gate::with_hook(hook, || {
        c.union.fsync(&node, true).unwrap();
        assert_eq!(*calls.borrow(), ["fsync", "fsync", "fsync"], "the data, d, and the root");
        calls.borrow_mut().clear();
        c.union.fsync(&node, true).unwrap();
        assert_eq!(*calls.borrow(), ["fdatasync"]);
    });
}

/// Depth costs neither the stack nor more descriptors than the cache holds.
#[test]
fn directories_as_deep_as_one_likes() {
    needs_root!();
    let (_setup, _scratch, mut c) = client(vec![vec![]], false, Limits::default());
    let name = Name::new(b"d").unwrap();
    let mut chain = vec![c.union.node(ROOT).unwrap()];
    for _ in 0..2000 {
        let parent = chain.last().unwrap();
        let made = c.union.make(parent, name, MakeKind::Dir, 0o755, Default::default(), false).unwrap();
        c.pins.add(made.node.ino);
        chain.push(made.node);
    }
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(fds < 500, "{fds} descriptors");
    while chain.len() > 1 {
        chain.pop();
        c.union.rmdir(chain.last().unwrap(), name).unwrap();
    }
    drop(chain);
    c.pins.forget_all(&c.union);
    c.union.table().collect();
    assert_eq!(c.union.table().len(), 1, "nodes are left");
}

/// Redirects that lead to each other through hostile layers multiplied: a lookup never came back.
#[test]
fn redirects_that_lead_to_each_other_are_refused() {
    needs_root!();
    let redirected = |path: &str| {
        let mut d = dir(path);
        d.xattrs.push((b"trusted.overlay.redirect".to_vec(), b"/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a".to_vec()));
        d
    };
    let mut layers = Vec::new();
    for _ in 0..24 {
        layers.push((1..24).map(|n| redirected(&vec!["a"; n].join("/"))).collect::<Vec<_>>());
    }
    let (_setup, _scratch, mut c) = client(layers, true, Limits::default());
    assert_eq!(c.find("a").err(), Some(Errno::LOOP));
}

/// As on Linux 3.10, and on filesystems that have none (NFS, FUSE before 6.2).
#[test]
fn without_nameless_files_below_there_are_none() {
    if crate::model::skip() {
        return;
    }
    let setup = Setup::of_dirs(vec![vec![dir("d"), file("d/f", "lower")]]);
    let scratch = Scratch::new();
    setup.write_layers(&scratch);
    for errno in [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL] {
        let refuse = move |call: &micafs::sys::gate::Call<'_>| call.args.contains("O_TMPFILE").then_some(errno);
        let mut client = micafs::sys::gate::with_hook(refuse, || Client::new(setup.mount(&scratch)));
        let d = client.find("d").unwrap();
        let made = client.union.make_tmpfile(&d, 0o600, Caller::default());
        assert_eq!(made.map(drop).map_err(|e| e.errno()), Err(Errno::OPNOTSUPP));
        // Copies and new files need none.
        client.write("d/f", "LOWER").unwrap();
        client.write("d/new", "new").unwrap();
        assert_eq!((client.read("d/f").unwrap(), client.read("d/new").unwrap()), ("LOWER".into(), "new".into()));
        drop(d);
        again(&setup, &scratch, client);
    }
}

/// Listed in `world::Listed`: what has no name left in upper can be given none; `mv` copies it.
#[test]
fn a_copy_without_a_name_in_upper_is_not_renamed_by_a_lower_one() {
    needs_root!();
    let links = vec![file("a", "lower"), entry("b", Shape::Link(rel("a"))), dir("d")];
    let (_setup, _scratch, mut client) = client(vec![links], false, Limits::default());
    let a = client.find("a").unwrap();
    client.union.open(&a, true, false).unwrap();
    client.unlink("a").unwrap();
    assert_eq!(client.rename("b", "d/b", Flag::None), Err(Errno::XDEV), "if it works: take it off the list");
    assert_eq!(client.read("b").unwrap(), "lower");
    client.union.release(&a);
}

/// Listed there, too: a redirect of more than 256 bytes is followed by nobody.
#[test]
fn a_lower_directory_too_deep_for_a_redirect_is_not_renamed() {
    needs_root!();
    let long = "n".repeat(200);
    let layer = vec![dir("to"), dir(&long), dir(&format!("{long}/{long}")), file(&format!("{long}/{long}/f"), "x")];
    let (_setup, _scratch, mut client) = client(vec![layer], true, Limits::default());
    assert_eq!(client.rename(&format!("{long}/{long}"), "to/moved", Flag::None), Err(Errno::XDEV));
    client.rename(&format!("{long}/{long}"), &format!("{long}/here"), Flag::None).unwrap();
    assert_eq!(client.read(&format!("{long}/here/f")).unwrap(), "x");
}
