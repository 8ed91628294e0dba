//! What takes time, off the thread of the keys: a reader that answers in order, and long walks that are given up when nobody waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;

use super::facts::Details;
use super::facts::How;
use super::facts::Row;
use super::facts::Stacks;
use super::live;
use super::marks::Mark;
use super::marks::marks;
use super::session;
use crate::explain;
use crate::explain::Subject;
use crate::explain::layers::Has;
use crate::explain::layers::walk_past;
use crate::explain::usage;
use crate::explain::usage::Report;
use crate::live::Filter;
use crate::path::Escaped;
use crate::path::RelPath;

/// The most paths that a search lists.
const HITS_MAX: usize = 10_000;
/// How often it is looked whether anybody still wants to know what a mount does.
const LOOK: Duration = Duration::from_millis(200);

/// What the model wants to know, or to be done. `turn` comes back with the answer; answers of former turns are not wanted any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The rows of a directory.
    List { turn: u64, count: usize, path: RelPath, only: Option<usize> },
    /// Everything about a path.
    Look { turn: u64, count: usize, path: RelPath, version: Option<usize>, how: How },
    /// Sizes of all layers and directories.
    Sizes { turn: u64, count: usize },
    /// Paths whose last name holds this text, in any layer.
    Search { turn: u64, count: usize, text: String },
    /// All whiteouts and opaque directories.
    Whiteouts { turn: u64, count: usize },
    /// Takes a path out.
    Extract { count: usize, path: RelPath, to: PathBuf },
    /// Mounts the lowest layers.
    Mount { count: usize, dir: PathBuf },
    /// Listens to the live mount, or no longer.
    Trace { turn: u64, on: bool },
    /// Ends the screen.
    Quit,
}

impl Ask {
    /// The turn of what the reader answers; it has no use for what belongs to an older one.
    fn turn(&self) -> Option<u64> {
        match self {
            Ask::List { turn, .. } | Ask::Look { turn, .. } => Some(*turn),
            _ => None,
        }
    }
}

/// A path that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The path.
    pub path: RelPath,
    /// The layer, by number; it may be hidden there.
    pub layer: usize,
    /// What is to be said of it.
    pub note: &'static str,
    /// How well it fits: 0 is what was asked for, letter by letter.
    pub rank: u8,
}

/// An answer.
#[derive(Debug)]
pub enum Found {
    /// Rows of a directory; more come until `done`.
    Rows { turn: u64, path: RelPath, rows: Vec<Row>, done: bool },
    /// Everything about a path.
    Details { turn: u64, details: Box<Details> },
    /// Sizes.
    Sizes { turn: u64, report: Box<Report> },
    /// Paths; more come until `done`.
    Hits { turn: u64, hits: Vec<Hit>, done: bool },
    /// Operations on the live mount.
    Traced { turn: u64, batch: live::Batch },
    /// Nobody can listen to the mount, and why.
    Untraced { turn: u64, why: String },
    /// The reader has done one of the things that it was asked.
    Done,
    /// Something that was done, or could not be.
    Said(String),
}

/// The threads that answer.
#[derive(Debug)]
pub struct Work {
    reader: Sender<Ask>,
    answers: Sender<Found>,
    /// Where operations go: it holds few, so a screen that is slow makes the listener slow, and the server counts what is lost.
    traced: Sender<Found>,
    full: Subject,
    ground: Ground,
    /// The turn that long walks work for: sizes, searches, traces, whiteouts.
    wanted: [Arc<AtomicU64>; 4],
}

/// What mounting needs.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The image of the store, if it is one.
    pub image: Option<String>,
    /// The store that the user named, and what may be mounted already.
    pub source: live::Source,
}

