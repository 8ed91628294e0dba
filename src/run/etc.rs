//! The files of `/etc` that describe the host and the container, not the image.

use super::error::Result;
use super::error::Step;
use crate::sys::open;

/// The largest `resolv.conf` that is taken over, in bytes.
const RESOLV_MAX: usize = 64 << 10;

/// Path inside the root and content of each file.
///
/// # Errors
/// [`super::Error::Setup`] when the host's `resolv.conf` exists but cannot be read.
pub(super) fn files(hostname: &str) -> Result<[(&'static [u8], Vec<u8>); 3]> {
    Ok([
        (b"etc/resolv.conf", host_resolv_conf()?),
        (b"etc/hosts", hosts(hostname).into_bytes()),
        (b"etc/hostname", format!("{hostname}\n").into_bytes()),
    ])
}

/// The host's file as it is, since the network is the host's; empty when the host has none.
fn host_resolv_conf() -> Result<Vec<u8>> {
    let step = || "read the host's /etc/resolv.conf".to_owned();
    let found = match open::any_path(std::path::Path::new("/etc/resolv.conf")) {
        Err(e) if e.errno() == crate::sys::Errno::NOENT => return Ok(Vec::new()),
        other => other.step(step)?,
    };
    let file = open::reopen(found, open::Access::Read).step(step)?;
    let mut text = vec![0; RESOLV_MAX];
    let got = crate::sys::data::read_at(file, &mut text, 0).step(step)?;
    text.truncate(got);
    Ok(text)
}

fn hosts(hostname: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n127.0.1.1\t{hostname}\n"
    )
}
