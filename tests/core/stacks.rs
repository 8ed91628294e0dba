//! Every command on a bare stack that holds what no image layer can: redirects and copies of attributes alone, beside one of everything else
//! (whiteout, opaque directory, re-created directory, hard link, chain of symlinks, capability), as the kernel's overlayfs writes them.
//!
//! The expected texts lie in `tests/golden/stacks/`; with `MICA_UPDATE_GOLDEN` set they are written anew, to be read and committed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use micafs::path::Name;
use micafs::sys;
use micafs::sys::xattr::SetMode;

use crate::explain::check_golden;
use crate::looking::CAPABILITY;
use crate::support::TempDir;
use crate::support::bin::mica;
use crate::support::bin::output;
use crate::support::require_root;
use crate::support::skip;

/// Where the stack lies for the commands: they show its paths, which must be the same at each run.
const PLACE: &str = "/mnt";

/// Low is what was there; mid and the upper directory are what was done to it.
///
/// ```text
/// low  etc/conf etc/motd etc/old/gone  opq/low  bin/ping(+cap)  hard-a=hard-b  usr/lib/big lib->usr/lib chain1->/chain2->../../lib  data/file srv/a/deep
/// mid  etc: conf changed, motd deleted, old/ deleted and made again     opq/ opaque, with new      srv/b (redirect /srv/a), srv/a deleted
/// up   data/renamed (copy of the attributes of data/file, mode 600: metacopy and redirect), data/file deleted; bin/ping copied by chown: no capability
/// ```
fn make(top: &Path) {
    let dir = |path: &str| fs::create_dir_all(top.join(path)).unwrap();
    let file = |path: &str, text: &str| {
        dir(Path::new(path).parent().unwrap().to_str().unwrap());
        fs::write(top.join(path), text).unwrap();
    };
    let set = |path: &str, name: &str, value: &[u8]| {
        let path = top.join(path);
        let parent = sys::open::dir_path(path.parent().unwrap()).unwrap();
        let last = path.file_name().unwrap().as_encoded_bytes();
        let fd = sys::open::path_at(&parent, Name::new(last).unwrap()).unwrap();
        sys::xattr::set(&fd, name.as_bytes(), value, SetMode::Any).unwrap();
    };
    let whiteout = |path: &str| {
        dir(Path::new(path).parent().unwrap().to_str().unwrap());
        let done = Command::new("mknod").arg(top.join(path)).args(["c", "0", "0"]).status().unwrap();
        assert!(done.success(), "mknod {path}");
    };
    let big = "b".repeat(100_000);
    for (path, text) in [
        ("low/etc/conf", "a\nb\nc\n"),
        ("low/etc/motd", "hello\n"),
        ("low/etc/old/gone", "gone\n"),
        ("low/opq/low", "low\n"),
        ("low/bin/ping", "\x7fELF ping\n"),
        ("low/hard-a", "hard\n"),
        ("low/usr/lib/big", &big),
        ("low/data/file", "content\n"),
        ("low/srv/a/deep", "deep\n"),
        ("low/id_rsa", "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90aGluZw==\n-----END OPENSSH PRIVATE KEY-----\n"),
        ("mid/etc/conf", "a\nB\nc\n"),
        ("mid/etc/old/again", "again\n"),
        ("mid/opq/new", "new\n"),
        ("mid/srv/b/more", "more\n"),
        ("up/data/renamed", ""),
        ("up/bin/ping", "\x7fELF ping\n"),
    ] {
        file(path, text);
    }
    fs::hard_link(top.join("low/hard-a"), top.join("low/hard-b")).unwrap();
    for (link, to) in [("lib", "usr/lib"), ("chain1", "/chain2"), ("chain2", "../../lib")] {
        symlink(to, top.join("low").join(link)).unwrap();
    }
    set("low/bin/ping", "security.capability", CAPABILITY);
    for path in ["mid/etc/motd", "mid/srv/a", "up/data/file", "up/id_rsa"] {
        whiteout(path);
    }
    set("mid/etc/old", "trusted.overlay.opaque", b"y");
    set("mid/opq", "trusted.overlay.opaque", b"y");
    set("mid/srv/b", "trusted.overlay.redirect", b"a");
    set("up/data", "trusted.overlay.impure", b"y");
    set("up/data/renamed", "trusted.overlay.metacopy", b"");
    set("up/data/renamed", "trusted.overlay.redirect", b"file");
    let renamed = fs::File::options().write(true).open(top.join("up/data/renamed")).unwrap();
    renamed.set_len("content\n".len() as u64).unwrap();
    fs::set_permissions(top.join("up/data/renamed"), fs::Permissions::from_mode(0o600)).unwrap();
    stamp(top);
}

/// One time and one mode for everything that says nothing else.
fn stamp(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            stamp(&path);
        }
        let mode = if meta.is_dir() { 0o755 } else { 0o644 };
        if !meta.is_symlink() && !path.ends_with("renamed") {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let when = ["-h", "-d", "2026-01-01T00:00:00Z"];
        assert!(Command::new("touch").args(when).arg(&path).status().unwrap().success());
    }
    let file = fs::File::open(dir).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_767_225_600)).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `mica COMMAND -o STACK ARGS...` with the stack at its place, which is this process's alone.
