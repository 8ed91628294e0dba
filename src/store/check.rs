//! Checking the invariants of a store.

use super::Result;
use super::Store;
use crate::image::Digest;

/// One broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about: an image, a container, a file.
    pub what: String,
    /// What is wrong.
    pub why: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Broken invariants.
    pub problems: Vec<Problem>,
    /// Configs and manifests that nothing refers to; harmless.
    pub loose_blobs: usize,
    /// Layers that nothing refers to; harmless.
    pub loose_layers: usize,
}

impl Report {
    fn problem(&mut self, what: impl ToString, why: impl ToString) {
        self.problems.push(Problem { what: what.to_string(), why: why.to_string() });
    }
}

impl Store {
    /// Checks that everything that is referred to is there, and that each document has its digest (I2 to I5, I7). The bytes
    /// of the layers are not read.
    ///
    /// # Errors
    /// When the store cannot be read at all; damage is in the report.
    pub fn check(&self) -> Result<Report> {
        let mut report = Report::default();
        let present = self.layers().list()?;
        let mut needed = super::gc::Needed::default();
        match self.images() {
            Ok(images) => {
                for (name, id) in &images.names {
                    if !images.images.contains_key(id) {
                        report.problem(name, format!("means the image {id}, which is not in the index"));
                    }
                }
                for (id, entry) in &images.images {
                    needed.blobs.insert(*id);
                    match self.config(id) {
                        Ok(config) => needed.layers.extend(config.diff_ids()),
                        Err(e) => report.problem(format!("image {id}"), e),
                    }
                    if let Some(manifest) = entry.manifest {
                        needed.blobs.insert(manifest);
                        if let Err(e) = self.need_blob(&manifest) {
                            report.problem(format!("image {id}"), e);
                        }
                    }
                }
            }
            Err(e) => report.problem("images.json", e),
        }
        match self.containers() {
            Ok(containers) => {
                for container in containers {
                    needed.blobs.insert(container.image_id);
                    needed.layers.extend(container.layers);
                }
            }
            Err(e) => report.problem("containers", e),
        }
        match self.mounts() {
            Ok(mounts) => needed.layers.extend(mounts.into_iter().flat_map(|mount| mount.layers)),
            Err(e) => report.problem("mounts", e),
        }
        let missing: Vec<&Digest> = needed.layers.iter().filter(|layer| !present.contains(layer)).collect();
        for layer in missing {
            report.problem(format!("layer {layer}"), "it is needed, but not there");
        }
        report.loose_layers = present.iter().filter(|layer| !needed.layers.contains(layer)).count();
        for digest in self.blob_digests()? {
            if let Err(e) = self.blob(&digest) {
                report.problem(format!("blob {digest}"), e);
            }
            report.loose_blobs += usize::from(!needed.blobs.contains(&digest));
        }
        for digest in self.kept()? {
            if let Some(why) = self.check_kept(&digest)? {
                report.problem(format!("kept layer file {digest}"), why);
            }
        }
        Ok(report)
    }
}
