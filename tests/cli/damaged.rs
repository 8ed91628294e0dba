//! `mica debug` over images of which not everything can be read: it shows what can be shown, says what is damaged, and ends by its keys.

use std::fs;
use std::path::PathBuf;

use crate::area::Area;
use crate::area::finish;
use crate::debug::IMAGE;
use crate::debug::LARGE;
use crate::debug::SMALL;
use crate::debug::crafted;
use crate::debug::debug;
use crate::debug::open;
use crate::debug::quit;
use crate::screen::Screen;
use crate::support::archive::Entry;
use crate::support::archive::tar_of;
use crate::support::archive::write_archive;
use crate::support::report_count;

/// The files of a layer's pack: its index and its body.
fn pack(area: &Area, image: &str, layer: usize) -> [PathBuf; 2] {
    let inspected: serde_json::Value = serde_json::from_str(&area.ok(["inspect", image])).unwrap();
    let digest = inspected[0]["RootFS"]["Layers"][layer - 1].as_str().unwrap().to_owned();
    let hex = digest.strip_prefix("sha256:").unwrap();
    ["idx", "pack"].map(|end| area.store().join("packs").join(format!("{hex}.{end}")))
}

/// Writes other bytes into a file of the store, which is read-only there and mapped here and there: a new file by its name.
fn spoil(path: &PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The whole layer: its index is gone, is cut, or is wrong from its first byte on.
#[test]
fn a_missing_layer_counts_as_empty_and_is_named_wherever_it_would_count() {
    for (how, why) in [("missing", "no layer"), ("cut", "damaged"), ("wrong", "damaged")] {
        let area = crafted(how);
        let [index, _] = pack(&area, IMAGE, 2);
        match how {
            "missing" => fs::remove_file(&index).unwrap(),
            "cut" => spoil(&index, |bytes| bytes.truncate(100)),
            _ => spoil(&index, |bytes| bytes[8] ^= 0xff),
        }
        let screen = open(&area, IMAGE, SMALL);
        let text = screen.shows("L2 counts as empty");
        assert!(text.contains("2 Tree without L2") && text.contains("!L2   damaged"), "{how}: {text}");
        // Below it all is as ever, and what it deleted shows, as the walk says.
        screen.keys_show(b"l", "conf");
        let text = screen.keys_show(b"jj", "hello");
        assert!(text.lines().any(|line| line.contains("L2") && line.contains('!')), "{how}: {text}");
        let text = screen.keys_show(b"[[", "lowest 1 of 3");
        assert!(!text.contains("without"), "layer 1 is whole: {text}");
        screen.keys_show(b"]]", "without L2");
        screen.keys_show(b"1j", "L2 counts as empty");
        screen.keys_show(b"2w", "only whiteouts");
        screen.keys_show(b"w/motd\r", "2 /motd: 1");
        screen.keys_show(b"\x1b", "2 Tree without L2");
        quit(screen);
        fs::write(area.join("lines"), "cat /etc/motd\nlayers\n").unwrap();
        let mut shell = debug(&area, &["--plain", IMAGE]);
        let said = finish(shell.stdin(fs::File::open(area.join("lines")).unwrap()));
        assert!(
            said.err.contains("layer 2 of 3 of localhost/crafted:1 cannot be read and counts as empty")
                && said.err.contains("hint: "),
            "{said:?}"
        );
        assert!(said.err.to_lowercase().contains(why) || how == "missing", "{how}: {said:?}");
        assert!(said.out.starts_with("hello\n") && said.out.contains("damaged"), "{said:?}");
        assert_eq!(said.code(), 125, "no program takes it for a whole answer");
        // Who gives one answer gives none, and loading it again repairs.
        assert_eq!(area.said(["which", IMAGE, "/etc/motd"]).code(), 125);
        area.ok(["load", "-i", "image/image.tar"]);
        assert_eq!(area.said(["which", IMAGE, "/etc/motd"]).code(), 1);
    }
}

/// One block of an index after the other: found when it is read, which is when somebody looks there.
#[test]
fn a_damaged_block_of_an_index_hurts_only_what_is_in_it() {
    let area = Area::new("blocks");
    let names: Vec<String> = (0..4000).map(|n| format!("d{:02}/{:03}-{}", n / 200, n % 200, "n".repeat(60))).collect();
    let files: Vec<_> = names.iter().map(|name| Entry::File(name.as_bytes(), "x\n")).collect();
    let layers = [tar_of(&[Entry::File(b"d05/below", "below\n"), Entry::File(b"etc/conf", "a\n")]), tar_of(&files)];
    let by = serde_json::json!([{ "created_by": "RUN low" }, { "created_by": "RUN many" }]);
    let archive = write_archive(&area.new_dir("image"), "localhost/blocks:1", &layers, &by);
    area.ok(["load", "-i", archive.to_str().unwrap()]);
    let [index, _] = pack(&area, "localhost/blocks:1", 2);
    let whole = fs::read(&index).unwrap();
    let blocks = whole.len() / (64 << 10);
    assert!(blocks >= 4, "{} bytes of index", whole.len());
    let (mut told, mut shown) = (0, 0);
    for block in 0..blocks {
        spoil(&index, |bytes| {
            bytes.clone_from(&whole);
            bytes[block * (64 << 10) + (40 << 10)] ^= 0x10;
        });
        let screen = Screen::new(&debug(&area, &["localhost/blocks:1"]), LARGE);
        screen.until("the first picture", |text| text.contains("2 Tree") && !text.contains("2 Tree ..."));
        // Everything that looks: into directories, for names, for whiteouts, at sizes, back in time.
        screen.keys(b"ljlGkl\x1b[Fkkljj");
        screen.keys(b"/below\r");
        let over = |text: &str| {
            text.contains("2 /below: ") && !text.lines().any(|l| l.contains("2 /below: ") && l.contains("..."))
        };
        screen.until("the search is over", over);
        screen.keys_show(b"\x1b", "2 Tree");
        screen.keys(b"w");
        let over = |text: &str| text.contains("only whiteouts") && !text.contains("only whiteouts ...");
        let text = screen.until("all were looked for", over);
        told += u32::from(text.contains("checksum of block") || text.contains("counts as empty"));
        screen.keys_show(b"wshd[", "lowest 1 of 2");
        let text = screen.keys_show(b"/below\r\r", "below");
        shown += u32::from(text.contains("d05/"));
        quit(screen);
    }
    assert!(told > 0, "no damage was told of");
    assert_eq!(shown as usize, blocks, "the layer below is whole");
    report_count(blocks, "damaged blocks of an index, looked past on a screen");
}

/// The index is whole, the bytes of files are not.
#[test]
fn a_damaged_file_says_so_in_its_place() {
    let area = crafted("bodies");
    let [_, body] = pack(&area, IMAGE, 2);
    spoil(&body, |bytes| bytes.fill(0xa5));
    let screen = open(&area, IMAGE, SMALL);
    screen.keys_show(b"l", "conf");
    let text = screen.keys_show(b"j", "damaged");
    assert!(text.contains("served") && !text.contains("without"), "{text}");
    screen.keys_show(b"d", "damaged");
    screen.keys_show(b"h", "damaged");
    screen.keys_show(b"xcopy\r", "damaged");
    assert!(!area.join("confcopy").exists());
    screen.keys_show(b"h[[", "\u{2502}b   ");
    quit(screen);
}
