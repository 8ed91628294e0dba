//! Names of images, as docker reads them: `debian` is `docker.io/library/debian:latest`.
//!
//! Source: the grammar of `distribution/reference` (`reference.go`, `regexp.go`, `normalize.go`).

use std::fmt;

use super::Digest;

/// The registry that a name without one means.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The old name of [`DEFAULT_DOMAIN`], read as the same.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// Where the names without a slash lie on [`DEFAULT_DOMAIN`].
const OFFICIAL_PREFIX: &str = "library/";
/// The tag that a name without tag and digest means.
pub const DEFAULT_TAG: &str = "latest";
/// The algorithm of digests, which is no name.
const ALGORITHM: &str = "sha256";
/// The longest repository name with its registry, in bytes.
const NAME_MAX: usize = 255;
/// The longest tag, in bytes.
const TAG_MAX: usize = 128;

/// Why a text is no name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    /// The text breaks the grammar.
    #[error("invalid reference format: {0}")]
    Format(&'static str),
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name must be lowercase")]
    Uppercase,
    /// The name is 64 hex digits, which always means an image id.
    #[error("invalid repository name: cannot specify 64-byte hexadecimal strings")]
    LooksLikeId,
    /// The name is that of a digest's algorithm: `sha256:940d959d0b65` would be a name, and means an image id.
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    Algorithm,
    /// The repository name is too long.
    #[error("invalid reference format: repository name must not be more than {NAME_MAX} characters")]
    TooLong,
}

/// A complete name: registry, path, and a tag, a digest or both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as a user types it; a missing registry, `library/` and tag are filled in (no tag when there is a digest).
    ///
    /// # Errors
    /// [`BadReference`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, BadReference> {
        let mut reference = Self::parse_untagged(text)?;
        if reference.domain == DEFAULT_DOMAIN && reference.path.strip_prefix(OFFICIAL_PREFIX) == Some(ALGORITHM) {
            return Err(BadReference::Algorithm);
        }
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = Some(DEFAULT_TAG.to_owned());
        }
        Ok(reference)
    }

    /// As [`Reference::parse`], but a missing tag stays missing.
    ///
    /// # Errors
    /// As [`Reference::parse`].
    pub fn parse_untagged(text: &str) -> Result<Self, BadReference> {
        if is_hex(text, 64) {
            return Err(BadReference::LooksLikeId);
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| BadReference::Format("the digest is malformed"))?;
                (rest, Some(digest))
            }
        };
        // A colon is a tag's only behind the last slash; before it, it is a port's.
        let name_at = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest.get(name_at..).and_then(|last| last.rfind(':')) {
            None => (rest, None),
            Some(colon) => {
                let (name, tag) = rest.split_at(name_at + colon);
                (name, tag.get(1..))
            }
        };
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let (domain, path) = split_domain(name);
        check_domain(domain)?;
        check_path(&path)?;
        if domain.len() + 1 + path.len() > NAME_MAX {
            return Err(BadReference::TooLong);
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// The registry, with its port: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The path on the registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The repository in docker's short form: `debian`, `user/x`, `localhost/x`.
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            // `docker.io/library/a/b` cannot be shortened: `a/b` is another name.
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole name, nothing left out: `docker.io/library/debian:12`. [`Reference::parse`] reads it back.
    pub fn canonical(&self) -> String {
        self.with_suffix(format!("{}/{}", self.domain, self.path))
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    /// Prints the short form: `debian:12`, `localhost/x:1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.familiar_repository()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.canonical())
    }
}

impl<'de> serde::Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Reference::parse_untagged(&text).map_err(serde::de::Error::custom)
    }
}

/// Which layers of an image a word behind it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// `IMAGE`: all of them.
    All,
    /// `IMAGE@3`: the first three, counted from the lowest, as if the image ended there.
    First(usize),
    /// `IMAGE@2..@5`: from the image of two layers to that of five.
    Range(usize, usize),
}

/// Takes `@3` or `@2..@5` (also `@2..5`) off the end of a word for an image or container. A digest behind the `@` is part of the name, as it
/// holds a colon.
pub fn split_layers(word: &str) -> (&str, Layers) {
    let number = |text: &str| text.parse::<usize>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let Some((name, last)) = word.rsplit_once('@').filter(|(name, _)| !name.is_empty()) else {
        return (word, Layers::All);
    };
    if let (Some(to), Some(front)) = (number(last), name.strip_suffix(".."))
        && let Some((name, from)) = front.rsplit_once('@').filter(|(name, _)| !name.is_empty())
        && let Some(from) = number(from)
    {
        return (name, Layers::Range(from, to));
    }
    if let Some((from, to)) = last.split_once("..")
        && let (Some(from), Some(to)) = (number(from), number(to))
    {
        return (name, Layers::Range(from, to));
    }
    number(last).map_or((word, Layers::All), |count| (name, Layers::First(count)))
}

/// Whether `text` is `len` lower-case hex digits.
fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Splits off the registry: the first component is one when it has a dot, a colon or an upper-case letter, or is
/// `localhost`; otherwise it belongs to the path.
fn split_domain(name: &str) -> (&str, String) {
    let (domain, rest) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        return (domain, format!("{OFFICIAL_PREFIX}{rest}"));
    }
    (domain, rest.to_owned())
}

