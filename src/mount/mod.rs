//! Mounting: the options, the three ways of calling, the launch of the serving process, and taking mounts away.
//!
//! ```text
//! argv -> dialect::parse -> Command::Mount(Request) -> launch::launch -> daemon: open layers, mount(2), serve
//!                             options: one table          caller: returns when it serves, or with the daemon's error
//! ```
//!
//! This module knows neither images nor the store: a [`source::Source`] says what is asked for, and the program hands in how it is
//! opened and how it is served.

pub mod dialect;
pub mod error;
pub mod fusermount;
pub mod help;
pub mod helper;
pub mod launch;
pub mod live;
pub mod mounted;
pub mod options;
pub mod point;
pub mod record;
pub mod remount;
pub mod request;
pub mod serve;
pub mod source;
pub mod table;
pub mod umount;

pub use error::Error;
pub use options::MountOptions;
pub use request::Request;
pub use source::Source;
