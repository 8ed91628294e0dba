//! Who the command runs as: `--user`, resolved with the container's own `/etc/passwd` and `/etc/group`.

use super::error::Error;
use super::error::Result;
use super::inroot::Root;
use crate::path::Escaped;

/// The largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const FILE_MAX: usize = 4 << 20;
/// The largest id, as in docker.
const ID_MAX: u32 = i32::MAX.unsigned_abs();
/// The most supplementary groups that Linux takes.
const GROUPS_MAX: usize = 65536;

/// Ids and home of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids, sorted, each once.
    pub groups: Vec<u32>,
    /// Home directory, `/` when the user has no entry.
    pub home: Vec<u8>,
}

/// Resolves `user` (`uid[:gid]` or `name[:group]`, `None` for root) with the files inside `root`.
///
/// # Errors
/// [`Error::Spec`] for a name that has no entry; [`Error::Refused`] when a file is too large.
pub(super) fn resolve(user: Option<&str>, root: &Root) -> Result<Identity> {
    let passwd = root.read(b"etc/passwd", FILE_MAX)?.unwrap_or_default();
    let group = root.read(b"etc/group", FILE_MAX)?.unwrap_or_default();
    identify(user, &passwd, &group)
}

struct Account<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// The pure part of [`resolve`]. Lines that are no entries are passed over. An explicit group means that no
/// supplementary groups are added, as in docker.
pub(super) fn identify(user: Option<&str>, passwd: &[u8], group: &[u8]) -> Result<Identity> {
    let text = user.filter(|u| !u.is_empty()).unwrap_or("0");
    let (who, wanted_group) = match text.split_once(':') {
        Some((who, group)) => (if who.is_empty() { "0" } else { who }, Some(group).filter(|g| !g.is_empty())),
        None => (text, None),
    };
    // Digits are an id and never a name, as in docker since CVE-2016-3697: an image could name root "1000".
    let number = number("user", who)?;
    let account = accounts(passwd).find(|a| number.map_or(a.name == who.as_bytes(), |number| number == a.uid));
    let uid = account.as_ref().map(|a| a.uid).or(number).ok_or_else(|| unknown("user", who, "passwd"))?;
    let home = account.as_ref().map(|a| a.home).filter(|h| !h.is_empty()).unwrap_or(b"/").to_vec();
    if let Some(wanted) = wanted_group {
        let number = self::number("group", wanted)?;
        let entry =
            groups(group).find(|(name, gid, _)| number.map_or(*name == wanted.as_bytes(), |number| number == *gid));
        let gid = entry.map(|(_, gid, _)| gid).or(number).ok_or_else(|| unknown("group", wanted, "group"))?;
        return Ok(Identity { uid, gid, groups: Vec::new(), home });
    }
    let member = |members: &[u8]| account.as_ref().is_some_and(|a| members.split(|&b| b == b',').any(|m| m == a.name));
    let mut extra: Vec<u32> = groups(group).filter(|(_, _, m)| member(m)).map(|(_, gid, _)| gid).collect();
    extra.sort_unstable();
    extra.dedup();
    extra.truncate(GROUPS_MAX);
    Ok(Identity { uid, gid: account.as_ref().map_or(0, |a| a.gid), groups: extra, home })
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    let name = Escaped(name.as_bytes());
    Error::Spec(format!("unable to find {what} {name}: no matching entries in the container's /etc/{file} file"))
}

/// The id that a word of digits is; `None` for a name.
fn number(what: &str, word: &str) -> Result<Option<u32>> {
    if !word.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match id(word.as_bytes()) {
        Some(id) => Ok(Some(id)),
        None => {
            Err(Error::Spec(format!("the {what} {} is no id: ids are from 0 to {ID_MAX}", Escaped(word.as_bytes()))))
        }
    }
}

fn id(text: &[u8]) -> Option<u32> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok().filter(|&n| n <= ID_MAX)
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|&b| b == b'\n').map(|line| line.splitn(8, |&b| b == b':').collect())
}

fn accounts(passwd: &[u8]) -> impl Iterator<Item = Account<'_>> {
    lines(passwd).filter_map(|fields| match fields.as_slice() {
        [name, _, uid, gid, _, home, ..] if !name.is_empty() && !home.contains(&0) => {
            Some(Account { name, uid: id(uid)?, gid: id(gid)?, home })
        }
        _ => None,
    })
}

/// Name, id and members of each group.
fn groups(group: &[u8]) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    lines(group).filter_map(|fields| match fields.as_slice() {
        [name, _, gid, members, ..] if !name.is_empty() => Some((*name, id(gid)?, *members)),
        _ => None,
    })
}
