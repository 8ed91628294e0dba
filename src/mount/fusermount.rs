//! Mounting and unmounting as a user, through the setuid program fusermount3 (or fusermount).

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use super::error::Error;
use super::error::Result;
use super::options::text;
use super::request::Access;
use crate::sys::fd_passing;

const PROGRAMS: [&str; 2] = ["fusermount3", "fusermount"];

/// Mounts on `target` and returns the connection; `None` when neither program is installed.
///
/// # Errors
/// [`Error::Fusermount`] with what the program printed.
pub fn mount(kind: &str, fs_name: &[u8], access: Access, target: &Path) -> Result<Option<OwnedFd>> {
    let options = options(kind, fs_name, access);
    for program in PROGRAMS {
        let (ours, theirs) = fd_passing::socket_pair()?;
        let mut command = Command::new(program);
        command.arg("-o").arg(&options).arg("--").arg(target);
        // The program sends the connection over the descriptor that this variable names: its standard input.
        command.env("_FUSE_COMMFD", "0").stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
        let spawned = command.spawn();
        // Our copy of their end goes, so that the program's death is seen as the end of the stream.
        drop(command);
        let child = match spawned {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(|e| failed(program, &e.to_string()))?,
        };
        let received = fd_passing::receive(&ours)?;
        let output = child.wait_with_output().map_err(|e| failed(program, &e.to_string()))?;
        return received.map(Some).ok_or_else(|| refused(program, &output));
    }
    Ok(None)
}

/// The options in fusermount's words. It knows no `suid` and `dev` from users, and sets `nosuid,nodev` itself.
fn options(kind: &str, fs_name: &[u8], access: Access) -> OsString {
    let mut options = access.flags.to_string().into_bytes();
    let mut add = |parts: &[&[u8]]| {
        options.push(b',');
        parts.iter().for_each(|part| options.extend_from_slice(part));
    };
    if access.default_permissions {
        add(&[b"default_permissions"]);
    }
    if access.allow.is_some() {
        add(&[b"allow_other"]);
    }
    if let Some(max_read) = access.max_read {
        add(&[b"max_read=", max_read.to_string().as_bytes()]);
    }
    add(&[b"fsname=", &text::escape_comma(fs_name)]);
    if let Some(subtype) = kind.strip_prefix("fuse.") {
        add(&[b"subtype=", subtype.as_bytes()]);
    }
    OsString::from_vec(options)
}

/// Unmounts `target`; `false` when neither program is installed.
///
/// # Errors
/// [`Error::Busy`], or [`Error::Fusermount`] with what the program printed.
pub fn unmount(target: &Path, lazy: bool) -> Result<bool> {
    for program in PROGRAMS {
        let flags: &[&OsStr] = if lazy { &[OsStr::new("-u"), OsStr::new("-z")] } else { &[OsStr::new("-u")] };
        let output = Command::new(program).args(flags).arg("--").arg(target).stdin(Stdio::null()).output();
        let output = match output {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(|e| failed(program, &e.to_string()))?,
        };
        if output.status.success() {
            return Ok(true);
        }
        let error = refused(program, &output);
        let busy = matches!(&error, Error::Fusermount { said, .. } if said.contains("busy"));
        return Err(if busy { Error::Busy(target.to_owned()) } else { error });
    }
    Ok(false)
}

fn failed(program: &'static str, said: &str) -> Error {
    Error::Fusermount { program, said: said.to_owned() }
}

fn refused(program: &'static str, output: &Output) -> Error {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("refused without a word");
    let said = line.trim().strip_prefix(program).map_or(line, |rest| rest.trim_start_matches(':'));
    failed(program, said.trim())
}
