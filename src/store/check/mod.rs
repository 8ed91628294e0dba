//! Checking that a store keeps its promises, every byte of it, and repairing it.
//!
//! A check reads: records against each other (I3, I4, I5, I7), documents, objects and layers against their digests (I1, I2), and
//! counts what is unreferenced or left behind (I6, I8). It names damage as the user knows things: by image, layer and path.
//!
//! A repair, under the exclusive lock, takes away what is damaged, so that it counts as missing and the next load brings it
//! back; it never touches what a container wrote. What can be made anew from the rest is.

mod repair;
mod repair_index;
mod report;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::Error;
use super::Guard;
use super::Result;
use super::Store;
use super::file;
use super::gc::Needed;
use super::images::Images;
use crate::image::Digest;
use crate::layer;
use crate::layer::pack::BadObjects;
use crate::layer::pack::Part;

pub use report::Checked;
pub use report::Fault;
pub use report::Outcome;
pub use report::Problem;
pub use report::Report;
pub use report::User;

/// How many objects or layers are read at a time: each keeps a processor busy with its digest.
const THREADS: usize = 4;

/// Is told how far a check is. Called from several threads.
pub trait Watch: Sync {
    /// So many bytes are to be read in all.
    fn total(&self, bytes: u64);
    /// So many more were read.
    fn read(&self, bytes: u64);
}

/// Tells nobody.
impl Watch for () {
    fn total(&self, _: u64) {}
    fn read(&self, _: u64) {}
}

/// What is known while a check goes on.
#[derive(Default)]
struct State {
    report: Report,
    needed: Needed,
    /// By layer: who has it.
    users: BTreeMap<Digest, Vec<User>>,
    /// What is wrong with objects.
    bad: BadObjects,
}

impl State {
    fn add(&mut self, problem: Problem) {
        self.report.problems.push(problem);
    }

    fn user(&mut self, what: &'static str, name: &str, layers: &[Digest]) {
        for (at, layer) in layers.iter().enumerate() {
            self.needed.layers.insert(*layer);
            let user = User { what, name: name.to_owned(), number: at + 1, count: layers.len() };
            self.users.entry(*layer).or_default().push(user);
        }
    }

    fn layer_problem(&mut self, fault: Fault, layer: Digest, path: Option<String>, why: impl ToString) {
        let mut users = self.users.get(&layer).cloned().unwrap_or_default();
        users.sort_by_key(|user| (user.what != "image", user.name.clone(), user.number));
        users.dedup_by(|a, b| (a.what, &a.name) == (b.what, &b.name));
        let problem = Problem::new(fault, format!("layer {}", layer.short()), why);
        self.add(Problem { users, layer: Some(layer), path, ..problem });
    }
}

impl Store {
    /// Checks everything; every byte of every layer is read.
    ///
    /// # Errors
    /// When the store cannot be read at all; damage is in the report.
    pub fn check(&self, watch: &dyn Watch) -> Result<Report> {
        let leftovers = self.leftovers()?;
        // So that nothing that is being checked is collected. A store that can only be read is not collected by this mica.
        let _adding = match self.adding() {
            Err(Error::ReadOnly { .. }) => None,
            other => Some(other?),
        };
        let mut state = self.examine(watch)?;
        state.report.busy = leftovers.is_none();
        state.report.leftovers = leftovers.unwrap_or(0);
        Ok(state.report)
    }

    /// Checks everything, takes away what is damaged, makes anew what can be made, and removes what nothing refers to.
    /// `guard` must be the exclusive one.
    ///
    /// # Errors
    /// As [`Store::check`]. A repair that fails is in the report.
    pub fn repair(&self, guard: &Guard, watch: &dyn Watch) -> Result<Report> {
        let leftovers = self.count_leftovers()?;
        let mut state = self.examine(watch)?;
        state.report.leftovers = leftovers;
        self.settle(guard, &mut state)?;
        Ok(state.report)
    }

    /// What killed processes left; `None` when another process is at work, whose files these may be.
    fn leftovers(&self) -> Result<Option<u64>> {
        match self.try_collecting() {
            Err(Error::ReadOnly { .. }) | Ok(None) => Ok(None),
            Ok(Some(_guard)) => self.count_leftovers().map(Some),
            Err(e) => Err(e),
        }
    }

