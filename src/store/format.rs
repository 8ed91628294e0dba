//! The version of a store.
//!
//! Features come in three lists, as in ext4: a mica that does not know one that is *compatible* may do anything, one that is
//! *ro_compatible* may read, one that is *incompatible* may do nothing.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use serde::Deserialize;
use serde::Serialize;

use super::Error;
use super::FORMAT;
use super::Result;
use super::file;
use super::fixed;

/// The version that this program writes and reads.
const VERSION: u32 = 1;
/// The most that the format file may take, in bytes.
const LIMIT: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
struct Format {
    version: u32,
    #[serde(default)]
    compatible: BTreeSet<String>,
    #[serde(default)]
    ro_compatible: BTreeSet<String>,
    #[serde(default)]
    incompatible: BTreeSet<String>,
}

/// What lies at the root of a store.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// No store yet, or one whose making was cut short.
    Nothing,
    /// A store that this program may read, and maybe write.
    Usable {
        /// Whether it may be changed.
        writable: bool,
    },
}

/// Reads the format file.
pub fn check(root: &OwnedFd) -> Result<Found> {
    let Some(format) = file::read_json::<Format>(root, fixed(FORMAT)?, LIMIT)? else { return Ok(Found::Nothing) };
    if format.version != VERSION {
        return Err(Error::Format(format!("its version is {}, this mica knows {VERSION}", format.version)));
    }
    if let Some(feature) = format.incompatible.first() {
        return Err(Error::Format(format!("it uses {feature:?}")));
    }
    Ok(Found::Usable { writable: format.ro_compatible.is_empty() })
}

/// Writes the format file of a new store.
pub fn write(root: &OwnedFd) -> Result<()> {
    let none = BTreeSet::new;
    let format = Format { version: VERSION, compatible: none(), ro_compatible: none(), incompatible: none() };
    file::write_json(root, fixed(FORMAT)?, &format)
}
