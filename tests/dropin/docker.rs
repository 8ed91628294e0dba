//! dockerd with mica as the program of its `fuse-overlayfs` driver, which it looks up in `PATH`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::SystemTime;

use crate::clients::CONTAINERFILE;
use crate::clients::HARD_LINKS;
use crate::clients::NOT_OURS;
use crate::clients::WORKLOAD;
use crate::clients::base_image;
use crate::clients::fixture;
use crate::lab;
use crate::lab::Lab;
use crate::lab::Try;
use crate::lab::Verdict;
use crate::lab::check_eq;
use crate::lab::same;
use crate::lab::same_lines;
use crate::lab::without;
use crate::store::unpack;
use crate::support::Daemon;
use crate::support::Snapshot;
use crate::support::guard::wait_for;

pub const TOOLS: &[&str] = &["dockerd", "containerd", "docker", "runc", "timeout", "tar"];

/// A daemon with its own root.
pub struct Docker {
    dir: PathBuf,
    _daemon: Daemon,
}

impl Docker {
    pub fn new(lab: &Lab, driver: &str) -> Try<Self> {
        let dir = lab.dir.dir(driver);
        let limits = r#"{"default-ulimits":{"nofile":{"Name":"nofile","Hard":1024,"Soft":1024},"nproc":{"Name":"nproc","Hard":1024,"Soft":1024}}}"#;
        fs::write(dir.join("daemon.json"), limits)?;
        let log = fs::File::create(dir.join("log"))?;
        let bin = lab.path("bin").display().to_string();
        let mut command = Command::new(lab::find("dockerd").unwrap_or_default());
        for (option, name) in
            [("--config-file", "daemon.json"), ("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            command.arg(option).arg(dir.join(name));
        }
        command.arg("-H").arg(format!("unix://{}/sock", dir.display())).arg("--storage-driver").arg(driver);
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        command.env("PATH", format!("{bin}:/usr/sbin:/usr/bin:/sbin:/bin")).env("TMPDIR", &dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let daemon = Daemon::spawn(&mut command);
        let this = Self { dir, _daemon: daemon };
        let answers = || this.docker(&["info", "--format", "{{.Driver}}"]).is_ok_and(|name| name == driver);
        if wait_for(Duration::from_secs(30), answers) {
            return Ok(this);
        }
        let log = fs::read_to_string(this.dir.join("log"))?;
        let end: Vec<_> = log.lines().filter(|line| !line.contains("level=info")).collect();
        Err(format!("dockerd with {driver} does not answer: {end:?}").into())
    }

    /// `docker ARGS...`, ready to run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = lab::limited("docker");
        command.arg("-H").arg(format!("unix://{}/sock", self.dir.display())).args(args);
        command.env("DOCKER_CONFIG", &self.dir).env("DOCKER_BUILDKIT", "0").env_remove("DOCKER_HOST");
        command
    }

    /// Runs it; it must succeed.
    pub fn docker(&self, args: &[&str]) -> Try<String> {
        Ok(lab::ok(&mut self.command(args))?.trim_end().to_owned())
    }

    fn export(&self, container: &str) -> Try<Snapshot> {
        let archive = self.dir.join("export.tar").display().to_string();
        self.docker(&["export", "-o", &archive, container])?;
        Ok(without(unpack(&self.dir.join("exported"), archive.as_ref())?, MADE_BY_DOCKER))
    }

    fn export_image(&self, image: &str) -> Try<Snapshot> {
        let container = self.docker(&["create", "--network=none", image, "/bin/sh"])?;
        let tree = self.export(&container)?;
        self.docker(&["rm", &container])?;
        Ok(tree)
    }
}

/// What dockerd puts into the root of each container, at a time of its own.
const MADE_BY_DOCKER: &[&str] = &[".dockerenv", "etc/mtab"];

struct Outcome {
    tree: Snapshot,
    image: Snapshot,
    diff: Vec<String>,
    said: String,
}

fn change(lab: &Lab, driver: &str) -> Try<Outcome> {
    let docker = Docker::new(lab, driver)?;
    docker.docker(&["load", "-q", "-i", &lab.path("base.tar").display().to_string()])?;
    let script = docker.dir.join("work.sh");
    fs::write(&script, WORKLOAD)?;
    let volume = format!("{}:/work.sh:ro", script.display());
    let said = docker.docker(&[
        "run",
        "--name",
        "work",
        "--network=none",
        "-v",
        &volume,
        "localhost/base:1",
        "sh",
        "/work.sh",
    ])?;
    let mut diff: Vec<_> = docker.docker(&["diff", "work"])?.lines().map(str::to_owned).collect();
    diff.sort();
    let tree = docker.export("work")?;
    docker.docker(&["commit", "work", "localhost/result:1"])?;
    let image = docker.export_image("localhost/result:1")?;
    let table = docker.docker(&["run", "--rm", "--network=none", "localhost/result:1", "cat", "/proc/mounts"])?;
    let root = table.lines().find(|line| line.split(' ').nth(1) == Some("/")).and_then(|line| line.split(' ').nth(2));
    if driver == "fuse-overlayfs" {
        check_eq("the root's type in the container", root, Some("fuse.fuse-overlayfs"))?;
    }
    docker.docker(&["rm", "-f", "work"])?;
    docker.docker(&["rmi", "-f", "localhost/result:1", "localhost/base:1"])?;
    Ok(Outcome { tree, image, diff, said })
}

pub fn changes() -> Verdict {
    let lab = Lab::new("docker", TOOLS)?;
    base_image(&lab)?;
    let since = SystemTime::now();
    let (kernel, truth) = (change(&lab, "overlay2")?, change(&lab, "vfs")?);
    let mica = change(&lab, "fuse-overlayfs")?;
    check_eq("what the workload said", mica.said.as_str(), "")?;
    same_lines("docker diff", &mica.diff, &truth.diff)?;
    let drop: Vec<_> = NOT_OURS.iter().chain(HARD_LINKS).copied().collect();
    same("the tree, to copies", &without(mica.tree.clone(), NOT_OURS), &without(truth.tree, NOT_OURS), since, &[])?;
    same("the image, to copies", &without(mica.image.clone(), NOT_OURS), &without(truth.image, NOT_OURS), since, &[])?;
    same("the tree, to overlay2", &without(mica.tree, &drop), &without(kernel.tree, &drop), since, &[])?;
    same("the image, to overlay2", &without(mica.image, &drop), &without(kernel.image, &drop), since, &[])?;
    lab.no_servers()
}

pub fn builds() -> Verdict {
    let lab = Lab::new("docker-build", TOOLS)?;
    let busybox = fixture("busybox")?.display().to_string();
    let since = SystemTime::now();
    let build = |driver: &str| -> Try<Snapshot> {
        let docker = Docker::new(&lab, driver)?;
        docker.docker(&["load", "-q", "-i", &busybox])?;
        let context = docker.dir.join("context");
        fs::create_dir(&context)?;
        let more = "RUN echo one >/data/ro.txt && rm -rf /data/full && mkdir /data/full && mv /data/mvdir /data/moved\n\
                    RUN chown -R 3:4 /data/deep && rm -rf /data/gone\n";
        fs::write(context.join("Dockerfile"), format!("{CONTAINERFILE}{more}"))?;
        docker.docker(&["build", "-q", "--network=none", "-t", "localhost/built:1", &context.display().to_string()])?;
        let tree = docker.export_image("localhost/built:1")?;
        docker.docker(&["rmi", "-f", "localhost/built:1"])?;
        Ok(without(tree, NOT_OURS))
    };
    let (kernel, mica) = (build("overlay2")?, build("fuse-overlayfs")?);
    same("the image, to overlay2", &mica, &kernel, since, &[])?;
    lab.no_servers()
}
