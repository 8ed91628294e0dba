//! The pure parts, and the walk inside a root.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::Error;
use super::inroot::Missing;
use super::inroot::Root;
use super::spec;
use super::spec::ImageConfig;
use super::spec::Overrides;
use super::spec::Rlimit;
use super::spec::Spec;
use super::user;
use super::wire;
use crate::sys::open;

fn os(texts: &[&str]) -> Vec<OsString> {
    texts.iter().map(OsString::from).collect()
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: os(&["/entry", "-x"]),
        cmd: os(&["serve"]),
        env: os(&["PATH=/opt/bin", "LANG=C", "broken"]),
        user: "ann".to_owned(),
        workdir: b"/srv".to_vec(),
    }
}

fn merged(over: Overrides) -> Spec {
    let over = Overrides { hostname: "box".to_owned(), ..over };
    spec::from_image(PathBuf::from("/r"), &image(), &over).unwrap()
}

#[test]
fn the_command_follows_dockers_rules() {
    assert_eq!(merged(Overrides::default()).argv, os(&["/entry", "-x", "serve"]));
    assert_eq!(merged(Overrides { args: os(&["a"]), ..Default::default() }).argv, os(&["/entry", "-x", "a"]));
    let entrypoint = |e: &str, args: &[&str]| {
        merged(Overrides { entrypoint: Some(e.into()), args: os(args), ..Default::default() }).argv
    };
    assert_eq!(entrypoint("/sh", &[]), os(&["/sh"]));
    assert_eq!(entrypoint("/sh", &["-c", "x"]), os(&["/sh", "-c", "x"]));
    assert_eq!(entrypoint("", &["ls"]), os(&["ls"]));
    let none = Overrides { entrypoint: Some("".into()), hostname: "h".into(), ..Default::default() };
    assert!(matches!(spec::from_image("/r".into(), &image(), &none), Err(Error::Spec(_))));
}

#[test]
fn the_environment_is_put_together() {
    let over = Overrides { env: os(&["LANG=de", "A=1", "HOSTNAME"]), tty: true, ..Default::default() };
    assert_eq!(merged(over).env, os(&["PATH=/opt/bin", "TERM=xterm", "LANG=de", "A=1"]));
    let plain = spec::from_image(
        "/r".into(),
        &ImageConfig::default(),
        &Overrides { args: os(&["x"]), hostname: "h".into(), ..Default::default() },
    );
    assert_eq!(plain.unwrap().env, os(&[spec::DEFAULT_PATH, "HOSTNAME=h"]));
}

#[test]
fn user_and_workdir_of_the_command_line_win() {
    let spec = merged(Overrides { user: Some("5".into()), workdir: Some(b"/w".to_vec()), ..Default::default() });
    assert_eq!((spec.user.as_deref(), spec.cwd.as_slice()), (Some("5"), b"/w".as_slice()));
    let spec = merged(Overrides::default());
    assert_eq!((spec.user.as_deref(), spec.cwd.as_slice()), (Some("ann"), b"/srv".as_slice()));
}

#[test]
fn a_bad_specification_is_refused() {
    let good = merged(Overrides::default());
    good.check().unwrap();
    let bad: [fn(&mut Spec); 5] = [
        |s| s.hostname = "a b".to_owned(),
        |s| s.hostname = "x".repeat(65),
        |s| s.cwd = b"relative".to_vec(),
        |s| s.argv.push("a\0b".into()),
        |s| s.binds.push(spec::Bind { source: "/x".into(), target: b"rel".to_vec(), read_only: false }),
    ];
    for change in bad {
        let mut spec = good.clone();
        change(&mut spec);
        assert!(matches!(spec.check(), Err(Error::Spec(_))), "{spec:?}");
    }
}

#[test]
fn ulimits_are_parsed() {
    let limit = Rlimit::parse("nofile=10:20").unwrap();
    assert_eq!((limit.soft, limit.hard), (Some(10), Some(20)));
    let limit = Rlimit::parse("core=-1").unwrap();
    assert_eq!((limit.soft, limit.hard), (None, None));
    for bad in ["nofile", "what=1", "nofile=x", "nofile=20:10", "nofile=-1:10"] {
        assert!(Rlimit::parse(bad).is_err(), "{bad}");
    }
}

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\n:::\nbad:x:-1:0::/:\nbig:x:4294967295:0::/:\n\
    ann:x:1000:1001:Ann,,,:/home/ann:/bin/sh\n\xff\xfe:x:7:7::/odd:\nann:x:2:2::/second:\n1234:x:50:50::/fifty:\nshort:x:1\n";
