//! Requests that come over io_uring, where the administrator allows it (`/sys/module/fuse/parameters/enable_uring`).
//!
//! All other tests hold on such mounts, too: `scripts/test` runs them a second time with it allowed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::thread::CpuSet;
use serde_json::Value;

use crate::place::On;
use crate::place::Place;
use crate::place::put;
use crate::place::server_of;
use crate::support::bin;
use crate::support::guard::wait_for;
use crate::support::report_skip;

/// Two layers, with options; `None`, and the reason printed, where requests cannot come over io_uring.
fn mounted(label: &str, options: &str) -> Option<Place> {
    let allowed = fs::read_to_string("/sys/module/fuse/parameters/enable_uring").unwrap_or_default();
    if allowed.trim() != "Y" || On::chosen() != On::Mica {
        report_skip("FUSE over io_uring is not allowed by the kernel's parameter fuse.enable_uring");
        return None;
    }
    let mut place = Place::prepared(label)?;
    put(&place.in_layer(1, ""), "lower", b"from below");
    place.set_options(options);
    place.mount(On::Mica);
    Some(place)
}

fn stats(top: &Path) -> Value {
    let out = bin::run_ok(Command::new(bin::mica()).args(["stats", "--json"]).arg(top));
    serde_json::from_str(&out).expect("JSON")
}

fn is_over_io_uring(top: &Path) -> bool {
    let stats = stats(top);
    let abilities = stats["kernel"]["abilities"].as_array().expect("abilities");
    let ability = abilities.iter().find(|a| a["name"] == "over_io_uring").expect("io_uring");
    ability["used"].as_bool().expect("a boolean")
}

#[test]
fn it_is_used_where_the_kernel_offers_it_and_an_option_says_no() {
    let Some(place) = mounted("uring", "io_uring=1") else { return };
    assert!(is_over_io_uring(&place.top));
    assert_eq!(fs::read(place.at("lower")).unwrap(), b"from below");
    place.unmount();
    let Some(place) = mounted("uring-not", "io_uring=0") else { return };
    assert!(!is_over_io_uring(&place.top));
    assert_eq!(fs::read(place.at("lower")).unwrap(), b"from below");
}

/// What is larger than a request goes both ways whole, and what is as large as one, and a listing of many requests.
#[test]
fn large_writes_reads_names_and_listings_arrive_whole() {
    let Some(place) = mounted("uring-large", "io_uring=1") else { return };
    let long = "n".repeat(255);
    for (name, len) in [("page", 4096), ("request", 1 << 20), ("more", (5 << 20) + 7), (long.as_str(), 3)] {
        let data: Vec<u8> = (0..len).map(|i: u32| (i % 251) as u8).collect();
        fs::write(place.at(name), &data).unwrap();
        assert!(fs::read(place.in_upper(name)).unwrap() == data, "{name} in upper");
        // Read again, not from the kernel's cache.
        place.remount();
        assert!(fs::read(place.at(name)).unwrap() == data, "{name}");
    }
    fs::create_dir(place.at("d")).unwrap();
    (0..3000).for_each(|i| fs::write(place.at(format!("d/{i:0200}")), b"").unwrap());
    place.remount();
    assert_eq!(fs::read_dir(place.at("d")).unwrap().count(), 3000);
    let value = vec![b'x'; 60_000];
    rustix::fs::setxattr(place.at("page"), "user.large", &value, rustix::fs::XattrFlags::empty()).map_or_else(
        |e| eprintln!("not compared: {e}"),
        |()| {
            let mut room = vec![0; 65_536];
            let n = rustix::fs::getxattr(place.at("page"), "user.large", &mut room[..]).unwrap();
            assert!(room[..n] == value[..], "a long attribute");
        },
    );
}

/// All of them ask on one processor, so at one of the kernel's queues: more than there are threads at it, as all write to disk.
#[test]
fn many_askers_on_one_processor_are_all_answered() {
    let Some(place) = mounted("uring-many", "io_uring=1,threads=4") else { return };
    std::thread::scope(|scope| {
        for n in 0..40 {
            let at = |name: String| place.at(name);
            scope.spawn(move || {
                let mut first = CpuSet::new();
                first.set(0);
                rustix::thread::sched_setaffinity(None, &first).expect("processor 0");
                for i in 0..20 {
                    let name = at(format!("{n}-{i}"));
                    fs::write(&name, n.to_string()).unwrap();
                    fs::File::open(&name).unwrap().sync_all().unwrap();
                    fs::rename(&name, at(format!("{n}-{i}-moved"))).unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read_dir(&place.top).unwrap().count(), 40 * 20 + 1);
    let threads = stats(&place.top)["held"]["threads"].as_u64().expect("a number");
    let lanes = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(threads <= 8 + lanes * 4, "{threads} threads");
}

#[test]
fn who_waits_for_a_killed_server_is_told_so() {
    let Some(place) = mounted("uring-killed", "io_uring=1") else { return };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asks = || {
            while fs::read_dir(&place.top).is_ok() && fs::write(place.at("new"), b"new").is_ok() {}
            ended.store(true, Ordering::SeqCst);
        };
        scope.spawn(asks);
        let server = server_of(&place.top).expect("a server");
        bin::run_ok(Command::new("kill").args(["-9", &server]));
        assert!(wait_for(Duration::from_secs(30), || ended.load(Ordering::SeqCst)), "somebody waits for a dead server");
    });
    // While the connection ends the kernel has other words (ECONNABORTED, ECANCELED), but no answer.
    let told = || fs::read_dir(&place.top).expect_err("nobody answers").raw_os_error() == Some(107);
    assert!(wait_for(Duration::from_secs(20), told), "not connected");
    // The directories are free again, and whole.
    place.unmount();
    place.mount(On::Mica);
    assert_eq!(fs::read(place.at("lower")).unwrap(), b"from below");
}
