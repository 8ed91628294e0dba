//! Opens images and containers of the store as unions.

use std::path::PathBuf;
use std::sync::Arc;

use micafs::digest::Digest;
use micafs::env;
use micafs::image::config::ImageConfig;
use micafs::image::reference::Layers;
use micafs::image::reference::split_layers;
use micafs::layer::Layer;
use micafs::layer::sheets::Sheets;
use micafs::mount::request::Request;
use micafs::mount::serve;
use micafs::mount::serve::Changes;
use micafs::mount::serve::Made;
use micafs::mount::source::Source;
use micafs::mount::source::Upper;
use micafs::store::Store;
use micafs::store::mounts::EACH_LAYER;
use micafs::store::mounts::MountRecord;
use micafs::sys::process;
use micafs::union::Union;

/// A union, and what keeps its layers in the store as long as it is mounted.
#[derive(Debug)]
pub struct Opened {
    /// The union.
    pub union: Arc<Union>,
    pin: Option<Pin>,
    made: Vec<Made>,
}

impl Opened {
    /// A union of directories, which no store knows.
    pub fn unpinned(union: Arc<Union>) -> Self {
        Self { union, pin: None, made: Vec::new() }
    }

    /// How its layers came to be, the lowest first, as far as that is known.
    pub fn made(&self) -> Vec<Made> {
        self.made.clone()
    }

    /// Lets go of the layers.
    pub fn release(self) {
        drop(self.pin);
    }
}

/// A mount's record in the store; dropping it removes the record.
#[derive(Debug)]
struct Pin {
    store: Store,
    id: String,
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Err(e) = self.store.remove_mount(&self.id) {
            log::warn!("the record of the mount stays behind: {e}");
        }
    }
}

/// Opens what a request names in the store.
pub fn open(request: &Request) -> Result<Opened, String> {
    match &request.source {
        Source::Image { reference, root, upper } => open_image(request, reference, root.as_ref(), upper),
        Source::Container { id, root } => open_container(request, id, root.as_ref()),
        Source::Dirs { .. } => serve::open_dirs(request).map(Opened::unpinned),
    }
}

fn store(root: Option<&PathBuf>) -> Result<Store, String> {
    let root = match root {
        Some(root) => root.clone(),
        None => Store::default_root().map_err(|e| e.to_string())?,
    };
    Store::open(&root).map_err(|e| format!("store {}: {e}", root.display()))
}

fn open_image(request: &Request, reference: &str, root: Option<&PathBuf>, upper: &Upper) -> Result<Opened, String> {
    let store = store(root)?;
    let changes = match upper {
        Upper::None => None,
        Upper::At { upper, work } => Some(Changes { upper: upper.clone(), work: work.clone() }),
        Upper::Fresh => {
            return Err(
                "name directories for the changes (upperdir= and workdir=), or use 'mica mount --rw'".to_owned()
            );
        }
    };
    let text = |e: micafs::store::Error| e.to_string();
    // Held until the record is written, so that nothing is collected in between.
    let adding = store.adding().map_err(text)?;
    let (whole, each) = reference.strip_suffix(EACH_LAYER).map_or((reference, false), |name| (name, true));
    let (name, part) = split_layers(whole);
    let found = store.images().and_then(|images| images.find(name)).map_err(text)?;
    let config = store.config(&found.id).map_err(text)?;
    let mut made = if each { Vec::new() } else { made(&config) };
    let chain = first_layers(config.rootfs.diff_ids, part)?;
    made.truncate(chain.len());
    let mut layers = open_layers(&store, &chain)?;
    if each {
        if changes.is_some() {
            return Err("the layers of an image cannot be changed: mount the image instead".to_owned());
        }
        layers.reverse();
        let sheets = Sheets::new(&layers).map_err(|e| format!("{reference}: {e}"))?;
        layers = vec![Arc::new(sheets)];
    }
    let record = record(request, reference, found.id, chain)?;
    store.put_mount(&record).map_err(text)?;
    drop(adding);
    let pin = Pin { store, id: record.id };
    let union = serve::make_union(layers, changes, request, serve::fd_cache())?;
    Ok(Opened { union, pin: Some(pin), made })
}

/// The layers of an image that a word behind its name means, lowest first.
fn first_layers(mut chain: Vec<Digest>, part: Layers) -> Result<Vec<Digest>, String> {
    match part {
        Layers::All => Ok(chain),
        Layers::First(count) if (1..=chain.len()).contains(&count) => {
            chain.truncate(count);
            Ok(chain)
        }
        Layers::First(count) => {
            Err(format!("there is no layer {count}: the image has the layers 1 to {}", chain.len()))
        }
        Layers::Range(..) => Err("a mount begins with the lowest layer: give one number, as in IMAGE@3".to_owned()),
    }
}

/// A container's record pins its layers already.
fn open_container(request: &Request, id: &str, root: Option<&PathBuf>) -> Result<Opened, String> {
    let store = store(root)?;
    let record = store.find_container(id).map_err(|e| e.to_string())?;
    let dir = store.path().join("containers").join(&record.id);
    let changes = Changes { upper: dir.join("upper"), work: dir.join("work") };
    let layers = open_layers(&store, &record.layers)?;
    let union = serve::make_union(layers, Some(changes), request, serve::fd_cache())?;
    // The image may be gone while its layers stay.
    let config = store.config(&record.image_id).ok().filter(|config| config.diff_ids() == record.layers);
    let made = config.map(|config| made(&config)).unwrap_or_default();
    Ok(Opened { made, ..Opened::unpinned(union) })
}

/// How the layers of an image came to be, the lowest first, as many as there are.
fn made(config: &ImageConfig) -> Vec<Made> {
    let steps = config.history_with_layers().filter(|(_, layer)| layer.is_some());
    let mut made: Vec<Made> = steps
        .map(|(step, _)| Made {
            created_by: step.created_by.clone(),
            author: step.author.clone(),
            created: step.created.clone(),
            comment: step.comment.clone(),
        })
        .collect();
    made.resize(config.diff_ids().len(), Made::default());
    made
}

/// The layers of an image, given lowest first; returned top first, as a stack wants them.
fn open_layers(store: &Store, chain: &[Digest]) -> Result<Vec<Arc<dyn Layer>>, String> {
    let open = |diff_id: &Digest| -> Result<Arc<dyn Layer>, String> {
        let layer = store.layers().get(diff_id).map_err(|e| format!("layer {diff_id}: {e}"))?;
        Ok(Arc::new(layer))
    };
    chain.iter().rev().map(open).collect()
}

fn record(request: &Request, reference: &str, image_id: Digest, layers: Vec<Digest>) -> Result<MountRecord, String> {
    let random: [u8; 16] = env::random().map_err(|e| format!("no random numbers: {e}"))?;
    let pid = std::process::id();
    Ok(MountRecord {
        id: random.iter().map(|b| format!("{b:02x}")).collect(),
        target: request.target.display().to_string(),
        image_name: reference.to_owned(),
        image_id,
        layers,
        pid,
        start_time: process::start_time(pid).map_err(|e| e.to_string())?.unwrap_or(0),
        created: env::now().0,
        extra: serde_json::Map::new(),
    })
}