impl Work {
    /// Starts the reader.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(
        full: Subject,
        ground: Ground,
        answers: Sender<Found>,
        traced: Sender<Found>,
    ) -> std::io::Result<Self> {
        let (reader, asks) = crossbeam_channel::unbounded();
        let (subject, to, theirs) = (full.clone(), answers.clone(), ground.clone());
        std::thread::Builder::new().name("reader".to_owned()).spawn(move || read(&subject, &theirs, &asks, &to))?;
        Ok(Self { reader, answers, traced, full, ground, wanted: Default::default() })
    }

    /// Has something done; the answer comes by the channel. Whether the reader does it, and says [`Found::Done`].
    pub fn ask(&self, ask: Ask) -> bool {
        match ask {
            Ask::Sizes { turn, count } => self.long(0, turn, count, sizes),
            Ask::Search { turn, count, text } => {
                let text = text.to_lowercase();
                self.long(1, turn, count, move |here, task| search(here, task, &text));
            }
            Ask::Whiteouts { turn, count } => self.long(3, turn, count, whiteouts),
            Ask::Trace { turn, on } => self.trace(turn, on),
            // They may take long, and nobody waits for them: the reader goes on.
            job @ (Ask::Extract { .. } | Ask::Mount { .. }) => self.aside(job),
            // The reader ends only with this.
            other => return self.reader.send(other).is_ok(),
        }
        false
    }

    fn aside(&self, job: Ask) {
        let (full, ground, answers) = (self.full.clone(), self.ground.clone(), self.answers.clone());
        let run = move || {
            let mut tell = |found| answers.send(found).unwrap_or_default();
            if let Err(e) = answer(&full, &ground, job, &mut None, &mut tell) {
                tell(Found::Said(e));
            }
        };
        self.spawn("job", run);
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) {
        if let Err(e) = std::thread::Builder::new().name(name.to_owned()).spawn(run) {
            self.answers.send(Found::Said(format!("no thread for it: {e}"))).unwrap_or_default();
        }
    }

    fn long(
        &self,
        kind: usize,
        turn: u64,
        count: usize,
        job: impl FnOnce(&Subject, &Task) -> explain::Result<()> + Send + 'static,
    ) {
        let Some(wanted) = self.wanted.get(kind).cloned() else { return };
        wanted.store(turn, Ordering::Relaxed);
        let (full, answers) = (self.full.clone(), self.answers.clone());
        let run = move || {
            let task = Task { turn, count, wanted, answers };
            if !task.is_wanted() {
                return;
            }
            match full.first(count).and_then(|here| job(&here, &task)) {
                Ok(()) | Err(explain::Error::Stopped) => {}
                Err(e) => task.tell(Found::Said(e.to_string())),
            }
        };
        self.spawn("walk", run);
    }

    fn trace(&self, turn: u64, on: bool) {
        let [_, _, wanted, _] = &self.wanted;
        wanted.store(if on { turn } else { 0 }, Ordering::Relaxed);
        if !on {
            return;
        }
        let (wanted, to, source) = (wanted.clone(), self.traced.clone(), self.ground.source.clone());
        let run = move || {
            let tell = |batch| to.send(Found::Traced { turn, batch }).is_ok();
            let done = source.open(&Filter::default()).and_then(|mut feed| {
                // An empty one says that the listening has begun.
                let mut goes_on = tell(live::Batch::default());
                while goes_on && wanted.load(Ordering::Relaxed) == turn {
                    let batch = feed.next(LOOK)?;
                    goes_on = batch.ended.is_none();
                    goes_on &= batch.is_empty() || tell(batch);
                }
                Ok(())
            });
            if let Err(e) = done {
                to.send(Found::Untraced { turn, why: e.message() }).unwrap_or_default();
            }
        };
        self.spawn("trace", run);
    }
}

/// A long walk.
struct Task {
    turn: u64,
    count: usize,
    wanted: Arc<AtomicU64>,
    answers: Sender<Found>,
}

impl Task {
    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) == self.turn
    }

    /// With the screen gone nobody waits.
    fn tell(&self, found: Found) {
        self.answers.send(found).unwrap_or_default();
    }
}

fn sizes(here: &Subject, task: &Task) -> explain::Result<()> {
    let report = usage::usage_while(here, &RelPath::root(), usize::MAX >> 1, &|| task.is_wanted())?;
    task.tell(Found::Sizes { turn: task.turn, report: Box::new(report) });
    Ok(())
}

fn search(here: &Subject, task: &Task, text: &str) -> explain::Result<()> {
    gather(here, task, &mut |folder, entry, out| {
        let path = || folder.path.child(entry.name.as_name());
        // A text with a slash is a part of a path.
        let whole = if text.contains('/') { path().to_string() } else { Escaped(entry.name.as_bytes()).to_string() };
        let whole = whole.to_lowercase();
        if whole.contains(text)
            && let Some(version) = entry.served().or_else(|| entry.versions.first())
        {
            let note = match (&version.has, entry.stat.is_some()) {
                (Has::Whiteout, _) => "whiteout",
                (_, true) => "",
                (_, false) => "hidden",
            };
            let rank = if whole == text { 0 } else { 2 - u8::from(whole.starts_with(text)) };
            out.push(Hit { path: path(), layer: task.count.saturating_sub(version.layer), note, rank });
        }
    })
}

fn whiteouts(here: &Subject, task: &Task) -> explain::Result<()> {
    gather(here, task, &mut |folder, entry, out| {
        let hit = |mark: Mark| Hit {
            path: mark.path,
            layer: task.count.saturating_sub(mark.layer),
            rank: 0,
            note: mark.word,
        };
        out.extend(marks(folder, entry).into_iter().map(hit));
    })
}

