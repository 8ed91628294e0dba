//! Addresses: `http` and `https` only, parsed once; a user and password are taken out, so that they are neither sent nor shown by accident.
//!
//! Source: RFC 3986, sections 3 and 5; RFC 7617 for the password.

use std::fmt;
use std::sync::Arc;

use ureq::http::Uri;

use super::Error;
use super::Result;

/// The longest address.
const LENGTH_MAX: usize = 8 << 10;

/// An address that can be asked. Shown without password, query and fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    // Shared: errors carry addresses, and are passed on through many hands.
    uri: Arc<Uri>,
    /// `user:password`, decoded; only for this scheme, host and port.
    user: Option<Arc<[u8]>>,
}

impl Url {
    /// Whether a word is meant as an address, not as a file.
    pub fn is_meant(word: &str) -> bool {
        let scheme = word.split_once("://").map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
    }

    /// Reads an address.
    ///
    /// # Errors
    /// [`Error::BadUrl`].
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why| Error::BadUrl { text: shown(text), why };
        if text.len() > LENGTH_MAX {
            return Err(bad("the address is too long"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("that is no address"))?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(bad("only http:// and https:// can be fetched"));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let slash = if path.starts_with('/') { "" } else { "/" };
        let uri: Uri = format!("{scheme}://{host}{slash}{path}")
            .parse()
            .map_err(|_| bad("that is no address; what is special in it must be written as %20 and so on"))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad("there is no host in it"));
        }
        if uri.port().is_none()
            && uri.authority().is_some_and(|authority| authority.as_str() != uri.host().unwrap_or_default())
        {
            return Err(bad("that is no port"));
        }
        let user =
            user.map(|user| decoded(if user.contains(':') { user.to_owned() } else { format!("{user}:") }.as_bytes()));
        Ok(Self { uri: Arc::new(uri), user: user.map(Arc::from) })
    }

    /// The address that a reference in an answer from here means. The password stays here.
    ///
    /// # Errors
    /// [`Error::BadRedirect`].
    pub fn join(&self, reference: &str) -> Result<Self> {
        let reference = reference.split('#').next().unwrap_or_default().trim();
        let here = format!("{}://{}", self.uri.scheme_str().unwrap_or("http"), self.authority());
        let path = self.uri.path();
        let scheme = reference.split(['/', '?']).next().is_some_and(|front| front.contains(':'));
        let text = if scheme {
            reference.to_owned()
        } else if let Some(rest) = reference.strip_prefix("//") {
            format!("{}://{rest}", self.uri.scheme_str().unwrap_or("http"))
        } else if reference.is_empty() {
            format!("{here}{}", self.uri.path_and_query().map_or("/", |all| all.as_str()))
        } else if reference.starts_with('?') {
            format!("{here}{path}{reference}")
        } else {
            let (to, query) =
                reference.split_at_checked(reference.find('?').unwrap_or(reference.len())).unwrap_or((reference, ""));
            let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
            let joined = if to.starts_with('/') { to.to_owned() } else { format!("{dir}/{to}") };
            format!("{here}{}{query}", without_dots(&joined))
        };
        let bad = |source| Error::BadRedirect { url: self.clone(), source: Box::new(source) };
        let mut to = Self::parse(&text).map_err(bad)?;
        // What a server puts into an address is not what the user said; what the user said is for one server.
        to.user = self.user.clone().filter(|_| self.is_same_origin(&to));
        Ok(to)
    }

    fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    fn is_same_origin(&self, other: &Self) -> bool {
        self.is_https() == other.is_https()
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port() == other.port()
    }

    /// Whether the way there is encrypted.
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The host, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// The port that is asked.
    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// The last part of the path, to call what is fetched by; empty at the root.
    pub fn file_name(&self) -> &str {
        self.uri.path().rsplit('/').next().unwrap_or_default()
    }

    /// As the library takes it.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The header's value for the password, if there is one.
    pub(super) fn authorization(&self) -> Option<String> {
        self.user.as_deref().map(|user| format!("Basic {}", base64(user)))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.uri.query().is_some() { "?..." } else { "" };
        write!(f, "{}://{}{}{query}", self.uri.scheme_str().unwrap_or("http"), self.authority(), self.uri.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that may be an address, without what may be secret in it.
fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    // A password may hold a slash, which makes this no address: so up to the last @, wherever that is.
    let shown = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let shown = if scheme.is_empty() { shown.to_owned() } else { format!("{scheme}://{shown}") };
    crate::path::Escaped(shown.chars().take(200).collect::<String>().as_bytes()).to_string()
}

/// A path without `.` and `..` (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    let folder = matches!(path.rsplit('/').next(), Some("." | "..")) && !parts.is_empty();
    format!("/{}{}", parts.join("/"), if folder { "/" } else { "" })
}

/// `%41` stands for `A`; what is no such sign stays.
fn decoded(text: &[u8]) -> Vec<u8> {
    let hex = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16)).and_then(|n| u8::try_from(n).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (*byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (other, ..) => {
                out.push(other);
                at += 1;
            }
        }
    }
    out
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let all = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let index = usize::try_from(all >> (18 - 6 * at) & 63).unwrap_or(0);
            let sign = if at > chunk.len() { b'=' } else { SIGNS.get(index).copied().unwrap_or(b'=') };
            out.push(char::from(sign));
        }
    }
    out
}
