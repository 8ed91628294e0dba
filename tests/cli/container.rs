//! `mica run` and its relatives: exit codes, signals, streams, names, and what is left behind: nothing.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;

use crate::area::Area;
use crate::area::Started;
use crate::area::finish;
use crate::area::is_alive;
use crate::area::signal_pid;
use crate::area::until;
use crate::support::Fixture;
use crate::support::guard::mounts_below;
use crate::support::require_fixture;
use crate::support::require_root;

/// One line of `mica ps -a` for a container, by a template.
pub fn ps(area: &Area, name: &str, template: &str) -> Option<String> {
    let all = area.ok(["ps", "-a", "--format", &format!("{{{{.Names}}}} {template}")]);
    all.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned))
}

/// Starts a container that runs until it is ended; returns when its command runs.
pub fn start(area: &Area, name: &str, image: &str, script: &str) -> Started {
    let script = format!("{script}\necho up >/tmp/up; while :; do sleep 0.05; done");
    let mica = Started::new(&mut area.mica(["run", "--name", name, image, "sh", "-c", &script]));
    until("the container runs", || ps(area, name, "{{.State}}").as_deref() == Some("running"));
    until("its command runs", || area.ok(["diff", name]).contains("/tmp/up"));
    mica
}

/// The host's number of a running container's process 1, by its record.
pub fn pid_of(area: &Area, name: &str) -> u32 {
    let text = record(area, name);
    let digits = text.split("\"pid\":").nth(1).expect("a pid").trim_start();
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|d| d.parse().ok()).expect("a number")
}

fn record(area: &Area, name: &str) -> String {
    let id = ps_id(area, name);
    let dir: PathBuf = area.store().join("containers").join(id);
    let files = fs::read_dir(&dir).expect("a container").flatten().filter(|e| e.path().extension().is_some());
    files.map(|e| fs::read_to_string(e.path()).unwrap_or_default()).collect()
}

