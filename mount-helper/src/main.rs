//! mount.mica.
fn main() {}
