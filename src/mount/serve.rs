//! From layers to a union that answers: the same for every kind of source.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::launch::Serving;
use super::live::Asked;
use super::options::IdRange;
use super::options::Io;
use super::options::MountOptions;
use super::options::RedirectDir;
use super::options::XattrPermissions;
use super::record::RecordIo;
use super::request::Request;
use super::source::Source;
use super::source::Upper;
use crate::fuse;
pub use crate::fuse::Made;
use crate::layer;
use crate::layer::Layer;
use crate::layer::dir::DirLayer;
use crate::layer::handle::FdCache;
use crate::layer::override_stat;
use crate::sys;
use crate::union;
use crate::union::Union;
use crate::union::ids;
use crate::union::manners::Manners;
use crate::union::stack::Stack;

/// The directories that take the changes of a mount.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Holds the changes.
    pub upper: PathBuf,
    /// Holds unfinished changes, on the same filesystem.
    pub work: PathBuf,
}

/// The cache of directory descriptors for one mount: a share of what the process may open.
pub fn fd_cache() -> Arc<FdCache> {
    FdCache::new(open_files())
}

/// A quarter of what the process may have open. Directories take one, files another; the rest is for files without a name.
fn open_files() -> usize {
    (sys::process::open_files_limit() / 4).clamp(32, 4096)
}

/// Opens the directories of a [`Source::Dirs`] as a union.
///
/// # Errors
/// One line that names the directory and the reason; for a source of another kind, too.
pub fn open_dirs(request: &Request) -> Result<Arc<Union>, String> {
    let Source::Dirs { lower, data_only, upper } = &request.source else {
        return Err("only directories can be opened without a store".to_owned());
    };
    if !data_only.is_empty() {
        return Err("data-only layers (lowerdir=...::DIR) are not supported".to_owned());
    }
    let fds = fd_cache();
    let open = |path: &PathBuf| -> Result<Arc<dyn Layer>, String> {
        let layer = open_layer(path, &request.target, fds.clone());
        let layer = layer.map_err(|e| format!("layer {}: {e}", path.display()))?;
        let linked = request.options.index == Some(true);
        Ok(Arc::new(if linked { layer.with_link_index() } else { layer }))
    };
    let layers = lower.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let changes = match upper {
        Upper::None => None,
        Upper::Fresh => {
            return Err("a new upper directory needs a store: name one with upperdir= and workdir=".to_owned());
        }
        Upper::At { upper, work } => Some(Changes { upper: upper.clone(), work: work.clone() }),
    };
    make_union(layers, changes, request, fds)
}

/// Opens a layer. One that the mount point lies in is looked at without what is mounted in it (as the kernel's overlayfs looks at
/// all its layers): the server would else ask itself, and wait for the answer.
fn open_layer(path: &Path, target: &Path, fds: Arc<FdCache>) -> layer::Result<DirLayer> {
    // What is told of it later must hold after the server has left its caller's directory.
    let path = &*std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let inside = |layer: PathBuf| std::fs::canonicalize(target).is_ok_and(|target| target.starts_with(layer));
    if std::fs::canonicalize(path).is_ok_and(inside) {
        match sys::private_tree::open(path)? {
            Some(fd) => return DirLayer::from_fd(fd, path, fds),
            None => log::warn!("the mount shows in its own layer {}: do not walk into it there", path.display()),
        }
    }
    DirLayer::open(path, fds)
}

/// Puts layers (top first) and the place of changes together.
///
/// # Errors
/// One line that says what is wrong with which directory.
pub fn make_union(
    layers: Vec<Arc<dyn Layer>>,
    changes: Option<Changes>,
    request: &Request,
    fds: Arc<FdCache>,
) -> Result<Arc<Union>, String> {
    let options = &request.options;
    if is_unsteady(options) {
        fds.remember_nothing();
    }
    let kept = fds.clone();
    let upper = changes
        .map(|c| open_upper(&c, options, fds).map_err(|e| format!("upper directory {}: {e}", c.upper.display())))
        .transpose()?;
    if options.blocks == Some(true) && options.metacopy == Some(false) {
        return Err(
            "copy_up=blocks leaves content below, which metacopy=off forbids: leave out one of the two".to_owned()
        );
    }
    let stack = Stack::new(upper, layers).map_err(|e| e.to_string())?;
    let union = Union::new(stack, union_options(request)).map_err(|e| e.to_string())?;
    Ok(Arc::new(union.with_manners(manners(options)).with_fd_cache(kept)))
}

