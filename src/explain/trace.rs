//! Following a path through a union, and keeping what every layer said on the way.

use std::collections::VecDeque;

use super::Error;
use super::Result;
use super::subject::LayerInfo;
use super::subject::Subject;
use crate::layer::Marks;
use crate::path::BadName;
use crate::path::Escaped;
use crate::path::Name;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::union::copy_up;
use crate::union::lookup::Dirs;
use crate::union::lookup::InUpper;
use crate::union::lookup::Lower;
use crate::union::lookup::Target;
use crate::union::observe::Sheet;
use crate::union::observe::Trail;
use crate::union::observe::Verdict;

/// How many symlinks one path may lead through, as in the kernel.
pub const LINKS_MAX: usize = 40;
/// The longest symlink text that is followed, in bytes; the kernel's `PATH_MAX`.
const TEXT_MAX: usize = 4096;

/// A path, explained.
#[derive(Debug)]
pub struct Explanation {
    /// What the user calls the stack.
    pub target: String,
    /// The path as it was asked for.
    pub path: Vec<u8>,
    /// The layers, top first.
    pub layers: Vec<LayerInfo>,
    /// The lookups that were made, in order; those on the way through symlinks, too.
    pub components: Vec<Component>,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether the path was followed to its last name.
    pub(super) complete: bool,
}

impl Explanation {
    /// What serves the path, with the position of its layer; `None` unless it was found.
    pub fn served(&self) -> Option<&Served> {
        if self.outcome != Outcome::Found {
            return None;
        }
        self.components.last()?.served.as_ref()
    }
}

/// What came of following a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The union shows it.
    Found,
    /// A layer has it, but it does not show.
    Hidden {
        /// The topmost layer that has it, by its position.
        layer: usize,
        /// What hides it there.
        by: Option<Cut>,
    },
    /// No layer has it.
    Never,
    /// The path leads through symlinks that cannot be followed; says why.
    Unresolvable(String),
}

impl Outcome {
    /// The exit code of a command that was asked for a path: 0 found, 1 hidden, 2 there is nothing.
    pub fn exit_code(&self) -> u8 {
        match self {
            Outcome::Found => 0,
            Outcome::Hidden { .. } => 1,
            Outcome::Never | Outcome::Unresolvable(_) => 2,
        }
    }
}

/// The lookup of one name.
#[derive(Debug)]
pub struct Component {
    /// Where in the union it was looked for, with the name; the root for a look at the root itself.
    pub path: RelPath,
    /// What each layer said, top first; one for each layer.
    pub steps: Vec<Step>,
    /// What the union shows.
    pub served: Option<Served>,
    /// The text of a symlink, if it is one.
    pub link: Option<Link>,
}

/// A symlink on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its text.
    pub text: Vec<u8>,
    /// Whether the path was followed through it.
    pub followed: bool,
}

/// What one layer said about one name.
#[derive(Debug)]
pub struct Step {
    /// The layer, by its position.
    pub layer: usize,
    /// The name looked for in this layer, where a redirect made it another one.
    pub asked: Option<NameBuf>,
    /// What it said.
    pub verdict: Verdict,
    /// What hides it, where it is shadowed.
    pub cut: Option<Cut>,
}

/// What the union shows under a name.
#[derive(Debug, Clone)]
pub struct Served {
    /// The layer, by its position; of a merged directory the topmost.
    pub layer: usize,
    /// The attributes there.
    pub stat: Stat,
    /// The marks there.
    pub marks: Marks,
    /// Where it lies, for people.
    pub location: String,
    /// Where its content lies, if this is a copy of attributes alone: the layer, by its position, and the place there.
    pub content: Option<(usize, String)>,
    /// What it is a copy of, if upper has a record of that.
    pub origin: Option<Origin>,
}

/// Which lower object a copy in upper was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The layer, by its position; `None` when it is not in this stack.
    pub layer: Option<usize>,
    /// The object's number in that layer.
    pub number: u64,
}