fn said(dir: &Path, command: &str, arguments: &[&str]) -> (String, String, Option<i32>) {
    let stack = format!("lowerdir={PLACE}/mid:{PLACE}/low,upperdir={PLACE}/up");
    let mut outer = Command::new("unshare");
    outer.args(["-m", "sh", "-c", "mount --bind \"$0\" \"$1\" && shift && exec \"$@\""]).arg(dir).arg(PLACE);
    outer.arg(mica()).arg(command).args(["-o", &stack]).args(arguments);
    let out = output(outer.env("MICA_ROOT", dir.join("store")).current_dir(dir));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&out.stdout), text(&out.stderr), out.status.code())
}

/// Size and links of a directory are its filesystem's business.
fn forget_directories(value: &mut serde_json::Value) {
    if value["kind"] == "dir" && value.get("size").is_some() {
        (value["size"], value["nlink"]) = (0.into(), 1.into());
    }
    match value {
        serde_json::Value::Array(all) => all.iter_mut().for_each(forget_directories),
        serde_json::Value::Object(all) => all.values_mut().for_each(forget_directories),
        _ => {}
    }
}

#[test]
fn every_command_on_redirects_and_metacopies_says_what_it_said() {
    require_root!();
    let dir = TempDir::new("stacks");
    if !output(Command::new("unshare").args(["-m", "true"])).status.success() || !Path::new(PLACE).is_dir() {
        skip!("no mount namespace of its own, or no {PLACE}");
    }
    make(dir.path());
    let cases: &[(&str, &str, &[&str], i32)] = &[
        ("which-redirect", "which", &["/srv/b/deep"], 0),
        ("which-redirect-directory", "which", &["/srv/b"], 0),
        ("which-redirect-from", "which", &["/srv/a/deep"], 1),
        ("which-metacopy", "which", &["/data/renamed"], 0),
        ("which-whiteout", "which", &["/etc/motd"], 1),
        ("which-opaque", "which", &["/opq/low"], 1),
        ("which-recreated", "which", &["/etc/old"], 0),
        ("which-hardlink", "which", &["/hard-b"], 0),
        ("which-symlinks", "which", &["/chain1/big"], 0),
        ("which-capability", "which", &["/bin/ping"], 0),
        ("which", "which", &["--json", "/data/renamed"], 0),
        ("explain-redirect", "explain", &["/srv/b/deep"], 0),
        ("explain-redirect-from", "explain", &["/srv/a/deep"], 1),
        ("explain-metacopy", "explain", &["/data/renamed"], 0),
        ("explain-recreated", "explain", &["/etc/old/gone"], 1),
        ("explain-symlinks", "explain", &["/chain1/big"], 0),
        ("explain", "explain", &["--json", "/srv/b/deep"], 0),
        ("log-redirect", "log", &["/srv/b/deep"], 0),
        ("log-metacopy", "log", &["/data/renamed"], 0),
        ("log-metacopy-from", "log", &["/data/file"], 1),
        ("log-capability", "log", &["/bin/ping"], 0),
        ("log-recreated", "log", &["/etc/old"], 0),
        ("log", "log", &["--json", "/data/renamed"], 0),
        ("blame", "blame", &["-R"], 0),
        ("blame", "blame", &["--json", "/data"], 0),
        ("show-redirect", "show", &["/srv/b/deep"], 0),
        ("show-metacopy", "show", &["/data/renamed"], 0),
        ("show-hidden", "show", &["/srv/a/deep"], 1),
        ("diff-upper", "diff", &[], 0),
        ("diff-redirect", "diff", &["1..2", "/srv"], 0),
        ("diff-metacopy", "diff", &["-U", "2..3", "/data"], 0),
        ("diff-all", "diff", &["-U", "1..3"], 0),
        ("diff", "diff", &["--json", "2..3"], 0),
        ("du", "du", &["--bytes", "--depth", "2"], 0),
        ("du", "du", &["--json"], 0),
        ("find", "find", &["--name", "*e*"], 0),
        ("find-whiteouts", "find", &["--kind", "w"], 0),
        ("find-deleted", "find", &["--deleted"], 0),
        ("find-dup", "find", &["--dup"], 0),
        ("find", "find", &["--json", "--name", "renamed"], 0),
        ("lint", "lint", &[], 0),
        ("lint", "lint", &["--json"], 0),
    ];
    for (name, command, arguments, code) in cases {
        let (out, err, found) = said(dir.path(), command, arguments);
        assert_eq!(found, Some(*code), "{name}: {out}{err}");
        let json = arguments.contains(&"--json");
        let out = if json {
            let mut document = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{name}: {e}\n{out}"));
            forget_directories(&mut document);
            format!("{document:#}\n")
        } else {
            out
        };
        let text = format!("{out}{err}").replace(&dir.path().display().to_string(), "DIR");
        check_golden("stacks", &format!("{name}.{}", if json { "json" } else { "txt" }), &text);
    }
}
