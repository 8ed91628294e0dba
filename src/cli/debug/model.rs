//! The state of the screen, and what keys and answers make of it. Pure: it draws nothing, reads nothing, and asks for what it needs.
//! What moves the cursor of a pane is in `moves`.

mod moves;

use std::path::PathBuf;

use ratatui::crossterm::event::KeyCode;
use rustc_hash::FxHashSet;

use super::facts::Details;
use super::facts::How;
use super::facts::Walk;
use super::facts::brief;
use super::live::Batch;
use super::session;
use super::session::Session;
use super::trace::Trace;
use super::tree::Rules;
use super::tree::Tree;
use super::work::Ask;
use super::work::Found;
use super::work::Hit;
use crate::explain::LayerInfo;
use crate::explain::text;
use crate::explain::usage::Report;
use crate::path::Escaped;
use crate::path::RelPath;

/// The most directories that are unfolded to show whiteouts; the others are there, folded.
const UNFOLDED_MAX: usize = 200;
/// The longest text that can be typed.
const TYPED_MAX: usize = 4096;

/// A part of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    /// The layers.
    Layers,
    /// The tree, or what was found.
    Tree,
    /// What each layer has of the chosen path.
    Versions,
    /// How it was looked up.
    Walk,
    /// Its content.
    Preview,
}

impl Pane {
    /// In the order of the Tab key.
    pub const ALL: [Pane; 5] = [Pane::Layers, Pane::Tree, Pane::Versions, Pane::Walk, Pane::Preview];
}

/// What is typed in the last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// A text to search for.
    Search,
    /// A text that the paths of traced operations must hold.
    Only,
    /// Where a path is taken out to.
    Extract,
    /// Where the layers are mounted.
    Mount,
}

/// A line about a layer.
#[derive(Debug, Clone)]
pub struct LayerLine {
    /// `L3`, or `upper`.
    pub tag: String,
    /// The size of its tar.
    pub size: Option<u64>,
    /// The command that made it, or the directory that it is.
    pub command: String,
    /// The message.
    pub message: String,
    /// Why it cannot be read; it then counts as empty.
    pub broken: Option<String>,
}

impl LayerLine {
    /// Why the layer cannot be read, if it cannot.
    pub fn complaint(&self) -> Option<String> {
        self.broken.as_ref().map(|why| format!("{} counts as empty: {}", self.tag, brief(why)))
    }
}

/// What stands in the tree's place.
#[derive(Debug)]
pub struct List {
    /// What was looked for.
    pub title: String,
    /// What was found.
    pub hits: Vec<Hit>,
    /// Nothing more comes.
    pub done: bool,
    /// The chosen one.
    pub cursor: usize,
    /// Enter was typed before anything was found: go to the first.
    eager: bool,
    turn: u64,
}

impl List {
    /// Adds what was found, the best first: names that are the text itself, then those that begin with it. The chosen one stays
    /// chosen once it was moved to.
    fn add(&mut self, hits: Vec<Hit>) {
        let chosen = self.hits.get(self.cursor).filter(|_| self.cursor > 0).cloned();
        self.hits.extend(hits);
        self.hits.sort_by_key(|hit| hit.rank);
        self.cursor = chosen.and_then(|chosen| self.hits.iter().position(|hit| *hit == chosen)).unwrap_or(0);
    }
}

/// The whiteouts and opaque directories, where only they are seen.
#[derive(Debug, Default)]
pub struct Marks {
    /// Their paths, and the directories that lead to them.
    pub paths: FxHashSet<RelPath>,
    /// All are found.
    pub done: bool,
    /// Directories that were unfolded to show them.
    opened: Vec<RelPath>,
    turn: u64,
}

