//! The tree of the screen: directories whose rows were asked for, laid out as lines. Nothing is asked before it is opened.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use super::facts::Row;
use super::facts::Shine;
use crate::explain::usage::Usage;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys::attr::Kind;

/// A directory.
#[derive(Debug)]
struct Listing {
    rows: Vec<Row>,
    done: bool,
    open: bool,
}

/// A line of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The directory in which it lies.
    pub dir: Arc<RelPath>,
    /// Which of its rows.
    pub row: usize,
    /// How deep.
    pub depth: usize,
}

/// What of a tree is laid out, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Only what the topmost looked-at layer changed.
    pub changes: bool,
    /// What does not show, too.
    pub hidden: bool,
    /// The largest first.
    pub by_size: bool,
}

/// The tree.
#[derive(Debug, Default)]
pub struct Tree {
    listings: FxHashMap<RelPath, Listing>,
    lines: Vec<Line>,
}

impl Tree {
    /// The lines, as they were laid out last.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The row of a line.
    pub fn row(&self, line: &Line) -> Option<&Row> {
        self.listings.get(&*line.dir)?.rows.get(line.row)
    }

    /// The path of a line.
    pub fn path(&self, line: &Line) -> Option<RelPath> {
        Some(line.dir.child(self.row(line)?.name.as_name()))
    }

    /// Whether a directory is unfolded.
    pub fn is_open(&self, path: &RelPath) -> bool {
        self.listings.get(path).is_some_and(|listing| listing.open)
    }

    /// Whether some directory's rows are not all there yet.
    pub fn is_loading(&self) -> bool {
        self.listings.values().any(|listing| !listing.done)
    }

    /// Unfolds a directory; whether its rows are still to be asked for.
    pub fn open(&mut self, path: &RelPath) -> bool {
        if let Some(listing) = self.listings.get_mut(path) {
            listing.open = true;
            return false;
        }
        self.listings.insert(path.clone(), Listing { rows: Vec::new(), done: false, open: true });
        true
    }

    /// Folds a directory.
    pub fn close(&mut self, path: &RelPath) {
        if let Some(listing) = self.listings.get_mut(path) {
            listing.open = false;
        }
    }

    /// Forgets all rows; the directories that were unfolded.
    pub fn forget(&mut self) -> Vec<RelPath> {
        self.lines.clear();
        let open = self.listings.drain().filter(|(_, listing)| listing.open);
        let mut open: Vec<RelPath> = open.map(|(path, _)| path).collect();
        open.sort();
        open
    }

    /// Adds rows that came.
    pub fn add(&mut self, path: &RelPath, rows: Vec<Row>, done: bool) {
        if let Some(listing) = self.listings.get_mut(path) {
            listing.rows.extend(rows);
            listing.done |= done;
        }
    }

    /// Lays the lines out anew; only these paths, if some are given.
    pub fn lay_out(
        &mut self,
        rules: Rules,
        only: Option<&FxHashSet<RelPath>>,
        sizes: Option<&BTreeMap<RelPath, Usage>>,
    ) {
        let mut lines = Vec::new();
        let mut open = Vec::new();
        open.extend(self.order(&RelPath::root(), rules, only, sizes));
        while let Some((dir, rest)) = open.last_mut() {
            let Some(row) = rest.next() else {
                open.pop();
                continue;
            };
            let line = Line { dir: dir.clone(), row, depth: open.len() - 1 };
            let below = self.row(&line).filter(|row| row.is_dir).map(|row| line.dir.child(row.name.as_name()));
            lines.push(line);
            if let Some(below) = below.filter(|below| self.is_open(below)) {
                open.extend(self.order(&below, rules, only, sizes));
            }
        }
        self.lines = lines;
    }

    fn order(
        &self,
        path: &RelPath,
        rules: Rules,
        only: Option<&FxHashSet<RelPath>>,
        sizes: Option<&BTreeMap<RelPath, Usage>>,
    ) -> Option<(Arc<RelPath>, std::vec::IntoIter<usize>)> {
        let listing = self.listings.get(path).filter(|listing| listing.open)?;
        let fits = |row: &Row| {
            (!rules.changes || row.change.is_some())
                && (rules.hidden || row.shine == Shine::Shown)
                && only.is_none_or(|only| only.contains(&path.child(row.name.as_name())))
        };
        let fitting = listing.rows.iter().enumerate().filter(|(_, row)| fits(row));
        let mut order: Vec<usize> = fitting.map(|(at, _)| at).collect();
        if rules.by_size {
            order.sort_by_cached_key(|at| Reverse(listing.rows.get(*at).map(|row| size_of_row(path, row, sizes))));
        }
        Some((Arc::new(path.clone()), order.into_iter()))
    }

    /// Where the line of a path is.
    pub fn find(&self, path: &RelPath) -> Option<usize> {
        let (dir, name) = path.split_last()?;
        let (name, rows): (NameBuf, _) = (name.to_buf(), &self.listings.get(&dir)?.rows);
        let row = rows.iter().position(|row| row.name == name)?;
        self.lines.iter().position(|line| line.row == row && *line.dir == dir)
    }
}

/// The size of a file; of a directory that of all below it, where it is known.
pub fn size_of_row(dir: &RelPath, row: &Row, sizes: Option<&BTreeMap<RelPath, Usage>>) -> Option<u64> {
    let stat = row.stat?;
    match stat.kind() {
        Kind::Dir => sizes?.get(&dir.child(row.name.as_name())).map(|usage| usage.shown),
        Kind::File => Some(stat.size),
        _ => None,
    }
}
