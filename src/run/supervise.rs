//! Standing in for the container on the host: signals go in, the terminal is passed through, the exit status comes out.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use super::error::Result;
use super::error::Step;
use crate::sys::Errno;
use crate::sys::child;
use crate::sys::child::Ended;
use crate::sys::child::Pid;
use crate::sys::signal;
use crate::sys::signal::Inbox;
use crate::sys::tty;
use crate::sys::tty::Watch;

/// What is read at once from a terminal.
const CHUNK: usize = 16 * 1024;
/// Input waiting for the container; beyond it our own input is not read.
const PENDING_MAX: usize = 64 * 1024;
/// End of transmission: what a terminal sends for the end of input.
const END_OF_INPUT: u8 = 4;

/// Waits for the end of process `pid`.
///
/// # Errors
/// [`super::Error::Setup`] naming the call that failed.
pub(super) fn until_end(pid: Pid, inbox: &Inbox, terminal: Option<&mut Terminal>) -> Result<Ended> {
    let step = || "wait for the container".to_owned();
    let mut terminal = terminal;
    loop {
        if let Some(ended) = child::wait(pid, false).step(step)? {
            if let Some(terminal) = &mut terminal {
                terminal.drain();
            }
            return Ok(ended);
        }
        match &mut terminal {
            Some(terminal) => terminal.wait_and_move(inbox).step(step)?,
            None => tty::poll(&mut [Watch::read(inbox.as_fd())]).step(step)?,
        }
        while let Some(number) = inbox.next().step(step)? {
            deliver(pid, number, terminal.as_deref()).step(step)?;
        }
    }
}

fn deliver(pid: Pid, number: i32, terminal: Option<&Terminal>) -> crate::sys::Result<()> {
    match (number, terminal) {
        (signal::CHILD, _) => Ok(()),
        // The kernel tells the container's foreground processes itself when its terminal changes.
        (signal::WINDOW, Some(terminal)) => {
            terminal.follow_size();
            Ok(())
        }
        _ => signal::send(pid, number).map(drop),
    }
}

/// The container's terminal, connected to ours.
#[derive(Debug)]
pub(super) struct Terminal {
    master: OwnedFd,
    /// Whether our standard input is still to be read.
    input_open: bool,
    /// Whether the master still gives output.
    output_open: bool,
    /// Input that the container has not taken yet.
    pending: VecDeque<u8>,
    _raw: Option<tty::Raw>,
}

impl Terminal {
    /// Connects `master` to standard input (if `interactive`) and output; our own terminal becomes raw until this is
    /// dropped.
    ///
    /// # Errors
    /// [`super::Error::Setup`].
    pub fn connect(master: OwnedFd, interactive: bool) -> Result<Self> {
        let step = || "connect the container's terminal".to_owned();
        tty::set_nonblocking(&master).step(step)?;
        let is_terminal = interactive && tty::is_terminal(tty::stdin());
        let raw = if is_terminal { Some(tty::Raw::enter(tty::stdin()).step(step)?) } else { None };
        let terminal = Self { master, input_open: interactive, output_open: true, pending: VecDeque::new(), _raw: raw };
        terminal.follow_size();
        Ok(terminal)
    }

    /// Gives the container's terminal the size of ours; without one of our own it keeps what it has.
    fn follow_size(&self) {
        let ours = [tty::stdin(), tty::stdout(), tty::stderr()].into_iter().find(|fd| tty::is_terminal(fd));
        if let Some(Err(e)) = ours.map(|fd| tty::copy_size(fd, &self.master)) {
            log::warn!("the container's terminal keeps its size: {e}");
        }
    }

    fn wait_and_move(&mut self, inbox: &Inbox) -> crate::sys::Result<()> {
        let master = self.master.as_fd();
        let mut watches = vec![Watch::read(inbox.as_fd())];
        let mut watch = |wanted: bool, watch| {
            wanted.then(|| {
                watches.push(watch);
                watches.len() - 1
            })
        };
        let output = watch(self.output_open, Watch::read(master));
        let input = watch(self.input_open && self.pending.len() < PENDING_MAX, Watch::read(tty::stdin()));
        let room = watch(!self.pending.is_empty(), Watch::write(master));
        tty::poll(&mut watches)?;
        let is_ready = |index: Option<usize>| index.and_then(|i| watches.get(i)).is_some_and(|w| w.ready);
        let (output, input, room) = (is_ready(output), is_ready(input), is_ready(room));
        drop(watches);
        if output {
            self.output_open = self.move_output();
        }
        if input {
            self.read_input();
        }
        if room {
            self.write_pending();
        }
        Ok(())
    }

    /// Copies what the container has written; `false` when there will be no more.
    fn move_output(&self) -> bool {
        let mut chunk = [0; CHUNK];
        match tty::read(&self.master, &mut chunk) {
            Err(Errno::INTR | Errno::AGAIN) => true,
            // EIO: every slave is closed. The container may open one again only by being alive, and then it has one
            // open.
            Ok(0) | Err(_) => false,
            Ok(got) => write_all(chunk.get(..got).unwrap_or_default()),
        }
    }

    fn read_input(&mut self) {
        let mut chunk = [0; CHUNK];
        match tty::read(tty::stdin(), &mut chunk) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(0) | Err(_) => {
                self.input_open = false;
                self.pending.push_back(END_OF_INPUT);
            }
            Ok(got) => self.pending.extend(chunk.get(..got).unwrap_or_default()),
        }
    }

    fn write_pending(&mut self) {
        let (head, _) = self.pending.as_slices();
        match tty::write(&self.master, head) {
            Ok(done) => drop(self.pending.drain(..done)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => {
                self.pending.clear();
                self.input_open = false;
            }
        }
    }

    /// Copies what is left after the last process of the container has gone.
    fn drain(&self) {
        let mut chunk = [0; CHUNK];
        loop {
            match tty::read(&self.master, &mut chunk) {
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return,
                Ok(got) if !write_all(chunk.get(..got).unwrap_or_default()) => return,
                Ok(_) => {}
            }
        }
    }
}

/// Writes to standard output; `false` when nobody reads it any more.
fn write_all(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match tty::write(tty::stdout(), bytes) {
            Ok(done) => bytes = bytes.get(done..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Somebody made our output non-blocking: wait as if it were not.
            Err(Errno::AGAIN) if tty::poll(&mut [Watch::write(tty::stdout())]).is_ok() => {}
            Err(_) => return false,
        }
    }
    true
}
