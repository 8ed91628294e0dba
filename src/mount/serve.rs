//! From layers to a union that answers: the same for every kind of source.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::launch::Serving;
use super::options::MountOptions;
use super::options::RedirectDir;
use super::request::Request;
use super::source::Source;
use super::source::Upper;
use crate::fuse;
use crate::layer;
use crate::layer::Layer;
use crate::layer::dir::DirLayer;
use crate::layer::handle::FdCache;
use crate::sys;
use crate::union;
use crate::union::Union;
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
    FdCache::new((sys::process::open_files_limit() / 4).clamp(32, 4096))
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
        Ok(Arc::new(layer.map_err(|e| format!("layer {}: {e}", path.display()))?))
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
    let open = |c: Changes| {
        let unsynced = options.volatile || !options.fsync;
        let opened = union::volatile::admit(&c.work)
            .and_then(|()| union::work::Upper::open(&c.upper, &c.work, fds, unsynced))
            .and_then(|upper| if options.volatile { upper.note_volatile().map(|()| upper) } else { Ok(upper) });
        opened.map_err(|e| format!("upper directory {}: {e}", c.upper.display()))
    };
    let upper = changes.map(open).transpose()?;
    let stack = Stack::new(upper, layers).map_err(|e| e.to_string())?;
    let union = Union::new(stack, union_options(request)).map_err(|e| e.to_string())?;
    Ok(Arc::new(union))
}

/// Redirects and copies of attributes alone are written where the options ask for them, since who reads the upper directory must
/// know them; and into containers, whose upper directories only mica reads (a commit settles them first).
fn union_options(request: &Request) -> union::Options {
    let own = matches!(request.source, Source::Container { .. });
    let options = &request.options;
    union::Options {
        redirect_dir: options.redirect_dir.map_or(own, |said| said == RedirectDir::On),
        metacopy: options.metacopy.unwrap_or(own),
    }
}

/// Answers requests until the mount is gone.
///
/// # Errors
/// One line: the kernel's refusal of the handshake, or the failure that ended the service.
pub fn serve(union: Arc<Union>, options: &MountOptions, serving: Serving<'_>) -> Result<(), String> {
    let config = fuse::Config {
        timeout: Duration::try_from_secs_f64(options.timeout).unwrap_or(fuse::FOREVER),
        threads: options.threads.unwrap_or(0) as usize,
        acl: !options.no_acl && !options.no_xattrs,
        xattrs: !options.no_xattrs,
        max_write: options.max_write.unwrap_or(fuse::Config::default().max_write),
    };
    let (counted, stacked) = (union.clone(), union.clone());
    serving.statistics.on_signal(move || log::info!("{} nodes known", counted.table().len()));
    let session =
        fuse::Session::new(serving.fuse, union, config).map_err(|e| format!("the FUSE handshake failed: {e}"))?;
    let _record = serving.recorder.keep(stacked.stack());
    serving.ready.now();
    session.run().map_err(|e| format!("serving ended: {e}"))
}
