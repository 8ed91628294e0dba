//! Committing: a container's changes become one new layer, and with its image's layers a new image.

use std::io::BufWriter;
use std::io::Write;

use super::Error;
use super::Result;
use super::containers;
use super::diff;
use crate::env;
use crate::fuse;
use crate::image;
use crate::image::Digest;
use crate::image::change;
use crate::image::config::History;
use crate::image::config::ImageConfig;
use crate::image::diff::DiffOptions;
use crate::image::diff::write_diff;
use crate::image::reference::Reference;
use crate::image::unpack;
use crate::layer::handle::FdCache;
use crate::path::RelPath;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::sys;
use crate::sys::xattr::SetMode;
use crate::union;
use crate::union::Union;
use crate::union::stack::Stack;
use crate::union::work::Upper;

/// Directory descriptors kept open while an upper directory is settled.
const SETTLE_FDS: usize = 256;

/// What a commit is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The container: name, id, or the beginning of its id.
    pub container: String,
    /// The new image's name; without one it has only its id.
    pub name: Option<Reference>,
    /// `-m`: goes into the history.
    pub message: String,
    /// `-a`: goes into the history and the config.
    pub author: String,
    /// `-c`: what a container of the new image runs, as instructions.
    pub changes: Vec<String>,
}

/// Commits a container.
///
/// Only its upper directory is read. It goes through the importer of loaded layers, so a committed layer is stored like any
/// other.
///
/// # Errors
/// A missing container; [`Error::Change`]; [`Error::Commit`] when its changes cannot be read or stored.
///
/// # Durability
/// Layer, config and name are on disk when this returns, in this order; a crash leaves the image or nothing that shows.
pub fn commit(store: &Store, request: &Request) -> Result<Digest> {
    containers::reconcile(store)?;
    let _adding = store.adding()?;
    let record = store.find_container(&request.container)?;
    let mut base = store.config(&record.image_id)?;
    // First what can be wrong at once.
    let mut run = containers::config_of(&record).or_else(|| base.config.take()).unwrap_or_default();
    change::apply(&mut run, &request.changes)?;
    base.config = Some(run);
    let diff_id = store_settled(store, &record)?;
    let config = new_config(base, &record, request, diff_id)?;
    let id = store.put_blob(&config)?;
    let index = store.index()?;
    let (now, _) = env::now();
    let names: Vec<Reference> = request.name.iter().cloned().collect();
    store.change_images(&index, |images| {
        images.add(id, None, &names, now);
        Ok::<_, Error>(())
    })?;
    Ok(id)
}

/// How often a layer is written again because the container moved something below it meanwhile.
const TRIES: usize = 3;

/// Brings the upper directory into plain overlay form and stores it as a layer. Of a running container: its server leaves no content below
/// meanwhile, and what it had begun before that, or renamed, is found by the marks that it leaves.
fn store_settled(store: &Store, record: &ContainerRecord) -> Result<Digest> {
    let mut settled = settle(store, record)?;
    let mut tries = 1;
    loop {
        match store_changes(store, record)? {
            Stored::Layer(diff_id) => return Ok(diff_id),
            Stored::Unsettled(path) if tries == TRIES => {
                let why = format!("'/{path}' is moved to and from the layers below faster than it can be read");
                return Err(Error::Commit(format!("{why}: stop the container, or what does that in it")));
            }
            Stored::Unsettled(path) => log::info!("{path} was changed while the layer was written"),
        }
        tries += 1;
        // The one of before ends behind it, so that nothing comes in between.
        let again = settle(store, record)?;
        drop(std::mem::replace(&mut settled, again));
    }
}

/// A container whose mount, if it has one, leaves no content below, until this is dropped. It is asked anew each time: what holds
/// a mount open keeps the container from ending.
struct Settled<'a>(&'a Store, &'a ContainerRecord);

