//! What is in a file: its digest, its first bytes, whether two are the same. The only part of explaining that reads content.

use super::Result;
use crate::digest::Digest;
use crate::digest::Hasher;
use crate::layer::Content;
use crate::layer::Obj;
use crate::sys::attr::Kind;

/// The largest file that is read to know its digest, in bytes; a sparse one of an image can claim any size.
pub const READ_MAX: u64 = 1 << 30;
/// Bytes read at a time.
const CHUNK: usize = 128 * 1024;

/// The digest of a regular file's content: out of the index where it stands there, otherwise by reading. `None` for what is no
/// regular file, or is larger than [`READ_MAX`] and in no index.
///
/// # Errors
/// When the layer cannot be read.
pub fn digest(obj: &Obj) -> Result<Option<Digest>> {
    if obj.kind() != Kind::File {
        return Ok(None);
    }
    if let Some(known) = obj.digest()? {
        return Ok(Some(known));
    }
    let content = obj.open_checked()?;
    if content.len() > READ_MAX {
        return Ok(None);
    }
    let mut hasher = Hasher::new();
    each_chunk(&content, &mut |bytes| {
        hasher.update(bytes);
        Ok::<_, super::Error>(())
    })?;
    Ok(Some(hasher.finish()))
}

/// Calls `each` for the content from the first byte to the last.
///
/// # Errors
/// When the layer cannot be read; the first error of `each`.
pub fn each_chunk<E: From<crate::layer::Error>>(
    content: &Content,
    each: &mut dyn FnMut(&[u8]) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut buf = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let n = content.read_at(&mut buf, at)?;
        if n == 0 {
            return Ok(());
        }
        each(buf.get(..n).unwrap_or_default())?;
        at += n as u64;
    }
}

/// Whether two regular files have the same content; `None` when both are too large to be read ([`READ_MAX`]).
///
/// # Errors
/// When a layer cannot be read.
pub fn same(a: &Obj, b: &Obj) -> Result<Option<bool>> {
    if let (Some(a), Some(b)) = (a.digest()?, b.digest()?) {
        return Ok(Some(a == b));
    }
    let (a, b) = (a.open_checked()?, b.open_checked()?);
    if a.len() != b.len() {
        return Ok(Some(false));
    }
    if a.len() > READ_MAX {
        return Ok(None);
    }
    let mut other = vec![0; CHUNK];
    let (mut at, mut same) = (0, true);
    each_chunk(&a, &mut |bytes| {
        if same {
            let n = b.read_at(other.get_mut(..bytes.len()).unwrap_or_default(), at)?;
            same = other.get(..n) == Some(bytes);
        }
        at += bytes.len() as u64;
        Ok::<_, super::Error>(())
    })?;
    Ok(Some(same))
}

/// The first bytes of a regular file, at most `max`.
///
/// # Errors
/// When the layer cannot be read.
pub fn head(obj: &Obj, max: usize) -> Result<Vec<u8>> {
    let content = obj.open_checked()?;
    let mut bytes = vec![0; max.min(usize::try_from(content.len()).unwrap_or(max))];
    let n = content.read_at(&mut bytes, 0)?;
    bytes.truncate(n);
    Ok(bytes)
}

/// The whole content, if it has at most `max` bytes.
///
/// # Errors
/// When the layer cannot be read.
pub fn whole(obj: &Obj, max: usize) -> Result<Option<Vec<u8>>> {
    let content = obj.open_checked()?;
    if content.len() > max as u64 {
        return Ok(None);
    }
    head(obj, max).map(Some)
}
