//! The state of the screen, and what keys and answers make of it. Pure: it draws nothing, reads nothing, and asks for what it needs.

use std::path::PathBuf;

use ratatui::crossterm::event::KeyCode;

use super::facts::Details;
use super::facts::How;
use super::session;
use super::session::Session;
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

/// Events of a live mount that are kept.
const EVENTS_MAX: usize = 1000;
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
    /// Operations on the live mount, the newest last; `None` when nobody listens.
    pub events: Option<Vec<String>>,
    /// Lines that fit into the focused pane.
    pub page: usize,
    turn: u64,
    searches: u64,
}

/// What the topmost layers are for people.
fn layer_line(session: &Session, position: usize, info: &LayerInfo) -> LayerLine {
    let command = match (&info.made.created_by, info.digest) {
        (Some(command), _) => text::one_line(command),
        (None, None) => Escaped(info.label.as_bytes()).to_string(),
        (None, Some(digest)) => digest.short(),
    };
    let message = info.made.comment.as_deref().map(text::one_line).unwrap_or_default();
    LayerLine { tag: text::tag(info), size: session.full().tar_size(position), command, message }
}

impl Model {
    /// The whole stack, at its root.
    pub fn new(session: &Session) -> (Self, Vec<Ask>) {
        let infos = session.full().layers().iter().enumerate();
        let mut layers: Vec<LayerLine> = infos.map(|(at, info)| layer_line(session, at, info)).collect();
        layers.reverse();
        let path = RelPath::parse(session.asked()).unwrap_or_default();
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
            message: None,
            help: false,
            events: None,
            page: 10,
            turn: 0,
            searches: 0,
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

    fn lay_out(&mut self) {
        self.tree.lay_out(self.rules, self.sizes.as_ref().map(|sizes| &sizes.dirs));
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
                self.tree.add(&path, rows, done);
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
            Found::Hits { turn, hits, done } => {
                if let Some(list) = self.list.as_mut().filter(|list| list.turn == turn) {
                    list.hits.extend(hits);
                    list.done = done;
                }
            }
            Found::Event(event) => {
                let Some(events) = &mut self.events else { return Vec::new() };
                events.push(event.line);
                let over = events.len().saturating_sub(EVENTS_MAX);
                events.drain(..over);
                // The walk of the newest event is what is looked at.
                return RelPath::parse(&event.path).map(|path| self.choose(path)).unwrap_or_default();
            }
            Found::Said(what) => self.message = Some(what),
            _ => {}
        }
        Vec::new()
    }