/// The state of the screen.
#[derive(Debug)]
pub struct Model {
    /// What the user calls the stack.
    pub title: String,
    /// All layers, lowest first, so that layer N is at N-1.
    pub layers: Vec<LayerLine>,
    /// How many are looked at.
    pub count: usize,
    /// Only this layer's own tree.
    pub only: Option<usize>,
    /// The chosen layer.
    pub layer: usize,
    /// Where keys go.
    pub focus: Pane,
    /// That pane alone.
    pub zoom: bool,
    /// The tree.
    pub tree: Tree,
    /// The chosen line of it.
    pub cursor: usize,
    /// What of the tree is seen.
    pub rules: Rules,
    /// Only whiteouts and opaque directories are seen.
    pub marks: Option<Marks>,
    /// In the tree's place.
    pub list: Option<List>,
    /// The path that is looked at; it need not be there in the layers that are looked at.
    pub path: RelPath,
    /// Everything about it.
    pub details: Option<Box<Details>>,
    /// The chosen line of the versions.
    pub version: usize,
    /// How the content is shown.
    pub how: How,
    /// The first line of it that is shown.
    pub scroll: usize,
    /// The step of the walk up to which it is lit; `None` all of it.
    pub step: Option<usize>,
    /// The walk goes on by itself.
    pub playing: bool,
    /// Sizes, when they are known.
    pub sizes: Option<Box<Report>>,
    /// What is typed.
    pub prompt: Option<(Prompt, String)>,
    /// What is to be said.
    pub message: Option<String>,
    /// All keys are shown.
    pub help: bool,
    /// Operations on the live mount, in the tree's place; `None` when nobody listens.
    pub trace: Option<Trace>,
    /// Lines that fit into the focused pane.
    pub page: usize,
    turn: u64,
    searches: u64,
    /// Rows that came since the tree was laid out.
    unseen: usize,
}

/// The command that made a layer, as it stood in the Dockerfile: what the classic builder writes around it takes half of a line.
fn instruction(command: &str) -> String {
    match command.strip_prefix("/bin/sh -c ") {
        Some(rest) => {
            rest.strip_prefix("#(nop) ").map_or_else(|| format!("RUN {rest}"), |rest| rest.trim_start().to_owned())
        }
        None => command.to_owned(),
    }
}

/// What the topmost layers are for people.
fn layer_line(session: &Session, position: usize, info: &LayerInfo) -> LayerLine {
    let command = match (&info.made.created_by, info.digest) {
        (Some(command), _) => instruction(&text::one_line(command)),
        (None, None) => Escaped(info.label.as_bytes()).to_string(),
        (None, Some(digest)) => digest.short(),
    };
    let message = info.made.comment.as_deref().map(text::one_line).unwrap_or_default();
    let size = session.full().tar_size(position).filter(|_| info.broken.is_none());
    LayerLine { tag: text::tag(info), size, command, message, broken: info.broken.clone() }
}

impl Model {
    /// The whole stack, at its root.
    pub fn new(session: &Session) -> (Self, Vec<Ask>) {
        let infos = session.full().layers().iter().enumerate();
        let mut layers: Vec<LayerLine> = infos.map(|(at, info)| layer_line(session, at, info)).collect();
        layers.reverse();
        let path = RelPath::parse(session.asked()).unwrap_or_default();
        let message = layers.iter().rev().find_map(LayerLine::complaint);
        let mut model = Self {
            title: Escaped(session.full().title().as_bytes()).to_string(),
            count: layers.len(),
            layer: layers.len(),
            layers,
            only: None,
            focus: Pane::Tree,
            zoom: false,
            tree: Tree::default(),
            cursor: 0,
            rules: Rules { changes: false, hidden: true, by_size: false },
            marks: None,
            list: None,
            path,
            details: None,
            version: 0,
            how: How::Text,
            scroll: 0,
            step: None,
            playing: false,
            sizes: None,
            prompt: None,
            message,
            help: false,
            trace: None,
            page: 10,
            turn: 0,
            searches: 0,
            unseen: 0,
        };
        let asks = model.again();
        (model, asks)
    }

