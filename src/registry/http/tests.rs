use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use super::*;

/// A server of this test's own: each connection is given to `answer` with the request's header, which it keeps.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let header = read_header(&stream);
                seen.lock().unwrap().push(header.clone());
                answer(&header, &mut stream);
            }
        });
        Self { port, requests }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_header(stream: &TcpStream) -> String {
    let mut text = String::new();
    let mut reader = BufReader::new(stream);
    while reader.read_line(&mut text).is_ok_and(|n| n > 2) {}
    text
}

fn say(stream: &mut TcpStream, text: &str) {
    // The client may have gone.
    let _ = stream.write_all(text.as_bytes());
}

/// A server that sends these bytes whatever it is asked.
fn always(text: &'static str) -> Server {
    Server::start(move |_, stream| say(stream, text))
}

fn client() -> Client {
    let short = Duration::from_millis(300);
    Client::new(Proxies::default(), Times { connect: short * 10, answer: short, stall: short })
}

fn fetched(url: &Url) -> std::result::Result<Vec<u8>, String> {
    let mut body = client().get(url).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

#[test]
fn a_body_comes_with_its_length_or_without() {
    let counted = always("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let body = client().get(&counted.url("/x")).unwrap();
    assert_eq!((body.length(), body.url().file_name()), (Some(5), "x"));
    assert_eq!(fetched(&counted.url("/x")).unwrap(), b"hello");
    let request = counted.requests().remove(0);
    assert!(
        request.starts_with("GET /x HTTP/1.1\r\n") && request.to_lowercase().contains("user-agent: mica/"),
        "{request}"
    );
    assert!(!request.to_lowercase().contains("gzip"), "{request}");
    let chunked = always("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
    assert_eq!(fetched(&chunked.url("/")).unwrap(), b"hello");
    let closed = always("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
    assert_eq!(fetched(&closed.url("/")).unwrap(), b"hello");
}

#[test]
fn a_body_that_ends_too_soon_is_an_error_that_says_where() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello",
    ] {
        let server = always(answer);
        let e = fetched(&server.url("/a.tar")).unwrap_err();
        assert!(e.contains("/a.tar: broken off after 5 "), "{answer:?}: {e}");
    }
}

#[test]
fn a_server_that_stops_sending_is_given_up() {
    let hold = |before: &'static str| {
        Server::start(move |_, stream| {
            say(stream, before);
            // Until the client goes.
            let _ = stream.read(&mut [0]);
        })
    };
    let e = fetched(&hold("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello").url("/")).unwrap_err();
    assert!(e.contains("broken off after 5 of 500 bytes: the server sends no more"), "{e}");
    let e = fetched(&hold("").url("/")).unwrap_err();
    assert!(e.contains("the server does not answer"), "{e}");
    let e = fetched(&hold("HTTP/1.1 200 OK\r\nX: ").url("/")).unwrap_err();
    assert!(e.contains("the server does not answer"), "{e}");
}

#[test]
fn answers_that_are_no_success_are_errors() {
    let missing = always("HTTP/1.1 404 Nope\r\nContent-Length: 4\r\n\r\nnope");
    let e = fetched(&missing.url("/a?token=secret")).unwrap_err();
    assert!(e.ends_with("/a?...: the server answers 404 Not Found"), "{e}");
    for (answer, why) in [
        ("SSH-2.0-OpenSSH_9\r\n\r\n", "no HTTP"),
        ("", "cannot connect: the server closed the connection"),
        ("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "redirects without saying where"),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", "304"),
    ] {
        let e = fetched(&always(answer).url("/")).unwrap_err();
        assert!(e.contains(why), "{answer:?}: {e}");
    }
    let huge = Server::start(|_, stream| {
        say(stream, "HTTP/1.1 200 OK\r\n");
        for n in 0..20_000 {
            say(stream, &format!("X-{n}: {n}\r\n"));
        }
        say(stream, "\r\n");
    });
    assert!(fetched(&huge.url("/")).is_err(), "a header without end");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let e = fetched(&Url::parse(&format!("http://127.0.0.1:{nobody}/")).unwrap()).unwrap_err();
    assert!(e.ends_with("cannot connect: connection refused"), "{e}");
}

#[test]
fn redirects_are_followed_to_an_end() {
    let server = Server::start(|header, stream| {
        let path = header.split(' ').nth(1).unwrap_or_default();
        let to = match path {
            "/a/start" => "../b/next?x=1",
            "/b/next?x=1" => "last#part",
            "/b/last" => return say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            "/loop" => "/loop",
            "/file" => "file:///etc/passwd",
            _ => return say(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        };
        say(stream, &format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    });
    assert_eq!(fetched(&server.url("/a/start")).unwrap(), b"ok");
    let e = fetched(&server.url("/loop")).unwrap_err();
    assert!(e.ends_with("/loop: redirected more than 10 times"), "{e}");
    assert_eq!(server.requests().iter().filter(|r| r.starts_with("GET /loop ")).count(), REDIRECTS_MAX + 1);
    let e = fetched(&server.url("/file")).unwrap_err();
    assert!(e.contains("/file: the server redirects to file:///etc/passwd: only http"), "{e}");
}

#[test]
fn a_password_goes_to_its_own_server_only() {
    let other = always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let port = other.port;
    let server = Server::start(move |header, stream| {
        let to = if header.starts_with("GET /1 ") { "/2".to_owned() } else { format!("http://127.0.0.1:{port}/3") };
        say(stream, &format!("HTTP/1.1 307 Go\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    });
    let url = Url::parse(&format!("http://al%69ce:s%3Acret@127.0.0.1:{}/1", server.port)).unwrap();
    assert_eq!(fetched(&url).unwrap(), b"ok");
    assert!(!url.to_string().contains("cret") && !format!("{url:?}").contains("cret"), "{url}");
    let with = |requests: Vec<String>| {
        requests.iter().map(|r| r.to_lowercase().contains("authorization:")).collect::<Vec<_>>()
    };
    assert!(server.requests().iter().all(|r| r.contains("Basic YWxpY2U6czpjcmV0")), "{:?}", server.requests());
    assert_eq!((with(server.requests()), with(other.requests())), (vec![true, true], vec![false]));
}

#[test]
fn from_tls_no_redirect_leads_out_of_it() {
    let from = Url::parse("https://h/x").unwrap();
    let to = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, text.parse().unwrap());
        redirected(&from, &headers).map(|url| url.to_string()).map_err(|e| e.to_string())
    };
    assert_eq!(to("https://other/y"), Ok("https://other/y".to_owned()));
    assert_eq!(to("/z"), Ok("https://h/z".to_owned()));
    assert_eq!(to("http://h/y"), Err("https://h/x: redirected to http://h/y, which is not encrypted".to_owned()));
}

#[test]
fn a_server_that_is_not_trusted_is_refused() {
    // No TLS at all behind the port; what a self-signed certificate gives is in tests/cli.
    let plain = always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let e = fetched(&Url::parse(&format!("https://127.0.0.1:{}/", plain.port)).unwrap()).unwrap_err();
    assert!(e.contains("no secure connection") || e.contains("cannot connect"), "{e}");
}

#[test]
fn addresses_are_read_strictly() {
    for (text, shown) in [
        ("http://h", "http://h/"),
        ("HTTPS://User:pw@H:8443/a/b.tar?sig=1#f", "https://H:8443/a/b.tar?..."),
        ("http://[::1]:5/x", "http://[::1]:5/x"),
        ("http://h?q", "http://h/?..."),
        ("http://a:b@c@h/", "http://h/"),
    ] {
        assert_eq!(Url::parse(text).map(|url| url.to_string()).unwrap(), shown, "{text}");
    }
    for text in
        ["http://", "http:///x", "ftp://h/x", "h/x", "http://h/a b", "http://h/\n", "http://h:99999/", "file:///x"]
    {
        let e = Url::parse(text).map_err(|e| e.to_string());
        assert!(e.is_err(), "{text:?}: {e:?}");
    }
    let e = Url::parse("ftp://me:pw@h/x?sig=abc").unwrap_err().to_string();
    assert_eq!(e, "ftp://h/x: only http:// and https:// can be fetched");
    // A slash in the password makes it no address, and is no reason to print it.
    let e = Url::parse("https://bob:pa/ss@h/x").unwrap_err().to_string();
    assert!(e.starts_with("https://h/x: ") && !e.contains("pa"), "{e}");
    assert!(Url::is_meant("HTTP://x") && !Url::is_meant("x.tar") && !Url::is_meant("dir/http://x"));
}

#[test]
fn references_are_joined_as_the_standard_has_it() {
    let base = Url::parse("http://a/b/c/d?q").unwrap();
    // RFC 3986, 5.4, without what other schemes and fragments are for.
    for (reference, expected) in [
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g/"),
        ("", "http://a/b/c/d?..."),
        (".", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../..", "http://a/"),
        ("../../../g", "http://a/g"),
        ("g;x=1/../y", "http://a/b/c/y"),
        ("https://x/y:z", "https://x/y:z"),
        ("g?y/./x", "http://a/b/c/g?..."),
        ("/p:q", "http://a/p:q"),
    ] {
        assert_eq!(base.join(reference).map(|url| url.to_string()).unwrap(), expected, "{reference}");
    }
    assert!(base.join("javascript:x").is_err() && base.join("file:///x").is_err());
}

#[test]
fn proxies_are_chosen_as_in_go() {
    let chosen = |vars: &[(&str, &str)], url: &str| {
        let find = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let proxy = Proxies::from(&find).of(&Url::parse(url).unwrap());
        proxy.map(|proxy| proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))).map_err(|e| e.to_string())
    };
    let named = |text: &str| Ok(Some(text.to_owned()));
    assert_eq!(chosen(&[], "http://x/"), Ok(None));
    assert_eq!(chosen(&[("http_proxy", "http://p:1")], "http://x/"), named("p:1"));
    assert_eq!(chosen(&[("http_proxy", "http://p:1")], "https://x/"), Ok(None));
    assert_eq!(chosen(&[("HTTPS_PROXY", "p:2")], "https://x/"), named("p:2"));
    assert_eq!(chosen(&[("HTTP_PROXY", "p:2"), ("REQUEST_METHOD", "GET")], "http://x/"), Ok(None));
    assert_eq!(chosen(&[("all_proxy", "socks5://p:3")], "https://x/"), named("p:3"));
    let wrong = chosen(&[("https_proxy", "gopher://me:secret@p")], "https://x/").unwrap_err();
    assert!(wrong.contains("https_proxy") && !wrong.contains("secret"), "{wrong}");
    for (list, url, direct) in [
        ("*", "http://x/", true),
        ("x.org", "http://x.org/", true),
        ("x.org", "http://a.x.org/", true),
        ("x.org", "http://ax.org/", false),
        (".x.org", "http://x.org/", false),
        (".x.org", "http://a.X.org/", true),
        ("*.x.org", "http://a.x.org/", true),
        ("x.org:81", "http://x.org/", false),
        ("x.org:81", "http://x.org:81/", true),
        ("a, 10.0.0.0/8", "http://10.1.2.3/", true),
        ("10.0.0.0/8", "http://11.1.2.3/", false),
        ("10.0.0.7", "http://10.0.0.7:99/", true),
        ("2001:db8::/32", "http://[2001:db8::5]/", true),
        ("0.0.0.0/0", "http://9.9.9.9/", true),
        ("0.0.0.0/33", "http://9.9.9.9/", false),
        ("", "http://127.0.0.1:5/", true),
        ("", "http://localhost/", true),
        ("", "http://[::1]/", true),
    ] {
        let found = chosen(&[("http_proxy", "p:1"), ("no_proxy", list)], url).unwrap();
        assert_eq!(found.is_none(), direct, "{list:?} {url}");
    }
}

#[test]
fn a_proxy_is_asked_to_connect() {
    let proxy = Server::start(|header, stream| {
        if header.starts_with("CONNECT h.test:80 ") {
            say(stream, "HTTP/1.1 200 OK\r\n\r\n");
            read_header(stream);
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        } else {
            say(stream, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let text = format!("http://me:pw@127.0.0.1:{}", proxy.port);
    let proxies = Proxies::from(&|name| (name == "http_proxy").then(|| text.clone()));
    let client = Client::new(proxies, Times::default());
    let mut out = String::new();
    client.get(&Url::parse("http://h.test/x").unwrap()).unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "ok");
    let e = client.get(&Url::parse("http://other.test/x").unwrap()).unwrap_err().to_string();
    assert!(e.contains("through the proxy 127.0.0.1") && !e.contains("pw"), "{e}");
    assert!(
        proxy.requests()[0].to_lowercase().contains("proxy-authorization: basic bwu6chc="),
        "{:?}",
        proxy.requests()
    );
}
