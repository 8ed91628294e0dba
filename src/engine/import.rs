//! Importing: the tar of a root filesystem becomes an image of one layer.

use std::io::Read;

use super::Error;
use super::LayerNote;
use super::LayerProgress;
use super::Progress;
use super::Result;
use super::input::Input;
use crate::env;
use crate::image::Digest;
use crate::image::change;
use crate::image::config::History;
use crate::image::config::ImageConfig;
use crate::image::config::RootFs;
use crate::image::config::RunConfig;
use crate::image::limits::Limits;
use crate::image::manifest::Platform;
use crate::image::reference::Reference;
use crate::image::unpack;
use crate::registry::http::Url;
use crate::store::Store;

/// What an import is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The new image's name; without one it has only its id.
    pub name: Option<Reference>,
    /// `-m`: goes into the history; where it is empty, docker's words.
    pub message: String,
    /// `-c`: what a container of the image runs, as instructions.
    pub changes: Vec<String>,
    /// The machine the image is for; this one when it is `None`.
    pub platform: Option<Platform>,
    /// What the tar may ask for.
    pub limits: Limits,
}

/// Imports a root filesystem's tar, which may be compressed.
///
/// # Errors
/// [`Error::Change`]; [`Error::Import`] when it is no tar, or cannot be stored.
///
/// # Durability
/// Layer, config and name are on disk when this returns, in this order; a crash leaves the image or nothing that shows.
pub fn import(store: &Store, input: Input, request: &Request, progress: &dyn Progress) -> Result<Digest> {
    // First what can be wrong at once.
    let mut run = RunConfig::default();
    change::apply(&mut run, &request.changes)?;
    store.sweep_if_idle()?;
    let _adding = store.adding()?;
    let (archive, failure) = (input.label.clone(), input.failure.clone());
    let (stream, size) = input.into_stream()?;
    let counting =
        Counting { input: stream, progress: progress.layer(&LayerNote { number: Some((1, 1)), diff_id: None, size }) };
    let options = unpack::ImportOptions { limits: request.limits.clone(), ..unpack::ImportOptions::default() };
    let imported = unpack::prepare_layer(counting, store.layers().packs(), &options);
    let (imported, pack) = imported
        .map_err(|e| failure.take().unwrap_or_else(|| Error::Import { archive: archive.clone(), source: reason(e) }))?;
    progress.publishing();
    store.layers().publish(pack.into_iter().collect())?;
    let config = config(request, run, imported.diff_id, &archive)?;
    let bytes = serde_json::to_vec(&config).map_err(|e| Error::Internal(e.to_string()))?;
    let id = store.put_blob(&bytes)?;
    let index = store.index()?;
    let (now, _) = env::now();
    store.change_images(&index, |images| {
        images.add(id, None, request.name.as_slice(), now);
        Ok::<_, Error>(())
    })?;
    Ok(id)
}

/// Which entry, and what.
fn reason(e: unpack::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match (e.entry, *e.what) {
        (Some(entry), what) => format!("entry '{entry}': {what}").into(),
        (None, what) => what.into(),
    }
}

fn config(request: &Request, run: RunConfig, layer: Digest, archive: &str) -> Result<ImageConfig> {
    let (secs, nanos) = env::now();
    let created = jiff::Timestamp::new(secs, i32::try_from(nanos).unwrap_or(0));
    let created = Some(created.map_err(|e| Error::Internal(e.to_string()))?.to_string());
    let platform = request.platform.clone().unwrap_or_else(Platform::host);
    let comment = match request.message.as_str() {
        // An address says where it is from. Of a path only the last part: who shares an image does not share his directories.
        "" if Url::is_meant(archive) => format!("Imported from {archive}"),
        "" => format!("Imported from {}", archive.rsplit('/').next().unwrap_or_default()),
        message => message.to_owned(),
    };
    Ok(ImageConfig {
        created: created.clone(),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: Some(run),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer] },
        history: Some(vec![History { created, comment: Some(comment), ..History::default() }]),
        ..ImageConfig::default()
    })
}

struct Counting<R> {
    input: R,
    progress: Box<dyn LayerProgress>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buf)?;
        self.progress.advance(n as u64);
        Ok(n)
    }
}
