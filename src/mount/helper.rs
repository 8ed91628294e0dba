//! Finding the program `mount.mica`.

use std::path::Path;
use std::path::PathBuf;

use crate::env;

/// The program's names: as installed, and as built (Cargo takes no dot in a program's name).
const NAMES: [&str; 2] = ["mount.mica", "mount-mica"];

/// Where `mount.mica` is: beside the running program, in the directories of helpers near it, where mount(8) looks, or on `PATH`.
pub fn find() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok();
    let dir = exe.as_deref().and_then(Path::parent);
    let path = env::var("PATH").unwrap_or_default();
    candidates(dir, &std::env::split_paths(&path).collect::<Vec<_>>()).into_iter().find(|c| c.is_file())
}

/// The places in the order of the search. The second is for test programs, which lie one directory below the others.
fn candidates(dir: Option<&Path>, path: &[PathBuf]) -> Vec<PathBuf> {
    let near = ["", "..", "../libexec/mica", "../libexec", "../sbin"];
    let fixed = ["/usr/local/libexec/mica", "/usr/libexec/mica", "/usr/local/sbin", "/usr/sbin", "/sbin"];
    let near = dir.into_iter().flat_map(|dir| near.iter().map(move |sub| dir.join(sub)));
    let all = near.chain(fixed.iter().map(PathBuf::from)).chain(path.iter().filter(|p| p.is_absolute()).cloned());
    all.flat_map(|dir| NAMES.map(|name| dir.join(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_the_program_comes_first_and_relative_path_entries_never() {
        let found = candidates(Some(Path::new("/opt/bin")), &["bin".into(), "/x/bin".into()]);
        assert_eq!(found.first(), Some(&PathBuf::from("/opt/bin/mount.mica")));
        assert_eq!(found.last(), Some(&PathBuf::from("/x/bin/mount-mica")));
        assert!(!found.contains(&PathBuf::from("bin/mount.mica")));
    }
}
