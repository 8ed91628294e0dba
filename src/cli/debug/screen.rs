//! The screen, driven: keys, the mouse, signals and answers wake it, and each time it is drawn.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use ratatui::crossterm::event;
use ratatui::crossterm::event::Event;
use ratatui::crossterm::event::KeyEventKind;
use ratatui::crossterm::event::KeyModifiers;
use ratatui::crossterm::event::MouseEvent;
use ratatui::crossterm::event::MouseEventKind;
use ratatui::layout::Position;
use ratatui::layout::Rect;

use super::exchange::Exchange;
use super::model::Model;
use super::model::Pane;
use super::session::Session;
use super::terminal::Guard;
use super::terminal::Screen;
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
/// How many parcels of operations wait to be drawn.
const TRACED_MAX: usize = 2;
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

/// Runs the screen until the user quits, a signal comes, or the terminal is gone.
///
/// # Errors
/// When the terminal cannot be used; with 128 and its number after a signal.
pub fn run(session: &Session, mouse: bool, theme: Theme) -> Result<(), CliError> {
    let signals = Signals::block().map_err(crate::engine::Error::from)?;
    let (inputs, wakes) = crossbeam_channel::unbounded();
    let (answers, found) = crossbeam_channel::unbounded();
    let (to, traced) = crossbeam_channel::bounded(TRACED_MAX);
    let ground = Ground { image: session.image().map(str::to_owned), source: session.source().clone() };
    let (guard, mut screen) = Guard::enter(mouse)?;
    let exchange = Exchange::new(Work::start(session.full().clone(), ground, answers, to)?, found);
    listen(signals, &inputs)?;
    let end = Loop { exchange, wakes, traced, theme, gone: guard.gone.clone() }.run(session, &mut screen);
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
    exchange: Exchange,
    wakes: Receiver<Input>,
    /// Operations on the live mount.
    traced: Receiver<Found>,
    theme: Theme,
    /// The terminal took nothing any more.
    gone: Arc<AtomicBool>,
}

impl Loop {
    fn run(mut self, session: &Session, screen: &mut Screen) -> End {
        let (mut model, asks) = Model::new(session);
        self.exchange.ask(asks);
        self.exchange.take(&mut model, PATIENCE);
        loop {
            let Ok(area) = screen.size().map(|size| Rect::new(0, 0, size.width, size.height)) else { return End::Gone };
            model.page = view::page(area, &model);
            let drawn = screen.draw(|frame| view::draw(frame, &model, self.theme)).is_ok();
            if !drawn || self.gone.load(Ordering::Relaxed) {
                return End::Gone;
            }
            if let Some(end) = self.wait(&mut model, area) {
                return end;
            }
        }
    }

    /// Waits for something to come, and takes in all that came with it.
    fn wait(&mut self, model: &mut Model, area: Rect) -> Option<End> {
        let limit = if model.playing { STEP } else { Duration::from_secs(3600) };
        crossbeam_channel::select! {
            recv(self.wakes) -> input => {
                let Ok(input) = input else { return Some(End::Gone) };
                // Keys that are held down come faster than a slow terminal draws.
                let mut next = Some(input);
                while let Some(input) = next {
                    if let Some(end) = self.input(model, input, area) {
                        return Some(end);
                    }
                    next = self.wakes.try_recv().ok();
                }
                self.exchange.take(model, PATIENCE);
            }
            recv(self.exchange.found) -> found => {
                let Ok(found) = found else { return Some(End::Gone) };
                self.exchange.found(model, found);
                self.exchange.take(model, if model.tree.is_loading() { PATIENCE } else { Duration::ZERO });
            }
            recv(self.traced) -> found => {
                let Ok(found) = found else { return Some(End::Gone) };
                self.exchange.found(model, found);
                self.exchange.take(model, PATIENCE);
            }
            default(limit) => model.tick(),
        }
        None
    }

    fn input(&mut self, model: &mut Model, input: Input, area: Rect) -> Option<End> {
        let asks = match input {
            Input::Gone => return Some(End::Gone),
            // Ctrl-C is a key in raw mode; the signal comes from outside.
            Input::Signal(signal) => return Some(End::Signal(signal)),
            Input::Terminal(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                model.key(key.code, key.modifiers.contains(KeyModifiers::CONTROL))
            }
            Input::Terminal(Event::Mouse(mouse)) => self.mouse(model, mouse, area),
            Input::Terminal(_) => Vec::new(),
        };
        self.exchange.ask(asks).then_some(End::Quit)
    }

    fn mouse(&self, model: &mut Model, mouse: MouseEvent, area: Rect) -> Vec<Ask> {
        let at = Position::new(mouse.column, mouse.row);
        if !matches!(mouse.kind, MouseEventKind::Down(_) | MouseEventKind::ScrollDown | MouseEventKind::ScrollUp) {
            return Vec::new();
        }
        let found = view::panes(area, model).into_iter().find(|(_, rect)| rect.contains(at));
        let Some((pane, rect)) = found else { return Vec::new() };
        model.focus = pane;
        match mouse.kind {
            MouseEventKind::ScrollDown => model.move_by(WHEEL),
            MouseEventKind::ScrollUp => model.move_by(-WHEEL),
            MouseEventKind::Down(_) => {
                let (cursor, len) = match pane {
                    Pane::Layers => (model.layers.len().saturating_sub(model.layer), model.layers.len()),
                    Pane::Tree => match (&model.trace, &model.list) {
                        (Some(trace), _) => (trace.cursor, trace.lines.len()),
                        (None, Some(list)) => (list.cursor, list.hits.len()),
                        (None, None) => (model.cursor, model.tree.lines().len()),
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
