//! `mica which`, `log`, `blame`, `show`, `diff`, `du`, `find` and `lint`, through the built program, on an image that holds one of everything;
//! and what they say of a real image, path by path, against the union.
//!
//! The expected texts lie in `tests/golden/looking/`; with `MICA_UPDATE_GOLDEN` set they are written anew, to be read and committed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use micafs::explain;
use micafs::explain::Subject;
use micafs::explain::layers::walk;
use micafs::explain::subject::Sheet;
use micafs::layer::Layer;
use micafs::layer::dir::DirLayer;
use micafs::layer::handle::FdCache;
use micafs::path::RelPath;
use micafs::store::Store;
use micafs::sys::attr::Kind;
use micafs::sys::attr::Stat;
use micafs::union::Options;
use micafs::union::Union;
use micafs::union::stack::Stack;
use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest::test_runner::TestRunner;

use crate::explain::check_golden;
use crate::explain::through_union;
use crate::layers;
use crate::support::TempDir;
use crate::support::archive::Entry;
use crate::support::archive::tar_of;
use crate::support::archive::write_archive;
use crate::support::bin::mica_command;
use crate::support::bin::output;
use crate::support::bin::run_ok;
use crate::support::require_fixture;
use crate::support::require_root;

pub const IMAGE: &str = "localhost/crafted:1";
/// A private key that nobody has.
const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90aGluZw==\n-----END OPENSSH PRIVATE KEY-----\n";
/// `cap_net_raw+ep`.
pub const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn image_layers() -> Vec<Vec<u8>> {
    let big = "b".repeat(200_000);
    let lists = "Package: x\n".repeat(8_000);
    vec![
        tar_of(&[
            Entry::Dir("etc"),
            Entry::File(b"etc/motd", "one\n"),
            Entry::File(b"etc/conf", "a\nb\nc\n"),
            Entry::Dir("etc/old"),
            Entry::File(b"etc/old/gone", "gone\n"),
            Entry::Dir("opq"),
            Entry::File(b"opq/low", "low\n"),
            Entry::Dir("root"),
            Entry::Dir("root/.ssh"),
            Entry::File(b"root/.ssh/id_rsa", KEY),
            Entry::Mode("ping", b"\x7fELF\0ping", 0o755, Some(CAPABILITY)),
            Entry::Mode("su", b"\x7fELF\0su", 0o4755, None),
            Entry::File(b"hard-a", "hard\n"),
            Entry::Hard("hard-b", "hard-a"),
            Entry::Dir("usr"),
            Entry::Dir("usr/lib"),
            Entry::File(b"usr/lib/big", &big),
            Entry::Link("lib", "usr/lib"),
            Entry::Link("chain1", "/chain2"),
            Entry::Link("chain2", "../../lib"),
            Entry::File(b"evil\x1b[31m\nname\xff", "evil\n"),
        ]),
        tar_of(&[
            Entry::Dir("etc"),
            Entry::File(b"etc/.wh.motd", ""),
            Entry::File(b"etc/.wh.old", ""),
            Entry::File(b"etc/.wh.never", ""),
            Entry::File(b"etc/conf", "a\nB\nc\n"),
            Entry::Dir("opq"),
            Entry::File(b"opq/.wh..wh..opq", ""),
            Entry::File(b"opq/new", "new\n"),
            Entry::Dir("root/.ssh"),
            Entry::File(b"root/.ssh/.wh.id_rsa", ""),
            Entry::Dir("var/lib/apt/lists"),
            Entry::File(b"var/lib/apt/lists/x_Packages", &lists),
        ]),
        tar_of(&[
            Entry::Dir("etc"),
            Entry::Dir("etc/old"),
            Entry::File(b"etc/old/again", "again\n"),
            Entry::Mode("usr/lib/big", big.as_bytes(), 0o600, None),
            Entry::Mode("ping", b"\x7fELF\0ping", 0o755, None),
            Entry::Mode("su", b"\x7fELF\0su", 0o755, None),
            Entry::File(b"usr/lib/copy", &big),
        ]),
    ]
}

