//! Containers: one directory each, with a record and the places that a mount needs.

use std::os::fd::OwnedFd;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use super::Error;
use super::IndexGuard;
use super::Result;
use super::Store;
use super::file;
use super::file::Lasting;
use super::fixed;
use super::record;
use crate::image::Digest;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::attr::Kind;
use crate::sys::name::RenameMode;

/// The most that one record may take, in bytes.
const LIMIT: u64 = 16 << 20;
/// The record in a container's directory.
const RECORD: &[u8] = b"container.json";
/// What else is in a container's directory.
const DIRS: [&[u8]; 3] = [b"upper", b"work", b"rootfs"];

/// What the store knows of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 64 hex digits.
    pub id: String,
    /// The name, unique in the store.
    pub name: String,
    /// The image it was made of.
    pub image_id: Digest,
    /// That image as the user named it.
    pub image_name: String,
    /// The image's layers by diff id, lowest first.
    pub layers: Vec<Digest>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What it does now, as far as its last writer knew.
    pub state: State,
    /// Whatever else running it needs to remember.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum State {
    /// It has not been started.
    Created,
    /// It runs, unless the process is gone or another one has its number.
    Running {
        /// The container's first process, as the host numbers it.
        pid: u32,
        /// When that process started, in the kernel's clock ticks since boot: a recycled pid has another one.
        start_time: u64,
    },
    /// It ended.
    Exited {
        /// Its exit code, 128 and the signal's number when a signal ended it.
        code: i32,
        /// When, in seconds since 1970.
        finished: i64,
    },
}

/// The open directory of one container.
#[derive(Debug)]
pub struct ContainerDir {
    dir: OwnedFd,
}

impl ContainerDir {
    /// The container's directory itself.
    pub fn fd(&self) -> &OwnedFd {
        &self.dir
    }

    /// The writable layer.
    ///
    /// # Errors
    /// The kernel's.
    pub fn upper(&self) -> Result<OwnedFd> {
        self.open(b"upper")
    }

    /// The place for half-made files of the writable layer.
    ///
    /// # Errors
    /// The kernel's.
    pub fn work(&self) -> Result<OwnedFd> {
        self.open(b"work")
    }

    /// The mountpoint of the container's tree.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rootfs(&self) -> Result<OwnedFd> {
        self.open(b"rootfs")
    }

    fn open(&self, name: &'static [u8]) -> Result<OwnedFd> {
        Ok(sys::open::dir_at(&self.dir, fixed(name)?)?)
    }
}

impl Store {
    /// Makes a container: its directories and its record appear in one step.
    ///
    /// The caller holds [`Store::adding`] since before it read the image, so that the layers are still there.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; otherwise the kernel's. Nothing is left then but a temporary directory.
    pub fn create_container(&self, _held: &IndexGuard, record: &ContainerRecord) -> Result<ContainerDir> {
        if let Some(other) = self.containers()?.into_iter().find(|other| other.name == record.name) {
            return Err(Error::NameTaken { name: record.name.clone(), id: other.id });
        }
        let temporary = file::temporary_name(file::TEMPORARY)?;
        sys::name::mkdir(&self.containers, temporary.as_name(), 0o700)?;
        let dir = sys::open::dir_at(&self.containers, temporary.as_name())?;
        for name in DIRS {
            sys::name::mkdir(&dir, fixed(name)?, 0o755)?;
        }
        record::write(&dir, fixed(RECORD)?, record, Lasting::Now)?;
        let id = dir_name(&record.id)?;
        sys::name::rename(&self.containers, temporary.as_name(), &self.containers, id.as_name(), RenameMode::Replace)?;
        sys::data::sync_dir(&self.containers)?;
        Ok(ContainerDir { dir })
    }

    /// All containers, the newest first.
    ///
    /// # Errors
    /// The kernel's; [`Error::Damaged`].
    pub fn containers(&self) -> Result<Vec<ContainerRecord>> {
        let names = self.container_names()?;
        let mut records = Vec::with_capacity(names.len());
        for name in &names {
            // One that vanished since the listing was removed meanwhile.
            records.extend(self.read_record(name.as_name())?);
        }
        records.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(records)
    }

    /// The container that `word` means: a name, an id, or the beginning of an id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Ambiguous`]; otherwise as [`Store::containers`].
    pub fn find_container(&self, word: &str) -> Result<ContainerRecord> {
        let mut records = self.containers()?;
        if let Some(at) = records.iter().position(|r| r.name == word || r.id == word) {
            return Ok(records.swap_remove(at));
        }
        records.retain(|r| !word.is_empty() && r.id.starts_with(word));
        match (records.pop(), records.is_empty()) {
            (Some(record), true) => Ok(record),
            (Some(_), false) => Err(Error::Ambiguous { what: "container", name: word.to_owned() }),
            (None, _) => Err(Error::NotFound { what: "container", name: word.to_owned() }),
        }
    }

