//! `mica explain` on an image that holds one of everything, through the built program.
//!
//! The expected texts lie in `tests/golden/explain/`; with `MICA_UPDATE_GOLDEN` set they are written anew, to be read and committed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use micafs::explain;
use micafs::explain::Outcome;
use micafs::layer::ItemKind;
use micafs::layer::Layer;
use micafs::layer::Obj;
use micafs::layer::Seen;
use micafs::path::Name;
use micafs::store::Store;
use micafs::sys::attr::Kind;
use micafs::union::Options;
use micafs::union::Union;
use micafs::union::node::ROOT;
use micafs::union::stack::Stack;

use crate::support::TempDir;
use crate::support::archive::Entry;
use crate::support::archive::tar_of;
use crate::support::archive::write_archive;
use crate::support::bin::mica_command;
use crate::support::bin::mount_helper;
use crate::support::bin::output;
use crate::support::bin::run_ok;
use crate::support::guard::wait_for;
use crate::support::require_root;
use crate::support::skip;

/// The layers, lowest first.
fn layers() -> Vec<Vec<u8>> {
    let big = "b".repeat(200_000);
    vec![
        tar_of(&[
            Entry::Dir("etc"),
            Entry::File(b"etc/motd", "one\n"),
            Entry::File(b"etc/passwd", "root:x:0:0\n"),
            Entry::Dir("etc/old"),
            Entry::File(b"etc/old/gone", "gone\n"),
            Entry::Dir("opq"),
            Entry::File(b"opq/low", "low\n"),
            Entry::Dir("opq/sub"),
            Entry::File(b"opq/sub/deep", "deep\n"),
            Entry::Dir("fileover"),
            Entry::File(b"fileover/inside", "inside\n"),
            Entry::File(b"dirover", "a file\n"),
            Entry::File(b"hard-a", "hard\n"),
            Entry::Hard("hard-b", "hard-a"),
            Entry::Dir("usr"),
            Entry::Dir("usr/lib"),
            Entry::File(b"usr/lib/big", &big),
            Entry::Link("lib", "usr/lib"),
            Entry::Link("chain1", "/chain2"),
            Entry::Link("chain2", "../../lib"),
            Entry::Link("loop", "loop"),
            Entry::File(b"caf\xe9", "latin\n"),
            Entry::File(b"evil\x1b[31m\nname", "evil\n"),
        ]),
        tar_of(&[
            Entry::Dir("etc"),
            Entry::File(b"etc/.wh.motd", ""),
            Entry::File(b"etc/.wh.old", ""),
            Entry::Dir("opq"),
            Entry::File(b"opq/.wh..wh..opq", ""),
            Entry::File(b"opq/new", "new\n"),
            Entry::File(b"fileover", "a file now\n"),
            Entry::Dir("dirover"),
            Entry::File(b"dirover/inside", "inside\n"),
        ]),
        tar_of(&[
            Entry::Dir("etc"),
            Entry::Dir("etc/old"),
            Entry::File(b"etc/old/again", "again\n"),
            Entry::File(b"hard-a", "alone\n"),
            Entry::File(b".wh.caf\xe9", ""),
        ]),
        tar_of(&[Entry::Dir("srv"), Entry::File(b"srv/four", "4\n")]),
        tar_of(&[Entry::Dir("srv"), Entry::File(b"srv/five", "5\n")]),
    ]
}

/// A store with the image `localhost/crafted:1`.
struct Crafted {
    dir: TempDir,
}

