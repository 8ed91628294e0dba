//! mount.mica: mounts images, containers and directories. The name it is called by and its arguments choose the dialect.

mod images;

use std::ffi::OsString;
use std::process::ExitCode;

use micafs::logging;
use micafs::mount::Error;
use micafs::mount::dialect;
use micafs::mount::dialect::Command;
use micafs::mount::help;
use micafs::mount::launch::launch;
use micafs::mount::point;
use micafs::mount::remount::remount;
use micafs::mount::request::Dialect;
use micafs::mount::serve;

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
            logging::init("mount.mica", !request.foreground);
            launch(request, images::open, |opened, serving| {
                let served = serve::serve(opened.union.clone(), opened.made(), &request.options, serving);
                opened.release();
                served
            })?;
        }
    }
    Ok(())
}
