//! What the commands beside `explain` say, as JSON for programs.
//!
//! ```text
//! which  { "schema", "target", "path", "resolved": TEXT, "status", "exit",      as in `super::json`
//!          "versions": [{ "layer", "digest", "state": "served" | "merged" | "deletes" | "hidden", "kind": KIND | "whiteout",
//!                         "stat", "marks", "location", "content": "sha256:..." | null, "hides": BOOL, "hidden_by": CUT | null, MADE }],
//!          "above": [CUT] }                                        what hides a directory on the way
//! log    { ..., "revisions": [{ "layer", "digest", "change": "A" | "C" | "D", "differences": [DIFFERENCE], "before": stat | null,
//!                               "after": stat | null, MADE }] }    newest first
//! blame  { "schema", "target", "path", "entries": [{ "path", "layer", "digest", "stat", "link": TEXT | null, MADE }] }
//! diff   { "schema", "before": TEXT, "after": TEXT, "path", "changes": [{ "kind": "A" | "C" | "D", "path", "differences", "before", "after" }] }
//! du     { "schema", "target", "path", "total": USAGE, "layers": [{ "layer", "digest", USAGE, MADE }], "directories": [{ "path", USAGE }] }
//! find   { "schema", "target", "path", "found": [{ "path", "layer", "digest", "kind", "stat", "shown", "content", "hidden_by" }] }
//! find --dup    { ..., "found": [{ "content", "size", "extra", "files": [as above] }] }
//! lint   { "schema", "target", "findings": [{ "severity", "rule", "path", "layer", "digest", "wasted", "what", "fix" }] }
//!
//! MADE        "created_by", "author", "created", "comment": TEXT | null
//! DIFFERENCE  { "what": "kind" | "mode" | "owner" | "size" | "content" | "link" | "device" | "xattr" | "mtime" | "entries", "before", "after": TEXT }
//! USAGE       "files", "total", "shown", "wasted", "unique", "shared"      bytes but for files
//! ```
//! Layers, stats, marks, cuts and TEXT are those of [`super::json`].

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::blame::Line;
use super::changes::Changed;
use super::compare::Difference;
use super::compare::Item;
use super::find::Hit;
use super::find::Same;
use super::json::SCHEMA;
use super::json::cut;
use super::json::kind;
use super::json::marks;
use super::json::number;
use super::json::stat;
use super::json::text;
use super::layers::Has;
use super::layers::State;
use super::layers::Version;
use super::lint::Finding;
use super::log::Log;
use super::subject::LayerInfo;
use super::subject::Made;
use super::subject::Subject;
use super::trace::Outcome;
use super::usage::Report;
use super::usage::Usage;
use super::versions::Row;
use super::versions::Versions;

/// Joins objects.
fn with(mut value: Value, more: Value) -> Value {
    if let (Some(map), Value::Object(more)) = (value.as_object_mut(), more) {
        map.extend(more);
    }
    value
}

/// The fields that name a layer.
fn layer(info: Option<&LayerInfo>) -> Value {
    json!({ "layer": number(info), "digest": info.and_then(|info| info.digest) })
}

fn made(info: Option<&LayerInfo>) -> Value {
    let empty = Made::default();
    let made = info.map_or(&empty, |info| &info.made);
    let word = |word: &Option<String>| word.as_ref().map(|word| text(word.as_bytes()));
    json!({
        "created_by": word(&made.created_by), "author": word(&made.author),
        "created": word(&made.created), "comment": word(&made.comment),
    })
}

/// What every document begins with.
pub fn opening(subject: &Subject, path: &[u8]) -> Value {
    json!({ "schema": SCHEMA, "target": text(subject.title().as_bytes()), "path": text(path) })
}

fn status(outcome: &Outcome) -> Value {
    let word = match outcome {
        Outcome::Found => "found",
        Outcome::Hidden { .. } => "hidden",
        Outcome::Never => "never",
        Outcome::Unresolvable(_) => "unresolvable",
    };
    json!({ "status": word, "exit": outcome.exit_code() })
}

/// One word for what becomes of a version; the same in text and JSON.
pub fn state_word(state: &State) -> &'static str {
    match state {
        State::Served => "served",
        State::Merged => "merged",
        State::Deletes => "deletes",
        State::Hidden(_) => "hidden",
    }
}

/// The document of `which`.
pub fn which(subject: &Subject, versions: &Versions) -> Value {
    let layers = subject.layers();
    let rows = versions.rows.iter().filter_map(|row| match row {
        Row::Version { version, digest, hides } => {
            let info = layers.get(version.layer);
            let more = json!({ "content": digest, "hides": hides });
            Some(with(with(with(layer(info), self::version(version, layers)), more), made(info)))
        }
        Row::Above(_) => None,
    });
    let above = versions.rows.iter().filter_map(|row| match row {
        Row::Above(by) => Some(cut(by, layers)),
        Row::Version { .. } => None,
    });
    let found = json!({
        "resolved": versions.path.to_string(),
        "versions": rows.collect::<Vec<_>>(), "above": above.collect::<Vec<_>>(),
    });
    let opening = opening(subject, &versions.explanation.path);
    with(with(opening, status(&versions.explanation.outcome)), found)
}

