//! Compressed layers as they came, kept beside the packs where the configuration says so (`keep-blobs`): `kept/HEX`.
//!
//! A kept file saves nothing but its own bytes: the layer is in its pack. It is garbage as soon as no image has a manifest that
//! names it (I6), and may be removed at any time without harm; an image is then saved with other layer files, and another
//! manifest.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::OwnedFd;

use super::Error;
use super::KEPT;
use super::Result;
use super::Store;
use super::file;
use super::fixed;
use crate::digest::Hasher;
use crate::image::Digest;
use crate::image::manifest::Document;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::open::Access;

/// A layer's file on its way into the store. It has no name to find it by before [`Store::publish_kept`]; dropping it leaves no trace.
#[derive(Debug)]
pub struct Keeping {
    dir: OwnedFd,
    temporary: Option<NameBuf>,
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Write for Keeping {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(buf)?;
        self.hasher.update(buf.get(..n).unwrap_or_default());
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(name) = self.temporary.take()
            && let Err(e) = sys::name::unlink(&self.dir, name.as_name())
        {
            log::debug!("leaving {name} behind: {e}"); // dead whatever happens here (I8)
        }
    }
}

fn name(digest: &Digest) -> Result<NameBuf> {
    let hex = digest.hex();
    NameBuf::new(hex.as_bytes()).map_err(|why| Error::Name { name: hex, why })
}

