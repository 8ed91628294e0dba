//! The screen and the shell on a stack in memory: keys go in, the picture must be that of `tests/golden/debug/`. With
//! `MICA_UPDATE_GOLDEN` set the pictures are drawn anew, to be looked at and committed.

use std::path::Path;
use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use super::exchange::Exchange;
use super::live::Source;
use super::marks::Mark;
use super::marks::marks;
use super::model::Model;
use super::session::Session;
use super::shell::Next;
use super::shell::Shell;
use super::view;
use super::view::Theme;
use super::work::Ask;
use super::work::Found;
use super::work::Ground;
use super::work::Hit;
use super::work::Work;
use super::work::answer;
use crate::engine::target::Target;
use crate::explain::Subject;
use crate::explain::layers::walk;
use crate::explain::subject::Made;
use crate::explain::subject::Sheet;
use crate::explain::text::Style;
use crate::explain::usage::usage;
use crate::layer::handle::FdCache;
use crate::layer::mem::Entry;
use crate::layer::mem::MemLayer;
use crate::layer::mem::Shape;
use crate::path::RelPath;
use crate::sys::attr::Time;

fn entry(path: &[u8], shape: Shape) -> Entry {
    let path = RelPath::parse(path).unwrap();
    let mode = if matches!(shape, Shape::Dir(_)) { 0o755 } else { 0o644 };
    Entry { path, shape, mode, uid: 0, gid: 0, mtime: Time { secs: 1_700_000_000, nanos: 0 }, xattrs: Vec::new() }
}

fn file(path: &[u8], text: &str) -> Entry {
    entry(path, Shape::File(text.len() as u64, vec![(0, text.as_bytes().to_vec())]))
}

/// Three layers: one of everything, and names that a terminal must not get.
fn subject() -> Subject {
    subject_of(None)
}

/// The same; the layer of this number cannot be read.
fn subject_of(broken: Option<usize>) -> Subject {
    let dir = |path: &str| entry(path.as_bytes(), Shape::Dir(false));
    let layers = [
        (
            "ADD rootfs.tar /",
            vec![
                dir("etc"),
                file(b"etc/conf", "a\nb\nc\n"),
                file(b"etc/motd", "hello\n"),
                dir("opq"),
                file(b"opq/low", "low\n"),
                file(b"evil\x1b[31m\xff", "evil\x1b[2J\n"),
                file("w\u{ff49}\u{ff44}\u{ff45} \u{1f600}".as_bytes(), "wide\n"),
                entry(b"lib", Shape::Symlink(b"etc".to_vec())),
            ],
        ),
        ("RUN rm /etc/motd", vec![dir("etc"), entry(b"etc/motd", Shape::Whiteout), file(b"etc/conf", "a\nB\nc\n")]),
        ("COPY opq /opq", vec![entry(b"opq", Shape::Dir(true)), file(b"opq/new", &"x".repeat(3000))]),
    ];
    let sheets = layers.into_iter().zip([1, 2, 3]).rev().map(|((command, entries), number)| {
        if broken == Some(number) {
            let why = format!("layer {} is missing", crate::digest::Digest::of(b"x"));
            let made = Made { created_by: Some(command.to_owned()), ..Made::default() };
            return Sheet::broken(crate::digest::Digest::of(b"x"), made, why).unwrap();
        }
        let layer = MemLayer::new(command, &entries).unwrap();
        let made = Made { created_by: Some(command.to_owned()), ..Made::default() };
        Sheet { layer: Arc::new(layer), digest: None, made, broken: None }
    });
    Subject::new("crafted:1", None, sheets.collect(), FdCache::new(16)).unwrap()
}

fn session() -> Session {
    session_of(subject())
}

fn session_of(subject: Subject) -> Session {
    Session::new(Target::new(subject, b"/".to_vec()), Source { word: Some("crafted:1".into()), root: None })
}

/// The screen without a terminal: what is asked is answered at once.
struct Desk {
    model: Model,
    full: Subject,
    quit: bool,
}

impl Desk {
    fn new() -> Self {
        Self::of(subject())
    }

    fn of(full: Subject) -> Self {
        let (model, asks) = Model::new(&session_of(full.clone()));
        let mut desk = Self { model, full, quit: false };
        desk.answer(asks);
        desk
    }

