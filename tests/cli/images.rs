//! Images as docker's users handle them: lists, names, templates, removal, space; and layers seen as layers.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::area::Area;
use crate::area::finish;
use crate::support::Snapshot;
use crate::support::require_fixture;
use crate::support::require_root;

/// A store with busybox under two names, and on top of its layers a second image of one more layer; the fixture's name.
fn two_images(label: &str, fixture: &crate::support::Fixture) -> (Area, String) {
    let (area, image) = (Area::with(label, fixture), fixture.image());
    area.ok(["run", "--name", "maker", &image, "sh", "-c", "echo 12345 > /made"]);
    area.ok(["commit", "-m", "one \x1b[31mline\nmore", "-a", "me", "maker", "made:1"]);
    area.ok(["rm", "maker"]);
    area.ok(["tag", &image, "other/name:2"]);
    (area, image)
}

#[test]
fn images_are_listed_filtered_and_shared() {
    require_root!();
    let (area, image) = two_images("images", &require_fixture!("busybox"));
    let table = area.ok(["images"]);
    let heading = "REPOSITORY          TAG       IMAGE ID       CREATED";
    assert!(table.starts_with(heading) && table.contains("SIZE      SHARED SIZE   UNIQUE SIZE\n"), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    let names = |args: &[&str]| {
        let mut all = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
        all.extend(args);
        let mut lines: Vec<_> = area.ok(all).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let all = ["made:1".to_owned(), image.clone(), "other/name:2".to_owned()];
    assert_eq!(names(&[]), {
        let mut all = all.to_vec();
        all.sort();
        all
    });
    assert_eq!(names(&["--filter", "dangling=true"]), Vec::<String>::new());
    assert_eq!(names(&["--filter", "before=made:1"]).len(), 2);
    assert_eq!(names(&["--filter", &format!("since={image}")]), ["made:1"]);
    assert_eq!(names(&["-f", "reference=*/name"]), ["other/name:2"]);
    assert_eq!(names(&["other/n*:2"]), ["other/name:2"]);
    assert_eq!(names(&["--filter", "until=2025-01-01"]).len(), 2, "the fixture is of 2024");
    assert_eq!(names(&["--filter", "label=nosuch"]), Vec::<String>::new());
    assert_eq!(area.ok(["images", "-q"]).lines().count(), 3, "one line for each name");

    let sizes = area.ok(["images", "--format", "{{.SharedSize}} {{.UniqueSize}} {{.VirtualSize}}", "made"]);
    let [shared, unique, _]: [&str; 3] = sizes.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
    assert!(shared.ends_with("MB") && unique == "6B", "{sizes}");
    let sizes = area.ok(["images", "--format", "{{.SharedSize}} {{.UniqueSize}} {{.VirtualSize}}", &image]);
    assert_eq!(sizes, format!("{shared} 0B {shared}\n"), "all of its layers are in the other one, too");

    for (args, said) in [
        (vec!["images", "--filter", "foo=bar"], "Invalid filter 'foo'"),
        (vec!["images", "--filter", "dangling=maybe"], "Invalid filter 'dangling=[maybe]'"),
        (vec!["images", "--filter", "before=nope"], "No such image: nope:latest"),
        (vec!["images", "--format", "{{.Nope}}"], "template parsing error: template: :1:2: executing \"\" at <.Nope>"),
        (vec!["images", "--format", "{{.ID"], "template parsing error: template: :1: unclosed action"),
    ] {
        let err = area.fails(&args, 1);
        assert!(err.contains(said), "{args:?}: {err}");
    }
    let tree = area.ok(["image", "tree"]);
    let lines: Vec<_> = tree.lines().collect();
    assert!(lines.len() >= 6 && lines[lines.len() - 2].contains(&format!("other/name:2, {image}")), "{tree}");
    assert!(lines[lines.len() - 1].contains("6B  made:1 ("), "{tree}");
}

#[test]
fn history_and_inspect_tell_everything() {
    require_root!();
    let (area, image) = two_images("inspect", &require_fixture!("busybox"));
    let table = area.ok(["history", "made:1"]);
    assert!(table.lines().next().unwrap().ends_with(" AUTHOR"), "{table}");
    assert!(table.lines().nth(1).unwrap().ends_with("one  [31mline more   me"), "control characters go: {table}");
    assert_eq!(
        area.ok(["history", "--format", "{{.Comment}}|{{.Author}}", "made:1"]).lines().next(),
        Some("one  [31mline more|me")
    );
    let bytes = area.ok(["history", "-H=false", "--format", "{{.Size}} {{.CreatedAt}}", &image]);
    assert!(bytes.lines().all(|line| line.ends_with("2024-05-06T07:08:09Z")), "{bytes}");

    let layers = area.ok(["inspect", "-f", "{{json .RootFS.Layers}}", &image]);
    assert!(layers.starts_with("[\"sha256:") && layers.matches("sha256:").count() == 5, "{layers}");
    let template = "{{range $i, $l := .Layers}}{{$l.Number}} {{$l.Files}} {{$l.Pack}}\n{{end}}";
    for (at, line) in area.ok(["inspect", "--format", template, &image]).trim_end().lines().enumerate() {
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some((at + 1).to_string().as_str()), "{line}");
        let pack = words.nth(1).unwrap();
        assert!(fs::metadata(pack).is_ok_and(|file| file.is_file()), "{pack} is there");
    }
    let document = area.ok(["image", "inspect", "made:1"]);
    assert!(document.starts_with("[\n    {\n        \"Id\": \"sha256:"), "indented as docker's: {document}");

    area.ok(["run", "--name", "one", "-e", "A=b", &image, "sh", "-c", "echo 123 > /new; exit 0"]);
    let template =
        "{{.Name}} {{.Path}} {{json .Args}} {{.State.Status}} {{.State.ExitCode}} {{.SizeRw}} {{index .Config.Env 1}}";
    let said = area.ok(["container", "inspect", "-s", "-f", template, "one"]);
    assert_eq!(said, "/one sh [\"-c\",\"echo 123 > /new; exit 0\"] exited 0 4 A=b\n");
    assert_eq!(area.ok(["inspect", "-f", "{{.Name}}", "one"]), "/one\n");
    let listed = area.ok(["ps", "-as", "--format", "{{.Names}} {{.Command}} {{.Size}} {{.State}}"]);
    assert!(listed.starts_with("one \"sh -c 'echo 123 > /…\" 4B (virtual "), "{listed}");
    for (filter, count) in [
        ("name=on", 1),
        ("name=^ne", 0),
        ("status=exited", 1),
        ("exited=0", 1),
        ("exited=1", 0),
        ("ancestor=made:1", 0),
    ] {
        assert_eq!(area.ok(["ps", "-aq", "--filter", filter]).lines().count(), count, "{filter}");
    }
    assert_eq!(area.ok(["ps", "-q", "--filter", &format!("ancestor={image}"), "-n", "5"]).lines().count(), 1);

    let absent = area.said(["inspect", "nosuch"]);
    assert_eq!((absent.code(), absent.out.as_str()), (1, "[]\n"));
    assert!(absent.err.contains("No such object: nosuch"), "{}", absent.err);
    assert!(area.fails(["inspect", "-f", "{{.Id", &image], 64).contains("unclosed action"));
    assert!(area.fails(["inspect", "-f", "{{.Nope}}", &image], 1).contains("map has no entry for key \"Nope\""));
    assert!(area.fails(["inspect", "--type", "foo", "x"], 1).contains("unknown type: \"foo\""));
    area.ok(["container", "rm", "one"]);
}

#[test]
fn names_go_one_by_one_and_prune_takes_the_rest() {
    require_root!();
    let (area, image) = two_images("rmi", &require_fixture!("busybox"));
    let id = area.ok(["images", "-q", &image]);
    let said = area.fails(["rmi", id.trim()], 1);
    assert!(said.contains("(must be forced) - image is referenced in multiple repositories"), "{said}");
    assert!(said.contains("hint: remove its names one by one") && !said.contains("mica rm'"), "{said}");
    assert_eq!(area.ok(["rmi", "other/name:2"]), "Untagged: other/name:2\n");
    assert!(area.fails(["rmi", "nope"], 1).contains("No such image: nope:latest"));

    let df = area.ok(["system", "df"]);
    assert!(
        df.starts_with("TYPE         TOTAL     ACTIVE    SIZE      RECLAIMABLE\nImages       2         0 "),
        "{df}"
    );
    let verbose = area.ok(["system", "df", "-v"]);
    for heading in ["Images space usage:\n", "Containers space usage:\n", "Packs space usage:\n"] {
        assert!(verbose.contains(heading), "{verbose}");
    }
    assert!(verbose.lines().filter(|line| line.ends_with("MB") || line.ends_with("kB")).count() >= 6, "{verbose}");
    let template = "{{range .Images}}{{.Repository}}:{{.Tag}} {{end}}{{len .Containers}} {{len .Volumes}}";
    let line = area.ok(["system", "df", "-v", "--format", template]);
    let mut words: Vec<&str> = line.split_whitespace().collect();
    words.sort_unstable();
    assert_eq!(words, ["0", "0", &image, "made:1"], "{line}");
    let document: serde_json::Value =
        serde_json::from_str(&area.ok(["system", "df", "-v", "--format", "json"])).unwrap();
    assert_eq!(document["Images"].as_array().map(Vec::len), Some(2), "{document}");
    assert!(
        document["Packs"][0]["Stored"].is_string() && document["BuildCache"] == serde_json::json!([]),
        "{document}"
    );
    assert!(area.fails(["system", "df", "-v", "--format", "{{.Nope}}"], 1).contains("can't evaluate field Nope"));

    // Nobody there to say yes: docker asks all the same, and takes the end of its input for a no.
    for group in ["system", "image", "container"] {
        let asked = finish(area.mica([group, "prune"]).stdin(Stdio::null()));
        assert_eq!(asked.code(), 0, "{asked:?}");
        assert!(asked.out.contains("WARNING! ") && asked.out.contains("[y/N]"), "{asked:?}");
    }
    assert_eq!(area.ok(["images", "-q"]).lines().count(), 2, "and nothing is gone");
    assert_eq!(area.ok(["image", "prune", "-f"]), "Total reclaimed space: 0B\n");
    area.ok(["run", "--name", "user", &image, "true"]);
    let pruned = area.ok(["image", "prune", "-af"]);
    assert!(pruned.starts_with("Deleted Images:\nuntagged: made:1\ndeleted: sha256:"), "{pruned}");
    assert!(pruned.contains("\n\nTotal reclaimed space: ") && !pruned.contains("space: 0B"), "{pruned}");
    assert_eq!(area.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]).trim(), image, "a container uses it");
    let pruned = area.ok(["system", "prune", "-a", "-f", "--filter", "until=1h"]);
    assert_eq!(pruned.lines().count(), 1, "the container is younger, and the image is in use: {pruned}");
    let pruned = area.ok(["system", "prune", "-af"]);
    assert!(
        pruned.starts_with("Deleted Containers:\n") && pruned.contains(&format!("untagged: {image}\n")),
        "{pruned}"
    );
    assert_eq!((area.ok(["images", "-q"]), area.ok(["ps", "-aq"])), (String::new(), String::new()));
    let packs = fs::read_dir(area.store().join("packs")).unwrap().count();
    let objects = fs::read_dir(area.store().join("objects")).unwrap();
    let left: usize = objects.map(|dir| fs::read_dir(dir.unwrap().path()).unwrap().count()).sum();
    assert_eq!((packs, left), (0, 0), "all of the space is given back");
}

