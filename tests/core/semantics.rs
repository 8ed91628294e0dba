//! Each statement of `src/SEMANTICS.md` and of `src/HOSTILE.md` names the tests that prove it; they must be there.

use std::path::Path;

/// The numbered statements: number, and the tests they name.
fn statements(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut found: Vec<(usize, Vec<String>)> = Vec::new();
    for line in text.lines() {
        let number = line.split_once(". ").and_then(|(n, _)| n.parse().ok());
        if let Some(number) = number {
            found.push((number, Vec::new()));
        }
        let Some((_, tests)) = found.last_mut() else { continue };
        tests.extend(line.split('`').filter(|word| word.contains("::") && !word.contains(' ')).map(str::to_owned));
    }
    found
}

/// The test binaries with a list of their tests in place of `#[test]`.
const OWN_MAIN: [&str; 5] = ["crash", "dropin", "fuzz", "mount", "run"];

/// Whether a test is there: `lib` is the library with its tests beside the code, the others are folders of `tests/`.
fn has_test(root: &Path, binary: &str, name: &str) -> bool {
    let definition = format!("fn {name}(");
    let texts = texts_below(&if binary == "lib" { root.join("src") } else { root.join("tests").join(binary) });
    if OWN_MAIN.contains(&binary) {
        // Defined, and named by the list.
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let named: usize =
            texts.iter().map(|text| text.split(|c| !is_word(c)).filter(|word| *word == name).count()).sum();
        return named > 1 && texts.iter().any(|text| text.contains(&definition));
    }
    texts.iter().flat_map(|text| text.match_indices(&definition).map(|(at, _)| &text[..at])).any(|before| {
        let attributes = before.lines().rev().map(str::trim).skip_while(|line| line.is_empty());
        attributes.take_while(|line| line.starts_with("#[")).any(|line| line == "#[test]")
    })
}

/// The text of each file below a folder.
fn texts_below(folder: &Path) -> Vec<String> {
    let (mut folders, mut texts) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => texts.extend(std::fs::read_to_string(path)),
            }
        }
    }
    texts
}

#[test]
fn every_statement_is_proven_by_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for file in ["src/SEMANTICS.md", "src/HOSTILE.md"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let statements = statements(&text);
        let numbers: Vec<usize> = statements.iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "{file}: numbered from 1 without a gap");
        for (number, tests) in &statements {
            if tests.is_empty() {
                missing.push(format!("{file}: {number}: names no test"));
            }
            for test in tests {
                let (binary, name) = test.split_once("::").expect("binary::test");
                if !has_test(root, binary, name) {
                    missing.push(format!("{file}: {number}: {test} is not there"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