/// Redirects and copies of attributes alone are written where the options ask for them, since who reads the upper directory must
/// know them; and into containers, whose upper directories only mica reads (a commit settles them first). Where files are lent to the
/// kernel, large ones are copied up as a whole, unless asked otherwise: one that is in blocks cannot be lent.
fn union_options(request: &Request) -> union::Options {
    let own = matches!(request.source, Source::Container { .. });
    let options = &request.options;
    union::Options {
        redirect_dir: options.redirect_dir.map_or(own, |said| said == RedirectDir::On),
        metacopy: options.metacopy.unwrap_or(own || options.blocks == Some(true)),
        blocks: options.blocks.unwrap_or(own && options.io != Io::Passthrough),
    }
}

/// Opens the upper directory as the options want it.
fn open_upper(changes: &Changes, options: &MountOptions, fds: Arc<FdCache>) -> union::Result<union::work::Upper> {
    let form = match options.xattr_permissions {
        XattrPermissions::Off => None,
        XattrPermissions::Security => Some(override_stat::Form::Security),
        XattrPermissions::User => Some(override_stat::Form::Containers),
    };
    if let Some(form) = form {
        form.seed(&sys::open::dir_path(&changes.upper)?)?;
    }
    let volatile = options.volatile || !options.fsync;
    let mut upper = union::work::Upper::open(&changes.upper, &changes.work, fds, volatile)?;
    upper.owners_may_fail = manners(options).ids.is_squashing();
    if options.volatile {
        upper.mark_volatile()?;
    }
    Ok(upper)
}

/// `timeout=0` says that layers are changed while they are mounted.
fn is_unsteady(options: &MountOptions) -> bool {
    options.timeout == 0.0
}

/// Whose everything is, and what is shown of it.
fn manners(options: &MountOptions) -> Manners {
    let map = |ranges: &[IdRange], squash| {
        let range = |r: &IdRange| ids::Range { disk: r.host, shown: r.to, len: r.len };
        ids::Map::new(ranges.iter().map(range).collect(), squash)
    };
    let (users, groups) = (map(&options.uid_map, options.squash_to_uid), map(&options.gid_map, options.squash_to_gid));
    Manners {
        ids: ids::Ids::new(users, groups, options.squash_to_root),
        static_nlink: options.static_nlink,
        fast_ino: options.fast_ino,
        unsteady: is_unsteady(options),
    }
}

/// How far ahead the kernel reads, in KiB. Each request is a trip, so that of a disk (128) is little; what is read in vain is copied in
/// vain, so there are no megabytes either.
const READ_AHEAD: u32 = 512;

/// Answers requests until the mount is gone. `made` tells how the layers came to be, the lowest first, where that is known.
///
/// # Errors
/// One line: the kernel's refusal of the handshake, or the failure that ended the service.
pub fn serve(union: Arc<Union>, made: Vec<Made>, options: &MountOptions, serving: Serving<'_>) -> Result<(), String> {
    let config = fuse::Config {
        timeout: Duration::try_from_secs_f64(options.timeout).unwrap_or(fuse::FOREVER),
        threads: options.threads.unwrap_or(0) as usize,
        acl: !options.no_acl && !options.no_xattrs,
        xattrs: !options.no_xattrs,
        max_write: options.max_write.unwrap_or(fuse::Config::default().max_write),
        unopened: (options.io != Io::Cache).then(open_files),
        title: serving.recorder.target().display().to_string(),
        made,
        lend: options.io == Io::Passthrough,
        rings: options.io_uring,
        ahead: serving.scout.zip(serving.recorder.dev()).map(|(scout, dev)| fuse::Means {
            scout: scout.into(),
            place: fuse::Place { target: serving.recorder.target().to_owned(), dev },
        }),
    };
    let (counted, stacked) = (union.clone(), union.clone());
    serving.statistics.on_signal(move || log::info!("{} nodes known", counted.table().len()));
    let session =
        fuse::Session::new(serving.fuse, union, config).map_err(|e| format!("the FUSE handshake failed: {e}"))?;
    // Not before the handshake, which sets it to what the kernel offers at most.
    if let Some(Err(e)) = serving.recorder.dev().map(|dev| sys::mount::set_read_ahead(dev, READ_AHEAD)) {
        log::debug!("the kernel reads ahead as it likes: {e}");
    }
    let io = match session.data() {
        fuse::Data::Unopened => RecordIo::NoOpen,
        fuse::Data::Cached => RecordIo::Cache,
        fuse::Data::Lent => RecordIo::Passthrough,
    };
    let record = serving.recorder.keep(stacked.stack(), io);
    let _asked = record.as_ref().and_then(|record| Asked::start(record, session.live()));
    serving.ready.now();
    session.run().map_err(|e| format!("serving ended: {e}"))
}