impl Crafted {
    fn new() -> Self {
        let dir = TempDir::new("explain");
        let by = |command: &str| serde_json::json!({ "created_by": command });
        let history = serde_json::json!([
            by("ADD rootfs.tar /"),
            { "created_by": "CMD [\"sh\"]", "empty_layer": true },
            by("RUN rm -r /etc/motd\t/etc/old &&\n    and a lot more that makes this command a long one"),
            by("RUN \u{1b}[31mred"),
            by("RUN four"),
        ]);
        let file = write_archive(dir.path(), "localhost/crafted:1", &layers(), &history);
        run_ok(&mut mica_command(&dir.join("store"), [OsStr::new("load"), "-i".as_ref(), file.as_os_str()]));
        Self { dir }
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// What `mica explain` says of a path, and its exit code.
    fn explain(&self, path: &[u8], more: &[&str]) -> (String, i32) {
        let mut command = mica_command(&self.store(), ["explain", "localhost/crafted:1"]);
        let out = output(command.arg(OsStr::from_bytes(path)).args(more));
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{path:?}");
        (String::from_utf8(out.stdout).expect("UTF-8"), out.status.code().expect("a code"))
    }
}

/// Compares with `tests/golden/FOLDER/NAME`.
pub fn check_golden(folder: &str, name: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder).join(name);
    if std::env::var_os("MICA_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("mkdir");
        std::fs::write(&file, found).expect("write");
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert_eq!(found, expected, "{name}; MICA_UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn every_kind_of_path_is_explained() {
    let crafted = Crafted::new();
    let cases: &[(&str, &[u8], &[&str], i32)] = &[
        ("found", b"/etc/passwd", &[], 0),
        ("deleted", b"/etc/motd", &[], 1),
        ("recreated", b"etc/old/again", &[], 0),
        ("below-recreated", b"/etc/old/gone", &[], 1),
        ("opaque", b"/opq/sub/deep", &[], 1),
        ("file-over-directory", b"/fileover/inside", &[], 1),
        ("directory-over-file", b"/dirover", &[], 0),
        ("never", b"/etc/nothing/at/all", &[], 2),
        ("symlinks", b"/chain1/big", &[], 0),
        ("symlink", b"/chain1", &[], 0),
        ("symlink-followed", b"/chain1", &["--follow"], 0),
        ("symlink-loop", b"/loop/x", &[], 2),
        ("hardlink", b"/hard-b", &[], 0),
        ("not-utf8", b"/caf\xe9", &[], 1),
        ("hostile", b"/evil\x1b[31m\nname", &[], 0),
        ("root", b"/etc/../..", &[], 0),
        ("verbose", b"/srv/four", &["-v"], 0),
    ];
    for &(name, path, more, code) in cases {
        let (text, found) = crafted.explain(path, more);
        check_golden("explain", &format!("{name}.txt"), &text);
        assert_eq!(found, code, "{name}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{name}: {text:?}");
    }
    for (name, path) in [("deleted", &b"/etc/motd"[..]), ("symlinks", b"/chain1/big"), ("never", b"/nothing")] {
        let (text, code) = crafted.explain(path, &["--json"]);
        check_golden("explain", &format!("{name}.json"), &text);
        let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(document["exit"], code, "{name}");
    }
}

#[test]
fn what_cannot_be_explained_is_an_error_of_its_own() {
    let crafted = Crafted::new();
    let image = "localhost/crafted:1";
    let cases: &[(&[&str], &str)] = &[
        (&["explain", "nothing-like-it", "/x"], "No such image"),
        (&["explain", image], "is not on a mount of mica"),
        (&["explain", "/proc", "/x"], "is not on a mount of mica"),
        (&["explain", "-o", "lowerdir=/nowhere", "/x"], "/nowhere"),
        (&["explain", "-o", "ro", "/x"], "names no directory"),
        (&["explain", "-o", "lowerdir=/", "/x", "/y"], "no TARGET"),
    ];
    for (arguments, expected) in cases {
        let out = output(&mut mica_command(&crafted.store(), *arguments));
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(125), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    let long = [b"/".as_slice(), &[b'x'; 300]].concat();
    let mut command = mica_command(&crafted.store(), ["explain", image]);
    let out = output(command.arg(OsStr::from_bytes(&long)));
    assert_eq!(out.status.code(), Some(125));
}

#[test]
fn directories_are_explained_without_a_store() {
    let dir = TempDir::new("explain-dirs");
    for name in ["top", "bottom", "upper"] {
        dir.dir(name);
    }
    std::fs::write(dir.join("bottom/a"), "a").expect("write");
    std::fs::write(dir.join("bottom/b"), "b").expect("write");
    std::fs::write(dir.join("top/.wh.a"), "").expect("write");
    std::fs::write(dir.join("upper/b"), "B!").expect("write");
    let options = format!(
        "lowerdir={}:{},upperdir={}",
        dir.join("top").display(),
        dir.join("bottom").display(),
        dir.join("upper").display()
    );
    let explain = |path: &str| {
        let out = output(&mut mica_command(&dir.join("no-store"), ["explain", "--json", "-o", options.as_str(), path]));
        let document: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!(document["exit"], out.status.code().expect("a code"));
        document
    };
    let a = explain("/a");
    assert_eq!((&a["status"], &a["hidden"]["layer"]), (&"hidden".into(), &1.into()), "{a:#}");
    assert_eq!((&a["hidden"]["by"]["layer"], &a["hidden"]["by"]["how"]), (&2.into(), &"whiteout".into()));
    let b = explain("/b");
    assert_eq!((&b["served"]["layer"], &b["served"]["stat"]["size"]), (&"upper".into(), &2.into()), "{b:#}");
    let location = b["served"]["location"].as_str().map(PathBuf::from);
    assert_eq!(location, Some(dir.join("upper/b")));
    assert!(!dir.join("no-store").exists(), "nothing is made on the way");
}

/// A mount of two directories with an upper, taken away at the end.
fn mounted(dir: &TempDir) -> Result<PathBuf, String> {
    let helper = mount_helper()?;
    ["top/d", "bottom/d", "upper", "work", "point"].into_iter().for_each(|name| drop(dir.dir(name)));
    std::fs::write(dir.join("top/d/.wh.gone"), "").expect("write");
    std::fs::write(dir.join("bottom/d/gone"), "gone").expect("write");
    std::os::unix::fs::symlink("/d", dir.join("bottom/link")).expect("symlink");
    let mut command = Command::new(helper);
    command.args(["-o", "lowerdir=top:bottom,upperdir=upper,workdir=work", "point"]).current_dir(dir.path());
    let out = output(&mut command);
    if !out.status.success() {
        return Err(format!("cannot mount: {}", String::from_utf8_lossy(&out.stderr)));
    }
    Ok(dir.join("point"))
}

#[test]
fn a_mount_is_explained_while_it_serves_and_has_no_record_when_it_is_dead() {
    require_root!();
    let dir = TempDir::new("explain-mount");
    let point = match mounted(&dir) {
        Ok(point) => point,
        Err(reason) => skip!("{reason}"),
    };
    std::fs::write(point.join("d/written"), "through the mount").expect("write");
    let explain = |arguments: &[&str]| {
        let mut command = mica_command(&dir.join("no-store"), ["explain", "--json"]);
        let out = output(command.args(arguments).current_dir(dir.path()));
        serde_json::from_slice::<serde_json::Value>(&out.stdout)
            .map_err(|_| String::from_utf8_lossy(&out.stderr).into_owned())
    };
    for arguments in [["point", "/link/written"].as_slice(), &["point/link/written"]] {
        let document = explain(arguments).expect("an explanation");
        assert_eq!(document["served"]["layer"], "upper", "{document:#}");
        let location = document["served"]["location"].as_str().map(PathBuf::from);
        assert_eq!(location, Some(dir.join("upper/d/written")), "a link in the mount is the mount's");
    }
    let gone = explain(&["point/d/gone"]).expect("an explanation");
    assert_eq!((&gone["status"], &gone["hidden"]["by"]["layer"]), (&"hidden".into(), &2.into()), "{gone:#}");

    let record = micafs::mount::table::read()
        .ok()
        .and_then(|entries| micafs::mount::record::of_device(micafs::mount::table::topmost(&entries, &point)?.dev))
        .expect("a record");
    let pid = i32::try_from(record.pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    let why = wait_for(Duration::from_secs(10), || explain(&["point", "/d/gone"]).is_err());
    assert!(why, "a dead mount is not explained");
    let error = explain(&["point", "/d/gone"]).expect_err("no record");
    assert!(error.contains("is gone; 'mica umount"), "{error}");
}

/// Every path of every layer, whether or not it shows.
fn paths_of(object: &Obj, prefix: &[u8], out: &mut BTreeSet<Vec<u8>>) {
    let mut below = Vec::new();
    let mut each = |item: micafs::layer::Item<'_>| {
        let path = [prefix, b"/", item.name.as_bytes()].concat();
        if let (ItemKind::Object(_, Kind::Dir), Seen::Found(child, _)) = (item.what, object.lookup(item.name)?) {
            below.push((child, path.clone()));
        }
        out.insert(path);
        Ok(())
    };
    object.list(&mut each).expect("a list");
    below.iter().for_each(|(child, path)| paths_of(child, path, out));
}

fn object_at(layer: &dyn Layer, path: &[u8]) -> Option<Obj> {
    let mut object = layer.root().expect("a root");
    for part in path.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
        match object.lookup(Name::new(part).expect("a name")) {
            Ok(Seen::Found(found, _)) => object = found,
            _ => return None,
        }
    }
    Some(object)
}

pub fn through_union(union: &Union, path: &[u8]) -> Option<(Kind, u64, Vec<u8>)> {
    let mut node = union.node(ROOT).expect("a root");
    let mut found = None;
    for part in path.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
        if node.kind != Kind::Dir {
            return None;
        }
        let entry = union.lookup(&node, Name::new(part).expect("a name")).expect("a lookup")?;
        node = entry.node.clone();
        found = Some(entry);
    }
    let stat = found.expect("not the root").attr;
    let mut content = Vec::new();
    if node.kind == Kind::File {
        content = vec![0; usize::try_from(stat.size).expect("a size")];
        let n = union.read(&node, &mut content, 0).expect("content");
        assert_eq!(n, content.len());
    }
    Some((node.kind, stat.size, content))
}

#[test]
fn the_layer_that_is_said_to_serve_holds_what_the_union_shows() {
    let crafted = Crafted::new();
    let store = Store::open(&crafted.store()).expect("the store");
    let id = store.images().expect("images").find("localhost/crafted:1").expect("the image").id;
    let config = store.config(&id).expect("a config");
    let open = |id| -> Arc<dyn Layer> { Arc::new(store.layers().get(id).expect("a layer")) };
    let layers: Vec<Arc<dyn Layer>> = config.diff_ids().iter().rev().map(open).collect();
    let union = Union::new(Stack::new(None, layers.clone()).expect("a stack"), Options::default()).expect("a union");
    let subject = micafs::engine::target::stored(&store, "localhost/crafted:1").expect("a subject");

    let mut paths = BTreeSet::new();
    layers.iter().for_each(|layer| paths_of(&layer.root().expect("a root"), b"", &mut paths));
    assert_eq!(paths.len(), 29);
    let mut hidden = 0;
    for path in &paths {
        let explanation = explain::explain(&subject, path, false).expect("an explanation");
        let name = path.escape_ascii();
        let Some((kind, size, content)) = through_union(&union, path) else {
            assert!(explanation.served().is_none(), "{name}");
            let has_it = layers.iter().any(|layer| object_at(&**layer, path).is_some());
            let is_hidden = matches!(explanation.outcome, Outcome::Hidden { .. });
            assert_eq!(is_hidden, has_it, "{name}: {:?}", explanation.outcome);
            hidden += usize::from(is_hidden);
            continue;
        };
        let served = explanation.served().unwrap_or_else(|| panic!("{name} is served: {:?}", explanation.outcome));
        assert_eq!((served.stat.kind(), served.stat.size), (kind, size), "{name}");
        let object = object_at(&*layers[served.layer], path).unwrap_or_else(|| panic!("{name} is in its layer"));
        if kind == Kind::File {
            let body = object.open().expect("content");
            let mut bytes = vec![0; usize::try_from(body.len()).expect("a size")];
            body.read_at(&mut bytes, 0).expect("content");
            assert_eq!(bytes, content, "{name}");
        }
    }
    assert_eq!(hidden, 7, "deleted, below an opaque directory, below a file, below a deleted directory");
}
