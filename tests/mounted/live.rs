//! A mount tells of itself: virtual attributes, operations as they are done, counters.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::place::On;
use crate::place::Place;
use crate::place::assert_errno;
use crate::place::mknod;
use crate::place::opaque;
use crate::place::put;
use crate::place::put_dir;
use crate::place::server_of;
use crate::place::set_xattr;
use crate::place::whiteout;
use crate::place::xattr;
use crate::place::xattr_names;
use crate::support::bin;
use crate::support::guard::wait_for;
use crate::support::report_skip;

/// For broken machines; no measure.
const LIMIT: Duration = Duration::from_secs(30);

/// A mount of mica; `None` where another one is tested, which tells nothing.
fn mounted(label: &str, fill: impl FnOnce(&Path, &Path)) -> Option<Place> {
    let mut place = Place::prepared(label)?;
    fill(&place.in_layer(0, ""), &place.in_layer(1, ""));
    // Opening is what the tests do to be told of, and to have a file copied up.
    place.set_options("io=cache");
    place.mount(On::chosen());
    if On::chosen() == On::Mica {
        return Some(place);
    }
    report_skip("only mica tells of itself");
    None
}

fn told(path: &Path, name: &str) -> String {
    let value = xattr(path, name).unwrap_or_else(|e| panic!("{name} of {}: {e}", path.display()));
    String::from_utf8(value).expect("text")
}

/// A listener that writes JSON lines.
struct Tracer {
    child: Child,
    lines: Option<BufReader<std::process::ChildStdout>>,
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mica(args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").arg(bin::mica()).args(args).stdin(Stdio::null());
    command
}

impl Tracer {
    /// Returns when it hears: what it does not hear of a name asked for again and again came too early.
    fn start(place: &Place, args: &[&str]) -> Self {
        let listeners = || stats(&place.top)["listeners"].as_u64().unwrap();
        let before = listeners();
        let top = place.top.to_str().unwrap();
        let mut command = mica(&["trace", top, "--json"]);
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mica trace");
        let out = child.stdout.take().expect("a pipe");
        let mut tracer = Self { child, lines: None };
        tracer.lines = Some(BufReader::new(out));
        while listeners() == before {
            assert!(tracer.child.try_wait().expect("wait").is_none(), "mica trace ended");
            std::thread::yield_now();
        }
        tracer
    }

    /// The next event; `None` at the end.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let n = self.lines.as_mut().expect("its output").read_line(&mut line).expect("a line");
        (n > 0).then(|| serde_json::from_str(&line).expect("JSON"))
    }

    /// The next event of an operation.
    fn next_of(&mut self, op: &str) -> Value {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("no {op} came"));
            if event["op"] == op {
                return event;
            }
        }
    }

    fn end(mut self) -> (i32, String) {
        drop(self.lines.take());
        let mut said = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        (self.child.wait().expect("wait").code().unwrap_or(-1), said)
    }
}

fn stats(top: &Path) -> Value {
    let out = bin::run_ok(&mut mica(&["stats", "--json", top.to_str().unwrap()]));
    serde_json::from_str(&out).expect("JSON")
}

fn stack(top: &Path, low: &Path) {
    put(top, "d/both", "top");
    put(low, "d/both", "low");
    put(low, "d/low", "low");
    put(low, "d/one", "one");
    put(low, "d/gone", "x");
    whiteout(&top.join("d/gone"));
    opaque(&put_dir(top, "closed"));
    put(low, "closed/inside", "x");
    std::os::unix::fs::symlink("low", low.join("d/link")).unwrap();
    mknod(&low.join("d/fifo"), rustix::fs::FileType::Fifo, 0o600, 0).unwrap();
    fs::hard_link(low.join("d/low"), low.join("d/low2")).unwrap();
}

