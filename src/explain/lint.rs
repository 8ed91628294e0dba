//! What is wrong with an image that nobody sees in a container of it: `mica lint`.
//!
//! Each rule looks at the versions that layers have of a path, never at the union alone. Content is read only where a name or a
//! size makes it worthwhile: the heads of files that do not show, and files that a layer has again in the same size.

mod rules;

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::Result;
use super::content;
use super::layers::Entry;
use super::layers::Folder;
use super::layers::Has;
use super::layers::State;
use super::layers::Version;
use super::layers::walk;
use super::subject::Subject;
use super::trace::Cut;
use super::trace::How;
use crate::digest::Digest;
use crate::layer::Obj;
use crate::path::RelPath;
use crate::sys::attr::Kind;
use crate::sys::attr::PERM_MASK;
use crate::sys::attr::Stat;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Costs space or is a sign of a mistake.
    Low,
    /// Costs much space, or breaks something.
    Medium,
    /// Tells a secret, or takes a protection away.
    High,
}

impl Severity {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The rule, in one word that stays.
    pub rule: &'static str,
    /// Where.
    pub path: RelPath,
    /// The layer, by its position.
    pub layer: usize,
    /// Bytes that the image would be smaller by; 0 where that is not the matter.
    pub wasted: u64,
    /// What is wrong, for people; names in it are escaped.
    pub what: String,
    /// What to do.
    pub fix: &'static str,
}

/// The least that is worth a word about space, in bytes.
pub const WASTE_MIN: u64 = 32 * 1024;
/// From here on waste is more than low.
const WASTE_MUCH: u64 = 10 << 20;
/// How many bytes of a file are looked at for a secret.
const HEAD: usize = 4096;
/// The largest file that is looked at for a secret by its content alone.
const SECRET_MAX: u64 = 64 * 1024;

/// Looks for everything that is wrong; the worst first.
///
/// # Errors
/// When a layer cannot be read.
pub fn lint(subject: &Subject) -> Result<Vec<Finding>> {
    let mut lint = Lint::new(subject);
    walk(subject, &RelPath::root(), &mut |folder, entry| lint.entry(folder, entry).map(|()| true))?;
    Ok(lint.done())
}

struct Lint<'a> {
    subject: &'a Subject,
    found: Vec<Finding>,
    /// Caches that were left: what it is, its directory, layer; with bytes that show and bytes that do not.
    caches: BTreeMap<(&'static str, RelPath, usize), (u64, u64)>,
    /// Bytes of one layer that another one hides.
    hidden: FxHashMap<(usize, usize), (u64, u64)>,
    contents: FxHashMap<Digest, Vec<(usize, RelPath, u64)>>,
    linked: rustc_hash::FxHashSet<(usize, crate::layer::ObjectId)>,
    /// Where directories redirect, what is hidden under one path may show under another: both are kept until the end.
    redirects: bool,
    shown: rustc_hash::FxHashSet<(usize, crate::layer::ObjectId)>,
    maybe: FxHashMap<(usize, crate::layer::ObjectId), (usize, u64)>,
}

impl<'a> Lint<'a> {
    fn new(subject: &'a Subject) -> Self {
        Self {
            subject,
            found: Vec::new(),
            caches: BTreeMap::new(),
            hidden: FxHashMap::default(),
            contents: FxHashMap::default(),
            linked: rustc_hash::FxHashSet::default(),
            redirects: subject.redirects(),
            shown: rustc_hash::FxHashSet::default(),
            maybe: FxHashMap::default(),
        }
    }

    fn entry(&mut self, folder: &Folder, entry: &Entry) -> Result<()> {
        let path = folder.path.child(entry.name.as_name());
        let mut above: Option<&Version> = None;
        for version in &entry.versions {
            match &version.has {
                Has::Whiteout => self.whiteout(&path, version, entry),
                Has::Object { obj, stat, marks } => {
                    if marks.opaque && stat.kind() == Kind::Dir {
                        self.opaque(&path, version, entry);
                    }
                    if stat.kind() == Kind::File {
                        let is_copy = match above {
                            Some(above) => self.pair(&path, above, version)?,
                            None => false,
                        };
                        self.secret(&path, version, obj, stat)?;
                        self.bytes(&path, version, obj, stat, is_copy)?;
                    }
                }
            }
            above = Some(version);
        }
        Ok(())
    }

    fn tag(&self, layer: usize) -> String {
        self.subject.layers().get(layer).map_or_else(String::new, |info| info.place.to_string())
    }

    fn push(
        &mut self,
        severity: Severity,
        rule: &'static str,
        path: &RelPath,
        layer: usize,
        what: String,
        fix: &'static str,
    ) {
        self.found.push(Finding { severity, rule, path: path.clone(), layer, wasted: 0, what, fix });
    }

