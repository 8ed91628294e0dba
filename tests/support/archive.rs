//! Images out of thin air: layers entry by entry, and the archive that `docker save` would write.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use sha2::Digest;
use sha2::Sha256;

/// One entry of a layer's tar.
pub enum Entry<'a> {
    Dir(&'a str),
    File(&'a [u8], &'a str),
    Link(&'a str, &'a str),
    Hard(&'a str, &'a str),
    /// A file with a mode and perhaps a capability.
    Mode(&'a str, &'a [u8], u32, Option<&'a [u8]>),
}

/// A layer's tar; its times are one.
pub fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_767_225_600);
        header.set_mode(0o644);
        header.set_size(0);
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        match entry {
            Entry::Dir(name) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                tar.append_data(&mut header, name, &b""[..])
            }
            Entry::File(name, data) => {
                header.set_size(data.len() as u64);
                tar.append_data(&mut header, path(name), data.as_bytes())
            }
            Entry::Link(name, target) | Entry::Hard(name, target) => {
                let hard = matches!(entry, Entry::Hard(..));
                header.set_entry_type(if hard { tar::EntryType::Link } else { tar::EntryType::Symlink });
                header.set_mode(0o777);
                tar.append_link(&mut header, name, target)
            }
            Entry::Mode(name, data, mode, capability) => {
                if let Some(value) = capability {
                    tar.append_pax_extensions([("SCHILY.xattr.security.capability", *value)]).expect("a pax header");
                }
                header.set_size(data.len() as u64);
                header.set_mode(*mode);
                tar.append_data(&mut header, name, *data)
            }
        }
        .expect("a tar entry");
    }
    tar.into_inner().expect("a tar")
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes a docker archive of one image.
pub fn write_archive(dir: &Path, name: &str, layers: &[Vec<u8>], history: &serde_json::Value) -> PathBuf {
    let ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": ids },
        "history": history,
    });
    let config = config.to_string();
    let names: Vec<String> = (0..layers.len()).map(|i| format!("{i}/layer.tar")).collect();
    let manifest = serde_json::json!([{ "Config": "c.json", "RepoTags": [name], "Layers": names }]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).expect("an archive entry");
    };
    names.iter().zip(layers).for_each(|(name, layer)| add(name, layer));
    add("c.json", config.as_bytes());
    add("manifest.json", manifest.to_string().as_bytes());
    let file = dir.join("image.tar");
    std::fs::write(&file, archive.into_inner().expect("an archive")).expect("write");
    file
}
