//! mount.mica: mounts images, containers and directories. The name it is called by and its arguments choose the dialect.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use micafs::mount::Error;
use micafs::mount::Request;
use micafs::mount::dialect;
use micafs::mount::dialect::Command;
use micafs::mount::help;
use micafs::mount::launch::launch;
use micafs::mount::point;
use micafs::mount::remount::remount;
use micafs::mount::request::Dialect;
use micafs::mount::serve;
use micafs::mount::source::Source;
use micafs::union::Union;

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    match run(&argv) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mica: {e}");
            if let Some(hint) = e.hint() {
                eprintln!("mica: hint: {hint}");
            }
            // Only mount(8) reads more into the code than "failed".
            ExitCode::from(if dialect::detect(&argv) == Dialect::Mount8 { e.exit_code() } else { 1 })
        }
    }
}

fn run(argv: &[OsString]) -> Result<(), Error> {
    let invocation = dialect::parse(argv)?;
    invocation.enter_namespace()?;
    match &invocation.command {
        Command::Help(dialect) => print!("{}", help::help(*dialect)),
        Command::Version(dialect) => print!("{}", help::version(*dialect)),
        Command::Remount { target, options } => remount(target, options)?,
        Command::Fake(request) => drop(point::check(request)?),
        Command::Mount(request) => {
            request.warnings.iter().for_each(|warning| eprintln!("mica: {warning}"));
            launch(request, open, |union, serving| serve::serve(union, &request.options, serving))?;
        }
    }
    Ok(())
}

/// Opens the layers that a request names.
fn open(request: &Request) -> Result<Arc<Union>, String> {
    match &request.source {
        Source::Dirs { .. } => serve::open_dirs(request),
        other => Err(format!("images are not wired yet: {}", other.label())),
    }
}
