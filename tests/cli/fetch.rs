//! `mica import URL` and `mica load -i URL`, from real servers on this machine; the client's own rules are tested beside it
//! (`src/registry/http/tests.rs`).

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::area::Area;
use crate::area::finish;
use crate::area::until;
use crate::support::require_fixture;
use crate::support::skip;

/// What the server does with a request for a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Whole,
    /// Announces all and sends half.
    Half,
    /// Sends it in chunks, without a length.
    Chunked,
}

/// Serves files by HTTP; `/half/x` and `/chunked/x` are ways to send `x`, `/to/x` redirects to it. The port.
fn serve(dir: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client may go at any time.
            let _ = answer(&dir, stream);
        }
    });
    port
}

fn answer(dir: &Path, mut stream: TcpStream) -> std::io::Result<()> {
    let mut header = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut header)? > 2 {}
    let path = header.split(' ').nth(1).unwrap_or_default();
    if let Some(name) = path.strip_prefix("/to/") {
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: /{name}?sig=secret\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let path = path.split('?').next().unwrap_or_default();
    let (how, name) = match path.trim_start_matches('/').split_once('/') {
        Some(("half", name)) => (How::Half, name),
        Some(("chunked", name)) => (How::Chunked, name),
        _ => (How::Whole, path.trim_start_matches('/')),
    };
    let Ok(bytes) = fs::read(dir.join(name)) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    if how == How::Chunked {
        write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
        for chunk in bytes.chunks(100_000) {
            write!(stream, "{:x}\r\n", chunk.len())?;
            stream.write_all(chunk)?;
            write!(stream, "\r\n")?;
        }
        return write!(stream, "0\r\n\r\n");
    }
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())?;
    let end = if how == How::Half { bytes.len() / 2 } else { bytes.len() };
    stream.write_all(&bytes[..end])
}

#[test]
fn a_root_filesystem_is_imported_from_an_address() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("fetch");
    let port = serve(fixture.file("rootfs.tar").parent().unwrap().to_owned());
    let url = |path: &str| format!("http://user:pass@127.0.0.1:{port}/{path}");
    let local = area.ok(["import".as_ref(), fixture.file("rootfs.tar").as_os_str(), "local:1".as_ref()]);
    let layers = |name: &str| area.ok(["inspect", "-f", "{{json .RootFS.Layers}}", name]);
    for (path, name) in
        [("busybox.rootfs.tar", "a:1"), ("chunked/busybox.rootfs.tar", "b:1"), ("to/busybox.rootfs.tar", "c:1")]
    {
        let id = area.ok(["import", &url(path), name]);
        assert!(id.starts_with("sha256:") && id != local, "{id}");
        assert_eq!(layers(name), layers("local:1"), "{path}");
        let comment = area.ok(["inspect", "-f", "{{.Comment}}", name]);
        assert_eq!(comment.trim_end(), format!("Imported from http://127.0.0.1:{port}/{path}"), "no password in it");
    }
    // An archive, too; here as podman has it.
    let said = area.ok(["load", "-i", &url("busybox.docker.tar.gz")]);
    assert_eq!(said.trim_end(), format!("Loaded image: {}", fixture.image()));
    let before = area.store_files();
    for (words, why) in [
        (&["import", &url("nosuch.tar")][..], "the server answers 404 Not Found"),
        (&["import", &url("to/nosuch.tar")], "/nosuch.tar?...: the server answers 404 Not Found"),
        (&["import", &url("half/debian.rootfs.tar")], "broken off after "),
        (&["import", "--limit", "tar-size=1m", &url("busybox.rootfs.tar")], "more than the limit tar-size=1048576"),
        (&["import", &format!("https://127.0.0.1:{port}/x")], "https://127.0.0.1:"),
        (&["import", &url(""), "Upper"], "Upper"),
        (&["import", "http://127.0.0.1:1/x"], "connection refused"),
    ] {
        let said = area.said(words);
        assert_eq!(said.code(), 1, "{words:?}: {said:?}");
        assert!(said.err.contains(why), "{words:?}: {}", said.err);
        assert!(!said.err.contains("pass@") && !said.err.contains("secret"), "{}", said.err);
        assert_eq!(area.store_files(), before, "{words:?}: nothing is left");
    }
    let said = area.fails(["load", "-i", &url("half/busybox.docker.tar")], 1);
    assert!(said.contains("broken off after ") && said.contains("hint: nothing was kept; try again"), "{said}");
}

/// A server with TLS, which ends with the test.
struct Tls(Child);

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_authority_that_is_not_known_is_refused_and_one_that_is_named_believed() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("tls");
    let openssl = |words: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(words).current_dir(area.join("")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    fs::create_dir_all(area.join("")).unwrap();
    let made = openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-days",
        "2",
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    let mut made = made;
    if !made.status().is_ok_and(|status| status.success()) {
        skip!("openssl makes no certificates here");
    }
    fs::copy(fixture.file("rootfs.tar"), area.join("r.tar")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let words = ["s_server", "-accept", &address, "-key", "key.pem", "-cert", "cert.pem", "-WWW", "-quiet"];
    let _server = Tls(openssl(&words).spawn().unwrap());
    until("the server with TLS listens", || TcpStream::connect(&address).is_ok());
    let url = format!("https://127.0.0.1:{port}/r.tar");
    let said = area.fails(["import", &url, "tls:1"], 1);
    assert!(said.contains("no secure connection: ") && said.contains("SSL_CERT_FILE"), "{said}");
    let said = finish(area.mica(["import", &url, "tls:1"]).env("SSL_CERT_FILE", area.join("cert.pem")));
    assert_eq!(said.code(), 0, "{said:?}");
}
