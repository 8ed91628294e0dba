//! `mica run -t`: a terminal of its own for the container, connected to ours.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::area::Area;
use crate::support::guard::wait_for;
use crate::support::require_fixture;
use crate::support::require_root;

/// Both sides of a new terminal of so many rows and columns.
pub fn terminal_of(ws_row: u16, ws_col: u16) -> (File, File) {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = std::ffi::OsString::from_vec(rustix::pty::ptsname(&master, Vec::new()).unwrap().into_bytes());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, Mode::empty()).unwrap();
    rustix::termios::tcsetwinsize(&slave, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (master.into(), slave.into())
}

/// Runs a program on a terminal of its own, types `keys` as soon as it has shown `ready`, and returns all it wrote and its exit code.
pub fn driven(mut command: Command, (rows, columns): (u16, u16), ready: &str, keys: &[u8]) -> (String, Option<i32>) {
    let (mut master, slave) = terminal_of(rows, columns);
    let side = || Stdio::from(slave.try_clone().unwrap());
    let mut child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    drop(command); // it holds copies of the slave
    drop(slave);
    let text = Arc::new(Mutex::new(Vec::new()));
    let (mut output, seen) = (master.try_clone().unwrap(), text.clone());
    let reader = std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        // When nobody has the other side open any more, reading fails.
        while let Ok(n @ 1..) = output.read(&mut chunk) {
            seen.lock().unwrap().extend_from_slice(&chunk[..n]);
        }
    });
    let shown = || String::from_utf8_lossy(&text.lock().unwrap()).into_owned();
    wait_for(crate::area::LIMIT, || shown().contains(ready));
    for key in keys {
        master.write_all(&[*key]).unwrap();
    }
    let mut status = None;
    wait_for(crate::area::LIMIT, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let _ = child.kill();
    let _ = child.wait();
    reader.join().unwrap();
    (shown(), status.and_then(|status| status.code()))
}

#[test]
fn a_shell_on_a_terminal() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::with("tty", &fixture);
    let (mut master, slave) = terminal_of(33, 77);
    let before = rustix::termios::tcgetattr(&slave).unwrap();
    let mut command = area.mica(["run", "--rm", "-it", &fixture.image(), "sh"]);
    let side = || Stdio::from(slave.try_clone().unwrap());
    let mut child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    drop(command); // it holds copies of the slave
    let mut output = master.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(n) = output.read(&mut chunk) {
            text.extend_from_slice(&chunk[..n]);
            if n == 0 || text.ends_with(b"the end\n") || text.ends_with(b"the end\r\n") {
                break;
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    master.write_all(b"tty; stty size; test -t 0 && echo 'a ter''minal'; exit 5\n").unwrap();
    let mut status = None;
    wait_for(crate::area::LIMIT, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let after = rustix::termios::tcgetattr(&slave).unwrap();
    (&slave).write_all(b"the end\n").unwrap();
    drop(slave);
    let text = reader.join().unwrap();
    let _ = child.kill();
    assert_eq!(status.and_then(|s| s.code()), Some(5), "{text}");
    assert!(text.contains("/dev/pts/") || text.contains("/dev/console"), "{text}");
    assert!(text.contains("33 77"), "the size of ours: {text}");
    assert!(text.contains("a terminal"), "{text}");
    assert_eq!(before.local_modes, after.local_modes, "our terminal is as it was");
    crate::container::nothing_is_left(&area);
}

#[test]
fn input_that_is_no_terminal_is_refused() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::with("notty", &fixture);
    let said = area.fails(["run", "--rm", "-it", &fixture.image(), "sh"], 125);
    assert!(said.contains("not a TTY") && said.contains("hint: "), "{said}");
    let out = area.ok(["run", "--rm", "-t", &fixture.image(), "sh", "-c", "test -t 1 && echo yes"]);
    assert_eq!(out.trim(), "yes");
}
