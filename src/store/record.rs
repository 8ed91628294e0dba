//! Records with a checksum: containers and mounts. What they say cannot be looked up elsewhere, and a changed byte of them is as good a
//! name, number or digest as the right one, so only a sum finds it.
//!
//! ```text
//! {
//!   "format": 2,
//!   ...
//!   "checksum": "the SHA-256, in hex, of all bytes up to the comma before this line"
//! }
//! ```
//! Two fields, so that no damage in one place makes a record look like one of format 1, which had neither and is still read.

use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;
use super::Result;
use super::file;
use super::file::Lasting;
use crate::digest::Digest;
use crate::path::Name;

const FORMAT: u64 = 2;
const FORMAT_KEY: &str = "format";
const SUM_KEY: &str = "checksum";

/// The end of a record whose other bytes are `body`.
fn end_of(body: &[u8]) -> String {
    format!(",\n  \"{SUM_KEY}\": \"{}\"\n}}\n", Digest::of(body).hex())
}

/// Writes a record, which must be a JSON object with at least one field, as [`file::replace_with`] does.
pub fn write(dir: &OwnedFd, name: Name<'_>, record: &impl Serialize, lasting: Lasting) -> Result<()> {
    let bytes = encode(record).map_err(|why| Error::Damaged { file: name.to_string(), why })?;
    file::replace_with(dir, name, &bytes, lasting)
}

fn encode(record: &impl Serialize) -> std::result::Result<Vec<u8>, String> {
    let mut value = serde_json::to_value(record).map_err(|e| e.to_string())?;
    let fields = value.as_object_mut().ok_or("a record must be an object")?;
    fields.shift_insert(0, FORMAT_KEY.to_owned(), FORMAT.into());
    fields.shift_remove(SUM_KEY);
    let mut bytes = serde_json::to_vec_pretty(&value).map_err(|e| e.to_string())?;
    bytes.truncate(bytes.len().saturating_sub("\n}".len()));
    let end = end_of(&bytes);
    bytes.extend_from_slice(end.as_bytes());
    Ok(bytes)
}

/// Reads a record; `None` when there is none.
pub fn read<T: DeserializeOwned>(dir: &OwnedFd, name: Name<'_>, limit: u64) -> Result<Option<T>> {
    let Some(bytes) = file::read(dir, name, limit)? else { return Ok(None) };
    decode(&bytes).map(Some).map_err(|why| Error::Damaged { file: name.to_string(), why })
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, String> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if let Some(fields) = value.as_object_mut() {
        let format = fields.shift_remove(FORMAT_KEY);
        let sum = fields.shift_remove(SUM_KEY);
        if format.is_some() || sum.is_some() {
            check(bytes, format.as_ref())?;
        }
    }
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn check(bytes: &[u8], format: Option<&Value>) -> std::result::Result<(), String> {
    let end = end_of(&[]).len();
    let (body, found) = bytes.split_at_checked(bytes.len().saturating_sub(end)).ok_or("it is cut short")?;
    if found != end_of(body).as_bytes() {
        return Err("its checksum is wrong".to_owned());
    }
    match format.and_then(Value::as_u64) {
        Some(FORMAT) => Ok(()),
        other => Err(format!("its format is {}, this mica knows {FORMAT}", other.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_flipped_bit_of_a_record_is_found() {
        let record = json!({"id": "ab", "name": "web", "pid": 17, "more": {"checksum": "x", "format": 9}});
        let bytes = encode(&record).unwrap();
        assert_eq!(decode::<Value>(&bytes).unwrap(), record);
        assert_eq!(encode(&decode::<Value>(&bytes).unwrap()).unwrap(), bytes, "the same bytes each time");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(decode::<Value>(&bytes).is_err(), "{}", String::from_utf8_lossy(&bytes));
            }
        }
        for cut in 0..bytes.len() {
            assert!(decode::<Value>(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn records_without_a_checksum_are_read() {
        let old = br#"{"id": "ab", "pid": 17}"#;
        assert_eq!(decode::<Value>(old).unwrap(), json!({"id": "ab", "pid": 17}));
        assert!(decode::<Map<String, Value>>(br#"{"format": 3, "id": "ab"}"#).is_err());
    }
}