const GROUP: &[u8] = b"root:x:0:\naudio:x:29:bob,ann\nvideo:x:44:ann\naudio2:x:29:ann\nbroken\nbig:x:99999999999:ann\n";

fn who(user: &str) -> (u32, u32, Vec<u32>, Vec<u8>) {
    let found = user::identify(Some(user), PASSWD, GROUP).unwrap();
    (found.uid, found.gid, found.groups, found.home)
}

#[test]
fn users_are_found_in_hostile_files() {
    assert_eq!(who(""), (0, 0, vec![], b"/root".to_vec()));
    assert_eq!(who("ann"), (1000, 1001, vec![29, 44], b"/home/ann".to_vec()));
    assert_eq!(who("1000"), (1000, 1001, vec![29, 44], b"/home/ann".to_vec()));
    assert_eq!(who("ann:video"), (1000, 44, vec![], b"/home/ann".to_vec()));
    assert_eq!(who("77:88"), (77, 88, vec![], b"/".to_vec()));
    // Digits are an id, also when there is such a name (CVE-2016-3697).
    assert_eq!(who("1234"), (1234, 0, vec![], b"/".to_vec()));
    assert_eq!(who("50"), (50, 50, vec![], b"/fifty".to_vec()));
    assert_eq!(who("ann:29"), (1000, 29, vec![], b"/home/ann".to_vec()));
    for unknown in ["bob", "big", "bad", "-1", "4294967295", "ann:nobody", "short", "99999999999999999999"] {
        assert!(matches!(user::identify(Some(unknown), PASSWD, GROUP), Err(Error::Spec(_))), "{unknown}");
    }
    assert_eq!(user::identify(None, b"", b"").unwrap().home, b"/");
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("mica-inroot-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("a/b")).unwrap();
        Self(dir)
    }

    fn root(&self) -> Root {
        Root::new(open::dir_path(&self.0).unwrap())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn no_path_leads_out_of_the_root() {
    let dir = Dir::new("out");
    fs::write(dir.0.join("a/file"), "inside").unwrap();
    symlink("/../../..", dir.0.join("up")).unwrap();
    symlink("../../../../a/file", dir.0.join("a/b/link")).unwrap();
    symlink("/etc/hostname", dir.0.join("host")).unwrap();
    symlink("loop", dir.0.join("loop")).unwrap();
    let root = dir.root();
    for path in ["a/file", "/a/b/link", "up/up/a/file", "a/b/../../../../a/file", "./a//b/./link"] {
        assert_eq!(root.read(path.as_bytes(), 100).unwrap().unwrap(), b"inside", "{path}");
    }
    assert_eq!(root.read(b"host", 100).unwrap(), None);
    assert_eq!(root.read(b"loop", 100).unwrap(), None);
    assert_eq!(root.read(b"a", 100).unwrap(), None);
    assert!(matches!(root.read(b"a/file", 3), Err(Error::Refused { .. })));
    assert!(root.resolve(b"a/file/x", Missing::MakeDir).is_err());
}

#[test]
fn what_is_missing_is_made_inside() {
    let dir = Dir::new("make");
    let outside = Dir::new("outside");
    symlink(&outside.0, dir.0.join("etc")).unwrap();
    dir.root().resolve(b"etc/new/file", Missing::MakeFile).unwrap();
    dir.root().resolve(b"x/y/../z", Missing::MakeDir).unwrap();
    assert!(!outside.0.join("new").exists());
    assert!(dir.0.join(outside.0.strip_prefix("/").unwrap()).join("new/file").is_file());
    assert!(dir.0.join("x/z").is_dir());
    let deep = "d/".repeat(200);
    assert!(dir.root().resolve(deep.as_bytes(), Missing::MakeDir).is_err());
}

#[test]
fn a_failure_crosses_the_wire() {
    let error = Error::NotFound { command: "x".into(), why: "gone".into() };
    let told = wire::parse_failure(&wire::failure(&error), b"x");
    assert_eq!((told.exit_code(), told.to_string()), (127, error.to_string()));
    let told = wire::parse_failure(&8i32.to_ne_bytes(), b"x");
    assert_eq!(told.exit_code(), 126);
    assert_eq!(wire::parse_failure(b"?", b"x").exit_code(), 125);
}