/// What hides the layers below a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The layer that hides, by its position.
    pub layer: usize,
    /// At which path of the union.
    pub path: RelPath,
    /// By what.
    pub how: How,
}

/// By what a layer hides those below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A whiteout.
    Whiteout,
    /// An opaque directory.
    Opaque,
    /// An object of its own that does not merge with what is below.
    Covered,
}

/// Follows `path` through the stack. Symlinks in the middle are followed inside of the union; the last name's only with `follow`, or
/// when a slash stands behind it.
///
/// # Errors
/// [`Error::Path`]; the first error of a layer whose word would have counted.
pub fn explain(subject: &Subject, path: &[u8], follow: bool) -> Result<Explanation> {
    let bad = |why| Error::Path { path: Escaped(path).to_string(), why };
    let parts = parse(path).map_err(bad)?;
    let mut tracer = Tracer { subject, follow: follow || path.ends_with(b"/"), components: Vec::new(), complete: true };
    let outcome = tracer.run(parts)?;
    Ok(Explanation {
        target: subject.title().to_owned(),
        path: path.to_vec(),
        layers: subject.layers().to_vec(),
        components: tracer.components,
        outcome,
        complete: tracer.complete,
    })
}

/// One part of a path.
enum Part {
    /// `..`
    Up,
    Name(NameBuf),
}

fn parse(path: &[u8]) -> std::result::Result<VecDeque<Part>, BadName> {
    let parts = path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| if part == b".." { Ok(Part::Up) } else { NameBuf::new(part).map(Part::Name) }).collect()
}

/// A directory on the way, and where each layer stands there.
struct Frame {
    path: RelPath,
    /// What the union merges here; `None` where it shows no directory.
    dirs: Option<Dirs>,
    /// By the layer's number in the view.
    own: Vec<Own>,
}

/// What one layer has at a place, whether or not it shows.
#[derive(Default)]
struct Own {
    dir: Option<Lower>,
    /// What hides it; `None` where it shows.
    cut: Option<Cut>,
}

struct Tracer<'a> {
    subject: &'a Subject,
    follow: bool,
    components: Vec<Component>,
    complete: bool,
}

