//! `mica explain --html` and `mica du --html`: the pages as they are written, and as a real browser shows them.
//!
//! The expected pages lie in `tests/golden/html/`, without the style sheet and its hash. `MICA_PAGES=DIR` keeps the browser's pictures.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;

use crate::explain::check_golden;
use crate::looking::Crafted;
use crate::looking::IMAGE;
use crate::support::TempDir;
use crate::support::browser::Browser;
use crate::support::browser::Seen;
use crate::support::skip;

/// The pages: their name, the command without `--html FILE`, and its exit code.
const PAGES: &[(&str, &[&str], i32)] = &[
    ("served", &["explain", IMAGE, "/etc/conf"], 0),
    ("deleted", &["explain", IMAGE, "/etc/motd"], 1),
    ("opaque", &["explain", IMAGE, "/opq/low"], 1),
    ("never", &["explain", IMAGE, "/nothing/here"], 2),
    ("symlinks", &["explain", IMAGE, "/chain1/big"], 0),
    ("du", &["du", IMAGE], 0),
    ("du-deleted", &["du", IMAGE, "/root/.ssh/id_rsa"], 1),
];

/// Writes a page and reads it.
fn page(crafted: &Crafted, name: &str, arguments: &[&str], code: i32) -> String {
    let file = crafted.path(&format!("{name}.html"));
    let html = [OsStr::new("--html"), file.as_os_str()];
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).chain(html).collect();
    let (out, err, found) = crafted.said(&arguments);
    assert_eq!((out.as_slice(), err.as_str(), found), (&b""[..], "", code), "{name}");
    std::fs::read_to_string(&file).expect("UTF-8")
}

/// A page without what is the same in all: the style sheet and its hash.
fn without_style(page: &str) -> String {
    let (head, rest) = page.split_once("<style>").expect("a style sheet");
    let (_, body) = rest.split_once("</style>").expect("its end");
    let (before, rest) = head.split_once("sha256-").expect("its hash");
    let (_, after) = rest.split_once('=').expect("the end of the hash");
    format!("{before}sha256-HASH{after}<style></style>{body}")
}

#[test]
fn pages_say_what_they_said() {
    let crafted = Crafted::new();
    for (name, arguments, code) in PAGES {
        let page = page(&crafted, name, arguments, *code);
        assert!(page.chars().all(|c| c == '\n' || !c.is_control()), "{name}");
        check_golden("html", &format!("{name}.html"), &without_style(&page));
    }
    let (out, _, _) = crafted.said(&["explain", "--html", "-", IMAGE, "/etc/conf"]);
    assert!(out.starts_with(b"<!DOCTYPE html>"), "- is standard output");
}

#[test]
fn a_page_is_written_whole_or_not_at_all() {
    let crafted = Crafted::new();
    let (_, err, code) = crafted.said(&["du", "--html", "/nowhere/page.html", IMAGE]);
    assert!(code == 125 && err.contains("/nowhere/page.html"), "{code}: {err}");
    let (_, err, code) = crafted.said(&["explain", "--html", "page.html", "nothing:at-all", "/x"]);
    assert!(code == 125 && err.contains("No such image"), "{code}: {err}");
    assert!(!crafted.path("page.html").exists());
    let (_, err, code) = crafted.said(&["du", "--html", "page.html", "--json", IMAGE]);
    assert!(code == 125 && err.contains("cannot be used with"), "{code}: {err}");
}

/// Names that want to be markup, in directories; their pages.
fn hostile_pages(dir: &TempDir, crafted: &Crafted) -> Vec<(String, String)> {
    const NAME: &[u8] = b"<svg onload=alert(1)>'\"&\x1b\xff";
    for (layer, size) in [("low", 5000), ("up", 3000)] {
        let top = dir.dir(layer).join(OsStr::from_bytes(NAME));
        std::fs::create_dir(&top).expect("mkdir");
        std::fs::write(top.join(OsStr::from_bytes(NAME)), vec![b'x'; size]).expect("write");
    }
    let path = [b"/", NAME, b"/", NAME].concat();
    let options = format!("lowerdir={}:{}", dir.join("up").display(), dir.join("low").display());
    let run = |name: &str, command: &str, rest: &[&OsStr]| {
        let file = dir.join(format!("{name}.html"));
        let mut arguments =
            vec![OsStr::new(command), "-o".as_ref(), options.as_ref(), "--html".as_ref(), file.as_os_str()];
        arguments.extend(rest);
        let (_, err, code) = crafted.said(&arguments);
        assert_eq!((err.as_str(), code), ("", 0), "{name}");
        (name.to_owned(), format!("file://{}", file.display()))
    };
    vec![run("hostile", "explain", &[OsStr::from_bytes(&path)]), run("du-hostile", "du", &[])]
}

