//! What the test binaries share. Each takes it in with `#[path = "../support/mod.rs"] mod support;`.
//!
//! Nothing here imports `micafs`: what the tests compare with must not be what they test.

#![allow(dead_code, unused_imports, unused_macros, reason = "every test binary uses another part of it")]

pub mod archive;
pub mod bin;
pub mod browser;
pub mod fixture;
pub mod guard;
pub mod report;
pub mod serial;
pub mod tree;

pub use fixture::Fixture;
pub use fixture::fixture;
pub use guard::Daemon;
pub use guard::TempDir;
pub use report::report_count;
pub use report::report_skip;
pub use tree::Snapshot;

/// Whether the test runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Leaves the test, printing `SKIP name: reason`.
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::support::report_skip(&format!($($reason)+));
        return;
    }};
}
pub(crate) use skip;

/// Leaves the test, printing why, unless it runs as root.
macro_rules! require_root {
    () => {
        if !$crate::support::is_root() {
            $crate::support::skip!("needs root");
        }
    };
}
pub(crate) use require_root;

/// A fixture image by name, or leaves the test, printing why there is none.
macro_rules! require_fixture {
    ($name:expr) => {
        match $crate::support::fixture($name) {
            Ok(found) => found,
            Err(reason) => $crate::support::skip!("no fixture {}: {reason}", $name),
        }
    };
}
pub(crate) use require_fixture;
