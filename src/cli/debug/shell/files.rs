//! What the shell shows of files: `ls`, `stat`, `cat`.

use std::ffi::OsString;
use std::io::Write;

use super::Printed;
use super::Shell;
use crate::cli::error::CliError;
use crate::cli::looking;
use crate::engine;
use crate::explain;
use crate::explain::Outcome;
use crate::explain::content;
use crate::explain::layers::Entry;
use crate::explain::layers::Folder;
use crate::explain::layers::Has;
use crate::explain::layers::State;
use crate::explain::text;
use crate::explain::versions::entry_at;
use crate::path::Escaped;
use crate::sys::attr::Kind;

impl Shell {
    pub(super) fn ls(&self, path: Option<&OsString>, all: bool, out: &mut dyn Write) -> Printed {
        let folder = match path {
            Some(path) if self.is_no_directory(path)? => {
                let at = self.resolved(path, false)?;
                let entry = entry_at(self.here(), &at).map_err(engine::Error::from)?;
                return entry.map_or(Ok(()), |entry| self.line(&entry, all, out));
            }
            path => self.folder(path)?,
        };
        for name in folder.names().map_err(engine::Error::from)? {
            if let Some(entry) = folder.entry(self.here(), name.as_name()).map_err(engine::Error::from)? {
                self.line(&entry, all || !folder.is_shown(), out)?;
            }
        }
        Ok(())
    }

    fn is_no_directory(&self, path: &OsString) -> Result<bool, CliError> {
        let at = self.resolved(path, true)?;
        Ok(Folder::at(self.here(), &at).map_err(engine::Error::from)?.is_none())
    }

    /// What shows of an entry; with `all` each version that does not.
    fn line(&self, entry: &Entry, all: bool, out: &mut dyn Write) -> Printed {
        let layers = self.here().layers();
        for version in &entry.versions {
            let served = version.state == State::Served;
            let merged_dir = version.state == State::Merged;
            if (!served && !all) || merged_dir {
                continue;
            }
            let (tag, _) = looking::layer(layers.get(version.layer));
            let sign = if served { ' ' } else { 'x' };
            let name = Escaped(entry.name.as_bytes());
            let Has::Object { obj, stat, .. } = &version.has else {
                writeln!(out, "{sign} {tag:<5} {:<10} {:<11} {:>10}  {name}", "whiteout", "", "")?;
                continue;
            };
            // The attributes of a merged directory are those of the topmost layer that lists it.
            let stat = entry.stat.filter(|_| served).unwrap_or(*stat);
            let rest = match stat.kind() {
                Kind::Dir => "/".to_owned(),
                Kind::Symlink => {
                    let link = obj.readlink().map_err(|e| engine::Error::from(explain::Error::from(e)))?;
                    format!(" -> {}", Escaped(&link))
                }
                _ => String::new(),
            };
            let why = match &version.state {
                State::Hidden(Some(cut)) => format!("  (hidden: {})", text::reason(cut, layers)),
                _ => String::new(),
            };
            let owner = format!("{}:{}", stat.uid, stat.gid);
            writeln!(
                out,
                "{sign} {tag:<5} {} {owner:<11} {:>10}  {name}{rest}{why}",
                text::mode(&stat),
                looking::size(&stat)
            )?;
        }
        Ok(())
    }

    pub(super) fn stat(&self, path: &OsString, out: &mut dyn Write) -> Printed {
        let explanation = self.explain(path, false)?;
        let Some(served) = explanation.served() else { return Err(looking::not_shown(&explanation)) };
        let at = explanation.resolved();
        let stat = &served.stat;
        writeln!(out, "path      {at}")?;
        writeln!(out, "object    {} {}:{}, {} bytes", text::mode(stat), stat.uid, stat.gid, stat.size)?;
        writeln!(out, "modified  {}", text::time(stat.mtime))?;
        writeln!(out, "links     {}", stat.nlink)?;
        let (info, mut layers) = (self.here().layers().get(served.layer), Vec::new());
        if let Some(info) = info {
            let (_, digest) = looking::layer(Some(info));
            writeln!(out, "served by {} {digest} {}", info.place, looking::made_by(Some(info), self.style))?;
        }
        writeln!(out, "location  {}", served.location)?;
        let Some(entry) = entry_at(self.here(), &at).map_err(engine::Error::from)? else { return Ok(()) };
        let failed = |e| CliError::from(engine::Error::from(explain::Error::from(e)));
        if let Some(object) = entry.content()
            && let Some(digest) = content::digest(&object).map_err(engine::Error::from)?
        {
            writeln!(out, "content   {digest}")?;
        }
        if let Some(face) = entry.face() {
            if face.kind() == Kind::Symlink {
                writeln!(out, "leads to  {}", Escaped(&face.readlink().map_err(failed)?))?;
            }
            for name in face.xattrs().map_err(failed)? {
                let value = face.xattr(&name).map_err(failed)?.unwrap_or_default();
                writeln!(out, "xattr     {}={}", Escaped(&name), Escaped(&value))?;
            }
        }
        for version in &entry.versions {
            let (tag, _) = looking::layer(self.here().layers().get(version.layer));
            layers.push(format!("{tag} {}", explain::documents::state_word(&version.state)));
        }
        Ok(writeln!(out, "layers    {}", layers.join(", "))?)
    }

    pub(super) fn cat(&self, path: &OsString, out: &mut dyn Write) -> Printed {
        let explanation = self.explain(path, true)?;
        if explanation.outcome != Outcome::Found {
            return Err(looking::not_shown(&explanation));
        }
        let at = explanation.resolved();
        let entry = entry_at(self.here(), &at).map_err(engine::Error::from)?;
        let Some(object) = entry.as_ref().and_then(Entry::content) else {
            return Err(CliError::new(format!("{at} is no regular file")).hint("'ls' lists a directory"));
        };
        let failed = |e| CliError::from(engine::Error::from(explain::Error::from(e)));
        let content = object.open_checked().map_err(failed)?;
        let mut printed = Ok(());
        let tame = self.tame;
        let mut end = None;
        let read = content::each_chunk::<explain::Error>(&content, &mut |bytes| {
            end = bytes.last().copied();
            printed = if tame { write_tame(bytes, out) } else { out.write_all(bytes) };
            looking::go_on(&printed)
        });
        read.or_else(|e| looking::printing(printed, e))?;
        if tame && end.is_some_and(|last| last != b'\n') {
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Writes bytes so that no terminal is steered: line breaks and tabs stay.
fn write_tame(bytes: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let (text, end) = line.strip_suffix(b"\n").map_or((line, ""), |text| (text, "\n"));
        for (at, part) in text.split(|&b| b == b'\t').enumerate() {
            write!(out, "{}{}", if at > 0 { "\t" } else { "" }, Escaped(part))?;
        }
        out.write_all(end.as_bytes())?;
    }
    Ok(())
}
