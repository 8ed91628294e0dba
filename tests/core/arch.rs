//! The import rule of the house (`src/ARCHITECTURE.md`), enforced: who may know whom, and who may touch the world.
//!
//! Test code (`#[cfg(test)]` items, `tests.rs` and `tests/`) is exempt: it may look around. Modules that do not exist yet
//! are allowed to be in the table.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use crate::arch_lexer::Token;
use crate::arch_lexer::tokens;
use crate::arch_lexer::without_tests;

/// Every module at the top of `src/` (and `mount-helper/`) with the modules it may use. Each uses only what stands above
/// it in this table, so there can be no circle.
const MAY_USE: &[(&str, &[&str])] = &[
    ("path", &[]),
    ("digest", &["path"]),
    ("sys", &["path"]),
    ("env", &["path", "sys"]),
    ("logging", &["env"]),
    ("live", &["path", "sys", "env"]),
    ("layer", &["path", "digest", "sys", "env"]),
    ("union", &["path", "digest", "sys", "env", "layer"]),
    ("explain", &["path", "digest", "sys", "env", "layer", "union"]),
    ("fuse", &["path", "digest", "sys", "env", "live", "layer", "union", "explain"]),
    ("mount", &["path", "digest", "sys", "env", "live", "layer", "union", "fuse"]),
    ("run", &["path", "digest", "sys", "env", "layer", "union", "fuse", "mount"]),
    ("image", &["path", "digest", "sys", "env", "layer"]),
    ("store", &["path", "digest", "sys", "env", "layer", "image"]),
    ("registry", &["path", "digest", "sys", "env", "layer", "image"]),
    ("build", &["path", "digest", "sys", "env", "layer", "image"]),
    (
        "engine",
        &[
            "path", "digest", "sys", "env", "live", "layer", "union", "fuse", "mount", "explain", "run", "image",
            "store", "registry", "build",
        ],
    ),
    (
        "cli",
        &[
            "path", "digest", "sys", "env", "live", "logging", "layer", "union", "mount", "explain", "run", "image",
            "store", "registry", "build", "engine",
        ],
    ),
    ("main", &["cli"]),
    ("mount-helper", &["logging", "path", "digest", "sys", "env", "layer", "union", "mount", "image", "store"]),
];

/// A word that only some modules may use in a path or as a macro, and why.
struct Reserved {
    /// The tokens, one after the other.
    words: &'static [&'static str],
    /// The modules that may, as in [`MAY_USE`].
    only_in: &'static [&'static str],
    why: &'static str,
}

const PRINTERS: &[&str] = &["cli", "main", "mount-helper"];

const RESERVED: &[Reserved] = &[
    Reserved { words: &["libc", "::"], only_in: &["sys"], why: "system calls are made in sys only" },
    Reserved { words: &["rustix", "::"], only_in: &["sys"], why: "system calls are made in sys only" },
    Reserved { words: &["use", "libc"], only_in: &["sys"], why: "system calls are made in sys only" },
    Reserved { words: &["use", "rustix"], only_in: &["sys"], why: "system calls are made in sys only" },
    Reserved { words: &["unsafe"], only_in: &["sys"], why: "the only unsafe code is in sys" },
    Reserved { words: &["sys", "::", "device"], only_in: &["fuse"], why: "the FUSE protocol is spoken in fuse only" },
    Reserved { words: &["ureq", "::"], only_in: &["registry"], why: "only registry opens connections" },
    Reserved { words: &["println", "!"], only_in: PRINTERS, why: "only the command line prints" },
    Reserved { words: &["eprintln", "!"], only_in: PRINTERS, why: "only the command line prints" },
    Reserved { words: &["print", "!"], only_in: PRINTERS, why: "only the command line prints" },
    Reserved { words: &["eprint", "!"], only_in: PRINTERS, why: "only the command line prints" },
    Reserved { words: &["SystemTime", "::", "now"], only_in: &["env"], why: "the clock is read in env only" },
    Reserved { words: &["Instant", "::", "now"], only_in: &["env"], why: "the clock is read in env only" },
    Reserved {
        words: &["process", "::", "exit"],
        only_in: &["main", "mount-helper", "sys"],
        why: "a library does not end its caller",
    },
];

