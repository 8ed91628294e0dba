//! Repairing what a check found, under the exclusive lock.

use super::Fault;
use super::Outcome;
use super::Problem;
use super::State;
use super::repair_index::rebuilt;
use crate::store::Error;
use crate::store::Guard;
use crate::store::IMAGES;
use crate::store::Result;
use crate::store::Store;
use crate::store::file;
use crate::store::fixed;
use crate::store::images::LIMIT;

/// Under this name the index of images is kept that could not be read.
const DAMAGED_INDEX: &[u8] = b"images.json.damaged";

impl Store {
    /// Does for every problem what can be done, and then removes what nothing needs.
    pub(super) fn settle(&self, guard: &Guard, state: &mut State) -> Result<()> {
        let mut problems = std::mem::take(&mut state.report.problems);
        for problem in &mut problems {
            problem.outcome = self.settle_one(problem).unwrap_or_else(|e| Outcome::Failed(e.to_string()));
        }
        for object in state.bad.keys() {
            self.layers().packs().drop_object(object)?;
        }
        self.unmark_whole(&problems)?;
        state.report.problems = problems;
        match self.collect(guard) {
            Ok(_) => state.report.collected = true,
            // What a record that cannot be read needs is not known: nothing is removed then.
            Err(e @ (Error::Damaged { .. } | Error::NoBlob(_) | Error::Layers(_))) => {
                log::warn!("nothing was collected: {e}");
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn settle_one(&self, problem: &Problem) -> Result<Outcome> {
        let packs = self.layers().packs();
        let needed = !problem.users.is_empty();
        let removed = if needed { Outcome::LoadAgain } else { Outcome::Repaired("removed") };
        Ok(match (problem.fault, problem.layer) {
            (Fault::Index, _) => self.rebuild_index()?,
            (Fault::Name, _) => {
                self.change_index(|images| {
                    let known = &images.images;
                    images.names.retain(|_, id| known.contains_key(id));
                })?;
                Outcome::Repaired("the name was removed")
            }
            (Fault::Config, Some(id)) => {
                self.change_index(|images| {
                    images.names.retain(|_, named| *named != id);
                    images.images.remove(&id);
                })?;
                self.remove_blob(&id)?;
                Outcome::LoadAgain
            }
            (Fault::Manifest, Some(id)) => {
                let mut manifest = None;
                self.change_index(|images| {
                    manifest = images.images.get_mut(&id).and_then(|entry| entry.manifest.take());
                })?;
                manifest.map_or(Ok(()), |manifest| self.remove_blob(&manifest))?;
                Outcome::Repaired("the image goes on without its manifest; loading it again brings that back")
            }
            (Fault::Document, Some(digest)) => {
                self.remove_blob(&digest)?;
                Outcome::Repaired("removed")
            }
            (Fault::LayerIndex, Some(layer)) => {
                packs.remove(&layer)?;
                removed
            }
            (Fault::Pack | Fault::Content, Some(layer)) => {
                // What is whole of a layer that is needed stays readable until it is loaded again.
                if needed {
                    packs.mark(&layer)?;
                } else {
                    packs.remove(&layer)?;
                }
                removed
            }
            (Fault::Kept, Some(digest)) => {
                self.remove_kept(&digest)?;
                Outcome::Repaired("removed; the image is saved with another layer file")
            }
            (Fault::Missing, _) => Outcome::LoadAgain,
            // Bad objects go all at once.
            (Fault::Object, _) => Outcome::Repaired("removed"),
            (Fault::Container, _) => self.settle_container(problem)?,
            (Fault::Mount, _) => Outcome::Left("take the mount away with umount, and then this file"),
            (Fault::Hints, _) => {
                self.forget_known(&self.index()?)?;
                Outcome::Repaired("forgotten; it only saves work")
            }
            (Fault::Newer, _) => Outcome::Left("use that mica"),
            (_, None) => Outcome::Failed("it is not said what it is about".to_owned()),
        })
    }

    /// A container's files are never touched; directories that hold nothing of it are made again.
    fn settle_container(&self, problem: &Problem) -> Result<Outcome> {
        let Some((id, dir)) = &problem.dir else {
            return Ok(Outcome::Left("what it wrote is in its directory 'upper'; copy it, and remove the directory"));
        };
        if *dir == "upper" {
            return Ok(Outcome::Left("what it wrote is lost; remove it with 'mica rm'"));
        }
        self.make_container_dir(id, dir)?;
        Ok(Outcome::Repaired("made again"))
    }

    /// Makes `images.json` anew from the documents and layers that are there, and names from the records of containers and
    /// mounts. The old file is kept aside.
    fn rebuild_index(&self) -> Result<Outcome> {
        let Ok(Some(bytes)) = file::read(self.root(), fixed(IMAGES)?, LIMIT) else {
            return Ok(Outcome::Left("it is no file; move it out of the store"));
        };
        let images = rebuilt(self)?;
        file::replace(self.root(), fixed(DAMAGED_INDEX)?, &bytes)?;
        let _index = self.index()?;
        self.write_images(&images)?;
        Ok(Outcome::Repaired("made anew; names that no container used are lost, the old file is images.json.damaged"))
    }

    fn change_index(&self, change: impl FnOnce(&mut super::Images)) -> Result<()> {
        self.change_images(&self.index()?, |images| {
            change(images);
            Ok(())
        })
    }

    /// Takes the marks off layers in which nothing was found: they were loaded again.
    fn unmark_whole(&self, problems: &[Problem]) -> Result<()> {
        let packs = self.layers().packs();
        for layer in packs.list()? {
            if !problems.iter().any(|problem| problem.layer == Some(layer)) && packs.is_marked(&layer)? {
                packs.unmark(&layer)?;
            }
        }
        Ok(())
    }
}
