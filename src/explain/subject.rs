//! What is explained: a stack, and what is known of each of its layers.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Result;
use crate::digest::Digest;
use crate::layer::Layer;
use crate::layer::handle::DirHandle;
use crate::layer::handle::FdCache;
use crate::path::Escaped;
use crate::union::view::View;

/// Where a layer stands in its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The writable directory on top.
    Upper,
    /// A read-only layer, counted as images count: 1 is the lowest.
    Layer(usize),
}

impl fmt::Display for Place {
    /// `upper` or `layer 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Upper => f.write_str("upper"),
            Place::Layer(number) => write!(f, "layer {number}"),
        }
    }
}

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Where it stands.
    pub place: Place,
    /// The diff id of an image layer.
    pub digest: Option<Digest>,
    /// The path of a directory, the digest of an image layer; for people.
    pub label: String,
    /// The command that made an image layer, as its config tells.
    pub created_by: Option<String>,
}

impl LayerInfo {
    /// Where in the world an object of this layer lies, by what the layer says of it: an absolute path for directories.
    pub fn locate(&self, location: &str) -> String {
        match self.digest {
            Some(_) => location.to_owned(),
            None => format!("{}{location}", Escaped(self.label.as_bytes())),
        }
    }
}

/// A layer of a [`Subject`], with the command that made it.
#[derive(Debug, Clone)]
pub struct Sheet {
    /// The layer.
    pub layer: Arc<dyn Layer>,
    /// Its diff id, if it is an image layer.
    pub digest: Option<Digest>,
    /// The command that made it.
    pub created_by: Option<String>,
}

/// A stack that is explained.
#[derive(Debug)]
pub struct Subject {
    title: String,
    infos: Vec<LayerInfo>,
    has_upper: bool,
    view: View,
}

impl Subject {
    /// A stack of `sheets`, top first, below the upper directory `upper` (open, with its path for people). `title` is what the user
    /// calls it. Nothing is locked, and nothing will be written.
    ///
    /// # Errors
    /// When a root cannot be read, or there is no layer at all.
    pub fn new(
        title: impl Into<String>,
        upper: Option<(OwnedFd, String)>,
        sheets: Vec<Sheet>,
        fds: Arc<FdCache>,
    ) -> Result<Self> {
        let count = sheets.len();
        let mut infos = Vec::with_capacity(count + 1);
        let mut handle = None;
        if let Some((fd, label)) = upper {
            handle = Some(DirHandle::root(fd, fds)?);
            infos.push(LayerInfo { place: Place::Upper, digest: None, label, created_by: None });
        }
        let mut layers = Vec::with_capacity(count);
        for (i, sheet) in sheets.into_iter().enumerate() {
            let label = sheet.layer.label();
            let place = Place::Layer(count - i);
            infos.push(LayerInfo { place, digest: sheet.digest, label, created_by: sheet.created_by });
            layers.push(sheet.layer);
        }
        let has_upper = handle.is_some();
        Ok(Self { title: title.into(), infos, has_upper, view: View::new(handle, &layers)? })
    }

    /// What the user calls it.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Its layers, top first, the upper included.
    pub fn layers(&self) -> &[LayerInfo] {
        &self.infos
    }

    /// The stack, to look names up.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The position in [`Subject::layers`] of a lower layer's number in the view.
    pub(super) fn position(&self, lower: u16) -> usize {
        usize::from(lower) + usize::from(self.has_upper)
    }
}
