//! The child process of a test: mount.mica with a server of one empty directory, and servers that misbehave in one way each.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command as Program;
use std::process::ExitCode;
use std::sync::Arc;

use micafs::fuse::Config;
use micafs::fuse::Session;
use micafs::layer;
use micafs::layer::Content;
use micafs::layer::Item;
use micafs::layer::Layer;
use micafs::layer::Marks;
use micafs::layer::Obj;
use micafs::layer::Object;
use micafs::layer::ObjectId;
use micafs::layer::Seen;
use micafs::layer::mem::Entry;
use micafs::layer::mem::MemLayer;
use micafs::layer::mem::Shape;
use micafs::mount::Error;
use micafs::mount::Request;
use micafs::mount::Source;
use micafs::mount::dialect;
use micafs::mount::dialect::Command;
use micafs::mount::launch::Serving;
use micafs::mount::launch::launch;
use micafs::mount::remount::remount;
use micafs::path::Name;
use micafs::path::RelPath;
use micafs::sys::attr::FsStat;
use micafs::sys::attr::Kind;
use micafs::sys::attr::Stat;
use micafs::sys::attr::Time;
use micafs::union::Options;
use micafs::union::Union;
use micafs::union::stack::Stack;

use crate::support::Notes;
use crate::support::until;

/// What a program of this kind does, as in mount-helper.
pub fn main(argv: &[OsString]) -> ExitCode {
    match run(argv) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mica: {e}");
            e.hint().inspect(|hint| eprintln!("mica: hint: {hint}"));
            ExitCode::FAILURE
        }
    }
}

fn run(argv: &[OsString]) -> Result<(), Error> {
    match dialect::parse(argv)?.command {
        Command::Mount(request) => launch(&request, open, serve).map(drop),
        Command::Remount { target, options } => remount(&target, &options),
        other => Err(Error::usage(format!("{other:?}"))),
    }
}

struct Opened {
    notes: Notes,
    image: String,
    lingers: bool,
}

fn open(request: &Request) -> Result<Opened, String> {
    let notes = Notes::of_child();
    let image = match &request.source {
        Source::Image { reference, .. } => reference.clone(),
        Source::Dirs { lower, .. } => {
            lower.iter().try_for_each(|dir| open_lower(&notes, dir))?;
            String::new()
        }
        Source::Container { .. } => return Err("no containers here".to_owned()),
    };
    match image.as_str() {
        "fail-open" => return Err("the store is on holiday".to_owned()),
        "panic-open" => panic!("in open"),
        _ => {}
    }
    notes.write("pid", &std::process::id().to_string());
    Ok(Opened { notes, image, lingers: request.options.fs_name.as_deref() == Some(b"linger") })
}

fn open_lower(notes: &Notes, dir: &Path) -> Result<(), String> {
    micafs::sys::open::dir_path(dir).map_err(|e| e.to_string())?;
    notes.write("opened", &dir.display().to_string());
    Ok(())
}

fn serve(opened: Opened, serving: Serving<'_>) -> Result<(), String> {
    let notes = &opened.notes;
    match opened.image.as_str() {
        "fail-serve" => return Err("no handshake today".to_owned()),
        "end-early" => return Ok(()),
        "die" => drop(Program::new("kill").args(["-KILL", &std::process::id().to_string()]).status()),
        _ => {}
    }
    let hook = notes.clone();
    serving.statistics.on_signal(move || hook.write("statistics", "called"));
    let union = if opened.image == "panic-in-requests" { union(Panics::new()?) } else { union(empty()?) }?;
    let session = Session::new(serving.fuse, union, Config::default()).map_err(|e| format!("handshake: {e}"))?;
    if opened.image == "slow" {
        notes.write("waits", "");
        until("the test says go", || notes.read("go").is_some()).map_err(|e| e.to_string())?;
    }
    serving.ready.now();
    if opened.image == "panic-later" {
        until("the test says go", || notes.read("go").is_some()).map_err(|e| e.to_string())?;
        panic!("in serve");
    }
    let ended = session.run().map_err(|e| e.to_string());
    if opened.lingers {
        notes.write("lingers", "");
        until("the test says go", || notes.read("go").is_some()).map_err(|e| e.to_string())?;
    }
    ended
}

/// One empty directory.
fn empty() -> Result<MemLayer, String> {
    MemLayer::new("empty", &[]).map_err(|e| e.to_string())
}

fn union(layer: impl Layer + 'static) -> Result<Arc<Union>, String> {
    let stack = Stack::new(None, vec![Arc::new(layer)]).map_err(|e| e.to_string())?;
    Ok(Arc::new(Union::new(stack, Options::default()).map_err(|e| e.to_string())?))
}

/// A layer with the file `fine`, and a bug: it panics when it is asked for the name `panic` or for the attribute `user.panic`.
#[derive(Debug)]
struct Panics(MemLayer);

impl Panics {
    fn new() -> Result<Self, String> {
        let path = RelPath::parse(b"fine").map_err(|e| e.to_string())?;
        let shape = Shape::File(4, vec![(0, b"fine".to_vec())]);
        let fine = Entry { path, shape, mode: 0o644, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() };
        Ok(Self(MemLayer::new("panics", &[fine]).map_err(|e| e.to_string())?))
    }
}

impl Layer for Panics {
    fn root(&self) -> layer::Result<Obj> {
        Ok(Obj::new(PanickingRoot(self.0.root()?)))
    }

    fn label(&self) -> String {
        self.0.label()
    }

    fn key(&self) -> String {
        self.0.key()
    }

    fn fs_stat(&self) -> layer::Result<FsStat> {
        self.0.fs_stat()
    }
}

#[derive(Debug)]
struct PanickingRoot(Obj);

impl Object for PanickingRoot {
    fn lookup(&self, name: Name<'_>) -> layer::Result<Seen> {
        assert!(name.as_bytes() != b"panic", "a bug in a lookup");
        self.0.lookup(name)
    }

    fn xattr(&self, name: &[u8]) -> layer::Result<Option<Vec<u8>>> {
        assert!(name != b"user.panic", "a bug in an attribute");
        self.0.xattr(name)
    }

    fn id(&self) -> ObjectId {
        self.0.id()
    }

    fn kind(&self) -> Kind {
        self.0.kind()
    }

    fn stat(&self) -> layer::Result<Stat> {
        self.0.stat()
    }

    fn marks(&self) -> layer::Result<Marks> {
        self.0.marks()
    }

    fn list(&self, each: &mut dyn FnMut(Item<'_>) -> layer::Result<()>) -> layer::Result<()> {
        self.0.list(each)
    }

    fn open(&self) -> layer::Result<Content> {
        self.0.open()
    }

    fn readlink(&self) -> layer::Result<Vec<u8>> {
        self.0.readlink()
    }

    fn xattrs(&self) -> layer::Result<Vec<Vec<u8>>> {
        self.0.xattrs()
    }

    fn location(&self) -> String {
        self.0.location()
    }
}