fn ps_id(area: &Area, name: &str) -> String {
    let all = area.ok(["ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]);
    all.lines().find_map(|l| l.strip_prefix(&format!("{name} "))).expect("a container").to_owned()
}

/// Fails unless no container, mount or server of the area is left.
#[track_caller]
pub fn nothing_is_left(area: &Area) {
    assert_eq!(area.ok(["ps", "-a", "-q"]), "");
    assert_eq!(fs::read_dir(area.store().join("containers")).unwrap().count(), 0, "directories of containers");
    assert_eq!(mounts_below(&area.store()), Vec::<PathBuf>::new());
    until("no server is left", || area.servers().is_empty());
    assert_eq!(fs::read_dir(area.store().join("mounts")).unwrap().count(), 0, "records of mounts");
}

fn busybox(label: &str, fixture: &Fixture) -> (Area, String) {
    (Area::with(label, fixture), fixture.image())
}

#[test]
fn exit_codes() {
    require_root!();
    let (area, image) = busybox("codes", &require_fixture!("busybox"));
    let code = |script: &str| area.said(["run", "--rm", &image, "sh", "-c", script]).code();
    assert_eq!(code("exit 0"), 0);
    assert_eq!(code("exit 3"), 3);
    assert_eq!(code("exit 255"), 255);
    // A shell's report of a child that a signal killed.
    assert_eq!(code("sh -c 'kill -9 $$'; exit $?"), 137);
    assert_eq!(code("sh -c 'kill -15 $$'; exit $?"), 143);
    let said = area.fails(["run", "--rm", &image, "nosuch"], 127);
    assert!(said.contains("nosuch"), "{said}");
    let said = area.fails(["run", "--rm", &image, "/nosuch"], 127);
    assert!(said.contains("/nosuch"), "{said}");
    let said = area.fails(["run", "--rm", &image, "/etc/passwd"], 126);
    assert!(said.contains("/etc/passwd"), "{said}");
    let said = area.fails(["run", "--rm", &image, "/etc"], 126);
    assert!(said.contains("/etc"), "{said}");
    let said = area.fails(["run", "--rm", "nosuch", "true"], 125);
    assert!(said.contains("nosuch") && said.contains("hint: "), "{said}");
    assert_eq!(area.said(["run", "--nosuchoption", &image, "true"]).code(), 125);
    nothing_is_left(&area);
}

#[test]
fn streams_are_the_callers() {
    require_root!();
    let (area, image) = busybox("streams", &require_fixture!("busybox"));
    let said = area.said(["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));
    for (option, expected) in [("-i", 3_000_000), ("--rm", 0)] {
        let mut command = area.mica(["run", "--rm", option, &image, "wc", "-c"].iter().filter(|a| **a != "--rm"));
        let mut mica = Started::new(command.stdin(Stdio::piped()));
        let mut input = mica.child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || drop(input.write_all(&vec![b'x'; 3_000_000])));
        let said = mica.finish();
        writer.join().unwrap();
        assert_eq!(said.out.trim(), expected.to_string(), "{option}: {said:?}");
    }
}

#[test]
fn a_signal_to_mica_reaches_the_container() {
    require_root!();
    let (area, image) = busybox("signal", &require_fixture!("busybox"));
    let traps = "trap 'echo term; exit 143' TERM; trap 'echo int; exit 7' INT; trap 'echo usr1' USR1";
    for (signal, code, text) in [(Signal::TERM, 143, "term\n"), (Signal::INT, 7, "int\n")] {
        let mica = start(&area, "traps", &image, traps);
        mica.signal(Signal::USR1);
        std::thread::sleep(std::time::Duration::from_millis(300)); // else the two may come in either order
        mica.signal(signal);
        let said = mica.finish();
        assert_eq!((said.code(), said.out.as_str()), (code, format!("usr1\n{text}").as_str()), "{said:?}");
        assert!(ps(&area, "traps", "{{.Status}}").unwrap().starts_with(&format!("Exited ({code})")));
        area.ok(["rm", "traps"]);
    }
    nothing_is_left(&area);
}

#[test]
fn a_killed_container_is_137() {
    require_root!();
    let (area, image) = busybox("killed", &require_fixture!("busybox"));
    let mica = start(&area, "victim", &image, "");
    signal_pid(pid_of(&area, "victim"), Signal::KILL);
    assert_eq!(mica.finish().code(), 137);
    assert!(ps(&area, "victim", "{{.Status}}").unwrap().starts_with("Exited (137)"));
    area.ok(["rm", "victim"]);
    nothing_is_left(&area);
}

#[test]
fn names_are_taken_once() {
    require_root!();
    let (area, image) = busybox("names", &require_fixture!("busybox"));
    area.ok(["run", "--name", "one", &image, "true"]);
    let said = area.fails(["run", "--name", "one", &image, "true"], 125);
    assert!(said.contains("one") && said.contains("in use"), "{said}");
    let said = area.fails(["run", "--name=-bad/name", &image, "true"], 125);
    assert!(said.contains("bad/name") || said.contains("--name"), "{said}");
    assert_eq!(area.ok(["ps", "-a", "-q"]).lines().count(), 1);
    area.ok(["rm", "one"]);
    nothing_is_left(&area);
}

#[test]
fn two_at_once_do_not_see_each_other() {
    require_root!();
    let (area, image) = busybox("two", &require_fixture!("busybox"));
    let first = start(&area, "first", &image, "echo 1 >/etc/mine");
    let second = start(&area, "second", &image, "echo 2 >/etc/mine; rm /etc/passwd");
    assert_eq!(area.ok(["ps", "-q"]).lines().count(), 2);
    assert!(!area.ok(["diff", "first"]).contains("D /etc/passwd"));
    assert!(area.ok(["diff", "second"]).contains("D /etc/passwd"));
    for name in ["first", "second"] {
        let said = area.fails(["rm", name], 1);
        assert!(said.contains("running") && said.contains("hint: "), "{said}");
        area.ok(["rm", "-f", name]);
    }
    assert_eq!((first.finish().code(), second.finish().code()), (137, 137));
    nothing_is_left(&area);
}

#[test]
fn an_image_in_use_is_not_removed() {
    require_root!();
    let (area, image) = busybox("inuse", &require_fixture!("busybox"));
    let mica = start(&area, "user", &image, "");
    let said = area.fails(["rmi", &image], 1);
    assert!(said.contains("using"), "{said}");
    let id = area.ok(["images", "-q"]);
    let said = area.fails(["rmi", "-f", id.trim()], 1);
    assert!(said.contains("(cannot be forced) - image is being used by running container"), "{said}");
    // By its name, as docker does: the name goes, the image stays.
    assert_eq!(area.ok(["rmi", "-f", &image]), format!("Untagged: {image}\n"));
    assert_eq!(area.ok(["images", "-q", "--filter", "dangling=true"]), id);
    area.ok(["tag", id.trim(), &image]);
    signal_pid(pid_of(&area, "user"), Signal::KILL);
    mica.finish();
    let said = area.fails(["rmi", &image], 1);
    assert!(said.contains("using") && said.contains("hint: "), "{said}");
    area.ok(["rm", "user"]);
    area.ok(["rmi", &image]);
    nothing_is_left(&area);
}

#[test]
fn the_image_says_what_runs_and_the_command_line_changes_it() {
    require_root!();
    let (area, image) = busybox("config", &require_fixture!("busybox"));
    let shell = finish(area.mica(["run", "--rm", "-i", &image]).stdin(Stdio::null()));
    assert_eq!(shell.code(), 0, "its command is a shell, which ends with its input: {shell:?}");
    let script = "echo $A $(id -u) $(pwd) $(hostname); cat /proc/1/comm; ls /proc/self/fd | wc -l";
    let out = area.ok(["run", "--rm", "-e", "A=b", "-u", "7:8", "-w", "/tmp", "-h", "box", &image, "sh", "-c", script]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.first(), Some(&"b 7 /tmp box"));
    assert_eq!(lines.get(1), Some(&"sh"));
    assert_eq!(lines.get(2).map(|l| l.trim()), Some("4"), "no descriptor of ours: 0, 1, 2 and the listing's own");
    let out = area.ok(["run", "--rm", "--read-only", &image, "sh", "-c", "touch /x 2>&1 || true"]);
    assert!(out.contains("Read-only file system"), "{out}");
    let host = area.new_dir("host");
    fs::write(host.join("file"), "of the host").unwrap();
    let volume = format!("{}:/mnt/host:ro", host.display());
    let out =
        area.ok(["run", "--rm", "-v", &volume, &image, "sh", "-c", "cat /mnt/host/file; touch /mnt/host/x || true"]);
    assert_eq!(out, "of the host");
    nothing_is_left(&area);
}

#[test]
fn the_container_dies_with_mica() {
    require_root!();
    let (area, image) = busybox("orphan", &require_fixture!("busybox"));
    let mica = start(&area, "orphan", &image, "");
    let pid = pid_of(&area, "orphan");
    mica.signal(Signal::KILL);
    mica.finish();
    until("the container's process is gone", || !is_alive(pid));
    assert!(ps(&area, "orphan", "{{.Status}}").unwrap().starts_with("Exited (137)"));
    assert_eq!(mounts_below(&area.store()), Vec::<PathBuf>::new(), "the mount is gone");
    until("its server is gone", || area.servers().is_empty());
    area.ok(["diff", "orphan"]);
    area.ok(["rm", "orphan"]);
    nothing_is_left(&area);
}

#[test]
fn a_server_that_is_killed_takes_nothing_else_along() {
    require_root!();
    let (area, image) = busybox("server", &require_fixture!("busybox"));
    let mica = start(&area, "rootless", &image, "");
    let servers = area.servers();
    assert_eq!(servers.len(), 1);
    servers.iter().for_each(|pid| signal_pid(*pid, Signal::KILL));
    until("the server is gone", || servers.iter().all(|pid| !is_alive(*pid)));
    // The shell may live on without its files; what counts is that everything can be cleared up.
    area.ok(["ps", "-a"]);
    area.ok(["rm", "-f", "rootless"]);
    assert_ne!(mica.finish().code(), 0);
    nothing_is_left(&area);
    area.ok(["run", "--rm", &image, "true"]);
    nothing_is_left(&area);
}

#[test]
fn diff_and_commit_of_a_running_container() {
    require_root!();
    let (area, image) = busybox("live", &require_fixture!("busybox"));
    let mica = start(&area, "live", &image, "echo text >/etc/new");
    assert!(area.ok(["diff", "live"]).contains("A /etc/new"));
    area.ok(["commit", "live", "new:1"]);
    assert_eq!(area.ok(["run", "--rm", "new:1", "cat", "/etc/new"]), "text\n");
    area.ok(["rm", "-f", "live"]);
    mica.finish();
    nothing_is_left(&area);
}

#[test]
fn a_running_container_is_exported_as_it_shows() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let (area, image) = busybox("export-running", &fixture);
    let running = start(&area, "busy", &image, "echo new >/root/new; rm /etc/group; ln -s new /root/link");
    area.ok(["export", "-o", "one.tar", "busy"]);
    area.ok(["container", "export", "-o", "two.tar", "busy"]);
    assert_eq!(ps(&area, "busy", "{{.State}}").as_deref(), Some("running"), "it goes on");
    for tar in ["one.tar", "two.tar"] {
        let mut archive = tar::Archive::new(fs::File::open(area.join(tar)).unwrap());
        let mut files = std::collections::BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut text).unwrap();
            files.insert(path, text);
        }
        assert_eq!(files.get("root/new").map(Vec::as_slice), Some(&b"new\n"[..]), "{tar}");
        assert!(files.contains_key("root/link") && files.contains_key("etc/passwd"), "{tar}: {:?}", files.keys());
        assert!(!files.contains_key("etc/group"), "{tar}");
    }
    area.ok(["rm", "-f", "busy"]);
    drop(running);
}

