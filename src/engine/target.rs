//! What a user's word for a stack means, and that stack, ready to be looked at: the one parser of all commands that explain.
//!
//! ```text
//! TARGET  IMAGE | CONTAINER              in the store; a running container, too
//!         TARGET@3                       only the lowest three layers; @0 is nothing at all
//!         docker-archive:FILE[:NAME]     an archive of `docker save`, read without loading it   (super::private)
//!         oci-archive:FILE[:NAME]        likewise
//!         oci:DIR[:NAME]                 an OCI layout
//!         MOUNTPOINT                     a live mount of mica; with nothing behind it also any path below one
//!         -o lowerdir=A:B,upperdir=U     bare directories, top first
//! ```
//! A word is asked in this order: archive, mount, container, image.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::Error;
use super::Progress;
use super::Result;
use super::live;
use super::private::PrivateStore;
use crate::explain;
use crate::explain::Subject;
use crate::explain::subject::Made;
use crate::explain::subject::Sheet;
use crate::image::Digest;
use crate::image::config::ImageConfig;
use crate::image::reference::Layers;
use crate::image::reference::split_layers;
use crate::layer::Layer;
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
use crate::store::mounts::EACH_LAYER;
use crate::sys;

/// A stack, and the path in it that was asked for, as bytes.
pub type Question = (Subject, Vec<u8>);

/// A stack that a word means, ready to be looked at.
#[derive(Debug)]
pub struct Target {
    /// The stack.
    pub subject: Subject,
    /// The path in it that was asked for.
    pub path: Vec<u8>,
    /// The image of the store that it is, without `@N`; `None` for anything else.
    pub image: Option<String>,
    /// Keeps what was unpacked for the look; it is removed with this.
    _private: Option<PrivateStore>,
}

impl Target {
    /// A stack that needs nothing to be kept.
    pub fn new(subject: Subject, path: Vec<u8>) -> Self {
        Self { subject, path, image: None, _private: None }
    }
}

/// What is asked: the words of the command line.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The word for the stack.
    pub word: &'a OsStr,
    /// The path, if one stands behind it.
    pub path: Option<&'a OsStr>,
    /// Whether the root is meant where no path is given; otherwise `word` then must be a path on a mount.
    pub root_if_none: bool,
    /// The store that the user named.
    pub root: Option<&'a Path>,
    /// What becomes of layers that cannot be read.
    pub damage: Damage,
}

/// What becomes of a stack of which some layers cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It is refused: an answer would be wrong.
    Refused,
    /// It is looked at without them: each counts as empty, and its [`explain::LayerInfo`] says why.
    LookedPast,
}

/// Finds what is asked for.
///
/// # Errors
/// When there is no such thing; when a layer of it is missing or damaged, with its number and the name of the image;
/// [`Error::NotInMount`] for a path alone that is on no mount.
pub fn open(asked: &Asked<'_>, progress: &dyn Progress) -> Result<Target> {
    let path = || asked.path.map_or_else(|| b"/".to_vec(), |path| path.as_bytes().to_vec());
    let of = |(subject, path): Question| Target::new(subject, path);
    if let Some(archive) = Archive::parse(asked.word) {
        if asked.path.is_none() && !asked.root_if_none {
            return Err(Error::NoPath(asked.word.display().to_string()));
        }
        return open_archive(&archive, path(), progress);
    }
    match mounted(asked.word, asked.path, (asked.root, asked.damage)) {
        Ok(Some(question)) => return Ok(of(question)),
        Ok(None) => {}
        Err(Error::NotInMount(_)) if asked.root_if_none && !is_path(asked.word) => {}
        Err(e @ Error::NotInMount(_)) => return first_of_mount(asked)?.map(of).ok_or(e),
        Err(e) => return Err(e),
    }
    if let Some(question) = first_of_mount(asked)? {
        return Ok(of(question));
    }
    let store = open_store(asked.root)?;
    let name = as_name(asked.word)?;
    let subject = stored_past(&store, name, asked.damage)?;
    let (name, _) = split_layers(name);
    let is_container = store.find_container(name).is_ok();
    Ok(Target { image: (!is_container).then(|| name.to_owned()), ..of((subject, path())) })
}

