//! The config of an image: its layers by diff id, its history, and what a container of it runs.
//!
//! Source: OCI image specification, `config.md`; docker's "image specification v1.2" for the fields that only docker has
//! (`Healthcheck`, `OnBuild`, `Shell`), which are kept in `extra`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use super::Digest;
use super::manifest::BadDocument;
use super::manifest::LAYERS_MAX;
use super::manifest::check_size;
use super::manifest::from_json;

/// The largest config that is read, in bytes.
pub const CONFIG_MAX: u64 = 8 << 20;

/// The config of an image. The image's id is the digest of the config's bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The architecture in Go's words: `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// The system: `linux`.
    #[serde(default)]
    pub os: String,
    /// The variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What a container runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<RunConfig>,
    /// The layers.
    pub rootfs: RootFs,
    /// How each layer came to be, lowest first; entries without a layer are marked so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<History>>,
    /// Every other field.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed layer tars, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// What a container of the image runs. A list or map that is absent, `null` or empty means the same.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]`, by name or number.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port[/protocol]` as keys.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `NAME=value`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The default arguments, or the program where there is no entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths as keys.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Value>,
    /// The directory in which the program starts.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Every other field: `Healthcheck`, `OnBuild`, `Shell`, and what is not known yet.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// How one layer came to be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Every other field.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl ImageConfig {
    /// Reads a config.
    ///
    /// # Errors
    /// [`BadDocument`]: too large, malformed, too many layers, or not made of layers.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadDocument> {
        check_size("the image config", bytes.len() as u64, CONFIG_MAX)?;
        let config: ImageConfig = from_json("the image config", bytes)?;
        if config.rootfs.kind != "layers" {
            let why = format!("rootfs.type is {:?}, not \"layers\"", config.rootfs.kind);
            return Err(BadDocument::Json { what: "the image config", why });
        }
        if config.rootfs.diff_ids.len() > LAYERS_MAX {
            return Err(BadDocument::TooManyLayers(config.rootfs.diff_ids.len()));
        }
        Ok(config)
    }

    /// The layers by diff id, lowest first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }

    /// The history with, for each step that made a layer, that layer's diff id. Steps and layers are paired as far as both go.
    pub fn history_with_layers(&self) -> impl Iterator<Item = (&History, Option<Digest>)> {
        let mut layers = self.rootfs.diff_ids.iter().copied();
        let steps = self.history.iter().flatten();
        steps.map(move |step| (step, if step.empty_layer { None } else { layers.next() }))
    }
}

/// Go writes an absent list as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn docker_fields_are_kept() {
        let text = format!(
            r#"{{"created":"2024-01-01T00:00:00Z","architecture":"amd64","os":"linux","container":"abc",
            "config":{{"User":"u","Env":["A=b"],"Cmd":["sh"],"Labels":{{"z":"1","a":"2"}},"Healthcheck":{{"Test":["x"]}},"OnBuild":["RUN x"],"Shell":["/bin/sh"]}},
            "rootfs":{{"type":"layers","diff_ids":["{D}"]}},"history":[{{"created_by":"x"}},{{"empty_layer":true,"comment":"c"}}]}}"#
        );
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        let again = serde_json::to_value(&config).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(&text).unwrap());
        let pairs: Vec<bool> = config.history_with_layers().map(|(_, layer)| layer.is_some()).collect();
        assert_eq!(pairs, [true, false]);
    }

    #[test]
    fn null_means_absent() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"User":"","Env":null,"Cmd":null,"Volumes":null,"Labels":null,"Entrypoint":null,"WorkingDir":"","ExposedPorts":null},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config, Some(RunConfig::default()));
        assert!(config.diff_ids().is_empty());
    }

    #[test]
    fn hostile_configs_are_refused() {
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}"#,
            r#"{"rootfs":{"type":"base","diff_ids":[]}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":[1]}}"#,
        ] {
            assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = format!(r#"{{"rootfs":{{"type":"layers"}},"x":{}}}"#, "{\"a\":".repeat(100_000));
        assert!(ImageConfig::parse(deep.as_bytes()).is_err());
        let ids = vec![format!("\"{D}\""); LAYERS_MAX + 1].join(",");
        let many = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#);
        assert_eq!(ImageConfig::parse(many.as_bytes()), Err(BadDocument::TooManyLayers(LAYERS_MAX + 1)));
        assert!(matches!(ImageConfig::parse(&vec![b' '; 9 << 20]), Err(BadDocument::TooLarge { .. })));
    }
}
