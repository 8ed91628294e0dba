//! The extended attributes by which a mount explains itself: `getfattr -n user.mica.layer FILE`, also inside a container.
//!
//! ```text
//! user.mica.layer            PLACE DIGEST [PATH]            the layer that serves it; a second line "content ..." where it is another
//! user.mica.layers           PLACE DIGEST VERDICT [PATH]    a line for each layer that has the name, top first
//! user.mica.realpath         the file on the host, or the pack and the object in it
//! user.mica.origin           PLACE DIGEST [PATH]            what an object in upper was copied from; none where it was made there
//! user.mica.explain          the text of `mica explain`
//! user.mica.whiteout-by      PLACE DIGEST HOW PATH          what hides what layers below have under this name
//! user.mica.whiteout-by.NAME the same for a name in this directory, which need not show
//! trusted.mica.*             the same, for root: the kernel answers no `user.` attribute of symlinks, devices, sockets and FIFOs
//! ```
//! PLACE is `upper` or a number, 1 being the lowest layer; DIGEST a diff id, or `-`; HOW is `whiteout`, `opaque` or `covered`.
//!
//! They are in no listing, so nothing copies them, and they cannot be set. Nothing of these names in a layer ever shows
//! ([`crate::layer::marks::virtual_xattr`]); other names that begin with `user.mica.` are anybody's.
//!
//! # What is told to whom
//! Paths of the host, and the commands that made the layers, are for root and for the owner of the mount, outside of containers: for a
//! process in this one's mount and user namespace. All others are told numbers and digests of layers, and paths inside of layers and of the mount; of attributes
//! of hidden objects no more than that. The process that asks waits for its answer, so its number cannot be another's.
//!
//! A node is explained under the path by which it was found last; a file with several names may have been asked for by another.

use std::fmt::Write;
use std::sync::Arc;

use super::attributes::sized;
use super::reply::Answer;
use super::request::Header;
use super::server::Server;
use super::watch::number;
use crate::explain;
use crate::explain::Explanation;
use crate::explain::Subject;
use crate::explain::subject;
use crate::explain::subject::LayerInfo;
use crate::explain::subject::Place;
use crate::explain::text;
use crate::explain::text::Style;
use crate::explain::trace::Cut;
use crate::explain::trace::How;
use crate::explain::trace::Step;
use crate::layer::Layer;
use crate::layer::handle::FdCache;
use crate::path::Escaped;
use crate::path::Name;
use crate::sys;
use crate::sys::Errno;
use crate::sys::process;
use crate::union::Error;
use crate::union::Result;
use crate::union::node::Node;
use crate::union::observe::Sheet;
use crate::union::observe::Verdict;

/// The longest value, in bytes: the kernel's.
const VALUE_MAX: usize = 64 * 1024;
/// How many descriptors one explanation keeps open.
const DESCRIPTORS: usize = 16;

/// A layer, as it is shown to the one who asks.
struct Shown {
    place: String,
    digest: String,
    /// The directory of a layer that is one, escaped; empty for packs, and where it is not to be known.
    path: String,
}