    /// A whiteout with nothing in any layer below it.
    fn whiteout(&mut self, path: &RelPath, version: &Version, entry: &Entry) {
        if !entry.versions.iter().any(|other| other.layer > version.layer) {
            let what = "a whiteout of a name that no layer below has".to_owned();
            self.push(
                Severity::Low,
                "useless-whiteout",
                path,
                version.layer,
                what,
                "nothing is lost; the tool that made the layer is imprecise",
            );
        }
    }

    /// A directory that hides one in a layer below, and so all that is in it.
    fn opaque(&mut self, path: &RelPath, version: &Version, entry: &Entry) {
        let mut below = entry.versions.iter().filter(|other| other.layer > version.layer);
        let hides_dir = below.any(|other| other.object().is_some_and(|(obj, _)| obj.kind() == Kind::Dir));
        let (what, fix) = if hides_dir {
            (
                "an opaque directory: everything that layers below have in it is hidden, and still in the image",
                "if it was removed and made anew, do both in the step that made it first; if not, the mark is a mistake of the tool",
            )
        } else {
            (
                "an opaque directory with nothing below it to hide",
                "nothing is lost; the tool that made the layer is imprecise",
            )
        };
        self.push(Severity::Low, "opaque", path, version.layer, what.to_owned(), fix);
    }

    /// Compares a file with the version right below it; whether it is the same content again.
    fn pair(&mut self, path: &RelPath, above: &Version, below: &Version) -> Result<bool> {
        let (Has::Object { obj: new, stat: is, marks }, Some((old, was))) = (&above.has, below.object()) else {
            return Ok(false);
        };
        if is.kind() != Kind::File
            || marks.metacopy.is_some()
            || matches!(&below.state, State::Hidden(Some(cut)) if cut.path != *path)
        {
            return Ok(false);
        }
        self.protection(path, above, (new, is), (old, was))?;
        if is.size == 0 || is.size != was.size || content::same(old, new)? != Some(true) {
            return Ok(false);
        }
        if is.size >= WASTE_MIN {
            let why = match (is.mode & PERM_MASK != was.mode & PERM_MASK, (is.uid, is.gid) != (was.uid, was.gid)) {
                (true, true) => "to change its mode and owner",
                (true, false) => "to change its mode",
                (false, true) => "to change its owner",
                (false, false) => "without a change of content, mode or owner",
            };
            self.found.push(Finding {
                severity: if is.size >= WASTE_MUCH { Severity::Medium } else { Severity::Low },
                rule: "copied-for-attributes",
                path: path.clone(),
                layer: above.layer,
                wasted: is.size,
                what: format!("copied whole from {} {why}", self.tag(below.layer)),
                fix: "set mode and owner where the file is made: COPY --chmod --chown, or chmod and chown in the same RUN",
            });
        }
        Ok(true)
    }

    /// A replacement that lost a file capability or a set-id bit.
    fn protection(&mut self, path: &RelPath, above: &Version, new: (&Obj, &Stat), old: (&Obj, &Stat)) -> Result<()> {
        const CAPABILITY: &[u8] = b"security.capability";
        const SET_ID: u32 = 0o6000;
        if old.1.kind() != Kind::File {
            return Ok(());
        }
        if old.0.xattr(CAPABILITY)?.is_some() && new.0.xattr(CAPABILITY)?.is_none() {
            let what = "the file had capabilities in a layer below, and has none any more".to_owned();
            let fix = "copying by a tool that drops extended attributes loses them: give them again with setcap, in this step";
            self.push(Severity::High, "lost-capability", path, above.layer, what, fix);
        }
        let lost = old.1.mode & SET_ID & !new.1.mode;
        if lost != 0 {
            let what = format!(
                "the file lost a set-id bit: mode {:04o} became {:04o}",
                old.1.mode & PERM_MASK,
                new.1.mode & PERM_MASK
            );
            let fix = "chown and copying clear set-id bits: set them again with chmod behind it, in this step";
            self.push(Severity::Medium, "lost-set-id", path, above.layer, what, fix);
        }
        Ok(())
    }

    fn secret(&mut self, path: &RelPath, version: &Version, obj: &Obj, stat: &Stat) -> Result<()> {
        if stat.size == 0 || stat.size > rules::SECRET_FILE_MAX {
            return Ok(());
        }
        let by_name = rules::secret_name(path);
        let hidden = !version.is_shown();
        if by_name.is_none() && (!hidden || stat.size > SECRET_MAX) {
            return Ok(());
        }
        let by_content = rules::secret_content(&content::head(obj, HEAD)?);
        let kind = match (by_name, by_content) {
            (_, Some(kind)) => kind,
            (Some(named), None) if named.sure => named.what,
            _ => return Ok(()),
        };
        let cut = match &version.state {
            State::Hidden(cut) => cut.as_ref(),
            _ => None,
        };
        let (severity, what) = match (hidden, cut) {
            (true, Some(cut)) => {
                let how = if cut.how == How::Whiteout { "deleted" } else { "hidden" };
                (
                    Severity::High,
                    format!("{kind}, {how} by {}, is still in the image for everybody to read", self.tag(cut.layer)),
                )
            }
            (true, None) => (
                Severity::High,
                format!("{kind}, hidden by an upper layer, is still in the image for everybody to read"),
            ),
            (false, _) => (Severity::Medium, format!("{kind} is in the image")),
        };
        let fix = if hidden {
            "take it as revoked: replace the secret, and build with RUN --mount=type=secret so that no layer has it"
        } else {
            "if it is a real secret: replace it, and give it to the build or the container as a secret"
        };
        self.push(severity, if hidden { "deleted-secret" } else { "secret" }, path, version.layer, what, fix);
        Ok(())
    }

