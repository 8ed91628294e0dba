//! Why a path of a union looks as it does: component by component, layer by layer.
//!
//! ```text
//! Subject (a stack and what is known of its layers)
//!    └─ trace::explain: the mount's own walk with a recording observer ─▶ Explanation ─▶ text::picture, json::document
//! ```
//!
//! Nothing here looks anything up itself: `trace` drives [`crate::union::view::View`], which is the walk of the mount. What lies in
//! layers that the walk rightly does not visit (below an opaque directory, below a deleted one) is found by the same walk
//! through each of these layers alone. What later commands need (the history of a path, listings with origin) stands on the
//! same two: [`Subject`] and [`Explanation`].

pub mod blame;
pub mod changes;
pub mod compare;
pub mod content;
pub mod find;
pub mod json;
pub mod layers;
pub mod lint;
pub mod log;
pub mod subject;
pub mod text;
pub mod trace;
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
