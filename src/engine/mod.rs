//! Use cases, one file each: where the parts of mica meet. Nothing here prints; what takes long reports to a [`Progress`].

pub mod commit;
pub mod containers;
pub mod diff;
pub mod error;
pub mod export;
pub mod extract;
pub mod history;
pub mod images;
pub mod import;
pub mod input;
pub mod inspect;
pub mod live;
pub mod load;
pub mod mounting;
pub mod output;
mod private;
pub mod prune;
pub mod refresh;
pub mod remove;
pub mod run;
pub mod save;
pub mod settings;
mod spool;
pub mod tag;
pub mod target;
pub mod tree;
pub mod usage;

#[cfg(test)]
#[path = "tests/damage.rs"]
mod damage_tests;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use error::Result;

use crate::image::Digest;

/// A layer on its way into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerNote {
    /// Which layer of how many, from 1, lowest first; a pipe's layers come before that is known.
    pub number: Option<(usize, usize)>,
    /// Its diff id, where it is known.
    pub diff_id: Option<Digest>,
    /// The size of its file in bytes.
    pub size: u64,
}

/// Is told how far things are. Called from several threads.
pub trait Progress: Sync {
    /// A layer is being read from now on.
    fn layer(&self, note: &LayerNote) -> Box<dyn LayerProgress>;

    /// A layer is there already and is not read.
    fn already_here(&self, note: &LayerNote);

    /// All layers are read and are made durable now.
    fn publishing(&self) {}
}

/// Is told how far one layer is. Dropped when the layer is done or has failed.
pub trait LayerProgress: Send {
    /// So many more bytes of its file were read.
    fn advance(&self, bytes: u64);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Quiet;

impl Progress for Quiet {
    fn layer(&self, _: &LayerNote) -> Box<dyn LayerProgress> {
        Box::new(Quiet)
    }

    fn already_here(&self, _: &LayerNote) {}
}

impl LayerProgress for Quiet {
    fn advance(&self, _: u64) {}
}
