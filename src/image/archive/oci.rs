//! The documents of an OCI image layout: `index.json`, and blobs by digest.
//!
//! Source: OCI image specification, `image-layout.md` and `image-index.md`.

use super::Documents;
use super::Error;
use super::IMAGES_MAX;
use super::ImagePlan;
use super::LayerPlan;
use super::Machine;
use super::blob_name;
use super::check_count;
use super::read_config;
use super::read_named;
use crate::image::manifest::BadDocument;
use crate::image::manifest::DOCUMENT_MAX;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Document;
use crate::image::manifest::Index;
use crate::image::manifest::Manifest;
use crate::image::reference::Reference;

/// The name of the document that makes an OCI layout.
pub const INDEX: &str = "index.json";
/// How deep indexes may point to indexes; an index that points to itself ends here.
const DEPTH_MAX: usize = 4;
/// The annotations that name an image, the better one first: containerd's has the full name, OCI's may be only a tag.
const NAME_ANNOTATIONS: [&str; 2] = [CONTAINERD_NAME, REF_NAME];
/// containerd's annotation: the whole name.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// OCI's annotation: a name, or only a tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Marks what BuildKit stores beside an image and is none.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// The images of an OCI layout; `None` when it has no `index.json`. Of an index with several platforms, the one for `machine`
/// is taken.
///
/// # Errors
/// [`Error`], for the first document that is missing, malformed, or does not match its digest.
pub fn resolve<D: Documents + ?Sized>(documents: &D, machine: &Machine) -> Result<Option<Vec<ImagePlan>>, Error> {
    let Some(bytes) = documents.document(INDEX, DOCUMENT_MAX)? else { return Ok(None) };
    let Document::Index(index) = parse(INDEX, &bytes, None)? else {
        return Err(Error::NotAnImage("its index.json is a manifest".to_owned()));
    };
    if index.manifests.len() > IMAGES_MAX {
        let why = format!("its index.json lists {} images, more than {IMAGES_MAX}", index.manifests.len());
        return Err(Error::NotAnImage(why));
    }
    let mut images: Vec<ImagePlan> = Vec::new();
    for descriptor in fitting(&index, machine)? {
        let mut image = descend(documents, descriptor, machine, 0)?;
        image.names.extend(name_of(descriptor)?);
        match images.iter_mut().find(|other| other.id == image.id) {
            Some(other) => other.names.append(&mut image.names),
            None => images.push(image),
        }
    }
    if images.is_empty() {
        return Err(Error::NotAnImage("its index.json lists no image".to_owned()));
    }
    Ok(Some(images))
}

/// Gives the images of a docker archive the manifests that the layout beside it has for them, as docker writes both since 25: their digests
/// are what registries know the images by. Only a manifest with the same config and the same layer files is taken. `manifest.json`
/// decides what is loaded, as it does for docker; a layout that says something else, or nothing that makes sense, is passed over.
///
/// # Errors
/// When the archive itself cannot be read.
pub(super) fn adopt<D: Documents + ?Sized>(
    documents: &D,
    machine: &Machine,
    images: &mut [ImagePlan],
) -> Result<(), Error> {
    let Some(bytes) = passed_over(documents.document(INDEX, DOCUMENT_MAX))?.flatten() else { return Ok(()) };
    let Some(Document::Index(index)) = passed_over(parse(INDEX, &bytes, None))? else { return Ok(()) };
    for descriptor in index.manifests.iter().take(IMAGES_MAX) {
        let Some(plan) = passed_over(descend(documents, descriptor, machine, 0))? else { continue };
        let files = |plan: &ImagePlan| plan.layers.iter().map(|layer| layer.name.clone()).collect::<Vec<_>>();
        let wanted = files(&plan);
        for image in images.iter_mut().filter(|image| image.id == plan.id && image.manifest.is_none()) {
            if files(image) == wanted {
                image.manifest.clone_from(&plan.manifest);
                image.layers.clone_from(&plan.layers);
            }
        }
    }
    Ok(())
}

