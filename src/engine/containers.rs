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
/// Under which key a record keeps the nanoseconds of the time it was made.
const CREATED_NANOS: &str = "created_nanos";
/// Under which key a record keeps when its command was started: seconds since 1970, and nanoseconds.
const STARTED: &str = "started";
/// Under which key a record keeps the process that made it: its number and start time.
const MAKER: &str = "maker";

/// How large a compiled expression may be, in bytes.
const EXPRESSION_MAX: usize = 1 << 20;

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
    let (id, now) = (random_id()?, env::now());
    let mut record = ContainerRecord {
        name: match new.name {
            Some(name) => checked_name(name)?,
            None => made_up_name()?,
        },
        id,
        image_id: found.id,
        image_name: new.image,
        layers: config.rootfs.diff_ids.clone(),
        created: now.0,
        command: new.command,
        state: State::Created,
        extra: serde_json::Map::from_iter([(CREATED_NANOS.to_owned(), now.1.into()), (MAKER.to_owned(), maker()?)]),
    };
    if let Some(config) = &new.config {
        let value = serde_json::to_value(config).map_err(|e| Error::Internal(e.to_string()))?;
        record.extra.insert(CONFIG.to_owned(), value);
    }
    let index = store.index()?;
    store.create_container(&index, &record)?;
    Ok(Created { record, image: config })
}

fn maker() -> Result<serde_json::Value> {
    let pid = std::process::id();
    Ok(serde_json::json!([pid, process::start_time(pid)?]))
}

/// Whether another process made the container and has not started its command yet.
fn is_being_started(record: &ContainerRecord) -> bool {
    let maker = record.extra.get(MAKER).and_then(|maker| serde_json::from_value(maker.clone()).ok());
    maker.is_some_and(|(pid, start_time): (u32, u64)| {
        record.state == State::Created && pid != std::process::id() && process::is_running(pid, start_time)
    })
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

/// Notes that a container's command starts now. It does not wait for the name on the disk: what runs ends with the system.
///
/// # Errors
/// Those of the store.
pub fn set_started(store: &Store, id: &str, pid: u32, start_time: u64) -> Result<()> {
    let (secs, nanos) = env::now();
    let index = store.index()?;
    let noted = store.note_container(&index, id, |record| {
        record.state = State::Running { pid, start_time };
        record.extra.insert(STARTED.to_owned(), serde_json::json!([secs, nanos]));
    });
    unless_removed(noted.map(drop))
}

/// When a container's command was started; `None` if it never was, or by a mica that did not note it.
pub fn started_at(record: &ContainerRecord) -> Option<(i64, u64)> {
    serde_json::from_value(record.extra.get(STARTED)?.clone()).ok()
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
    let mut records = store.containers()?;
    records.sort_by_key(|record| std::cmp::Reverse(made_at(record)));
    Ok(records)
}

/// When a container was made: seconds since 1970, and nanoseconds.
pub fn made_at(record: &ContainerRecord) -> (i64, u64) {
    (record.created, record.extra.get(CREATED_NANOS).and_then(serde_json::Value::as_u64).unwrap_or(0))
}

/// Which containers are wanted. Every kind of condition must hold; of several of one kind, one (of labels, all).
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Not only those that run.
    pub all: bool,
    /// Only so many, the newest; also those that do not run.
    pub last: Option<usize>,
    /// Regular expressions for ids.
    pub ids: Vec<String>,
    /// Regular expressions for names.
    pub names: Vec<String>,
    /// What they do: `created`, `running`, `exited`.
    pub status: Vec<String>,
    /// Their exit codes.
    pub exited: Vec<i32>,
    /// Labels that they have; with a value, that value.
    pub labels: Vec<(String, Option<String>)>,
    /// Labels that they do not have.
    pub not_labels: Vec<(String, Option<String>)>,
    /// Images that they were made of, or of which their image was made.
    pub ancestors: Vec<String>,
    /// Made before this container.
    pub before: Option<String>,
    /// Made after this container.
    pub since: Option<String>,
    /// Made before this time, in seconds since 1970.
    pub until: Option<i64>,
}

