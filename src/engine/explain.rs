//! What a user's word for a stack means, and that stack, ready to be explained: a mount, a container, an image, or directories.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::Error;
use super::Result;
use crate::explain::Subject;
use crate::explain::subject::Sheet;
use crate::image::Digest;
use crate::image::config::ImageConfig;
use crate::layer::dir::DirLayer;
use crate::mount;
use crate::mount::MountOptions;
use crate::mount::record;
use crate::mount::record::LayerPlace;
use crate::mount::record::Record;
use crate::mount::record::RecordSource;
use crate::mount::serve::fd_cache;
use crate::mount::table;
use crate::mount::table::Entry;
use crate::store::Error as StoreError;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::sys;

/// A stack, and the path in it that was asked for, as bytes.
pub type Question = (Subject, Vec<u8>);

/// The mount that `word` leads to: with `path`, the directory on which something is mounted; without, a path in or on a mount. `None`
/// when `word` leads to no mount and may be something else. `root` is the store for packs, where the mount does not say.
///
/// # Errors
/// [`Error::NoRecord`] for a mount that tells nothing of itself; [`Error::NotInMount`] for what can only be meant as a path; those
/// of reading the layers.
pub fn mounted(word: &OsStr, path: Option<&OsStr>, root: Option<&Path>) -> Result<Option<Question>> {
    let found = find_mount(Path::new(word), path.is_none())?;
    let Some((entry, inside)) = found else {
        let is_path = path.is_none() || [&b"/"[..], b"./", b"../"].iter().any(|p| word.as_bytes().starts_with(p));
        return if is_path { Err(Error::NotInMount(PathBuf::from(word))) } else { Ok(None) };
    };
    let record = record::of_device(entry.dev).ok_or_else(|| Error::NoRecord(entry.target.clone()))?;
    let asked = path.map_or_else(|| inside.as_os_str().as_bytes(), OsStr::as_bytes).to_vec();
    Ok(Some((of_record(&entry.target, &record, root)?, asked)))
}

/// The mount of a union at `path`; with `inside` also one in which `path` lies, and where in it. The part inside is taken as it is
/// written: its symlinks mean the union's names, not the host's, and what the union does not show cannot be resolved at all.
pub(super) fn find_mount(path: &Path, inside: bool) -> Result<Option<(Entry, PathBuf)>> {
    let entries = table::read()?;
    let path = absolute(path);
    if !inside {
        let top = table::place(&path).ok().and_then(|place| table::topmost(&entries, &place));
        return Ok(top.filter(|entry| entry.is_union()).map(|entry| (entry.clone(), PathBuf::new())));
    }
    let mut front = PathBuf::new();
    let mut found: Option<(&Entry, PathBuf)> = None;
    for part in path.components() {
        front.push(part);
        found = match found {
            None => table::place(&front).ok().and_then(|place| around(&entries, &place)),
            Some((entry, mut below)) => {
                below.push(part);
                match table::topmost(&entries, &entry.target.join(&below)) {
                    None => Some((entry, below)),
                    Some(other) => other.is_union().then(|| (other, PathBuf::new())),
                }
            }
        };
    }
    Ok(found.map(|(entry, below)| (entry.clone(), below)))
}

/// The union mount that `place` lies on, and where in it.
fn around<'a>(entries: &'a [Entry], place: &Path) -> Option<(&'a Entry, PathBuf)> {
    let entry = place.ancestors().find_map(|above| table::topmost(entries, above))?;
    let inside = place.strip_prefix(&entry.target).ok()?;
    entry.is_union().then(|| (entry, inside.to_owned()))
}

/// The stack that a mount's record tells of.
pub(super) fn of_record(target: &Path, record: &Record, root: Option<&Path>) -> Result<Subject> {
    let fds = fd_cache();
    let packs = record.layers.iter().any(|layer| matches!(layer, LayerPlace::Pack(_)));
    let store = packs.then(|| open_store(record.root.as_ref().map(|root| root.0.as_path()).or(root))).transpose()?;
    let diff_ids = record.layers.iter().rev().filter_map(|layer| match layer {
        LayerPlace::Pack(id) => Some(*id),
        LayerPlace::Dir(_) => None,
    });
    let diff_ids: Vec<Digest> = diff_ids.collect();
    let mut commands =
        store.as_ref().and_then(|store| commands_of(store, &record.source, &diff_ids)).unwrap_or_default();
    let mut sheets = Vec::with_capacity(record.layers.len());
    for layer in &record.layers {
        sheets.push(match (layer, &store) {
            (LayerPlace::Pack(id), Some(store)) => pack_sheet(store, id, commands.pop().flatten())?,
            (LayerPlace::Pack(id), None) => return Err(StoreError::NoBlob(*id).into()),
            (LayerPlace::Dir(path), _) => {
                let layer = Arc::new(DirLayer::open(&path.0, fds.clone()).map_err(crate::explain::Error::from)?);
                Sheet { layer, digest: None, created_by: None }
            }
        });
    }
    let upper = record
        .upper
        .as_ref()
        .map(|upper| -> Result<_> { Ok((sys::open::dir_path(&upper.0)?, upper.0.display().to_string())) });
    let name = match &record.source {
        RecordSource::Image(name) | RecordSource::Container(name) => format!("{} ({name})", target.display()),
        RecordSource::Dirs => target.display().to_string(),
    };
    Ok(Subject::new(name, upper.transpose()?, sheets, fds)?)
}