fn check_tag(tag: &str) -> Result<(), BadReference> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = tag.bytes();
    let first_ok = bytes.next().is_some_and(word);
    if !first_ok || tag.len() > TAG_MAX || !bytes.all(|b| word(b) || b == b'.' || b == b'-') {
        return Err(BadReference::Format("the tag is malformed"));
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), BadReference> {
    let bad = Err(BadReference::Format("the registry is malformed"));
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') => (None, port),
            _ => return bad,
        },
        None => match domain.find(':') {
            Some(colon) => {
                let (host, port) = domain.split_at(colon);
                (Some(host), port)
            }
            None => (Some(domain), ""),
        },
    };
    let port_ok = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()),
    };
    let label_ok = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if port_ok && host.is_none_or(|host| host.split('.').all(label_ok)) { Ok(()) } else { bad }
}

fn check_path(path: &str) -> Result<(), BadReference> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(BadReference::Uppercase);
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(BadReference::Format("the repository name is malformed"))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (part.bytes().next(), part.bytes().last()) else { return false };
    alnum(first)
        && alnum(last)
        && part
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        Reference::parse(text).unwrap().canonical()
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("user/x", "docker.io/user/x:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c"),
            ("localhost/x:1", "localhost/x:1"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("Host/x", "Host/x:latest"),
            ("quay.io/a/b/c:d", "quay.io/a/b/c:d"),
            ("[::1]:5000/x:y", "[::1]:5000/x:y"),
            ("a__b/c---d:e_f.g-h", "docker.io/a__b/c---d:e_f.g-h"),
        ] {
            assert_eq!(canonical(text), full);
            assert_eq!(canonical(full), full, "the canonical form reads back as itself");
        }
    }

    #[test]
    fn layers_are_taken_off_the_end() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for (word, expected) in [
            ("debian", ("debian", Layers::All)),
            ("debian:12@3", ("debian:12", Layers::First(3))),
            ("a@0", ("a", Layers::First(0))),
            ("a:1@2..@5", ("a:1", Layers::Range(2, 5))),
            ("a:1@2..5", ("a:1", Layers::Range(2, 5))),
            (&digest, (digest.as_str(), Layers::All)),
            (&format!("{digest}@7"), (&digest, Layers::First(7))),
            ("a@", ("a@", Layers::All)),
            ("@3", ("@3", Layers::All)),
            ("a@+3", ("a@+3", Layers::All)),
            ("a@3x", ("a@3x", Layers::All)),
            ("a@99999999999999999999999", ("a@99999999999999999999999", Layers::All)),
        ] {
            assert_eq!(split_layers(word), expected, "{word}");
        }
    }

    #[test]
    fn short_forms_are_kept_short() {
        for text in ["debian:12", "user/x:1", "localhost/x:1", "localhost:5000/x:1", "library/a/b:1"] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Reference::parse("docker.io/library/debian").unwrap().to_string(), "debian:latest");
    }

    #[test]
    fn digests_stand_for_the_tag() {
        let hex = "0123456789abcdef".repeat(4);
        let both = Reference::parse(&format!("a:1@sha256:{hex}")).unwrap();
        assert_eq!(both.tag(), Some("1"));
        let only = Reference::parse(&format!("a@sha256:{hex}")).unwrap();
        assert_eq!((only.tag(), only.digest().map(|d| d.hex())), (None, Some(hex.clone())));
        for bad in
            [format!("a@sha256:{}", &hex[1..]), format!("a@md5:{hex}"), format!("a@sha256:{}", hex.to_uppercase())]
        {
            assert!(Reference::parse(&bad).is_err(), "{bad}");
        }
        assert_eq!(Reference::parse(&hex), Err(BadReference::LooksLikeId));
    }

    /// An archive with such a name would give another image to who asks for an id.
    #[test]
    fn no_name_looks_like_a_digest() {
        let id = format!("sha256:{}", "ab".repeat(32));
        for text in ["sha256", "sha256:abc", &id, "docker.io/library/sha256:1", "library/sha256"] {
            assert_eq!(Reference::parse(text), Err(BadReference::Algorithm), "{text}");
        }
        for text in ["localhost/sha256:1", "me/sha256", "sha256x", "sha512:1"] {
            assert!(Reference::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        assert_eq!(Reference::parse("Debian"), Err(BadReference::Uppercase));
        let long = format!("a/{}", "b".repeat(260));
        let tag = format!("a:{}", "t".repeat(129));
        for bad in [
            "",
            ":",
            "a:",
            "@",
            "a@",
            "/",
            "a/",
            "/a",
            "a//b",
            "../a",
            "a/../b",
            "a/./b",
            "-a",
            "a-",
            "a___b",
            "a._b",
            "a..b",
            "a:b/",
            "a b",
            "a\n",
            "a\0",
            "a:-x",
            "a:.x",
            "a:ü",
            "ü",
            "x.y:port/a",
            "x.y:/a",
            "-x.y/a",
            "x..y/a",
            "[zz]/a",
            "[::1/a",
            "http://a/b",
            &long,
            &tag,
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }
}