/// A store with the image, and the archive that it came out of.
pub struct Crafted {
    dir: TempDir,
    archive: PathBuf,
}

impl Crafted {
    pub fn new() -> Self {
        let dir = TempDir::new("looking");
        let history = serde_json::json!([
            { "created_by": "ADD rootfs.tar /", "created": "2026-01-01T00:00:00Z", "author": "Ann \u{1b}[31m<a@example.org>" },
            { "created_by": "CMD [\"sh\"]", "empty_layer": true },
            { "created_by": "RUN rm -r /etc/motd", "created": "2026-01-02T00:00:00Z", "comment": "clean up\nwith an escape \u{1b}[31m" },
            { "created_by": "RUN touch", "created": "2026-01-03T00:00:00Z", "author": "Bob" },
        ]);
        let archive = write_archive(dir.path(), IMAGE, &image_layers(), &history);
        run_ok(&mut mica_command(&dir.join("store"), [OsStr::new("load"), "-i".as_ref(), archive.as_os_str()]));
        Self { dir, archive }
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// A place beside the store, where commands run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What a command prints on standard output, on standard error, and its exit code.
    pub fn said<A: AsRef<OsStr>>(&self, arguments: &[A]) -> (Vec<u8>, String, i32) {
        let mut command = mica_command(&self.store(), arguments);
        let out = output(command.current_dir(self.dir.path()).env("TMPDIR", self.dir.path()));
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.stdout, err, out.status.code().expect("a code"))
    }
}

/// Every command on one image: its text, its exit code, and nothing that a terminal would obey.
#[test]
fn every_command_says_what_it_said() {
    let crafted = Crafted::new();
    let cases: &[(&str, &[&str], i32)] = &[
        ("which-served.txt", &["which", IMAGE, "/etc/conf"], 0),
        ("which-deleted.txt", &["which", IMAGE, "/etc/motd"], 1),
        ("which-opaque.txt", &["which", IMAGE, "/opq/low"], 1),
        ("which-below-recreated.txt", &["which", IMAGE, "/etc/old/gone"], 1),
        ("which-never.txt", &["which", IMAGE, "/nothing/here"], 2),
        ("which-symlinks.txt", &["which", IMAGE, "/chain1/big"], 0),
        ("which-first.txt", &["which", "localhost/crafted:1@1", "/etc/motd"], 0),
        ("which.json", &["which", "--json", IMAGE, "/etc/motd"], 1),
        ("log-file.txt", &["log", IMAGE, "/etc/conf"], 0),
        ("log-mode.txt", &["log", IMAGE, "/usr/lib/big"], 0),
        ("log-capability.txt", &["log", IMAGE, "/ping"], 0),
        ("log-deleted.txt", &["log", IMAGE, "/etc/motd"], 1),
        ("log-recreated.txt", &["log", IMAGE, "/etc/old"], 0),
        ("log-oneline.txt", &["log", "--oneline", IMAGE, "/opq"], 0),
        ("log.json", &["log", "--json", IMAGE, "/su"], 0),
        ("blame-root.txt", &["blame", IMAGE], 0),
        ("blame-etc.txt", &["blame", "-R", IMAGE, "/etc"], 0),
        ("blame.json", &["blame", "--json", IMAGE, "/opq"], 0),
        ("show.txt", &["show", "localhost/crafted:1@1:/etc/conf"], 0),
        ("show-now.txt", &["show", IMAGE, "etc/conf"], 0),
        ("diff-layers.txt", &["diff", "localhost/crafted:1@1..@3"], 0),
        ("diff-first.txt", &["diff", "localhost/crafted:1@0..1", "/etc"], 0),
        ("diff-two.txt", &["diff", "localhost/crafted:1@3", "localhost/crafted:1@2", "/etc"], 0),
        ("diff-unified.txt", &["diff", "-U", "localhost/crafted:1@1..@3", "/etc"], 0),
        ("diff.json", &["diff", "--json", "localhost/crafted:1@1..@3", "/usr"], 0),
        ("du.txt", &["du", "--bytes", "--depth", "2", "--sort", "wasted", IMAGE], 0),
        ("du-hidden.txt", &["du", "--bytes", IMAGE, "/etc/motd"], 1),
        ("du.json", &["du", "--json", "--top", "2", IMAGE], 0),
        ("find-deleted.txt", &["find", "--deleted", IMAGE], 0),
        ("find-whiteouts.txt", &["find", "--kind", "w", IMAGE], 0),
        ("find-name.txt", &["find", "--name", "*i[gl]*", "--kind", "f", IMAGE], 0),
        ("find-layer.txt", &["find", "--layer", "3", "--size", "+1k", IMAGE], 0),
        ("find-dup.txt", &["find", "--dup", "--size", "+1k", IMAGE], 0),
        ("find.json", &["find", "--json", "--deleted", "--name", "id_rsa", IMAGE], 0),
        ("lint.txt", &["lint", IMAGE], 0),
        ("lint.json", &["lint", "--strict", "--json", "--level", "high", IMAGE], 1),
    ];
    for (name, arguments, code) in cases {
        let (out, err, found) = crafted.said(arguments);
        assert_eq!((found, err.as_str()), (*code, ""), "{arguments:?}");
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{name}: {text:?}");
        if name.ends_with(".json") {
            serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
        }
        check_golden("looking", name, &text);
    }
}