    fn count_leftovers(&self) -> Result<u64> {
        let (mut files, _) = self.layers().packs().leftovers()?;
        files += self.dead_kept()?;
        for dir in [self.root(), self.containers_dir(), self.mounts_dir(), &self.blobs] {
            files += file::dead(dir)?;
        }
        files += self.ended_mounts()?.len() as u64;
        Ok(files)
    }

    fn examine(&self, watch: &dyn Watch) -> Result<State> {
        let mut state = State::default();
        // The records first, then what they need: a load that goes on meanwhile stores in the other order.
        self.examine_images(&mut state);
        self.examine_containers(&mut state)?;
        self.examine_mounts(&mut state)?;
        if let Err(e) = self.known_is_whole() {
            state.add(Problem::new(Fault::Hints, "known.json", e));
        }
        self.examine_documents(&mut state)?;
        self.examine_kept(&mut state)?;
        self.examine_layers(&mut state, watch)?;
        Ok(state)
    }

    fn examine_images(&self, state: &mut State) {
        let images = self.images().unwrap_or_else(|e| {
            state.add(Problem::new(Fault::Index, "images.json", e));
            Images::default()
        });
        state.report.checked.images = images.images.len();
        for (name, id) in images.names.iter().filter(|(_, id)| !images.images.contains_key(id)) {
            let why = format!("it means the image {}, which is not in the index", id.short());
            state.add(Problem::new(Fault::Name, format!("name {name}"), why));
        }
        let names = images.names_by_image();
        for (id, entry) in &images.images {
            let name = names.get(id).and_then(|names| names.first()).map_or_else(|| id.short(), ToString::to_string);
            state.needed.blobs.insert(*id);
            match self.config(id) {
                Ok(config) => state.user("image", &name, config.diff_ids()),
                Err(e) => {
                    let problem = Problem::new(Fault::Config, format!("image {name}"), e);
                    state.add(Problem { layer: Some(*id), ..problem });
                }
            }
            if let Some(manifest) = entry.manifest {
                state.needed.blobs.insert(manifest);
                if let Err(e) = self.need_blob(&manifest) {
                    let problem = Problem::new(Fault::Manifest, format!("image {name}"), e);
                    state.add(Problem { layer: Some(*id), ..problem });
                }
            }
        }
    }

    fn examine_containers(&self, state: &mut State) -> Result<()> {
        let mut names = BTreeMap::new();
        for dir in self.container_names()? {
            let record = match self.read_record(dir.as_name()) {
                Ok(Some(record)) => record,
                // Removed since the listing.
                Ok(None) if !self.has_container_dir(&dir)? => continue,
                other => {
                    let why = other.err().map_or_else(|| "it has no record".to_owned(), |e| e.to_string());
                    state.add(Problem::new(Fault::Container, format!("containers/{dir}"), why));
                    continue;
                }
            };
            let what = format!("container {}", crate::path::Escaped(record.name.as_bytes()));
            for missing in self.missing_dirs(&record.id)? {
                let problem = Problem::new(Fault::Container, &what, format!("its directory '{missing}' is missing"));
                state.add(Problem { dir: Some((record.id.clone(), missing)), ..problem });
            }
            if let Some(other) = names.insert(record.name.clone(), record.id.clone()) {
                state.add(Problem::new(Fault::Container, &what, format!("container {other} has the same name")));
            }
            state.needed.blobs.insert(record.image_id);
            state.user("container", &crate::path::Escaped(record.name.as_bytes()).to_string(), &record.layers);
        }
        Ok(())
    }

    fn examine_mounts(&self, state: &mut State) -> Result<()> {
        for name in self.mount_names()? {
            match self.read_mount(&name) {
                Ok(Some(record)) => {
                    state.needed.blobs.insert(record.image_id);
                    state.user("mount", &crate::path::Escaped(record.target.as_bytes()).to_string(), &record.layers);
                }
                Ok(None) => {}
                Err(e) => state.add(Problem::new(Fault::Mount, format!("mounts/{name}"), e)),
            }
        }
        Ok(())
    }

    fn examine_documents(&self, state: &mut State) -> Result<()> {
        for digest in self.blob_digests()? {
            let needed = state.needed.blobs.contains(&digest);
            if !needed {
                state.report.loose_blobs += 1;
                state.report.loose_bytes += self.blob_len(&digest)?;
            }
            state.report.checked.documents += 1;
            // A needed one was told of with its image; one of a container alone is not read anywhere else.
            let told = state.report.problems.iter().any(|problem| problem.why.contains(&digest.hex()));
            if let Err(e) = self.blob(&digest)
                && !told
            {
                let problem = Problem::new(Fault::Document, format!("blobs/sha256/{}", digest.hex()), e);
                state.add(Problem { layer: Some(digest), ..problem });
            }
        }
        Ok(())
    }