impl Settled<'_> {
    /// Whether there is a mount.
    fn tell(&self, what: &[u8]) -> Result<bool> {
        let Some(target) = containers::mount_of(self.0, self.1)? else { return Ok(false) };
        sys::xattr::set(sys::open::dir_path(&target)?, fuse::SETTLE, what, SetMode::Any)?;
        Ok(true)
    }
}

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        if let Err(e) = self.tell(fuse::SETTLE_OVER) {
            // It may be gone; one that is not copies more than it must.
            log::debug!("the mount goes on copying whole files: {e}");
        }
    }
}

/// Brings the upper directory into plain overlay form: by the server of its mount if it is mounted, else here.
fn settle<'a>(store: &'a Store, record: &'a ContainerRecord) -> Result<Settled<'a>> {
    let settled = Settled(store, record);
    if settled.tell(b"1")? {
        return Ok(settled);
    }
    let dir = containers::dir(store, &record.id);
    let upper = Upper::open(&dir.join("upper"), &dir.join("work"), FdCache::new(SETTLE_FDS), false)?;
    let stack = Stack::new(Some(upper), diff::layers(store, record)?)?;
    sys::process::clear_umask();
    Union::new(stack, union::Options::default())?.settle()?;
    Ok(settled)
}

/// What came of writing a layer.
enum Stored {
    /// It is in the store.
    Layer(Digest),
    /// A part of this lies in a layer below; nothing was stored.
    Unsettled(RelPath),
}

/// Streams the upper directory as a tar through the importer; the tar is never on disk.
fn store_changes(store: &Store, record: &ContainerRecord) -> Result<Stored> {
    let upper = store.container_dir(&record.id)?.upper()?;
    let skip = diff::runtime_paths(store, record)?;
    let (reader, writer) = std::io::pipe().map_err(|e| Error::Commit(e.to_string()))?;
    let fail = |e: &dyn std::fmt::Display| Error::Commit(e.to_string());
    let packs = store.layers().packs();
    let (written, imported) = std::thread::scope(|scope| {
        let write = scope.spawn(|| {
            let mut out = BufWriter::with_capacity(256 * 1024, writer);
            let options = DiffOptions { skip: &skip, ..DiffOptions::default() };
            match write_diff(&upper, &mut out, options) {
                Err(image::diff::Error::Unsettled(path)) => Ok(Some(path)),
                Err(e) => Err(fail(&e)),
                Ok(_) => out.flush().map(|()| None).map_err(|e| fail(&e)),
            }
        });
        let options = unpack::ImportOptions::default();
        let imported = unpack::prepare_layer(reader, packs, &options).map_err(|e| fail(&e));
        (
            write.join().unwrap_or_else(|_| Err(Error::Commit("the writer of the layer hit a defect".to_owned()))),
            imported,
        )
    });
    if let Ok(Some(path)) = written {
        return Ok(Stored::Unsettled(path));
    }
    // A reader that gave up breaks the pipe: its reason is the one to tell.
    let (imported, prepared) = imported?;
    written?;
    packs.publish(prepared.into_iter().collect()).map_err(|e| fail(&e))?;
    Ok(Stored::Layer(imported.diff_id))
}

fn new_config(mut config: ImageConfig, record: &ContainerRecord, request: &Request, layer: Digest) -> Result<Vec<u8>> {
    let (secs, nanos) = env::now();
    let created =
        jiff::Timestamp::new(secs, i32::try_from(nanos).unwrap_or(0)).map_err(|e| Error::Commit(e.to_string()))?;
    let created = Some(created.to_string());
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    config.created.clone_from(&created);
    config.author = text(&request.author);
    config.rootfs.diff_ids.push(layer);
    config.history.get_or_insert_with(Vec::new).push(History {
        created,
        created_by: text(&record.command.join(" ")),
        author: text(&request.author),
        comment: text(&request.message),
        ..History::default()
    });
    serde_json::to_vec(&config).map_err(|e| Error::Commit(e.to_string()))
}
