//! Manifests and indexes: which config and which layers make an image.
//!
//! Source: OCI image specification, `manifest.md`, `image-index.md`, `descriptor.md`; docker's "image manifest version 2,
//! schema 2". Unknown fields are kept; the bytes that were read are the document, the structs only a view of it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use super::Digest;

/// The largest manifest or index that is read, in bytes (what registries accept).
pub const DOCUMENT_MAX: u64 = 4 << 20;
/// The most layers one image may have.
pub const LAYERS_MAX: usize = 1000;

/// Media types that mica knows.
pub mod media_type {
    /// An OCI manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An OCI layer, not compressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// An OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// An OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A docker config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
}

/// Why bytes are no manifest and no index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDocument {
    /// The document is larger than it may be.
    #[error("{what} of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The bytes are not JSON of the right form.
    #[error("{what} is malformed: {why}")]
    Json {
        /// Which document.
        what: &'static str,
        /// The parser's word.
        why: String,
    },
    /// The document could be read in two ways (CVE-2021-41190).
    #[error("the document is both a manifest and an index")]
    Ambiguous,
    /// The document says one type and has the fields of another, or an unknown type.
    #[error("the document is no image manifest or index (media type {0:?})")]
    MediaType(String),
    /// The document has more layers than an image may have.
    #[error("{0} layers are more than the limit of {LAYERS_MAX}")]
    TooManyLayers(usize),
    /// The schema is not version 2.
    #[error("schema version {0} is not supported, only 2 is")]
    Schema(u32),
}

/// A pointer to a blob: what it is, its digest, its size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The blob's media type.
    pub media_type: String,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// Which machine the blob is for, in an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Every other field.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A kind of machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The architecture in Go's words: `amd64`, `arm64`.
    pub architecture: String,
    /// The system: `linux`.
    pub os: String,
    /// The variant of the architecture: `v7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Every other field.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Platform {
    /// The machine this program runs on, in Go's words.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
            extra: BTreeMap::new(),
        }
    }

    /// Reads `os/architecture[/variant]`, or an architecture alone, as docker's `--platform` takes it; `None` when it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let word =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let (os, architecture, variant) = match parts.as_slice() {
            all if !all.iter().all(word) => return None,
            ["linux"] => return Some(Self::host()),
            [architecture] => ("linux", *architecture, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => return None,
        };
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" => "386",
            other => other,
        };
        Some(Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            extra: BTreeMap::new(),
        })
    }

    /// Whether an image for this platform runs on `host`; the variant counts only when both name one.
    pub fn runs_on(&self, host: &Platform) -> bool {
        self.os == host.os
            && self.architecture == host.architecture
            && (self.variant.is_none() || host.variant.is_none() || self.variant == host.variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own media type; OCI documents may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Every other field.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A list of manifests, one for each platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own media type; OCI documents may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests, or further indexes.
    pub manifests: Vec<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Every other field.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// A list.
    Index(Index),
}

impl Document {
    /// Reads a document. `declared` is the media type by which it was pointed to or served, when there was one: it must
    /// agree with what the document is.
    ///
    /// # Errors
    /// [`BadDocument`]: too large, malformed, ambiguous, or of another type.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Self, BadDocument> {
        check_size("the manifest", bytes.len() as u64, DOCUMENT_MAX)?;
        let shape: Shape = from_json("the manifest", bytes)?;
        let is_index = match (shape.config.is_some() || shape.layers.is_some(), shape.manifests.is_some()) {
            (true, true) => return Err(BadDocument::Ambiguous),
            (true, false) => false,
            (false, true) => true,
            (false, false) => return Err(BadDocument::MediaType(shape.media_type.unwrap_or_default())),
        };
        if shape.schema_version != 2 {
            return Err(BadDocument::Schema(shape.schema_version));
        }
        for named in [shape.media_type.as_deref(), declared].into_iter().flatten() {
            if media_type_is_index(named) != Some(is_index) {
                return Err(BadDocument::MediaType(named.to_owned()));
            }
        }
        if is_index {
            return from_json("the index", bytes).map(Document::Index);
        }
        let manifest: Manifest = from_json("the manifest", bytes)?;
        if manifest.layers.len() > LAYERS_MAX {
            return Err(BadDocument::TooManyLayers(manifest.layers.len()));
        }
        Ok(Document::Manifest(Box::new(manifest)))
    }
}

/// The fields that tell a manifest from an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