#[test]
fn names_come_back_unescaped_only_where_a_program_asks() {
    let crafted = Crafted::new();
    let (out, _, code) = crafted.said(&["find", "-0", "--name", "evil*", IMAGE]);
    assert_eq!((out.as_slice(), code), (&b"/evil\x1b[31m\nname\xff\0"[..], 0));
    let path = OsStr::from_bytes(b"/evil\x1b[31m\nname\xff");
    let (out, _, code) = crafted.said(&[OsStr::new("show"), IMAGE.as_ref(), path]);
    assert_eq!((out.as_slice(), code), (&b"evil\n"[..], 0));
    let (out, _, _) = crafted.said(&[OsStr::new("which"), IMAGE.as_ref(), path]);
    assert!(String::from_utf8_lossy(&out).starts_with(r"/evil\x1b[31m\x0aname\xff in "));
}

#[test]
fn an_archive_is_looked_at_where_it_is_and_leaves_nothing() {
    let crafted = Crafted::new();
    let archive = format!("docker-archive:{}", crafted.archive.display());
    for (word, expected) in [(archive.clone(), "a\nB\nc\n"), (format!("{archive}:{IMAGE}@1"), "a\nb\nc\n")] {
        let (out, err, code) = crafted.said(&["show", &format!("{word}:/etc/conf")]);
        assert_eq!((String::from_utf8_lossy(&out).as_ref(), err.as_str(), code), (expected, "", 0), "{word}");
    }
    let (out, _, _) = crafted.said(&["diff", &archive, IMAGE]);
    assert_eq!(out, b"", "it is the same image");
    let left: Vec<_> = std::fs::read_dir(crafted.dir.path()).expect("a list").filter_map(Result::ok).collect();
    let left: Vec<_> =
        left.iter().map(|entry| entry.file_name()).filter(|name| name.as_bytes().starts_with(b"mica-look")).collect();
    assert!(left.is_empty(), "{left:?}");
    let cut = crafted.dir.join("cut.tar");
    std::fs::write(&cut, &std::fs::read(&crafted.archive).expect("the archive")[..30_000]).expect("write");
    let (_, err, code) = crafted.said(&["which", &format!("docker-archive:{}", cut.display()), "/x"]);
    assert_eq!(code, 125, "{err}");
}

