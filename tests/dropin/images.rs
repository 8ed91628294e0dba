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
/// Stand for the image's id in full, and for its beginning.
const ID: &str = "ID";
const SHORT: &str = "SHORT";
/// Here only the exit codes are compared: mica says in its own words what is wrong with a command line or a file.
const OTHER_WORDS: &[&[&str]] = &[
    &["tag", IMAGE],
    &["history", "a", "b"],
    &["save"],
    &["save", "-o", "/dev/null/x", "nope"],
    &["load", "-i", "/nosuch"],
    &["import", "/nosuch"],
    &["inspect", "-f", "{{.Nope}}", IMAGE],
    &["inspect", "-f", "{{.Config.Nope}}", IMAGE],
    &["inspect", "--type", "image", "-f", "{{.Id}}", "nope", IMAGE],
];

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
    &["images", "-a", "-q", "--digests", "--no-trunc"],
    &["images", "--digests", "--format", "{{.Repository}}@{{.Digest}}", "short"],
    &["images", "-f", "reference=[ns]hort:?", "--format", "{{.Repository}}:{{.Tag}}"],
    &["images", "-f", "reference=*[^x]*/[b]usy*", "--format", "{{.Repository}}"],
    &["images", "-f", "reference=[", "-q"],
    &["images", "-f", "dangling=false", "-f", "reference=short:3", "-q"],
    &["images", "-f", "since=short:3", "-q"],
    &["images", "-f", "before=short:3", "-q"],
    &["images", "-f", "foo"],
    &["image", "ls", "-q", "nosuch"],
    &["image", "inspect", "-f", "{{.Id}}", "short:3"],
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
    &["inspect", "-f", "{{join .Config.Env \";\"}} {{index .RepoTags 0}} {{len .RepoTags}}", IMAGE],
    &["inspect", "-f", "{{index .RepoTags 9}}", IMAGE],
    &["inspect", "-f", "{{range .RootFS.Layers}}{{println .}}{{end}}", IMAGE],
    &["inspect", "-f", "{{range $k, $v := .Config}}{{$k}}={{$v}} {{end}}", IMAGE],
    &["inspect", "-f", "{{json .RootFS}} {{index .Config.Labels \"x\"}}|", IMAGE],
    &["inspect", "-f", "{{split .Id \":\"}} {{pad .Os 1 2}} {{truncate .Id 10}}", IMAGE],
    &["inspect", "-f", "{{printf \"%s %v %d %q %x\" .Os .Os 3 .Os .Os}}", IMAGE],
    &["inspect", "-f", "{{and true .Os}} {{or .Parent \"none\"}} {{not .Os}} {{- .Os -}} {{/* c */}}", IMAGE],
    &["inspect", "-f", "{{.Nope}}", IMAGE],
    &["inspect", "-f", "{{.Config.Nope}}", IMAGE],
    &["inspect", "--type", "image", "-f", "{{.Id}}", "nope", IMAGE],
    &["inspect", "-f", "{{.Id", IMAGE],
    &["inspect", "-f", "{{nofunc .Id}}", IMAGE],
    &["inspect", "nope"],
    &["run", "--name", "c1", IMAGE, "true"],
    &["ps", "-a", "--format", "{{.Names}}|{{.Image}}|{{.State}}"],
    &["ps", "-a", "--filter", "name=^/c1$", "--format", "{{.Names}}"],
    &["ps", "-a", "--filter", "name=(b|c)[0-9]", "--format", "{{.Names}}"],
    &["ps", "-a", "--filter", "name=^1", "--format", "{{.Names}}"],
    &["ps", "-a", "--filter", "name=.*1$", "--format", "{{.Names}}"],
    &["ps", "-a", "--filter", "name=[", "--format", "{{.Names}}"],
    &["ps", "-a", "--filter", "name=C1", "--format", "{{.Names}}"],
    &["ps", "-a", "--filter", "ancestor=short:3", "--filter", "exited=0", "--format", "{{.Names}}"],
    &["ps", "--filter", "status=bogus"],
    &["ps", "--filter", "foo=x"],
    &["rmi", ID],
    &["rmi", SHORT],
    &["rmi", "-f", ID],
    &["rmi", "-f", "nope"],
    &["rm", "nope"],
    &["rm", "c1"],
    &["image", "prune", "-f", "--filter", "label=x", "--filter", "until=1h"],
    &["image", "prune", "-a", "-f", "--filter", "label=x"],
    &["image", "prune", "-f", "--filter", "foo=bar"],
    &["image", "prune", "-f", "--filter", "dangling=false", "--filter", "label=zzz"],
    &["tag", IMAGE],
    &["tag", IMAGE, "short"],
    &["history", "a", "b"],
    &["save"],
    &["save", "-o", "/dev/null/x", "nope"],
    &["load", "-i", "/nosuch"],
    &["import", "/nosuch"],
    &["export", "nope"],
    &["rmi", "short"],
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

/// Containers have ids of their own.
fn without_containers((code, out, wrong): (Option<i32>, String, String)) -> (Option<i32>, String, String) {
    let mut words: Vec<&str> = wrong.split(' ').collect();
    for at in 1..words.len() {
        if words[at - 1] == "container" && words[at].len() == 12 {
            words[at] = "ID";
        }
    }
    (code, out, words.join(" "))
}

pub fn docker_and_mica_say_the_same() -> Verdict {
    let lab = Lab::new("images", TOOLS)?;
    let archive = fixture("busybox")?.display().to_string();
    let docker = Docker::new(&lab, "vfs")?;
    let store = lab.dir.dir("mica");
    docker.docker(&["load", "-q", "-i", &archive])?;
    bin::run_ok(&mut bin::mica_command(&store, ["load", "-q", "-i", &archive]));
    let id = docker.docker(&["images", "-q", "--no-trunc", IMAGE])?;
    let short = id.trim_start_matches("sha256:").get(..12).unwrap_or_default().to_owned();
    let mut differences = Vec::new();
    for line in LINES {
        let words: Vec<&str> = line
            .iter()
            .map(|word| match *word {
                ID => id.as_str(),
                SHORT => short.as_str(),
                word => word,
            })
            .collect();
        let mut theirs = without_containers(run(&mut docker.command(&words))?);
        let mut ours = without_containers(run(&mut bin::mica_command(&store, &words))?);
        if OTHER_WORDS.contains(line) {
            (theirs.2, ours.2) = (String::new(), String::new());
        }
        if theirs != ours {
            differences.push(format!("{}\ndocker {theirs:?}\nmica   {ours:?}", line.join(" ")));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n\n").into()) }
}