#[test]
fn attributes_tell_which_layer_serves_every_kind_of_object() {
    let Some(p) = mounted("vkinds", stack) else { return };
    let (top, low) = (p.in_layer(0, ""), p.in_layer(1, ""));
    let (top, low) = (top.to_str().unwrap().trim_end_matches('/'), low.to_str().unwrap().trim_end_matches('/'));
    assert_eq!(told(&p.at("d/both"), "user.mica.layer"), format!("2 - {top}"));
    assert_eq!(told(&p.at("d/both"), "user.mica.layers"), format!("2 - found {top}\n1 - shadowed {low}"));
    assert_eq!(told(&p.at("d"), "user.mica.layers"), format!("2 - found {top}\n1 - merged {low}"));
    assert_eq!(told(&p.at("d/low"), "user.mica.realpath"), format!("{low}/d/low"));
    assert_eq!(told(&p.at("d"), "user.mica.realpath"), format!("{top}/d"));
    assert_eq!(told(&p.at("d"), "user.mica.whiteout-by.gone"), "2 - whiteout /d/gone");
    assert_eq!(told(&p.at("closed"), "user.mica.whiteout-by.inside"), "2 - opaque /closed");
    assert_eq!(told(&p.at("d/both"), "user.mica.whiteout-by"), "2 - covered /d/both");
    assert_eq!(told(&p.at("closed"), "user.mica.layers"), format!("2 - opaque {top}\n1 - shadowed {low}"));
    assert!(told(&p.at("d/low"), "user.mica.explain").contains("/d/low in "));
    for name in ["d/link", "d/fifo"] {
        // The kernel itself answers for these; root has another way.
        assert_errno!(xattr(&p.at(name), "user.mica.layer"), NODATA);
        assert_eq!(told(&p.at(name), "trusted.mica.layer"), format!("1 - {low}"), "{name}");
    }
    assert_eq!(
        told(&p.at(""), "user.mica.layer"),
        format!("upper - {}", p.in_upper("").to_str().unwrap().trim_end_matches('/'))
    );
    for (name, what) in [("d/low", "origin"), ("d/low", "whiteout-by"), ("d", "whiteout-by.none"), ("d", "nonsense")] {
        assert_errno!(xattr(&p.at(name), &format!("user.mica.{what}")), NODATA);
    }
}

#[test]
fn attributes_follow_a_copy_up_and_a_lost_name() {
    let Some(p) = mounted("vcopy", stack) else { return };
    let upper = p.in_upper("").to_str().unwrap().trim_end_matches('/').to_owned();
    let open = fs::OpenOptions::new().append(true).open(p.at("d/low")).unwrap();
    // Both names of it are one file still.
    for name in ["d/low", "d/low2"] {
        assert_eq!(told(&p.at(name), "user.mica.layer"), format!("upper - {upper}"), "{name}");
        // Of a file with several names in a directory, no origin is recorded.
        assert_errno!(xattr(&p.at(name), "user.mica.origin"), NODATA);
    }
    fs::OpenOptions::new().append(true).open(p.at("d/one")).unwrap();
    assert!(told(&p.at("d/one"), "user.mica.origin").starts_with("1 - inode "));
    assert_eq!(told(&p.at("d"), "user.mica.layer"), format!("upper - {upper}"));
    fs::write(p.at("d/new"), "x").unwrap();
    assert_errno!(xattr(&p.at("d/new"), "user.mica.origin"), NODATA);
    fs::remove_file(p.at("d/low")).unwrap();
    fs::remove_file(p.at("d/low2")).unwrap();
    let mut value = [0u8; 256];
    let n = rustix::fs::fgetxattr(&open, "user.mica.layer", &mut value[..]).unwrap();
    assert!(value[..n].starts_with(b"upper"), "it lies there without a name");
    assert_errno!(rustix::fs::fgetxattr(&open, "user.mica.layers", &mut value[..]), NODATA);
    assert_eq!(told(&p.at("d"), "user.mica.whiteout-by.low"), "upper - whiteout /d/low");
}