#[test]
fn commit_prints_the_id_and_applies_changes() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let (area, image) = busybox("commit-change", &fixture);
    area.ok(["run", "--name", "done", &image, "sh", "-c", "echo x >/x"]);
    let changes = ["-c", "CMD [\"cat\", \"/x\"]", "--change", "ENV GREETING=hi", "-c", "WORKDIR /root"];
    let commit = [&["commit", "-p=false", "-m", "why", "-a", "who"][..], &changes, &["done", "app:2"]].concat();
    let out = area.ok(&commit);
    let hex = out.strip_prefix("sha256:").and_then(|rest| rest.strip_suffix('\n')).expect("docker's form");
    assert!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{out}");
    let format = "{{.Id}} {{json .Config.Cmd}} {{.Config.WorkingDir}} {{.Author}} {{json .Config.Env}}";
    let said = area.ok(["image", "inspect", "-f", format, "app:2"]);
    assert!(
        said.starts_with(&format!("sha256:{hex} [\"cat\",\"/x\"] /root who ")) && said.contains("GREETING=hi"),
        "{said}"
    );
    assert_eq!(area.ok(["run", "--rm", "app:2"]), "x\n");
    let images = area.ok(["images", "-q"]);
    let err = area.fails(["commit", "-c", "FROM scratch", "done", "app:3"], 1);
    assert!(err.contains("FROM is not a valid change command"), "{err}");
    assert_eq!(area.ok(["images", "-q"]), images, "nothing was made");
}

