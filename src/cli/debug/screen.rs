//! The terminal: entered, driven and given back, however it ends.

use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Receiver;
use crossbeam_channel::RecvTimeoutError;
use crossbeam_channel::Sender;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor;
use ratatui::crossterm::event;
use ratatui::crossterm::event::Event;
use ratatui::crossterm::event::KeyEventKind;
use ratatui::crossterm::event::KeyModifiers;
use ratatui::crossterm::event::MouseEvent;
use ratatui::crossterm::event::MouseEventKind;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal;
use ratatui::layout::Position;
use ratatui::layout::Rect;

use super::model::Model;
use super::model::Pane;
use super::session::Session;
use super::view;
use super::view::Theme;
use super::work::Ask;
use super::work::Found;
use super::work::Ground;
use super::work::Work;
use crate::cli::error::CliError;
use crate::sys;
use crate::sys::signal_wait::Signal;
use crate::sys::signal_wait::Signals;
use crate::sys::signal_wait::Wake;

/// How long a step of a walk is lit.
const STEP: Duration = Duration::from_millis(70);
/// How long a key waits for what it asked for before the screen is drawn without it.
const PATIENCE: Duration = Duration::from_millis(15);
/// Lines that the mouse's wheel moves.
const WHEEL: isize = 3;

/// What wakes the screen.
enum Input {
    Terminal(Event),
    /// A signal: the screen ends.
    Signal(Signal),
    /// The terminal is gone.
    Gone,
}

type Screen = Terminal<CrosstermBackend<BufWriter<Out>>>;

/// What is drawn on. ratatui says on standard error, and panics if that is gone, too, when it cannot show the cursor again at its
/// end; so a terminal that vanished takes everything, and is remembered.
struct Out {
    file: File,
    gone: Arc<AtomicBool>,
}

impl Out {
    fn quiet(&self, done: std::io::Result<usize>, len: usize) -> std::io::Result<usize> {
        match done {
            Err(e) if e.kind() != std::io::ErrorKind::Interrupted => {
                self.gone.store(true, Ordering::Relaxed);
                Ok(len)
            }
            other => other,
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let done = self.file.write(bytes);
        self.quiet(done, bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let done = self.file.flush().map(|()| 0);
        self.quiet(done, 0).map(drop)
    }
}

/// The terminal in raw mode on its other page; dropping it gives it back.
struct Guard {
    out: OwnedFd,
    gone: Arc<AtomicBool>,
}

impl Guard {
    fn enter(mouse: bool) -> Result<(Self, Screen), CliError> {
        let failed = |e: std::io::Error| CliError::new(format!("cannot use the terminal: {e}"));
        let out = sys::open::duplicate(sys::tty::stdout()).map_err(|e| failed(e.into()))?;
        let mut file = File::from(sys::open::duplicate(&out).map_err(|e| failed(e.into()))?);
        restore_on_panic(&out).map_err(|e| failed(e.into()))?;
        let guard = Self { out, gone: Arc::default() };
        terminal::enable_raw_mode().map_err(failed)?;
        execute!(file, terminal::EnterAlternateScreen, cursor::Hide).map_err(failed)?;
        if mouse {
            execute!(file, event::EnableMouseCapture).map_err(failed)?;
        }
        let out = BufWriter::with_capacity(1 << 16, Out { file, gone: guard.gone.clone() });
        let screen = Terminal::new(CrosstermBackend::new(out)).map_err(failed)?;
        Ok((guard, screen))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore(&self.out);
    }
}

/// With the terminal gone there is nothing to give back, so failures count nothing.
fn restore(out: &OwnedFd) {
    if let Ok(mut file) = sys::open::duplicate(out).map(File::from) {
        execute!(file, event::DisableMouseCapture, terminal::LeaveAlternateScreen, cursor::Show).unwrap_or_default();
    }
    terminal::disable_raw_mode().unwrap_or_default();
}

/// What a panic says must be readable: the terminal is given back before it is said.
fn restore_on_panic(out: &OwnedFd) -> sys::Result<()> {
    let out = sys::open::duplicate(out)?;
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore(&out);
        before(info);
    }));
    Ok(())
}

/// Runs the screen until the user quits, a signal comes, or the terminal is gone.
///
/// # Errors
/// When the terminal cannot be used; with 128 and its number after a signal.
pub fn run(session: &Session, mouse: bool, theme: Theme) -> Result<(), CliError> {
    let signals = Signals::block().map_err(crate::engine::Error::from)?;
    let (inputs, wakes) = crossbeam_channel::unbounded();
    let (answers, found) = crossbeam_channel::unbounded();
    let ground =
        Ground { image: session.image().map(str::to_owned), root: session.root().map(std::path::Path::to_owned) };
    let (guard, mut screen) = Guard::enter(mouse)?;
    let work = Work::start(session.full().clone(), session.word().clone(), ground, answers)?;
    listen(signals, &inputs)?;
    let end = Loop { work, wakes, found, theme, gone: guard.gone.clone() }.run(session, &mut screen);
    // The screen's own end writes to the terminal, too.
    drop(screen);
    drop(guard);
    match end {
        End::Quit | End::Gone => Ok(()),
        End::Signal(signal) => Err(CliError::ended(128 + number(signal))),
    }
}

fn number(signal: Signal) -> u8 {
    match signal {
        Signal::HangUp => 1,
        Signal::Interrupt => 2,
        Signal::User1 => 10,
        Signal::Terminate => 15,
    }
}

