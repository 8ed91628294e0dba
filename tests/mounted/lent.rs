//! `io=passthrough`: files that are lent to the kernel, and what is other then.
//!
//! All other tests hold in that mode, too (`MICA_MOUNTED_WITH=io=passthrough`): their files are smaller than what is lent of a layer,
//! while upper files are lent whatever their size. What differs stands here, with large files: the kernel takes one backing file for an
//! inode, so whoever reads a layer's file over its copy-up goes on reading the layer's (as on the kernel's overlayfs).

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::place::On;
use crate::place::Place;
use crate::place::assert_errno;
use crate::place::mtime;
use crate::place::put;
use crate::place::set_times;
use crate::place::sh;
use crate::support::skip;

const LEN: usize = 1 << 20;

/// A mount that lends files; `None`, and the reason printed, where the kernel does not take any.
fn lending(label: &str, fill: impl FnOnce(&Path, &Path)) -> Option<Place> {
    let mut p = Place::prepared(label)?;
    if On::chosen() != On::Mica {
        crate::support::report_skip("no other implementation lends files to the kernel");
        return None;
    }
    if chosen_elsewhere() {
        crate::support::report_skip("this run is about another way of file data");
        return None;
    }
    fill(&p.in_layer(0, ""), &p.in_layer(1, ""));
    p.set_options("io=passthrough");
    p.mount(On::Mica);
    if io_of(&p).as_deref() == Some("passthrough") {
        return Some(p);
    }
    assert_eq!(io_of(&p).as_deref(), Some("no-open"), "what there is instead");
    crate::support::report_skip("files are lent from Linux 6.9 on, by the administrator of the system");
    None
}

/// Whether `MICA_MOUNTED_WITH` sets another `io` than this file's tests are about; it has the last word.
fn chosen_elsewhere() -> bool {
    std::env::var("MICA_MOUNTED_WITH").is_ok_and(|with| with.contains("io=") && !with.contains("io=passthrough"))
}

