//! Digests of image content; they live in [`crate::digest`], which layers use too.

pub use crate::digest::BadDigest;
pub use crate::digest::Digest;
pub use crate::digest::Hasher;
pub use crate::digest::Mismatch;
pub use crate::digest::Sha256Writer;
pub use crate::digest::VerifyingReader;