type Look<'a> = dyn FnMut(&explain::layers::Folder, &explain::layers::Entry, &mut Vec<Hit>) + 'a;

fn gather(here: &Subject, task: &Task, look: &mut Look<'_>) -> explain::Result<()> {
    let (mut hits, mut count) = (Vec::new(), 0);
    let mut broken = None;
    let mut past = |e| match e {
        explain::Error::Stopped => Err(e),
        // What can be read is searched, whatever cannot.
        other => {
            broken.get_or_insert(other);
            Ok(())
        }
    };
    let mut each = |folder: &explain::layers::Folder, entry: &explain::layers::Entry| {
        if !task.is_wanted() || count >= HITS_MAX {
            return Err(explain::Error::Stopped);
        }
        let before = hits.len();
        look(folder, entry, &mut hits);
        count += hits.len() - before;
        if hits.len() >= 50 || (count == hits.len() && !hits.is_empty() && before == 0) {
            task.tell(Found::Hits { turn: task.turn, hits: std::mem::take(&mut hits), done: false });
        }
        Ok(true)
    };
    let done = walk_past(here, &RelPath::root(), &mut each, &mut past);
    if !task.is_wanted() {
        return done;
    }
    task.tell(Found::Hits { turn: task.turn, hits, done: true });
    match done {
        Err(explain::Error::Stopped) => Ok(()),
        other => other.and(broken.map_or(Ok(()), Err)),
    }
}

fn read(full: &Subject, ground: &Ground, asks: &Receiver<Ask>, answers: &Sender<Found>) {
    let mut stacks: Option<Stacks> = None;
    while let Ok(first) = asks.recv() {
        let mut waiting = vec![first];
        waiting.extend(asks.try_iter());
        // Whoever moves on does not wait for the details of what was passed by.
        let last = waiting.iter().rposition(|ask| matches!(ask, Ask::Look { .. }));
        let newest = waiting.iter().filter_map(Ask::turn).max();
        for (at, ask) in waiting.into_iter().enumerate() {
            let mut tell = |found| answers.send(found).unwrap_or_default();
            let passed_by = matches!(ask, Ask::Look { .. }) && last != Some(at) || ask.turn() < newest;
            if !passed_by && let Err(e) = answer(full, ground, ask, &mut stacks, &mut tell) {
                tell(Found::Said(e));
            }
            tell(Found::Done);
        }
    }
}

/// Answers what the reader answers; the failure in words.
///
/// # Errors
/// Those of reading the layers.
pub fn answer(
    full: &Subject,
    ground: &Ground,
    ask: Ask,
    stacks: &mut Option<Stacks>,
    tell: &mut dyn FnMut(Found),
) -> Result<(), String> {
    let text = |e: explain::Error| e.to_string();
    let count = match &ask {
        Ask::List { count, .. } | Ask::Look { count, .. } | Ask::Extract { count, .. } => *count,
        _ => stacks.as_ref().map_or(0, |stacks| stacks.count),
    };
    let stacks = match stacks {
        Some(known) if known.count == count => known,
        other => other.insert(Stacks::new(full, count).map_err(text)?),
    };
    match ask {
        Ask::List { turn, path, only, .. } => {
            let end = |rows, done| Found::Rows { turn, path: path.clone(), rows, done };
            let listed = stacks.list(&path, only, &mut |rows| tell(end(rows, false)));
            tell(end(Vec::new(), true));
            match listed.map_err(|e| stacks.words(&e))? {
                0 => Ok(()),
                more => Err(format!("{path}: {more} more names are not shown; / finds them")),
            }
        }
        Ask::Look { turn, path, version, how, .. } => {
            let details =
                stacks.look(&path, version, how).unwrap_or_else(|e| Details::failed(path, how, stacks.words(&e)));
            tell(Found::Details { turn, details: Box::new(details) });
            Ok(())
        }
        Ask::Extract { path, to, .. } => {
            tell(Found::Said(session::extract(&stacks.here, &path, &to).map_err(|e| e.message())?));
            Ok(())
        }
        Ask::Mount { count, dir } => {
            let image = ground.image.as_deref();
            session::mount(image, (count, full.layers().len()), ground.source.root.as_deref(), &dir)
                .map_err(|e| e.message())?;
            tell(Found::Said(format!("mounted on {}", Escaped(dir.as_os_str().as_encoded_bytes()))));
            Ok(())
        }
        _ => Ok(()),
    }
}