#[test]
fn the_first_layers_and_each_layer_are_mounted() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let (area, image) = (Area::with("layers", &fixture), fixture.image());
    let (part, plain) = (area.new_dir("part"), area.new_dir("plain"));
    let sheets = area.new_dir("sheets");
    area.ok(["mount", &format!("{image}@2"), "part"]);
    area.ok(["image", "mount", "--layers", &image, "sheets"]);
    assert_eq!(area.servers().len(), 2, "one server for all layers");
    let mut names: Vec<_> =
        fs::read_dir(&sheets).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let short = area.ok(["inspect", "-f", "{{range .RootFS.Layers}}{{slice . 7 19}}\n{{end}}", &image]);
    let expected: Vec<_> = (1..).zip(short.trim_end().lines()).map(|(n, id)| format!("{n}-{id}")).collect();
    assert_eq!(names, expected);

    // The kernel's own overlay of the first two of these directories is what the first two layers show.
    area.new_dir("over");
    let lower = format!("lowerdir={}:{}", sheets.join(&names[1]).display(), sheets.join(&names[0]).display());
    let mounted = finish(
        std::process::Command::new("mount").args(["-t", "overlay", "-o", &lower, "overlay"]).arg(area.join("over")),
    );
    if mounted.code() == 0 {
        let (ours, kernels) = (Snapshot::of(&part).unwrap(), Snapshot::of(area.join("over")).unwrap());
        let differences = crate::support::tree::diff_ignoring(&ours, &kernels, &[crate::support::tree::Field::Nlink]);
        let differences: Vec<_> = differences.iter().filter(|line| !line.starts_with("(top): ")).take(20).collect();
        assert!(differences.is_empty(), "{differences:#?}");
    } else {
        crate::support::report_skip(&format!("no overlay of the kernel: {}", mounted.err));
    }
    drop(plain);

    // What the third layer deletes and replaces is seen as that.
    let (mut whiteouts, mut opaque) = (0, 0);
    let mut open = vec![sheets.join(&names[2])];
    while let Some(dir) = open.pop() {
        let said = finish(
            std::process::Command::new("getfattr").args(["-n", "trusted.overlay.opaque", "--only-values"]).arg(&dir),
        );
        opaque += usize::from(said.status.success() && said.out == "y");
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let stat = fs::symlink_metadata(entry.path()).unwrap();
            if stat.is_dir() {
                open.push(entry.path());
            }
            whiteouts += usize::from(stat.file_type().is_char_device() && stat.rdev() == 0);
        }
    }
    assert!(whiteouts > 0 && opaque > 0, "{whiteouts} whiteouts, {opaque} opaque directories");
    area.ok(["umount", "part", "sheets"]);

    for (word, said) in
        [("@0", "there is no layer 0"), ("@99", "there is no layer 99: the image has the layers 1 to 5")]
    {
        let err = area.fails(["mount", &format!("{image}{word}"), "part"], 1);
        assert!(err.contains(said), "{err}");
    }
    let err = area.fails(["mount", "--rw", &format!("{image}@2"), "part"], 1);
    assert!(err.contains("hint: "), "{err}");
}

