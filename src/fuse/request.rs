//! Requests: from the bytes that the kernel sends to a typed value that borrows names and data from them.
//!
//! The kernel is trusted less than it could be: a torn or hostile message is answered with an error, or, when not even its header is
//! there, left alone. Source of the layouts: [`super::abi`].

use super::abi;
use super::abi::Opcode;
use super::abi::fattr;
use super::bytes::Reader;
use crate::sys::attr::SetTime;
use crate::sys::attr::Time;

/// Who asks, and for which node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub opcode: Opcode,
    /// The number that the answer carries.
    pub unique: u64,
    pub nodeid: u64,
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
}

/// What a request asks for, without the node of the header. Handles are left out where nothing needs them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Op<'a> {
    Lookup { name: &'a [u8] },
    Forget { count: u64 },
    BatchForget(Forgets<'a>),
    Getattr,
    Setattr(Setattr),
    Readlink,
    Symlink { name: &'a [u8], text: &'a [u8] },
    Mknod { name: &'a [u8], mode: u32, rdev: u32, umask: u32 },
    Mkdir { name: &'a [u8], mode: u32, umask: u32 },
    Unlink { name: &'a [u8] },
    Rmdir { name: &'a [u8] },
    Rename { name: &'a [u8], new_parent: u64, new_name: &'a [u8], flags: u32 },
    Link { old: u64, name: &'a [u8] },
    Open { flags: u32, kill: bool },
    Create { name: &'a [u8], mode: u32, umask: u32 },
    Tmpfile { mode: u32, umask: u32 },
    Read { offset: u64, size: u32 },
    Write { offset: u64, data: &'a [u8], kill: bool, appends: bool },
    Statfs,
    Release,
    Fsync { data_only: bool },
    Fsyncdir { data_only: bool },
    Syncfs,
    Flush,
    Setxattr { name: &'a [u8], value: &'a [u8], flags: u32, kill_sgid: bool },
    Getxattr { name: &'a [u8], size: u32 },
    Listxattr { size: u32 },
    Removexattr { name: &'a [u8] },
    Opendir,
    Readdir(Listing),
    Readdirplus(Listing),
    Releasedir { handle: u64 },
    Ioctl { number: u32, given: &'a [u8], room: u32 },
    Fallocate { offset: u64, len: u64, mode: u32 },
    Lseek { offset: i64, whence: u32 },
    Copy { from_at: u64, to: u64, to_at: u64, len: u64, wide: bool },
    Init(Init),
    Interrupt,
    Destroy,
    Unknown,
}

/// A part of a listing that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listing {
    pub handle: u64,
    pub offset: u64,
    pub size: u32,
}

/// Changes of attributes; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Setattr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    /// The set-id bits are to go, since who changes the size may not keep them.
    pub kill: bool,
}

/// The kernel's offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Init {
    pub major: u32,
    pub minor: u32,
    pub max_readahead: u32,
    /// [`abi::init`].
    pub flags: u64,
}

/// Pairs of a node and the number of its references that the kernel gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forgets<'a>(&'a [u8]);

impl Forgets<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.chunks_exact(16).filter_map(|pair| {
            let mut pair = Reader::new(pair);
            Some((pair.u64()?, pair.u64()?))
        })
    }
}

/// A whole request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Request<'a> {
    pub header: Header,
    pub op: Op<'a>,
}

/// A message that is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// There is no header, so nobody to answer.
    Nobody,
    /// The header is there: answer it with `EIO`.
    Torn(Header),
}

/// What was agreed on that changes a layout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// `FUSE_SETXATTR_EXT`.
    pub long_setxattr: bool,
}

/// Decodes one message.
///
/// # Errors
/// [`Bad`] for one that is cut short or whose length is not what it says.
pub(super) fn decode(message: &[u8], layout: Layout) -> Result<Request<'_>, Bad> {
    decode_in_two([message, b""], layout)
}

/// Decodes one message that lies in two pieces.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_in_two(message: [&[u8]; 2], layout: Layout) -> Result<Request<'_>, Bad> {
    let mut body = Reader::in_two(message);
    let (len, header) = header(&mut body).ok_or(Bad::Nobody)?;
    if len as usize != message.map(<[u8]>::len).iter().sum::<usize>() {
        return Err(Bad::Torn(header));
    }
    let op = op(header.opcode, body, layout).ok_or(Bad::Torn(header))?;
    Ok(Request { header, op })
}

fn header(r: &mut Reader<'_>) -> Option<(u32, Header)> {
    let (len, opcode) = (r.u32()?, r.u32()?);
    let (unique, nodeid) = (r.u64()?, r.u64()?);
    let (uid, gid, pid) = (r.u32()?, r.u32()?, r.u32()?);
    // Extensions follow the body, and come only where they were agreed on.
    let _extensions = (r.u16()?, r.u16()?);
    Some((len, Header { opcode: Opcode::of(opcode), unique, nodeid, uid, gid, pid }))
}

fn op<'a>(opcode: Opcode, mut r: Reader<'a>, layout: Layout) -> Option<Op<'a>> {
    Some(match opcode {
        Opcode::Lookup => Op::Lookup { name: r.name()? },
        Opcode::Forget => Op::Forget { count: r.u64()? },
        Opcode::BatchForget => batch_forget(r)?,
        Opcode::Getattr => Op::Getattr,
        Opcode::Setattr => Op::Setattr(setattr(r)?),
        Opcode::Readlink => Op::Readlink,
        Opcode::Symlink => Op::Symlink { name: r.name()?, text: r.name()? },
        Opcode::Mknod => mknod(r)?,
        Opcode::Mkdir => {
            let (mode, umask) = (r.u32()?, r.u32()?);
            Op::Mkdir { name: r.name()?, mode, umask }
        }
        Opcode::Unlink => Op::Unlink { name: r.name()? },
        Opcode::Rmdir => Op::Rmdir { name: r.name()? },
        Opcode::Rename => {
            let new_parent = r.u64()?;
            Op::Rename { name: r.name()?, new_parent, new_name: r.name()?, flags: 0 }
        }
        Opcode::Rename2 => {
            let (new_parent, flags) = (r.u64()?, r.u32()?);
            r.skip(4)?;
            Op::Rename { name: r.name()?, new_parent, new_name: r.name()?, flags }
        }
        Opcode::Link => Op::Link { old: r.u64()?, name: r.name()? },
        Opcode::Open => Op::Open { flags: r.u32()?, kill: r.u32()? & abi::OPEN_KILL_SUIDGID != 0 },
        Opcode::Create | Opcode::Tmpfile => create(opcode, r)?,
        Opcode::Read => {
            let Listing { offset, size, .. } = listing(r)?;
            Op::Read { offset, size }
        }
        Opcode::Write => write(r)?,
        Opcode::Statfs => Op::Statfs,
        Opcode::Release => Op::Release,
        Opcode::Fsync | Opcode::Fsyncdir => {
            r.skip(8)?;
            let data_only = r.u32()? & abi::FSYNC_DATA != 0;
            if opcode == Opcode::Fsync { Op::Fsync { data_only } } else { Op::Fsyncdir { data_only } }
        }
        Opcode::Syncfs => Op::Syncfs,
        Opcode::Flush => Op::Flush,
        Opcode::Setxattr => setxattr(r, layout)?,
        Opcode::Getxattr => {
            let size = r.u32()?;
            r.skip(4)?;
            Op::Getxattr { name: r.name()?, size }
        }
        Opcode::Listxattr => Op::Listxattr { size: r.u32()? },
        Opcode::Removexattr => Op::Removexattr { name: r.name()? },
        Opcode::Opendir => Op::Opendir,
        Opcode::Readdir => Op::Readdir(listing(r)?),
        Opcode::Readdirplus => Op::Readdirplus(listing(r)?),
        Opcode::Releasedir => Op::Releasedir { handle: r.u64()? },
        Opcode::Ioctl => ioctl(r)?,
        Opcode::Fallocate => {
            r.skip(8)?;
            Op::Fallocate { offset: r.u64()?, len: r.u64()?, mode: r.u32()? }
        }
        Opcode::Lseek => {
            r.skip(8)?;
            Op::Lseek { offset: r.i64()?, whence: r.u32()? }
        }
        Opcode::CopyFileRange | Opcode::CopyFileRange64 => copy(opcode, r)?,
        Opcode::Init => Op::Init(init(r)?),
        Opcode::Interrupt => Op::Interrupt,
        Opcode::Destroy => Op::Destroy,
        Opcode::Other(_) => Op::Unknown,
    })
}

