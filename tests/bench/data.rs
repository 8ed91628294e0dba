//! Contents of files, where fio has no equal: of many small ones, and a mapping from its beginning to its end.

use std::fs::File;
use std::io::Read;
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

/// Reads the big file, so that what follows finds it in the page cache.
pub fn read_big(c: &Ctx<'_>) -> Result<()> {
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

/// A page is one operation. fio's own copies the pages, and never unmaps them, which here is part of it.
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