/// Starts the threads that wait for keys, for signals, and for the terminal to vanish.
fn listen(signals: Signals, inputs: &Sender<Input>) -> std::io::Result<()> {
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let to = inputs.clone();
    thread("keys").spawn(move || {
        loop {
            let input = event::read().map_or(Input::Gone, Input::Terminal);
            let ends = matches!(input, Input::Gone);
            if to.send(input).is_err() || ends {
                return;
            }
        }
    })?;
    let to = inputs.clone();
    thread("signals").spawn(move || {
        // Nothing stops the waiting but a signal: the other end of the pipe stays open.
        let Ok((never, _open)) = sys::daemon::pipe() else { return };
        while let Ok(Wake::Signal(signal)) = signals.wait(&never, None) {
            to.send(Input::Signal(signal)).unwrap_or_default();
        }
    })?;
    let to = inputs.clone();
    thread("hangup").spawn(move || {
        if sys::tty::wait_hangup(sys::tty::stdin()).is_ok() {
            to.send(Input::Gone).unwrap_or_default();
        }
    })?;
    Ok(())
}

enum End {
    Quit,
    Signal(Signal),
    Gone,
}

struct Loop {
    work: Work,
    wakes: Receiver<Input>,
    found: Receiver<Found>,
    theme: Theme,
    /// The terminal took nothing any more.
    gone: Arc<AtomicBool>,
}

impl Loop {
    fn run(self, session: &Session, screen: &mut Screen) -> End {
        let (mut model, asks) = Model::new(session);
        if let Some(end) = self.ask(asks) {
            return end;
        }
        self.take(&mut model, true);
        loop {
            let Ok(area) = screen.size().map(|size| Rect::new(0, 0, size.width, size.height)) else { return End::Gone };
            model.page = view::page(area, &model);
            let drawn = screen.draw(|frame| view::draw(frame, &model, self.theme)).is_ok();
            if !drawn || self.gone.load(Ordering::Relaxed) {
                return End::Gone;
            }
            let limit = if model.playing { STEP } else { Duration::from_secs(3600) };
            crossbeam_channel::select! {
                recv(self.wakes) -> input => {
                    let Ok(input) = input else { return End::Gone };
                    if let Some(end) = self.input(&mut model, input, area) {
                        return end;
                    }
                    // Keys that are held down come faster than a slow terminal draws.
                    while let Ok(input) = self.wakes.try_recv() {
                        if let Some(end) = self.input(&mut model, input, area) {
                            return end;
                        }
                    }
                    self.take(&mut model, true);
                }
                recv(self.found) -> found => {
                    let Ok(found) = found else { return End::Gone };
                    if let Some(end) = self.ask(model.found(found)) {
                        return end;
                    }
                    self.take(&mut model, false);
                }
                default(limit) => model.tick(),
            }
        }
    }

    /// Takes in what was answered; with `patient` waits a little for the first.
    fn take(&self, model: &mut Model, patient: bool) {
        let end = crate::env::monotonic() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(crate::env::monotonic());
            let answer = if patient { self.found.recv_timeout(left) } else { self.found.recv_timeout(Duration::ZERO) };
            match answer {
                // An answer never asks for the end.
                Ok(found) => {
                    let _ = self.ask(model.found(found));
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
            if left.is_zero() || !patient && !model.tree.is_loading() && self.found.is_empty() {
                return;
            }
        }
    }

    fn ask(&self, asks: Vec<Ask>) -> Option<End> {
        for ask in asks {
            if ask == Ask::Quit {
                return Some(End::Quit);
            }
            self.work.ask(ask);
        }
        None
    }

    fn input(&self, model: &mut Model, input: Input, area: Rect) -> Option<End> {
        match input {
            Input::Gone => Some(End::Gone),
            // Ctrl-C is a key in raw mode; the signal comes from outside.
            Input::Signal(signal) => Some(End::Signal(signal)),
            Input::Terminal(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                self.ask(model.key(key.code, key.modifiers.contains(KeyModifiers::CONTROL)))
            }
            Input::Terminal(Event::Mouse(mouse)) => self.ask(self.mouse(model, mouse, area)),
            Input::Terminal(_) => None,
        }
    }

    fn mouse(&self, model: &mut Model, mouse: MouseEvent, area: Rect) -> Vec<Ask> {
        let at = Position::new(mouse.column, mouse.row);
        let found = view::panes(area, model).into_iter().find(|(_, rect)| rect.contains(at));
        let Some((pane, rect)) = found else { return Vec::new() };
        model.focus = pane;
        match mouse.kind {
            MouseEventKind::ScrollDown => model.move_by(WHEEL),
            MouseEventKind::ScrollUp => model.move_by(-WHEEL),
            MouseEventKind::Down(_) => {
                let (cursor, len) = match pane {
                    Pane::Layers => (model.layers.len().saturating_sub(model.layer), model.layers.len()),
                    Pane::Tree => match &model.list {
                        Some(list) => (list.cursor, list.hits.len()),
                        None => (model.cursor, model.tree.lines().len()),
                    },
                    Pane::Versions => {
                        (model.version, model.details.as_ref().map_or(0, |details| details.versions.len()))
                    }
                    Pane::Walk | Pane::Preview => return Vec::new(),
                };
                let first = view::first_line(cursor, len, usize::from(rect.height.saturating_sub(2)));
                let line = first + usize::from(mouse.row.saturating_sub(rect.y + 1));
                let by = isize::try_from(line).unwrap_or(0) - isize::try_from(cursor).unwrap_or(0);
                model.move_by(by)
            }
            _ => Vec::new(),
        }
    }
}