/// One source file that the rule looks at.
struct Source {
    /// Relative to the repository, to print.
    path: PathBuf,
    /// Its module at the top, as in [`MAY_USE`].
    module: String,
    /// How many `super` lead from its top level to the crate's root.
    depth: usize,
    text: String,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `dir`, relative to the repository, sorted.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![repository().join(dir)];
    while let Some(dir) = waiting.pop() {
        for item in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = item.expect("a directory entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path.strip_prefix(repository()).expect("inside").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Where a file stands, or `None` for test code and for `lib.rs`, which only lists the modules.
fn placed(path: &Path, text: String) -> Option<Source> {
    let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    if parts.iter().any(|part| matches!(*part, "tests" | "tests.rs" | "testing.rs")) || path == Path::new("src/lib.rs")
    {
        return None;
    }
    let (module, depth) = match parts.as_slice() {
        ["mount-helper", ..] => ("mount-helper", usize::MAX),
        ["src", "main.rs"] => ("main", usize::MAX),
        ["src", file] => (file.trim_end_matches(".rs"), 1),
        ["src", top, rest @ ..] => (*top, rest.len() + usize::from(rest.last() != Some(&"mod.rs"))),
        _ => panic!("{}: not a place for code", path.display()),
    };
    Some(Source { path: path.to_owned(), module: module.to_owned(), depth, text })
}

fn sources() -> Vec<Source> {
    let files = ["src", "mount-helper"].iter().flat_map(|dir| rust_files(Path::new(dir)));
    let read = |path: &PathBuf| {
        std::fs::read_to_string(repository().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    files.filter_map(|path| placed(&path, read(&path))).collect()
}

/// What a source file does against the rule, one line each: `file:line: rule`.
fn violations(source: &Source) -> Vec<String> {
    let all = tokens(&source.text);
    let used = without_tests(&all);
    let Some((_, allowed)) = MAY_USE.iter().find(|(module, _)| *module == source.module) else {
        return vec![format!(
            "{}:1: module {} is not in the table of tests/core/arch.rs",
            source.path.display(),
            source.module
        )];
    };
    let imports = imported(&used, source.depth).into_iter().filter_map(|(name, line)| {
        let known = MAY_USE.iter().any(|(module, _)| *module == name);
        let wrong = known && name != source.module && !allowed.contains(&name);
        wrong.then(|| (line, format!("{} may not use {name}; it may use {}", source.module, allowed.join(" "))))
    });
    let reserved = RESERVED.iter().filter(|rule| !rule.only_in.contains(&source.module.as_str())).flat_map(|rule| {
        let starts = used.windows(rule.words.len()).filter(|w| w.iter().map(|t| t.text).eq(rule.words.iter().copied()));
        starts.map(|w| (w[0].line, format!("{} in {}: {}", rule.words.concat(), source.module, rule.why)))
    });
    let environment = environment(&used).into_iter().filter(|_| source.module != "env");
    let environment =
        environment.map(|line| (line, format!("std::env in {}: the environment is read in env only", source.module)));
    let mut found: Vec<_> = imports.chain(reserved).chain(environment).collect();
    found.sort();
    found.dedup();
    found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", source.path.display())).collect()
}

/// What a module other than `env` takes of `std::env`, beyond arguments and places that are no variables.
fn environment(used: &[Token<'_>]) -> Vec<usize> {
    const FREE: [&str; 7] = ["consts", "args", "args_os", "current_exe", "current_dir", "split_paths", "join_paths"];
    let text = |at: usize| used.get(at).map_or("", |t| t.text);
    let mut found = Vec::new();
    for at in (0..used.len()).filter(|at| text(*at) == "std" && text(at + 1) == "::") {
        let direct = text(at + 2) == "env" && !(text(at + 3) == "::" && FREE.contains(&text(at + 4)));
        let grouped = text(at + 2) == "{" && heads(used, at + 2).iter().any(|(name, _)| *name == "env");
        if direct || grouped {
            found.push(used[at].line);
        }
    }
    found
}

/// The top-level modules that a file names: by `crate::x`, `micafs::x`, groups of them, and `super::` up to the root.
fn imported<'a>(used: &[Token<'a>], depth: usize) -> Vec<(&'a str, usize)> {
    let text = |at: usize| used.get(at).map_or("", |t| t.text);
    let mut found = Vec::new();
    for at in 0..used.len() {
        let preceded = at > 0 && text(at - 1) == "::";
        let mut next = at;
        match text(at) {
            "crate" | "micafs" if !preceded && text(at + 1) == "::" => next += 2,
            "super" if !preceded => {
                while text(next) == "super" && text(next + 1) == "::" {
                    next += 2;
                }
                if (next - at) / 2 < depth {
                    continue;
                }
            }
            _ => continue,
        }
        found.extend(heads(used, next));
    }
    found
}

/// The first names of what stands at `at`: one name, or those of a `{group}`.
fn heads<'a>(used: &[Token<'a>], at: usize) -> Vec<(&'a str, usize)> {
    let Some(first) = used.get(at) else { return Vec::new() };
    if first.text != "{" {
        return vec![(first.text, first.line)];
    }
    let mut found = Vec::new();
    let mut depth = 0usize;
    let mut before = "";
    for token in &used[at..] {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            name if depth == 1 && matches!(before, "{" | ",") => found.push((name, token.line)),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        before = token.text;
    }
    found
}

#[test]
fn the_import_rule_holds() {
    let found: Vec<_> = sources().iter().flat_map(violations).collect();
    assert!(found.is_empty(), "against the import rule of src/ARCHITECTURE.md:\n{}", found.join("\n"));
}

#[test]
fn the_table_has_no_circle() {
    for (at, (module, allowed)) in MAY_USE.iter().enumerate() {
        for name in *allowed {
            assert!(
                MAY_USE[..at].iter().any(|(above, _)| above == name),
                "{module} uses {name}, which does not stand above it"
            );
        }
    }
    let allowed = |name| MAY_USE.iter().find(|(module, _)| *module == name).map(|(_, a)| *a).unwrap_or_default();
    assert!(!allowed("union").contains(&"image") && !allowed("image").contains(&"union"));
    assert!(!allowed("store").contains(&"registry") && !allowed("build").contains(&"run"));
    assert!(["registry", "build", "run", "engine"].iter().all(|m| !allowed("mount-helper").contains(m)));
}

#[test]
fn the_rule_finds_what_is_against_it() {
    let cases = [
        ("src/union/a.rs", "use crate::image::X;", "union may not use image"),
        ("src/union/a/b.rs", "use super::super::super::image;", "union may not use image"),
        ("src/image/mod.rs", "fn f() { crate::union::g() }", "image may not use union"),
        ("src/store/a.rs", "use crate::{path::Name, registry::{Client, self}};", "store may not use registry"),
        ("mount-helper/src/main.rs", "use micafs::engine;", "mount-helper may not use engine"),
        ("src/layer/a.rs", "use libc::open;", "libc:: in layer"),
        ("src/layer/a.rs", "use rustix::{fs, io};", "rustix:: in layer"),
        ("src/mount/a.rs", "use crate::sys::device;", "sys::device in mount"),
        ("src/image/a.rs", "use ureq::Agent;", "ureq:: in image"),
        ("src/union/a.rs", "fn f() { println!() }", "println! in union"),
        ("src/union/a.rs", "fn f() { unsafe { g() } }", "unsafe in union"),
        ("src/store/a.rs", "let t = std::time::SystemTime::now();", "SystemTime::now in store"),
        ("src/store/a.rs", "let t = std::env::var_os(x);", "std::env in store"),
        ("src/store/a.rs", "use std::env;", "std::env in store"),
        ("src/store/a.rs", "use std::{env, fs};", "std::env in store"),
        ("src/new/a.rs", "", "module new is not in the table"),
    ];
    for (path, text, expected) in cases {
        let source = placed(Path::new(path), text.to_owned()).expect("code");
        let found = violations(&source);
        assert!(found.iter().any(|line| line.contains(expected)), "{path}: {text}: {found:?}");
        assert!(found.iter().all(|line| line.starts_with(&format!("{path}:1: "))), "{found:?}");
    }
}

#[test]
fn the_rule_lets_the_rest_pass() {
    let cases = [
        ("src/union/a.rs", "use crate::layer::Layer; use super::node; // crate::image"),
        ("src/union/a/b.rs", "use super::super::image_like; pub(crate) fn f() { \"crate::image println!\"; }"),
        ("src/union/a.rs", "#[cfg(test)] mod tests { use crate::image::X; fn f() { println!() } }"),
        ("src/store/a.rs", "let x = crate::env::var(\"MICA_ROOT\"); let t: std::time::Instant;"),
        ("src/store/a.rs", "use crate::env; let x = env::var(\"MICA_ROOT\"); let a = std::env::args_os();"),
        ("src/sys/a.rs", "use rustix::fs; fn f() { unsafe { libc::g() } }"),
        ("src/cli/a.rs", "use crate::{engine, image::Reference}; fn f() { println!() }"),
    ];
    for (path, text) in cases {
        let source = placed(Path::new(path), text.to_owned()).expect("code");
        assert_eq!(violations(&source), Vec::<String>::new(), "{path}: {text}");
    }
    assert!(placed(Path::new("src/union/tests.rs"), String::new()).is_none());
}

/// A file that no binary takes in is neither built nor run.
#[test]
fn every_file_is_part_of_a_target() {
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).expect("Cargo.toml");
    let paths = manifest.lines().filter_map(|line| line.trim().strip_prefix("path = \"")?.strip_suffix('"'));
    let mut waiting: Vec<_> = paths.map(PathBuf::from).collect();
    let mut reached = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        let Ok(text) = std::fs::read_to_string(repository().join(&path)) else {
            panic!("{} is missing", path.display())
        };
        if reached.insert(path.clone()) {
            waiting.extend(children(&path, &text));
        }
    }
    let files = ["src", "tests"].iter().flat_map(|dir| rust_files(Path::new(dir)));
    let lost: Vec<_> = files.filter(|path| !reached.contains(path)).collect();
    assert!(lost.is_empty(), "no target takes these in: {lost:?}");
}