fn batch_forget(mut r: Reader<'_>) -> Option<Op<'_>> {
    let count = usize::try_from(r.u32()?).ok()?;
    r.skip(4)?;
    Some(Op::BatchForget(Forgets(r.take(count.checked_mul(16)?)?)))
}

fn setattr(mut r: Reader<'_>) -> Option<Setattr> {
    let valid = r.u32()?;
    r.skip(4 + 8)?; // padding, handle
    let size = r.u64()?;
    r.skip(8)?; // lock owner
    let (atime, mtime) = (r.i64()?, r.i64()?);
    r.skip(8)?; // ctime: is set by the change itself
    let (atime_nanos, mtime_nanos) = (r.u32()?, r.u32()?);
    r.skip(4)?;
    let mode = r.u32()?;
    r.skip(4)?;
    let (uid, gid) = (r.u32()?, r.u32()?);
    r.skip(4)?;
    let said = |bit: u32| valid & bit != 0;
    let time = |bit, now, secs, nanos| {
        said(bit).then(|| if said(now) { SetTime::Now } else { SetTime::At(Time { secs, nanos }) })
    };
    Some(Setattr {
        mode: said(fattr::MODE).then_some(mode),
        uid: said(fattr::UID).then_some(uid),
        gid: said(fattr::GID).then_some(gid),
        size: said(fattr::SIZE).then_some(size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, atime, atime_nanos),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, mtime, mtime_nanos),
        kill: said(fattr::KILL_SUIDGID),
    })
}