/// The containers that are wanted, the newest first.
///
/// # Errors
/// Those of the store; a container or image that a condition names is not there.
pub fn select(store: &Store, filter: &Filter) -> Result<Vec<ContainerRecord>> {
    let records = list(store)?;
    let made =
        |word: &Option<String>| word.as_ref().map(|word| store.find_container(word).map(|r| made_at(&r))).transpose();
    let (before, since) = (made(&filter.before)?, made(&filter.since)?);
    let mut ancestors = Vec::new();
    for word in &filter.ancestors {
        // As in docker, an image that is not there has no containers.
        if let Ok(found) = store.images()?.find(word) {
            ancestors.push(store.config(&found.id)?.rootfs.diff_ids);
        }
    }
    let one = |empty: bool, any: bool| empty || any;
    let ids: Vec<Pattern<'_>> = filter.ids.iter().map(|text| Pattern::new(text)).collect();
    let names: Vec<Pattern<'_>> = filter.names.iter().map(|text| Pattern::new(text)).collect();
    let wanted = |record: &&ContainerRecord| {
        let labels = config_of(record).map(|run| run.labels).unwrap_or_default();
        let has = |(key, value): &(String, Option<String>)| {
            labels.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        let state = state_word(&record.state);
        let code = match record.state {
            State::Exited { code, .. } => Some(code),
            _ => None,
        };
        let slashed = format!("/{}", record.name);
        one(ids.is_empty(), ids.iter().any(|id| id.means(&record.id)))
            && one(names.is_empty(), names.iter().any(|name| name.means(&record.name) || name.means(&slashed)))
            && one(filter.status.is_empty(), filter.status.iter().any(|status| status == state))
            && one(filter.exited.is_empty(), filter.exited.iter().any(|wanted| Some(*wanted) == code))
            && one(filter.ancestors.is_empty(), ancestors.iter().any(|chain| record.layers.starts_with(chain)))
            && filter.labels.iter().all(has)
            && !filter.not_labels.iter().any(has)
            && before.is_none_or(|limit| made_at(record) < limit)
            && since.is_none_or(|limit| made_at(record) > limit)
            && filter.until.is_none_or(|limit| record.created < limit)
            && (filter.all
                || filter.last.is_some()
                || !filter.status.is_empty()
                || !filter.exited.is_empty()
                || state == "running")
    };
    let limit = filter.last.unwrap_or(usize::MAX);
    Ok(records.iter().filter(wanted).take(limit).cloned().collect())
}

/// What a container does, in docker's word.
pub fn state_word(state: &State) -> &'static str {
    match state {
        State::Created => "created",
        State::Running { .. } => "running",
        State::Exited { .. } => "exited",
    }
}

/// A condition on names or ids as docker reads it: a regular expression that is found somewhere in the text, which for names may begin
/// with docker's slash. What is no expression means only itself.
struct Pattern<'a> {
    text: &'a str,
    expression: Option<regex_lite::Regex>,
}

impl<'a> Pattern<'a> {
    fn new(text: &'a str) -> Self {
        let expression = regex_lite::RegexBuilder::new(text).size_limit(EXPRESSION_MAX).build();
        Self { text, expression: expression.ok() }
    }

    fn means(&self, text: &str) -> bool {
        self.text == text || self.expression.as_ref().is_some_and(|expression| expression.is_match(text))
    }
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

/// Removes a container with all it wrote; a running one only with `force`, which kills it. How many bytes of layers became free: an image
/// that was removed while the container used it goes with its last container.
///
/// # Errors
/// [`Error::Conflict`] in docker's words for a running one, and for one that another process is about to start; those of the store.
pub fn remove(store: &Store, word: &str, force: bool) -> Result<u64> {
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
    if !force && is_being_started(&record) {
        return Err(Error::Conflict(format!("container {} is just being started", record.name)));
    }
    mounting::clear(&rootfs(store, &record.id))?;
    for mount in crate::mount::table::mica_mounts().map_err(Error::Mount)? {
        // A container that `mica mount --rw` shows elsewhere is in use there.
        if mount.source == *record.id {
            return Err(Error::Conflict(format!("container {} is mounted at {}", record.name, mount.target.display())));
        }
    }
    store.remove_container(&record.id)?;
    Ok(give_back(store, &record))
}

/// Collects the layers of a container that is gone, if its image is, too. The container is removed whatever comes of it: what cannot
/// be collected now is garbage, which the next removal or prune takes.
pub(super) fn give_back(store: &Store, gone: &ContainerRecord) -> u64 {
    let collect = || -> Result<u64> {
        if store.images()?.images.contains_key(&gone.image_id) {
            return Ok(0);
        }
        let guard = store.try_collecting()?;
        Ok(guard.map(|guard| store.collect(&guard)).transpose()?.map_or(0, |collected| collected.bytes))
    };
    collect().unwrap_or_else(|e| {
        log::warn!("the layers of container {} stay for now: {e}", gone.name);
        0
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filtered_by_regular_expressions_as_in_docker() {
        for (pattern, yes, no) in [
            ("web", "my-web-1", "wed"),
            ("^/?web$", "web", "web1"),
            ("^web[0-9]+$", "web12", "web"),
            ("(a|b)x", "zbx", "cx"),
            ("w.b", "web", "wb"),
            ("[", "[", "x"),
        ] {
            assert!(Pattern::new(pattern).means(yes), "{pattern} {yes}");
            assert!(!Pattern::new(pattern).means(no), "{pattern} {no}");
        }
        assert!(!Pattern::new("(((a{1000}){1000}){1000})").means("a"), "an expression without end is none");
    }
}
