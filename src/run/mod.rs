//! Running a command in a container on a root directory that is ready.
//!
//! [`start`] forks the process that becomes the container's process 1. It builds namespaces, mounts and privileges
//! around itself ([`stage`], [`rootfs`]) and then waits, so that the caller can record its id before anything of the
//! image runs; [`Running::release`] lets it execute the command, [`Running::wait`] stands in for it on the host
//! ([`supervise`]).
//!
//! There is no daemon: the container lives as long as the process that started it, and the kernel kills it if that one
//! is killed. (Linux forgets this wish when process 1 of the container executes a set-user-id program.)
//!
//! The caller must have one thread when it starts a container, since a fork copies only one; this is checked.

mod enter;
mod error;
mod etc;
mod inroot;
mod rootfs;
pub mod spec;
mod stage;
mod supervise;
#[cfg(test)]
mod tests;
mod user;
mod wire;

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

pub use enter::EnterSpec;
pub use enter::enter;
pub use error::Error;
pub use error::Result;
use error::Step;
use spec::Spec;
use supervise::Terminal;

use crate::sys::channel;
use crate::sys::child;
use crate::sys::child::Pid;
use crate::sys::namespace;
use crate::sys::open;
use crate::sys::process;
use crate::sys::signal::Inbox;

/// How a container's process 1 ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl ExitStatus {
    /// The exit code that a shell and docker give it: 128 and the signal's number for a killed process.
    pub fn code(self) -> u8 {
        let number = match self {
            Self::Code(code) => code,
            Self::Signal(number) => number.saturating_add(128),
        };
        u8::try_from(number).unwrap_or(u8::MAX)
    }
}

/// A container's process 1, seen from the host. Dropping it kills a container that still runs.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    channel: Option<OwnedFd>,
    inbox: Inbox,
    master: Option<OwnedFd>,
    interactive: bool,
    command: Vec<u8>,
    ended: Option<ExitStatus>,
}

/// Prepares the container of `spec` and holds it right before its command. From here on signals to this process are
/// kept for the container.
///
/// # Errors
/// [`Error::NotRoot`]; [`Error::Spec`]; [`Error::Inside`] for whatever fails in the new process, a command that does
/// not exist included ([`Error::exit_code`] tells which); [`Error::Setup`]. Nothing is left behind then.
pub fn start(spec: &Spec) -> Result<Running> {
    spec.check()?;
    require_root()?;
    let dir = open::dir_path(&spec.rootfs).step(|| "open the container's root".to_owned())?;
    let identity = user::resolve(spec.user.as_deref(), &inroot::Root::new(dir))?;
    let fork = |body| namespace::fork_into_new_pid_namespace(|| child::fork(body));
    Running::begin(&spec.argv, spec.interactive, fork, |parent| stage::run(spec, &identity, parent))
}

fn require_root() -> Result<()> {
    match process::effective_uid() {
        0 => Ok(()),
        uid => Err(Error::NotRoot(uid)),
    }
}

impl Running {
    /// Forks by `fork` a process that runs `body`, and waits until that says that it is ready.
    fn begin<'a>(
        argv: &[OsString],
        interactive: bool,
        fork: impl FnOnce(Box<dyn FnOnce() -> u8 + 'a>) -> crate::sys::Result<Pid>,
        body: impl FnOnce(&OwnedFd) -> u8 + 'a,
    ) -> Result<Self> {
        let step = || "start the container's process".to_owned();
        let (ours, theirs) = channel::pair().step(step)?;
        let inbox = Inbox::open().step(step)?;
        let number = ours.as_raw_fd();
        let pid = fork(Box::new(move || {
            // Or the child would keep its own channel open, and never see the parent go.
            child::close_inherited(number);
            body(&theirs)
        }))
        .step(step)?;
        let command = argv.first().map(|s| s.as_bytes().to_vec()).unwrap_or_default();
        Self { pid, channel: Some(ours), inbox, master: None, interactive, command, ended: None }.until_ready()
    }

    fn until_ready(mut self) -> Result<Self> {
        let message = self.receive()?;
        match message {
            Some(message) if message.bytes == wire::READY => {
                self.master = message.fd;
                Ok(self)
            }
            Some(message) => Err(wire::parse_failure(&message.bytes, &self.command)),
            None => Err(self.vanished()),
        }
    }

    fn receive(&self) -> Result<Option<channel::Message>> {
        let step = || "hear from the container's process".to_owned();
        self.channel.as_ref().map_or(Ok(None), |channel| channel::receive(channel).step(step))
    }

    fn vanished(&mut self) -> Error {
        let how = match self.reap() {
            Ok(status) => format!("{status:?}"),
            Err(e) => e.to_string(),
        };
        Error::Vanished(how)
    }

    /// The process id on the host of the container's process 1.
    pub fn pid(&self) -> u32 {
        self.pid.number()
    }

    /// Lets the container execute its command; returns when it has.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::NotExecutable`] when the kernel refuses to execute it, with docker's exit codes.
    pub fn release(&mut self) -> Result<()> {
        let step = || "release the container".to_owned();
        if let Some(channel) = &self.channel {
            channel::send(channel, &wire::GO, None).step(step)?;
        }
        let message = self.receive()?;
        self.channel = None;
        // The channel closes by the exec; a message is the report of its failure.
        message.map_or(Ok(()), |message| Err(wire::parse_failure(&message.bytes, &self.command)))
    }

    /// Passes signals and, with a terminal, input and output until the container ends; releases it first if that was
    /// not done.
    ///
    /// # Errors
    /// As [`Running::release`]; [`Error::Setup`] when waiting itself fails.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let interactive = self.interactive;
        let master = self.master.take();
        let mut terminal = master.map(|master| Terminal::connect(master, interactive)).transpose()?;
        if self.channel.is_some() {
            self.release()?;
        }
        let ended = supervise::until_end(self.pid, &self.inbox, terminal.as_mut())?;
        Ok(self.note(ended))
    }

    fn note(&mut self, ended: child::Ended) -> ExitStatus {
        let status = match ended {
            child::Ended::Code(code) => ExitStatus::Code(code),
            child::Ended::Signal(number) => ExitStatus::Signal(number),
        };
        self.ended = Some(status);
        status
    }

    /// Kills the container if it runs, and waits for its end.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn reap(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let step = || format!("end the container's process {}", self.pid);
        child::kill(self.pid).step(step)?;
        loop {
            if let Some(ended) = child::wait(self.pid, true).step(step)? {
                return Ok(self.note(ended));
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(e) = self.reap() {
            log::warn!("{e}");
        }
    }
}
