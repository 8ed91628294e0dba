//! Images: documents and transforms, without network and without a store of their own.

pub mod diff;
pub mod digest;
pub mod limits;
pub mod unpack;
