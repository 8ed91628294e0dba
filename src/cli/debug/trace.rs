//! The operations on a live mount, as the screen keeps them: the newest, one of them chosen, with its walk.

use std::collections::VecDeque;

use super::facts::Cell;
use super::facts::Step;
use super::facts::Walk;
use super::live::Batch;
use crate::live::Event;
use crate::live::Said;
use crate::path::Escaped;
use crate::path::RelPath;

/// Lines that are kept.
const KEPT_MAX: usize = 2000;

/// A line of the trace.
#[derive(Debug)]
pub enum Line {
    /// An operation.
    Event(Box<Event>),
    /// So many were lost here.
    Lost(u64),
    /// The end, and why.
    Ended(&'static str),
}

/// What was told since the listening began.
#[derive(Debug)]
pub struct Trace {
    /// The newest lines, the newest last.
    pub lines: VecDeque<Line>,
    /// The chosen one.
    pub cursor: usize,
    /// The newest line is always the chosen one.
    pub follows: bool,
    /// Only paths with this text in them are kept; lower case.
    pub text: String,
    /// Operations that were told of.
    pub told: u64,
    /// And how many were lost.
    pub lost: u64,
    /// The mount was reached.
    pub listens: bool,
    /// Nothing comes any more.
    pub ended: bool,
    /// Names this listening.
    pub turn: u64,
}

impl Trace {
    /// Nothing yet.
    pub fn new(turn: u64) -> Self {
        Self {
            lines: VecDeque::new(),
            cursor: 0,
            follows: true,
            text: String::new(),
            told: 0,
            lost: 0,
            listens: false,
            ended: false,
            turn,
        }
    }

    /// Takes in what came; the oldest lines go.
    pub fn add(&mut self, batch: Batch) {
        self.listens = true;
        self.told += batch.events.len() as u64;
        for event in batch.events {
            if self.fits(&event) {
                self.lines.push_back(Line::Event(Box::new(event)));
            }
        }
        if batch.lost > 0 {
            self.lost += batch.lost;
            self.lines.push_back(Line::Lost(batch.lost));
        }
        if let Some(why) = batch.ended {
            self.ended = true;
            self.lines.push_back(Line::Ended(why));
        }
        let over = self.lines.len().saturating_sub(KEPT_MAX);
        self.lines.drain(..over);
        let last = self.lines.len().saturating_sub(1);
        self.cursor = if self.follows { last } else { self.cursor.saturating_sub(over) };
    }

    fn fits(&self, event: &Event) -> bool {
        let has = |path: &[u8]| Escaped(path).to_string().to_lowercase().contains(&self.text);
        self.text.is_empty() || has(&event.path) || has(&event.other)
    }

    /// From now on, only paths with this text in them; what does not fit goes.
    pub fn only(&mut self, text: &str) {
        self.text = text.to_lowercase();
        let lines = std::mem::take(&mut self.lines);
        let fits = |line: &Line| !matches!(line, Line::Event(event) if !self.fits(event));
        self.lines = lines.into_iter().filter(fits).collect();
        self.move_by(isize::MAX);
    }

    /// Chooses another line. On the last one, the newest is followed again.
    pub fn move_by(&mut self, by: isize) {
        let last = self.lines.len().saturating_sub(1);
        self.cursor = self.cursor.saturating_add_signed(by).min(last);
        self.follows = self.cursor == last && by > 0;
    }

    /// The chosen operation.
    pub fn event(&self) -> Option<&Event> {
        match self.lines.get(self.cursor) {
            Some(Line::Event(event)) => Some(event),
            _ => None,
        }
    }

    /// The path of the chosen operation; `None` for what has no name any more.
    pub fn path(&self) -> Option<RelPath> {
        let event = self.event().filter(|event| !event.path.is_empty())?;
        RelPath::parse(&event.path).ok()
    }

    /// What the layers said when the chosen operation was done; `upper` is the number of the upper directory here.
    pub fn walk(&self, upper: usize) -> Option<Walk> {
        self.event().map(|event| walk(event, upper))
    }
}

/// The words of an event as a walk of one name.
fn walk(event: &Event, upper: usize) -> Walk {
    let name = event.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let mut steps: Vec<Step> = Vec::new();
    for step in &event.steps {
        let first = !steps.iter().any(|step| step.cell == Cell::Served);
        let cell = match step.said {
            Said::Miss => Cell::Miss,
            Said::Whiteout => Cell::Whiteout,
            Said::Found => Cell::Served,
            Said::Opaque if first => Cell::Served,
            Said::Merged | Said::Opaque => Cell::Merged,
            Said::Shadowed => Cell::Shadowed,
            Said::Failed => Cell::Failed,
        };
        let layer = if step.layer == 0 { upper } else { usize::from(step.layer) };
        steps.push(Step { column: 0, layer, cell, note: format!("{} {}", step.place(), cell.word()) });
    }
    Walk { names: vec![if name.is_empty() { "/".to_owned() } else { Escaped(name).to_string() }], steps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Op;

    fn event(path: &str) -> Event {
        Event {
            at: (0, 0),
            took: 0,
            op: Op::Lookup,
            errno: 0,
            pid: 1,
            comm: Vec::new(),
            uid: 0,
            ino: 1,
            bytes: 0,
            offset: 0,
            path: path.as_bytes().to_vec(),
            other: Vec::new(),
            steps: Vec::new(),
            more: 0,
        }
    }

    fn batch(paths: &[&str], lost: u64) -> Batch {
        Batch { events: paths.iter().map(|path| event(path)).collect(), lost, ended: None }
    }

    #[test]
    fn the_newest_is_followed_until_another_line_is_chosen() {
        let mut trace = Trace::new(1);
        trace.add(batch(&["/a", "/b"], 0));
        assert_eq!((trace.cursor, trace.path().unwrap().to_string()), (1, "/b".to_owned()));
        trace.move_by(-1);
        trace.add(batch(&["/c"], 7));
        assert_eq!((trace.cursor, trace.path().unwrap().to_string()), (0, "/a".to_owned()));
        assert_eq!((trace.told, trace.lost, trace.lines.len()), (3, 7, 4));
        trace.move_by(isize::MAX);
        assert!(trace.follows && trace.path().is_none(), "the last line is of what was lost");
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_chosen_line_stays() {
        let mut trace = Trace::new(1);
        trace.add(batch(&["/first", "/second"], 0));
        trace.move_by(-1);
        for _ in 0..KEPT_MAX - 1 {
            trace.add(batch(&["/x"], 0));
        }
        assert_eq!(trace.lines.len(), KEPT_MAX);
        assert_eq!(trace.path().unwrap().to_string(), "/second", "the first line went");
    }

    #[test]
    fn a_text_chooses_among_what_is_there_and_what_comes() {
        let mut trace = Trace::new(1);
        trace.add(batch(&["/etc/Passwd", "/bin"], 3));
        trace.only("PASS");
        trace.add(batch(&["/etc/passwd-", "/bin"], 0));
        assert_eq!(trace.lines.len(), 3, "two paths, and what was lost");
        assert_eq!(trace.path().unwrap().to_string(), "/etc/passwd-");
    }
}
