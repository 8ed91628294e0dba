//! How many requests an operation costs: round trips between the kernel and the server, counted by strace at `/dev/fuse`.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use crate::place::On;
use crate::place::Place;
use crate::place::have;
use crate::place::put;
use crate::place::put_dir;
use crate::place::server_of;
use crate::support::Daemon;
use crate::support::guard::wait_for;
use crate::support::skip;

/// A union whose requests can be counted: as many come over io_uring, but no strace sees them there.
fn mounted(label: &str, fill: impl FnOnce(&Path, &Path)) -> Option<Place> {
    let mut place = Place::prepared(label)?;
    fill(&place.in_layer(0, ""), &place.in_layer(1, ""));
    if On::chosen() == On::Mica {
        place.set_options("io_uring=0,ahead=0");
    }
    place.mount(On::chosen());
    Some(place)
}

/// Watches the server's reads of `/dev/fuse`.
struct Counter {
    log: PathBuf,
    _strace: Daemon,
}

impl Counter {
    /// # Errors
    /// Why requests cannot be counted here.
    fn of(p: &Place) -> Result<Self, String> {
        let server = server_of(&p.top).ok_or("the server's process was not found")?;
        let log = p.beside("requests");
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-xx", "-s", "8", "-e", "trace=read,readv", "-P", "/dev/fuse", "-o"]).arg(&log);
        let strace = Daemon::spawn(command.args(["-p", &server]).stdin(Stdio::null()).stderr(Stdio::null()));
        let attached = || all_traced(&server);
        if !wait_for(Duration::from_secs(5), attached) {
            return Err("strace may not attach".to_owned());
        }
        let counter = Self { log, _strace: strace };
        // What cannot be seen would count as none.
        let one = counter.during(|| drop(fs::symlink_metadata(p.at("nothing-of-this-name"))));
        if one.is_empty() {
            return Err("the server's requests do not come through reads of /dev/fuse (but over io_uring)".to_owned());
        }
        Ok(counter)
    }

    /// Requests so far, by name; those that need no answer come a moment later, so it waits until none follows.
    fn now(&self) -> Vec<String> {
        let read = || fs::read_to_string(&self.log).unwrap_or_default();
        let mut last = read();
        let mut calm = 0;
        while calm < 6 {
            std::thread::sleep(Duration::from_millis(25));
            let next = read();
            calm = if next == last { calm + 1 } else { 0 };
            last = next;
        }
        last.lines().filter_map(request).collect()
    }

    fn during(&self, body: impl FnOnce()) -> Vec<String> {
        let before = self.now().len();
        body();
        self.now().split_off(before)
    }
}

/// The request in a line of strace that tells of a finished read: its number is in bytes 4 to 7 of what was read.
fn request(line: &str) -> Option<String> {
    line.rsplit_once("= ")?.1.trim().parse::<u32>().ok().filter(|n| *n > 0)?;
    let bytes = line.split_once("\"\\x")?.1.split("\\x");
    let number = u8::from_str_radix(bytes.clone().nth(4)?.get(..2)?, 16).ok()?;
    let name = match number {
        1 => "LOOKUP",
        2 => "FORGET",
        3 => "GETATTR",
        4 => "SETATTR",
        5 => "READLINK",
        8 => "MKNOD",
        9 => "MKDIR",
        10 => "UNLINK",
        12 | 45 => "RENAME",
        13 => "LINK",
        14 => "OPEN",
        15 => "READ",
        16 => "WRITE",
        18 => "RELEASE",
        20 => "FSYNC",
        22 => "GETXATTR",
        25 => "FLUSH",
        27 => "OPENDIR",
        28 => "READDIR",
        29 => "RELEASEDIR",
        35 => "CREATE",
        39 => "IOCTL",
        42 => "BATCH_FORGET",
        44 => "READDIRPLUS",
        other => return Some(format!("#{other}")),
    };
    Some(name.to_owned())
}

fn all_traced(pid: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let mut states = tasks.map(|t| fs::read_to_string(t.path().join("status")).unwrap_or_default());
    states.all(|s| s.lines().any(|l| l.strip_prefix("TracerPid:").is_some_and(|n| n.trim() != "0")))
}

/// How often it is tried.
const ROUNDS: usize = 5;

