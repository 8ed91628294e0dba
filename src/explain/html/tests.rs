//! Pages of a small stack with hostile names, and the parts they are made of.

use std::sync::Arc;

use super::markup::Markup;
use super::markup::base64;
use super::treemap::Area;
use super::treemap::divide;
use super::*;
use crate::explain::Subject;
use crate::explain::subject::Made;
use crate::explain::subject::Sheet;
use crate::explain::usage::usage;
use crate::explain::versions::versions;
use crate::layer::dir::DirLayer;
use crate::layer::handle::FdCache;
use crate::layer::pack::testing::Scratch;
use crate::path::RelPath;

const HOSTILE: &str = "<img src=x onerror=alert(1)>";

/// Two layers; names, commands and the title want to be markup.
fn subject(scratch: &Scratch) -> Subject {
    let fds = FdCache::new(16);
    let mut sheets = Vec::new();
    for number in [2, 1] {
        let top = scratch.0.join(number.to_string());
        std::fs::create_dir_all(top.join("d&d")).unwrap();
        std::fs::write(top.join("d&d").join(HOSTILE), "x".repeat(1000 * number)).unwrap();
        let command =
            format!("RUN echo '</title></style><script>alert({number})</script>' \u{1b}]0;evil\u{7} \u{202e}");
        let made = Made {
            created_by: Some(command.clone()),
            author: Some(command.clone()),
            comment: Some(command),
            ..Made::default()
        };
        sheets.push(Sheet {
            layer: Arc::new(DirLayer::open(&top, fds.clone()).unwrap()),
            digest: None,
            made,
            broken: None,
        });
    }
    Subject::new("\"><script>title</script>", None, sheets, fds).unwrap()
}

/// Nothing but what we wrote ourselves: after the known tags are gone, no `<` is left, and no attribute of another kind.
fn assert_harmless(page: &str) {
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("javascript:"), "{page}");
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("url("), "it loads nothing");
    assert!(page.chars().all(|c| c == '\n' || !c.is_control()), "no control characters");
    assert!(!page.contains('\u{202e}'), "no reordering");
    let known = [
        "html", "head", "meta", "link", "title", "style", "body", "main", "header", "section", "h1", "h2", "h3", "p",
        "b", "i", "dl", "dt", "dd", "div", "small", "span", "ul", "ol", "li", "code", "table", "thead", "tbody", "tr",
        "th", "td", "svg", "g", "rect", "text", "path", "circle", "!DOCTYPE",
    ];
    for tag in page.split('<').skip(1) {
        let name = tag.trim_start_matches('/').split([' ', '>', '/', '\n']).next().unwrap_or_default();
        assert!(known.contains(&name), "<{tag}");
        let attributes = tag.split('>').next().unwrap_or_default();
        assert!(
            !attributes.contains(" on") && !attributes.contains(" style=") && !attributes.contains(" href=\"h"),
            "<{tag}"
        );
    }
}

fn explained(path: &str) -> String {
    let scratch = Scratch::new();
    path::document(&versions(&subject(&scratch), path.as_bytes(), false).unwrap(), true)
}

#[test]
fn hostile_names_and_commands_are_text() {
    let page = explained(&format!("/d&d/{HOSTILE}"));
    assert_harmless(&page);
    assert!(page.contains("/d&amp;d/&lt;img src=x onerror=alert(1)&gt;"), "{page}");
    assert!(page.contains("&lt;/title&gt;&lt;/style&gt;&lt;script&gt;alert(2)&lt;/script&gt;"), "the command is shown");
    let scratch = Scratch::new();
    let subject = subject(&scratch);
    let report = usage(&subject, &RelPath::root(), 3).unwrap();
    let dirs: Vec<_> = report.dirs.iter().collect();
    let style = space::Style { size: |bytes| format!("{bytes} <B>"), top: None };
    let page = space::document(&subject, &RelPath::root(), &report, &dirs, style);
    assert_harmless(&page);
    assert!(page.contains("3000 &lt;B&gt;") && page.contains("d&amp;d/"), "{page}");
}

