//! Where log lines go: standard error, the system's log for daemons, or a file that `MICA_LOG_FILE` names.
//!
//! `MICA_LOG` sets the level (`error`, `warn`, `info`, `debug`, `trace`; default `warn`).

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::net::UnixDatagram;

use log::Level;
use log::LevelFilter;
use log::Metadata;
use log::Record;
use parking_lot::Mutex;

use crate::env;

/// The socket of the system's log (syslog(3)).
const SYSTEM_LOG: &str = "/dev/log";

enum Sink {
    Stderr,
    System(UnixDatagram),
    File(Mutex<File>),
    Nowhere,
}

struct Logger {
    program: &'static str,
    sink: Sink,
}

/// Lets log lines out from now on; a second call changes nothing. A `daemon`, which has no standard error, writes to the
/// system's log.
pub fn init(program: &'static str, daemon: bool) {
    let level = env::var("MICA_LOG").and_then(|v| v.to_str().and_then(|v| v.parse::<LevelFilter>().ok()));
    let file = env::var("MICA_LOG_FILE").and_then(|path| OpenOptions::new().append(true).create(true).open(path).ok());
    let sink = match (file, daemon) {
        (Some(file), _) => Sink::File(Mutex::new(file)),
        (None, false) => Sink::Stderr,
        (None, true) => system_log().map_or(Sink::Nowhere, Sink::System),
    };
    if log::set_boxed_logger(Box::new(Logger { program, sink })).is_ok() {
        log::set_max_level(level.unwrap_or(LevelFilter::Warn));
    }
}

fn system_log() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(SYSTEM_LOG).ok()?;
    // A log that is full must not hold up a request.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

impl log::Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string().replace(char::is_control, " ");
        let level = record.level().as_str().to_ascii_lowercase();
        // There is nobody left to tell when the log itself cannot be written.
        let _ = match &self.sink {
            Sink::Stderr => std::io::stderr().write_all(format!("{}: {level}: {text}\n", self.program).as_bytes()),
            Sink::File(file) => {
                let (secs, _) = env::now();
                let line = format!("{secs} {}[{}] {level}: {text}\n", self.program, std::process::id());
                file.lock().write_all(line.as_bytes())
            }
            Sink::System(socket) => {
                let line = format!("<{}>{}[{}]: {text}", priority(record.level()), self.program, std::process::id());
                socket.send(line.as_bytes()).map(drop)
            }
            Sink::Nowhere => Ok(()),
        };
    }

    fn flush(&self) {}
}

/// Facility "daemon" and the severity, as RFC 3164 numbers them.
fn priority(level: Level) -> u8 {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    3 * 8 + severity
}