#[test]
fn inspect_knows_when_a_command_was_started() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let (area, image) = busybox("started", &fixture);
    let times = |name: &str| {
        let format = "{{.Created}} {{.State.StartedAt}} {{.State.FinishedAt}}";
        let said = area.ok(["container", "inspect", "-f", format, name]);
        let times: Vec<jiff::Timestamp> = said.split_whitespace().map(|time| time.parse().expect("a time")).collect();
        (times[0], times[1], times[2])
    };
    area.ok(["run", "--name", "done", &image, "true"]);
    let (created, started, finished) = times("done");
    assert!(created < started, "made at {created}, started at {started}");
    // The end is kept in full seconds.
    assert!(started.as_second() <= finished.as_second(), "{started} {finished}");
    area.new_dir("mnt");
    area.ok(["mount", "--rw", "--name", "never", &image, "mnt"]);
    assert_eq!(times("never").1.as_second(), -62_135_596_800, "docker's year 1");
    area.ok(["umount", "mnt"]);
}

/// What follows the image is the container's; of options that are given twice the last counts; `rm` takes docker's flags.
#[test]
fn lines_are_read_as_docker_reads_them() {
    require_root!();
    let (area, image) = busybox("lines", &require_fixture!("busybox"));
    let image = &image;
    let printed =
        area.ok(["run", "--rm", "--entrypoint", "/bin/echo", image, "-i", "--name", "x", "--", "-u", "me", "--help"]);
    assert_eq!(printed, "-i --name x -- -u me --help\n");
    assert_eq!(area.ok(["run", "--rm", "-w", "/none", "-w", "/etc", "-i", "-i", image, "pwd"]), "/etc\n");
    let made = area.join("made/by/run");
    let volume = format!("{}:/data:rw,Z", made.display());
    area.ok(["run", "--rm", "-v", &volume, image, "touch", "/data/f"]);
    assert!(made.join("f").exists());
    let read_only = format!("{}:/data:ro", made.display());
    assert!(area.said(["run", "--rm", "-v", &read_only, image, "touch", "/data/g"]).err.contains("Read-only"));
    assert!(area.fails(["rm", "nosuch"], 1).contains("No such container: nosuch"));
    let forced = area.said(["rm", "-fv", "nosuch"]);
    assert_eq!(forced.code(), 0);
    assert!(forced.err.contains("No such container: nosuch"), "{}", forced.err);
    for (word, instead) in [("pull", "mica load"), ("logs", "mica ps"), ("build", "mica commit"), ("cp", "mica export")]
    {
        let said = area.fails([word, "x"], 1);
        assert!(said.contains(&format!("no command \"{word}\"")) && said.contains(instead), "{said}");
    }
    nothing_is_left(&area);
}