impl Tracer<'_> {
    fn run(&mut self, mut parts: VecDeque<Part>) -> Result<Outcome> {
        let mut frames = vec![self.root_frame()];
        let mut links = 0;
        let mut named = false;
        while let Some(part) = parts.pop_front() {
            let Some(here) = frames.last() else { break };
            let name = match part {
                Part::Name(name) => name,
                Part::Up if here.dirs.is_none() => {
                    self.complete = false;
                    return Ok(Outcome::Never);
                }
                Part::Up => {
                    if frames.len() > 1 {
                        frames.pop();
                    }
                    named = false;
                    continue;
                }
            };
            let (mut component, next) = self.look(here, name.as_name())?;
            self.say_broken(&mut component);
            named = true;
            let dead_end = next.dirs.is_none() && next.own.iter().all(|own| own.dir.is_none());
            if let Some(link) = component.link.as_mut().filter(|_| self.follow || !parts.is_empty()) {
                link.followed = true;
                let text = link.text.clone();
                self.components.push(component);
                links += 1;
                match resolve(&text, links) {
                    Err(why) => {
                        self.complete = false;
                        return Ok(Outcome::Unresolvable(why));
                    }
                    Ok(target) => target.into_iter().rev().for_each(|part| parts.push_front(part)),
                }
                if text.starts_with(b"/") {
                    frames.truncate(1);
                }
                named = false;
                continue;
            }
            self.components.push(component);
            if dead_end && !parts.is_empty() {
                self.complete = false;
                return Ok(Outcome::Never);
            }
            frames.push(next);
        }
        if !named {
            self.look_again(&frames)?;
        }
        Ok(self.outcome())
    }

    /// The path ended at a directory by `..`, by a symlink to one, or was `/`: that directory is what is asked for.
    fn look_again(&mut self, frames: &[Frame]) -> Result<()> {
        let component = match frames {
            [.., parent, here] => match here.path.split_last() {
                Some((_, name)) => self.look(parent, name)?.0,
                None => self.root_component()?,
            },
            _ => self.root_component()?,
        };
        let mut component = component;
        self.say_broken(&mut component);
        self.components.push(component);
        Ok(())
    }

    /// What stands in the place of a layer that cannot be read has nothing: that is not what the layer said.
    fn say_broken(&self, component: &mut Component) {
        for (layer, info) in self.subject.layers().iter().enumerate() {
            if let (Some(why), Some(step)) = (&info.broken, component.steps.get_mut(layer)) {
                (step.verdict, step.cut) = (Verdict::Failed(why.clone()), None);
            }
        }
    }

    fn outcome(&self) -> Outcome {
        let Some(last) = self.components.last() else { return Outcome::Never };
        if last.served.is_some() {
            return Outcome::Found;
        }
        let hidden = last.steps.iter().find(|step| matches!(step.verdict, Verdict::Shadowed { stat: Some(_) }));
        hidden.map_or(Outcome::Never, |step| Outcome::Hidden { layer: step.layer, by: step.cut.clone() })
    }

    /// Looks one name up, in the union and in the layers that the union does not show here.
    fn look(&self, parent: &Frame, name: Name<'_>) -> Result<(Component, Frame)> {
        let view = self.subject.view();
        let path = parent.path.child(name);
        let mut trail = Trail::default();
        let target = match &parent.dirs {
            Some(dirs) => view.walk(dirs, name, &mut trail)?,
            None => None,
        };
        let (mut steps, decider) = self.steps(&path, name, trail);
        let mut own = Vec::with_capacity(parent.own.len());
        for (number, above) in (0u16..).zip(&parent.own) {
            let shown = target.iter().flat_map(|t| &t.lowers).find(|lower| lower.layer == number);
            if let Some(shown) = shown {
                let dir = (shown.obj.kind() == Kind::Dir).then(|| shown.clone());
                own.push(Own { dir, cut: None });
                continue;
            }
            let Some(step) = steps.get_mut(self.subject.position(number)) else { continue };
            own.push(self.look_hidden(above, step, name, decider.as_ref()));
        }
        let link = target.as_ref().map(|target| link_of(parent, name, target)).transpose()?.flatten();
        let mut served = target.as_ref().and_then(|target| self.served(target, &steps));
        if let (Some(served), Some(upper)) = (&mut served, target.as_ref().and_then(|target| target.upper.as_ref())) {
            served.origin = self.origin(parent, name, upper)?;
        }
        let component = Component { path: path.clone(), steps, served, link };
        Ok((component, Frame { path, dirs: target.and_then(into_dirs), own }))
    }

    /// A step for each layer out of those that the walk made, and what hides the layers that it did not reach.
    fn steps(&self, path: &RelPath, name: Name<'_>, trail: Trail) -> (Vec<Step>, Option<Cut>) {
        let count = self.subject.layers().len();
        let mut steps: Vec<Step> =
            (0..count).map(|layer| Step { layer, asked: None, verdict: Verdict::NoParent, cut: None }).collect();
        let mut decider: Option<Cut> = None;
        let mut first = None;
        for (sheet, asked, verdict) in trail.steps {
            let layer = match sheet {
                Sheet::Upper => 0,
                Sheet::Lower(number) => self.subject.position(number),
            };
            let cut = |layer, how| Some(Cut { layer, path: path.clone(), how });
            let mut hidden_by = None;
            match &verdict {
                Verdict::Found { stat, marks, .. } | Verdict::Merged { stat, marks, .. } => {
                    first = first.or(Some(layer));
                    if stat.kind() != Kind::Dir {
                        decider = cut(layer, How::Covered);
                    } else if marks.opaque {
                        decider = cut(layer, How::Opaque);
                    }
                }
                Verdict::Whiteout => decider = cut(layer, How::Whiteout),
                Verdict::Shadowed { .. } => {
                    // Without a decider this is the first object under a directory that is none: it ends the merging.
                    hidden_by = decider.clone().or_else(|| cut(first.unwrap_or(layer), How::Covered));
                    decider = decider.or_else(|| cut(layer, How::Covered));
                }
                Verdict::NoParent | Verdict::Miss | Verdict::Failed(_) => {}
            }
            let asked = (asked.as_name() != name).then_some(asked);
            if let Some(step) = steps.get_mut(layer) {
                *step = Step { layer, asked, verdict, cut: hidden_by };
            }
        }
        (steps, decider)
    }

    /// What a layer has under a name although the union does not show it; completes the layer's step.
    fn look_hidden(&self, above: &Own, step: &mut Step, name: Name<'_>, decider: Option<&Cut>) -> Own {
        let asked_already = !matches!(step.verdict, Verdict::NoParent);
        let Some(dir) = above.dir.as_ref() else { return Own::default() };
        if asked_already && !matches!(step.verdict, Verdict::Shadowed { stat: Some(_) }) {
            return Own::default();
        }
        let name = step.asked.as_ref().map_or(name, NameBuf::as_name);
        let mut trail = Trail::default();
        let found = match self.subject.view().walk_alone(dir, name, &mut trail) {
            Ok(found) => found,
            Err(e) => {
                step.verdict = Verdict::Failed(e.to_string());
                return Own::default();
            }
        };
        let cut = above.cut.as_ref().or(step.cut.as_ref()).or(decider).cloned();
        let Some(target) = found else {
            if matches!(trail.steps.as_slice(), [(_, _, Verdict::Whiteout), ..]) {
                (step.verdict, step.cut) = (Verdict::Shadowed { stat: None }, cut);
            }
            return Own::default();
        };
        step.verdict = Verdict::Shadowed { stat: Some(target.stat) };
        step.cut.clone_from(&cut);
        let dir = target.lowers.into_iter().next().filter(|lower| lower.obj.kind() == Kind::Dir);
        Own { dir, cut }
    }

    fn served(&self, target: &Target, steps: &[Step]) -> Option<Served> {
        let layer = match (&target.upper, target.lowers.first()) {
            (Some(_), _) => 0,
            (None, Some(lower)) => self.subject.position(lower.layer),
            (None, None) => return None,
        };
        let (marks, location) = match &steps.get(layer)?.verdict {
            Verdict::Found { marks, location, .. } => (marks.clone(), location),
            _ => return None,
        };
        let location = self.subject.layers().get(layer)?.locate(location);
        let content = steps.iter().find_map(|step| match &step.verdict {
            Verdict::Merged { stat, location, .. } if stat.kind() == Kind::File => {
                Some((step.layer, self.subject.layers().get(step.layer)?.locate(location)))
            }
            _ => None,
        });
        Some(Served { layer, stat: target.stat, marks, location, content, origin: None })
    }

    /// The record that copy-up leaves on a copy.
    fn origin(&self, parent: &Frame, name: Name<'_>, upper: &InUpper) -> Result<Option<Origin>> {
        let Some(dir) = parent.dirs.as_ref().and_then(|dirs| dirs.upper.as_ref()) else { return Ok(None) };
        let record = match upper {
            InUpper::Dir(handle) => copy_up::origin_record(&*handle.fd()?)?,
            InUpper::New => None,
            InUpper::Other(_) => match sys::open::path_at(&*dir.fd()?, name) {
                Ok(fd) => copy_up::origin_record(&fd)?,
                // It went since it was seen: a running mount changes its upper.
                Err(_) => None,
            },
        };
        let parsed = record.as_deref().and_then(|record| std::str::from_utf8(record).ok()?.rsplit_once(':'));
        let Some((key, Ok(number))) = parsed.map(|(key, number)| (key, number.parse())) else { return Ok(None) };
        let layers = 0..self.subject.layers().len();
        let layer = layers.into_iter().find(|layer| self.subject.key(*layer).as_deref() == Some(key));
        Ok(Some(Origin { layer, number }))
    }

    fn root_frame(&self) -> Frame {
        let view = self.subject.view();
        let dirs = view.root().clone();
        // An opaque root hides the roots below it: the last one that still merges.
        let last = dirs.lowers.last().map_or(0, |lower| self.subject.position(lower.layer));
        let own = view.roots().iter().map(|root| {
            let shown = dirs.lowers.iter().any(|lower| lower.layer == root.layer);
            let cut = (!shown).then(|| Cut { layer: last, path: RelPath::root(), how: How::Opaque });
            Own { dir: Some(root.clone()), cut }
        });
        let own = own.collect();
        Frame { path: RelPath::root(), dirs: Some(dirs), own }
    }

    /// The root, for which there is no lookup: what it is merged of.
    fn root_component(&self) -> Result<Component> {
        let view = self.subject.view();
        let mut steps = Vec::new();
        let mut served = None;
        let mut show = |steps: &mut Vec<Step>, stat: Stat, marks: Marks, location: String| {
            let layer = steps.len();
            let first = served.is_none();
            if first {
                let location = self.subject.layers().get(layer).map_or_else(String::new, |info| info.locate(&location));
                served = Some(Served { layer, stat, marks: marks.clone(), location, content: None, origin: None });
            }
            let verdict = if first {
                Verdict::Found { stat, marks, location }
            } else {
                Verdict::Merged { stat, marks, location }
            };
            steps.push(Step { layer, asked: None, verdict, cut: None });
        };
        if let Some(upper) = &view.root().upper {
            let stat = sys::attr::fstat(&*upper.fd()?).map_err(crate::layer::Error::from)?;
            show(&mut steps, stat, crate::layer::dir::dir_marks(upper, false)?, upper.path());
        }
        let frame = self.root_frame();
        for (root, own) in view.roots().iter().zip(&frame.own) {
            let stat = root.obj.stat()?;
            if own.cut.is_none() {
                show(&mut steps, stat, root.obj.marks()?, root.obj.location());
            } else {
                let verdict = Verdict::Shadowed { stat: Some(stat) };
                steps.push(Step { layer: steps.len(), asked: None, verdict, cut: own.cut.clone() });
            }
        }
        Ok(Component { path: RelPath::root(), steps, served, link: None })
    }
}

