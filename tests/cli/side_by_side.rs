//! Commands side by side on one store, as real processes: whatever they meet, each ends well or says plainly why not, and the store
//! is whole at every moment.
//!
//! `MICA_SIDE_BY_SIDE=SECONDS` makes it longer.

use std::ffi::OsString;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::area::Area;
use crate::support::is_root;
use crate::support::require_fixture;

/// What a command may say instead of ending well, when another one was faster.
const EXCUSES: [&str; 5] =
    ["No such image", "another mica is at work", "image is being used", "is using its referenced image", "conflict: "];

/// How much longer a command is tried that never succeeded.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn loads_removals_saves_runs_mounts_and_checks_side_by_side() {
    let fixture = require_fixture!("busybox");
    let area = Area::with("side", &fixture);
    let seconds = std::env::var("MICA_SIDE_BY_SIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let end = Instant::now() + Duration::from_secs(seconds);
    let image = fixture.image();
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let load = |ending: &str| [words(&["load", "-q", "-i"]), vec![fixture.file(ending).into_os_string()]].concat();
    let mut workers = vec![
        load("docker.tar"),
        load("docker.tar"),
        load("oci.tar.gz"),
        words(&["rmi", &image]),
        words(&["rmi", "-f", &image]),
        words(&["save", "-o", "/dev/null", &image]),
        words(&["tag", &image, "other:1"]),
        words(&["rmi", "other:1"]),
        words(&["system", "check"]),
        words(&["system", "check", "--repair"]),
        words(&["system", "prune", "-f"]),
        words(&["image", "prune", "-a", "-f"]),
        words(&["images", "-q"]),
    ];
    if is_root() && crate::support::bin::mount_helper().is_ok() {
        workers.push(words(&["run", "--rm", &image, "true"]));
        workers.push([words(&["mount", &image]), vec![area.new_dir("m").into_os_string()]].concat());
    }
    let well: Vec<AtomicUsize> = workers.iter().map(|_| AtomicUsize::new(0)).collect();
    let excused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (words, well) in workers.iter().zip(&well) {
            let (area, excused) = (&area, &excused);
            scope.spawn(move || {
                // Longer than asked for where a command was never lucky, which is what a busy machine makes of some.
                while Instant::now() < end || well.load(Ordering::Relaxed) == 0 && Instant::now() < end + PATIENCE {
                    let said = area.said(words);
                    if said.status.success() {
                        well.fetch_add(1, Ordering::Relaxed);
                        if words[0] == "mount" {
                            // Whole, whatever was removed since.
                            let point = &words[2];
                            let busybox = std::fs::read(std::path::Path::new(point).join("bin/busybox"));
                            assert!(busybox.is_ok_and(|bytes| bytes.len() > 1 << 20), "the mount is not whole");
                            area.ok(["umount".as_ref(), point.as_os_str()]);
                        }
                        continue;
                    }
                    let excuse = EXCUSES.iter().any(|excuse| said.err.contains(excuse));
                    assert!(excuse, "{words:?}: {said:?}");
                    excused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    for (words, well) in workers.iter().zip(&well) {
        let well = well.load(Ordering::Relaxed);
        println!("{well:4} times {}", words.join(std::ffi::OsStr::new(" ")).display());
        assert!(well > 0, "it never succeeded: {words:?}");
    }
    println!("{} came too late", excused.into_inner());
    area.load(&fixture);
    let said = area.ok(["system", "check"]);
    assert!(said.contains("the store is whole") && !said.contains("left by killed"), "{said}");
    area.said(["rmi", "-f", &image]);
    area.said(["rmi", "-f", "other:1"]);
    area.ok(["system", "check", "--repair"]);
    assert_eq!(area.ok(["images", "-q"]), "");
    let below = |path: &std::path::PathBuf| path.parent() != Some(&*area.store());
    let left: Vec<_> = area.store_files().into_iter().filter(below).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