    /// Asks for everything anew: the stack is another one. What was unfolded is unfolded again.
    fn again(&mut self) -> Vec<Ask> {
        self.turn += 1;
        self.sizes = None;
        self.list = None;
        let mut open = self.tree.forget();
        if open.is_empty() {
            open.push(RelPath::root());
        }
        let mut asks: Vec<Ask> = open.iter().flat_map(|path| self.open(path)).collect();
        asks.extend(self.reveal());
        asks.push(self.look(None));
        asks.push(Ask::Sizes { turn: self.turn, count: self.count });
        if self.marks.is_some() {
            asks.push(self.mark());
        }
        asks
    }

    fn open(&mut self, path: &RelPath) -> Option<Ask> {
        let ask = Ask::List { turn: self.turn, count: self.count, path: path.clone(), only: self.only };
        self.tree.open(path).then_some(ask)
    }

    /// Unfolds all that lies above the path that is looked at.
    fn reveal(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        let mut above = self.path.split_last().map(|(dir, _)| dir);
        while let Some(dir) = above {
            asks.extend(self.open(&dir));
            above = dir.split_last().map(|(dir, _)| dir);
        }
        asks.reverse();
        asks
    }

    fn look(&mut self, version: Option<usize>) -> Ask {
        self.scroll = 0;
        Ask::Look { turn: self.turn, count: self.count, path: self.path.clone(), version, how: self.how }
    }

    /// Looks at another path.
    fn choose(&mut self, path: RelPath) -> Vec<Ask> {
        if self.path == path {
            return Vec::new();
        }
        self.path = path;
        (self.step, self.playing, self.version) = (None, false, 0);
        vec![self.look(None)]
    }

    /// The walk that is drawn: that of the chosen operation, or of the chosen path as it is now.
    pub fn walk(&self) -> Option<Walk> {
        let told = self.trace.as_ref().and_then(|trace| trace.walk(self.layers.len()));
        told.or_else(|| self.details.as_ref().map(|details| details.walk.clone()))
    }

    fn steps(&self) -> usize {
        self.walk().map_or(0, |walk| walk.steps.len())
    }

    fn lay_out(&mut self) {
        self.unseen = 0;
        let marks = self.marks.as_ref().map(|marks| &marks.paths);
        self.tree.lay_out(self.rules, marks, self.sizes.as_ref().map(|sizes| &sizes.dirs));
        // What is looked at stays chosen; where it is not there, its nearest directory is.
        let mut path = self.path.clone();
        self.cursor = loop {
            if let Some(at) = self.tree.find(&path) {
                break at;
            }
            match path.split_last() {
                Some((dir, _)) => path = dir,
                None => break self.cursor.min(self.tree.lines().len().saturating_sub(1)),
            }
        };
    }

    /// The layer whose number a version line has.
    fn chosen_version(&self) -> Option<usize> {
        self.details.as_ref()?.versions.get(self.version).map(|line| line.layer)
    }

    /// Takes an answer in.
    pub fn found(&mut self, found: Found) -> Vec<Ask> {
        match found {
            Found::Rows { turn, path, rows, done } if turn == self.turn => {
                self.unseen += rows.len();
                self.tree.add(&path, rows, done);
                // Rows of a large directory come in many parts: laid out at each, they would take the square of the time.
                if !done && self.unseen * 2 < self.tree.lines().len() {
                    return Vec::new();
                }
                self.lay_out();
                if self.path.is_root()
                    && let Some(first) = self.tree.lines().first().and_then(|line| self.tree.path(line))
                {
                    return self.choose(first);
                }
            }
            Found::Details { turn, details } if turn == self.turn && details.path == self.path => {
                self.version = self.version.min(details.versions.len().saturating_sub(1));
                self.details = Some(details);
            }
            Found::Sizes { turn, report } if turn == self.turn => {
                self.sizes = Some(report);
                if self.rules.by_size {
                    self.lay_out();
                }
            }
            Found::Hits { turn, hits, done } if self.marks.as_ref().is_some_and(|marks| marks.turn == turn) => {
                return self.marked(&hits, done);
            }
            Found::Hits { turn, hits, done } => {
                if let Some(list) = self.list.as_mut().filter(|list| list.turn == turn) {
                    list.add(hits);
                    list.done = done;
                    if list.eager && list.done && !list.hits.is_empty() {
                        return self.go_to_hit();
                    }
                }
            }
            Found::Traced { turn, batch } => return self.traced(turn, batch),
            Found::Untraced { turn, why } if self.trace.as_ref().is_some_and(|trace| trace.turn == turn) => {
                self.trace = None;
                self.message = Some(why);
            }
            Found::Said(what) => self.message = Some(what),
            _ => {}
        }
        Vec::new()
    }

