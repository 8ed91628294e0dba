//! Contents of files.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;

use crate::Result;
use crate::workload::Ctx;
use crate::workload::Measured;

/// Opens, reads and closes each small file; the files are shared out among `clients`.
fn read_each(top: &Path, dirs: usize, clients: usize) -> Result<()> {
    let part = |client: usize| -> std::io::Result<()> {
        let mut buf = vec![0; 8192];
        for d in (client..dirs).step_by(clients) {
            let dir = top.join(format!("d{d:03}"));
            for f in 0..100 {
                let mut file = File::open(dir.join(format!("f{f:03}")))?;
                while file.read(&mut buf)? > 0 {}
            }
        }
        Ok(())
    };
    if clients == 1 {
        return Ok(part(0)?);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|client| scope.spawn(move || part(client))).collect();
        threads.into_iter().try_for_each(|t| Ok(t.join().map_err(|_| "a client panicked")??))
    })
}

fn small(c: &Ctx<'_>, clients: usize, warm: bool) -> Result<Measured> {
    let dirs = c.fixture.tree_dirs() * 2 / 5;
    if warm {
        read_each(&c.top, dirs, clients)?;
    }
    c.time(dirs * 100, || read_each(&c.top, dirs, clients))
}

pub fn small_cold(c: &Ctx<'_>) -> Result<Measured> {
    small(c, 1, false)
}

pub fn small_cold_2(c: &Ctx<'_>) -> Result<Measured> {
    small(c, 2, false)
}

pub fn small_warm(c: &Ctx<'_>) -> Result<Measured> {
    small(c, 1, true)
}

pub fn small_warm_2(c: &Ctx<'_>) -> Result<Measured> {
    small(c, 2, true)
}

pub fn small_warm_4(c: &Ctx<'_>) -> Result<Measured> {
    small(c, 4, true)
}

fn read_big(c: &Ctx<'_>) -> Result<()> {
    let mut file = File::open(c.at("file"))?;
    let mut buf = vec![0; 1 << 20];
    let mut sum = 0;
    loop {
        match file.read(&mut buf)? {
            0 if sum == c.fixture.big() => return Ok(()),
            0 => return Err("the file is too short".into()),
            n => sum += n,
        }
    }
}

/// A megabyte is one operation.
pub fn big_cold(c: &Ctx<'_>) -> Result<Measured> {
    c.time(c.fixture.big() >> 20, || read_big(c))
}

pub fn big_warm(c: &Ctx<'_>) -> Result<Measured> {
    read_big(c)?;
    c.time(c.fixture.big() >> 20, || read_big(c))
}

/// The same sequence of places each time: a multiplicative generator.
fn places(count: usize, blocks: usize) -> impl Iterator<Item = u64> {
    let mut x: u64 = 0x9E37_79B9;
    (0..count).map(move |_| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) % blocks as u64 * 4096
    })
}

pub fn random_warm(c: &Ctx<'_>) -> Result<Measured> {
    read_big(c)?;
    let file = File::open(c.at("file"))?;
    let mut buf = [0; 4096];
    let count = c.fixture.scale(200_000, 50_000);
    c.time(count, || Ok(places(count, c.fixture.big() / 4096).try_for_each(|at| file.read_exact_at(&mut buf, at))?))
}

/// A page is one operation.
pub fn mmap_warm(c: &Ctx<'_>) -> Result<Measured> {
    read_big(c)?;
    let file = File::open(c.at("file"))?;
    let len = c.fixture.big();
    #[allow(unsafe_code, reason = "there is no other way to look at a mapping")]
    let touch = || {
        // SAFETY: a new private mapping of `len` bytes, read within its bounds and unmapped before this ends.
        unsafe {
            let map = rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, &file, 0)?;
            let mut sum = 0_u64;
            for at in (0..len).step_by(4096) {
                sum += u64::from(map.cast::<u8>().add(at).read_volatile());
            }
            rustix::mm::munmap(map, len)?;
            if sum == 0 { Err("only zeros".into()) } else { Ok(()) }
        }
    };
    c.time(len / 4096, touch)
}

pub fn big_write(c: &Ctx<'_>) -> Result<Measured> {
    let megabytes = c.fixture.scale(256, 64);
    let block = vec![b'w'; 1 << 20];
    c.time(megabytes, || {
        let mut file = File::create(c.at("big-new"))?;
        Ok((0..megabytes).try_for_each(|_| file.write_all(&block))?)
    })
}

pub fn small_writes(c: &Ctx<'_>) -> Result<Measured> {
    let file = File::create(c.at("new"))?;
    file.set_len(64 << 20)?;
    let count = c.fixture.scale(50_000, 10_000);
    c.time(count, || Ok(places(count, 16_384).try_for_each(|at| file.write_all_at(&[b'x'; 4096], at))?))
}

pub fn append(c: &Ctx<'_>) -> Result<Measured> {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(c.at("log"))?;
    let count = c.fixture.scale(50_000, 10_000);
    c.time(count, || Ok((0..count).try_for_each(|_| file.write_all(&[b'l'; 100]))?))
}

pub fn write_fsync(c: &Ctx<'_>) -> Result<Measured> {
    let mut file = File::create(c.at("journal"))?;
    c.time(100, || {
        for _ in 0..100 {
            file.write_all(&[b'j'; 4096])?;
            file.sync_data()?;
        }
        Ok(())
    })
}