#[test]
fn attributes_are_hidden_cannot_be_set_and_no_layer_can_lie() {
    let fill = |top: &Path, low: &Path| {
        stack(top, low);
        set_xattr(&low.join("d/low"), "user.mica.layer", b"a lie").unwrap();
        set_xattr(&low.join("d/low"), "trusted.mica.explain", b"a lie").unwrap();
        set_xattr(&low.join("d/low"), "user.mica.own", b"2").unwrap();
        set_xattr(&low.join("d/low"), "user.other", b"1").unwrap();
    };
    let Some(p) = mounted("vhidden", fill) else { return };
    let file = p.at("d/low");
    // Other names are anybody's.
    assert_eq!(xattr_names(&file), ["user.mica.own", "user.other"]);
    assert_eq!(xattr(&file, "user.mica.own").unwrap(), b"2");
    assert!(told(&file, "user.mica.layer").starts_with("1 - "));
    assert!(told(&file, "trusted.mica.explain").contains("/d/low in "));
    for name in ["user.mica.layer", "trusted.mica.layer", "user.mica.whiteout-by.x"] {
        assert_errno!(set_xattr(&file, name, b"1"), PERM);
        assert_errno!(rustix::fs::lremovexattr(&file, name), PERM);
    }
    assert!(p.upper_names().is_empty(), "asking and refusing copies nothing up");
    fs::OpenOptions::new().append(true).open(&file).unwrap();
    let stored = xattr_names(&p.in_upper("d/low"));
    let virtual_ones = ["user.mica.layer", "trusted.mica.explain"];
    assert!(!stored.iter().any(|name| virtual_ones.contains(&name.as_str())), "{stored:?}");
    set_xattr(&file, "user.mica.own", b"3").unwrap();
}

#[test]
fn who_is_in_other_namespaces_learns_no_path_of_the_host() {
    let Some(p) = mounted("vns", stack) else { return };
    let dir = p.beside("").to_str().unwrap().trim_end_matches('/').to_owned();
    for what in ["layer", "layers", "realpath", "explain", "whiteout-by"] {
        let name = format!("user.mica.{what}");
        let file = p.at("d/both");
        let mut command = Command::new("timeout");
        command.args(["60", "unshare", "-m", "getfattr", "--only-values", "-n", &name]).arg(&file);
        let said = bin::run_ok(&mut command);
        assert!(!said.is_empty() && !said.contains(&dir), "{what}: {said}");
        let own = told(&file, &name);
        assert_eq!(own.contains(&dir), what != "whiteout-by", "{what}: {own}");
    }
}

#[test]
fn a_tracer_is_told_who_did_what_and_what_each_layer_said() {
    let Some(p) = mounted("tevents", stack) else { return };
    let mut tracer = Tracer::start(&p, &[]);
    assert!(fs::metadata(p.at("d/nothing")).is_err());
    let event = loop {
        let event = tracer.next_of("lookup");
        if event["path"] == "/d/nothing" {
            break event;
        }
    };
    assert_eq!(event["error"], "ENOENT");
    let asked: Vec<_> = event["asked"].as_array().unwrap().iter().map(|s| (&s["layer"], &s["verdict"])).collect();
    assert_eq!(asked.len(), 2, "upper has no such directory: {event}");
    assert!(asked.iter().all(|(_, verdict)| *verdict == "miss"), "{event}");
    // A thread goes by its own name.
    let own = fs::read_to_string("/proc/thread-self/comm").unwrap();
    assert_eq!(event["comm"], own.trim_end(), "{event}");

    fs::OpenOptions::new().append(true).open(p.at("d/low")).unwrap();
    let directory = tracer.next_of("copyup");
    assert_eq!((&directory["path"], &directory["bytes"]), (&"/d".into(), &0.into()));
    let file = tracer.next_of("copyup");
    assert_eq!((&file["path"], &file["bytes"], &file["layer"]), (&"/d/low".into(), &3.into(), &1.into()));
    fs::rename(p.at("d/low"), p.at("d/\u{1b}[31m")).unwrap();
    let renamed = tracer.next_of("rename");
    assert_eq!((&renamed["path"], &renamed["other"]), (&"/d/low".into(), &"/d/\\x1b[31m".into()), "escaped");
    p.unmount();
    while tracer.next().is_some() {}
    let (code, said) = tracer.end();
    assert_eq!((code, said.as_str()), (0, "mica: the mount has ended\n"));
}

