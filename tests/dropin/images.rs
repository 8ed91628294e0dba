//! The same lines typed to docker and to mica, on the same image: what they print, and how they end, is the same.

use std::process::Command;
use std::process::Output;

use crate::clients::fixture;
use crate::docker::Docker;
use crate::docker::TOOLS;
use crate::lab::Lab;
use crate::lab::Try;
use crate::lab::Verdict;
use crate::support::bin;

const IMAGE: &str = "localhost/busybox:1";

/// In this order: some change what the next ones see.
const LINES: &[&[&str]] = &[
    &["tag", IMAGE, "other/name:2"],
    &["tag", IMAGE, "short:3"],
    &["tag", "nope", "short:3"],
    &["images", "--format", "table {{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.Size}}", "short"],
    &["images", "--format", "table {{.ID}}\\t{{.Repository}}:{{.Tag}}\\t{{.CreatedAt}}", "other/*"],
    &[
        "images",
        "--format",
        "{{.Repository}}:{{.Tag}} {{.VirtualSize}} {{upper .Tag}} {{json .ID}}",
        "--no-trunc",
        "short:3",
    ],
    &["images", "-q", "--no-trunc"],
    &["images", "--filter", "reference=sh*", "-q"],
    &["images", "--filter", "dangling=true", "-q"],
    &["images", "--filter", "foo=bar"],
    &["images", "--filter", "dangling=maybe"],
    &["images", "--filter", "before=nope"],
    &["images", "--filter", "label=nope", "-q"],
    &["images", "--format", "{{.ID"],
    &["history", IMAGE],
    &["history", "-q", IMAGE],
    &["history", "--no-trunc", "-q", IMAGE],
    &["history", "-H=false", IMAGE],
    &["history", "--format", "{{.ID}}: {{.CreatedBy}} ({{.Size}})", IMAGE],
    &["history", "nope"],
    &["inspect", "-f", "{{.Id}} {{json .RootFS.Layers}} {{len .RootFS.Layers}} {{index .RootFS.Layers 0}}", IMAGE],
    &[
        "inspect",
        "-f",
        "{{.Config.Env}} {{.Config.Cmd}} {{.Config.Entrypoint}} {{.Config.Volumes}} {{.Config.Labels}}",
        IMAGE,
    ],
    &[
        "inspect",
        "-f",
        "{{json .Config.Entrypoint}} {{.Architecture}} {{.Os}} {{.Created}} {{.Author}} {{.Comment}}|",
        IMAGE,
    ],
    &["inspect", "-f", "{{.Size}} {{.RootFS.Type}} {{.Parent}}| {{range .Config.Cmd}}<{{.}}>{{end}}", IMAGE],
    &["inspect", "-f", "{{range $i, $t := .RepoTags}}{{$i}}={{$t}}\n{{end}}", IMAGE],
    &[
        "inspect",
        "-f",
        "{{if eq .Os \"linux\"}}{{slice .Id 7 19}}{{else}}?{{end}} {{printf \"%.5s|%6d\" .Id 42}}",
        IMAGE,
    ],
    &["inspect", "-f", "{{.Os | upper | printf \"%q\"}} {{with .Architecture}}{{.}}{{end}} {{title \"a b\"}}", IMAGE],
    &["inspect", "-f", "{{.Id", IMAGE],
    &["inspect", "-f", "{{nofunc .Id}}", IMAGE],
    &["inspect", "nope"],
    &["rmi", "nope"],
    &["rmi", "other/name:2"],
    &["image", "prune", "-f"],
    &["container", "prune", "-f"],
    &["rmi", "short:3"],
    &["image", "prune"],
];

/// What both are to agree on: the exit code, what was printed, and the last line that says what is wrong.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let wrong = text(&output.stderr);
    let line = wrong.lines().find(|line| !line.starts_with("hint: ") && !line.is_empty()).unwrap_or_default();
    let line = ["mica: ", "Error response from daemon: ", "Error: "]
        .iter()
        .fold(line, |line, front| line.strip_prefix(front).unwrap_or(line));
    let printed: Vec<_> = text(&output.stdout).lines().map(|line| line.trim_end().to_owned()).collect();
    (output.status.code(), printed.join("\n").trim().to_owned(), line.to_owned())
}

fn run(command: &mut Command) -> Try<(Option<i32>, String, String)> {
    Ok(said(&command.stdin(std::process::Stdio::null()).output()?))
}

pub fn docker_and_mica_say_the_same() -> Verdict {
    let lab = Lab::new("images", TOOLS)?;
    let archive = fixture("busybox")?.display().to_string();
    let docker = Docker::new(&lab, "vfs")?;
    let store = lab.dir.dir("mica");
    docker.docker(&["load", "-q", "-i", &archive])?;
    bin::run_ok(&mut bin::mica_command(&store, ["load", "-q", "-i", &archive]));
    let mut differences = Vec::new();
    for line in LINES {
        let theirs = run(&mut docker.command(line))?;
        let ours = run(&mut bin::mica_command(&store, *line))?;
        if theirs != ours {
            differences.push(format!("{}\ndocker {theirs:?}\nmica   {ours:?}", line.join(" ")));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n\n").into()) }
}
