//! The mount point in odd places, and the end of a mount that is in use.

use std::fs;
use std::io::Read;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::Outcome;
use crate::lab::LIMIT;
use crate::lab::Lab;
use crate::lab::Server;
use crate::lab::five_copy_ups;
use crate::lab::missing;
use crate::scenes::fill;
use crate::support::guard;
use crate::support::guard::wait_for;

fn signal(server: &Server, signal: Signal) {
    let pid = Pid::from_raw(server.pid().cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("kill");
}

/// The test: with open files, a directory that somebody stands in, and a writer at work, the mount goes and the exit code is 0.
pub fn signals() -> Outcome {
    if let Some(reason) = missing(&[]) {
        return Outcome::Skipped(reason);
    }
    let lab = Lab::new("signals", fill);
    let signals = [Signal::TERM, Signal::INT, Signal::HUP];
    for sent in signals {
        lab.clear();
        let mut server = lab.mount();
        let mut held = fs::File::open(lab.top.join("file")).expect("open");
        let written = lab.top.join("written");
        fs::write(&written, "begun").expect("write");
        let writer = server.begin(|top| {
            // Never in a directory that is no mount any more.
            let dir = rustix::fs::open(top, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
            let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            loop {
                // A name that is known is opened without asking the server, also when that is gone: what is written goes to it.
                let file = rustix::fs::openat(&dir, "busy", flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
                rustix::io::pwrite(&file, b"busy", 0)?;
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        signal(&server, sent);
        let gone = wait_for(LIMIT, || !guard::mounts_below(&lab.top).contains(&lab.top));
        assert!(gone, "{sent:?}: still mounted");
        // Who still holds a file is served until he lets go, or a second signal ends it.
        let mut byte = [0];
        let _ = held.read(&mut byte);
        signal_if_alive(&mut server, sent);
        assert!(wait_for(LIMIT, || server.is_dead()), "{sent:?}: the daemon goes on");
        assert_eq!(server.exit_code(), Some(0), "{sent:?}");
        drop(held);
        writer.recv_timeout(LIMIT).expect("the writer sees the end").expect_err("no mount, no file");
        server.kill();
        let server = lab.mount();
        assert_eq!(fs::read(lab.top.join("written")).expect("read"), b"begun");
        five_copy_ups(&server, &lab, "after a signal");
        server.unmount();
    }
    Outcome::Done(format!("{} signals", signals.len()))
}

fn signal_if_alive(server: &mut Server, sent: Signal) {
    if !server.is_dead() {
        signal(server, sent);
    }
}

/// The test: a lower layer that the mount point lies in, and one that lies below the mount point, are looked at without going
/// through the mount itself, which would wait for itself.
pub fn nested() -> Outcome {
    if let Some(reason) = missing(&[]) {
        return Outcome::Skipped(reason);
    }
    let mut lab = Lab::new("nested", fill);
    lab.top = lab.lower.join("e/m");
    fs::create_dir(&lab.top).expect("mkdir");
    let server = lab.mount();
    server
        .act(|top| fs::read_dir(top.join("e/m")).map(|entries| assert_eq!(entries.count(), 0, "the mount in itself")))
        .expect("the mount point");
    server.act(|top| fs::write(top.join("e/m/in"), "in")).expect("write");
    server.act(|top| fs::write(top.join("d/f"), "changed")).expect("copy up");
    assert_eq!(fs::read(lab.lower.join("d/f")).expect("read"), b"lower f");
    five_copy_ups(&server, &lab, "a layer around the mount point");
    server.unmount();

    let mut lab = Lab::new("nested", fill);
    lab.top = lab.beside("");
    // Everything lies below the mount point: lower, upper and work.
    let server = lab.mount();
    server.act(|top| fs::write(top.join("d/f"), "changed")).expect("copy up");
    server.act(|top| fs::remove_file(top.join("x/y/z/deep"))).expect("unlink");
    let seen = server.act(|top| fs::read_dir(top.join("n")).map(|entries| assert_eq!(entries.count(), 5)));
    seen.expect("readdir");
    server.unmount();
    assert!(lab.upper().join("d/f").exists());
    Outcome::Done("2 places".to_owned())
}