#[test]
fn a_path_that_is_nowhere_has_a_page_too() {
    for path in ["/", "/nothing", "/nothing/at/all", "/d&d/../../..", "/<svg onload=alert(1)>\u{1b}[31m"] {
        let page = explained(path);
        assert_harmless(&page);
        assert!(page.contains("id=\"stack\"") && page.contains("id=\"walk\""), "{path}");
    }
}

#[test]
fn a_very_long_path_makes_a_page_of_bounded_size() {
    let page = explained(&"/d&d/..".repeat(100_000));
    assert_harmless(&page);
    assert!(page.contains("The first") && page.len() < 2_000_000, "{}", page.len());
}

#[test]
fn layers_that_decide_nothing_are_one_row() {
    let scratch = Scratch::new();
    let fds = FdCache::new(64);
    let mut sheets = Vec::new();
    for number in 1..=9 {
        let top = scratch.0.join(number.to_string());
        std::fs::create_dir_all(top.join("dir")).unwrap();
        if number == 3 {
            std::fs::write(top.join("dir/file"), "").unwrap();
        }
        sheets.insert(0, Sheet::bare(Arc::new(DirLayer::open(&top, fds.clone()).unwrap())));
    }
    let subject = Subject::new("nine", None, sheets, fds).unwrap();
    let page = path::document(&versions(&subject, b"/dir/file", false).unwrap(), false);
    for text in ["L8…L4: 5 layers", "5 × merged", "▶ found"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    // The two at the bottom are too few to be worth a row of their own kind.
    assert_eq!(page.matches("class=\"sheet\"").count(), 4, "{page}");
}

#[test]
fn the_policy_names_the_style_sheet_by_its_hash() {
    let page = explained("/d&d");
    let style = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).unwrap();
    let hash = base64(Digest::of(style.as_bytes()).as_bytes());
    // In an attribute no letter of base64 needs to be escaped.
    assert!(
        page.contains(&format!("style-src &#39;sha256-{hash}")) || page.contains(&format!("style-src 'sha256-{hash}'"))
    );
}

#[test]
fn base64_is_that_of_the_standard() {
    for (bytes, text) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
    {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}

#[test]
fn text_never_becomes_markup() {
    let mut markup = Markup::default();
    markup.element("td", "x", "<&>\"'\u{0}\u{1b}").attribute("title", "\" onload=\"x");
    assert_eq!(
        markup.into_string(),
        "<td class=\"x\">&lt;&amp;&gt;&quot;&#39;\u{fffd}\u{fffd}</td> title=\"&quot; onload=&quot;x\""
    );
}

/// Any weights: the areas are as large as they say, inside of the whole, and none overlaps another.
#[test]
fn a_treemap_fills_its_area_and_nothing_overlaps() {
    let whole = Area { x: 3.0, y: 5.0, width: 960.0, height: 400.0 };
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..200 {
        let mut weights: Vec<u64> = (0..random(30)).map(|_| random(1000) * random(50)).collect();
        weights.sort_unstable_by(|a, b| b.cmp(a));
        let areas = divide(&weights, whole);
        assert_eq!(areas.len(), weights.len());
        let total: u64 = weights.iter().sum();
        for (area, weight) in areas.iter().zip(&weights) {
            let wanted = whole.size() * *weight as f64 / (total as f64).max(1.0);
            assert!((area.size() - wanted).abs() < 0.01, "{weights:?}: {area:?} should be {wanted}");
            assert!(area.x >= 2.99 && area.y >= 4.99, "{area:?}");
            assert!(area.x + area.width <= 963.01 && area.y + area.height <= 405.01, "{area:?}");
        }
        for (at, a) in areas.iter().enumerate() {
            for b in areas.iter().skip(at + 1).filter(|b| b.size() > 0.0 && a.size() > 0.0) {
                let apart = |p: f64, pl: f64, q: f64, ql: f64| p + pl <= q + 0.01 || q + ql <= p + 0.01;
                assert!(apart(a.x, a.width, b.x, b.width) || apart(a.y, a.height, b.y, b.height), "{a:?} {b:?}");
            }
        }
    }
    assert!(divide(&[0, 0], whole).iter().all(|area| area.size() == 0.0));
    assert!(divide(&[u64::MAX, u64::MAX, 0], whole).iter().all(|area| area.size().is_finite()));
}