    /// The time for one more step of a walk that goes on by itself.
    pub fn tick(&mut self) {
        let last = self.steps().saturating_sub(1);
        match self.step {
            Some(step) if self.playing && step < last => self.step = Some(step + 1),
            _ => self.playing = false,
        }
    }

    /// A key.
    pub fn key(&mut self, key: KeyCode, control: bool) -> Vec<Ask> {
        if control && key == KeyCode::Char('c') {
            return vec![Ask::Quit];
        }
        self.message = None;
        if let Some((kind, typed)) = self.prompt.take() {
            return self.type_on(kind, typed, key);
        }
        if std::mem::take(&mut self.help) {
            return Vec::new();
        }
        // What changes the tree shows it again.
        let mut asks = match key {
            KeyCode::Char('c' | '.' | 's' | 'w' | 'o' | '[' | ']' | 'r') | KeyCode::Esc => self.end_trace(),
            _ => Vec::new(),
        };
        asks.extend(self.pressed(key));
        asks
    }

    fn pressed(&mut self, key: KeyCode) -> Vec<Ask> {
        match key {
            KeyCode::Char('q') => return vec![Ask::Quit],
            KeyCode::Char('?') | KeyCode::F(1) => self.help = true,
            KeyCode::Tab => self.next_pane(1),
            KeyCode::BackTab => self.next_pane(Pane::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='5') => {
                let at = usize::try_from(digit.to_digit(10).unwrap_or(1)).unwrap_or(1);
                self.focus = Pane::ALL.get(at - 1).copied().unwrap_or(self.focus);
            }
            KeyCode::Char('z') => self.zoom = !self.zoom,
            KeyCode::Char('/') if self.trace.is_some() => self.prompt = Some((Prompt::Only, String::new())),
            KeyCode::Char('/') => self.prompt = Some((Prompt::Search, String::new())),
            KeyCode::Char('m') => self.prompt = Some((Prompt::Mount, String::new())),
            KeyCode::Char('x') => {
                let to = session::default_place(&self.path).unwrap_or_default();
                self.prompt = Some((Prompt::Extract, to.to_str().unwrap_or_default().to_owned()));
            }
            KeyCode::Char('[') => return self.go(self.count.saturating_sub(1)),
            KeyCode::Char(']') => return self.go(self.count + 1),
            KeyCode::Char('t') => return self.begin_trace(),
            KeyCode::Char('r') => return self.again(),
            KeyCode::Char('g') => self.go_to_served(),
            KeyCode::Char('p') => {
                self.focus = Pane::Walk;
                (self.step, self.playing) = (Some(0), true);
            }
            KeyCode::Char('h') => return self.show(if self.how == How::Hex { How::Text } else { How::Hex }),
            KeyCode::Char('d') => return self.show(if self.how == How::Diff { How::Text } else { How::Diff }),
            KeyCode::Char('s') => {
                self.rule(|rules| rules.by_size = !rules.by_size);
                // The largest is what is wanted, wherever the cursor was.
                let first = self.tree.lines().first().filter(|_| self.rules.by_size);
                let path = first.and_then(|line| self.tree.path(line));
                let asks = path.map(|path| self.choose(path)).unwrap_or_default();
                self.lay_out();
                return asks;
            }
            KeyCode::Char('c') => {
                self.unmark();
                self.rule(|rules| rules.changes = !rules.changes);
            }
            KeyCode::Char('.') => self.rule(|rules| rules.hidden = !rules.hidden),
            KeyCode::Char('w') => return self.whiteouts(),
            KeyCode::Char('o') => return self.one_layer(),
            KeyCode::Esc => {
                (self.list, self.step, self.zoom) = (None, None, false);
                if self.marks.is_some() {
                    return self.whiteouts();
                }
                self.rule(|rules| rules.changes = false);
            }
            other => return self.in_pane(other),
        }
        Vec::new()
    }