/// `MOUNTPOINT@3`.
fn first_of_mount(asked: &Asked<'_>) -> Result<Option<Question>> {
    let Some((name, Layers::First(count))) = asked.word.to_str().map(split_layers) else { return Ok(None) };
    let path = asked.path.unwrap_or(OsStr::new("/"));
    if asked.path.is_none() && !asked.root_if_none {
        return Ok(None);
    }
    match mounted(OsStr::new(name), Some(path), (asked.root, asked.damage)) {
        Ok(Some((subject, path))) => Ok(Some((subject.first(count)?, path))),
        Ok(None) | Err(Error::NotInMount(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Two stacks that are compared: `A@2..@5`, or two targets.
///
/// # Errors
/// As [`open`]; when `after` is missing and `before` is no range.
pub fn open_two(
    before: &OsStr,
    after: Option<&OsStr>,
    root: Option<&Path>,
    progress: &dyn Progress,
) -> Result<(Target, Target)> {
    let one =
        |word: &OsStr| open(&Asked { word, path: None, root_if_none: true, root, damage: Damage::Refused }, progress);
    if let Some(after) = after {
        return Ok((one(before)?, one(after)?));
    }
    let Some((name, Layers::Range(from, to))) = before.to_str().map(split_layers) else {
        return Err(Error::NoRange(before.display().to_string()));
    };
    if name.contains(':') && Archive::parse(OsStr::new(name)).is_some() {
        let all = one(OsStr::new(name))?;
        let part = |count| -> Result<Subject> { Ok(all.subject.first(count)?.titled(format!("{name}@{count}"))) };
        let (a, b) = (part(from)?, part(to)?);
        let before = Target::new(a, Vec::new());
        return Ok((before, Target { subject: b, ..all }));
    }
    let word = |count: usize| std::ffi::OsString::from(format!("{name}@{count}"));
    Ok((one(&word(from))?, one(&word(to))?))
}

/// Whether `word` is a range of layers.
pub fn is_range(word: &OsStr) -> bool {
    matches!(word.to_str().map(split_layers), Some((_, Layers::Range(..))))
}

/// Splits `TARGET:PATH`: at the first `:/`, or else at the last colon, behind the name of a transport. `None` without a colon.
pub fn split_path(word: &OsStr) -> Option<(&OsStr, &OsStr)> {
    let bytes = word.as_bytes();
    let skip = Archive::parse(word).map_or(0, |archive| archive.scheme.len() + 1);
    let rest = bytes.get(skip..)?;
    // The file of an archive may begin with a slash, or have a directory with a colon; but `:/` always begins a path.
    let at = rest.windows(2).position(|pair| pair == b":/").or_else(|| rest.iter().rposition(|&b| b == b':'))?;
    let (target, path) = (bytes.get(..skip + at)?, bytes.get(skip + at + 1..)?);
    (!target.is_empty() && !path.is_empty()).then(|| (OsStr::from_bytes(target), OsStr::from_bytes(path)))
}

/// An archive or layout that is looked at where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Archive<'a> {
    scheme: &'static str,
    rest: &'a OsStr,
}

impl<'a> Archive<'a> {
    /// Skopeo's and podman's words for them.
    const SCHEMES: [&'static str; 3] = ["docker-archive", "oci-archive", "oci"];

    fn parse(word: &'a OsStr) -> Option<Self> {
        Self::SCHEMES.into_iter().find_map(|scheme| {
            let rest = word.as_bytes().strip_prefix(scheme.as_bytes())?.strip_prefix(b":")?;
            Some(Self { scheme, rest: OsStr::from_bytes(rest) })
        })
    }

    /// The file, the name of an image in it, and how many of its layers are meant.
    fn parts(&self) -> (PathBuf, Option<String>, Option<usize>) {
        let whole = PathBuf::from(self.rest);
        if whole.exists() {
            return (whole, None, None);
        }
        let Some(text) = self.rest.to_str() else { return (whole, None, None) };
        let (text, first) = match split_layers(text) {
            (text, Layers::First(count)) => (text, Some(count)),
            _ => (text, None),
        };
        let colons = text.match_indices(':').map(|(at, _)| text.split_at(at));
        let named = colons.into_iter().find(|(file, _)| Path::new(file).exists());
        match named {
            Some((file, name)) if !Path::new(text).exists() => {
                (PathBuf::from(file), name.strip_prefix(':').map(str::to_owned), first)
            }
            _ => (PathBuf::from(text), None, first),
        }
    }
}

fn open_archive(archive: &Archive<'_>, path: Vec<u8>, progress: &dyn Progress) -> Result<Target> {
    let (file, name, first) = archive.parts();
    let private = PrivateStore::of_archive(&file, progress)?;
    let title = format!("{}:{}", archive.scheme, file.display());
    let images = private.store().images()?;
    let word = match (name, images.images.len()) {
        (Some(name), _) => name,
        (None, 1) => images.images.keys().map(Digest::to_string).collect(),
        (None, _) => {
            let names = images.names.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::WhichImage { archive: title, names });
        }
    };
    let subject = of_image((private.store(), Damage::Refused), &word, first)?;
    let title = first.map(|first| format!("{title}@{first}")).unwrap_or(title);
    Ok(Target { subject: subject.titled(title), path, image: None, _private: Some(private) })
}

/// Whether `word` is a directory on which a union is mounted; it need not be served any more.
pub fn is_mount(word: &OsStr) -> bool {
    matches!(find_mount(Path::new(word), false), Ok(Some(_)))
}

/// Words that can only be meant as paths.
fn is_path(word: &OsStr) -> bool {
    [&b"/"[..], b"./", b"../"].iter().any(|prefix| word.as_bytes().starts_with(prefix))
}

/// The mount that `word` leads to: with `path`, the directory on which something is mounted; without, a path in or on a mount. `None`
/// when `word` leads to no mount and may be something else. `root` is the store for packs, where the mount does not say.
///
/// # Errors
/// [`Error::NoRecord`] for a mount that tells nothing of itself; [`Error::NotInMount`] for what can only be meant as a path; those
/// of reading the layers.
fn mounted(word: &OsStr, path: Option<&OsStr>, (root, damage): (Option<&Path>, Damage)) -> Result<Option<Question>> {
    let found = find_mount(Path::new(word), path.is_none())?;
    let Some((entry, inside)) = found else {
        return if path.is_none() || is_path(word) { Err(Error::NotInMount(PathBuf::from(word))) } else { Ok(None) };
    };
    let record = record::of_device(entry.dev).ok_or_else(|| untold(&entry))?;
    let asked = path.map_or_else(|| inside.as_os_str().as_bytes(), OsStr::as_bytes).to_vec();
    Ok(Some((of_record(&entry.target, &record, (root, damage))?, asked)))
}

/// Why a mount tells nothing of itself.
fn untold(entry: &Entry) -> Error {
    let answer = std::fs::symlink_metadata(&entry.target).map_err(|e| sys::Errno::from_io_error(&e));
    match answer {
        Err(Some(sys::Errno::NOTCONN)) => live::gone(&entry.target),
        _ => Error::NoRecord(entry.target.clone()),
    }
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
pub(super) fn of_record(target: &Path, record: &Record, (root, damage): (Option<&Path>, Damage)) -> Result<Subject> {
    if matches!(&record.source, RecordSource::Image(name) if name.ends_with(EACH_LAYER)) {
        // Layers side by side are no union: there is nothing to explain.
        return Err(Error::NoRecord(target.to_owned()));
    }
    let fds = fd_cache();
    // It is in use: what its directories say of themselves may change.
    fds.remember_nothing();
    let packs = record.layers.iter().any(|layer| matches!(layer, LayerPlace::Pack(_)));
    let open = || match &record.root {
        Some(root) => Ok(Store::look(&root.0)?),
        None => open_store(root),
    };
    let store = packs.then(open).transpose()?;
    let diff_ids = record.layers.iter().rev().filter_map(|layer| match layer {
        LayerPlace::Pack(id) => Some(*id),
        LayerPlace::Dir(_) => None,
    });
    let diff_ids: Vec<Digest> = diff_ids.collect();
    let mut told = store.as_ref().and_then(|store| made_of(store, &record.source, &diff_ids)).unwrap_or_default();
    let count = record.layers.len();
    let mut sheets = Vec::with_capacity(record.layers.len());
    for (at, layer) in record.layers.iter().enumerate() {
        sheets.push(match (layer, &store) {
            (LayerPlace::Pack(id), Some(store)) => {
                let title = target.display().to_string();
                let made = told.pop().unwrap_or_default();
                pack_sheet((store, damage), &title, (count - at, count), id, made)?
            }
            (LayerPlace::Pack(id), None) => return Err(StoreError::NoBlob(*id).into()),
            (LayerPlace::Dir(path), _) => {
                let layer = Arc::new(DirLayer::open(&path.0, fds.clone()).map_err(explain::Error::from)?);
                Sheet::bare(layer)
            }
        });
    }
    let upper = record
        .upper
        .as_ref()
        .map(|upper| -> Result<_> { Ok((sys::open::dir_path(&upper.0)?, upper.0.display().to_string())) });
    let name = match &record.source {
        RecordSource::Image(name) => format!("{} ({name})", target.display()),
        RecordSource::Container(id) => format!("{} (container {})", target.display(), id.get(..12).unwrap_or(id)),
        RecordSource::Dirs => target.display().to_string(),
    };
    Ok(Subject::new(name, upper.transpose()?, sheets, fds)?)
}

fn open_store(root: Option<&Path>) -> Result<Store> {
    let root = root.map_or_else(Store::default_root, |root| Ok(root.to_owned()))?;
    Ok(Store::open(&root)?)
}

/// How the layers of a mount came to be, lowest first, if the image by that name still has these layers.
fn made_of(store: &Store, source: &RecordSource, diff_ids: &[Digest]) -> Option<Vec<Made>> {
    let id = match source {
        RecordSource::Image(word) => store.images().ok()?.find(word).ok()?.id,
        RecordSource::Container(word) => store.find_container(word).ok()?.image_id,
        RecordSource::Dirs => return None,
    };
    let config = store.config(&id).ok()?;
    (config.diff_ids() == diff_ids).then(|| made(&config))
}

/// The container or else the image that `word` means, with `@N` behind it only its lowest layers. A container's upper is read as it
/// is, also while it runs.
///
/// # Errors
/// When there is neither, or a layer is missing or damaged.
pub fn stored(store: &Store, word: &str) -> Result<Subject> {
    stored_past(store, word, Damage::Refused)
}

fn stored_past(store: &Store, word: &str, damage: Damage) -> Result<Subject> {
    let (name, layers) = split_layers(word);
    let first = match layers {
        Layers::All => None,
        Layers::First(count) => Some(count),
        Layers::Range(..) => return Err(Error::RangeHere(word.to_owned())),
    };
    stored_first((store, damage), name, first)
}

/// As [`stored`], for a word without `@`: only the lowest layers, `first` of them. Those above are not even opened.
///
/// # Errors
/// As [`stored`]; when there are not so many layers.
fn stored_first((store, damage): (&Store, Damage), word: &str, first: Option<usize>) -> Result<Subject> {
    match store.find_container(word) {
        Ok(container) => of_container((store, damage), &container, first),
        Err(StoreError::NotFound { .. }) => of_image((store, damage), word, first),
        Err(e) => Err(e.into()),
    }
}

fn of_container(
    (store, damage): (&Store, Damage),
    container: &ContainerRecord,
    first: Option<usize>,
) -> Result<Subject> {
    // The image may be removed while its layers stay; then nothing is known of the commands.
    let config = store.config(&container.image_id).ok().filter(|config| config.diff_ids() == container.layers);
    let made = config.map(|config| made(&config)).unwrap_or_default();
    let title = format!("container {}", container.name);
    let count = container.layers.len();
    let with_upper = first.is_none_or(|first| first > count);
    let upper = match with_upper {
        true => {
            let label = store.path().join("containers").join(&container.id).join("upper").display().to_string();
            Some((store.container_dir(&container.id)?.upper()?, label))
        }
        false => None,
    };
    let lower = if first == Some(count + 1) { count } else { check_count(&title, count, first)? };
    let sheets = pack_sheets((store, damage), &title, container.layers.get(..lower).unwrap_or_default(), made)?;
    Ok(Subject::new(cut_title(title, first), upper, sheets, fd_cache())?)
}

fn of_image((store, damage): (&Store, Damage), word: &str, first: Option<usize>) -> Result<Subject> {
    let found = store.images()?.find(word)?;
    let config = store.config(&found.id)?;
    let title = found.name.map_or_else(|| found.id.short(), |name| name.to_string());
    let count = check_count(&title, config.diff_ids().len(), first)?;
    let diff_ids = config.diff_ids().get(..count).unwrap_or_default();
    let sheets = pack_sheets((store, damage), &title, diff_ids, made(&config))?;
    Ok(Subject::new(cut_title(title, first), None, sheets, fd_cache())?)
}

fn cut_title(title: String, first: Option<usize>) -> String {
    first.map(|first| format!("{title}@{first}")).unwrap_or(title)
}

fn check_count(title: &str, has: usize, first: Option<usize>) -> Result<usize> {
    let count = first.unwrap_or(has);
    if count > has {
        return Err(explain::Error::TooFew { title: title.to_owned(), count, has }.into());
    }
    Ok(count)
}

/// How each layer came to be, lowest first; as many as there are layers.
fn made(config: &ImageConfig) -> Vec<Made> {
    let steps = config.history_with_layers().filter(|(_, layer)| layer.is_some());
    let mut told: Vec<Made> = steps
        .map(|(step, _)| Made {
            created_by: step.created_by.clone(),
            author: step.author.clone(),
            created: step.created.clone(),
            comment: step.comment.clone(),
        })
        .collect();
    told.resize(config.diff_ids().len(), Made::default());
    told
}

/// Layers top first, of diff ids and what is known of them lowest first.
fn pack_sheets(from: (&Store, Damage), title: &str, diff_ids: &[Digest], mut made: Vec<Made>) -> Result<Vec<Sheet>> {
    made.resize(diff_ids.len(), Made::default());
    let count = diff_ids.len();
    let sheets = diff_ids.iter().zip(made).enumerate().rev();
    sheets.map(|(i, (id, made))| pack_sheet(from, title, (i + 1, count), id, made)).collect()
}

fn pack_sheet(
    (store, damage): (&Store, Damage),
    title: &str,
    (number, count): (usize, usize),
    id: &Digest,
    made: Made,
) -> Result<Sheet> {
    let broken = |source: StoreError| Error::Layer {
        target: title.to_owned(),
        number,
        count,
        diff_id: *id,
        source: Box::new(source),
    };
    let layer = store.layers().get(id).and_then(|layer| {
        // A stack is made of roots: one that cannot be read would be the end of all.
        let root = Layer::root(&layer)?;
        root.stat().and_then(|_| root.marks())?;
        Ok(layer)
    });
    match layer {
        Ok(layer) => Ok(Sheet { layer: Arc::new(layer), digest: Some(*id), made, broken: None }),
        Err(e) if damage == Damage::LookedPast => Ok(Sheet::broken(*id, made, e.to_string())?),
        Err(e) => Err(broken(e)),
    }
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
            hint: Some("-o lowerdir=TOP:...:BOTTOM,upperdir=DIR".to_owned()),
        }));
    }
    let fds = fd_cache();
    let open = |path: &PathBuf| -> Result<Sheet> {
        let failed = |e: crate::layer::Error| not_opened(path, e.errno());
        Ok(Sheet::bare(Arc::new(DirLayer::open(&absolute(path), fds.clone()).map_err(failed)?)))
    };
    let sheets = said.lower.iter().map(open).collect::<Result<Vec<_>>>()?;
    let upper = said.upper.as_ref().map(|path| -> Result<_> {
        let fd = sys::open::dir_path(path).map_err(|e| not_opened(path, e.errno()))?;
        Ok((fd, absolute(path).display().to_string()))
    });
    Ok(Subject::new("the directories", upper.transpose()?, sheets, fds)?)
}

fn not_opened(path: &Path, errno: sys::Errno) -> Error {
    Error::Open { path: path.display().to_string(), source: std::io::Error::from_raw_os_error(errno.raw_os_error()) }
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