fn mknod(mut r: Reader<'_>) -> Option<Op<'_>> {
    let (mode, rdev, umask) = (r.u32()?, r.u32()?, r.u32()?);
    r.skip(4)?;
    Some(Op::Mknod { name: r.name()?, mode, rdev, umask })
}

fn create(opcode: Opcode, mut r: Reader<'_>) -> Option<Op<'_>> {
    let (_flags, mode, umask, _open_flags) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
    // What has no name comes with one all the same, which means nothing ("/").
    let name = r.name()?;
    Some(if opcode == Opcode::Tmpfile { Op::Tmpfile { mode, umask } } else { Op::Create { name, mode, umask } })
}

fn write(mut r: Reader<'_>) -> Option<Op<'_>> {
    r.skip(8)?;
    let (offset, size, flags) = (r.u64()?, r.u32()?, r.u32()?);
    r.skip(8)?; // lock owner
    let open_flags = r.u32()?;
    r.skip(4)?; // padding
    let data = r.take(usize::try_from(size).ok()?)?;
    let (kill, appends) = (flags & abi::WRITE_KILL_SUIDGID != 0, open_flags & abi::O_APPEND != 0);
    Some(Op::Write { offset, data, kill, appends })
}

/// `struct fuse_read_in`, which listings use, too.
fn listing(mut r: Reader<'_>) -> Option<Listing> {
    Some(Listing { handle: r.u64()?, offset: r.u64()?, size: r.u32()? })
}

fn setxattr(mut r: Reader<'_>, layout: Layout) -> Option<Op<'_>> {
    let (size, flags) = (r.u32()?, r.u32()?);
    let mut more = 0;
    if layout.long_setxattr {
        more = r.u32()?;
        r.skip(4)?;
    }
    let name = r.name()?;
    let value = r.take(usize::try_from(size).ok()?)?;
    Some(Op::Setxattr { name, value, flags, kill_sgid: more & abi::SETXATTR_ACL_KILL_SGID != 0 })
}

fn ioctl(mut r: Reader<'_>) -> Option<Op<'_>> {
    r.skip(8 + 4)?; // handle, flags
    let number = r.u32()?;
    r.skip(8)?; // the argument as the program gave it
    let (given, room) = (r.u32()?, r.u32()?);
    Some(Op::Ioctl { number, given: r.take(usize::try_from(given).ok()?)?, room })
}

fn copy(opcode: Opcode, mut r: Reader<'_>) -> Option<Op<'_>> {
    r.skip(8)?;
    let (from_at, to) = (r.u64()?, r.u64()?);
    r.skip(8)?;
    let (to_at, len) = (r.u64()?, r.u64()?);
    r.skip(8)?; // no flags are defined
    Some(Op::Copy { from_at, to, to_at, len, wide: opcode == Opcode::CopyFileRange64 })
}

fn init(mut r: Reader<'_>) -> Option<Init> {
    let (major, minor, max_readahead, low) = (r.u32()?, r.u32()?, r.u32()?, u64::from(r.u32()?));
    let high = if low & abi::init::INIT_EXT != 0 { u64::from(r.u32()?) } else { 0 };
    Some(Init { major, minor, max_readahead, flags: low | high << 32 })
}

#[cfg(test)]
mod tests;
