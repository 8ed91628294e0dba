//! What can go wrong between here and a server, in the user's words.

use std::io::ErrorKind;

use super::REDIRECTS_MAX;
use super::Url;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text is no address that can be asked.
    #[error("{text}: {why}")]
    BadUrl {
        /// The text, without password and query.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The server answered, but not with what was asked for.
    #[error("{url}: the server answers {code} {reason}")]
    Status {
        /// The address, after redirects.
        url: Url,
        /// The status of the answer.
        code: u16,
        /// What that means.
        reason: String,
    },
    /// There is no end of redirects.
    #[error("{url}: redirected more than {REDIRECTS_MAX} times")]
    Redirects {
        /// The first address.
        url: Url,
    },
    /// A redirect without an address.
    #[error("{url}: the server redirects without saying where to")]
    NoLocation {
        /// Who redirects.
        url: Url,
    },
    /// A redirect to what cannot be asked.
    #[error("{url}: the server redirects to {source}")]
    BadRedirect {
        /// Who redirects.
        url: Url,
        /// What is wrong with the new address.
        source: Box<Error>,
    },
    /// A redirect out of TLS.
    #[error("{from}: redirected to {to}, which is not encrypted")]
    Downgrade {
        /// Who redirects.
        from: Url,
        /// Where to.
        to: Url,
    },
    /// A variable names no proxy.
    #[error("{variable} names no proxy: {why}")]
    BadProxy {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The host's name has no address.
    #[error("{url}: the host {host} is not known")]
    UnknownHost {
        /// The address.
        url: Url,
        /// Its host.
        host: String,
    },
    /// There is no connection.
    #[error("{url}: cannot connect{}: {why}", through(.proxy))]
    Connect {
        /// The address.
        url: Url,
        /// The proxy that was to make the connection.
        proxy: Option<String>,
        /// Why.
        why: String,
    },
    /// The other side cannot prove who it is, or the encryption fails.
    #[error("{url}: no secure connection: {why}")]
    Tls {
        /// The address.
        url: Url,
        /// Why.
        why: String,
    },
    /// The server takes too long.
    #[error("{url}: the server does not answer ({phase} took too long)")]
    Timeout {
        /// The address.
        url: Url,
        /// What took too long.
        phase: &'static str,
    },
    /// The server does not speak HTTP.
    #[error("{url}: the answer is no HTTP: {why}")]
    Protocol {
        /// The address.
        url: Url,
        /// Why.
        why: String,
    },
    /// The server stopped in the middle.
    #[error("{url}: broken off after {read} {}: {why}", of(.length))]
    BrokenOff {
        /// The address.
        url: Url,
        /// How many bytes came.
        read: u64,
        /// How many were announced.
        length: Option<u64>,
        /// Why.
        why: String,
    },
}

fn through(proxy: &Option<String>) -> String {
    proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default()
}

fn of(length: &Option<u64>) -> String {
    length.map_or_else(|| "bytes".to_owned(), |length| format!("of {length} bytes"))
}

impl Error {
    /// What the library says of a request.
    pub(super) fn from_library(e: ureq::Error, url: &Url, proxy: Option<String>) -> Self {
        let url = url.clone();
        match e {
            ureq::Error::HostNotFound => Self::UnknownHost { host: url.host().to_owned(), url },
            ureq::Error::Timeout(timeout) => Self::Timeout { url, phase: phase(timeout) },
            ureq::Error::Tls(why) => Self::Tls { url, why: why.to_owned() },
            ureq::Error::Rustls(e) => Self::Tls { url, why: e.to_string() },
            ureq::Error::Io(e) if is_tls(&e) => Self::Tls { url, why: e.to_string() },
            ureq::Error::Io(e) => Self::Connect { url, proxy, why: reason(&e) },
            ureq::Error::ConnectProxyFailed(why) => Self::Connect { url, proxy, why },
            ureq::Error::ConnectionFailed => Self::Connect { url, proxy, why: "no reason is known".to_owned() },
            other => Self::Protocol { url, why: other.to_string() },
        }
    }

    /// What ended a body before its end.
    pub(super) fn broken_off(e: std::io::Error, url: &Url, read: u64, length: Option<u64>) -> Self {
        let library = e.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
        let why = match library {
            Some(ureq::Error::Timeout(_)) => "the server sends no more".to_owned(),
            Some(other) => other.to_string(),
            None => reason(&e),
        };
        Self::BrokenOff { url: url.clone(), read, length, why }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Status { code: 401 | 403, .. } => {
                Some("it wants a password: https://USER:PASSWORD@HOST/... or curl ... | mica import -")
            }
            Self::Status { code: 404 | 410, .. } | Self::UnknownHost { .. } => Some("is the address right?"),
            Self::Status { code: 407, .. } => {
                Some("the proxy wants a password: https_proxy=http://USER:PASSWORD@HOST:PORT")
            }
            Self::Tls { .. } => {
                Some("is the certificate's authority known here? SSL_CERT_FILE names a file of more of them")
            }
            Self::Connect { proxy: Some(_), .. } => {
                Some("the proxy comes from https_proxy, http_proxy or all_proxy; no_proxy lists exceptions")
            }
            Self::Downgrade { .. } => Some("give the last address yourself if that is what you want"),
            Self::BrokenOff { .. } | Self::Timeout { .. } => Some("nothing was kept; try again"),
            _ => None,
        }
    }
}

fn phase(timeout: ureq::Timeout) -> &'static str {
    match timeout {
        ureq::Timeout::Resolve => "finding the host",
        ureq::Timeout::Connect => "connecting",
        _ => "the answer",
    }
}

fn is_tls(e: &std::io::Error) -> bool {
    e.kind() == ErrorKind::InvalidData
}

/// An error of the system without its number in brackets.
fn reason(e: &std::io::Error) -> String {
    match e.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        ErrorKind::ConnectionReset => "the server reset the connection".to_owned(),
        _ => e.to_string(),
    }
}
