//! What secrets and caches look like: names and first bytes. Pure.

use crate::path::Name;
use crate::path::RelPath;

/// The largest file that can be a secret, in bytes.
pub(super) const SECRET_FILE_MAX: u64 = 1 << 20;

/// What a name says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    /// What it would be.
    pub what: &'static str,
    /// Whether the name alone says enough; otherwise the content must.
    pub sure: bool,
}

const fn sure(what: &'static str) -> Option<Named> {
    Some(Named { what, sure: true })
}

const fn maybe(what: &'static str) -> Option<Named> {
    Some(Named { what, sure: false })
}

/// The kind of secret that a file of this name usually is.
pub(super) fn secret_name(path: &RelPath) -> Option<Named> {
    let mut names = path.components().rev().map(Name::as_bytes);
    let (last, dir) = (names.next()?, names.next().unwrap_or_default());
    let ends = |suffix: &[u8]| last.ends_with(suffix);
    match (dir, last) {
        (b".docker", b"config.json") | (_, b".dockercfg" | b".dockerconfigjson") => sure("a registry login"),
        (b".aws", b"credentials") => sure("AWS credentials"),
        (b".kube", b"config") => sure("a Kubernetes login"),
        (b"gcloud", b"credentials.db" | b"application_default_credentials.json") => sure("Google Cloud credentials"),
        (b".azure", b"accessTokens.json" | b"msal_token_cache.json") => sure("Azure credentials"),
        (b".gem" | b".cargo", b"credentials" | b"credentials.toml") => sure("a package registry's token"),
        (_, b".npmrc" | b".yarnrc.yml" | b".pypirc" | b"pip.conf" | b"nuget.config") => {
            maybe("a package registry's token")
        }
        (_, b".netrc" | b"_netrc" | b".git-credentials") => sure("a login"),
        (_, b".pgpass" | b".my.cnf" | b".mylogin.cnf") => sure("a database password"),
        (_, b".htpasswd" | b".vault-token" | b".terraformrc") => sure("a password or token"),
        (b".ssh", b"id_rsa" | b"id_dsa" | b"id_ecdsa" | b"id_ed25519") => sure("a private SSH key"),
        (_, b"id_rsa" | b"id_dsa" | b"id_ecdsa" | b"id_ed25519") => maybe("a private SSH key"),
        (_, b".bash_history" | b".zsh_history" | b".ash_history" | b".psql_history" | b".mysql_history") => {
            sure("a history of commands")
        }
        (_, b".env") => sure("a file of environment variables"),
        _ if last.starts_with(b".env.") && !ends(b".example") && !ends(b".sample") => {
            sure("a file of environment variables")
        }
        _ if last.starts_with(b"ssh_host_") && ends(b"_key") => sure("a private key of an SSH server"),
        _ if ends(b".pem") || ends(b".key") || ends(b".p8") => maybe("a private key"),
        _ if ends(b".p12") || ends(b".pfx") || ends(b".jks") || ends(b".kdbx") => sure("a key store"),
        _ if ends(b".tfstate") => sure("a Terraform state"),
        _ => None,
    }
}

/// The kind of secret that a file begins with.
pub(super) fn secret_content(head: &[u8]) -> Option<&'static str> {
    let has = |needle: &[u8]| head.windows(needle.len()).any(|window| window == needle);
    let begins_key = has(b"-----BEGIN ") && has(b"PRIVATE KEY");
    match () {
        () if begins_key => Some("a private key"),
        () if has(b"PuTTY-User-Key-File-") => Some("a private SSH key"),
        () if has(b"AGE-SECRET-KEY-1") => Some("a private key"),
        () if has(b"aws_secret_access_key") => Some("AWS credentials"),
        () if has(b"\"type\": \"service_account\"") => Some("Google Cloud credentials"),
        () if has(b"_authToken=") || has(b"//registry.npmjs.org/:_auth") => Some("an npm token"),
        () if has(b"ghp_") || has(b"github_pat_") => Some("a GitHub token").filter(|_| token_follows(head)),
        () if has(b"glpat-") => Some("a GitLab token"),
        () if has(b"[pypi]") && has(b"password") => Some("a PyPI login"),
        () => None,
    }
}

