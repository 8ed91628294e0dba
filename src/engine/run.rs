//! Running a command in a new container.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Error;
use super::Result;
use super::containers;
use super::containers::NewContainer;
use super::mounting;
use super::mounting::What;
use crate::env;
use crate::image::config::ImageConfig;
use crate::image::config::RunConfig;
use crate::run;
use crate::run::ExitStatus;
use crate::run::spec;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::store::containers::State;
use crate::sys::process;

/// What `mica run` is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The image, as the user named it.
    pub image: String,
    /// The container's name.
    pub name: Option<String>,
    /// Remove the container when it ends.
    pub remove: bool,
    /// What the command line says about the process.
    pub overrides: spec::Overrides,
    /// Host directories and files to show inside.
    pub binds: Vec<spec::Bind>,
    /// The root is not to be changed.
    pub read_only: bool,
}

/// Makes a container of an image, runs its command, and waits for its end.
///
/// The record says "running" before anything of the image runs, so that a container is never without one. When this process is
/// killed, the kernel kills the container, and the next command of mica clears up.
///
/// # Errors
/// A missing image, a taken name, a mount that fails; [`Error::Run`] for a command that cannot be started.
pub fn run(store: &Store, request: &Request) -> Result<ExitStatus> {
    let created = containers::create(store, |config| new_container(config, request), &request.image)?;
    let record = created.record;
    let ended = run_created(store, &record, &created.image, request);
    if request.remove {
        let removed = containers::unless_removed(store.remove_container(&record.id));
        containers::give_back(store, &record);
        let status = ended?;
        removed?;
        return Ok(status);
    }
    ended
}

fn new_container(config: &ImageConfig, request: &Request) -> Result<NewContainer> {
    let over = &request.overrides;
    // Only the command is taken from it: the host name is the id, which is not known yet.
    let checked = spec::Overrides { hostname: "none".to_owned(), ..over.clone() };
    let spec = spec::from_image(PathBuf::new(), &image_config(config), &checked).map_err(Error::Run)?;
    let text = |words: &[OsString]| words.iter().map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let mut effective = config.config.clone().unwrap_or_default();
    if let Some(entrypoint) = &over.entrypoint {
        effective.entrypoint = (!entrypoint.is_empty()).then(|| vec![entrypoint.to_string_lossy().into_owned()]);
        effective.cmd = None;
    }
    if !over.args.is_empty() {
        effective.cmd = Some(text(&over.args));
    }
    for var in text(&over.env) {
        let key = var.split('=').next().unwrap_or_default().to_owned();
        effective.env.retain(|v| v.split('=').next() != Some(&key));
        if var.contains('=') {
            effective.env.push(var);
        }
    }
    if let Some(user) = &over.user {
        effective.user.clone_from(user);
    }
    if let Some(dir) = &over.workdir {
        effective.working_dir = String::from_utf8_lossy(dir).into_owned();
    }
    Ok(NewContainer {
        image: request.image.clone(),
        name: request.name.clone(),
        command: text(&spec.argv),
        config: Some(effective),
    })
}

/// The part of an image's config that running it needs.
fn image_config(config: &ImageConfig) -> spec::ImageConfig {
    let run: RunConfig = config.config.clone().unwrap_or_default();
    let words = |words: Vec<String>| words.into_iter().map(OsString::from).collect();
    spec::ImageConfig {
        entrypoint: words(run.entrypoint.unwrap_or_default()),
        cmd: words(run.cmd.unwrap_or_default()),
        env: words(run.env),
        user: run.user,
        workdir: run.working_dir.into_bytes(),
    }
}

fn run_created(store: &Store, record: &ContainerRecord, image: &ImageConfig, request: &Request) -> Result<ExitStatus> {
    let rootfs = containers::rootfs(store, &record.id);
    // Set-user-id programs of the image work inside; devices come from the container's own /dev.
    mounting::mount(store, &What::Container(record.id.clone()), &rootfs, Some("suid"))?;
    let mounted = Unmount(rootfs.clone());
    let mut over = request.overrides.clone();
    if over.hostname.is_empty() {
        over.hostname = record.id.get(..12).unwrap_or(&record.id).to_owned();
    }
    let mut spec = spec::from_image(rootfs, &image_config(image), &over).map_err(Error::Run)?;
    spec.binds.clone_from(&request.binds);
    spec.read_only = request.read_only;
    let ended = run_spec(store, record, &spec);
    drop(mounted);
    if request.remove {
        // Its record goes next. Whoever finds it before sees that its process is gone.
        return ended;
    }
    let code = match &ended {
        Ok(status) => i32::from(status.code()),
        Err(Error::Run(e)) => i32::from(e.exit_code()),
        Err(_) => 125,
    };
    containers::set_state(store, &record.id, State::Exited { code, finished: env::now().0 })?;
    ended
}

fn run_spec(store: &Store, record: &ContainerRecord, spec: &spec::Spec) -> Result<ExitStatus> {
    let mut running = run::start(spec).map_err(Error::Run)?;
    let pid = running.pid();
    let start_time = process::start_time(pid)?.unwrap_or(0);
    containers::set_started(store, &record.id, pid, start_time)?;
    running.release().map_err(Error::Run)?;
    running.wait().map_err(Error::Run)
}

/// Takes a mount away when it goes out of scope, also when the container could not be started.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        if let Err(e) = mounting::clear(&self.0) {
            log::warn!("{}: {e}", self.0.display());
        }
    }
}
