//! Containers as records: making, listing, removing, and bringing the records of killed ones up to date.

use std::path::PathBuf;

use super::Error;
use super::Result;
use super::mounting;
use crate::env;
use crate::image::config::ImageConfig;
use crate::image::config::RunConfig;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::store::containers::State;
use crate::sys::process;

/// The exit code shown for a container whose end nobody saw: as if killed.
const UNSEEN: i32 = 137;
/// Under which key a record keeps the configuration the container runs with.
const CONFIG: &str = "config";

/// What a new container is made of.
#[derive(Debug, Clone)]
pub struct NewContainer {
    /// The image, as the user named it.
    pub image: String,
    /// Its name; one is made up when there is none.
    pub name: Option<String>,
    /// The image's configuration with what the command line changes in it; what a commit writes.
    pub config: Option<RunConfig>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// A container that was made, and its image.
#[derive(Debug)]
pub struct Created {
    /// Its record.
    pub record: ContainerRecord,
    /// The image's config.
    pub image: ImageConfig,
}

/// Makes a container of an image: its directories and its record, nothing running.
///
/// # Errors
/// A missing image; a name that is taken; those of the store.
pub fn create(store: &Store, new: impl FnOnce(&ImageConfig) -> Result<NewContainer>, image: &str) -> Result<Created> {
    store.sweep_if_idle()?;
    reconcile(store)?;
    let _adding = store.adding()?;
    let found = store.images()?.find(image)?;
    let config = store.config(&found.id)?;
    let new = new(&config)?;
    let id = random_id()?;
    let mut record = ContainerRecord {
        name: match new.name {
            Some(name) => checked_name(name)?,
            None => made_up_name()?,
        },
        id,
        image_id: found.id,
        image_name: new.image,
        layers: config.rootfs.diff_ids.clone(),
        created: env::now().0,
        command: new.command,
        state: State::Created,
        extra: serde_json::Map::new(),
    };
    if let Some(config) = &new.config {
        let value = serde_json::to_value(config).map_err(|e| Error::Internal(e.to_string()))?;
        record.extra.insert(CONFIG.to_owned(), value);
    }
    let index = store.index()?;
    store.create_container(&index, &record)?;
    Ok(Created { record, image: config })
}

/// The configuration a container runs with, if its record keeps one.
pub fn config_of(record: &ContainerRecord) -> Option<RunConfig> {
    record.extra.get(CONFIG).and_then(|value| serde_json::from_value(value.clone()).ok())
}

/// Where a container's tree is mounted.
pub fn rootfs(store: &Store, id: &str) -> PathBuf {
    dir(store, id).join("rootfs")
}

/// A container's directory.
pub fn dir(store: &Store, id: &str) -> PathBuf {
    store.path().join("containers").join(id)
}

/// Where a container's tree is mounted now, by a run or by `mica mount --rw`.
///
/// # Errors
/// When the mount table cannot be read.
pub fn mount_of(store: &Store, record: &ContainerRecord) -> Result<Option<PathBuf>> {
    let rootfs = rootfs(store, &record.id);
    if mounting::is_mounted(&rootfs)? {
        return Ok(Some(rootfs));
    }
    let mounts = crate::mount::table::mica_mounts().map_err(Error::Mount)?;
    Ok(mounts.into_iter().find(|m| m.source == *record.id).map(|m| m.target))
}

/// Notes what a container does now.
///
/// # Errors
/// Those of the store.
pub fn set_state(store: &Store, id: &str, state: State) -> Result<()> {
    let index = store.index()?;
    unless_removed(store.update_container(&index, id, |record| record.state = state).map(drop))
}

/// `mica rm -f` of a container that runs takes its record away under whoever ran it.
pub(super) fn unless_removed(result: crate::store::Result<()>) -> Result<()> {
    match result {
        Err(crate::store::Error::NotFound { .. }) => Ok(()),
        other => Ok(other?),
    }
}

/// All containers, the newest first, with the state they are really in.
///
/// # Errors
/// Those of the store.
pub fn list(store: &Store) -> Result<Vec<ContainerRecord>> {
    reconcile(store)?;
    Ok(store.containers()?)
}

/// Brings records up to date that say "running" for a process that is gone (mica was killed, or the machine), takes their
/// mounts away, and forgets mounts whose server is gone.
///
/// # Errors
/// Those of the store.
pub fn reconcile(store: &Store) -> Result<()> {
    for record in store.containers()? {
        let State::Running { pid, start_time } = record.state else { continue };
        if process::is_running(pid, start_time) {
            continue;
        }
        mounting::clear(&rootfs(store, &record.id))?;
        let gone = State::Exited { code: UNSEEN, finished: env::now().0 };
        let index = store.index()?;
        let noted = store.update_container(&index, &record.id, |now| {
            // Its own mica may have written the end meanwhile.
            if matches!(now.state, State::Running { .. }) {
                now.state = gone;
            }
        });
        unless_removed(noted.map(drop))?;
    }
    for mount in store.mounts()? {
        if !process::is_running(mount.pid, mount.start_time) {
            store.remove_mount(&mount.id)?;
        }
    }
    Ok(())
}

/// Removes a container with all it wrote; a running one only with `force`, which kills it.
///
/// # Errors
/// [`Error::Conflict`] in docker's words for a running one; those of the store.
pub fn remove(store: &Store, word: &str, force: bool) -> Result<String> {
    reconcile(store)?;
    let record = store.find_container(word)?;
    if let State::Running { pid, start_time } = record.state {
        if !force {
            let short = record.id.get(..12).unwrap_or(&record.id);
            return Err(Error::Conflict(format!(
                "you cannot remove a running container {short}. Stop the container before attempting removal or force remove"
            )));
        }
        if process::is_running(pid, start_time) {
            process::kill(pid)?;
            process::wait_gone(pid, start_time)?;
        }
    }
    mounting::clear(&rootfs(store, &record.id))?;
    for mount in crate::mount::table::mica_mounts().map_err(Error::Mount)? {
        // A container that `mica mount --rw` shows elsewhere is in use there.
        if mount.source == *record.id {
            return Err(Error::Conflict(format!("container {} is mounted at {}", record.name, mount.target.display())));
        }
    }
    store.remove_container(&record.id)?;
    Ok(record.name)
}

fn random_id() -> Result<String> {
    let bytes: [u8; 32] = env::random().map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Docker's rule for names: a letter or digit, then letters, digits, `_`, `.` and `-`.
fn checked_name(name: String) -> Result<String> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest && name.len() > 1 && name.len() <= 128 { Ok(name) } else { Err(Error::ContainerName(name)) }
}

/// A name nobody chose: a quality and a mineral.
fn made_up_name() -> Result<String> {
    const QUALITIES: [&str; 16] = [
        "bright", "calm", "clear", "deep", "early", "fine", "gentle", "keen", "light", "loyal", "quick", "quiet",
        "rare", "steady", "thin", "warm",
    ];
    const MINERALS: [&str; 16] = [
        "agate", "beryl", "biotite", "calcite", "feldspar", "fluorite", "garnet", "gneiss", "gypsum", "jade", "opal",
        "quartz", "schist", "slate", "talc", "zircon",
    ];
    let [a, b, c, d]: [u8; 4] = env::random().map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    let pick = |words: &[&'static str; 16], n: u8| words.get(usize::from(n % 16)).copied().unwrap_or("mica");
    Ok(format!("{}_{}{}", pick(&QUALITIES, a), pick(&MINERALS, b), u16::from_be_bytes([c, d])))
}