/// What of a page cannot be seen: elements without a size, and what is wider than the window. Boxes that scroll may hold more.
const PROBE: &str = r#"(() => {
  const width = document.documentElement.clientWidth, missing = [], wide = [];
  const needed = document.querySelector('#walk')
    ? ['h1', '.verdict', '#stack svg.stack', '#stack svg.stack rect.sheet', '#versions', '#walk li table', '#layers table']
    : ['h1', '.tiles div', '#layers table', '#layers svg.bar', '#directories table', '#layers svg.map rect.shown', '#directories svg.map rect.shown'];
  for (const query of needed) {
    const box = document.querySelector(query)?.getBoundingClientRect();
    if (!box || box.width < 1 || box.height < 1) missing.push(query);
  }
  for (const element of document.querySelectorAll('body *')) {
    if (element.closest('.scroll') && !element.matches('.scroll') || element.closest('svg')?.parentElement?.closest('.scroll, .map')) continue;
    if (element.ownerSVGElement) continue;
    const box = element.getBoundingClientRect();
    if (box.right > width + 1 || box.left < -1) wide.push(element.tagName + '.' + element.className + ' ' + box.right);
  }
  const rgb = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
  return { missing, wide, scroll: document.documentElement.scrollWidth - width, alert: typeof alerted !== 'undefined',
           brightness: rgb[0] + rgb[1] + rgb[2], text: document.body.innerText.length, scripts: document.scripts.length };
})()"#;

fn assert_good(name: &str, seen: &Seen, scheme: &str) {
    assert!(seen.complaints.is_empty(), "{name}: {:?}", seen.complaints);
    // An empty icon is data of the page itself, not a request to anywhere.
    let outside: Vec<_> = seen.requests.iter().filter(|url| *url != "\"data:,\"").collect();
    assert!(outside.is_empty(), "{name}: {outside:?}");
    let found = &seen.found;
    assert_eq!(
        (&found["missing"], &found["wide"]),
        (&Value::Array(vec![]), &Value::Array(vec![])),
        "{name}: {found:#}"
    );
    assert_eq!((&found["scroll"], &found["scripts"]), (&0.into(), &0.into()), "{name}: {found:#}");
    let brightness = found["brightness"].as_u64().expect("a number");
    assert_eq!(brightness > 384, scheme == "light", "{name}: {scheme} is {brightness}");
    assert!(found["text"].as_u64() > Some(100), "{name}: {found:#}");
}

#[test]
fn a_browser_shows_all_of_a_page_and_fetches_nothing() {
    let dir = TempDir::new("pages");
    let mut browser = match Browser::start(&dir.dir("profile")) {
        Ok(browser) => browser,
        Err(reason) => skip!("{reason}"),
    };
    let crafted = Crafted::new();
    let mut urls: Vec<(String, String)> = Vec::new();
    for (name, arguments, code) in PAGES {
        page(&crafted, name, arguments, *code);
        urls.push(((*name).to_owned(), format!("file://{}", crafted.path(&format!("{name}.html")).display())));
    }
    urls.extend(hostile_pages(&dir, &crafted));
    let kept = std::env::var_os("MICA_PAGES").map(std::path::PathBuf::from);
    let pictures = kept.unwrap_or_else(|| dir.dir("pictures"));
    for (name, url) in &urls {
        for (width, scheme) in [(1280, "light"), (400, "dark")] {
            let picture = pictures.join(format!("{name}-{width}.png"));
            let seen = browser.look(url, width, scheme, PROBE, &picture);
            // A file that an upper layer deletes has no directory to draw.
            assert_good(&format!("{name} at {width}, {scheme}"), &seen, scheme);
            assert!(std::fs::metadata(&picture).expect("a picture").len() > 5_000, "{name}: an empty picture");
        }
    }
    bad_page_is_seen(&mut browser, &dir.join("bad.html"), &dir.join("bad.png"));
}

/// The test tests: a page with everything wrong is seen as such.
fn bad_page_is_seen(browser: &mut Browser, file: &Path, picture: &Path) {
    let bad = "<!DOCTYPE html><body><section id=walk></section><img src='http://127.0.0.1:9/x.png'>\
               <div style='width:3000px'>wide</div><script>console.error('bad')</script>";
    std::fs::write(file, bad).expect("write");
    let seen = browser.look(&format!("file://{}", file.display()), 400, "light", PROBE, picture);
    assert!(seen.complaints.iter().any(|text| text.contains("bad")), "{seen:?}");
    assert!(seen.requests.iter().any(|url| url.contains("127.0.0.1:9")), "{seen:?}");
    assert!(seen.found["missing"].as_array().is_some_and(|list| list.len() >= 6), "{seen:?}");
    assert!(seen.found["wide"].as_array().is_some_and(|list| !list.is_empty()), "{seen:?}");
}