    fn answer(&mut self, asks: Vec<Ask>) {
        for ask in asks {
            let mut found = Vec::new();
            match ask {
                Ask::Quit => self.quit = true,
                Ask::Sizes { turn, count } => {
                    let here = self.full.first(count).unwrap();
                    let report = Box::new(usage(&here, &RelPath::root(), 100).unwrap());
                    found.push(Found::Sizes { turn, report });
                }
                Ask::Whiteouts { turn, count } => {
                    let mut hits = Vec::new();
                    let hit = |m: Mark| Hit { path: m.path, layer: count - m.layer, note: m.word, rank: 0 };
                    walk(&self.full.first(count).unwrap(), &RelPath::root(), &mut |folder, entry| {
                        hits.extend(marks(folder, entry).into_iter().map(hit));
                        Ok(true)
                    })
                    .unwrap();
                    found.push(Found::Hits { turn, hits, done: true });
                }
                Ask::Search { turn, .. } => {
                    let hit = Hit { path: RelPath::parse(b"etc/motd").unwrap(), layer: 2, note: "whiteout", rank: 0 };
                    found.push(Found::Hits { turn, hits: vec![hit], done: true });
                }
                // Nothing is written for a test of keys.
                Ask::Extract { .. } => {}
                other => {
                    let ground = Ground { image: None, source: Source::default() };
                    if let Err(e) = answer(&self.full, &ground, other, &mut None, &mut |one| found.push(one)) {
                        found.push(Found::Said(e));
                    }
                }
            }
            for found in found {
                let asks = self.model.found(found);
                self.answer(asks);
            }
        }
    }

    fn keys(&mut self, keys: &str) {
        for c in keys.chars() {
            let key = match c {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '>' => KeyCode::Right,
                '<' => KeyCode::Left,
                '\x1b' => KeyCode::Esc,
                c => KeyCode::Char(c),
            };
            let asks = self.model.key(key, false);
            self.answer(asks);
        }
    }

