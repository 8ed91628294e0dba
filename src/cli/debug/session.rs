//! What is debugged: the stack, how many of its layers are looked at, and what can be done with it. Shared by screen and shell.

use std::path::Path;
use std::path::PathBuf;

use super::live::Source;
use crate::cli::error::CliError;
use crate::engine;
use crate::engine::extract;
use crate::engine::extract::Extracted;
use crate::engine::mounting;
use crate::engine::mounting::What;
use crate::engine::target::Target;
use crate::explain::Subject;
use crate::path::Escaped;
use crate::path::RelPath;
use crate::store::Store;

/// A stack, and the part of it that is looked at.
#[derive(Debug)]
pub struct Session {
    /// Owns what was unpacked for the look.
    target: Target,
    here: Subject,
    source: Source,
}

impl Session {
    /// All of `target`, which the user called by the word of `source`.
    pub fn new(target: Target, source: Source) -> Self {
        let here = target.subject.clone();
        Self { target, here, source }
    }

    /// The part that is looked at.
    pub fn here(&self) -> &Subject {
        &self.here
    }

    /// All layers.
    pub fn full(&self) -> &Subject {
        &self.target.subject
    }

    /// Whether some layer counts as empty because it cannot be read.
    pub fn is_damaged(&self) -> bool {
        self.full().broken().next().is_some()
    }

    /// What may be mounted.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The path that was asked for.
    pub fn asked(&self) -> &[u8] {
        &self.target.path
    }

    /// How many layers are looked at.
    pub fn at(&self) -> usize {
        self.here.layers().len()
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.target.subject.layers().len()
    }

    /// Looks at the lowest `count` layers alone.
    pub fn go(&mut self, count: usize) -> Result<(), CliError> {
        self.here = self.target.subject.first(count).map_err(engine::Error::from)?;
        Ok(())
    }

    /// Mounts the looked-at layers, read-only, on an empty directory.
    pub fn mount(&self, dir: &Path) -> Result<(), CliError> {
        mount(self.target.image.as_deref(), (self.at(), self.total()), self.source.root.as_deref(), dir)
    }

    /// What is needed to do so elsewhere.
    pub fn image(&self) -> Option<&str> {
        self.target.image.as_deref()
    }
}

/// Mounts the lowest `at` of `total` layers of an image on an empty directory.
pub fn mount(
    image: Option<&str>,
    (at, total): (usize, usize),
    root: Option<&Path>,
    dir: &Path,
) -> Result<(), CliError> {
    let Some(image) = image else {
        return Err(CliError::new("only an image in the store can be mounted from here")
            .hint("'mica load' an archive first; a container and directories have 'mica mount' and mount.mica"));
    };
    let root = root.map_or_else(Store::default_root, |root| Ok(root.to_owned()))?;
    let store = Store::open(&root)?;
    let name = if at == total { image.to_owned() } else { format!("{image}@{at}") };
    Ok(mounting::mount(&store, &What::Image(name, None), dir, None)?)
}

/// Takes a path out to a new place; a sentence about what came of it.
pub fn extract(subject: &Subject, path: &RelPath, to: &Path) -> Result<String, CliError> {
    let Extracted { files, bytes, skipped } = extract::extract(subject, path, to)?;
    let skipped = if skipped > 0 { format!("; {skipped} devices, FIFOs or sockets left out") } else { String::new() };
    let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    let to = Escaped(to.as_os_str().as_encoded_bytes()).to_string();
    Ok(format!("{path} -> {to}: {files}, {}{skipped}", crate::cli::format::size(bytes)))
}

/// Where a path is taken out to if nothing is said: its last name, here. Not for the root.
pub fn default_place(path: &RelPath) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let (_, name) = path.split_last()?;
    Some(Path::new(".").join(std::ffi::OsStr::from_bytes(name.as_bytes())))
}