#[test]
fn tracers_filter_side_by_side_and_end_after_a_count() {
    let Some(p) = mounted("tfilter", stack) else { return };
    let own = std::process::id().to_string();
    let mut opens = Tracer::start(&p, &["--op", "open", "--path", "*w2", "--pid", &own, "-n", "1"]);
    let mut never = Tracer::start(&p, &["--slow", "1000s"]);
    let mut others = Tracer::start(&p, &["--op", "open,mkdir", "--pid", "1"]);
    let mut copies = Tracer::start(&p, &["--op", "copyup"]);
    for name in ["d/low", "d/both", "d/low2"] {
        fs::read(p.at(name)).unwrap();
    }
    assert_eq!(opens.next().unwrap()["path"], "/d/low2");
    assert!(opens.next().is_none(), "one was asked for");
    assert_eq!(opens.end(), (0, String::new()));
    fs::create_dir(p.at("d/made")).unwrap();
    assert_eq!(copies.next().unwrap()["path"], "/d");
    // Somebody else's operations are heard, too.
    p.unmount();
    assert!(never.next().is_none() && others.next().is_none() && copies.next().is_none());
}

#[test]
fn a_stalled_tracer_loses_events_with_a_count_and_delays_nobody() {
    let Some(p) = mounted("tstall", stack) else { return };
    const ALL: u64 = 40_000;
    let mut stalled = Tracer::start(&p, &["--op", "lookup", "--path", "missing-*"]);
    let mut other = Tracer::start(&p, &["--op", "mkdir"]);
    // More than its queue, the socket and the pipe hold; each is a new name that is not there, so the kernel asks.
    for n in 0..ALL {
        assert!(fs::symlink_metadata(p.at(format!("d/missing-{n}"))).is_err());
    }
    fs::create_dir(p.at("made")).unwrap();
    assert_eq!(other.next().unwrap()["path"], "/made");
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < ALL {
        let event = stalled.next().expect("it goes on");
        match event["lost"].as_u64() {
            Some(n) => lost += n,
            None => seen += 1,
        }
    }
    assert!(seen > 0 && lost > 0 && seen + lost == ALL, "{seen} came, {lost} were lost");
    assert!(fs::symlink_metadata(p.at("d/missing-more")).is_err());
    assert_eq!(stalled.next().unwrap()["path"], "/d/missing-more", "it is told again");
}

#[test]
fn a_tracer_sees_a_killed_server() {
    let Some(p) = mounted("tkill", stack) else { return };
    let mut tracer = Tracer::start(&p, &[]);
    let server = server_of(&p.top).expect("a server");
    bin::run_ok(Command::new("kill").args(["-9", &server]));
    while tracer.next().is_some() {}
    let (code, said) = tracer.end();
    assert_eq!((code, said.as_str()), (0, "mica: the server of the mount is gone\n"));
    let _ = rustix::mount::unmount(&p.top, rustix::mount::UnmountFlags::DETACH);
}

#[test]
fn a_tracer_ends_when_nobody_reads_it() {
    let Some(p) = mounted("tpipe", stack) else { return };
    let mut tracer = Tracer::start(&p, &["--op", "mkdir"]);
    drop(tracer.lines.take());
    // Nothing is traced meanwhile: it finds out by itself.
    assert_eq!(tracer.child.wait().expect("wait").code(), Some(141));
    assert!(wait_for(LIMIT, || stats(&p.top)["listeners"] == 0), "the server forgets it");
}