#[test]
fn a_second_load_says_that_layers_are_there() {
    let fixture = require_fixture!("busybox");
    let area = Area::with("again", &fixture);
    let said =
        finish(&mut area.mica(["load".as_ref(), "-v".as_ref(), "-i".as_ref(), fixture.file("oci.tar").as_os_str()]));
    assert_eq!(said.code(), 0);
    assert!(
        said.err.lines().all(|line| line.ends_with(": Already exists")) && said.err.lines().count() == 5,
        "{}",
        said.err
    );
}

#[test]
fn a_filter_without_a_value_is_refused_in_dockers_words() {
    let area = Area::new("filter");
    for command in [&["ps"][..], &["images"], &["image", "prune"], &["container", "ls"]] {
        let err = area.fails([command, &["--filter", "foo"]].concat(), 125);
        let line = "invalid argument \"foo\" for \"-f, --filter\" flag: bad format of filter (expected name=value)";
        assert!(err.lines().next().is_some_and(|first| first.ends_with(line)), "{command:?}: {err}");
    }
}

#[test]
fn groups_have_the_commands_of_their_kind() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let (area, image) = two_images("groups", &fixture);
    area.ok(["image", "import", &fixture.file("rootfs.tar").display().to_string(), "imported:1"]);
    let compared = area.ok(["image", "diff", &image, "made:1"]);
    assert_eq!(compared, area.ok(["diff", &image, "made:1"]));
    assert!(compared.lines().any(|line| line == "A /made"), "{compared}");
}