#[test]
fn a_missing_or_damaged_layer_is_named() {
    let crafted = Crafted::new();
    let packs = crafted.store().join("packs");
    let index = |number: usize| {
        let store = Store::open(&crafted.store()).expect("the store");
        let id = store.images().expect("images").find(IMAGE).expect("the image").id;
        let diff_id = store.config(&id).expect("a config").diff_ids()[number - 1];
        packs.join(format!("{}.idx", diff_id.hex()))
    };
    let mut bytes = std::fs::read(index(2)).expect("an index");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let path = index(2);
    std::fs::remove_file(&path).expect("remove");
    std::fs::write(&path, bytes).expect("write");
    let commands: &[&[&str]] = &[
        &["which", IMAGE, "/etc"],
        &["log", IMAGE, "/etc"],
        &["blame", IMAGE, "/etc"],
        &["show", IMAGE, "/etc/conf"],
        &["diff", "localhost/crafted:1@1..@3"],
        &["diff", "localhost/crafted:1@1", IMAGE],
        &["du", IMAGE, "/etc"],
        &["find", IMAGE, "/etc"],
        &["lint", IMAGE],
        &["explain", IMAGE, "/etc"],
        &["explain", "--html", "-", IMAGE, "/etc"],
        &["debug", "--plain", IMAGE],
    ];
    let named = |why: &str| {
        for command in commands {
            let (out, err, code) = crafted.said(command);
            assert_eq!((out.as_slice(), code), (&b""[..], 125), "{command:?}: {err}");
            assert!(err.contains("layer 2 of 3 of localhost/crafted:1") && err.contains(why), "{command:?}: {err}");
            assert!(err.lines().count() <= 2, "{command:?}: {err}");
        }
    };
    named("checksum");
    for command in ["which", "log", "blame", "du", "find", "lint", "explain"] {
        let (_, _, code) = crafted.said(&[command, "localhost/crafted:1@1", "/etc"]);
        assert_eq!(code, 0, "{command}: the layers below are whole");
    }
    std::fs::remove_file(&path).expect("remove");
    named("");
}

