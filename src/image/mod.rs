//! Images: documents and transforms, without network and without a store of their own.
//!
//! Every document here comes from a stranger: its size is checked before it is parsed, its depth while it is parsed, its
//! digests by their grammar, and every name in it is a key to look up, never a path to open.

pub mod ahead;
pub mod archive;
pub mod change;
pub mod compression;
pub mod config;
pub mod diff;
pub mod limits;
pub mod manifest;
pub mod reference;
pub(crate) mod tar_header;
pub mod unpack;

pub use crate::digest::Digest;