#[test]
fn inspect_knows_when_a_name_was_given_last() {
    let fixture = require_fixture!("busybox");
    let area = Area::with("tagged", &fixture);
    let time = || {
        let said = area.ok(["image", "inspect", "-f", "{{.Metadata.LastTagTime}}", &fixture.image()]);
        said.trim().parse::<jiff::Timestamp>().expect("a time")
    };
    let loaded = time();
    assert!(loaded.as_second() > 1_700_000_000, "a load names it: {loaded}");
    crate::area::until("a second has passed", || {
        area.ok(["tag", &fixture.image(), "again:1"]);
        time() > loaded
    });
}

/// An archive of images without layers, each with a name and the time at which it was made.
fn archive_of(images: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, text: String| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    };
    let mut manifest = Vec::new();
    for (name, made) in images {
        let config = serde_json::json!({
            "created": made, "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": [] },
        });
        add(&format!("{name}.config"), config.to_string());
        manifest.push(serde_json::json!({ "Config": format!("{name}.config"), "RepoTags": [name], "Layers": [] }));
    }
    add("manifest.json", serde_json::Value::from(manifest).to_string());
    archive.into_inner().unwrap()
}

fn load(area: &Area, archive: Vec<u8>) -> crate::area::Said {
    let path = area.join("made.tar");
    fs::write(&path, archive).unwrap();
    area.said(["load".as_ref(), "-i".as_ref(), path.as_os_str()])
}