    /// The directory of a container.
    ///
    /// # Errors
    /// [`Error::NotFound`]; otherwise the kernel's.
    pub fn container_dir(&self, id: &str) -> Result<ContainerDir> {
        match sys::open::dir_at(&self.containers, dir_name(id)?.as_name()) {
            Ok(dir) => Ok(ContainerDir { dir }),
            Err(e) if super::is_absent(&e) => Err(not_found(id)),
            Err(e) => Err(e.into()),
        }
    }

    /// Changes the record of a container in one step, and says what it is now.
    ///
    /// # Errors
    /// [`Error::NotFound`]; otherwise the kernel's.
    pub fn update_container(
        &self,
        _held: &IndexGuard,
        id: &str,
        change: impl FnOnce(&mut ContainerRecord),
    ) -> Result<ContainerRecord> {
        self.change_container(id, change, Lasting::Now)
    }

    /// Notes something of a container that holds until the system goes down at most, as that it runs: a power cut soon after may leave
    /// the record of before.
    ///
    /// # Errors
    /// As [`Store::update_container`].
    pub fn note_container(
        &self,
        _held: &IndexGuard,
        id: &str,
        change: impl FnOnce(&mut ContainerRecord),
    ) -> Result<ContainerRecord> {
        self.change_container(id, change, Lasting::Soon)
    }

    fn change_container(
        &self,
        id: &str,
        change: impl FnOnce(&mut ContainerRecord),
        lasting: Lasting,
    ) -> Result<ContainerRecord> {
        let mut record = self.read_record(dir_name(id)?.as_name())?.ok_or_else(|| not_found(id))?;
        change(&mut record);
        record::write(self.container_dir(id)?.fd(), fixed(RECORD)?, &record, lasting)?;
        Ok(record)
    }

    /// Removes a container with all it wrote. It vanishes in one step; what is killed on the way is swept later.
    ///
    /// # Errors
    /// [`Error::NotFound`]; otherwise the kernel's, `EBUSY` when its tree is still mounted.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        let gone = file::temporary_name(file::REMOVED)?;
        let name = dir_name(id)?;
        // Its record may just be rewritten: that is done before, or finds no container.
        let index = self.index()?;
        match sys::name::rename(&self.containers, name.as_name(), &self.containers, gone.as_name(), RenameMode::Replace)
        {
            Err(e) if super::is_absent(&e) => return Err(not_found(id)),
            other => other?,
        }
        drop(index);
        sys::data::sync_dir(&self.containers)?;
        Ok(sys::name::remove_all(&self.containers, gone.as_name())?)
    }

    /// The names of all directories of containers, whatever is in them.
    pub(super) fn container_names(&self) -> Result<Vec<NameBuf>> {
        file::names(&self.containers, |name| !file::is_dead(name))
    }

    /// Whether a container's directory is there.
    pub(super) fn has_container_dir(&self, name: &NameBuf) -> Result<bool> {
        Ok(sys::attr::stat_at(&self.containers, name.as_name())?.is_some())
    }

    /// Which of a container's directories are missing.
    pub(super) fn missing_dirs(&self, id: &str) -> Result<Vec<&'static str>> {
        let dir = match self.container_dir(id) {
            // Removed since its record was read.
            Err(Error::NotFound { .. }) => return Ok(Vec::new()),
            other => other?,
        };
        let there = |name: &&'static [u8]| -> Result<bool> {
            Ok(sys::attr::stat_at(dir.fd(), fixed(name)?)?.is_some_and(|stat| stat.kind() == Kind::Dir))
        };
        let mut missing = Vec::new();
        for name in DIRS {
            if !there(&name)? {
                missing.extend(std::str::from_utf8(name));
            }
        }
        Ok(missing)
    }

    /// Makes an empty directory of a container again.
    pub(super) fn make_container_dir(&self, id: &str, name: &str) -> Result<()> {
        let dir = self.container_dir(id)?;
        Ok(sys::name::mkdir(dir.fd(), file::name_of(name.as_bytes())?, 0o755)?)
    }

    pub(super) fn read_record(&self, name: Name<'_>) -> Result<Option<ContainerRecord>> {
        let dir = match sys::open::dir_at(&self.containers, name) {
            Ok(dir) => dir,
            Err(e) if super::is_absent(&e) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let record: Option<ContainerRecord> = record::read(&dir, fixed(RECORD)?, LIMIT)?;
        match record {
            Some(record) if record.id.as_bytes() == name.as_bytes() => Ok(Some(record)),
            Some(record) => Err(Error::Damaged {
                file: format!("containers/{name}/container.json"),
                why: format!("it is the record of {:?}", record.id),
            }),
            None => Ok(None),
        }
    }

    pub(super) fn containers_dir(&self) -> &OwnedFd {
        &self.containers
    }
}

fn not_found(id: &str) -> Error {
    Error::NotFound { what: "container", name: id.to_owned() }
}

/// The directory of a container: its id, which must not look like something temporary.
fn dir_name(id: &str) -> Result<NameBuf> {
    let valid = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
    if !valid {
        return Err(not_found(id));
    }
    NameBuf::new(id.as_bytes()).map_err(|why| Error::Name { name: id.to_owned(), why })
}
