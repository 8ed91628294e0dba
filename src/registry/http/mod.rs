//! The HTTP client: one request at a time, blocking, with the rules that a download of hostile bytes needs.
//!
//! | rule | |
//! |---|---|
//! | schemes | `http` and `https`; from `https` no redirect leads to `http` |
//! | redirects | [`REDIRECTS_MAX`]; a user and password of an address go to its own scheme, host and port only |
//! | certificates | the system's (`SSL_CERT_FILE`, `SSL_CERT_DIR`); where there are none, Mozilla's list as built in |
//! | time | [`Times`]: connecting, the first byte, and each further one; a download may take as long as it moves |
//! | size | a header of [`HEADER_MAX`] bytes; a body that is shorter than announced is an error; what it may hold, its reader bounds |
//! | proxies | `https_proxy`, `http_proxy`, `all_proxy`, `no_proxy`, as Go reads them (`proxy.rs`) |
//!
//! Nothing that is printed or kept has a password or a query in it: signed addresses carry secrets there.

mod error;
mod proxy;
#[cfg(test)]
mod tests;
mod url;

use std::io::Read;
use std::time::Duration;

use ureq::Agent;
use ureq::http::HeaderMap;
use ureq::http::header;
use ureq::tls::Certificate;
use ureq::tls::RootCerts;
use ureq::tls::TlsConfig;

pub use error::Error;
pub use proxy::Proxies;
pub use url::Url;

/// The result of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// How many redirects are followed, as in Go's client.
pub const REDIRECTS_MAX: usize = 10;
/// The largest header of an answer, in bytes.
pub const HEADER_MAX: usize = 64 << 10;

/// How long a server may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Finding the address, connecting, and agreeing on keys.
    pub connect: Duration,
    /// From the request to the end of the answer's header.
    pub answer: Duration,
    /// From one byte to the next.
    pub stall: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { connect: Duration::from_secs(30), answer: Duration::from_secs(60), stall: Duration::from_secs(60) }
    }
}

/// A client. It keeps no cookies and no passwords.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    proxies: Proxies,
}

impl Client {
    /// A client with these proxies.
    pub fn new(proxies: Proxies, times: Times) -> Self {
        let tls = TlsConfig::builder().root_certs(roots()).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            // Each hop is judged here: see `get`.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_response_header_size(HEADER_MAX)
            // Archives are compressed themselves; a second layer around them would only hide their size.
            .accept_encoding("identity")
            .user_agent(concat!("mica/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(times.connect))
            .timeout_connect(Some(times.connect))
            .timeout_recv_response(Some(times.answer))
            .timeout_per_read(Some(times.stall))
            .timeout_per_write(Some(times.stall))
            .build();
        Self { agent: config.new_agent(), proxies }
    }

    /// Asks for what is at an address, over redirects.
    ///
    /// # Errors
    /// [`Error`] says which address and why; every answer but a success is one.
    pub fn get(&self, url: &Url) -> Result<Body> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.ask(&at)?;
            let status = answer.status();
            match status.as_u16() {
                301 | 302 | 303 | 307 | 308 => at = redirected(&at, answer.headers())?,
                200..=299 => {
                    let body = answer.into_body();
                    let length = body.content_length();
                    return Ok(Body { url: at, length, read: 0, reader: body.into_reader() });
                }
                code => {
                    let reason = status.canonical_reason().unwrap_or_default().to_owned();
                    return Err(Error::Status { url: at, code, reason });
                }
            }
        }
        Err(Error::Redirects { url: url.clone() })
    }

    fn ask(&self, url: &Url) -> Result<ureq::http::Response<ureq::Body>> {
        let proxy = self.proxies.of(url)?;
        let through = proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let mut request = self.agent.get(url.uri().clone()).config().proxy(proxy).build();
        if let Some(authorization) = url.authorization() {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.call().map_err(|e| Error::from_library(e, url, through))
    }
}

/// Where an answer sends its reader.
fn redirected(from: &Url, headers: &HeaderMap) -> Result<Url> {
    let place = headers.get(header::LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let place = place.ok_or_else(|| Error::NoLocation { url: from.clone() })?;
    let to = from.join(&place)?;
    if from.is_https() && !to.is_https() {
        return Err(Error::Downgrade { from: from.clone(), to });
    }
    Ok(to)
}

/// Whom to believe.
fn roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs();
    for e in &found.errors {
        log::warn!("certificates of the system: {e}");
    }
    if found.certs.is_empty() {
        log::info!("the system has no certificates; those built in are used");
        return RootCerts::WebPki;
    }
    found.certs.iter().map(|cert| Certificate::from_der(cert.as_ref()).to_owned()).collect::<Vec<_>>().into()
}

/// What a server sends.
pub struct Body {
    url: Url,
    length: Option<u64>,
    read: u64,
    reader: ureq::BodyReader<'static>,
}

impl Body {
    /// Where it comes from, after redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// How many bytes the server announced.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Reads what is there; 0 at the end.
    ///
    /// # Errors
    /// [`Error::BrokenOff`] when the server stops sending before that.
    pub fn read_some(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match self.reader.read(buf) {
                Ok(n) => {
                    self.read += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::broken_off(e, &self.url, self.read, self.length)),
            }
        }
    }
}

impl Read for Body {
    /// # Errors
    /// With an [`Error`] inside, when the server stops sending before the end.
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.read_some(buf).map_err(std::io::Error::other)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("url", &self.url).field("length", &self.length).finish_non_exhaustive()
    }
}
