//! Which proxy an address is asked through, by the environment, as Go's client reads it, and so docker's.
//!
//! `https_proxy` and `http_proxy`, each also in capitals, are for addresses of that scheme, `all_proxy` is for both. `HTTP_PROXY` does not count
//! where `REQUEST_METHOD` is set: there it is a header that some client of a CGI program sent. `no_proxy` lists exceptions: `*`, hosts (with
//! all below them; with a leading dot only those), addresses and networks (`10.0.0.0/8`), each perhaps with a port. This machine
//! itself is never asked through a proxy. Proxies are asked by CONNECT, for `http` addresses, too; SOCKS proxies are known.

use std::net::IpAddr;

use ureq::Proxy;

use super::Error;
use super::Result;
use super::Url;
use crate::env;

/// A proxy, and the variable that named it.
type Named = Option<(&'static str, String)>;

/// The proxies of the environment.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Named,
    https: Named,
    except: Vec<String>,
}

impl Proxies {
    /// What the environment says.
    pub fn from_env() -> Self {
        Self::from(&|name| env::var(name).and_then(|value| value.into_string().ok()))
    }

    /// What variables say.
    pub(super) fn from(var: &dyn Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| names.iter().find_map(|name| Some((*name, var(name)?)));
        let all = ["all_proxy", "ALL_PROXY"];
        let http: &[&'static str] =
            if var("REQUEST_METHOD").is_some() { &["http_proxy"] } else { &["http_proxy", "HTTP_PROXY"] };
        let except = first(&["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default();
        Self {
            http: first(http).or_else(|| first(&all)),
            https: first(&["https_proxy", "HTTPS_PROXY"]).or_else(|| first(&all)),
            except: except
                .split([',', ' '])
                .map(|word| word.trim().to_ascii_lowercase())
                .filter(|w| !w.is_empty())
                .collect(),
        }
    }

    /// The proxy for an address.
    ///
    /// # Errors
    /// [`Error::BadProxy`].
    pub(super) fn of(&self, url: &Url) -> Result<Option<Proxy>> {
        let Some((variable, text)) = (if url.is_https() { &self.https } else { &self.http }) else { return Ok(None) };
        if self.is_excepted(url) {
            return Ok(None);
        }
        // The text may hold a password, so it is not shown.
        let bad = |_| Error::BadProxy { variable, why: "write http://HOST:PORT or socks5://HOST:PORT".to_owned() };
        Proxy::new(text).map(Some).map_err(bad)
    }

    fn is_excepted(&self, url: &Url) -> bool {
        let host = url.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let host = host.trim_end_matches('.');
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.except.iter().any(|word| {
            let (word, port) = with_port(word);
            port.is_none_or(|port| port == url.port()) && means(word, host, address)
        })
    }
}

/// What `no_proxy` says of a host; a port counts only behind what is no IPv6 address.
fn with_port(word: &str) -> (&str, Option<u16>) {
    match word.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (word, None),
        },
        _ => (word, None),
    }
}

fn means(word: &str, host: &str, address: Option<IpAddr>) -> bool {
    let word = word.trim_start_matches('[').trim_end_matches(']');
    if word == "*" || word == host {
        return true;
    }
    if let Some(address) = address {
        return word.parse::<IpAddr>() == Ok(address) || network(word).is_some_and(|net| net.holds(address));
    }
    let word = word.strip_prefix('*').unwrap_or(word);
    let below = |suffix: &str| host.strip_suffix(suffix).is_some_and(|front| front.ends_with('.') && front.len() > 1);
    match word.strip_prefix('.') {
        Some(domain) => below(domain),
        None => below(word),
    }
}

/// `10.0.0.0/8`.
struct Network {
    bits: u128,
    mask: u128,
    is_v4: bool,
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn network(word: &str) -> Option<Network> {
    let (address, length) = word.split_once('/')?;
    let (address, length): (IpAddr, u32) = (address.parse().ok()?, length.parse().ok()?);
    let most = if address.is_ipv4() { 32 } else { 128 };
    let mask = (length <= most).then(|| u128::MAX.checked_shl(128 - length).unwrap_or(0))?;
    Some(Network { bits: bits(address) & mask, mask, is_v4: address.is_ipv4() })
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        self.is_v4 == address.is_ipv4() && bits(address) & self.mask == self.bits
    }
}

impl std::fmt::Debug for Proxies {
    /// Without the values, which may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |named: &Named| named.as_ref().map(|(name, _)| *name);
        f.debug_struct("Proxies")
            .field("http", &name(&self.http))
            .field("https", &name(&self.https))
            .finish_non_exhaustive()
    }
}