#[test]
fn warm_operations_cost_no_request_and_others_few() {
    if On::chosen() == On::Kernel || !have("strace") {
        skip!("needs strace and a server");
    }
    let fill = |_: &Path, low: &Path| {
        put(low, "d/f", "small");
        for round in 0..ROUNDS {
            for name in ["d/cold", "g/one", "g/two"] {
                put(low, &format!("{name}{round}"), "small");
            }
        }
        put_dir(low, "d/e");
        for i in 0..1000 {
            put(low, &format!("n/name-{i:04}"), "");
        }
    };
    let Some(p) = mounted("requests", fill) else { return };
    let counter = match Counter::of(&p) {
        Ok(counter) => counter,
        Err(reason) => skip!("{reason}"),
    };
    // Other tests make the kernel drop its caches, on the whole machine: a round beside such a one counts too much, never too little.
    let wrong = (0..ROUNDS).map(|round| wrong_counts(&p, &counter, round)).find(Vec::is_empty);
    assert!(
        wrong.is_some() || On::chosen() != On::Mica,
        "{ROUNDS} rounds with more requests than there may be, see above"
    );
}

/// What took more requests than it may, in a tree that starts warm.
fn wrong_counts(p: &Place, counter: &Counter, round: usize) -> Vec<String> {
    let (one, two) = (format!("g/one{round}"), format!("g/two{round}"));
    let (new, dir, cold) = (format!("d/new{round}"), format!("d/dir{round}"), format!("d/cold{round}"));
    let renamed = format!("d/renamed{round}");
    let read = |name: &str| {
        let mut text = String::new();
        File::open(p.at(name)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "small");
    };
    let stat = |name: &str| drop(fs::symlink_metadata(p.at(name)));
    let list = || assert!(fs::read_dir(p.at("d")).unwrap().count() >= 3);
    // Warm: the directory and its listing, the name, the miss, the data. A read makes the kernel ask for the access time once.
    list();
    list();
    read("d/f");
    stat("d/f");
    stat("d/none");
    put(&p.top, "d/first", "x");
    ["d", "g", "n"].iter().for_each(|name| stat(name));
    let file = fs::OpenOptions::new().write(true).open(p.at("d/first")).unwrap();
    let write_more = |file: &File| std::os::unix::fs::FileExt::write_all_at(file, b"more", 0).unwrap();
    write_more(&file);
    // Where the server takes part in openings and closings, each costs one.
    let takes_part = std::env::var("MICA_MOUNTED_WITH")
        .is_ok_and(|options| options.contains("io=cache") || options.contains("io=passthrough"));
    let (both, close) = if takes_part { (2, 1) } else { (0, 0) };
    type Case<'a> = (&'a str, usize, &'a dyn Fn());
    let cases: &[Case<'_>] = &[
        ("warm stat", 0, &|| stat("d/f")),
        ("warm stat of a miss", 0, &|| stat("d/none")),
        ("stat of a name that was listed", 0, &|| stat(&cold)),
        ("open, read, close of a cached small file", both, &|| read("d/f")),
        ("open, read, close of a small file with a known name", 1 + both, &|| read(&cold)),
        ("create, write, close", 4 + close, &|| fs::write(p.at(&new), "x").unwrap()),
        ("a write more", 1, &|| write_more(&file)),
        ("chmod in upper", 2, &|| crate::place::chmod(&p.at(&new), 0o600)),
        ("unlink in upper", 2, &|| fs::remove_file(p.at(&new)).unwrap()),
        ("mkdir of a name not looked up", 3, &|| fs::create_dir(p.at(&dir)).unwrap()),
        ("listing of a small directory that just changed", 5, &|| list()),
        ("stat of a name not looked up", 1, &|| stat(&one)),
        ("unlink of a lower file not looked up", 3, &|| fs::remove_file(p.at(&two)).unwrap()),
        ("rename in upper", 3, &|| fs::rename(p.at("d/first"), p.at(&renamed)).unwrap()),
        ("listing of 1000 names", 7, &|| assert_eq!(fs::read_dir(p.at("n")).unwrap().count(), 1000)),
    ];
    let mut lines = String::new();
    let mut wrong = Vec::new();
    for (what, at_most, body) in cases {
        let requests = counter.during(body);
        lines += &format!("{:3} requests (at most {at_most}): {what}: {}\n", requests.len(), requests.join(" "));
        if requests.len() > *at_most {
            wrong.push(format!("{what}: {} > {at_most}", requests.len()));
        }
    }
    eprint!("{lines}");
    wrong
}

