//! The history of a path through the layers: `mica log`.
//!
//! For each layer the union of the layers up to it is looked at, and compared with that of one layer less. So a revision is what an
//! image that ends at this layer would show, by the same walk.

use super::Outcome;
use super::Result;
use super::compare::Change;
use super::compare::Difference;
use super::compare::Item;
use super::compare::differences;
use super::layers::Entry;
use super::layers::Folder;
use super::subject::Subject;
use super::trace::explain;
use super::versions::entry_at;
use crate::layer::ObjectId;
use crate::path::RelPath;
use crate::sys::attr::Kind;

/// The history of a path.
#[derive(Debug)]
pub struct Log {
    /// Where the path led, behind all symlinks of the whole stack; this path is followed back.
    pub path: RelPath,
    /// What the whole stack makes of it.
    pub outcome: Outcome,
    /// What happened to it, newest first.
    pub revisions: Vec<Revision>,
}

/// What one layer did to the path.
#[derive(Debug)]
pub struct Revision {
    /// The layer, by its position.
    pub layer: usize,
    /// Whether it came, changed, or went.
    pub change: Change,
    /// In what it changed.
    pub differences: Vec<Difference>,
    /// What was there before.
    pub before: Option<Item>,
    /// What is there from this layer on.
    pub after: Option<Item>,
    /// Of what came by a redirect or as a copy of attributes alone: what in a layer below it is.
    pub from: Option<From>,
}

/// Where what a layer shows under a new name has been before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The layer, by its position.
    pub layer: usize,
    /// Where it lies there, for people.
    pub location: String,
}

/// What a path is in the union of the layers up to one.
struct Moment {
    item: Item,
    /// Layers, counted from the lowest, and objects of which it is made.
    parts: Vec<(usize, ObjectId)>,
    /// How many names the newest layer says something about, if it is a directory there.
    said: usize,
    /// The lowest of the layers of which it is made, counted from the lowest, and where it lies there.
    lowest: Option<(usize, String)>,
}

/// The history of `path`. The cost is that of one lookup of the path for each layer.
///
/// # Errors
/// As [`explain`].
pub fn log(subject: &Subject, path: &[u8], follow: bool) -> Result<Log> {
    let explanation = explain(subject, path, follow)?;
    let path = explanation.resolved();
    let mut revisions = Vec::new();
    if explanation.reached_end() {
        let count = subject.layers().len();
        let mut before: Option<Moment> = None;
        for upto in 1..=count {
            let now = moment(&subject.first(upto)?, &path)?;
            if let Some((change, differences)) = compare(before.as_ref(), now.as_ref(), upto)? {
                let item = |moment: &Option<Moment>| moment.as_ref().map(|moment| moment.item.clone());
                let (before, after) = (item(&before), item(&now));
                // What was not there before and is in a layer below was led to by the newest one.
                let lowest = now.as_ref().and_then(|now| now.lowest.clone());
                let led = lowest.filter(|(layer, _)| change == Change::Added && *layer < upto);
                let from = led.map(|(layer, location)| From { layer: count - layer, location });
                revisions.push(Revision { layer: count - upto, change, differences, before, after, from });
            }
            before = now;
        }
    }
    revisions.reverse();
    Ok(Log { path, outcome: explanation.outcome, revisions })
}

fn compare(before: Option<&Moment>, now: Option<&Moment>, newest: usize) -> Result<Option<(Change, Vec<Difference>)>> {
    let (old, new) = match (before, now) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Ok(Some((Change::Added, Vec::new()))),
        (Some(_), None) => return Ok(Some((Change::Deleted, Vec::new()))),
        (Some(old), Some(new)) => (old, new),
    };
    if old.parts == new.parts {
        return Ok(None);
    }
    let mut found = differences(&old.item, &new.item)?;
    let has_newest = new.parts.iter().any(|(layer, _)| *layer == newest);
    if has_newest && new.item.stat.kind() == Kind::Dir && new.said > 0 {
        found.push(Difference::Entries(new.said));
    }
    // A layer that lists a directory as it is does nothing to it.
    Ok((!found.is_empty()).then_some((Change::Changed, found)))
}

fn moment(subject: &Subject, path: &RelPath) -> Result<Option<Moment>> {
    let count = subject.layers().len();
    let listed = |object: Option<&crate::layer::Obj>| -> Result<usize> {
        let mut said = 0;
        if let Some(object) = object.filter(|object| object.kind() == Kind::Dir) {
            object.list(&mut |_| {
                said += 1;
                Ok(())
            })?;
        }
        Ok(said)
    };
    if path.is_root() {
        let root = Folder::root(subject)?;
        let shown: Vec<usize> = root.layers().filter(|(_, shown)| *shown).map(|(layer, _)| layer).collect();
        let objects = || shown.iter().filter_map(|layer| Some((*layer, root.object(*layer)?)));
        let Some((_, face)) = objects().find(|(_, obj)| !obj.is_implied()).or_else(|| objects().next()) else {
            return Ok(None);
        };
        let item = Item { stat: face.stat()?, face: face.clone(), content: None };
        let parts = objects().map(|(layer, obj)| (count - layer, obj.id())).collect();
        return Ok(Some(Moment { item, parts, said: listed(root.object(0))?, lowest: None }));
    }
    let Some(entry) = entry_at(subject, path)? else { return Ok(None) };
    let Some(item) = Item::of(&entry) else { return Ok(None) };
    let parts = entry.parts().map(|(layer, obj)| (count - layer, obj.id())).collect();
    let located = |(layer, obj): (usize, &crate::layer::Obj)| {
        let info = subject.layers().get(layer)?;
        Some((count - layer, info.locate(&obj.location())))
    };
    let lowest = entry.parts().last().and_then(located);
    let newest = newest(&entry);
    Ok(Some(Moment { item, parts, said: listed(newest)?, lowest }))
}

/// What the topmost layer has, if it shows.
fn newest(entry: &Entry) -> Option<&crate::layer::Obj> {
    entry.parts().find(|(layer, _)| *layer == 0).map(|(_, obj)| obj)
}