    fn examine_kept(&self, state: &mut State) -> Result<()> {
        for digest in self.kept()? {
            if let Some(why) = self.check_kept(&digest)? {
                let problem = Problem::new(Fault::Kept, format!("kept/{}", digest.hex()), why);
                state.add(Problem { layer: Some(digest), ..problem });
            }
        }
        Ok(())
    }

    fn examine_layers(&self, state: &mut State, watch: &dyn Watch) -> Result<()> {
        let packs = self.layers().packs();
        let (layers, objects) = (packs.list()?, packs.objects()?);
        (state.report.checked.layers, state.report.checked.objects) = (layers.len(), objects.len());
        let mut total = 0;
        let mut used = BTreeSet::new();
        for layer in &layers {
            let info = packs.info(layer);
            total += info.as_ref().map_or(0, |info| info.tar_size);
            let objects = packs.objects_of(layer).unwrap_or_default();
            if !state.needed.layers.contains(layer) {
                state.report.loose_layers += 1;
                let shared: u64 = objects.iter().filter_map(|id| packs.object_len(id).ok().flatten()).sum();
                state.report.loose_bytes += info.map_or(0, |info| info.stored.saturating_sub(shared));
            }
            used.extend(objects);
        }
        for object in &objects {
            let len = packs.object_len(object)?.unwrap_or(0);
            total += len;
            if !used.contains(object) {
                state.report.loose_objects += 1;
                state.report.loose_bytes += len;
            }
        }
        watch.total(total);
        let there: BTreeSet<&Digest> = layers.iter().collect();
        let missing: Vec<Digest> = state.needed.layers.iter().filter(|id| !there.contains(id)).copied().collect();
        for layer in missing {
            state.layer_problem(Fault::Missing, layer, None, "it is not there");
        }
        let read = |bytes| watch.read(bytes);
        let wanted: Vec<Digest> = objects.iter().chain(&used).copied().collect::<BTreeSet<_>>().into_iter().collect();
        let mut bad = BadObjects::default();
        for (object, why) in in_parallel(&wanted, |id| Ok(packs.verify_object(id, &read)?))? {
            if let Some(why) = why {
                if !used.contains(&object) {
                    let problem = Problem::new(Fault::Object, format!("object {}", object.short()), &why);
                    state.add(Problem { layer: Some(object), ..problem });
                }
                bad.insert(object, why);
            }
        }
        let verify = |id: &Digest| {
            let mut found = Vec::new();
            match packs.verify_layer(id, &bad, &read, &mut |damage| found.push(damage)) {
                Err(layer::Error::Newer { what, .. }) => Ok((found, Some(what))),
                other => Ok(other.map(|()| (found, None))?),
            }
        };
        for (layer, (found, newer)) in in_parallel(&layers, verify)? {
            for damage in found {
                let fault = match damage.part {
                    Part::Index => Fault::LayerIndex,
                    Part::Pack => Fault::Pack,
                    Part::Body(_) | Part::Object(..) => Fault::Content,
                };
                let path = damage.part.path().map(ToString::to_string);
                let why = if fault == Fault::Content {
                    format!("its content is not what it should be: {}", damage.why)
                } else {
                    damage.why
                };
                state.layer_problem(fault, layer, path, why);
            }
            if let Some(what) = newer {
                state.layer_problem(Fault::Newer, layer, None, format!("only a newer mica can check it: {what}"));
            }
        }
        state.bad = bad;
        Ok(())
    }
}

/// Does something with each digest on several threads; what came of it, in the order of the digests.
fn in_parallel<T: Send>(digests: &[Digest], each: impl Fn(&Digest) -> Result<T> + Sync) -> Result<BTreeMap<Digest, T>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let failed = Mutex::new(None);
    let work = || {
        while let Some(digest) = digests.get(next.fetch_add(1, Ordering::Relaxed)) {
            match each(digest) {
                Ok(result) => drop(done.lock().insert(*digest, result)),
                Err(e) => {
                    failed.lock().get_or_insert(e);
                    next.store(digests.len(), Ordering::Relaxed);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(digests.len());
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    match failed.into_inner() {
        Some(e) => Err(e),
        None => Ok(done.into_inner()),
    }
}