fn version(version: &Version, layers: &[LayerInfo]) -> Value {
    let hidden_by = match &version.state {
        State::Hidden(Some(by)) => Some(cut(by, layers)),
        _ => None,
    };
    let state = state_word(&version.state);
    match &version.has {
        Has::Whiteout => json!({
            "state": state, "kind": "whiteout", "stat": null, "marks": null, "location": null, "hidden_by": hidden_by,
        }),
        Has::Object { obj, stat: seen, marks: marked } => json!({
            "state": state, "kind": kind(seen.kind()), "stat": stat(seen), "marks": marks(marked),
            "location": layers.get(version.layer).map(|info| info.locate(&obj.location())), "hidden_by": hidden_by,
        }),
    }
}

fn difference(difference: &Difference) -> Value {
    let (what, before, after) = difference.words();
    json!({ "what": what, "before": before, "after": after })
}

fn item(item: Option<&Item>) -> Option<Value> {
    item.map(|item| stat(&item.stat))
}

/// The document of `log`.
pub fn log(subject: &Subject, path: &[u8], log: &Log) -> Value {
    let revisions = log.revisions.iter().map(|revision| {
        let info = subject.layers().get(revision.layer);
        let what = json!({
            "change": revision.change.letter().to_string(),
            "differences": revision.differences.iter().map(difference).collect::<Vec<_>>(),
            "before": item(revision.before.as_ref()), "after": item(revision.after.as_ref()),
            "from": revision.from.as_ref().map(|from| {
                with(layer(subject.layers().get(from.layer)), json!({ "location": from.location }))
            }),
        });
        with(with(layer(info), what), made(info))
    });
    let revisions = json!({ "resolved": log.path.to_string(), "revisions": revisions.collect::<Vec<_>>() });
    with(with(opening(subject, path), status(&log.outcome)), revisions)
}

/// One entry of `blame`.
pub fn blamed(subject: &Subject, line: &Line) -> Value {
    let info = subject.layers().get(line.layer);
    let what = json!({ "stat": stat(&line.stat), "link": line.link.as_ref().map(|link| text(link)) });
    with(with(with(json!({ "path": line.path.to_string() }), layer(info)), what), made(info))
}

/// One change of `diff`.
pub fn changed(changed: &Changed) -> Value {
    json!({
        "kind": changed.change.letter().to_string(),
        "path": changed.path.to_string(),
        "differences": changed.differences.iter().map(difference).collect::<Vec<_>>(),
        "before": item(changed.before.as_ref()), "after": item(changed.after.as_ref()),
    })
}

/// What the document of `diff` begins with.
pub fn compared(before: &Subject, after: &Subject, path: &[u8]) -> Value {
    let name = |subject: &Subject| text(subject.title().as_bytes());
    json!({ "schema": SCHEMA, "before": name(before), "after": name(after), "path": text(path) })
}

fn sums(usage: &Usage) -> Value {
    json!({
        "files": usage.files, "total": usage.total, "shown": usage.shown, "wasted": usage.wasted,
        "unique": usage.unique(), "shared": usage.shared,
    })
}

/// The document of `du`; directories as they are given.
pub fn usage(subject: &Subject, path: &[u8], report: &Report, dirs: &[(&crate::path::RelPath, &Usage)]) -> Value {
    let layers = subject.layers().iter().zip(&report.layers);
    let layers = layers.map(|(info, usage)| with(with(layer(Some(info)), sums(usage)), made(Some(info))));
    let dirs = dirs.iter().map(|(path, usage)| with(json!({ "path": path.to_string() }), sums(usage)));
    let all = json!({
        "total": sums(&report.total), "layers": layers.collect::<Vec<_>>(), "directories": dirs.collect::<Vec<_>>(),
    });
    with(opening(subject, path), all)
}

/// One thing that `find` found.
pub fn hit(subject: &Subject, hit: &Hit) -> Value {
    let layers = subject.layers();
    let what = json!({
        "kind": hit.stat.as_ref().map_or("whiteout", |stat| kind(stat.kind())),
        "stat": hit.stat.as_ref().map(stat), "shown": hit.shown, "content": hit.digest,
        "hidden_by": hit.cut.as_ref().map(|by| cut(by, layers)),
    });
    with(with(json!({ "path": hit.path.to_string() }), layer(layers.get(hit.layer))), what)
}

/// One group of files with the same content.
pub fn same(subject: &Subject, same: &Same) -> Value {
    json!({
        "content": same.digest, "size": same.size, "extra": same.extra(),
        "files": same.hits.iter().map(|one| hit(subject, one)).collect::<Vec<_>>(),
    })
}

/// The document of `lint`.
pub fn lint(subject: &Subject, findings: &[Finding]) -> Value {
    let findings = findings.iter().map(|found| {
        let info = subject.layers().get(found.layer);
        let what = json!({ "severity": found.severity.word(), "rule": found.rule, "path": found.path.to_string() });
        let more = json!({ "wasted": found.wasted, "what": found.what, "fix": found.fix });
        with(with(what, layer(info)), more)
    });
    let mut document = Map::new();
    document.insert("schema".to_owned(), json!(SCHEMA));
    document.insert("target".to_owned(), json!(text(subject.title().as_bytes())));
    document.insert("findings".to_owned(), findings.collect());
    Value::Object(document)
}