    fn next_pane(&mut self, by: usize) {
        let at = Pane::ALL.iter().position(|pane| *pane == self.focus).unwrap_or(0);
        self.focus = Pane::ALL.get((at + by) % Pane::ALL.len()).copied().unwrap_or(Pane::Tree);
    }

    fn rule(&mut self, change: impl FnOnce(&mut Rules)) {
        self.list = None;
        change(&mut self.rules);
        self.lay_out();
    }

    fn show(&mut self, how: How) -> Vec<Ask> {
        self.how = how;
        let version = self.chosen_version();
        vec![self.look(version)]
    }

    /// Looks at the lowest `count` layers alone.
    fn go(&mut self, count: usize) -> Vec<Ask> {
        let count = count.min(self.layers.len());
        if count == self.count {
            return Vec::new();
        }
        (self.count, self.layer, self.only) = (count, count.max(1), None);
        self.again()
    }

    /// The tree of the chosen layer alone, or again of all.
    fn one_layer(&mut self) -> Vec<Ask> {
        self.only = if self.only.is_some() || self.layer > self.count { None } else { Some(self.layer) };
        self.again()
    }

    /// Chooses the layer that serves what is looked at.
    fn go_to_served(&mut self) {
        let served = self.details.as_ref().and_then(|details| details.served);
        match served {
            Some(layer) => {
                (self.layer, self.focus) = (layer, Pane::Layers);
                let versions = self.details.as_ref().map(|details| details.versions.as_slice()).unwrap_or_default();
                self.version = versions.iter().position(|line| line.layer == layer).unwrap_or(0);
            }
            None => self.message = Some("no layer serves it".to_owned()),
        }
    }

    /// Only whiteouts and opaque directories are seen, with the directories that lead to them; or again everything.
    fn whiteouts(&mut self) -> Vec<Ask> {
        self.list = None;
        if self.unmark() {
            let asks = self.reveal();
            self.lay_out();
            return asks;
        }
        (self.rules.changes, self.rules.hidden, self.focus) = (false, true, Pane::Tree);
        let ask = self.mark();
        self.lay_out();
        vec![ask]
    }

    /// Everything is seen again; what was unfolded for the marks is folded.
    fn unmark(&mut self) -> bool {
        let marks = self.marks.take();
        marks.iter().flat_map(|marks| &marks.opened).for_each(|path| self.tree.close(path));
        marks.is_some()
    }

    fn mark(&mut self) -> Ask {
        self.searches += 1;
        self.marks = Some(Marks { turn: self.searches, ..Marks::default() });
        Ask::Whiteouts { turn: self.searches, count: self.count }
    }

