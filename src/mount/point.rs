//! The mount point: where it is, and whether it may be covered.

use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;

use super::error::Error;
use super::error::Result;
use super::request::Request;

/// Where a request wants its mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// On this directory; absolute, without symlinks.
    Dir(PathBuf),
    /// Nowhere: the caller has mounted already and hands over the connection as this descriptor (`/dev/fd/N`).
    Passed(i32),
}

/// Finds the mount point of a request and checks that it can be covered.
///
/// # Errors
/// The `Point*` errors.
pub fn check(request: &Request) -> Result<Point> {
    let target = &request.target;
    if let Some(number) = passed(target) {
        return Ok(Point::Passed(number));
    }
    let wrap = |e: std::io::Error| from_io(target, e);
    let place = std::fs::canonicalize(target).map_err(wrap)?;
    if !std::fs::metadata(&place).map_err(wrap)?.is_dir() {
        return Err(Error::PointNotDirectory);
    }
    if !request.may_hide_files() && std::fs::read_dir(&place).map_err(wrap)?.next().is_some() {
        return Err(Error::PointNotEmpty);
    }
    Ok(Point::Dir(place))
}

fn passed(target: &Path) -> Option<i32> {
    target.to_str()?.strip_prefix("/dev/fd/")?.parse().ok()
}

fn from_io(path: &Path, source: std::io::Error) -> Error {
    match source.kind() {
        ErrorKind::NotFound => Error::PointMissing,
        ErrorKind::NotADirectory => Error::PointNotDirectory,
        // Which of these a dead connection gives depends on what the kernel still has in its caches.
        ErrorKind::NotConnected | ErrorKind::ConnectionAborted | ErrorKind::ConnectionRefused => {
            Error::PointDead(path.to_owned())
        }
        _ => Error::Path { path: path.to_owned(), source },
    }
}