fn media_type_is_index(media_type: &str) -> Option<bool> {
    match media_type {
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Some(false),
        media_type::OCI_INDEX | media_type::DOCKER_INDEX => Some(true),
        _ => None,
    }
}

/// Refuses a document larger than `limit` before one byte of it is parsed.
pub(super) fn check_size(what: &'static str, size: u64, limit: u64) -> Result<(), BadDocument> {
    if size > limit { Err(BadDocument::TooLarge { what, size, limit }) } else { Ok(()) }
}

/// Parses JSON; serde_json itself refuses a depth of more than 128.
pub(super) fn from_json<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, BadDocument> {
    serde_json::from_slice(bytes)
        .map_err(|e| BadDocument::Json { what, why: crate::path::Escaped(e.to_string().as_bytes()).to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn manifest(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{D}","size":7}},"layers":[{{"mediaType":"{}","digest":"{D}","size":9,"urls":["x"]}}]{extra}}}"#,
            media_type::OCI_CONFIG,
            media_type::OCI_LAYER_GZIP,
        )
    }

    fn parse(text: &str) -> Result<Document, BadDocument> {
        Document::parse(text.as_bytes(), None)
    }

    #[test]
    fn a_manifest_keeps_what_it_does_not_know() {
        let text = manifest(r#","subject":{"a":1},"annotations":{"b":"c","a":"d"}"#);
        let Ok(Document::Manifest(m)) = parse(&text) else { panic!("no manifest") };
        let again = serde_json::to_value(&*m).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(&text).unwrap());
    }

    #[test]
    fn an_index_is_read() {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{D}","size":3,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}]}}"#,
            media_type::OCI_INDEX,
            media_type::OCI_MANIFEST,
        );
        let Ok(Document::Index(index)) = parse(&text) else { panic!("no index") };
        assert_eq!(index.manifests[0].platform.as_ref().unwrap().to_string(), "linux/arm/v7");
    }

    #[test]
    fn a_document_is_one_thing() {
        assert_eq!(parse(&manifest(r#","manifests":[]"#)), Err(BadDocument::Ambiguous));
        let lying = manifest(&format!(r#","mediaType":"{}""#, media_type::OCI_INDEX));
        assert!(matches!(parse(&lying), Err(BadDocument::MediaType(_))));
        let declared = Document::parse(manifest("").as_bytes(), Some(media_type::DOCKER_INDEX));
        assert!(matches!(declared, Err(BadDocument::MediaType(_))));
        assert!(matches!(parse(r#"{"schemaVersion":2}"#), Err(BadDocument::MediaType(_))));
        assert!(matches!(parse(r#"{"schemaVersion":1,"layers":[]}"#), Err(BadDocument::Schema(1))));
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(parse(&manifest(&format!(r#","x":{deep}"#))), Err(BadDocument::Json { .. })));
        assert!(matches!(parse(&manifest(r#","schemaVersion":2"#)), Err(BadDocument::Json { .. })), "a key twice");
        assert!(matches!(parse(&" ".repeat(5 << 20)), Err(BadDocument::TooLarge { .. })));
        for (from, to) in [
            ("sha256:01", "sha256:../01"),
            ("sha256:01", "sha256:0"),
            ("sha256:01", "md5:01"),
            ("sha256:01", "sha256:0A"),
            ("\"size\":9", "\"size\":-9"),
            ("\"size\":9", "\"size\":1e99"),
            ("\"size\":9", "\"size\":\"9\""),
        ] {
            let text = manifest("").replace(from, to);
            assert!(matches!(parse(&text), Err(BadDocument::Json { .. })), "{to}");
        }
        let layer = format!(r#"{{"mediaType":"x","digest":"{D}","size":1}}"#);
        let many = vec![layer.as_str(); 1001].join(",");
        let text = format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[{many}]}}"#);
        assert_eq!(parse(&text), Err(BadDocument::TooManyLayers(1001)));
    }

    #[test]
    fn a_platform_matches_the_host() {
        let host = Platform {
            architecture: "arm64".into(),
            os: "linux".into(),
            variant: Some("v8".into()),
            extra: BTreeMap::new(),
        };
        assert!(Platform { variant: None, ..host.clone() }.runs_on(&host));
        assert!(!Platform { os: "windows".into(), ..host.clone() }.runs_on(&host));
        assert!(!Platform { variant: Some("v9".into()), ..host.clone() }.runs_on(&host));
    }
}
