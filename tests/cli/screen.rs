//! A terminal that the tests hold in their hands: a program runs on it, keys are typed, and what it shows is read like a picture.
//!
//! It understands what the screen of mica sends and nothing else: whatever else comes is kept, for a test to fail with.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::termios::Winsize;

use crate::support::guard::wait_for;
use crate::terminal::terminal_of;

/// For broken machines; no measure.
const LIMIT: Duration = Duration::from_secs(60);

/// What the terminal shows.
#[derive(Debug, Default)]
struct Glass {
    rows: usize,
    columns: usize,
    /// A wide character's second column holds nothing.
    cells: Vec<String>,
    at: (usize, usize),
    waiting: Vec<u8>,
    raw: Vec<u8>,
    /// Sequences that steer more than a picture needs.
    strange: Vec<String>,
}

impl Glass {
    fn resize(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        self.cells = vec![" ".to_owned(); rows * columns];
        self.at = (0, 0);
    }

    fn take(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        self.waiting.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.waiting);
        let mut rest = bytes.as_slice();
        while let Some(used) = self.one(rest) {
            rest = &rest[used..];
        }
        self.waiting = rest.to_vec();
    }

    /// Takes one character or sequence; `None` while it is not whole.
    fn one(&mut self, bytes: &[u8]) -> Option<usize> {
        match *bytes.first()? {
            0x1b if *bytes.get(1)? == b'[' => {
                let end = bytes.iter().skip(2).position(|b| (0x40..0x7f).contains(b))? + 2;
                self.sequence(&String::from_utf8_lossy(&bytes[2..end]), bytes[end]);
                Some(end + 1)
            }
            b'\r' => self.moved(|at, _| (at.0, 0)),
            b'\n' => self.moved(|at, rows| ((at.0 + 1).min(rows - 1), at.1)),
            b @ (0..0x20 | 0x7f) => {
                self.strange.push(format!("{b:#x}"));
                Some(1)
            }
            first => {
                let len = match first {
                    0..0x80 => 1,
                    0xc2..0xe0 => 2,
                    0xe0..0xf0 => 3,
                    0xf0..0xf5 => 4,
                    _ => {
                        self.strange.push(format!("{first:#x}"));
                        return Some(1);
                    }
                };
                let text = bytes.get(..len)?;
                match std::str::from_utf8(text) {
                    Ok(text) => self.put(text),
                    Err(_) => self.strange.push(format!("{text:x?}")),
                }
                Some(len)
            }
        }
    }

    fn moved(&mut self, to: impl FnOnce((usize, usize), usize) -> (usize, usize)) -> Option<usize> {
        self.at = to(self.at, self.rows);
        Some(1)
    }

    fn put(&mut self, text: &str) {
        let wide = unicode_width::UnicodeWidthStr::width(text);
        let place = self.at.0 * self.columns + self.at.1;
        if wide == 0 {
            // It belongs to what stands before it.
            if let Some(cell) = place.checked_sub(1).and_then(|place| self.cells.get_mut(place)) {
                cell.push_str(text);
            }
            return;
        }
        for (i, cell) in self.cells.iter_mut().skip(place).take(wide).enumerate() {
            *cell = if i == 0 { text.to_owned() } else { String::new() };
        }
        self.at.1 += wide;
    }

    fn sequence(&mut self, parameters: &str, last: u8) {
        let numbers: Vec<usize> = parameters.split(';').map(|n| n.parse().unwrap_or(1)).collect();
        let number = |i: usize| numbers.get(i).copied().unwrap_or(1);
        match last {
            b'H' => self.at = (number(0) - 1, number(1) - 1),
            b'J' => self.resize(self.rows, self.columns),
            b'A' => self.at.0 = self.at.0.saturating_sub(number(0)),
            b'B' => self.at.0 = (self.at.0 + number(0)).min(self.rows - 1),
            b'K' => {
                let line = self.cells.chunks_mut(self.columns.max(1)).nth(self.at.0);
                line.into_iter().flatten().for_each(|cell| " ".clone_into(cell));
            }
            b'm' => {}
            b'h' | b'l' if parameters.starts_with('?') => {}
            _ => self.strange.push(format!("{parameters}{}", char::from(last))),
        }
    }

    fn text(&self) -> String {
        let lines = self.cells.chunks(self.columns.max(1)).map(|line| line.concat().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }
}

/// A program on a terminal of its own.
pub struct Screen {
    master: Option<File>,
    /// The program.
    pub child: Child,
    glass: Arc<Mutex<Glass>>,
    reader: Option<JoinHandle<()>>,
}

impl Screen {
    /// Starts a program; the terminal controls it, as it does in real life: it learns of new sizes, and of the end.
    pub fn new(command: &Command, (rows, columns): (u16, u16)) -> Self {
        let (master, slave) = terminal_of(rows, columns);
        let mut real = Command::new("setsid");
        real.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => real.env(name, value),
                None => real.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            real.current_dir(dir);
        }
        let side = || Stdio::from(slave.try_clone().unwrap());
        let child = real.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        drop((real, slave)); // both hold the slave
        let glass = Arc::new(Mutex::new(Glass::default()));
        glass.lock().unwrap().resize(usize::from(rows), usize::from(columns));
        let (mut output, seen) = (master.try_clone().unwrap(), glass.clone());
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // When nobody has the other side open any more, reading fails.
            while let Ok(n @ 1..) = output.read(&mut chunk) {
                seen.lock().unwrap().take(&chunk[..n]);
            }
        });
        Self { master: Some(master), child, glass, reader: Some(reader) }
    }

    /// What it shows now.
    pub fn text(&self) -> String {
        self.glass.lock().unwrap().text()
    }

    /// All that was ever sent to it.
    pub fn raw(&self) -> Vec<u8> {
        self.glass.lock().unwrap().raw.clone()
    }

    /// Waits until the picture is what is asked for.
    ///
    /// # Panics
    /// When it does not come to be, or something was sent that a picture does not need.
    #[track_caller]
    pub fn until(&self, what: &str, found: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        wait_for(LIMIT, || {
            text = self.text();
            found(&text)
        });
        assert!(found(&text), "{what}:\n{text}");
        let strange = self.glass.lock().unwrap().strange.clone();
        assert!(strange.is_empty(), "steered: {strange:?}\n{text}");
        text
    }

    /// Waits for a text.
    #[track_caller]
    pub fn shows(&self, wanted: &str) -> String {
        self.until(wanted, |text| text.contains(wanted))
    }

    /// Types.
    pub fn keys(&self, keys: &[u8]) {
        let mut master = self.master.as_ref().unwrap();
        master.write_all(keys).unwrap();
    }

    /// Types, and waits for a text.
    #[track_caller]
    pub fn keys_show(&self, keys: &[u8], wanted: &str) -> String {
        self.keys(keys);
        self.shows(wanted)
    }

    /// Becomes of another size.
    pub fn resize(&self, ws_row: u16, ws_col: u16) {
        self.glass.lock().unwrap().resize(usize::from(ws_row), usize::from(ws_col));
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(self.master.as_ref().unwrap(), size).unwrap();
    }

    /// Waits for the program's end; its exit code, `None` after a signal.
    pub fn end(mut self) -> Option<i32> {
        let mut status = None;
        wait_for(LIMIT, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.master.take());
        self.reader.take().unwrap().join().unwrap();
        status.and_then(|status| status.code())
    }
}