/// The kernel closes what it opened by CREATE, also where openings are not told; unless it was told so by an opening before.
#[test]
fn files_that_are_only_made_are_never_closed() {
    if On::chosen() == On::Kernel || !have("strace") {
        skip!("needs strace and a server");
    }
    let Some(p) = mounted("only-made", |_, low| drop(put_dir(low, "d"))) else { return };
    let counter = match Counter::of(&p) {
        Ok(counter) => counter,
        Err(reason) => skip!("{reason}"),
    };
    let requests = counter.during(|| (0..20).for_each(|i| fs::write(p.at(format!("d/{i}")), "x").unwrap()));
    eprintln!("{}", requests.join(" "));
    let count = |name: &str| requests.iter().filter(|request| *request == name).count();
    let takes_part = std::env::var("MICA_MOUNTED_WITH").is_ok_and(|options| options.contains("io="));
    if On::chosen() == On::Mica && !takes_part {
        assert_eq!((count("RELEASE"), count("OPEN"), count("WRITE")), (0, 1, 20));
    }
}

/// One request for each 512 KiB, not for each 128 as a disk has it.
#[test]
fn a_large_file_is_read_in_large_requests() {
    if On::chosen() == On::Kernel || !have("strace") {
        skip!("needs strace and a server");
    }
    let size = 16 << 20;
    let fill = |_: &Path, low: &Path| fs::write(low.join("big"), vec![b'x'; size]).unwrap();
    let Some(p) = mounted("read-ahead", fill) else { return };
    let dev = std::os::unix::fs::MetadataExt::dev(&fs::metadata(&p.top).unwrap());
    let ahead = format!("/sys/class/bdi/{}:{}/read_ahead_kb", rustix::fs::major(dev), rustix::fs::minor(dev));
    if fs::OpenOptions::new().write(true).open(ahead).is_err() {
        skip!("/sys cannot be changed here, so the kernel reads ahead as it likes");
    }
    let counter = match Counter::of(&p) {
        Ok(counter) => counter,
        Err(reason) => skip!("{reason}"),
    };
    let requests = counter.during(|| assert_eq!(fs::read(p.at("big")).unwrap().len(), size));
    let reads = requests.iter().filter(|name| *name == "READ").count();
    eprintln!("{reads} requests to read 16 MiB");
    // At first it reads ahead little, and more each time.
    assert!(reads <= 48 || On::chosen() != On::Mica, "{reads} requests");
}

/// How many files a job's sequence goes over, so that what comes now and then does not hide what comes for each.
const EACH: usize = 20;

/// What real jobs do with each file, as their traces show it. What is left is what the kernel asks: that a new name is not there, once more
/// for `O_EXCL` (`fuse_dentry_revalidate`); for capabilities before the first write and before a change of owner
/// (`security_inode_need_killpriv`); for the attributes after a write, after a read that was not cached (`fuse_invalidate_atime`),
/// and of a directory after a change (`fuse_dir_changed`), to check permissions (`fuse_permission`); and any ioctl (`fuse_do_ioctl`).
#[test]
fn what_jobs_do_with_each_file_costs_no_more_than_the_kernel_asks() {
    if On::chosen() == On::Kernel || !have("strace") {
        skip!("needs strace and a server");
    }
    let fill = |_: &Path, low: &Path| {
        for round in 0..ROUNDS {
            for i in 0..500 {
                put(low, &format!("tar{round}/a-name-of-usual-length-{i:03}"), "small");
            }
            for i in 0..EACH {
                put(low, &format!("python{round}/m{i}.py"), "small");
            }
        }
        ["git", "dpkg"].iter().for_each(|dir| drop(put(low, &format!("{dir}/first"), "x")));
    };
    let Some(p) = mounted("job-requests", fill) else { return };
    let counter = match Counter::of(&p) {
        Ok(counter) => counter,
        Err(reason) => skip!("{reason}"),
    };
    let wrong = (0..ROUNDS).map(|round| wrong_jobs(&p, &counter, round)).find(Vec::is_empty);
    assert!(
        wrong.is_some() || On::chosen() != On::Mica,
        "{ROUNDS} rounds with more requests than there may be, see above"
    );
}

fn new_file(path: &Path, text: &str) -> File {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    file
}

/// `git checkout`: the directory, that nothing is in the way, the file.
fn check_out(p: &Place, round: usize) {
    for i in 0..EACH {
        let path = p.at(format!("git/out{round}-{i}"));
        fs::symlink_metadata(p.at("git")).unwrap();
        fs::symlink_metadata(&path).unwrap_err();
        assert_eq!(new_file(&path, "text").metadata().unwrap().len(), 4);
    }
}

