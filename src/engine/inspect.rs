//! Everything about one image or container, as a document in docker's shape.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use crate::image::Digest;
use crate::image::reference::Reference;
use crate::store::Error as StoreError;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::store::containers::State;
use crate::store::known::KnownBlob;

use super::Result;
use super::containers;
use super::images::Sizes;
use super::images::size_of;
use super::usage::upper_size;

/// What docker prints for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The image that `word` means, with docker's field names; `Layers` tells what lies where.
///
/// # Errors
/// When there is no such image, or it is damaged.
pub fn inspect_image(store: &Store, word: &str) -> Result<Value> {
    let images = store.images()?;
    let id = images.find(word)?.id;
    let names: Vec<&Reference> = images.names_of(&id).collect();
    let entry = images.images.get(&id);
    let config = store.config(&id)?;
    let raw: Value = serde_json::from_slice(&store.need_blob(&id)?)
        .map_err(|e| StoreError::Damaged { file: format!("blobs/sha256/{}", id.hex()), why: e.to_string() })?;
    let field = |name: &str| raw.get(name).cloned().unwrap_or(Value::Null);
    let digests: Vec<String> = match entry.and_then(|entry| entry.manifest) {
        Some(digest) => names.iter().map(|name| format!("{}@{digest}", name.familiar_repository())).collect(),
        None => Vec::new(),
    };
    let size = size_of(store, &config)?;
    Ok(json!({
        "Id": id,
        "RepoTags": names.iter().filter(|name| name.tag().is_some()).map(ToString::to_string).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Parent": "",
        "Comment": config.history.as_deref().and_then(<[_]>::last).and_then(|step| step.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "DockerVersion": raw.get("docker_version").cloned().unwrap_or_else(|| "".into()),
        "Author": config.author.clone().unwrap_or_default(),
        "Config": with_defaults(field("config")),
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": { "Data": null, "Name": "mica" },
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.diff_ids() },
        "Metadata": { "LastTagTime": seconds(entry.and_then(|entry| entry.tagged)), "Added": seconds(entry.map(|entry| entry.added)) },
        "Layers": layers(store, config.diff_ids())?,
        "Store": store.path().display().to_string(),
    }))
}

/// Each layer, lowest first: what is in it, and where it lies.
fn layers(store: &Store, chain: &[Digest]) -> Result<Vec<Value>> {
    let known = store.known();
    let mut blobs: BTreeMap<Digest, Vec<(Digest, KnownBlob)>> = BTreeMap::new();
    for (blob, what) in known.blobs {
        blobs.entry(what.diff_id).or_default().push((blob, what));
    }
    let packs = store.path().join("packs");
    let file = |layer: &Digest, ending: &str| packs.join(format!("{}.{ending}", layer.hex())).display().to_string();
    let mut sizes = Sizes::new(store);
    let mut documents = Vec::with_capacity(chain.len());
    for (number, diff_id) in chain.iter().enumerate() {
        let info = sizes.layer(diff_id)?;
        let blobs = blobs.get(diff_id).map(Vec::as_slice).unwrap_or_default();
        let blob = |(digest, what): &(Digest, KnownBlob)| json!({ "Digest": digest, "Size": what.size });
        documents.push(json!({
            "Number": number + 1,
            "DiffId": diff_id,
            // The files in which the layer came, compressed: what a registry knows it by.
            "Blobs": blobs.iter().map(blob).collect::<Vec<_>>(),
            "Size": info.content,
            "Stored": info.stored,
            "TarSize": info.tar_size,
            "Entries": info.entries,
            "Files": info.files,
            "Directories": info.dirs,
            "Index": file(diff_id, "idx"),
            "Pack": file(diff_id, "pack"),
        }));
    }
    Ok(documents)
}

/// Docker writes all fields of a configuration, also those that are not set.
fn with_defaults(config: Value) -> Value {
    let mut all = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null, "Image": "", "Volumes": null,
        "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
    });
    if let (Value::Object(all), Value::Object(config)) = (&mut all, config) {
        all.extend(config);
    }
    all
}

/// The container that `word` means, with docker's field names; `size` adds what it wrote, which takes a walk.
///
/// # Errors
/// When there is no such container.
pub fn inspect_container(store: &Store, word: &str, size: bool) -> Result<Value> {
    containers::reconcile(store)?;
    let record = store.find_container(word)?;
    let (made, nanos) = containers::made_at(&record);
    let (path, args) = record.command.split_first().map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    let config =
        containers::config_of(&record).and_then(|config| serde_json::to_value(config).ok()).unwrap_or_default();
    let mut config = with_defaults(config);
    if let Value::Object(config) = &mut config {
        config.insert("Image".to_owned(), record.image_name.clone().into());
        config.insert("Hostname".to_owned(), record.id.get(..12).unwrap_or_default().into());
    }
    let dir = containers::dir(store, &record.id);
    let place = |name: &str| dir.join(name).display().to_string();
    let lower: Vec<String> = record.layers.iter().rev().map(ToString::to_string).collect();
    let mounted = containers::mount_of(store, &record)?.map(|target| target.display().to_string());
    let mut document = json!({
        "Id": record.id,
        "Created": time(made, nanos),
        "Path": path,
        "Args": args,
        "State": state(&record),
        "Image": record.image_id,
        "Name": format!("/{}", record.name),
        "RestartCount": 0,
        "Driver": "mica",
        "Platform": "linux",
        "GraphDriver": {
            "Data": {
                "LowerDir": lower.join(":"), "MergedDir": mounted.unwrap_or_default(), "UpperDir": place("upper"), "WorkDir": place("work"),
            },
            "Name": "mica",
        },
        "Mounts": [],
        "Config": config,
    });
    if let (true, Value::Object(document)) = (size, &mut document) {
        let written = upper_size(store, &record)?;
        let mut sizes = Sizes::new(store);
        let image: u64 = record.layers.iter().map(|layer| sizes.layer(layer).map_or(0, |info| info.content)).sum();
        document.insert("SizeRw".to_owned(), written.into());
        document.insert("SizeRootFs".to_owned(), written.saturating_add(image).into());
    }
    Ok(document)
}

fn state(record: &ContainerRecord) -> Value {
    let (pid, code, finished) = match record.state {
        State::Created => (0, 0, None),
        State::Running { pid, .. } => (pid, 0, None),
        State::Exited { code, finished } => (0, code, Some(finished)),
    };
    json!({
        "Status": containers::state_word(&record.state),
        "Running": matches!(record.state, State::Running { .. }),
        "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false,
        "Pid": pid,
        "ExitCode": code,
        "Error": "",
        "StartedAt": containers::started_at(record).map_or_else(|| NEVER.to_owned(), |(secs, nanos)| time(secs, nanos)),
        "FinishedAt": seconds(finished),
    })
}

/// A time in full seconds, if there is one.
fn seconds(time: Option<i64>) -> String {
    time.map_or_else(|| NEVER.to_owned(), |seconds| self::time(seconds, 0))
}

/// A time in RFC 3339.
fn time(seconds: i64, nanos: u64) -> String {
    let time = jiff::Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0));
    time.map_or_else(|_| NEVER.to_owned(), |time| time.to_string())
}