impl Server {
    /// The value of one of these attributes.
    ///
    /// # Errors
    /// `ENODATA` for another name, and where there is nothing to tell; those of reading the layers.
    pub(super) fn virtual_xattr(&self, caller: &Header, what: &[u8], size: u32) -> Result<Answer<'static>> {
        let node = self.node(caller.nodeid)?;
        let trusted = self.may_know_paths(caller);
        let value = match what {
            b"layer" => self.layer(&node, trusted),
            b"realpath" => self.realpath(&node, trusted),
            b"origin" => self.origin(&node, trusted)?,
            b"layers" => self.explained(&node, None, trusted)?.map(|said| layers(&said, trusted)),
            b"explain" => self.explained(&node, None, trusted)?.map(|said| text::picture(&said, Style::default())),
            b"whiteout-by" => self.explained(&node, None, trusted)?.and_then(|said| hider(&said)),
            _ => match what.strip_prefix(b"whiteout-by.").and_then(|name| Name::new(name).ok()) {
                Some(name) => self.explained(&node, Some(name), trusted)?.and_then(|said| hider(&said)),
                None => None,
            },
        };
        let mut value = value.ok_or(Error::Refused(Errno::NODATA))?.trim_end().as_bytes().to_vec();
        if value.len() > VALUE_MAX {
            // Better the beginning than nothing; the rest is what `mica explain` prints.
            value.truncate(VALUE_MAX);
        }
        sized(value, size)
    }

    /// Whether the caller may be told paths of the host.
    pub(super) fn may_know_paths(&self, caller: &Header) -> bool {
        [0, process::effective_uid()].contains(&caller.uid) && caller.pid != 0 && process::shares_namespaces(caller.pid)
    }

    fn shown(&self, sheet: Sheet, trusted: bool) -> Shown {
        let stack = self.union.stack();
        let layer = match sheet {
            Sheet::Upper => None,
            Sheet::Lower(at) => stack.layers.get(usize::from(at)),
        };
        let place = match number(sheet, stack.layers.len()) {
            0 => "upper".to_owned(),
            n => n.to_string(),
        };
        let digest = layer.map(|layer| layer.key()).filter(|key| is_digest(key));
        let path = match (layer, &digest) {
            _ if !trusted => String::new(),
            (Some(_), Some(_)) => String::new(),
            (Some(layer), None) => Escaped(layer.label().as_bytes()).to_string(),
            (None, _) => self.upper_path(),
        };
        Shown { place, digest: digest.unwrap_or_else(|| "-".to_owned()), path }
    }

    fn upper_path(&self) -> String {
        use std::os::unix::ffi::OsStrExt;
        let root = self.union.stack().upper.as_ref().and_then(|upper| upper.root.fd().ok());
        let path = root.and_then(|fd| sys::open::path_of(fd).ok());
        path.map_or_else(String::new, |path| Escaped(path.as_os_str().as_bytes()).to_string())
    }

    fn layer(&self, node: &Node, trusted: bool) -> Option<String> {
        let seat = self.union.seat_of(node)?;
        let mut out = line(&self.shown(seat.sheet, trusted));
        if let Some((content, _)) = seat.content {
            out.push_str(&format!("\ncontent {}", line(&self.shown(Sheet::Lower(content), trusted))));
        }
        Some(out)
    }

    /// Where the content lies; for those who may not know, in which layer and where in it.
    fn realpath(&self, node: &Node, trusted: bool) -> Option<String> {
        let seat = self.union.seat_of(node)?;
        let (sheet, location) = match seat.content {
            Some((layer, location)) => (Sheet::Lower(layer), location),
            None => (seat.sheet, seat.location?),
        };
        let shown = self.shown(sheet, trusted);
        Some(match (shown.digest.as_str(), trusted) {
            ("-", true) => format!("{}{location}", shown.path),
            ("-", false) => format!("{}:{}", shown.place, if location.is_empty() { "/" } else { &location }),
            _ => location,
        })
    }

    fn origin(&self, node: &Arc<Node>, trusted: bool) -> Result<Option<String>> {
        let Some(origin) = self.union.origin_told(node)? else { return Ok(None) };
        let shown = self.shown(Sheet::Lower(origin.layer), trusted);
        let mut out = format!("{} {}", shown.place, shown.digest);
        match origin.location {
            // A pack's says itself where it is.
            Some(location) if shown.digest == "-" => out.push_str(&format!(" {}{location}", shown.path)),
            Some(location) => out.push_str(&format!(" {location}")),
            None => {}
        }
        if let (Some(number), true) = (origin.number, trusted) {
            out.push_str(&format!(" inode {number}"));
        }
        Ok(Some(out))
    }

    /// The walk to a node, or to a name in it. `None` for what has no name any more.
    fn explained(&self, node: &Node, child: Option<Name<'_>>, trusted: bool) -> Result<Option<Explanation>> {
        let Some(mut path) = node.path() else { return Ok(None) };
        if let Some(name) = child {
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
        }
        let failed = |e: explain::Error| match e {
            explain::Error::Union(e) => e,
            _ => Error::Refused(Errno::INVAL),
        };
        let mut said = explain::explain(&self.subject(trusted).map_err(failed)?, &path, false).map_err(failed)?;
        if !trusted {
            redact(&mut said);
        }
        Ok(Some(said))
    }

    /// The stack as something to be explained; made anew each time, so that nothing it learns grows old.
    fn subject(&self, trusted: bool) -> explain::Result<Subject> {
        let stack = self.union.stack();
        let upper = stack.upper.as_ref().map(|upper| -> explain::Result<_> {
            let fd = sys::open::duplicate(&*upper.root.fd()?).map_err(crate::layer::Error::from)?;
            Ok((fd, self.upper_path()))
        });
        let count = stack.layers.len();
        let made = |at: usize| self.config.made.get(count - 1 - at).filter(|_| trusted).cloned().unwrap_or_default();
        let sheet = |(at, layer): (usize, &Arc<dyn Layer>)| subject::Sheet {
            layer: layer.clone(),
            digest: layer.key().parse().ok(),
            made: made(at),
            broken: None,
        };
        let sheets = stack.layers.iter().enumerate().map(sheet);
        let title = if trusted { &self.config.title } else { "this mount" };
        Subject::new(title, upper.transpose()?, sheets.collect(), FdCache::new(DESCRIPTORS))
    }
}