/// As two commits of one script are.
#[test]
fn images_made_in_the_same_second_have_an_order() {
    let area = Area::new("same-second");
    let made = |tenth: u8| format!("2026-01-01T00:00:00.{tenth}Z");
    let loaded = load(&area, archive_of(&[("b:1", &made(2)), ("a:1", &made(1)), ("c:1", &made(3))]));
    assert_eq!(loaded.code(), 0, "{loaded:?}");
    let names = |filter: &str| {
        let filter = ["images", "--format", "{{.Repository}}", "--filter", filter];
        area.ok(filter).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("dangling=false"), ["c", "b", "a"], "the newest first");
    assert_eq!((names("since=b:1"), names("before=b:1")), (vec!["c".to_owned()], vec!["a".to_owned()]));
    assert_eq!(names("until=2026-01-01T00:00:01Z").len(), 3);
    assert!(names("until=2026-01-01T00:00:00Z").is_empty());
}

/// `sha256:940d959d0b65` is the beginning of an id, whoever would like it to be a name.
#[test]
fn no_name_can_stand_for_an_id() {
    let area = Area::new("algorithm");
    assert_eq!(load(&area, archive_of(&[("mine:1", "2026-01-01T00:00:00Z")])).code(), 0);
    let id = area.ok(["images", "-q", "--no-trunc"]);
    let said = area.fails(["tag", "mine:1", id.trim()], 1);
    assert!(said.contains("refusing to create an ambiguous tag using digest algorithm as name"), "{said}");
    let said = load(&area, archive_of(&[(id.trim(), "2026-01-01T00:00:01Z")]));
    assert!(said.code() == 1 && said.err.contains("refusing to create an ambiguous tag"), "{said:?}");
    assert_eq!(area.ok(["image", "inspect", "-f", "{{.Id}}", id.trim()]), id);
}

/// Docker takes `dangling=false` for `-a`.
#[test]
fn prune_of_what_is_not_dangling_takes_all_that_is_unused() {
    let area = Area::new("prune-named");
    load(&area, archive_of(&[("a:1", "2026-01-01T00:00:00Z"), ("b:1", "2026-01-01T00:00:01Z")]));
    assert_eq!(area.ok(["image", "prune", "-f"]), "Total reclaimed space: 0B\n");
    let said =
        area.ok(["image", "prune", "-f", "--filter", "dangling=false", "--filter", "until=2026-01-01T00:00:01Z"]);
    assert!(said.contains("untagged: a:1\n") && !said.contains("b:1"), "{said}");
    assert!(area.ok(["image", "prune", "-f", "--filter", "dangling=false"]).contains("untagged: b:1\n"));
}

#[test]
fn a_group_without_a_command_shows_what_it_has() {
    let area = Area::new("group-help");
    for group in ["image", "container", "system"] {
        let said = area.said([group]);
        assert!(said.code() == 0 && (said.out + &said.err).contains("prune"), "{group}");
    }
}

/// Nobody wants a tar on the screen, or is about to type one.
#[test]
fn archives_do_not_go_to_or_come_from_a_terminal() {
    let area = Area::new("tty");
    assert_eq!(load(&area, archive_of(&[("a:1", "2026-01-01T00:00:00Z")])).code(), 0);
    for (args, said) in [
        (&["save", "a:1"][..], "cowardly refusing to save to a terminal"),
        (&["load"], "requested load from stdin, but stdin is a terminal"),
    ] {
        let (text, code) = crate::terminal::driven(area.mica(args), (24, 80), said, b"");
        assert!(text.contains(said) && text.contains("hint: ") && code == Some(1), "{args:?}: {code:?} {text}");
    }
}
