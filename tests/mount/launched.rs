//! The child process of a test: mount.mica with a server of one empty directory, and servers that misbehave in one way each.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command as Program;
use std::process::ExitCode;
use std::sync::Arc;

use micafs::fuse::Config;
use micafs::fuse::Session;
use micafs::layer::mem::MemLayer;
use micafs::mount::Error;
use micafs::mount::Request;
use micafs::mount::Source;
use micafs::mount::dialect;
use micafs::mount::dialect::Command;
use micafs::mount::launch::Serving;
use micafs::mount::launch::launch;
use micafs::mount::remount::remount;
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
    let session = Session::new(serving.fuse, empty()?, Config::default()).map_err(|e| format!("handshake: {e}"))?;
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
fn empty() -> Result<Arc<Union>, String> {
    let layer = MemLayer::new("empty", &[]).map_err(|e| e.to_string())?;
    let stack = Stack::new(None, vec![Arc::new(layer)]).map_err(|e| e.to_string())?;
    Ok(Arc::new(Union::new(stack, Options::default()).map_err(|e| e.to_string())?))
}
