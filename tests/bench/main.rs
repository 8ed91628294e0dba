//! The filesystem benchmark: the same work on the union and beside it, in turn, in one run. `scripts/bench fs` starts it.
//!
//! What is compared are ratios of medians: other load on the machine meets all alike. Every measurement is on a mount of its own
//! with an empty upper directory, so "cold" means: the union's kernel side knows nothing yet. What the layers' own filesystem has
//! cached, it has cached for all.
//!
//! What is done with the data of one file (big and random reads and writes, append, fsync) is done by fio; names, attributes,
//! small files and copy-up are ours. A mapping is measured both ways.

mod change;
mod chart;
mod data;
mod fio;
mod fixture;
mod meta;
mod report;
mod subject;
mod workload;

use std::error::Error;
use std::path::PathBuf;

use fixture::Fixture;
use report::Report;
use subject::Subject;
use workload::Workload;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: fs --work DIR --out DIR --commit TEXT [--quick] [--rounds N] [--only WORD]... \
                     [--subject NAME=PROGRAM[,OPTION...]]...   (NAME: plain, overlayfs, unionfs-fuse; any other speaks fuse-overlayfs's options)
       fs --draw RESULTS.json";

struct Args {
    draw: Option<PathBuf>,
    work: PathBuf,
    out: PathBuf,
    commit: String,
    quick: bool,
    rounds: usize,
    only: Vec<String>,
    subjects: Vec<Subject>,
}

fn args() -> Result<Args> {
    let mut args = Args {
        draw: None,
        work: PathBuf::new(),
        out: PathBuf::new(),
        commit: "unknown".to_owned(),
        quick: false,
        rounds: 3,
        only: Vec::new(),
        subjects: Vec::new(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        let mut value = || given.next().ok_or(USAGE);
        match word.as_str() {
            "--work" => args.work = value()?.into(),
            "--out" => args.out = value()?.into(),
            "--commit" => args.commit = value()?,
            "--quick" => args.quick = true,
            "--rounds" => args.rounds = value()?.parse()?,
            "--only" => args.only.push(value()?),
            "--subject" => args.subjects.push(Subject::parse(&value()?)?),
            "--draw" => args.draw = Some(value()?.into()),
            // Cargo's own.
            "--bench" => {}
            _ => return Err(USAGE.into()),
        }
    }
    if args.draw.is_none() && (args.work.as_os_str().is_empty() || args.subjects.is_empty()) {
        return Err(USAGE.into());
    }
    Ok(args)
}

fn main() -> Result<()> {
    let args = args()?;
    if let Some(results) = &args.draw {
        println!("{}", chart::draw(&Report::read(results)?));
        return Ok(());
    }
    let chosen: Vec<Workload> = workload::all()
        .into_iter()
        .filter(|w| !(args.quick && w.full_only))
        .filter(|w| args.only.is_empty() || args.only.iter().any(|word| w.name.contains(word.as_str())))
        .collect();
    let fixture = Fixture::make(&args.work, args.quick, &chosen)?;
    let mut report = Report::new(&args.commit, args.quick, args.rounds, &args.subjects);
    for round in 1..=args.rounds {
        for workload in &chosen {
            // Another first one each round: what comes first may find other caches than what comes last.
            for turn in 0..args.subjects.len() {
                let subject = &args.subjects[(turn + round) % args.subjects.len()];
                if !workload.fits(subject) || report.is_hopeless(workload, subject) {
                    continue;
                }
                match workload.measure(&fixture, subject) {
                    Ok(measured) => {
                        eprintln!("{round}/{} {:28} {:22} {measured}", args.rounds, workload.name, subject.name);
                        report.add(workload, subject, measured);
                    }
                    Err(e) => {
                        eprintln!("{round}/{} {:28} {:22} FAILED: {e}", args.rounds, workload.name, subject.name);
                        report.add_failure(workload, subject, &e.to_string());
                    }
                }
            }
        }
    }
    fixture.remove()?;
    if args.out.as_os_str().is_empty() {
        print!("{}", report.markdown());
        return Ok(());
    }
    report.write(&args.out)?;
    print!("{}", report.markdown());
    Ok(())
}
