//! What moves the cursors of the panes, and what Enter means in each.

use ratatui::crossterm::event::KeyCode;

use super::Model;
use super::Pane;
use crate::cli::debug::work::Ask;
use crate::path::RelPath;

impl Model {
    /// A key that means something else in each pane.
    pub(super) fn in_pane(&mut self, key: KeyCode) -> Vec<Ask> {
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

    /// Why the chosen layer cannot be read.
    pub(super) fn broken(&self) -> Option<String> {
        self.layers.get(self.layer.checked_sub(1)?)?.complaint()
    }

    /// Moves in the focused pane.
    pub fn move_by(&mut self, by: isize) -> Vec<Ask> {
        let moved = |at: usize, len: usize| at.saturating_add_signed(by).min(len.saturating_sub(1));
        match self.focus {
            // The topmost layer is the first line.
            Pane::Layers => {
                let total = self.layers.len();
                self.layer = total - moved(total - self.layer.min(total), total);
                self.message = self.broken();
            }
            Pane::Tree => return self.move_in_tree(by),
            Pane::Versions => {
                let len = self.details.as_ref().map_or(0, |details| details.versions.len());
                self.version = moved(self.version, len);
                let version = self.chosen_version();
                return vec![self.look(version)];
            }
            Pane::Walk => {
                let len = self.steps();
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
        if let Some(trace) = &mut self.trace {
            trace.move_by(by);
            self.step = None;
            let path = trace.path();
            return path.map(|path| self.look_at(path)).unwrap_or_default();
        }
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
            Pane::Tree if self.trace.is_some() && key == KeyCode::Char(' ') => {
                if let Some(trace) = &mut self.trace {
                    trace.follows = !trace.follows;
                }
                Vec::new()
            }
            Pane::Tree if self.trace.is_some() => self.go_to_traced(),
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
    pub(super) fn go_to_hit(&mut self) -> Vec<Ask> {
        let hit = self.list.as_ref().and_then(|list| list.hits.get(list.cursor)).map(|hit| hit.path.clone());
        if let (None, Some(list)) = (&hit, &mut self.list) {
            list.eager = !list.done;
        }
        hit.map(|path| self.show_in_tree(path)).unwrap_or_default()
    }

    /// Ends the trace and goes to the path of the chosen operation, in the tree as it is now.
    fn go_to_traced(&mut self) -> Vec<Ask> {
        let Some(path) = self.trace.as_ref().and_then(|trace| trace.path()) else { return Vec::new() };
        let mut asks = self.end_trace();
        self.path = path.clone();
        asks.extend(self.again());
        asks.extend(self.show_in_tree(path));
        asks
    }

    pub(super) fn show_in_tree(&mut self, path: RelPath) -> Vec<Ask> {
        (self.list, self.marks, self.rules.changes, self.rules.hidden) = (None, None, false, true);
        let mut asks = self.choose(path);
        asks.extend(self.reveal());
        self.lay_out();
        asks
    }

    /// Folds a directory, or goes to the one above.
    fn leave(&mut self) -> Vec<Ask> {
        if self.trace.is_some() {
            return Vec::new();
        }
        if self.list.take().is_some() {
            return Vec::new();
        }
        let Some(line) = self.tree.lines().get(self.cursor).cloned() else { return Vec::new() };
        if let Some(path) = self.tree.path(&line).filter(|path| self.tree.is_open(path)) {
            self.tree.close(&path);
            self.lay_out();
            return Vec::new();
        }
        let asks = if line.dir.is_root() { Vec::new() } else { self.choose(RelPath::clone(&line.dir)) };
        self.lay_out();
        asks
    }
}
