//! An explanation as JSON, for programs.
//!
//! ```text
//! { "schema": 1, "target": TEXT, "path": TEXT,
//!   "status": "found" | "hidden" | "never" | "unresolvable", "exit": 0 | 1 | 2 | 2,
//!   "reason": TEXT | null                          for people
//!   "layers": [{ "layer", "digest", "label", "created_by" }]      top first
//!   "components": [{ "name": TEXT, "path": TEXT,   where it was looked for; name is null for the root
//!       "steps": [{ "layer", "digest", "verdict": "miss" | "found" | "merged" | "whiteout" | "shadowed" | "no-parent" | "failed",
//!                   "name": TEXT | null            what a redirect made of the name in this layer
//!                   "stat", "marks", "location",   null where the verdict has none
//!                   "hidden_by": CUT | null, "error": TEXT | null, "created_by" }]      one for each layer, top first
//!       "result": KIND | "absent",
//!       "link": { "text": TEXT, "followed": BOOL } | null }]
//!   "served": { "layer", "digest", "created_by", "location", "stat", "marks",
//!               "content": { "layer", "location" } | null      where the bytes of a copy of attributes alone lie
//!               "origin": { "layer", "number" } | null } | null,      which object of which layer was copied up
//!   "hidden": { "layer", "digest", "by": CUT | null } | null }    the topmost layer that has what does not show
//!
//! layer  "upper", or a number: 1 is the lowest           digest  "sha256:..." | null
//! stat   { "kind": KIND, "mode": "0644", "uid", "gid", "size", "mtime": { "secs", "nanos" }, "nlink", "rdev": "MAJOR:MINOR" | null }
//! marks  { "opaque": BOOL, "redirect": TEXT | null, "metacopy": BOOL, "blocks": NUMBER }: `blocks` only where a metacopy has some of its
//!          content, in units of 128 KiB
//! CUT    { "layer", "digest", "path": TEXT, "how": "whiteout" | "opaque" | "covered" }
//! KIND   "file" | "dir" | "symlink" | "char" | "block" | "fifo" | "socket"
//! ```
//! A whiteout below another one is `shadowed` without `stat`. All TEXT, of names and of commands, is escaped as everywhere in mica:
//! bytes that are no printable UTF-8 as `\xNN`, a backslash as `\\`. Fields may be added; those that are here keep their meaning.

use serde_json::Value;
use serde_json::json;

use super::subject::LayerInfo;
use super::subject::Place;
use super::trace::Component;
use super::trace::Cut;
use super::trace::Explanation;
use super::trace::Outcome;
use super::trace::Step;
use crate::layer::Marks;
use crate::layer::Parts;
use crate::path::Escaped;
use crate::sys::attr;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::union::observe::Verdict;

/// The version of the document's shape.
pub const SCHEMA: u32 = 1;

/// The document.
pub fn document(explanation: &Explanation) -> Value {
    let layers = explanation.layers.as_slice();
    let (status, reason) = match &explanation.outcome {
        Outcome::Found => ("found", None),
        Outcome::Hidden { .. } => ("hidden", None),
        Outcome::Never => ("never", None),
        Outcome::Unresolvable(why) => ("unresolvable", Some(why)),
    };
    let served = explanation.served().map(|served| {
        let info = layers.get(served.layer);
        json!({
            "layer": number(info), "digest": info.and_then(|i| i.digest), "created_by": info.and_then(made_by),
            "content": served.content.as_ref().map(|(layer, place)| json!({ "layer": number(layers.get(*layer)), "location": place })),
            "origin": served.origin.as_ref().map(|origin| json!({
                "layer": origin.layer.map(|layer| number(layers.get(layer))), "number": origin.number,
            })),
            "location": served.location, "stat": stat(&served.stat), "marks": marks(&served.marks),
        })
    });
    let hidden = match &explanation.outcome {
        Outcome::Hidden { layer, by } => {
            let info = layers.get(*layer);
            let by = by.as_ref().map(|by| cut(by, layers));
            Some(json!({ "layer": number(info), "digest": info.and_then(|i| i.digest), "by": by }))
        }
        _ => None,
    };
    let stack = layers.iter().map(|info| {
        let label = text(info.label.as_bytes());
        json!({ "layer": number(Some(info)), "digest": info.digest, "label": label, "created_by": made_by(info) })
    });
    json!({
        "schema": SCHEMA,
        "target": text(explanation.target.as_bytes()),
        "path": text(&explanation.path),
        "status": status,
        "exit": explanation.outcome.exit_code(),
        "reason": reason,
        "layers": stack.collect::<Vec<_>>(),
        "components": explanation.components.iter().map(|c| component(c, layers)).collect::<Vec<_>>(),
        "served": served,
        "hidden": hidden,
    })
}

