//! Watching a walk: what each layer said, and what it meant.
//!
//! The walk of [`super::lookup`] takes an [`Observer`] as a type parameter. The mount passes `()`, whose empty methods compile away;
//! `explain` passes a [`Trail`]. So what is explained is what was done, by the same code.

use crate::layer::Marks;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys::attr::Stat;

/// One layer of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sheet {
    /// The writable upper directory.
    Upper,
    /// A read-only layer, counted from the top, which is 0.
    Lower(u16),
}

/// What one layer contributed to the lookup of one name.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The parent directory does not exist in this layer (or is hidden there), so the name was not looked for.
    NoParent,
    /// The layer has the directory, but not the name.
    Miss,
    /// The layer deletes the name: nothing below shows.
    Whiteout,
    /// The object that is served, or for a directory the topmost one.
    Found {
        /// Its attributes in this layer.
        stat: Stat,
        /// Its marks, where they were read.
        marks: Marks,
        /// Where its content lies, for people.
        location: String,
    },
    /// A directory that is merged into those found above.
    Merged {
        /// Its attributes in this layer.
        stat: Stat,
        /// Its marks.
        marks: Marks,
        /// Where it lies, for people.
        location: String,
    },
    /// The layer has the name, but a layer above decides.
    Shadowed {
        /// Its attributes in this layer; `None` for a whiteout that is hidden itself.
        stat: Option<Stat>,
    },
    /// The layer could not be read.
    Failed(String),
}

/// Told what a walk does.
pub trait Observer {
    /// Whether the walk shall go on below the layer that decided, only to report what is hidden there.
    const EXHAUSTIVE: bool;

    /// Whether verdicts shall say where things lie. Without, `location` stays empty, which is faster.
    const LOCATES: bool = true;

    /// One layer's verdict on `name`, which is the name looked for or what a redirect made of it.
    fn verdict(&mut self, sheet: Sheet, name: Name<'_>, verdict: impl FnOnce() -> Verdict);
}

/// Watches nothing and costs nothing.
impl Observer for () {
    const EXHAUSTIVE: bool = false;

    #[inline]
    fn verdict(&mut self, _: Sheet, _: Name<'_>, _: impl FnOnce() -> Verdict) {}
}

/// Records every verdict, in the order of the walk.
#[derive(Debug, Default)]
pub struct Trail {
    /// Layer, name looked for there, verdict.
    pub steps: Vec<(Sheet, NameBuf, Verdict)>,
}

impl Observer for Trail {
    const EXHAUSTIVE: bool = true;

    fn verdict(&mut self, sheet: Sheet, name: Name<'_>, verdict: impl FnOnce() -> Verdict) {
        self.steps.push((sheet, name.to_buf(), verdict()));
    }
}

/// Records what each layer said, without names and places: for looking at many names.
#[derive(Debug, Default)]
pub struct Brief {
    /// Layer and verdict, in the order of the walk.
    pub steps: Vec<(Sheet, Verdict)>,
}

impl Observer for Brief {
    const EXHAUSTIVE: bool = true;
    const LOCATES: bool = false;

    fn verdict(&mut self, sheet: Sheet, _: Name<'_>, verdict: impl FnOnce() -> Verdict) {
        self.steps.push((sheet, verdict()));
    }
}