    fn picture(&self, width: u16, height: u16, unicode: bool) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let theme = Theme { unicode, colour: false };
        terminal.draw(|frame| view::draw(frame, &self.model, theme)).unwrap();
        let buffer = terminal.backend().buffer();
        let mut out = String::new();
        for y in 0..height {
            let (mut line, mut x) = (String::new(), 0);
            while x < width {
                let symbol = buffer[(x, y)].symbol();
                line.push_str(symbol);
                x += u16::try_from(view::columns(symbol).max(1)).unwrap();
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

fn golden(name: &str, picture: &str) {
    assert!(!picture.chars().any(|c| c.is_control() && c != '\n'), "{name}: nothing steers a terminal");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/debug").join(name);
    if std::env::var_os("MICA_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, picture).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(picture, expected, "{}", path.display());
}

#[test]
fn the_pictures_are_as_they_were() {
    for (name, keys) in [
        ("first", ""),
        ("file", ">j"),
        ("diff", ">jd"),
        ("hexdump", ">jh"),
        ("back-in-time", ">j[["),
        ("changes", "c"),
        ("whiteouts", "w"),
        ("one-layer", "1kk\x1boo"),
        ("step", ">j4jjj"),
        ("search", "/mot\n"),
        ("help", "?"),
        ("prompt", "/mot"),
        ("zoom", "z"),
    ] {
        let mut desk = Desk::new();
        desk.keys(keys);
        golden(&format!("{name}-80x24.txt"), &desk.picture(80, 24, true));
        golden(&format!("{name}-200x60.txt"), &desk.picture(200, 60, true));
    }
    let mut desk = Desk::new();
    desk.keys(">j");
    golden("ascii-80x24.txt", &desk.picture(80, 24, false));
    let mut desk = Desk::of(subject_of(Some(2)));
    golden("damaged-80x24.txt", &desk.picture(80, 24, true));
    desk.keys(">jj");
    golden("damaged-file-80x24.txt", &desk.picture(80, 24, true));
    desk.keys("1j");
    golden("damaged-layer-80x24.txt", &desk.picture(80, 24, true));
}

/// Each key that leaves something out says so in the title, and typed again, or Esc, brings everything back.
#[test]
fn what_a_key_leaves_out_comes_back() {
    let names = |desk: &Desk| {
        let path = |line| desk.model.tree.path(line).unwrap().to_string();
        desk.model.tree.lines().iter().map(path).collect::<Vec<_>>()
    };
    let all = names(&Desk::new());
    for (key, left) in [('w', vec!["/etc", "/etc/motd", "/opq"]), ('c', vec!["/opq"])] {
        for back in [key, '\x1b'] {
            let mut desk = Desk::new();
            desk.keys(&key.to_string());
            assert_eq!(names(&desk), left, "{key}");
            desk.keys("s");
            assert_eq!(names(&desk).len(), left.len(), "{key}s: sorting leaves out what was left out");
            desk.keys(&format!("s{back}"));
            let mut back: Vec<_> = names(&desk).into_iter().filter(|name| !name.starts_with("/etc/")).collect();
            back.sort();
            let mut all = all.clone();
            all.sort();
            assert_eq!(back, all, "{key}");
        }
    }
    // One after the other, and in another time.
    let mut desk = Desk::new();
    desk.keys("wc");
    assert_eq!(names(&desk), ["/opq"]);
    desk.keys("w[");
    assert_eq!(names(&desk), ["/etc", "/etc/motd"], "layer 3 made the opaque directory");
    desk.keys("[");
    assert!(names(&desk).is_empty() && desk.picture(80, 24, true).contains("no whiteouts, no opaque directories"));
    desk.keys("]]wo");
    assert_eq!(desk.model.only, Some(3));
    desk.keys("w");
    assert_eq!(names(&desk), ["/opq"], "the layer's own");
}

/// A layer that is missing is said to be so wherever it would count, and nothing panics.
#[test]
fn a_missing_layer_is_looked_past_and_told_of() {
    let mut desk = Desk::of(subject_of(Some(2)));
    assert!(desk.model.message.as_ref().is_some_and(|text| text.contains("L2 counts as empty")));
    desk.keys(">jj");
    assert_eq!(desk.model.path.to_string(), "/etc/motd");
    assert_eq!(desk.model.details.as_ref().unwrap().served, Some(1), "as if layer 2 were empty");
    let failed = |step: &super::facts::Step| step.cell == super::facts::Cell::Failed && step.layer == 2;
    assert!(desk.model.walk().unwrap().steps.iter().any(failed), "the walk says that it was not asked");
    for pane in '1'..='5' {
        for key in " \n\t><jkzgocwspxm.hdt?q[]\x1b/".chars() {
            let mut desk = Desk::of(subject_of(Some(2)));
            desk.keys(&format!(">j{pane}{key}jk\n"));
            desk.picture(80, 24, true);
        }
    }
    let mut shell = Shell::new(session_of(subject_of(Some(2))), Style::default(), true).unwrap();
    assert_eq!(shell.first_code(), 125);
    assert!(said(&mut shell, "layers").0.contains("damaged"));
    assert!(said(&mut shell, "explain /etc/motd").0.contains("is missing"));
}

#[test]
fn every_key_in_every_pane_at_every_size() {
    for pane in '1'..='5' {
        for key in " \n\t><jkzgocwspxm.hdt?q[]\x1b/".chars() {
            let mut desk = Desk::new();
            desk.keys(&format!(">j{pane}{key}jk\n"));
            for (width, height) in [(1, 1), (19, 2), (20, 3), (40, 10), (60, 16), (80, 24), (139, 30), (300, 100)] {
                desk.picture(width, height, true);
            }
        }
    }
}

#[test]
fn a_path_stays_chosen_while_time_moves() {
    let mut desk = Desk::new();
    desk.keys(">jj");
    assert_eq!(desk.model.path.to_string(), "/etc/motd");
    assert_eq!(desk.model.details.as_ref().unwrap().served, None);
    desk.keys("[[");
    assert_eq!((desk.model.count, desk.model.path.to_string()), (1, "/etc/motd".to_owned()));
    assert_eq!(desk.model.details.as_ref().unwrap().served, Some(1));
    desk.keys("]]]");
    assert_eq!((desk.model.count, desk.model.path.to_string()), (3, "/etc/motd".to_owned()));
    desk.keys("[[[[");
    assert_eq!(desk.model.count, 0);
    desk.keys("q");
    assert!(desk.quit);
}

/// A frame that waited although all was answered would wait for an hour here; what was passed by is answered, too.
#[test]
fn no_frame_waits_for_what_is_there() {
    let hour = std::time::Duration::from_secs(3600);
    let (answers, found) = crossbeam_channel::unbounded();
    let (traced, _operations) = crossbeam_channel::bounded(1);
    let ground = Ground { image: None, source: Source::default() };
    let mut exchange = Exchange::new(Work::start(subject(), ground, answers, traced).unwrap(), found);
    let (mut model, asks) = Model::new(&session());
    exchange.ask(asks);
    assert!(exchange.take(&mut model, hour) && model.details.is_some() && !model.tree.is_loading());
    for key in "ljjjkk[[[]]]hd".chars() {
        let asks = model.key(KeyCode::Char(key), false);
        assert!(!exchange.ask(asks));
    }
    assert!(exchange.take(&mut model, hour), "all is answered");
    assert_eq!(model.details.as_ref().unwrap().path, model.path);
    // A key that asks nothing waits for nothing.
    assert!(exchange.ask(model.key(KeyCode::Char('?'), false)) || exchange.take(&mut model, hour));
}

#[test]
fn enter_goes_to_what_a_search_finds_later() {
    let mut desk = Desk::new();
    let asks = "/motd\n\n".chars().flat_map(|c| {
        let key = if c == '\n' { KeyCode::Enter } else { KeyCode::Char(c) };
        desk.model.key(key, false)
    });
    let asks: Vec<Ask> = asks.collect();
    assert!(desk.model.list.is_some(), "nothing was found yet");
    desk.answer(asks);
    assert!(desk.model.list.is_none());
    assert_eq!(desk.model.path.to_string(), "/etc/motd");
}

fn said(shell: &mut Shell, line: &str) -> (String, u8) {
    let mut out = Vec::new();
    let code = match shell.run(line.as_bytes(), &mut out) {
        Ok(next) => u8::from(next == Next::End) * 200,
        Err(e) => e.exit_code(),
    };
    (String::from_utf8_lossy(&out).into_owned(), code)
}

#[test]
fn the_shell_answers_without_a_terminal() {
    let mut shell = Shell::new(session(), Style::default(), true).unwrap();
    assert_eq!(said(&mut shell, "cd lib"), (String::new(), 0));
    assert_eq!(said(&mut shell, "pwd"), ("/etc\n".to_owned(), 0));
    assert_eq!(said(&mut shell, "cat conf # now"), ("a\nB\nc\n".to_owned(), 0));
    assert_eq!(said(&mut shell, "cat motd").1, 1);
    assert_eq!(said(&mut shell, "cat nothing").1, 2);
    assert_eq!(said(&mut shell, "no-such-command").1, 125);
    assert_eq!(said(&mut shell, "cat '").1, 125);
    assert!(said(&mut shell, "which motd").0.contains("whiteout"));
    assert!(said(&mut shell, "ls -a").0.contains("hidden: layer 2 deletes /etc/motd"));
    assert_eq!(said(&mut shell, "whiteouts").0, "L2    whiteout /etc/motd\nL3    opaque   /opq\n");
    assert_eq!(said(&mut shell, "diff 1..2").0, "C /etc\nC /etc/conf\nD /etc/motd\n");
    assert_eq!(said(&mut shell, "at 1").0, "1 of 3 layers: ADD rootfs.tar /\n");
    assert_eq!(said(&mut shell, "cat motd").0, "hello\n");
    assert_eq!(said(&mut shell, "]").0, "2 of 3 layers: RUN rm /etc/motd\n");
    assert_eq!(said(&mut shell, r"cat /evil\x1b[31m\xff").0, "evil\\x1b[2J\n", "escaped for a terminal");
    assert_eq!(shell.complete("cat /ev")[0].0, r"/evil\x1b[31m\xff ");
    assert_eq!(shell.complete("wh").len(), 2);
    assert_eq!(said(&mut shell, "trace").1, 125);
    assert_eq!(said(&mut shell, "help").1, 0);
    assert_eq!(said(&mut shell, "quit").1, 200);
}

#[test]
fn a_file_and_a_directory_are_taken_out_whole_and_over_nothing() {
    let dir = crate::layer::pack::testing::Scratch::new();
    let to = |name: &str| dir.0.join(name);
    let mut shell = Shell::new(session(), Style::default(), true).unwrap();
    assert_eq!(said(&mut shell, &format!("extract /etc/conf {}", to("conf").display())).1, 0);
    assert_eq!(std::fs::read(to("conf")).unwrap(), b"a\nB\nc\n");
    assert_eq!(said(&mut shell, &format!("extract /opq/new {}", to("conf").display())).1, 125, "it is there already");
    assert_eq!(std::fs::read(to("conf")).unwrap(), b"a\nB\nc\n");
    assert_eq!(said(&mut shell, &format!("extract / {}", to("all").display())).1, 0);
    assert!(to("all/etc/conf").is_file() && !to("all/etc/motd").exists() && !to("all/opq/low").exists());
    assert_eq!(std::fs::read_link(to("all/lib")).unwrap(), Path::new("etc"));
}