impl Store {
    fn kept_dir(&self) -> Result<Option<OwnedFd>> {
        match sys::open::dir_at(self.root(), fixed(KEPT)?) {
            Ok(dir) => Ok(Some(dir)),
            Err(e) if super::is_absent(&e) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// A regular file in the store's filesystem that has no name.
    ///
    /// # Errors
    /// The kernel's.
    pub fn nameless_file(&self) -> Result<OwnedFd> {
        let name = file::temporary_name(file::TEMPORARY)?;
        let fd = sys::open::create_at(self.root(), name.as_name(), 0o600)?;
        sys::name::unlink(self.root(), name.as_name())?;
        Ok(fd)
    }

    /// Begins to keep a layer's file.
    ///
    /// # Errors
    /// The kernel's.
    pub fn keep(&self) -> Result<Keeping> {
        file::make_dir(self.root(), fixed(KEPT)?, 0o700)?;
        let dir = sys::open::dir_at(self.root(), fixed(KEPT)?)?;
        let temporary = file::temporary_name(file::TEMPORARY)?;
        let fd = sys::open::create_at(&dir, temporary.as_name(), 0o600)?;
        Ok(Keeping { dir, temporary: Some(temporary), file: fd.into(), hasher: Hasher::new(), size: 0 })
    }

    /// Gives a file that was written to its end its name, if its digest is one of `wanted`.
    ///
    /// Durability: on disk when this returns.
    ///
    /// # Errors
    /// The kernel's.
    pub fn publish_kept(&self, mut keeping: Keeping, wanted: &BTreeSet<Digest>) -> Result<()> {
        let digest = std::mem::take(&mut keeping.hasher).finish();
        if !wanted.contains(&digest) {
            return Ok(());
        }
        sys::data::sync(&keeping.file, true)?;
        if let Some(temporary) = &keeping.temporary {
            let mode = sys::name::RenameMode::Replace;
            sys::name::rename(&keeping.dir, temporary.as_name(), &keeping.dir, name(&digest)?.as_name(), mode)?;
        }
        keeping.temporary = None;
        Ok(sys::data::sync_dir(&keeping.dir)?)
    }

    /// Whether the file of this digest and size is kept. Its bytes are checked when they are read.
    ///
    /// # Errors
    /// The kernel's.
    pub fn has_kept(&self, digest: &Digest, size: u64) -> Result<bool> {
        let Some(dir) = self.kept_dir()? else { return Ok(false) };
        let stat = sys::attr::stat_at(&dir, name(digest)?.as_name())?;
        Ok(stat.is_some_and(|stat| stat.kind() == sys::attr::Kind::File && stat.size == size))
    }

    /// Whether a file of this digest is kept.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_kept(&self, digest: &Digest) -> Result<bool> {
        let Some(dir) = self.kept_dir()? else { return Ok(false) };
        Ok(sys::attr::stat_at(&dir, name(digest)?.as_name())?.is_some())
    }

    /// Opens a kept file; the caller checks its digest.
    ///
    /// # Errors
    /// [`Error::NoBlob`]; the kernel's.
    pub fn open_kept(&self, digest: &Digest) -> Result<File> {
        let dir = self.kept_dir()?.ok_or(Error::NoBlob(*digest))?;
        match sys::open::file_at(&dir, name(digest)?.as_name(), Access::Read) {
            Ok(fd) => Ok(fd.into()),
            Err(e) if super::is_absent(&e) => Err(Error::NoBlob(*digest)),
            Err(e) => Err(e.into()),
        }
    }

    /// The digests of all kept files.
    pub(super) fn kept(&self) -> Result<Vec<Digest>> {
        let Some(dir) = self.kept_dir()? else { return Ok(Vec::new()) };
        let names = file::names(&dir, |name| !file::is_dead(name))?;
        let digest = |name: &NameBuf| Digest::from_hex(std::str::from_utf8(name.as_bytes()).ok()?).ok();
        Ok(names.iter().filter_map(digest).collect())
    }

    /// Removes the kept files that no image's manifest names. Only under the exclusive lock.
    pub(super) fn collect_kept(&self) -> Result<usize> {
        let kept = self.kept()?;
        let Some(dir) = self.kept_dir()?.filter(|_| !kept.is_empty()) else { return Ok(0) };
        let needed = self.kept_needed()?;
        let gone: Vec<_> = kept.iter().filter(|digest| !needed.contains(digest)).collect();
        gone.iter().try_for_each(|digest| Ok::<_, Error>(sys::name::unlink(&dir, name(digest)?.as_name())?))?;
        Ok(gone.len())
    }

    /// The layer files that the manifests of all images name.
    fn kept_needed(&self) -> Result<BTreeSet<Digest>> {
        let mut needed = BTreeSet::new();
        for manifest in self.images()?.images.values().filter_map(|entry| entry.manifest) {
            // One that is damaged names nothing: what it named can be had again.
            if let Ok(Some(bytes)) = self.blob(&manifest)
                && let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, None)
            {
                needed.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
        }
        Ok(needed)
    }

    /// Removes a damaged one, whatever has its name.
    pub(super) fn remove_kept(&self, digest: &Digest) -> Result<()> {
        self.kept_dir()?.map_or(Ok(()), |dir| Ok(sys::name::remove_all(&dir, name(digest)?.as_name())?))
    }

    /// How many files there are that killed processes left.
    pub(super) fn dead_kept(&self) -> Result<u64> {
        self.kept_dir()?.map_or(Ok(0), |dir| file::dead(&dir))
    }

    pub(super) fn sweep_kept(&self) -> Result<usize> {
        self.kept_dir()?.map_or(Ok(0), |dir| file::sweep(&dir))
    }

    /// What is wrong with a kept file, if anything: all its bytes are read.
    pub(super) fn check_kept(&self, digest: &Digest) -> Result<Option<String>> {
        let stat = self
            .kept_dir()?
            .map(|dir| sys::attr::stat_at(&dir, name(digest)?.as_name()).map_err(Error::from))
            .transpose()?;
        if stat.flatten().is_none_or(|stat| stat.kind() != sys::attr::Kind::File) {
            return Ok(Some("it is no regular file".to_owned()));
        }
        let mut file = self.open_kept(digest)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hasher.update(buffer.get(..n).unwrap_or_default()),
                Err(e) => return Ok(Some(e.to_string())),
            }
        }
        let found = hasher.finish();
        Ok((found != *digest).then(|| format!("its digest is {found}")))
    }
}
