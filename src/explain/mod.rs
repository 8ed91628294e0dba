//! Why a path of a union looks as it does: component by component, layer by layer.
//!
//! ```text
//! Subject (a stack and what is known of its layers; `first(n)` is the stack of its lowest n)
//!    ├─ trace::explain: the mount's own walk with a recording observer ─▶ Explanation ─▶ text::picture, json::document
//!    │      ├─ versions   every layer's version of a path        (which)
//!    │      └─ log        what each layer did to a path          (log)
//!    └─ layers::Folder: a directory in all layers at once ─▶ Entry ─▶ Version
//!           ├─ blame      which layer an entry is from           (blame)
//!           ├─ changes    from one stack to another              (diff), by compare, content, unified
//!           ├─ usage      where the bytes are                    (du)
//!           ├─ find       searching, also for the same content   (find)
//!           └─ lint       what is wrong                          (lint)
//! ```
//!
//! Nothing here decides what shows: `trace` and `layers` drive [`crate::union::view::View`], which is the walk of the mount. What lies
//! in layers that the walk rightly does not visit (below an opaque directory, below a deleted one) is found by asking each of
//! these layers alone. Only indexes are read, but for what `content` is asked for. `text`, `rows`, `json` and
//! `documents` turn what was found into words, `html` into a page.

pub mod blame;
pub mod changes;
pub mod compare;
pub mod content;
pub mod documents;
pub mod find;
pub mod html;
pub mod json;
pub mod layers;
pub mod lint;
pub mod log;
pub mod rows;
pub mod subject;
pub mod text;
pub mod trace;
pub mod unified;
pub mod usage;
pub mod versions;

#[cfg(test)]
mod tests;

pub use subject::LayerInfo;
pub use subject::Place;
pub use subject::Subject;
pub use trace::Explanation;
pub use trace::Outcome;
pub use trace::explain;

use crate::path::BadName;
use crate::union;

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path holds something that no name can be.
    #[error("'{path}' is no path: {why}")]
    Path {
        /// The path, escaped.
        path: String,
        /// What is wrong with it.
        why: BadName,
    },
    /// Fewer layers than were asked for.
    #[error("{title} has {has} layers, not {count}")]
    TooFew {
        /// What the user calls the stack.
        title: String,
        /// How many were asked for.
        count: usize,
        /// How many there are.
        has: usize,
    },
    /// Whoever was told of what was found wants no more.
    #[error("stopped")]
    Stopped,
    /// A layer cannot be read.
    #[error(transparent)]
    Union(#[from] union::Error),
}

impl From<crate::layer::Error> for Error {
    fn from(e: crate::layer::Error) -> Self {
        Error::Union(e.into())
    }
}

/// The result of explaining.
pub type Result<T> = std::result::Result<T, Error>;