/// The index says what is there; the bytes of one file are gone. Whoever needs no content answers as ever.
#[test]
fn a_damaged_file_hurts_only_who_reads_it() {
    let crafted = Crafted::new();
    let packs = crafted.store().join("packs");
    let file = |number: usize| {
        let store = Store::open(&crafted.store()).expect("the store");
        let id = store.images().expect("images").find(IMAGE).expect("the image").id;
        let diff_id = store.config(&id).expect("a config").diff_ids()[number - 1];
        let names = std::fs::read_dir(&packs).expect("packs").filter_map(Result::ok);
        let mut names = names.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e != "idx"));
        names
            .find(|path| path.file_stem().is_some_and(|stem| stem.as_bytes() == diff_id.hex().as_bytes()))
            .expect("a pack")
    };
    let path = file(2);
    let len = std::fs::metadata(&path).expect("a pack").len() as usize;
    std::fs::remove_file(&path).expect("remove");
    std::fs::write(&path, vec![0xa5; len]).expect("write");
    for command in ["which", "explain", "blame", "du"] {
        let (_, err, code) = crafted.said(&[command, IMAGE, "/etc"]);
        assert_eq!((err.as_str(), code), ("", 0), "{command}");
    }
    for command in [&["show", IMAGE, "/etc/conf"][..], &["diff", "-U", "localhost/crafted:1@1..@2", "/etc/conf"]] {
        let (out, err, code) = crafted.said(command);
        assert!(code == 125 && err.contains("damaged") && err.contains("were changed"), "{command:?}: {code} {err}");
        assert!(!out.contains(&0xa5), "{command:?}: damage is not shown as content");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let crafted = Crafted::new();
    let cases: &[(&[&str], &str)] = &[
        (&["which", "localhost/crafted:1@4", "/x"], "has 3 layers, not 4"),
        (&["which", "localhost/crafted:1@1..@2", "/x"], "only 'mica diff' compares"),
        (&["diff", "localhost/crafted:1@1..@9"], "has 3 layers, not 9"),
        (&["show", IMAGE, "/etc"], "/etc is a directory"),
        (&["show", "nothing:/etc"], "No such image"),
        (&["find", "--layer", "7", IMAGE], "there is no layer"),
        (&["which", "docker-archive:/nowhere", "/x"], "/nowhere"),
        (&["which", "oci:image.tar"], "no PATH"),
    ];
    for (arguments, expected) in cases {
        let (out, err, code) = crafted.said(arguments);
        assert_eq!((out.as_slice(), code), (&b""[..], 125), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
}

/// Directories with what no image layer can hold: a redirect, and a copy of attributes alone.
#[test]
fn redirects_and_metacopies_of_directories_are_followed() {
    use micafs::sys;
    use micafs::sys::xattr::SetMode;
    let dir = TempDir::new("looking-dirs");
    for name in ["low/old/sub", "up/new", "up/meta"] {
        dir.dir(name);
    }
    dir.dir("low/meta");
    std::fs::write(dir.join("low/old/sub/file"), "moved\n").expect("write");
    std::fs::write(dir.join("low/meta/data"), "content\n").expect("write");
    std::fs::write(dir.join("up/meta/data"), "").expect("write");
    let stamp = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_600);
    for name in ["low/old/sub/file", "low/meta/data", "up/meta/data"] {
        let file = std::fs::File::options().write(true).open(dir.join(name)).expect("open");
        file.set_len(if name == "low/old/sub/file" { 6 } else { 8 }).expect("set_len");
        file.set_modified(stamp).expect("utimens");
    }
    let set = |path: &str, name: &[u8], value: &[u8]| {
        let path = dir.join(path);
        let (parent, last) = (path.parent().expect("a parent"), path.file_name().expect("a name"));
        let parent = sys::open::dir_path(parent).expect("open");
        let fd = sys::open::path_at(&parent, micafs::path::Name::new(last.as_bytes()).expect("a name")).expect("open");
        sys::xattr::set(&fd, name, value, SetMode::Any)
    };
    if let Err(e) = set("up/new", b"user.overlay.redirect", b"/old") {
        crate::support::skip!("no user xattrs here: {e}");
    }
    set("up/meta", b"user.overlay.impure", b"y").expect("set");
    set("up/meta/data", b"user.overlay.metacopy", b"").expect("set");
    let options = format!("lowerdir={},upperdir={}", dir.join("low").display(), dir.join("up").display());
    let said = |command: &[&str]| {
        let mut arguments = command.to_vec();
        arguments.extend(["-o", options.as_str()]);
        let out = output(&mut mica_command(&dir.join("store"), arguments));
        let text = String::from_utf8_lossy(&out.stdout).replace(&dir.path().display().to_string(), "DIR");
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{command:?}");
        (text, out.status.code())
    };
    let (text, code) = said(&["show", "/new/sub/file"]);
    assert_eq!((text.as_str(), code), ("moved\n", Some(0)));
    let (text, code) = said(&["show", "/meta/data"]);
    assert_eq!((text.as_str(), code), ("content\n", Some(0)), "the content is the lower file's");
    let (text, _) = said(&["which", "/meta/data"]);
    let states: Vec<_> = text.lines().skip(2).filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(states, ["served", "merged"], "{text}");
    let (text, _) = said(&["explain", "/new/sub/file"]);
    assert!(text.contains("goes on below as /old") && text.contains("DIR/low/old/sub/file"), "{text}");
    let (text, _) = said(&["du", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let total = &document["total"];
    assert_eq!((&total["total"], &total["wasted"]), (&14.into(), &0.into()), "both contents show: {document:#}");
}

/// A subject and a union of the same image.
fn both(store: &Store, word: &str) -> (Subject, Union) {
    let id = store.images().expect("images").find(word).expect("the image").id;
    let config = store.config(&id).expect("a config");
    let open = |id| -> Arc<dyn Layer> { Arc::new(store.layers().get(id).expect("a layer")) };
    let layers: Vec<Arc<dyn Layer>> = config.diff_ids().iter().rev().map(open).collect();
    let union = Union::new(Stack::new(None, layers).expect("a stack"), Options::default()).expect("a union");
    (micafs::engine::target::stored(store, word).expect("a subject"), union)
}

/// For every path that any layer of a real image has: the tree, `which` and the union agree on whether it shows, what it is, and, by its content, on
/// the layer that serves it. `MICA_LOOK_AT=deb-app` takes the large image.
#[test]
fn every_path_of_a_real_image_is_served_by_the_layer_that_which_names() {
    let name = std::env::var("MICA_LOOK_AT").unwrap_or_else(|_| "debian".to_owned());
    let fixture = require_fixture!(&name);
    let dir = TempDir::new("looking-real");
    let file = fixture.file("docker.tar");
    run_ok(&mut mica_command(&dir.join("store"), [OsStr::new("load"), "-i".as_ref(), file.as_os_str()]));
    let store = Store::open(&dir.join("store")).expect("the store");
    let (subject, union) = both(&store, &format!("localhost/{name}:1"));
    let (mut shown, mut hidden) = (0, 0);
    walk(&subject, &RelPath::root(), &mut |folder, entry| {
        let path = [b"/", folder.path.child(entry.name.as_name()).to_bytes().as_slice()].concat();
        let text = path.escape_ascii();
        let found = explain::explain(&subject, &path, false)?;
        let by_explain = found.served().map(|served| served.layer);
        assert_eq!(entry.served().map(|version| version.layer), by_explain, "{text}");
        let Some((kind, size, content)) = through_union(&union, &path) else {
            assert_eq!(by_explain, None, "{text}");
            hidden += 1;
            return Ok(true);
        };
        let served = entry.served().unwrap_or_else(|| panic!("{text} is served"));
        let stat = entry.stat.expect("a stat");
        assert_eq!((stat.kind(), stat.size), (kind, size), "{text}");
        let (object, _) = served.object().expect("an object");
        if kind == Kind::File {
            let digest = explain::content::digest(object)?.expect("a digest");
            assert_eq!(digest, micafs::digest::Digest::of(&content), "{text}");
        }
        shown += 1;
        Ok(true)
    })
    .expect("a walk");
    assert!(shown > 1000 && hidden > 5, "{shown} shown, {hidden} hidden");
}

/// Every object below a directory on disk.
fn tree_of(top: &Path, prefix: &[u8], out: &mut BTreeMap<Vec<u8>, (Kind, u32, u64)>) {
    let dir = micafs::sys::open::dir_path(top).expect("open");
    for entry in std::fs::read_dir(top).expect("a list") {
        let entry = entry.expect("an entry");
        let path = [prefix, b"/", entry.file_name().as_bytes()].concat();
        let name = micafs::path::NameBuf::new(entry.file_name().as_bytes()).expect("a name");
        let stat = micafs::sys::attr::stat_at(&dir, name.as_name()).expect("a stat").expect("it is there");
        out.insert(path.clone(), described(&stat));
        if stat.kind() == Kind::Dir {
            tree_of(&entry.path(), &path, out);
        }
    }
}

fn described(stat: &Stat) -> (Kind, u32, u64) {
    (stat.kind(), stat.mode, if stat.kind() == Kind::File { stat.size } else { 0 })
}

#[test]
fn random_stacks_show_what_a_plain_copy_of_the_layers_shows() {
    require_root!();
    let config = Config { cases: crate::model::cases(40), failure_persistence: None, ..Config::default() };
    let strategy = prop::collection::vec(layers::any_layer(&[layers::Store::Dir, layers::Store::Aufs], true), 1..5);
    let result = TestRunner::new(config).run(&strategy, |specs| {
        let dir = TempDir::new("looking-random");
        let fds = FdCache::new(64);
        let mut sheets = Vec::new();
        for (number, spec) in specs.iter().enumerate() {
            let top = dir.dir(number.to_string());
            layers::write(&top, spec).expect("a layer");
            sheets.insert(0, Sheet::bare(Arc::new(DirLayer::open(&top, fds.clone()).expect("a layer"))));
        }
        let plain = dir.dir("plain");
        layers::apply(&plain, specs.iter()).expect("a copy");
        let mut expected = BTreeMap::new();
        tree_of(&plain, b"", &mut expected);
        let subject = Subject::new("random", None, sheets, fds).expect("a subject");
        let mut found = BTreeMap::new();
        walk(&subject, &RelPath::root(), &mut |folder, entry| {
            if let Some(stat) = &entry.stat {
                let path = [b"/", folder.path.child(entry.name.as_name()).to_bytes().as_slice()].concat();
                found.insert(path, described(stat));
            }
            Ok(true)
        })
        .expect("a walk");
        prop_assert_eq!(found, expected);
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}
