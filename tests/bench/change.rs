//! Changes of the tree.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::Result;
use crate::meta::walk;
use crate::workload::Ctx;
use crate::workload::Measured;
use crate::workload::Unit;

fn new_files(c: &Ctx<'_>, count: usize, text: &[u8]) -> Result<()> {
    for i in 0..count {
        let mut file = File::create(c.at(format!("new/f{i}")))?;
        if !text.is_empty() {
            file.write_all(text)?;
        }
    }
    Ok(())
}

fn in_new_dir(c: &Ctx<'_>, text: &[u8]) -> Result<Measured> {
    fs::create_dir(c.at("new"))?;
    let count = c.fixture.scale(5000, 1000);
    c.time(count, || new_files(c, count, text))
}

pub fn create_empty(c: &Ctx<'_>) -> Result<Measured> {
    in_new_dir(c, b"")
}

pub fn create_and_write(c: &Ctx<'_>) -> Result<Measured> {
    in_new_dir(c, &[b'n'; 1000])
}

pub fn create_and_write_2(c: &Ctx<'_>) -> Result<Measured> {
    let count = c.fixture.scale(5000, 1000);
    let client = |name: &str| -> std::io::Result<()> {
        let dir = c.at(name);
        fs::create_dir(&dir)?;
        (0..count / 2).try_for_each(|i| fs::write(dir.join(format!("f{i}")), [b'n'; 1000]))
    };
    c.time(count, || {
        std::thread::scope(|scope| {
            let threads = ["a", "b"].map(|name| scope.spawn(move || client(name)));
            threads.into_iter().try_for_each(|t| Ok(t.join().map_err(|_| "a client panicked")??))
        })
    })
}

pub fn mkdir(c: &Ctx<'_>) -> Result<Measured> {
    let count = c.fixture.scale(2000, 500);
    fs::create_dir(c.at("new"))?;
    c.time(count, || Ok((0..count).try_for_each(|i| fs::create_dir(c.at(format!("new/d{i}"))))?))
}

pub fn rename_upper(c: &Ctx<'_>) -> Result<Measured> {
    let count = c.fixture.scale(5000, 1000);
    fs::create_dir(c.at("new"))?;
    new_files(c, count, b"")?;
    c.time(count, || Ok((0..count).try_for_each(|i| fs::rename(c.at(format!("new/f{i}")), c.at(format!("new/g{i}"))))?))
}

/// The small files of the layers, already looked up, as they are when a package is replaced.
fn lower_files(c: &Ctx<'_>) -> Result<Vec<PathBuf>> {
    walk(&c.top)?;
    let dirs = c.fixture.small_dirs();
    Ok((0..dirs).flat_map(|d| (0..100).map(move |f| format!("d{d:03}/f{f:03}"))).map(|name| c.at(name)).collect())
}

fn on_lower(c: &Ctx<'_>, mut change: impl FnMut(&PathBuf) -> std::io::Result<()>) -> Result<Measured> {
    let files = lower_files(c)?;
    c.time(files.len(), || Ok(files.iter().try_for_each(&mut change)?))
}

pub fn copy_up_small(c: &Ctx<'_>) -> Result<Measured> {
    on_lower(c, |path| OpenOptions::new().append(true).open(path)?.write_all(b"x"))
}

pub fn chmod_lower(c: &Ctx<'_>) -> Result<Measured> {
    on_lower(c, |path| fs::set_permissions(path, Permissions::from_mode(0o600)))
}

pub fn chown_lower(c: &Ctx<'_>) -> Result<Measured> {
    on_lower(c, |path| std::os::unix::fs::lchown(path, Some(7), Some(7)))
}

pub fn rename_lower(c: &Ctx<'_>) -> Result<Measured> {
    on_lower(c, |path| fs::rename(path, path.with_extension("renamed")))
}

pub fn unlink_lower(c: &Ctx<'_>) -> Result<Measured> {
    on_lower(c, |path| fs::remove_file(path))
}

pub fn unlink_upper(c: &Ctx<'_>) -> Result<Measured> {
    let count = c.fixture.scale(5000, 1000);
    fs::create_dir(c.at("new"))?;
    new_files(c, count, b"x")?;
    c.time(count, || Ok((0..count).try_for_each(|i| fs::remove_file(c.at(format!("new/f{i}"))))?))
}

/// A file is one operation.
pub fn rm_rf(c: &Ctx<'_>) -> Result<Measured> {
    let dirs = c.fixture.small_dirs();
    c.time(dirs * 101, || {
        (0..dirs).try_for_each(|d| fs::remove_dir_all(c.at(format!("d{d:03}"))))?;
        if fs::read_dir(&c.top)?.count() == 0 { Ok(()) } else { Err("something is left".into()) }
    })
}

pub fn copy_up_big(c: &Ctx<'_>) -> Result<Measured> {
    c.time(1, || Ok(OpenOptions::new().append(true).open(c.at("file"))?.write_all(b"x")?))
}

pub fn chmod_big(c: &Ctx<'_>) -> Result<Measured> {
    c.time(1, || Ok(fs::set_permissions(c.at("file"), Permissions::from_mode(0o600))?))
}

/// The longest time that the making of a file beside it takes while a big file is copied up.
pub fn touch_during_copy_up(c: &Ctx<'_>) -> Result<Measured> {
    fs::create_dir(c.at("beside"))?;
    File::create(c.at("beside/first"))?;
    let done = AtomicBool::new(false);
    let mut longest = Duration::ZERO;
    std::thread::scope(|scope| -> Result<()> {
        let copier = scope.spawn(|| {
            let wrote = copy_up_big(c).map_err(|e| e.to_string());
            done.store(true, Ordering::SeqCst);
            wrote
        });
        let mut i = 0;
        while !done.load(Ordering::SeqCst) {
            i += 1;
            let start = Instant::now();
            File::create(c.at(format!("beside/f{i}")))?;
            longest = longest.max(start.elapsed());
            std::thread::sleep(Duration::from_millis(1));
        }
        copier.join().map_err(|_| "the copier panicked")??;
        Ok(())
    })?;
    Ok(Measured { value: longest.as_nanos() as f64, unit: Unit::Nanos })
}