/// What a document says, or nothing when it makes no sense; a failure to read at all stays one.
fn passed_over<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(
            e @ (Error::NotAnImage(_)
            | Error::Document { .. }
            | Error::Mismatch { .. }
            | Error::Missing { .. }
            | Error::LayerCount { .. }
            | Error::Platform { .. }
            | Error::Name { .. }),
        ) => {
            log::debug!("the layout beside manifest.json is passed over: {e}");
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

fn parse(name: &str, bytes: &[u8], declared: Option<&str>) -> Result<Document, Error> {
    Document::parse(bytes, declared).map_err(|source| Error::Document { name: name.to_owned(), source })
}

/// The entries of an index that are images for a machine. Entries that name no platform always are.
fn fitting<'i>(index: &'i Index, machine: &Machine) -> Result<Vec<&'i Descriptor>, Error> {
    let host = machine.platform();
    let is_image = |d: &&Descriptor| !d.annotations.as_ref().is_some_and(|a| a.contains_key(ATTESTATION));
    let images: Vec<&Descriptor> = index.manifests.iter().filter(is_image).collect();
    let fits = |d: &&&Descriptor| d.platform.as_ref().is_none_or(|platform| platform.runs_on(&host));
    let fitting: Vec<&Descriptor> = images.iter().filter(fits).copied().collect();
    // A layout made for another machine on purpose can be loaded; it is a choice among several that must be made.
    match (fitting.as_slice(), images.as_slice()) {
        ([], [_]) if *machine == Machine::Host => Ok(images),
        ([], [_, ..]) => {
            let found: Vec<String> = images.iter().filter_map(|d| Some(d.platform.as_ref()?.to_string())).collect();
            Err(Error::Platform { host: host.to_string(), found: found.join(", ") })
        }
        _ => Ok(fitting),
    }
}

/// Follows a descriptor to its image, through nested indexes.
fn descend<D: Documents + ?Sized>(
    documents: &D,
    descriptor: &Descriptor,
    machine: &Machine,
    depth: usize,
) -> Result<ImagePlan, Error> {
    let name = blob_name(&descriptor.digest);
    let bytes = read_named(documents, "the manifest", &name, DOCUMENT_MAX, Some(descriptor.digest))?;
    check_size(&name, descriptor, &bytes)?;
    match parse(&name, &bytes, Some(&descriptor.media_type))? {
        Document::Manifest(manifest) => image(documents, &manifest, bytes),
        Document::Index(_) if depth >= DEPTH_MAX => {
            Err(Error::NotAnImage(format!("its indexes point to each other more than {DEPTH_MAX} deep")))
        }
        Document::Index(index) => match fitting(&index, machine)?.first() {
            Some(next) => descend(documents, next, machine, depth + 1),
            None => Err(Error::NotAnImage(format!("the index {name} is empty"))),
        },
    }
}

fn image<D: Documents + ?Sized>(documents: &D, manifest: &Manifest, bytes: Vec<u8>) -> Result<ImagePlan, Error> {
    let name = blob_name(&manifest.config.digest);
    let (config_bytes, config, id) = read_config(documents, &name, Some(manifest.config.digest))?;
    check_size(&name, &manifest.config, &config_bytes)?;
    check_count(manifest.layers.len(), &config)?;
    let layers = manifest.layers.iter().zip(config.diff_ids()).enumerate();
    let layers = layers.map(|(at, (layer, diff_id))| LayerPlan {
        number: at + 1,
        count: manifest.layers.len(),
        name: blob_name(&layer.digest),
        diff_id: *diff_id,
        blob: Some((layer.digest, Some(layer.size))),
    });
    Ok(ImagePlan { names: Vec::new(), config_bytes, id, manifest: Some(bytes), layers: layers.collect(), config })
}

fn check_size(name: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), Error> {
    if descriptor.size == bytes.len() as u64 {
        return Ok(());
    }
    let why = format!("it has {} bytes, the document that names it says {}", bytes.len(), descriptor.size);
    Err(Error::Document { name: name.to_owned(), source: BadDocument::Json { what: "the document", why } })
}

/// The name that the index gives an image.
fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>, Error> {
    let annotations = descriptor.annotations.as_ref();
    let name = annotations.and_then(|notes| NAME_ANNOTATIONS.iter().find_map(|key| notes.get(*key)));
    name.map(|name| Reference::parse(name).map_err(|source| Error::Name { name: name.clone(), source })).transpose()
}