fn component(component: &Component, layers: &[LayerInfo]) -> Value {
    let name = component.path.split_last().map(|(_, name)| name.to_string());
    let link = component.link.as_ref().map(|link| json!({ "text": text(&link.text), "followed": link.followed }));
    json!({
        "name": name,
        "path": component.path.to_string(),
        "steps": component.steps.iter().map(|s| step(s, layers)).collect::<Vec<_>>(),
        "result": component.served.as_ref().map_or("absent", |served| kind(served.stat.kind())),
        "link": link,
    })
}

fn step(step: &Step, layers: &[LayerInfo]) -> Value {
    let info = layers.get(step.layer);
    let (seen, marked, place) = match &step.verdict {
        Verdict::Found { stat, marks, location } | Verdict::Merged { stat, marks, location } => {
            (Some(stat), Some(marks), info.map(|info| info.locate(location)))
        }
        Verdict::Shadowed { stat } => (stat.as_ref(), None, None),
        _ => (None, None, None),
    };
    let error = match &step.verdict {
        Verdict::Failed(why) => Some(text(why.as_bytes())),
        _ => None,
    };
    json!({
        "layer": number(info),
        "digest": info.and_then(|info| info.digest),
        "verdict": word(&step.verdict),
        "name": step.asked.as_ref().map(ToString::to_string),
        "stat": seen.map(stat),
        "marks": marked.map(marks),
        "location": place,
        "hidden_by": step.cut.as_ref().map(|by| cut(by, layers)),
        "error": error,
        "created_by": info.and_then(made_by),
    })
}

/// A verdict in one word; the same in text and JSON.
pub(super) fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::NoParent => "no-parent",
        Verdict::Miss => "miss",
        Verdict::Whiteout => "whiteout",
        Verdict::Found { .. } => "found",
        Verdict::Merged { .. } => "merged",
        Verdict::Shadowed { .. } => "shadowed",
        Verdict::Failed(_) => "failed",
    }
}

pub(super) fn cut(cut: &Cut, layers: &[LayerInfo]) -> Value {
    let info = layers.get(cut.layer);
    json!({ "layer": number(info), "digest": info.and_then(|i| i.digest), "path": cut.path.to_string(), "how": cut.how.word() })
}

pub(super) fn number(info: Option<&LayerInfo>) -> Value {
    match info.map(|info| info.place) {
        Some(Place::Upper) => json!("upper"),
        Some(Place::Layer(number)) => json!(number),
        None => Value::Null,
    }
}

pub(super) fn stat(stat: &Stat) -> Value {
    let (major, minor) = attr::dev_parts(stat.rdev);
    let rdev = matches!(stat.kind(), Kind::Char | Kind::Block).then(|| format!("{major}:{minor}"));
    json!({
        "kind": kind(stat.kind()),
        "mode": format!("{:04o}", stat.mode & attr::PERM_MASK),
        "uid": stat.uid,
        "gid": stat.gid,
        "size": stat.size,
        "mtime": { "secs": stat.mtime.secs, "nanos": stat.mtime.nanos },
        "nlink": stat.nlink,
        "rdev": rdev,
    })
}

pub(super) fn marks(marks: &Marks) -> Value {
    let redirect = marks.redirect.as_ref().map(|redirect| text(&redirect.print()));
    let mut said = json!({ "opaque": marks.opaque, "redirect": redirect, "metacopy": marks.metacopy.is_some() });
    let blocks = marks.metacopy.as_ref().map_or(0, Parts::len);
    if let Some(said) = said.as_object_mut().filter(|_| blocks > 0) {
        said.insert("blocks".to_owned(), blocks.into());
    }
    said
}

pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "dir",
        Kind::Symlink => "symlink",
        Kind::Char => "char",
        Kind::Block => "block",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

fn made_by(info: &LayerInfo) -> Option<String> {
    info.made.created_by.as_ref().map(|command| text(command.as_bytes()))
}

pub(super) fn text(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}
