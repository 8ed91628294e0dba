//! Block-wise copy-up (`copy_up=blocks`) through a mount: large files that are changed in a few places.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::place::On;
use crate::place::Place;
use crate::place::have;
use crate::place::kernel_overlay;
use crate::place::server_of;
use crate::place::sh;
use crate::support::bin;
use crate::support::skip;

const BLOCK: u64 = 128 << 10;
/// Not a whole number of blocks.
const SIZE: u64 = (6 << 20) + 777;

fn content(seed: u64) -> Vec<u8> {
    (0..SIZE).map(|i| (i.wrapping_mul(2654435761) >> 7).wrapping_add(seed + i / BLOCK) as u8).collect()
}

fn place(label: &str) -> Option<Place> {
    let mut place = Place::prepared(label)?;
    if On::chosen() != On::Mica {
        crate::support::report_skip("an option of mica's");
        return None;
    }
    fs::write(place.in_layer(1, "big"), content(1)).unwrap();
    place.set_options("copy_up=blocks");
    place.mount(On::Mica);
    Some(place)
}

fn writing(path: PathBuf) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn taken(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn one_byte_and_one_behind_the_end_copy_two_blocks() {
    let Some(p) = place("blocks") else { return };
    let mut model = content(1);
    let file = writing(p.at("big"));
    file.write_all_at(b"x", 3_000_000).unwrap();
    file.write_all_at(b"tail", SIZE).unwrap();
    file.sync_all().unwrap();
    drop(file);
    model[3_000_000] = b'x';
    model.extend_from_slice(b"tail");
    assert!(fs::read(p.at("big")).unwrap() == model);
    let (own, layer) = (taken(&p.in_upper("big")), fs::read(p.in_layer(1, "big")).unwrap());
    assert!(own <= 3 * BLOCK, "{own} bytes in upper");
    assert!(layer == content(1), "the layer is untouched");
    assert_eq!(fs::metadata(p.at("big")).unwrap().len(), SIZE + 4);
    p.remount();
    assert!(fs::read(p.at("big")).unwrap() == model, "after a remount");
    sh(&p.top, "cp big copy && mv big moved && ln moved link");
    for name in ["copy", "moved", "link"] {
        assert!(fs::read(p.at(name)).unwrap() == model, "{name}");
    }
    assert!(fs::read(p.in_upper("moved")).unwrap() == model, "under another name it is whole");
    p.unmount();
    let mut p = p;
    p.set_options("redirect_dir=off");
    p.mount(On::Mica);
    p.same_after_remount_and_by_the_kernel();
}

/// All that changes a file, in turn, beside a plain one.
#[test]
fn random_changes_equal_those_of_a_plain_file() {
    if !have("python3") {
        skip!("python3 is not installed");
    }
    let Some(p) = place("random") else { return };
    fs::write(p.beside("plain"), content(1)).unwrap();
    let script = format!(
        r#"
import mmap, os, random, sys
r = random.Random(int(sys.argv[1]))
files = [os.open(name, os.O_RDWR) for name in ("m/big", "plain")]
def both(do): return [do(f) for f in files]
for turn in range(120):
    size = os.fstat(files[1]).st_size
    at = r.choice([r.randrange(0, size + 300000), r.randrange(0, size // {BLOCK} + 2) * {BLOCK}, size])
    data = bytes([r.randrange(256)]) * r.choice([1, 100, 5000, 300000])
    what = r.choice("wwwwwwmmaftdspr")
    if what == "w": both(lambda f: os.pwrite(f, data, at))
    elif what == "m" and size > 20000:
        at = r.randrange(0, size - 10000)
        def mapped(f):
            m = mmap.mmap(f, 0); m[at:at + 9000] = data[:1] * 9000
            if turn % 2: m.flush()
            m.close()
        both(mapped)
    elif what == "a": both(lambda f: os.pwrite(f, data, size))
    elif what == "f": both(os.fsync)
    elif what == "t" and turn > 80: both(lambda f: os.truncate(f, max(1, at)))
    elif what == "d": both(os.fdatasync)
    elif what == "s" and turn > 60: both(lambda f: os.posix_fallocate(f, at, 4096))
    elif what == "p":
        names = ["m/big", "plain"]
        files = [os.open(n, os.O_RDWR) for n in names if not os.close(files.pop(0))]
    a, b = both(lambda f: (os.fstat(f).st_size, os.pread(f, len(data) + 10000, max(0, at - 5000))))
    assert a == b, (turn, what, at, len(data), a[0], b[0])
    if turn % 20 == 19:
        a, b = both(lambda f: os.pread(f, 1 << 30, 0))
        assert a == b, (turn, what, [i for i in range(min(len(a), len(b))) if a[i] != b[i]][:1], len(a), len(b))
"#
    );
    fs::write(p.beside("script.py"), script).unwrap();
    for seed in 1..=4 {
        sh(&p.beside(""), &format!("cp plain plain.before; python3 script.py {seed}"));
        p.remount();
        assert!(fs::read(p.at("big")).unwrap() == fs::read(p.beside("plain")).unwrap(), "seed {seed}");
        // From the layer's file again.
        fs::remove_file(p.at("big")).unwrap();
        p.unmount();
        fs::remove_file(p.in_upper("big")).unwrap();
        fs::write(p.beside("plain"), content(1)).unwrap();
        p.mount(On::Mica);
    }
}

/// What is killed loses nothing that was written.
#[test]
fn a_kill_keeps_what_was_written() {
    let Some(p) = place("kill") else { return };
    let mut model = content(1);
    let file = writing(p.at("big"));
    for block in 0..20u64 {
        let at = block * 2 * BLOCK + 11;
        file.write_all_at(b"kept", at).unwrap();
        model[at as usize..at as usize + 4].copy_from_slice(b"kept");
    }
    let server = server_of(&p.top).expect("a server");
    bin::run_ok(Command::new("kill").args(["-KILL", &server]));
    drop(file);
    p.unmount();
    p.mount(On::Mica);
    assert!(fs::read(p.at("big")).unwrap() == model);
}

/// Kernels that know the value of the mark refuse the file, instead of showing the layer's content as if it were all.
#[test]
fn the_kernels_overlayfs_refuses_it() {
    if let Err(reason) = kernel_overlay() {
        skip!("no overlayfs of the kernel here: {reason}");
    }
    let Some(mut p) = place("kernel") else { return };
    writing(p.at("big")).write_all_at(b"x", 5).unwrap();
    p.unmount();
    p.set_options("metacopy=on");
    p.mount(On::Kernel);
    let read = fs::read(p.at("big"));
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(6)) {
        skip!("Linux {release} does not read the value of the mark");
    }
    assert!(read.is_err(), "it shows {} bytes", read.unwrap().len());
}

#[test]
fn without_metacopy_it_is_refused() {
    let Some(mut p) = place("refused") else { return };
    p.unmount();
    p.set_options("copy_up=blocks,metacopy=off");
    let out = Command::new(p.helper())
        .args(["-o", &format!("lowerdir={},copy_up=blocks,metacopy=off", p.in_layer(1, "").display())])
        .arg(&p.top)
        .output()
        .unwrap();
    assert!(!out.status.success());
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(text.contains("copy_up=blocks") && text.contains("metacopy=off"), "{text}");
}