    /// Counts a file's bytes for the rules about space.
    fn bytes(&mut self, path: &RelPath, version: &Version, obj: &Obj, stat: &Stat, is_copy: bool) -> Result<()> {
        let size = version.content_size();
        let key = (version.layer, obj.id());
        if self.redirects && version.is_shown() {
            self.shown.insert(key);
        }
        if stat.nlink > 1 && !self.linked.insert((version.layer, obj.id())) {
            return Ok(());
        }
        if let Some((what, dir)) = rules::cache(path) {
            let sums = self.caches.entry((what, dir, version.layer)).or_default();
            let sum = if version.is_shown() { &mut sums.0 } else { &mut sums.1 };
            *sum = sum.saturating_add(size);
        } else if let State::Hidden(Some(Cut { layer, .. })) = &version.state
            && !is_copy
        {
            if self.redirects {
                self.maybe.insert(key, (*layer, size));
                return Ok(());
            }
            let sums = self.hidden.entry((version.layer, *layer)).or_default();
            *sums = (sums.0.saturating_add(size), sums.1 + 1);
        }
        if let Some(digest) = obj.digest()?.filter(|_| version.is_shown() && size > 0) {
            self.contents.entry(digest).or_default().push((version.layer, path.clone(), size));
        }
        Ok(())
    }

    fn done(mut self) -> Vec<Finding> {
        self.caches();
        for ((layer, id), (by, size)) in std::mem::take(&mut self.maybe) {
            if !self.shown.contains(&(layer, id)) {
                let sums = self.hidden.entry((layer, by)).or_default();
                *sums = (sums.0.saturating_add(size), sums.1 + 1);
            }
        }
        self.hidden();
        self.duplicates();
        let mut found = self.found;
        found.sort_by(|a, b| {
            let key = |f: &Finding| (std::cmp::Reverse((f.severity, f.wasted)), f.rule);
            key(a).cmp(&key(b)).then_with(|| (a.layer, &a.path).cmp(&(b.layer, &b.path)))
        });
        found
    }

    fn caches(&mut self) {
        for ((what, path, layer), (shown, hidden)) in std::mem::take(&mut self.caches) {
            let wasted = shown.saturating_add(hidden);
            if wasted < WASTE_MIN {
                continue;
            }
            let text = match (shown, hidden) {
                (0, _) => format!("{what}, deleted in a later layer, which does not make the image smaller"),
                _ => format!("{what}, left in the image"),
            };
            let severity = if wasted >= WASTE_MUCH { Severity::Medium } else { Severity::Low };
            let fix = "remove it in the same RUN that fills it, or keep it out with RUN --mount=type=cache";
            self.found.push(Finding { severity, rule: "cache", path, layer, wasted, what: text, fix });
        }
    }

    fn hidden(&mut self) {
        for ((layer, by), (wasted, files)) in std::mem::take(&mut self.hidden) {
            if wasted < WASTE_MIN {
                continue;
            }
            let what = format!("{files} files of {} are deleted or replaced by {}", self.tag(layer), self.tag(by));
            let severity = if wasted >= WASTE_MUCH { Severity::Medium } else { Severity::Low };
            let fix = "do both in one step, or copy only what is wanted out of a build stage; 'mica find --deleted' lists them";
            self.found.push(Finding { severity, rule: "wasted", path: RelPath::root(), layer, wasted, what, fix });
        }
    }

    fn duplicates(&mut self) {
        for (_, mut same) in std::mem::take(&mut self.contents) {
            let mut paths: Vec<RelPath> = same.iter().map(|(_, path, _)| path.clone()).collect();
            paths.sort_unstable();
            paths.dedup();
            same.sort();
            let (Some((layer, path, size)), true) = (same.first().cloned(), paths.len() > 1) else { continue };
            let wasted = size.saturating_mul(paths.len() as u64 - 1);
            let others = paths.iter().filter(|other| **other != path);
            let mut names: Vec<String> = others.clone().take(3).map(ToString::to_string).collect();
            if others.count() > 3 {
                names.push("...".to_owned());
            }
            self.found.push(Finding {
                severity: if wasted >= WASTE_MUCH { Severity::Medium } else { Severity::Low },
                rule: "duplicate",
                path,
                layer,
                wasted,
                what: format!("has the same content as {}", names.join(", ")),
                fix: "keep one and link to it; 'mica find --dup' lists all",
            });
        }
    }
}