/// git's objects: under a temporary name, linked, and the temporary name removed.
fn add_objects(p: &Place, round: usize) {
    for i in 0..EACH {
        let (temporary, last) = (p.at(format!("git/tmp_obj{round}-{i}")), p.at(format!("git/object{round}-{i}")));
        drop(new_file(&temporary, "text"));
        fs::hard_link(&temporary, &last).unwrap();
        fs::remove_file(&temporary).unwrap();
    }
}

/// `tar c`: a listing, and of each file attributes, content, and whether it changed meanwhile.
fn read_all(p: &Place, dir: &str) {
    for item in fs::read_dir(p.at(dir)).unwrap() {
        let path = item.unwrap().path();
        assert_eq!(fs::symlink_metadata(&path).unwrap().len(), 5);
        let mut file = File::open(&path).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5);
    }
}

/// An import: other names first, then attributes, whether it is a terminal, and the content.
fn import(p: &Place, round: usize) {
    for i in 0..EACH {
        let path = p.at(format!("python{round}/m{i}.py"));
        fs::symlink_metadata(path.with_extension("so")).unwrap_err();
        fs::symlink_metadata(&path).unwrap();
        let mut file = File::open(&path).unwrap();
        assert!(!std::io::IsTerminal::is_terminal(&file));
        file.read_to_string(&mut String::new()).unwrap();
    }
}

/// dpkg: three names that are not there, the new file with owner, mode and times, on the disk, and renamed.
fn unpack(p: &Place, round: usize) {
    for i in 0..EACH {
        let path = p.at(format!("dpkg/f{round}-{i}"));
        let new = path.with_extension("dpkg-new");
        for name in [&path, &path.with_extension("dpkg-tmp"), &new] {
            fs::symlink_metadata(name).unwrap_err();
        }
        let file = new_file(&new, "text");
        std::os::unix::fs::fchown(&file, Some(0), Some(0)).unwrap();
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
        file.sync_all().unwrap();
        drop(file);
        fs::rename(&new, &path).unwrap();
    }
}

/// Which sequences took more requests than they may.
fn wrong_jobs(p: &Place, counter: &Counter, round: usize) -> Vec<String> {
    ["git", "dpkg"].iter().for_each(|dir| drop(put(&p.top, &format!("{dir}/second"), "x")));
    let takes_part = std::env::var("MICA_MOUNTED_WITH")
        .is_ok_and(|options| options.contains("io=cache") || options.contains("io=passthrough"));
    // An opening and a closing; of what was just made, a closing.
    let (both, close) = if takes_part { (2, 1) } else { (0, 0) };
    let lent = usize::from(std::env::var("MICA_MOUNTED_WITH").is_ok_and(|options| options.contains("io=passthrough")));
    let (tar, python) = (format!("tar{round}"), format!("python{round}"));
    assert_eq!(fs::read_dir(p.at(&python)).unwrap().count(), EACH);
    type Job<'a> = (&'a str, usize, usize, &'a dyn Fn());
    let jobs: &[Job<'_>] = &[
        // The name, again for the creation, MKNOD, GETXATTR, WRITE, GETATTR of the file and of the directory.
        ("git checkout", (7 + close) * EACH, 0, &|| check_out(p, round)),
        // The name, MKNOD, GETXATTR, WRITE; the name, LINK; UNLINK; and the directory's GETATTR after each of its three changes. Attributes of
        // a file that the kernel writes itself are asked for each time: before LINK and UNLINK.
        ("git objects", (10 + close + lent) * EACH, 4, &|| add_objects(p, round)),
        // READ and GETATTR for each; for the directory its name, OPENDIR, one READDIRPLUS, an end, RELEASEDIR.
        ("tar c", (2 + both) * 500, 8, &|| read_all(p, &tar)),
        // The miss, READ, IOCTL.
        ("python", (3 + both) * EACH, 2, &|| import(p, round)),
        // Three misses and one more for the creation, MKNOD, GETXATTR, WRITE; GETXATTR and SETATTR for the owner, SETATTR for mode and for
        // times, FSYNC, the new name, RENAME; and the directory's GETATTR after two changes.
        ("dpkg", (16 + close) * EACH, 4, &|| unpack(p, round)),
    ];
    let mut wrong = Vec::new();
    for (what, each, once, body) in jobs {
        let requests = counter.during(body);
        let mut counts = std::collections::BTreeMap::new();
        requests.iter().for_each(|name| *counts.entry(name.as_str()).or_insert(0) += 1);
        eprintln!("{:4} requests (at most {}): {what}: {counts:?}", requests.len(), each + once);
        if requests.len() > each + once {
            wrong.push(format!("{what}: {} > {}", requests.len(), each + once));
        }
    }
    wrong
}
