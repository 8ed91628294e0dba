//! What a check found.

use crate::image::Digest;

/// What kind of thing is wrong. [`Fault::tag`] is for programs and does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `images.json` cannot be read.
    Index,
    /// A name means an image that is not there.
    Name,
    /// An image's config is missing or damaged.
    Config,
    /// An image's manifest is missing or damaged.
    Manifest,
    /// A document that nothing refers to is damaged.
    Document,
    /// A layer that is needed is missing.
    Missing,
    /// A layer's index is damaged: nothing of it can be read.
    LayerIndex,
    /// A layer's pack file is damaged, but not the content of a file.
    Pack,
    /// The content of a file in a layer is damaged or missing.
    Content,
    /// A compressed layer that was kept as it came.
    Kept,
    /// An object that no layer uses is damaged.
    Object,
    /// A container's record or one of its directories.
    Container,
    /// A mount's record.
    Mount,
    /// `known.json`, which only saves work.
    Hints,
    /// A layer needs a newer mica to be judged.
    Newer,
}

impl Fault {
    /// Its name for programs.
    pub fn tag(self) -> &'static str {
        match self {
            Fault::Index => "index",
            Fault::Name => "name",
            Fault::Config => "config",
            Fault::Manifest => "manifest",
            Fault::Document => "document",
            Fault::Missing => "missing-layer",
            Fault::LayerIndex => "layer-index",
            Fault::Pack => "pack",
            Fault::Content => "content",
            Fault::Kept => "kept",
            Fault::Object => "object",
            Fault::Container => "container",
            Fault::Mount => "mount",
            Fault::Hints => "hints",
            Fault::Newer => "newer",
        }
    }
}

/// Who needs the layer that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// `image`, `container` or `mount`.
    pub what: &'static str,
    /// Its name, or its id when it has none.
    pub name: String,
    /// Which of its layers, from 1, lowest first.
    pub number: usize,
    /// How many layers it has.
    pub count: usize,
}

/// What became of a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No repair was asked for.
    Found,
    /// It is gone; says how.
    Repaired(&'static str),
    /// What was damaged is out of the way: loading the image brings it back.
    LoadAgain,
    /// Nothing can be done here; says what can.
    Left(&'static str),
    /// The repair failed.
    Failed(String),
}

/// One broken promise of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind.
    pub fault: Fault,
    /// What it is about, when no user says it: a file of the store, an image, a container.
    pub what: String,
    /// Who needs the layer, if it is about a layer.
    pub users: Vec<User>,
    /// The layer; or the image, document or object that it is about.
    pub layer: Option<Digest>,
    /// A container's id, and which of its directories is missing.
    pub dir: Option<(String, &'static str)>,
    /// The file in the layer, escaped for a terminal.
    pub path: Option<String>,
    /// What was found.
    pub why: String,
    /// What became of it.
    pub outcome: Outcome,
}

impl Problem {
    pub(super) fn new(fault: Fault, what: impl ToString, why: impl ToString) -> Self {
        Self {
            fault,
            what: what.to_string(),
            users: Vec::new(),
            layer: None,
            dir: None,
            path: None,
            why: why.to_string(),
            outcome: Outcome::Found,
        }
    }

    /// Where it is, in words: `image debian:12, layer 3 of 8, /usr/bin/foo`.
    pub fn place(&self) -> String {
        let mut text = match self.users.as_slice() {
            [] => self.what.clone(),
            [first, rest @ ..] => {
                let others = match rest.len() {
                    0 => String::new(),
                    1 => " (and one more)".to_owned(),
                    n => format!(" (and {n} more)"),
                };
                format!("{} {}{others}, layer {} of {}", first.what, first.name, first.number, first.count)
            }
        };
        if let Some(path) = &self.path {
            text.push_str(&format!(", {path}"));
        }
        text
    }

    /// Whether nothing is left to be done about it.
    pub fn is_settled(&self) -> bool {
        matches!(self.outcome, Outcome::Repaired(_))
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Broken promises.
    pub problems: Vec<Problem>,
    /// Configs and manifests that nothing refers to; harmless.
    pub loose_blobs: usize,
    /// Layers that nothing refers to; harmless.
    pub loose_layers: usize,
    /// Objects that no layer uses; harmless.
    pub loose_objects: usize,
    /// Bytes of these blobs, objects, and of the packs and indexes of these layers.
    pub loose_bytes: u64,
    /// Files of processes that were killed; harmless. Zero when another process is at work: then they may be its.
    pub leftovers: u64,
    /// Whether another process was adding to the store.
    pub busy: bool,
    /// Whether the unreferenced data and the leftovers were removed.
    pub collected: bool,
    /// What was read.
    pub checked: Checked,
}

/// How much a check has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Images.
    pub images: usize,
    /// Layers.
    pub layers: usize,
    /// Objects.
    pub objects: usize,
    /// Configs and manifests.
    pub documents: usize,
}

impl Report {
    /// How many problems are still there.
    pub fn unsettled(&self) -> usize {
        self.problems.iter().filter(|problem| !problem.is_settled()).count()
    }
}