/// What the record of a mount says of its data.
fn io_of(p: &Place) -> Option<String> {
    let records = fs::read_dir("/run/mica/mounts").ok()?.flatten();
    let texts = records.filter_map(|e| fs::read(e.path()).ok());
    let mut records = texts.filter_map(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let record = records.find(|r| r["target"].as_str() == p.top.to_str())?;
    record["io"].as_str().map(str::to_owned)
}

fn rw(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn large(byte: u8) -> Vec<u8> {
    vec![byte; LEN]
}

fn start(file: &File) -> [u8; 3] {
    let mut bytes = [0; 3];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn who_reads_a_layers_file_over_its_copy_up_goes_on_reading_it() {
    let Some(p) = lending("lent", |_, low| drop(put(low, "f", large(b'.')))) else { return };
    let reader = File::open(p.at("f")).unwrap();
    let ino = reader.metadata().unwrap().ino();
    assert_eq!(&start(&reader), b"...");
    rustix::fs::flock(&reader, FlockOperation::NonBlockingLockShared).unwrap();
    let writer = rw(&p.at("f"));
    writer.write_all_at(b"new", 0).unwrap();
    assert_eq!((&start(&reader), &start(&writer)), (b"...", b"new"));
    assert_eq!(&start(&File::open(p.at("f")).unwrap()), b"new");
    // To the kernel they are two files, with locks of their own.
    rustix::fs::flock(&writer, FlockOperation::NonBlockingLockExclusive).unwrap();
    writer.set_len(3).unwrap();
    for (who, meta) in [
        ("reader", reader.metadata().unwrap()),
        ("writer", writer.metadata().unwrap()),
        ("name", p.stat("f")),
        ("listed", fs::read_dir(&p.top).unwrap().next().unwrap().unwrap().metadata().unwrap()),
    ] {
        assert_eq!((meta.ino(), meta.len()), (ino, 3), "{who}");
    }
    assert_eq!(fs::read(p.in_layer(1, "f")).unwrap(), large(b'.'), "the layer is untouched");
    drop(reader);
    // Other readers and writers come and go, and the number stays.
    for text in ["one", "two"] {
        let reader = File::open(p.at("f")).unwrap();
        fs::write(p.at("f"), text).unwrap();
        assert_eq!(&start(&reader), text.as_bytes());
        assert_eq!(p.stat("f").ino(), ino);
    }
    drop(writer);
    p.remount();
    assert_eq!((fs::read(p.at("f")).unwrap(), p.stat("f").ino()), (b"two".to_vec(), ino));
}

#[test]
fn truncating_a_layers_file_under_a_reader_leaves_the_reader_its_data() {
    let Some(p) = lending("lentcut", |_, low| drop((put(low, "open", large(b'.')), put(low, "set", large(b'.')))))
    else {
        return;
    };
    let readers = ["open", "set"].map(|name| File::open(p.at(name)).unwrap());
    fs::write(p.at("open"), "xyz").unwrap();
    sh(&p.top, "truncate -s 1 set; printf yz >>set");
    assert_eq!((fs::read(p.at("open")).unwrap(), fs::read(p.at("set")).unwrap()), (b"xyz".to_vec(), b".yz".to_vec()));
    readers.iter().for_each(|reader| assert_eq!(&start(reader), b"..."));
    assert_eq!(fs::metadata(p.in_upper("open")).unwrap().len(), 3);
}

#[test]
fn attributes_follow_what_the_kernel_writes() {
    let Some(p) = lending("lentattr", |_, low| drop(put(low, "f", large(b'.')))) else { return };
    for name in ["f", "made"] {
        if name == "made" {
            fs::write(p.at(name), large(b'.')).unwrap();
        }
        let file = OpenOptions::new().read(true).write(true).open(p.at(name)).unwrap();
        file.write_all_at(b"end", LEN as u64).unwrap();
        sh(&p.top, &format!("printf more >>{name}"));
        let len = LEN as u64 + 7;
        assert_eq!((p.stat(name).len(), file.metadata().unwrap().len()), (len, len), "{name}");
        set_times(&p.at(name), (1_000_000_000, 5));
        assert_eq!(mtime(&p.at(name)), (1_000_000_000, 5), "{name}");
        let script = "import mmap,sys\nf=open(sys.argv[1],'r+b')\nm=mmap.mmap(f.fileno(),0)\nm[0:3]=b'map'\nm.flush()";
        sh(&p.top, &format!("python3 -c \"{script}\" {name}"));
        assert!(mtime(&p.at(name)).0 > 1_000_000_000, "{name}: a mapping changes the time");
        assert_eq!(&start(&file), b"map");
        file.sync_all().unwrap();
        sh(&p.top, &format!("fallocate -l 3000000 {name}"));
        assert_eq!((p.stat(name).len(), fs::read(p.in_upper(name)).unwrap().len()), (3_000_000, 3_000_000));
        let mut tail = [0; 7];
        file.read_exact_at(&mut tail, LEN as u64).unwrap();
        assert_eq!(&tail, b"endmore");
        assert_eq!(p.stat(name).blocks(), fs::metadata(p.in_upper(name)).unwrap().blocks(), "{name}");
    }
}

#[test]
fn names_of_one_lent_file_show_the_same() {
    let fill = |_: &Path, low: &Path| {
        put(low, "a", large(b'.'));
        fs::hard_link(low.join("a"), low.join("b")).unwrap();
    };
    let Some(p) = lending("lentlink", fill) else { return };
    // Both names are known to the kernel before.
    assert_eq!(p.stat("a").ino(), p.stat("b").ino());
    let reader = File::open(p.at("a")).unwrap();
    let writer = rw(&p.at("b"));
    writer.write_all_at(b"new", 0).unwrap();
    for name in ["a", "b", "a"] {
        assert_eq!(&start(&File::open(p.at(name)).unwrap()), b"new", "{name}");
    }
    drop(reader);
    for (i, name) in ["a", "b", "a", "b"].into_iter().enumerate() {
        sh(&p.top, &format!("printf {i} >>{name}"));
        let len = (LEN + i + 1) as u64;
        assert_eq!((p.stat("a").len(), p.stat("b").len()), (len, len), "{name}");
    }
    sh(&p.top, "chmod 640 a; rm b");
    assert_eq!((p.mode("a"), writer.metadata().unwrap().nlink()), (0o640, 1));
    assert_eq!(fs::read(p.at("a")).unwrap(), fs::read(p.in_upper("a")).unwrap());
}

#[test]
fn a_lent_file_without_a_name_stays_what_it_was_opened_for() {
    let Some(p) = lending("lentgone", |_, low| drop(put(low, "f", large(b'.')))) else { return };
    put(&p.top, "made", large(b'-'));
    let (below, made) = (File::open(p.at("f")).unwrap(), rw(&p.at("made")));
    sh(&p.top, "rm f made");
    let of_proc = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    assert_eq!(&start(&File::open(of_proc(&below)).unwrap()), b"...");
    // The kernel knows one file for the inode, and there is no name that would lead to another inode.
    assert_errno!(OpenOptions::new().write(true).open(of_proc(&below)), STALE);
    rw(Path::new(&of_proc(&made))).write_all_at(b"new", 0).unwrap();
    assert_eq!((&start(&made), made.metadata().unwrap().nlink()), (b"new", 0));
    made.set_len(2).unwrap();
    assert_eq!(made.metadata().unwrap().len(), 2);
}

#[test]
fn set_id_bits_go_when_a_user_writes_to_a_lent_file() {
    let Some(p) = lending("lentsuid", |_, _| ()) else { return };
    for (name, after) in [("user", 0o777), ("root", 0o6777)] {
        put(&p.top, name, large(b'.'));
        crate::place::chmod(&p.at(name), 0o6777);
        match name {
            "user" => assert!(crate::place::sh_as(&p.top, 77, "printf x >>user").status.success()),
            _ => drop(sh(&p.top, "printf x >>root")),
        }
        assert_eq!(p.mode(name), after, "{name}");
    }
}

#[test]
fn a_small_file_of_a_layer_is_cached_and_keeps_its_readers_together() {
    let Some(p) = lending("lentsmall", |_, low| drop(put(low, "f", "old"))) else { return };
    let reader = File::open(p.at("f")).unwrap();
    rw(&p.at("f")).write_all_at(b"new", 0).unwrap();
    assert_eq!(&start(&reader), b"new");
    drop(reader);
    // The next opening finds nobody, and the upper file is lent.
    sh(&p.top, "printf more >>f");
    assert_eq!(fs::read(p.at("f")).unwrap(), b"newmore");
}

#[test]
fn mounts_of_one_layer_share_the_pages_of_its_files() {
    let mut places: Vec<Place> = Vec::new();
    for i in 0..4 {
        let below = places.first().map(|p| p.in_layer(1, ""));
        let fill = |_: &Path, low: &Path| {
            if i == 0 {
                drop(put(low, "f", large(b'.')));
            }
        };
        let Some(mut p) = lending(&format!("lentpages{i}"), fill) else { return };
        if let Some(below) = below {
            p.unmount();
            p.set_layers(vec![below]);
            p.mount(On::Mica);
        }
        places.push(p);
    }
    for p in &places {
        assert_eq!(fs::read(p.at("f")).unwrap().len(), LEN);
        let Some(own) = cached_pages(&p.at("f")) else { skip!("cachestat(2) is there from Linux 6.5 on") };
        assert_eq!(own, 0, "the mount caches no page of its own");
    }
    assert_eq!(cached_pages(&places[0].in_layer(1, "f")), Some(LEN as u64 / rustix::param::page_size() as u64));
}

/// The pages of a file that are cached for this inode, by `cachestat(2)`; `None` where there is no such call.
fn cached_pages(path: &Path) -> Option<u64> {
    let script = "import ctypes,os,sys\n\
        r=(ctypes.c_uint64*2)(0,0)\n\
        s=(ctypes.c_uint64*5)()\n\
        f=os.open(sys.argv[1],os.O_RDONLY)\n\
        e=ctypes.CDLL(None,use_errno=True).syscall(451,f,r,s,0)\n\
        print(s[0] if e==0 else 'none')";
    sh(Path::new("/"), &format!("python3 -c \"{script}\" {}", path.display())).trim().parse().ok()
}

/// No opening is refused, whoever reads the layer's file meanwhile, and what shows is what upper holds.
#[test]
fn many_threads_open_what_others_have_lent() {
    let name = |n: usize| format!("f{n}");
    let fill = |_: &Path, low: &Path| (0..40).for_each(|n| drop(put(low, &name(n), large(b'.'))));
    let Some(p) = lending("lentmany", fill) else { return };
    let work = &|seed: usize| {
        let mut held = std::collections::VecDeque::new();
        for i in 0..400 {
            let n = (i * (2 * seed + 1) * 7 + i / 13) % 40;
            let path = p.at(name(n));
            match (i + seed) % 5 {
                0 | 1 => held.push_back(File::open(&path).unwrap_or_else(|e| panic!("{n} for reading: {e}"))),
                2 => {
                    let file = OpenOptions::new().read(true).write(true).open(&path);
                    let file = file.unwrap_or_else(|e| panic!("{n} for writing: {e}"));
                    file.write_all_at(&[b'a' + seed as u8], (i * 1000) as u64).unwrap();
                    held.push_back(file);
                }
                3 => OpenOptions::new().append(true).open(&path).unwrap().write_all(b"+").unwrap(),
                _ => assert!(fs::metadata(&path).unwrap().len() >= LEN as u64),
            }
            if held.len() > 15 {
                held.pop_front();
            }
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|seed| drop(scope.spawn(move || work(seed)))));
    for n in 0..40 {
        let in_upper = p.in_upper(name(n));
        let stored = fs::read(&in_upper).unwrap_or_else(|_| large(b'.'));
        assert!(fs::read(p.at(name(n))).unwrap() == stored, "{n}");
        assert_eq!(p.stat(name(n)).len(), stored.len() as u64, "{n}");
        assert_eq!(fs::metadata(p.in_layer(1, name(n))).unwrap().len(), LEN as u64);
    }
}

/// Where openings are not told (`io=auto`), it is the first change that is refused; else the opening is. Cutting a file on opening is a
/// change everywhere.
#[test]
fn what_cannot_be_changed_is_refused_at_the_opening_or_at_the_first_write() {
    if On::chosen() != On::Mica || chosen_elsewhere() {
        skip!("this run is about something else");
    }
    for io in ["auto", "cache", "passthrough"] {
        let Some(mut p) = Place::prepared("refused") else { return };
        put(&p.in_layer(1, ""), "large", large(b'.'));
        // Upper has no room for a copy.
        sh(&p.beside(""), "mkdir full; mount -t tmpfs -o size=256k none full; mkdir full/u full/w");
        let _unmount = Lazily(p.beside("full"));
        p.upper = p.beside("full/u");
        p.set_options(&format!("io={io},workdir={}", p.beside("full/w").display()));
        p.mount(On::Mica);
        let at_opening = io_of(&p).as_deref() != Some("no-open");
        let write = |name: &str, append: bool| OpenOptions::new().write(!append).append(append).open(p.at(name));
        for _twice in 0..2 {
            match write("large", false) {
                Err(e) => assert!(at_opening && e.raw_os_error() == Some(28), "{io}: {e}"),
                Ok(file) => {
                    assert!(!at_opening, "{io}");
                    assert_errno!(file.write_at(b"x", 0), NOSPC);
                }
            }
        }
        fs::write(p.at("large"), "cut").unwrap();
        assert_eq!(fs::read(p.at("large")).unwrap(), b"cut", "{io}: what is cut on opening needs no room");
        p.unmount();
        drop(_unmount);

        if !crate::place::have("chattr") {
            skip!("no chattr");
        }
        let Some(mut p) = Place::prepared("refused") else { return };
        p.set_options(&format!("io={io}"));
        p.mount(On::Mica);
        for (name, flag) in [("fixed", "i"), ("growing", "a")] {
            put(&p.top, name, "text");
            sh(&p.top, &format!("chattr +{flag} {name}"));
            let opened = OpenOptions::new().write(true).open(p.at(name));
            let written = opened.and_then(|file| {
                if at_opening { Ok(file.metadata()?.len()) } else { Ok(file.write_at(b"x", 0)? as u64) }
            });
            let cut = File::create(p.at(name)).map(drop);
            let grown = OpenOptions::new().append(true).open(p.at(name)).and_then(|mut file| file.write_all(b"+"));
            sh(&p.top, &format!("chattr -{flag} {name}"));
            assert_errno!(written, PERM);
            assert_errno!(cut, PERM);
            assert_eq!(grown.is_ok(), flag == "a", "{io} {name}: {grown:?}");
        }
    }
}

/// A filesystem that is unmounted when this is dropped.
struct Lazily(std::path::PathBuf);

impl Drop for Lazily {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