    /// The time for one more step of a walk that goes on by itself.
    pub fn tick(&mut self) {
        let last = self.details.as_ref().map_or(0, |details| details.walk.steps.len()).saturating_sub(1);
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
            KeyCode::Char('/') => self.prompt = Some((Prompt::Search, String::new())),
            KeyCode::Char('m') => self.prompt = Some((Prompt::Mount, String::new())),
            KeyCode::Char('x') => {
                let to = session::default_place(&self.path).unwrap_or_default();
                self.prompt = Some((Prompt::Extract, to.to_str().unwrap_or_default().to_owned()));
            }
            KeyCode::Char('[') => return self.go(self.count.saturating_sub(1)),
            KeyCode::Char(']') => return self.go(self.count + 1),
            KeyCode::Char('t') => return self.trace(),
            KeyCode::Char('g') => self.go_to_served(),
            KeyCode::Char('p') => {
                self.focus = Pane::Walk;
                (self.step, self.playing) = (Some(0), true);
            }
            KeyCode::Char('h') => return self.show(if self.how == How::Hex { How::Text } else { How::Hex }),
            KeyCode::Char('d') => return self.show(if self.how == How::Diff { How::Text } else { How::Diff }),
            KeyCode::Char('s') => self.rule(|rules| rules.by_size = !rules.by_size),
            KeyCode::Char('c') => self.rule(|rules| rules.changes = !rules.changes),
            KeyCode::Char('.') => self.rule(|rules| rules.hidden = !rules.hidden),
            KeyCode::Char('w') => return self.whiteouts(),
            KeyCode::Char('o') => return self.one_layer(),
            KeyCode::Esc => {
                (self.list, self.step, self.zoom) = (None, None, false);
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

    fn whiteouts(&mut self) -> Vec<Ask> {
        if self.list.as_ref().is_some_and(|list| list.title == "whiteouts") {
            self.list = None;
            return Vec::new();
        }
        let turn = self.list("whiteouts".to_owned());
        vec![Ask::Whiteouts { turn, count: self.count }]
    }

    fn list(&mut self, title: String) -> u64 {
        // A turn of its own: a search that is given up must not add to the next one.
        self.searches += 1;
        let turn = self.searches;
        self.list = Some(List { title, hits: Vec::new(), done: false, cursor: 0, turn });
        self.focus = Pane::Tree;
        turn
    }

    fn trace(&mut self) -> Vec<Ask> {
        let on = self.events.is_none();
        self.events = on.then(Vec::new);
        self.searches += 1;
        vec![Ask::Trace { turn: self.searches, on }]
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
        if typed.is_empty() {
            return Vec::new();
        }
        match kind {
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

    /// A key that means something else in each pane.
    fn in_pane(&mut self, key: KeyCode) -> Vec<Ask> {
        let by: isize = match key {
            KeyCode::Up | KeyCode::Char('k') => -1,
            KeyCode::Down | KeyCode::Char('j') => 1,
            KeyCode::PageUp => -isize::try_from(self.page).unwrap_or(1),
            KeyCode::PageDown => isize::try_from(self.page).unwrap_or(1),
            KeyCode::Home => isize::MIN,
            KeyCode::End => isize::MAX,
            KeyCode::Enter | KeyCode::Right | KeyCode::Char(' ' | 'l') => return self.enter(key),
            KeyCode::Left if self.focus == Pane::Tree => return self.leave(),
            _ => return Vec::new(),
        };
        self.move_by(by)
    }

    /// Moves in the focused pane.
    pub fn move_by(&mut self, by: isize) -> Vec<Ask> {
        let moved = |at: usize, len: usize| at.saturating_add_signed(by).min(len.saturating_sub(1));
        match self.focus {
            // The topmost layer is the first line.
            Pane::Layers => {
                let total = self.layers.len();
                self.layer = total - moved(total - self.layer.min(total), total);
            }
            Pane::Tree => return self.move_in_tree(by),
            Pane::Versions => {
                let len = self.details.as_ref().map_or(0, |details| details.versions.len());
                self.version = moved(self.version, len);
                let version = self.chosen_version();
                return vec![self.look(version)];
            }
            Pane::Walk => {
                let len = self.details.as_ref().map_or(0, |details| details.walk.steps.len());
                self.playing = false;
                let at = self.step.unwrap_or(if by < 0 { len } else { 0 });
                self.step = Some(if self.step.is_none() && by > 0 { 0 } else { moved(at, len) });
            }
            Pane::Preview => {
                let len = self.details.as_ref().map_or(0, |details| details.preview.len());
                self.scroll = moved(self.scroll, len);
            }
        }
        Vec::new()
    }

    fn move_in_tree(&mut self, by: isize) -> Vec<Ask> {
        let moved = |at: usize, len: usize| at.saturating_add_signed(by).min(len.saturating_sub(1));
        let path = match &mut self.list {
            Some(list) => {
                list.cursor = moved(list.cursor, list.hits.len());
                list.hits.get(list.cursor).map(|hit| hit.path.clone())
            }
            None => {
                self.cursor = moved(self.cursor, self.tree.lines().len());
                self.tree.lines().get(self.cursor).and_then(|line| self.tree.path(line))
            }
        };
        path.map(|path| self.choose(path)).unwrap_or_default()
    }

    fn enter(&mut self, key: KeyCode) -> Vec<Ask> {
        match self.focus {
            Pane::Layers => self.go(self.layer),
            Pane::Tree if self.list.is_some() => self.go_to_hit(),
            Pane::Tree => {
                let line = self.tree.lines().get(self.cursor).cloned();
                let found = line.and_then(|line| Some((self.tree.path(&line)?, self.tree.row(&line)?.is_dir)));
                match found {
                    Some((path, true)) => {
                        let asks = match self.tree.is_open(&path) && key != KeyCode::Right {
                            true => {
                                self.tree.close(&path);
                                None
                            }
                            false => self.open(&path),
                        };
                        self.lay_out();
                        asks.into_iter().collect()
                    }
                    Some(_) if key == KeyCode::Enter => {
                        self.focus = Pane::Preview;
                        Vec::new()
                    }
                    _ => Vec::new(),
                }
            }
            Pane::Versions => {
                self.layer = self.chosen_version().unwrap_or(self.layer);
                self.focus = Pane::Preview;
                Vec::new()
            }
            Pane::Walk => self.move_by(1),
            Pane::Preview => Vec::new(),
        }
    }

    /// Goes to what was found, in the tree.
    fn go_to_hit(&mut self) -> Vec<Ask> {
        let hit = self.list.as_ref().and_then(|list| list.hits.get(list.cursor)).map(|hit| hit.path.clone());
        let Some(path) = hit else { return Vec::new() };
        (self.list, self.rules.changes, self.rules.hidden) = (None, false, true);
        let mut asks = self.choose(path);
        asks.extend(self.reveal());
        self.lay_out();
        asks
    }

    /// Folds a directory, or goes to the one above.
    fn leave(&mut self) -> Vec<Ask> {
        if self.list.take().is_some() {
            return Vec::new();
        }
        let Some(line) = self.tree.lines().get(self.cursor).cloned() else { return Vec::new() };
        if let Some(path) = self.tree.path(&line).filter(|path| self.tree.is_open(path)) {
            self.tree.close(&path);
            self.lay_out();
            return Vec::new();
        }
        let asks = if line.dir.is_root() { Vec::new() } else { self.choose(line.dir) };
        self.lay_out();
        asks
    }
}
