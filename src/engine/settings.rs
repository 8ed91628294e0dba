//! The configuration file.
//!
//! `/etc/mica/config.toml` is for everybody; what `$XDG_CONFIG_HOME/mica/config.toml` (or `~/.config/mica/config.toml`) says
//! counts more. Neither need be there.

use std::path::PathBuf;

use serde::Deserialize;

use super::Error;
use super::Result;
use crate::env;

/// The file for everybody.
const SYSTEM: &str = "/etc/mica/config.toml";
/// The user's file, below the directory for configurations.
const USER: &str = "mica/config.toml";

/// What can be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Keep the compressed layers of loaded images beside the packs, so that they can be saved as they came.
    pub keep_blobs: bool,
}

/// What one file says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Said {
    keep_blobs: Option<bool>,
}

impl Settings {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`Error::Settings`] for a file that cannot be read, is no TOML, or has a key that is not known.
    pub fn read() -> Result<Self> {
        let mut settings = Self::default();
        for path in [Some(PathBuf::from(SYSTEM)), user_file()].into_iter().flatten() {
            let said = read(&path)?;
            settings.keep_blobs = said.keep_blobs.unwrap_or(settings.keep_blobs);
        }
        Ok(settings)
    }
}

fn user_file() -> Option<PathBuf> {
    let config = env::var("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var("HOME").map(|home| PathBuf::from(home).join(".config"));
    config.or_else(home).map(|dir| dir.join(USER))
}

fn read(path: &std::path::Path) -> Result<Said> {
    let fail = |why: String| Error::Settings { path: path.display().to_string(), why };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Said::default());
        }
        Err(e) => return Err(fail(e.to_string())),
    };
    toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count());
        fail(format!("line {line}: {}", e.message()))
    })
}