/// A container makes directories as deep as it likes: what is made of them takes no more descriptors for that.
#[test]
fn a_tree_of_hundreds_of_directories_in_each_other_is_as_good_as_another() {
    require_root!();
    let (area, image) = busybox("deep", &require_fixture!("busybox"));
    let script =
        "i=0; while [ $i -lt 700 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; echo x >f; echo x >../../f";
    area.ok(["run", "--name", "deep", &image, "sh", "-c", script]);
    let long = |said: &str| said.lines().map(str::len).max().unwrap_or(0);
    assert!(long(&area.ok(["diff", "deep"])) > 1400);
    area.ok(["commit", "deep", "deep:1"]);
    assert!(long(&area.ok(["diff", &image, "deep:1"])) > 1400);
    let mica = area.mica(["rm", "deep"]);
    let mut command = std::process::Command::new("prlimit");
    command.args(["--nofile=160:160", "--"]).arg(mica.get_program()).args(mica.get_args());
    command.current_dir(area.join("")).env_remove("MICA_ROOT");
    let removed = finish(&mut command);
    assert_eq!((removed.code(), removed.err.as_str()), (0, ""));
    nothing_is_left(&area);
}

/// One file that cannot be removed keeps nobody from using the store.
#[test]
fn a_file_that_nobody_may_remove_leaves_the_store_in_use() {
    require_root!();
    let (area, image) = busybox("stuck", &require_fixture!("busybox"));
    area.ok(["run", "--name", "stuck", &image, "touch", "/kept"]);
    let kept = area.store().join("containers").join(ps_id(&area, "stuck")).join("upper/kept");
    let chattr = |how: &str, path: &std::path::Path| {
        std::process::Command::new("chattr").arg(how).arg(path).status().is_ok_and(|status| status.success())
    };
    if !chattr("+i", &kept) {
        return crate::support::report_skip("no chattr, or this filesystem has no immutable files");
    }
    let removed = area.said(["rm", "stuck"]);
    let went_on = area.said(["run", "--rm", &image, "true"]);
    let find = std::process::Command::new("find").arg(area.store()).args(["-name", "kept"]).output().unwrap();
    let place = PathBuf::from(String::from_utf8(find.stdout).unwrap().trim());
    assert!(chattr("-i", &place), "{}", place.display());
    assert!(removed.err.contains("Operation not permitted"), "{}", removed.err);
    assert_eq!(went_on.code(), 0, "{}", went_on.err);
    area.ok(["run", "--rm", &image, "true"]);
    nothing_is_left(&area);
}
