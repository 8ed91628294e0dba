//! From a request to a mount that serves: the order of steps, the daemon, signals, the end.
//!
//! ```text
//! caller                     daemon (the caller itself in the foreground)
//! fork ───────────────────▶  new session, signals blocked
//! waits on a pipe            check the mount point, open all layers, mount(2)
//!                            leave the caller's directory and descriptors
//! returns   ◀── "serving" ── handshake done, requests are answered
//!    or     ◀── the error ── exits 1
//!                            the mount ends: exits 0
//! ```
//!
//! The fork comes first, so that no thread of a resolver can be lost in it. All layers are open before the mount is made, so that a
//! mount point above or inside a layer cannot make the daemon wait for itself.

use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Duration;

use parking_lot::Mutex;

use super::error::Error;
use super::error::Result;
use super::mounted;
use super::mounted::Mounted;
use super::point;
use super::record::Recorder;
use super::request::Request;
use crate::fuse::Scout;
use crate::sys::daemon;
use crate::sys::daemon::Ended;
use crate::sys::daemon::Forked;
use crate::sys::signal_wait::Signal;
use crate::sys::signal_wait::Signals;
use crate::sys::signal_wait::Wake;

/// How long programs that still have files open may go on after a signal has taken the mount out of the tree.
const GRACE: Duration = Duration::from_secs(5);

/// The largest error text taken from the daemon, in bytes.
const REPORT_MAX: usize = 64 * 1024;

/// What came of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launched {
    /// A daemon serves the mount: its process number. It is a child of this process, and becomes init's when this ends.
    Serving(i32),
    /// The mount was served in the foreground, and has ended.
    Ended,
}

/// What a server is given.
#[derive(Debug)]
pub struct Serving<'a> {
    /// The connection to serve, before its handshake.
    pub fuse: OwnedFd,
    /// To be told when requests are answered.
    pub ready: Ready<'a>,
    /// Where to leave what SIGUSR1 calls.
    pub statistics: &'a Statistics,
    /// Tells others what the mount is made of, once the server knows.
    pub recorder: &'a Recorder,
    /// Looks ahead for the server, where that is of use.
    pub scout: Option<Scout>,
}

/// What SIGUSR1 calls.
#[derive(Default)]
pub struct Statistics(Mutex<Option<Box<dyn Fn() + Send>>>);

impl std::fmt::Debug for Statistics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Statistics")
    }
}

impl Statistics {
    /// From now on SIGUSR1 calls `hook`, on the thread of signals.
    pub fn on_signal(&self, hook: impl Fn() + Send + 'static) {
        *self.0.lock() = Some(Box::new(hook));
    }

    fn call(&self) {
        if let Some(hook) = self.0.lock().as_ref() {
            hook();
        }
    }
}

/// Says once that requests are answered.
#[derive(Debug)]
pub struct Ready<'a> {
    report: &'a Report,
    mounted: &'a Mounted,
}

impl Ready<'_> {
    /// Lets the caller return. When the caller is gone (killed while it waited), nobody wants the mount, and it is taken away.
    pub fn now(self) {
        if self.report.serving().is_err()
            && let Err(e) = self.mounted.detach()
        {
            log::warn!("the caller is gone, and so should the mount: {e}");
        }
    }
}