/// The parts of a symlink's text, which is the `links`th on the way.
fn resolve(text: &[u8], links: usize) -> std::result::Result<VecDeque<Part>, String> {
    if links > LINKS_MAX {
        return Err(format!("it leads through more than {LINKS_MAX} symlinks"));
    }
    if text.is_empty() || text.len() > TEXT_MAX {
        return Err(format!("a symlink's text has {} bytes", text.len()));
    }
    parse(text).map_err(|why| format!("a symlink's text is no path: {why}"))
}

/// The text of what was found, if it is a symlink.
fn link_of(parent: &Frame, name: Name<'_>, target: &Target) -> Result<Option<Link>> {
    if target.kind() != Kind::Symlink {
        return Ok(None);
    }
    let upper = parent.dirs.as_ref().and_then(|dirs| dirs.upper.as_ref());
    let text = match (&target.upper, upper, target.lowers.first()) {
        (Some(_), Some(dir), _) => sys::name::readlink(&*dir.fd()?, name).map_err(crate::layer::Error::from)?,
        (None, _, Some(lower)) => lower.obj.readlink()?,
        _ => return Ok(None),
    };
    Ok(Some(Link { text, followed: false }))
}

/// The directory that a target is, if it is one.
pub(super) fn into_dirs(target: Target) -> Option<Dirs> {
    if target.kind() != Kind::Dir {
        return None;
    }
    let upper = match target.upper {
        Some(InUpper::Dir(handle)) => Some(handle),
        _ => None,
    };
    Some(Dirs { upper, lowers: target.lowers.into() })
}
