//! The one table of mount options: names, shape, help and effect.

use super::MountOptions;
use super::table::Apply::Ignore;
use super::table::Apply::Refuse;
use super::table::Apply::Set;
use super::table::Group::Access;
use super::table::Group::Ignored;
use super::table::Group::Ownership;
use super::table::Group::Source;
use super::table::Group::Speed;
use super::table::Group::Union;
use super::table::Shape::Any;
use super::table::Shape::Boolean;
use super::table::Shape::Switch;
use super::table::Shape::Value;
use super::table::Spec;
use super::table::row;
use super::text;
use super::value;
use super::value::Allow;
use super::value::Expected;
use super::value::Io;
use super::value::RedirectDir;
use super::value::XattrPermissions;
use super::value::Xino;

/// Every option.
#[rustfmt::skip]
pub static OPTIONS: &[Spec] = &[
    row(&["image"], Value("REF"), Source, "the image to mount", Set(|o, v| keep(&mut o.image, text_of(v, "an image reference")))),
    row(&["container"], Value("ID"), Source, "the container to mount", Set(|o, v| keep(&mut o.container, text_of(v, "a container")))),
    row(&["root"], Value("DIR"), Source, "the store of images and containers", Set(|o, v| keep(&mut o.root, value::path(v)))),
    row(&["lowerdir"], Value("A:B:..."), Source, "read-only directories, topmost first; \\: \\\\ \\, in names", Set(lower)),
    row(&["lowerdir+"], Value("DIR"), Source, "one more read-only directory, below those before", Set(lower_add)),
    row(&["datadir+"], Value("DIR"), Source, "one more directory of data only", Set(data_add)),
    row(&["upperdir"], Value("DIR"), Source, "takes all changes; without it the mount is read-only", Set(|o, v| keep(&mut o.upper, value::path(v)))),
    row(&["workdir"], Value("DIR"), Source, "for unfinished changes, on the filesystem of upperdir", Set(|o, v| keep(&mut o.work, value::path(v)))),

    row(&["redirect_dir"], Value("on|off|follow|nofollow"), Union, "renames of directories of lower layers", Set(redirect_dir)),
    row(&["metacopy"], Boolean, Union, "chmod and chown do not copy data", Set(|o, v| keep(&mut o.metacopy, value::boolean(v)))),
    row(&["copy_up"], Value("whole|blocks"), Union, "how a large file is copied up: as a whole, or where it is written to", Set(copy_up)),
    row(&["index"], Boolean, Union, "hard links stay linked when copied up", Set(|o, v| keep(&mut o.index, value::boolean(v)))),
    row(&["xino"], Value("off|auto|on"), Union, "inode numbers unique over several filesystems", Set(xino)),
    row(&["fsync"], Boolean, Union, "synchronise to disk when asked (default 1)", Set(|o, v| put(&mut o.fsync, value::boolean(v)))),
    row(&["volatile"], Switch, Union, "never synchronise; a crash may lose the upper directory", Set(|o, _| put(&mut o.volatile, Ok(true)))),
    row(&["static_nlink"], Boolean, Union, "directories have link count 1", Set(|o, v| put(&mut o.static_nlink, value::boolean(v)))),
    row(&["plugins"], Any, Union, "not supported", Refuse("mica loads no layer plugins, and without them files would be missing")),

    row(&["uidmapping"], Value("HOST:TO:LEN:..."), Ownership, "user numbers on disk and as shown", Set(|o, v| put(&mut o.uid_map, value::id_ranges(v)))),
    row(&["gidmapping"], Value("HOST:TO:LEN:..."), Ownership, "group numbers on disk and as shown", Set(|o, v| put(&mut o.gid_map, value::id_ranges(v)))),
    row(&["squash_to_root"], Boolean, Ownership, "show every file as root's", Set(|o, v| put(&mut o.squash_to_root, value::boolean(v)))),
    row(&["squash_to_uid"], Value("N"), Ownership, "show every file as this user's", Set(|o, v| keep(&mut o.squash_to_uid, value::number(v, "a user number")))),
    row(&["squash_to_gid"], Value("N"), Ownership, "show every file as this group's", Set(|o, v| keep(&mut o.squash_to_gid, value::number(v, "a group number")))),
    row(&["xattr_permissions"], Value("0|1|2"), Ownership, "keep owner and mode in an attribute (1 security.*, 2 user.*)", Set(xattr_permissions)),
    row(&["noxattrs"], Boolean, Ownership, "no extended attributes", Set(|o, v| put(&mut o.no_xattrs, value::boolean(v)))),
    row(&["noacl"], Boolean, Ownership, "no access control lists", Set(|o, v| put(&mut o.no_acl, value::boolean(v)))),
    row(&["context"], Value("CONTEXT"), Ownership, "the SELinux context; quoted if it holds commas", Set(|o, v| keep(&mut o.context, Ok(text::unescape(v.unwrap_or_default()))))),

    row(&["timeout"], Value("SECONDS"), Speed, "how long the kernel keeps names and attributes (default 1e9)", Set(|o, v| put(&mut o.timeout, value::seconds(v)))),
    row(&["writeback"], Boolean, Speed, "taken for fuse-overlayfs's sake: writes are passed on at once", Set(|o, v| put(&mut o.writeback, value::boolean(v)))),
    row(&["threads"], Value("N|auto"), Speed, "the most serving threads; they start when needed", Set(threads)),
    row(&["threaded"], Boolean, Speed, "several requests at once", Set(|o, v| keep(&mut o.threaded, value::boolean(v)))),
    row(&["io"], Value("auto|cache|passthrough"), Speed, "how file data travels", Set(io)),
    row(&["io_uring"], Boolean, Speed, "take requests over io_uring where the kernel offers it (default 1)", Set(|o, v| put(&mut o.io_uring, value::boolean(v)))),
    row(&["ahead"], Boolean, Speed, "look up what a program that goes through directories asks for next (default 1)", Set(|o, v| put(&mut o.ahead, value::boolean(v)))),
    row(&["max_write"], Value("BYTES"), Speed, "the largest write request", Set(|o, v| keep(&mut o.max_write, value::number(v, "a number of bytes")))),
    row(&["max_read"], Value("BYTES"), Speed, "the largest read request", Set(|o, v| keep(&mut o.max_read, value::number(v, "a number of bytes")))),
    row(&["fast_ino"], Boolean, Speed, "listings show the inode numbers of the layers", Set(|o, v| put(&mut o.fast_ino, value::boolean(v)))),

    row(&["ro"], Switch, Access, "read-only", Set(|o, _| keep(&mut o.read_only, Ok(true)))),
    row(&["rw"], Switch, Access, "writable, if there is an upperdir", Set(|o, _| keep(&mut o.read_only, Ok(false)))),
    row(&["default_permissions"], Switch, Access, "the kernel checks owner and mode", Set(|o, _| keep(&mut o.default_permissions, Ok(true)))),
    row(&["allow_other"], Switch, Access, "every user may use the mount", Set(|o, _| keep(&mut o.allow, Ok(Allow::Other)))),
    row(&["allow_root"], Switch, Access, "root may use the mount, too", Set(|o, _| keep(&mut o.allow, Ok(Allow::Root)))),
    row(&["suid"], Switch, Access, "set-user-id bits count", Set(|o, _| keep(&mut o.suid, Ok(true)))),
    row(&["nosuid"], Switch, Access, "set-user-id bits do not count", Set(|o, _| keep(&mut o.suid, Ok(false)))),
    row(&["dev"], Switch, Access, "device nodes can be opened", Set(|o, _| keep(&mut o.dev, Ok(true)))),
    row(&["nodev"], Switch, Access, "device nodes cannot be opened", Set(|o, _| keep(&mut o.dev, Ok(false)))),
    row(&["exec"], Switch, Access, "programs can be started", Set(|o, _| keep(&mut o.exec, Ok(true)))),
    row(&["noexec"], Switch, Access, "programs cannot be started", Set(|o, _| keep(&mut o.exec, Ok(false)))),
    row(&["atime"], Switch, Access, "access times are kept", Set(|o, _| keep(&mut o.atime, Ok(true)))),
    row(&["noatime"], Switch, Access, "access times are not kept", Set(|o, _| keep(&mut o.atime, Ok(false)))),
    row(&["diratime"], Switch, Access, "access times of directories are kept", Set(|o, _| keep(&mut o.dir_atime, Ok(true)))),
    row(&["nodiratime"], Switch, Access, "access times of directories are not kept", Set(|o, _| keep(&mut o.dir_atime, Ok(false)))),
    row(&["sync"], Switch, Access, "all writes are synchronous", Set(|o, _| keep(&mut o.sync, Ok(true)))),
    row(&["async"], Switch, Access, "writes are not synchronous", Set(|o, _| keep(&mut o.sync, Ok(false)))),
    row(&["dirsync"], Switch, Access, "changes of directories are synchronous", Set(|o, _| keep(&mut o.dir_sync, Ok(true)))),
    row(&["fsname"], Value("NAME"), Access, "the first column of the mount table", Set(|o, v| keep(&mut o.fs_name, Ok(text::unescape(v.unwrap_or_default()))))),
    row(&["nonempty"], Switch, Access, "the mount point may hold files, which are hidden", Set(|o, _| put(&mut o.non_empty, Ok(true)))),
    row(&["remount"], Switch, Access, "change the flags of a mount that is there", Set(|o, _| put(&mut o.remount, Ok(true)))),
    row(&["debug"], Switch, Access, "print what happens, stay in the foreground", Set(|o, _| put(&mut o.debug, Ok(true)))),

    row(&["defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment"], Any, Ignored, "for mount(8) and fstab", Ignore),
    row(&["relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "iversion", "noiversion", "mand", "nomand", "loud", "silent"], Switch, Ignored, "kernel flags without meaning here", Ignore),
    row(&["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"], Switch, Ignored, "propagation, which the caller sets", Ignore),
    row(&["kernel_cache", "auto_cache", "big_writes", "auto_unmount", "splice_read", "splice_write", "splice_move", "no_splice_read", "no_splice_write", "no_splice_move", "subtype", "blkdev", "drop_privileges", "fast_ino_check", "userxattr", "clone_fd"], Any, Ignored, "options of FUSE or the kernel's overlay", Ignore),
];

fn put<T>(slot: &mut T, value: Result<T, Expected>) -> Result<(), Expected> {
    *slot = value?;
    Ok(())
}

fn keep<T>(slot: &mut Option<T>, value: Result<T, Expected>) -> Result<(), Expected> {
    *slot = Some(value?);
    Ok(())
}

fn text_of(value: Option<&[u8]>, expected: Expected) -> Result<String, Expected> {
    value::text(value, expected).map(str::to_owned)
}

fn lower(options: &mut MountOptions, value: Option<&[u8]>) -> Result<(), Expected> {
    let mut lower = Vec::new();
    let mut data_only = Vec::new();
    for (part, is_data) in text::colon_list(value.unwrap_or_default()) {
        let path = value::path(Some(&text::escape(&part)))?;
        if is_data { data_only.push(path) } else { lower.push(path) }
    }
    if lower.is_empty() {
        return Err("a list of directories");
    }
    options.lower = lower;
    options.data_only = data_only;
    Ok(())
}

fn lower_add(options: &mut MountOptions, value: Option<&[u8]>) -> Result<(), Expected> {
    options.lower.push(value::path(value)?);
    Ok(())
}

fn data_add(options: &mut MountOptions, value: Option<&[u8]>) -> Result<(), Expected> {
    options.data_only.push(value::path(value)?);
    Ok(())
}

fn redirect_dir(options: &mut MountOptions, value: Option<&[u8]>) -> Result<(), Expected> {
    options.redirect_dir = Some(match value {
        Some(b"on") => RedirectDir::On,
        Some(b"off") => RedirectDir::Off,
        Some(b"follow") => RedirectDir::Follow,
        Some(b"nofollow") => RedirectDir::NoFollow,
        _ => return Err("on, off, follow or nofollow"),
    });
    Ok(())
}

fn copy_up(options: &mut MountOptions, value: Option<&[u8]>) -> Result<(), Expected> {
    options.blocks = Some(match value {
        Some(b"whole") => false,
        Some(b"blocks") => true,
        _ => return Err("whole or blocks"),
    });
    Ok(())
}

fn xino(options: &mut MountOptions, value: Option<&[u8]>) -> Result<(), Expected> {
    options.xino = match value {
        Some(b"off") => Xino::Off,
        Some(b"auto") => Xino::Auto,
        Some(b"on") => Xino::On,
        _ => return Err("off, auto or on"),
    };
    Ok(())
}

fn xattr_permissions(options: &mut MountOptions, value: Option<&[u8]>) -> Result<(), Expected> {
    options.xattr_permissions = match value {
        Some(b"0") => XattrPermissions::Off,
        Some(b"1") => XattrPermissions::Security,
        Some(b"2") => XattrPermissions::User,
        _ => return Err("0, 1 or 2"),
    };
    Ok(())
}

fn threads(options: &mut MountOptions, value: Option<&[u8]>) -> Result<(), Expected> {
    let expected = "auto, or a number from 1 to 1024";
    options.threads = match value {
        Some(b"auto") => None,
        _ => Some(value::number(value, expected).ok().filter(|n| (1..=1024).contains(n)).ok_or(expected)?),
    };
    Ok(())
}

fn io(options: &mut MountOptions, value: Option<&[u8]>) -> Result<(), Expected> {
    options.io = match value {
        Some(b"auto") => Io::Auto,
        Some(b"cache") => Io::Cache,
        Some(b"passthrough") => Io::Passthrough,
        _ => return Err("auto, cache or passthrough"),
    };
    Ok(())
}