fn is_digest(key: &str) -> bool {
    key.parse::<crate::digest::Digest>().is_ok()
}

fn line(shown: &Shown) -> String {
    format!("{} {} {}", shown.place, shown.digest, shown.path).trim_end().to_owned()
}

fn place(info: &LayerInfo) -> String {
    match info.place {
        Place::Upper => "upper".to_owned(),
        Place::Layer(number) => number.to_string(),
    }
}

fn digest(info: &LayerInfo) -> String {
    info.digest.map_or_else(|| "-".to_owned(), |digest| digest.to_string())
}

/// Takes the host's paths out of an explanation.
fn redact(said: &mut Explanation) {
    for info in &mut said.layers {
        if info.digest.is_none() {
            info.label = "a directory".to_owned();
        }
    }
    let infos = &said.layers;
    for component in &mut said.components {
        if let Some(served) = &mut component.served
            && let Some(info) = infos.get(served.layer).filter(|info| info.digest.is_none())
        {
            served.location = format!("{} of {}", component.path, info.place);
        }
        for step in &mut component.steps {
            if let Verdict::Failed(why) = &mut step.verdict {
                *why = "it cannot be read".to_owned();
            }
        }
    }
}

/// A line for each layer that has the name, or deletes it.
fn layers(said: &Explanation, trusted: bool) -> String {
    let mut out = String::new();
    let Some(last) = said.components.last() else { return out };
    for step in &last.steps {
        let Some(info) = said.layers.get(step.layer) else { continue };
        let word = match &step.verdict {
            Verdict::NoParent | Verdict::Miss => continue,
            Verdict::Found { marks, .. } | Verdict::Merged { marks, .. } if marks.opaque => "opaque",
            Verdict::Found { .. } => "found",
            Verdict::Merged { .. } => "merged",
            Verdict::Whiteout => "whiteout",
            Verdict::Shadowed { .. } => "shadowed",
            Verdict::Failed(_) => "failed",
        };
        let path = if trusted && info.digest.is_none() { info.label.as_str() } else { "" };
        let text = format!("{} {} {word} {}", place(info), digest(info), Escaped(path.as_bytes()));
        // Writing to a `String` cannot fail.
        writeln!(out, "{}", text.trim_end()).unwrap_or_default();
    }
    out
}

/// What hides what the topmost layer has that does not show.
fn hider(said: &Explanation) -> Option<String> {
    let last = said.components.last()?;
    let hidden = |step: &&Step| matches!(step.verdict, Verdict::Shadowed { stat: Some(_) });
    let Cut { layer, path, how } = last.steps.iter().find(hidden)?.cut.as_ref()?;
    let info = said.layers.get(*layer)?;
    let how = match how {
        How::Whiteout => "whiteout",
        How::Opaque => "opaque",
        How::Covered => "covered",
    };
    Some(format!("{} {} {how} {path}", place(info), digest(info)))
}
