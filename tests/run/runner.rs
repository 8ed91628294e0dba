//! The runner: starts one container as its arguments say, stands in for it, and ends as it ended.
//!
//! `runner ROOTFS [-t] [-i] [--ro] [-u USER] [-w DIR] [-e K=V] [-v SRC:DST] [--ulimit X] [--pid FILE] -- ARGV`

use std::ffi::OsString;
use std::process::ExitCode;

use micafs::run;
use micafs::run::spec;

pub fn main(args: &[String]) -> ExitCode {
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("{e}");
            ExitCode::from(e.exit_code())
        }
    }
}

fn run(args: &[String]) -> run::Result<u8> {
    let split = args.iter().position(|a| a == "--").unwrap();
    let mut over = spec::Overrides { hostname: "box".to_owned(), ..Default::default() };
    over.args = args[split + 1..].iter().map(OsString::from).collect();
    let (mut read_only, mut binds, mut rlimits, mut pid_file) = (false, Vec::new(), Vec::new(), None);
    let mut options = args[3..split].iter();
    while let Some(option) = options.next() {
        match option.as_str() {
            "-t" => over.tty = true,
            "-i" => over.interactive = true,
            "--ro" => read_only = true,
            "-u" => over.user = options.next().cloned(),
            "-w" => over.workdir = options.next().map(|w| w.as_bytes().to_vec()),
            "-e" => over.env.extend(options.next().map(OsString::from)),
            "--ulimit" => rlimits.push(spec::Rlimit::parse(options.next().unwrap())?),
            "--pid" => pid_file = options.next(),
            "-v" => {
                let (source, target) = options.next().unwrap().split_once(':').unwrap();
                let target = target.as_bytes().to_vec();
                binds.push(spec::Bind { source: source.into(), target, read_only: false });
            }
            other => panic!("unknown option {other}"),
        }
    }
    let mut spec = spec::from_image(args[2].clone().into(), &spec::ImageConfig::default(), &over)?;
    (spec.read_only, spec.binds, spec.rlimits) = (read_only, binds, rlimits);
    let mut running = run::start(&spec)?;
    if let Some(file) = pid_file {
        std::fs::write(file, running.pid().to_string()).unwrap();
    }
    running.release()?;
    let status = running.wait()?;
    Ok(status.code())
}
