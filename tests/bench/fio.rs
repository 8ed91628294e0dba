//! The data of one file, by fio: the standard tool, whose figures mean the same elsewhere.
//!
//! Its start and the making of the file are no part of a figure. What its own loop takes is: about 0.2 us an operation, and for a
//! mapped page the copying of it.

use std::fs::File;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::Result;
use crate::data::read_big;
use crate::workload::Ctx;
use crate::workload::Measured;
use crate::workload::Unit;

/// In all jobs. By itself fio drops the file from the page cache, so that nothing would be warm; it tells the kernel how it is going to
/// read and reserves what it is going to write, which most programs do not; and it changes each block before it writes it. Its
/// blocks lie where no copy is fast: beginning with a page, a read of a megabyte takes a sixth less.
const ALWAYS: &str = "name=job thread group_reporting invalidate=0 fadvise_hint=0 fallocate=none end_fsync=0 scramble_buffers=0 \
                      iomem_align=4k randrepeat=1 disk_util=0 eta=never output-format=json";
/// Without clocks around each operation: they take a tenth of a cached read.
const NO_CLOCKS: &str = "gtod_reduce=1";

/// What it calls itself, if it is installed.
pub fn version() -> Option<String> {
    let out = Command::new("fio").arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Does a job on a file of the tree and returns what fio says of its reads or its writes (`side`), which must be of so many bytes.
/// Options are without dashes.
fn job(c: &Ctx<'_>, file: &str, side: &str, bytes: usize, options: &str) -> Result<Value> {
    let words = ALWAYS.split_whitespace().chain(options.split_whitespace());
    let out = Command::new("fio")
        .args(words.map(|word| format!("--{word}")))
        .arg(format!("--filename={}", c.at(file).display()))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("fio: {e}"))?;
    if !out.status.success() {
        return Err(format!("fio: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim()).into());
    }
    let side = serde_json::from_slice::<Value>(&out.stdout)?["jobs"][0][side].take();
    match number(&side, "io_bytes")? {
        done if done == bytes as f64 => Ok(side),
        done => Err(format!("fio: {done} bytes instead of {bytes}").into()),
    }
}

fn number(side: &Value, key: &str) -> Result<f64> {
    let found = key.split('.').fold(side, |value, key| &value[key]);
    found.as_f64().filter(|n| *n > 0.0).ok_or_else(|| format!("fio does not tell {key}").into())
}

/// The mean time of an operation. For blocks of a megabyte, since a job of them may be over in milliseconds: the clocks around
/// each are finer than the one around all, and beside a megabyte nothing.
fn mean(side: &Value) -> Result<Measured> {
    Ok(Measured { value: number(side, "lat_ns.mean")?, unit: Unit::Nanos })
}

/// The time from the first operation to the last, by operations. It is in whole milliseconds, so jobs are not too short.
fn each(side: &Value) -> Result<Measured> {
    Ok(Measured { value: number(side, "runtime")? * 1e6 / number(side, "total_ios")?, unit: Unit::Nanos })
}

/// A job that reads the big file so many times.
fn read(c: &Ctx<'_>, times: usize, options: &str) -> Result<Value> {
    let size = c.fixture.big();
    job(c, "file", "read", times * size, &format!("readonly allow_file_create=0 size={size} {options}"))
}

/// Goes over the big file with blocks of a megabyte, each an operation. Once: after the first reading of a warm page the kernel
/// has noted that it is in use, and the next one costs less.
fn big(c: &Ctx<'_>) -> Result<Measured> {
    mean(&read(c, 1, "ioengine=psync rw=read bs=1m")?)
}

pub fn big_cold(c: &Ctx<'_>) -> Result<Measured> {
    big(c)
}

pub fn big_warm(c: &Ctx<'_>) -> Result<Measured> {
    read_big(c)?;
    big(c)
}

/// Reads each page of the big file once, each an operation, and a small file several times. It is opened (and mapped) anew each time,
/// so that a cache which does not outlive that is of no help, and a mapping meets each page for the first time. (fio does so unless
/// random places may come twice: with `norandommap` it opens the file once.)
fn pages(c: &Ctx<'_>, jobs: usize, options: &str) -> Result<Measured> {
    read_big(c)?;
    let passes = c.fixture.scale(1, 8);
    each(&read(c, jobs * passes, &format!("{NO_CLOCKS} bs=4k numjobs={jobs} loops={passes} {options}"))?)
}

pub fn random_warm(c: &Ctx<'_>) -> Result<Measured> {
    pages(c, 1, "ioengine=psync rw=randread")
}

pub fn random_warm_2(c: &Ctx<'_>) -> Result<Measured> {
    pages(c, 2, "ioengine=psync rw=randread")
}

pub fn mmap_warm(c: &Ctx<'_>) -> Result<Measured> {
    pages(c, 1, "ioengine=mmap rw=read")
}

/// Writes to a new file. So many, not for a time: what they find there must not depend on how fast they are.
fn write(c: &Ctx<'_>, count: usize, block: usize, options: &str) -> Result<Value> {
    let bytes = count * block;
    job(c, "new", "write", bytes, &format!("ioengine=psync bs={block} io_size={bytes} {options}"))
}

pub fn big_write(c: &Ctx<'_>) -> Result<Measured> {
    let megabytes = c.fixture.scale(256, 64);
    mean(&write(c, megabytes, 1 << 20, &format!("rw=write size={megabytes}m"))?)
}

/// Into a file that is a hole, each of whose blocks is met three times in the mean.
pub fn small_writes(c: &Ctx<'_>) -> Result<Measured> {
    let blocks = c.fixture.scale(32 << 10, 16 << 10);
    let size = blocks * 4096;
    File::create(c.at("new"))?.set_len(size as u64)?;
    each(&write(c, 3 * blocks, 4096, &format!("{NO_CLOCKS} rw=randwrite norandommap allow_file_create=0 size={size}"))?)
}

pub fn append(c: &Ctx<'_>) -> Result<Measured> {
    let count = c.fixture.scale(200_000, 100_000);
    each(&write(c, count, 100, &format!("{NO_CLOCKS} rw=write size={}", count * 100))?)
}

pub fn write_fsync(c: &Ctx<'_>) -> Result<Measured> {
    let count = c.fixture.scale(1000, 500);
    each(&write(c, count, 4096, &format!("{NO_CLOCKS} rw=write fdatasync=1 size={}", count * 4096))?)
}
