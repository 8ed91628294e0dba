//! A stack that is only looked at: no lock, no work directory, no nodes, nothing written.
//!
//! It looks names up by the walk that a mount uses, so a live mount's upper can be explained while the mount serves.

use std::sync::Arc;

use super::error::Error;
use super::error::Result;
use super::lookup;
use super::lookup::Dirs;
use super::lookup::Lower;
use super::lookup::Roots;
use super::lookup::Target;
use super::observe::Observer;
use super::stack::MAX_LAYERS;
use crate::layer::Layer;
use crate::layer::handle::DirHandle;
use crate::path::Name;

/// Layers in order, with at most one upper directory, for looking only.
#[derive(Debug, Clone)]
pub struct View {
    root: Dirs,
    roots: Roots,
}

impl View {
    /// A view of `layers`, top first, below `upper`.
    ///
    /// # Errors
    /// When a layer's root cannot be read, there is no layer at all, or there are too many.
    pub fn new(upper: Option<Arc<DirHandle>>, layers: &[Arc<dyn Layer>]) -> Result<Self> {
        if layers.len() > MAX_LAYERS || (layers.is_empty() && upper.is_none()) {
            return Err(Error::Setup(format!("a stack needs 1 to {MAX_LAYERS} layers, not {}", layers.len())));
        }
        let lower = |(i, layer): (usize, &Arc<dyn Layer>)| -> Result<Lower> {
            Ok(Lower { layer: u16::try_from(i).unwrap_or(u16::MAX), obj: layer.root()? })
        };
        let roots = Roots(layers.iter().enumerate().map(lower).collect::<Result<_>>()?);
        let lowers = lookup::merge(upper.as_ref(), &roots)?;
        Ok(Self { root: Dirs { upper, lowers }, roots })
    }

    /// The directories that the root is merged of.
    pub fn root(&self) -> &Dirs {
        &self.root
    }

    /// The roots of all lower layers, top first; those that an opaque root hides, too.
    pub fn roots(&self) -> &[Lower] {
        &self.roots.0
    }

    /// Looks `name` up in `parent`, and tells `observer` what each layer said.
    ///
    /// # Errors
    /// The first error of a layer that was asked.
    pub fn walk(&self, parent: &Dirs, name: Name<'_>, observer: &mut impl Observer) -> Result<Option<Target>> {
        lookup::walk(parent, &self.roots, name, observer)
    }

    /// Looks `name` up in one directory of one lower layer, as if there were no other layer.
    ///
    /// # Errors
    /// The layer's.
    pub fn walk_alone(&self, parent: &Lower, name: Name<'_>, observer: &mut impl Observer) -> Result<Option<Target>> {
        let dirs = Dirs { upper: None, lowers: vec![parent.clone()].into() };
        let own: Vec<Lower> = self.roots.0.iter().filter(|root| root.layer == parent.layer).cloned().collect();
        lookup::walk(&dirs, &Roots(own.into()), name, observer)
    }
}