/// The files of the `mod name;` lines of a file.
fn children(path: &Path, text: &str) -> Vec<PathBuf> {
    let dir = path.parent().unwrap_or(Path::new(""));
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    // `#[path]` is relative to the file's directory; a plain `mod` to the module's own.
    let own = if matches!(stem, "mod" | "lib" | "main") { dir.to_owned() } else { dir.join(stem) };
    let mut found = Vec::new();
    let mut redirect = None;
    for line in text.lines().map(str::trim) {
        if let Some(given) = line.strip_prefix("#[path = \"").and_then(|l| l.strip_suffix("\"]")) {
            redirect = Some(normal(&dir.join(given)));
        } else if let Some(name) = module_line(line) {
            let file = own.join(format!("{name}.rs"));
            let inside = own.join(name).join("mod.rs");
            let plain = if repository().join(&inside).exists() { inside } else { file };
            found.push(redirect.take().unwrap_or(plain));
        }
    }
    found
}

/// The name in `pub(crate) mod name;`.
fn module_line(line: &str) -> Option<&str> {
    let line = line.strip_suffix(';')?;
    let (before, name) = line.rsplit_once("mod ")?;
    let visible = matches!(before.trim(), "" | "pub" | "pub(crate)" | "pub(super)") || before.starts_with("pub(in ");
    (visible && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts
}
