//! Configs and manifests, by digest.

use super::Error;
use super::Result;
use super::Store;
use super::file;
use crate::image::Digest;
use crate::image::config::CONFIG_MAX;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::attr::Kind;

impl Store {
    /// Stores a document, and says its digest. One that is there already and whole is left alone.
    ///
    /// Durability: on disk when this returns.
    ///
    /// # Errors
    /// The kernel's.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        // A damaged one is replaced: storing again repairs.
        if !matches!(self.blob(&digest), Ok(Some(_))) {
            if self.blob_is_dir(&digest)? {
                self.remove_blob(&digest)?;
            }
            file::replace(&self.blobs, name(&digest)?.as_name(), bytes)?;
        }
        Ok(digest)
    }

    /// The bytes of a document, checked against its digest; `None` when it is not there.
    ///
    /// # Errors
    /// The kernel's; [`Error::Damaged`] when the bytes do not have the digest.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = file::read(&self.blobs, name(digest)?.as_name(), CONFIG_MAX)? else { return Ok(None) };
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(Error::Damaged {
                file: format!("blobs/sha256/{}", digest.hex()),
                why: format!("its digest is {found}"),
            });
        }
        Ok(Some(bytes))
    }

    /// The bytes of a document that must be there.
    ///
    /// # Errors
    /// As [`Store::blob`]; [`Error::NoBlob`] when it is not there.
    pub fn need_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.blob(digest)?.ok_or(Error::NoBlob(*digest))
    }

    /// The digests of all documents.
    pub(super) fn blob_digests(&self) -> Result<Vec<Digest>> {
        let names = file::names(&self.blobs, |name| !file::is_dead(name))?;
        let digests = names.iter().filter_map(|name| Digest::from_hex(std::str::from_utf8(name.as_bytes()).ok()?).ok());
        Ok(digests.collect())
    }

    /// Removes a document. Only under the exclusive lock.
    pub(super) fn remove_blob(&self, digest: &Digest) -> Result<()> {
        Ok(sys::name::remove_all(&self.blobs, name(digest)?.as_name())?)
    }

    /// Whether something that no rename can replace has the name of a document.
    fn blob_is_dir(&self, digest: &Digest) -> Result<bool> {
        let stat = sys::attr::stat_at(&self.blobs, name(digest)?.as_name())?;
        Ok(stat.is_some_and(|stat| stat.kind() == Kind::Dir))
    }

    /// The size of a document in bytes; 0 when it is not there.
    pub(super) fn blob_len(&self, digest: &Digest) -> Result<u64> {
        Ok(sys::attr::stat_at(&self.blobs, name(digest)?.as_name())?.map_or(0, |stat| stat.size))
    }

    pub(super) fn sweep_blobs(&self) -> Result<usize> {
        file::sweep(&self.blobs)
    }
}

fn name(digest: &Digest) -> Result<NameBuf> {
    let hex = digest.hex();
    NameBuf::new(hex.as_bytes()).map_err(|why| Error::Name { name: hex, why })
}