/// Mounts what `request` asks for and serves it. `open` opens the layers; `serve` answers requests until the mount is gone.
///
/// With [`Request::foreground`] this returns when the mount has ended; else when a daemon serves it. The daemon never returns from
/// here. This process must have one thread.
///
/// # Errors
/// [`Error::Mount`] with the reason, also when it is the daemon's.
pub fn launch<L>(
    request: &Request,
    open: impl FnOnce(&Request) -> std::result::Result<L, String>,
    serve: impl FnOnce(L, Serving<'_>) -> std::result::Result<(), String>,
) -> Result<Launched> {
    let launched = if request.foreground {
        carry(request, &Report(Mutex::new(None)), open, serve).map(|()| Launched::Ended)
    } else {
        in_background(request, open, serve)
    };
    launched.map_err(|why| Error::Mount {
        what: request.source.label(),
        target: request.target.clone(),
        why: Box::new(why),
    })
}

fn in_background<L>(
    request: &Request,
    open: impl FnOnce(&Request) -> std::result::Result<L, String>,
    serve: impl FnOnce(L, Serving<'_>) -> std::result::Result<(), String>,
) -> Result<Launched> {
    let (news, sender) = daemon::pipe()?;
    match daemon::fork()? {
        Forked::Parent(pid) => {
            drop(sender);
            wait_for(pid, &news)
        }
        Forked::Child => {
            drop(news);
            let report = Report(Mutex::new(Some(sender)));
            let all = || daemon::new_session().map_err(Error::from).and_then(|()| carry(request, &report, open, serve));
            let result = catch_unwind(AssertUnwindSafe(all)).unwrap_or_else(|_| Err(panicked()));
            report.outcome(&result);
            daemon::exit_now(i32::from(result.is_err()));
        }
    }
}

fn panicked() -> Error {
    Error::Serve("the daemon hit a defect (panic)".to_owned())
}

/// The caller's side: until the daemon serves, fails or dies.
fn wait_for(pid: i32, news: &OwnedFd) -> Result<Launched> {
    let text = daemon::read_to_end(news, REPORT_MAX)?;
    match text.split_first() {
        Some((&SERVING, _)) => Ok(Launched::Serving(pid)),
        Some((_, text)) => {
            // It exits right after its report; a zombie would stay for as long as this process lives.
            daemon::wait(pid)?;
            let mut parts = text.split(|&b| b == 0).map(|part| String::from_utf8_lossy(part).into_owned());
            let reason = parts.next().unwrap_or_default();
            Err(Error::Daemon { reason, hint: parts.next().filter(|hint| !hint.is_empty()) })
        }
        None => {
            let how = match daemon::wait(pid)? {
                Ended::Code(code) => format!("exit code {code}"),
                Ended::Signal(signal) => format!("signal {signal}"),
            };
            Err(Error::Serve(format!("the daemon ended before it served ({how})")))
        }
    }
}

const SERVING: u8 = b'S';
const FAILED: u8 = b'E';

/// The daemon's end of the pipe to its caller, until it is used; none in the foreground.
#[derive(Debug)]
struct Report(Mutex<Option<OwnedFd>>);

impl Report {
    fn serving(&self) -> Result<()> {
        self.send(&[SERVING])
    }

    fn outcome(&self, result: &Result<()>) {
        let unserved = Error::Serve("the server ended before it served".to_owned());
        let error = result.as_ref().err().unwrap_or(&unserved);
        let text = format!("{error}\0{}", error.hint().unwrap_or_default());
        let text = text.get(..REPORT_MAX / 2).unwrap_or(&text);
        // Without a reader there is nobody to tell, and after "serving" the pipe is gone.
        let _ = self.send(&[&[FAILED], text.as_bytes()].concat());
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let Some(pipe) = self.0.lock().take() else { return Ok(()) };
        Ok(daemon::write_all(pipe, bytes)?)
    }

    fn is_daemon(&self) -> bool {
        self.0.lock().is_some()
    }
}

/// Everything between the fork and the end.
fn carry<L>(
    request: &Request,
    report: &Report,
    open: impl FnOnce(&Request) -> std::result::Result<L, String>,
    serve: impl FnOnce(L, Serving<'_>) -> std::result::Result<(), String>,
) -> Result<()> {
    let signals = Signals::block()?;
    prepare();
    // Before anything is open that it should not have, and before there is a second thread.
    let ahead = request.options.ahead && crate::fuse::keeps_for_ever(request.options.timeout);
    let scout = if ahead { Scout::start() } else { None };
    let point = point::check(request)?;
    let layers = open(request).map_err(Error::Source)?;
    let mut recorder = Recorder::prepare(request);
    let (mounted, fuse) = mounted::attach(request, &point)?;
    recorder.mounted(&mounted);
    let served = settle(report).and_then(|()| {
        let ready = Ready { report, mounted: &mounted };
        listening(&signals, &mounted, |statistics| {
            serve(layers, Serving { fuse, ready, statistics, recorder: &recorder, scout })
        })
    });
    // The session can end before the mount does: an error, or a panic. A mount that nobody serves must not stay.
    let detached = mounted.detach();
    served.and(detached)
}

/// What a server needs of its process. Each of these is a gain where it is allowed, and no reason to fail.
fn prepare() {
    daemon::clear_umask();
    if let Err(e) = daemon::raise_open_files() {
        log::debug!("{e}");
    }
    daemon::prefer_to_live(-900);
}

/// Lets go of everything that is the caller's, once relative paths and inherited descriptors have been used.
fn settle(report: &Report) -> Result<()> {
    if report.is_daemon() {
        daemon::close_inherited()?;
        daemon::leave_directory()?;
        daemon::silence()?;
    }
    Ok(())
}

/// Runs `serve` with a thread beside it that hears signals.
fn listening(
    signals: &Signals,
    mounted: &Mounted,
    serve: impl FnOnce(&Statistics) -> std::result::Result<(), String>,
) -> Result<()> {
    let statistics = Statistics::default();
    let (stop, stopper) = daemon::pipe()?;
    std::thread::scope(|scope| {
        let listener = std::thread::Builder::new().name("mica-signals".to_owned());
        let listen = || listen(signals, &stop, mounted, &statistics);
        listener.spawn_scoped(scope, listen).map_err(|e| Error::Serve(format!("no thread for signals: {e}")))?;
        let served = catch_unwind(AssertUnwindSafe(|| serve(&statistics)));
        drop(stopper);
        served.map_or_else(|_| Err(panicked()), |served| served.map_err(Error::Serve))
    })
}

/// Hears signals until `stop` is closed. The first that asks for the end takes the mount away, so that the server sees the end of
/// its connection; a second one, or users that hold on for longer than [`GRACE`], end the process as it is.
fn listen(signals: &Signals, stop: &OwnedFd, mounted: &Mounted, statistics: &Statistics) {
    let mut patience = None;
    loop {
        match signals.wait(stop, patience) {
            Ok(Wake::Stop) => return,
            Ok(Wake::Signal(Signal::User1)) => statistics.call(),
            Ok(Wake::TimedOut) => daemon::exit_now(0),
            Ok(Wake::Signal(_)) if patience.is_some() => daemon::exit_now(0),
            Ok(Wake::Signal(signal)) => {
                patience = Some(GRACE);
                if let Err(e) = mounted.detach() {
                    log::error!("{signal:?}, but the mount stays: {e}");
                    daemon::exit_now(1);
                }
            }
            Err(e) => {
                log::error!("no signals are heard any more: {e}");
                return;
            }
        }
    }
}