#[test]
fn a_summary_and_a_record() {
    let Some(p) = mounted("tsum", stack) else { return };
    let file: PathBuf = p.beside("record");
    let mut summary = Tracer::start(&p, &["--summary", "--record", file.to_str().unwrap()]);
    assert!(fs::metadata(p.at("d/nothing")).is_err());
    fs::OpenOptions::new().append(true).open(p.at("d/low")).unwrap();
    // It is told everything that was done when it is told to stop: the signal goes out last.
    p.unmount();
    let mut text = String::new();
    summary.lines.as_mut().unwrap().read_to_string(&mut text).unwrap();
    let sums: Value = serde_json::from_str(&text).unwrap();
    let row = |op: &str| sums["operations"].as_array().unwrap().iter().find(|r| r["op"] == op).cloned().unwrap();
    assert_eq!(row("copyup")["count"], 2);
    assert!(row("lookup")["total_ns"].as_u64().unwrap() >= row("lookup")["p50_ns"].as_u64().unwrap() / 2);
    assert_eq!(sums["copy_ups"][0], serde_json::json!({ "path": "/d/low", "count": 1, "bytes": 3 }));
    assert_eq!(sums["negative_lookups"][0], serde_json::json!({ "path": "/d/nothing", "count": 1 }));
    let recorded = fs::read_to_string(&file).unwrap();
    let events: Vec<Value> = recorded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count: u64 = sums["operations"].as_array().unwrap().iter().map(|r| r["count"].as_u64().unwrap()).sum();
    assert_eq!(events.len() as u64, count);
}

#[test]
fn counters() {
    let Some(p) = mounted("tstats", stack) else { return };
    let count = |stats: &Value, op: &str| {
        let found = stats["requests"].as_array().unwrap().iter().find(|r| r["op"] == op);
        found.map_or(0, |r| r["count"].as_u64().unwrap())
    };
    let before = stats(&p.top);
    assert_eq!(
        (count(&before, "copyup"), &before["layers"], &before["kernel"]["timeout_seconds"]),
        (0, &2.into(), &Value::Null)
    );
    let open = fs::OpenOptions::new().append(true).open(p.at("d/low")).unwrap();
    let after = stats(&p.top);
    assert_eq!(count(&after, "open"), count(&before, "open") + 1);
    assert_eq!(
        after["copy_ups"],
        serde_json::json!({
        "files": 1, "directories": 1, "bytes": 3, "micros": after["copy_ups"]["micros"] })
    );
    assert_eq!((&after["held"]["open_handles"], &after["held"]["open_files"]), (&1.into(), &1.into()));
    assert!(after["held"]["nodes"].as_u64() > before["held"]["nodes"].as_u64());
    assert!(after["held"]["memory_bytes"].as_u64().unwrap() > 100_000);
    assert_eq!(after["upper"]["mark_xattrs"], "trusted");
    let used = after["kernel"]["abilities"].as_array().unwrap().iter().filter(|a| a["used"] == true);
    assert!(used.clone().count() > 3 && used.clone().all(|a| a["offered"] == true));
    drop(open);
    let text = bin::run_ok(&mut mica(&["stats", "--metrics", p.top.to_str().unwrap()]));
    assert!(text.contains("# TYPE mica_requests_total counter\n") && text.contains("op=\"open\"} "), "{text}");
    let said = bin::run_ok(&mut mica(&["explain", "--json", p.at("d/low").to_str().unwrap()]));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert!(said["kernel"]["references"].as_u64().unwrap() > 0, "{}", said["kernel"]);
}

#[test]
fn a_server_outlives_hostile_callers_and_refuses_other_users() {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::PermissionsExt;
    let Some(p) = mounted("thostile", stack) else { return };
    let dev = fs::metadata(&p.top).unwrap().dev();
    let name = format!("{}:{}.sock", rustix::fs::major(dev), rustix::fs::minor(dev));
    let socket = Path::new("/run/mica/mounts").join(name);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for words in [
        &b""[..],
        b"\xff\xff\xff\xffQ",
        b"\x00\x00\x00\x00Q",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x03\0\0\0Q{}",
        b"\x20\0\0\0Q",
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(words).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    // Callers that say nothing take places for a while, and no more than there are.
    let silent: Vec<_> = (0..64).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    drop(silent);
    assert!(
        wait_for(LIMIT, || bin::output(&mut mica(&["stats", p.top.to_str().unwrap()])).status.success()),
        "it answers again"
    );
    let ours = fs::metadata(&socket).unwrap().ino();
    p.unmount();
    // A moment later; and another test's mount may have got the number of this one, and a socket of that name.
    let gone = || fs::metadata(&socket).map_or(true, |found| found.ino() != ours);
    assert!(wait_for(LIMIT, gone), "the socket goes with the mount");
}