/// Whether a GitHub token's prefix is followed by enough letters to be one.
fn token_follows(head: &[u8]) -> bool {
    [&b"ghp_"[..], b"github_pat_"].iter().any(|prefix| {
        let mut at = head.windows(prefix.len()).enumerate().filter(|(_, w)| w == prefix).map(|(i, _)| i + prefix.len());
        at.any(|i| head.get(i..i + 30).is_some_and(|rest| rest.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')))
    })
}

/// The cache of some tool that a file is part of, and its directory.
pub(super) fn cache(path: &RelPath) -> Option<(&'static str, RelPath)> {
    const FIXED: [(&[u8], &str); 7] = [
        (b"var/lib/apt/lists", "the package lists of apt"),
        (b"var/cache/apt", "the package cache of apt"),
        (b"var/cache/apk", "the package cache of apk"),
        (b"var/cache/yum", "the package cache of yum"),
        (b"var/cache/dnf", "the package cache of dnf"),
        (b"var/cache/zypp", "the package cache of zypper"),
        (b"var/cache/pacman/pkg", "the package cache of pacman"),
    ];
    const HOME: [(&[u8], &str); 8] = [
        (b".cache/pip", "the cache of pip"),
        (b".cache/uv", "the cache of uv"),
        (b".cache/yarn", "the cache of yarn"),
        (b".cache/go-build", "the build cache of Go"),
        (b".npm/_cacache", "the cache of npm"),
        (b".cargo/registry", "the registry cache of cargo"),
        (b".gradle/caches", "the cache of gradle"),
        (b".m2/repository", "the repository of maven"),
    ];
    let bytes = path.to_bytes();
    let inside = |dir: &[u8]| bytes.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"));
    if let Some((dir, what)) = FIXED.iter().find(|(dir, _)| inside(dir)) {
        return Some((what, RelPath::parse(dir).ok()?));
    }
    for (dir, what) in HOME {
        let middle = [b"/", dir, b"/"].concat();
        let slashed = [b"/", bytes.as_slice()].concat();
        if let Some(at) = slashed.windows(middle.len()).position(|window| window == middle) {
            return Some((what, RelPath::parse(slashed.get(..at + middle.len())?).ok()?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn secrets_are_known_by_name() {
        for name in ["root/.docker/config.json", "app/.env", "app/.env.production", "x/server.p12", "root/.ssh/id_rsa"]
        {
            assert!(secret_name(&path(name)).is_some_and(|named| named.sure), "{name}");
        }
        for name in ["a/id_rsa", "etc/ssl/x.pem", "root/.npmrc"] {
            assert!(secret_name(&path(name)).is_some_and(|named| !named.sure), "{name}");
        }
        for name in ["app/.env.example", "etc/passwd", "usr/share/config.json", "id_rsa.pub"] {
            assert_eq!(secret_name(&path(name)), None, "{name}");
        }
    }

    #[test]
    fn secrets_are_known_by_content() {
        assert_eq!(secret_content(b"-----BEGIN OPENSSH PRIVATE KEY-----\n"), Some("a private key"));
        assert_eq!(secret_content(b"-----BEGIN CERTIFICATE-----\n"), None);
        assert_eq!(secret_content(b"talks of ghp_ tokens"), None);
        assert!(secret_content(b"token ghp_0123456789012345678901234567890123456789").is_some());
        assert_eq!(secret_content(b""), None);
    }

    #[test]
    fn caches_are_known_by_their_directory() {
        let cache = |text| cache(&path(text)).map(|(_, dir)| dir.to_string());
        assert_eq!(cache("var/lib/apt/lists/x_Packages").as_deref(), Some("/var/lib/apt/lists"));
        assert_eq!(cache("root/.cache/pip/http/a/b").as_deref(), Some("/root/.cache/pip"));
        assert_eq!(cache("home/u/.npm/_cacache/x").as_deref(), Some("/home/u/.npm/_cacache"));
        assert_eq!(cache("var/lib/apt/lists"), None);
        assert_eq!(cache("var/lib/apt/listsx/y"), None);
    }
}
