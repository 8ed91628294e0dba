//! What is explained: a stack, and what is known of each of its layers.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::Result;
use crate::digest::Digest;
use crate::layer::Layer;
use crate::layer::Obj;
use crate::layer::dir::DirLayer;
use crate::layer::handle::FdCache;
use crate::layer::mem::MemLayer;
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
    /// How an image layer came to be, as its config tells.
    pub made: Made,
    /// Why the layer cannot be read, where it is looked past: it then counts as empty.
    pub broken: Option<String>,
}

/// How an image layer came to be, in the words of the image's config. They are anybody's: escape them before they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Made {
    /// The command.
    pub created_by: Option<String>,
    /// By whom.
    pub author: Option<String>,
    /// When, RFC 3339.
    pub created: Option<String>,
    /// The message.
    pub comment: Option<String>,
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

/// A layer of a [`Subject`], with what is known of it.
#[derive(Debug, Clone)]
pub struct Sheet {
    /// The layer.
    pub layer: Arc<dyn Layer>,
    /// Its diff id, if it is an image layer.
    pub digest: Option<Digest>,
    /// How it came to be.
    pub made: Made,
    /// Why it cannot be read, if `layer` stands in its place.
    pub broken: Option<String>,
}

impl Sheet {
    /// A layer of which nothing more is known.
    pub fn bare(layer: Arc<dyn Layer>) -> Self {
        Self { layer, digest: None, made: Made::default(), broken: None }
    }

    /// An image layer that cannot be read: nothing stands in its place, and every step of a walk there says that it failed.
    ///
    /// # Errors
    /// When there is no memory for nothing.
    pub fn broken(digest: Digest, made: Made, why: String) -> Result<Self> {
        let layer = MemLayer::new(&digest.to_string(), &[])?;
        Ok(Self { layer: Arc::new(layer), digest: Some(digest), made, broken: Some(why) })
    }
}

/// A stack that is explained.
#[derive(Debug, Clone)]
pub struct Subject {
    title: String,
    infos: Vec<LayerInfo>,
    /// Top first, without the upper.
    layers: Vec<Arc<dyn Layer>>,
    /// The upper directory, as something that is looked at.
    upper: Option<Arc<DirLayer>>,
    view: View,
}

impl Subject {
    /// A stack of `sheets`, top first, below the upper directory `upper` (open, with its path for people). `title` is what the user
    /// calls it. Nothing is locked, and nothing will be written. With neither, the stack is an empty directory.
    ///
    /// # Errors
    /// When a root cannot be read.
    pub fn new(
        title: impl Into<String>,
        upper: Option<(OwnedFd, String)>,
        sheets: Vec<Sheet>,
        fds: Arc<FdCache>,
    ) -> Result<Self> {
        let count = sheets.len();
        let mut infos = Vec::with_capacity(count + 1);
        let upper = upper
            .map(|(fd, label)| {
                let dir = DirLayer::from_fd(fd, Path::new(&label), fds)?;
                let made = Made::default();
                infos.push(LayerInfo { place: Place::Upper, digest: None, label, made, broken: None });
                Ok::<_, crate::layer::Error>(Arc::new(dir))
            })
            .transpose()?;
        let mut layers = Vec::with_capacity(count);
        for (i, sheet) in sheets.into_iter().enumerate() {
            let label = sheet.layer.label();
            let place = Place::Layer(count - i);
            infos.push(LayerInfo { place, digest: sheet.digest, label, made: sheet.made, broken: sheet.broken });
            layers.push(sheet.layer);
        }
        Self::of(title.into(), infos, upper, layers)
    }

    fn of(
        title: String,
        infos: Vec<LayerInfo>,
        upper: Option<Arc<DirLayer>>,
        layers: Vec<Arc<dyn Layer>>,
    ) -> Result<Self> {
        let handle = upper.as_ref().map(|upper| upper.handle().clone());
        let view = match (&handle, layers.is_empty()) {
            (None, true) => View::new(None, &[Arc::new(MemLayer::new("nothing", &[])?)])?,
            _ => View::new(handle, &layers)?,
        };
        Ok(Self { title, infos, layers, upper, view })
    }

    /// The stack of only the lowest `count` layers, with the upper as the last one. 0 makes an empty directory.
    ///
    /// # Errors
    /// [`super::Error::TooFew`] when there are not so many; when a root cannot be read.
    pub fn first(&self, count: usize) -> Result<Self> {
        let too_few = || super::Error::TooFew { title: self.title.clone(), count, has: self.infos.len() };
        let skip = self.infos.len().checked_sub(count).ok_or_else(too_few)?;
        let lower_skip = skip.saturating_sub(usize::from(self.upper.is_some()));
        let layers = self.layers.iter().skip(lower_skip).cloned().collect();
        let upper = self.upper.clone().filter(|_| skip == 0);
        Self::of(self.title.clone(), self.infos.iter().skip(skip).cloned().collect(), upper, layers)
    }

    /// The same stack under another title.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// What the user calls it.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Its layers, top first, the upper included.
    pub fn layers(&self) -> &[LayerInfo] {
        &self.infos
    }

    /// The layers that cannot be read and count as empty, top first.
    pub fn broken(&self) -> impl Iterator<Item = &LayerInfo> {
        self.infos.iter().filter(|info| info.broken.is_some())
    }

    /// Whether one object may show under several paths beside hard links: directories on disk may redirect, image layers cannot.
    pub fn redirects(&self) -> bool {
        self.infos.iter().any(|info| info.digest.is_none())
    }

    /// The stack, to look names up.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The root of each layer, top first, the upper included, with its position.
    ///
    /// # Errors
    /// When a root cannot be read.
    pub fn roots(&self) -> Result<Vec<(usize, Obj)>> {
        let upper = self.upper.iter().map(|upper| upper.root());
        let all = upper.chain(self.layers.iter().map(|layer| layer.root()));
        all.enumerate().map(|(at, root)| Ok((at, root?))).collect()
    }

    /// The name of a layer's contents ([`Layer::key`]), by its position; two subjects may share layers.
    pub fn key(&self, position: usize) -> Option<String> {
        match (&self.upper, position.checked_sub(usize::from(self.upper.is_some()))) {
            (Some(upper), None) => Some(upper.key()),
            (_, Some(at)) => self.layers.get(at).map(|layer| layer.key()),
            (None, None) => None,
        }
    }

    /// The size in bytes of an image layer's tar, by its position; `None` for directories and what cannot be read.
    pub fn tar_size(&self, position: usize) -> Option<u64> {
        let at = position.checked_sub(usize::from(self.upper.is_some()))?;
        self.layers.get(at)?.tar_size()
    }

    /// The position in [`Subject::layers`] of a lower layer's number in the view.
    pub fn position(&self, lower: u16) -> usize {
        usize::from(lower) + usize::from(self.upper.is_some())
    }
}
