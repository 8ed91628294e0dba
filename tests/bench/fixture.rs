//! The layers that the workloads stand on; made once a run.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use crate::Result;
use crate::workload::Workload;

/// A stack of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// 50 000 small files in 500 directories, in one layer.
    Tree,
    /// 2000 small files in 20 directories, merged of two layers.
    Small,
    /// One file of 1 GiB (or 2, for copy-up).
    Big,
    /// 100 000 files in one directory.
    Wide,
    /// So many layers; each has the directory `d`, the bottom one has files in it.
    Deep(u16),
}

/// The layers on disk.
#[derive(Debug)]
pub struct Fixture {
    /// Where they lie.
    pub base: PathBuf,
    quick: bool,
}

impl Fixture {
    /// Makes what the chosen workloads need.
    pub fn make(work: &Path, quick: bool, chosen: &[Workload]) -> Result<Self> {
        let this = Self { base: work.join("layers"), quick };
        let mut done = Vec::new();
        for workload in chosen {
            if !done.contains(&workload.stack) {
                done.push(workload.stack);
                this.make_stack(workload.stack)?;
            }
        }
        rustix::fs::sync();
        Ok(this)
    }

    /// A number for the full run, or a smaller one for the quick one.
    pub fn scale(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// Directories of the tree, with 100 files each.
    pub fn tree_dirs(&self) -> usize {
        self.scale(500, 100)
    }

    /// Directories of the small stack, with 100 files each.
    pub fn small_dirs(&self) -> usize {
        self.scale(20, 5)
    }

    /// Bytes of the big file.
    pub fn big(&self) -> usize {
        self.scale(1 << 30, 128 << 20)
    }

    /// Names in the wide directory.
    pub fn wide(&self) -> usize {
        self.scale(100_000, 10_000)
    }

    /// The layers of a stack, top first, relative to the base.
    pub fn lowers(&self, stack: Stack) -> Vec<PathBuf> {
        match stack {
            Stack::Tree => vec!["tree".into()],
            Stack::Small => vec!["top".into(), "small".into()],
            Stack::Big => vec!["big".into()],
            Stack::Wide => vec!["wide".into()],
            // With the bottom one, so many in all: the kernel takes 500.
            Stack::Deep(layers) => (1..layers).map(|n| format!("d/{n}").into()).chain(["d/b".into()]).collect(),
        }
    }

    fn make_stack(&self, stack: Stack) -> Result<()> {
        match stack {
            Stack::Tree => fill(&self.base.join("tree"), self.tree_dirs(), 0..100),
            Stack::Small => {
                fill(&self.base.join("small"), self.small_dirs(), 0..80)?;
                fill(&self.base.join("top"), self.small_dirs(), 80..100)
            }
            Stack::Big => {
                fs::create_dir_all(self.base.join("big"))?;
                let mut file = fs::File::create(self.base.join("big/file"))?;
                let block: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
                Ok((0..self.big() >> 20).try_for_each(|_| file.write_all(&block))?)
            }
            Stack::Wide => {
                let dir = self.base.join("wide/d");
                fs::create_dir_all(&dir)?;
                (0..self.wide()).try_for_each(|i| {
                    fs::File::create(dir.join(format!("file-{i:06}")))?;
                    Ok(())
                })
            }
            Stack::Deep(layers) => {
                if !self.base.join("d/b").exists() {
                    fill(&self.base.join("d/b"), 1, 0..100)?;
                    fs::rename(self.base.join("d/b/d000"), self.base.join("d/b/d"))?;
                }
                (1..layers).try_for_each(|n| {
                    let dir = self.base.join(format!("d/{n}/d"));
                    fs::create_dir_all(&dir)?;
                    Ok(fs::write(dir.join(format!("only-in-{n}")), "x")?)
                })
            }
        }
    }

    /// Removes the layers.
    pub fn remove(&self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.base)?)
    }
}

/// Directories of small files, whose sizes are those of source text: 100 bytes to 6 KiB.
fn fill(base: &Path, dirs: usize, files: std::ops::Range<usize>) -> Result<()> {
    if base.exists() {
        return Ok(());
    }
    let text = vec![b'm'; 8192];
    for d in 0..dirs {
        let dir = base.join(format!("d{d:03}"));
        fs::create_dir_all(&dir)?;
        for f in files.clone() {
            fs::write(dir.join(format!("f{f:03}")), &text[..100 + (d * 131 + f * 977) % 6000])?;
        }
    }
    Ok(())
}
