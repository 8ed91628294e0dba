//! Names and attributes.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::workload::Ctx;
use crate::workload::Measured;
use crate::workload::Unit;

fn stat_each(c: &Ctx<'_>, dirs: usize) -> Result<()> {
    for d in 0..dirs {
        let dir = c.at(format!("d{d:03}"));
        for f in 0..100 {
            fs::symlink_metadata(dir.join(format!("f{f:03}")))?;
        }
    }
    Ok(())
}

pub fn stat_warm(c: &Ctx<'_>) -> Result<Measured> {
    let dirs = c.fixture.small_dirs();
    stat_each(c, dirs)?;
    c.time(dirs * 100 * 10, || (0..10).try_for_each(|_| stat_each(c, dirs)))
}

pub fn stat_cold(c: &Ctx<'_>) -> Result<Measured> {
    let dirs = c.fixture.tree_dirs() / 5;
    c.time(dirs * 100, || stat_each(c, dirs))
}

/// Names that nobody has, each asked for once, in the directory that all layers have.
pub fn stat_miss(c: &Ctx<'_>) -> Result<Measured> {
    let dir = if c.at("d").is_dir() { c.at("d") } else { c.at("d000") };
    let count = c.fixture.scale(4000, 1000);
    fs::symlink_metadata(dir.join("first")).unwrap_err();
    c.time(count, || {
        for i in 0..count {
            if fs::symlink_metadata(dir.join(format!("none-{i}"))).is_ok() {
                return Err("a name that nobody has is there".into());
            }
        }
        Ok(())
    })
}

pub fn stat_miss_warm(c: &Ctx<'_>) -> Result<Measured> {
    let names: Vec<_> = (0..1000).map(|i| c.at(format!("d000/none-{i}"))).collect();
    let each = || names.iter().for_each(|name| drop(fs::symlink_metadata(name).unwrap_err()));
    each();
    c.time(names.len() * 10, || {
        (0..10).for_each(|_| each());
        Ok(())
    })
}

/// Files of the bottom layer. What is done once for the directory is done by the first ones.
pub fn stat_hit(c: &Ctx<'_>) -> Result<Measured> {
    let stat = |f: usize| fs::symlink_metadata(c.at(format!("d/f{f:03}")));
    (0..10).try_for_each(|f| stat(f).map(drop))?;
    c.time(90, || Ok((10..100).try_for_each(|f| stat(f).map(drop))?))
}

/// The cheapest request there is: what every request costs at least on this machine, in this run. (Without a server: a system call.)
pub fn round_trip(c: &Ctx<'_>) -> Result<Measured> {
    let count = c.fixture.scale(10_000, 3_000);
    rustix::fs::statfs(&c.top)?;
    c.time(count, || Ok((0..count).try_for_each(|_| rustix::fs::statfs(&c.top).map(drop))?))
}

/// Every name with its attributes, as `find -ls` looks at them; how many there were.
pub fn walk(dir: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        count += 1;
        if entry.metadata()?.is_dir() {
            count += walk(&entry.path())?;
        }
    }
    Ok(count)
}

fn tree_size(c: &Ctx<'_>) -> usize {
    c.fixture.tree_dirs() * 101
}

fn walk_all(c: &Ctx<'_>) -> Result<()> {
    match walk(&c.top)? {
        n if n == tree_size(c) => Ok(()),
        n => Err(format!("{n} names instead of {}", tree_size(c)).into()),
    }
}

pub fn find_cold(c: &Ctx<'_>) -> Result<Measured> {
    c.time(tree_size(c), || walk_all(c))
}

pub fn find_warm(c: &Ctx<'_>) -> Result<Measured> {
    walk_all(c)?;
    c.time(tree_size(c) * 2, || {
        walk_all(c)?;
        walk_all(c)
    })
}

fn list_wide(c: &Ctx<'_>) -> Result<()> {
    match fs::read_dir(c.at("d"))?.count() {
        n if n == c.fixture.wide() => Ok(()),
        n => Err(format!("{n} names").into()),
    }
}

pub fn readdir_cold(c: &Ctx<'_>) -> Result<Measured> {
    c.time(c.fixture.wide(), || list_wide(c))
}

pub fn readdir_warm(c: &Ctx<'_>) -> Result<Measured> {
    list_wide(c)?;
    c.time(c.fixture.wide() * 3, || (0..3).try_for_each(|_| list_wide(c)))
}

/// Memory of the server for each inode that the kernel knows after a walk.
pub fn memory(c: &Ctx<'_>) -> Result<Measured> {
    let used = || c.mounted.memory().ok_or("no server");
    // The first requests fill buffers that have nothing to do with inodes.
    walk(&c.at("d000"))?;
    let before = used()?;
    walk_all(c)?;
    let bytes = used()?.saturating_sub(before);
    Ok(Measured { value: bytes as f64 / tree_size(c) as f64, unit: Unit::Bytes })
}