    /// Takes marks in, and unfolds what leads to them.
    fn marked(&mut self, hits: &[Hit], done: bool) -> Vec<Ask> {
        let Some(mut marks) = self.marks.take() else { return Vec::new() };
        marks.done = done;
        let mut asks = Vec::new();
        let only = self.only;
        for hit in hits.iter().filter(|hit| only.is_none_or(|only| only == hit.layer)) {
            let mut above = Some(hit.path.clone());
            while let Some(path) = above.filter(|path| marks.paths.insert(path.clone())) {
                above = path.split_last().map(|(dir, _)| dir);
                if let Some(dir) = &above
                    && !self.tree.is_open(dir)
                    && marks.opened.len() < UNFOLDED_MAX
                {
                    marks.opened.push(dir.clone());
                    asks.extend(self.open(dir));
                }
            }
        }
        let here = marks.paths.contains(&self.path);
        self.marks = Some(marks);
        if !here && let Some(first) = hits.first() {
            asks.extend(self.choose(first.path.clone()));
        }
        self.lay_out();
        asks
    }

    fn list(&mut self, title: String) -> u64 {
        // A turn of its own: a search that is given up must not add to the next one.
        self.searches += 1;
        let turn = self.searches;
        self.list = Some(List { title, hits: Vec::new(), done: false, cursor: 0, eager: false, turn });
        self.focus = Pane::Tree;
        turn
    }

    /// Listens to the live mount, whose layers are all looked at; or no longer.
    fn begin_trace(&mut self) -> Vec<Ask> {
        if self.trace.is_some() {
            return self.end_trace();
        }
        let mut asks = if self.only.is_some() || self.count < self.layers.len() {
            (self.count, self.only) = (self.layers.len(), None);
            self.again()
        } else {
            Vec::new()
        };
        self.searches += 1;
        (self.list, self.step, self.focus) = (None, None, Pane::Tree);
        self.trace = Some(Trace::new(self.searches));
        asks.push(Ask::Trace { turn: self.searches, on: true });
        asks
    }

    fn end_trace(&mut self) -> Vec<Ask> {
        let ended = self.trace.take();
        self.step = None;
        ended.map(|trace| Ask::Trace { turn: trace.turn, on: false }).into_iter().collect()
    }

    /// Takes in operations; what is chosen among them is looked at as it is now.
    fn traced(&mut self, turn: u64, batch: Batch) -> Vec<Ask> {
        let Some(trace) = self.trace.as_mut().filter(|trace| trace.turn == turn) else { return Vec::new() };
        trace.add(batch);
        if !trace.follows {
            return Vec::new();
        }
        let path = trace.path();
        path.map(|path| self.look_at(path)).unwrap_or_default()
    }

    /// Looks at a path, again if it is the one that is looked at: it may have changed.
    fn look_at(&mut self, path: RelPath) -> Vec<Ask> {
        if self.path == path { vec![self.look(None)] } else { self.choose(path) }
    }

    fn type_on(&mut self, kind: Prompt, mut typed: String, key: KeyCode) -> Vec<Ask> {
        match key {
            KeyCode::Esc => return Vec::new(),
            KeyCode::Enter => return self.typed(kind, typed),
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char(c) if typed.len() < TYPED_MAX && !c.is_control() => typed.push(c),
            _ => {}
        }
        self.prompt = Some((kind, typed));
        Vec::new()
    }

    fn typed(&mut self, kind: Prompt, typed: String) -> Vec<Ask> {
        if typed.is_empty() && kind != Prompt::Only {
            return Vec::new();
        }
        match kind {
            Prompt::Only => {
                if let Some(trace) = &mut self.trace {
                    trace.only(&typed);
                }
                Vec::new()
            }
            Prompt::Search => {
                let turn = self.list(format!("/{}", Escaped(typed.as_bytes())));
                vec![Ask::Search { turn, count: self.count, text: typed }]
            }
            Prompt::Extract => {
                self.message = Some("taking it out ...".to_owned());
                vec![Ask::Extract { count: self.count, path: self.path.clone(), to: PathBuf::from(typed) }]
            }
            Prompt::Mount => {
                self.message = Some("mounting ...".to_owned());
                vec![Ask::Mount { count: self.count, dir: PathBuf::from(typed) }]
            }
        }
    }
}
