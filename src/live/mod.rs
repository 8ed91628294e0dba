//! What a serving mount tells of itself while it serves: counters, and each operation as an event to who listens.
//!
//! ```text
//! fuse: one place that every request passes ─▶ Hub ─▶ a bounded queue for each listener ─▶ a thread for each ─▶ socket ─▶ engine
//!                                              └▶ counters, read when somebody asks
//! ```
//! Nobody listening costs one relaxed load and one count for each request. A listener that does not keep up loses events, is told
//! how many and where, and delays nobody.
//!
//! [`wire`] is what goes over the socket; both its ends take the other for hostile. [`hub`] is the server's side, [`summary`] what a
//! listener can make of the events.

pub mod event;
pub mod filter;
pub mod hub;
mod names;
pub mod op;
pub mod stats;
pub mod summary;
pub mod wire;

#[cfg(test)]
mod tests;

pub use event::Event;
pub use event::Said;
pub use event::Step;
pub use filter::Filter;
pub use hub::Hub;
pub use op::Op;