fn open_store(root: Option<&Path>) -> Result<Store> {
    let root = root.map_or_else(Store::default_root, |root| Ok(root.to_owned()))?;
    Ok(Store::open(&root)?)
}

/// The commands that made the layers of a mount, lowest first, if the image by that name still has these layers.
fn commands_of(store: &Store, source: &RecordSource, diff_ids: &[Digest]) -> Option<Vec<Option<String>>> {
    let id = match source {
        RecordSource::Image(word) => store.images().ok()?.find(word).ok()?.id,
        RecordSource::Container(word) => store.find_container(word).ok()?.image_id,
        RecordSource::Dirs => return None,
    };
    let config = store.config(&id).ok()?;
    (config.diff_ids() == diff_ids).then(|| commands(&config))
}

/// The container or else the image that `word` means. A container's upper is read as it is, also while it runs.
///
/// # Errors
/// When there is neither, or a layer is missing or damaged.
pub fn stored(store: &Store, word: &str) -> Result<Subject> {
    match store.find_container(word) {
        Ok(container) => of_container(store, &container),
        Err(StoreError::NotFound { .. }) => of_image(store, word),
        Err(e) => Err(e.into()),
    }
}

fn of_container(store: &Store, container: &ContainerRecord) -> Result<Subject> {
    // The image may be removed while its layers stay; then nothing is known of the commands.
    let config = store.config(&container.image_id).ok().filter(|config| config.diff_ids() == container.layers);
    let commands = config.map(|config| commands(&config)).unwrap_or_default();
    let upper = store.container_dir(&container.id)?.upper()?;
    let label = store.path().join("containers").join(&container.id).join("upper").display().to_string();
    let sheets = pack_sheets(store, &container.layers, commands)?;
    Ok(Subject::new(format!("container {}", container.name), Some((upper, label)), sheets, fd_cache())?)
}

fn of_image(store: &Store, word: &str) -> Result<Subject> {
    let found = store.images()?.find(word)?;
    let config = store.config(&found.id)?;
    let sheets = pack_sheets(store, config.diff_ids(), commands(&config))?;
    let title = found.name.map_or_else(|| found.id.short(), |name| name.to_string());
    Ok(Subject::new(title, None, sheets, fd_cache())?)
}

/// The command of each layer, lowest first; as many as the config tells of.
fn commands(config: &ImageConfig) -> Vec<Option<String>> {
    let steps = config.history_with_layers();
    let mut told: Vec<_> =
        steps.filter(|(_, layer)| layer.is_some()).map(|(step, _)| step.created_by.clone()).collect();
    told.resize(config.diff_ids().len(), None);
    told
}

/// Layers top first, of diff ids and commands lowest first.
fn pack_sheets(store: &Store, diff_ids: &[Digest], mut commands: Vec<Option<String>>) -> Result<Vec<Sheet>> {
    commands.resize(diff_ids.len(), None);
    diff_ids.iter().zip(commands).rev().map(|(id, command)| pack_sheet(store, id, command)).collect()
}

fn pack_sheet(store: &Store, diff_id: &Digest, created_by: Option<String>) -> Result<Sheet> {
    Ok(Sheet { layer: Arc::new(store.layers().get(diff_id)?), digest: Some(*diff_id), created_by })
}

/// Directories, as `-o lowerdir=A:B,upperdir=C` names them.
///
/// # Errors
/// For other options than these and `workdir`; for a directory that cannot be opened.
pub fn directories(options: &OsStr) -> Result<Subject> {
    let mut said = MountOptions::default();
    said.read(options.as_bytes()).map_err(mount::Error::from)?;
    if said.lower.is_empty() && said.upper.is_none() {
        return Err(Error::Mount(mount::Error::Usage {
            what: "-o names no directory".to_owned(),
            hint: Some("mica explain -o lowerdir=TOP:...:BOTTOM,upperdir=DIR PATH".to_owned()),
        }));
    }
    let fds = fd_cache();
    let open = |path: &PathBuf| -> Result<Sheet> {
        let layer = DirLayer::open(&absolute(path), fds.clone()).map_err(crate::explain::Error::from)?;
        Ok(Sheet { layer: Arc::new(layer), digest: None, created_by: None })
    };
    let sheets = said.lower.iter().map(open).collect::<Result<Vec<_>>>()?;
    let upper = said
        .upper
        .as_ref()
        .map(|path| -> Result<_> { Ok((sys::open::dir_path(path)?, absolute(path).display().to_string())) });
    Ok(Subject::new("the directories", upper.transpose()?, sheets, fds)?)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A word that is the name of an image or container; those are texts.
///
/// # Errors
/// As for a name that is not there.
pub fn as_name(word: &OsStr) -> Result<&str> {
    let missing = || StoreError::NotFound { what: "image", name: word.to_string_lossy().into_owned() };
    Ok(word.to_str().ok_or_else(missing)?)
}
