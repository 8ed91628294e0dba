//! A real browser, driven over its own pipe (the DevTools protocol), to look at a page as a person would.
//!
//! Chromium reads requests from descriptor 3 and writes answers and events to 4, each a JSON object with a NUL behind it. A
//! shell puts our pipes there, so no port is opened. A browser that hangs ends after two minutes, and the test fails.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;

/// What was seen of one page.
#[derive(Debug)]
pub struct Seen {
    /// Errors and warnings of the console, of the policy, and of scripts.
    pub complaints: Vec<String>,
    /// What was asked for beside the page itself.
    pub requests: Vec<String>,
    /// What the probe returned.
    pub found: Value,
}

/// A running browser; it ends with this.
pub struct Browser {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    number: u64,
    events: Vec<Value>,
}

impl Browser {
    /// Starts chromium with its profile in `profile`.
    ///
    /// # Errors
    /// As text for a skip when there is none.
    pub fn start(profile: &Path) -> Result<Self, String> {
        let program = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
        let program = program.iter().find(|path| Path::new(path).exists());
        let program = program.ok_or_else(|| "no chromium here: scripts/setup test".to_owned())?;
        let mut child = Command::new("sh")
            .args(["-c", r#"exec timeout -k 5 120 "$@" 3<&0 4>&1 </dev/null >/dev/null"#, "sh", program])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-extensions", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .env("HOME", profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("chromium cannot be started: {e}"))?;
        let requests = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Ok(Self { child, requests, answers, number: 0, events: Vec::new() })
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.answers.read_until(0, &mut bytes).expect("the browser's pipe");
        assert_eq!(bytes.pop(), Some(0), "the browser ended");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// Asks for something; events that come before the answer are kept.
    fn ask(&mut self, session: Option<&str>, method: &str, params: &Value) -> Value {
        self.number += 1;
        let mut request = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = session {
            request["sessionId"] = session.into();
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).expect("the browser's pipe");
        loop {
            let answer = self.read();
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// Opens a page in a window of that width, dark or light, waits until it is loaded, and evaluates `probe` in it. The picture
    /// of it goes to `picture`.
    pub fn look(&mut self, url: &str, width: u32, scheme: &str, probe: &str, picture: &Path) -> Seen {
        self.events.clear();
        let target = self.ask(None, "Target.createTarget", &json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = self.ask(None, "Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let at = Some(session.as_str());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.ask(at, &format!("{domain}.enable"), &json!({}));
        }
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.ask(at, "Emulation.setDeviceMetricsOverride", &size);
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.ask(at, "Emulation.setEmulatedMedia", &media);
        self.events.clear();
        self.ask(at, "Page.navigate", &json!({ "url": url }));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.read();
            self.events.push(event);
        }
        let evaluate = json!({ "expression": probe, "returnByValue": true, "awaitPromise": true });
        let found = self.ask(at, "Runtime.evaluate", &evaluate);
        assert!(found["exceptionDetails"].is_null(), "the probe failed: {found:#}");
        let shot = self.ask(at, "Page.captureScreenshot", &json!({ "captureBeyondViewport": true, "format": "png" }));
        std::fs::write(picture, decoded(shot["data"].as_str().expect("a picture"))).expect("write");
        self.ask(None, "Target.closeTarget", &json!({ "targetId": target }));
        let mut seen = Seen { complaints: Vec::new(), requests: Vec::new(), found: found["result"]["value"].clone() };
        for event in self.events.iter().filter(|event| event["sessionId"] == session.as_str()) {
            let params = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Log.entryAdded" => seen.complaints.push(params["entry"]["text"].to_string()),
                "Runtime.exceptionThrown" => seen.complaints.push(params["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" => seen.complaints.push(params["args"].to_string()),
                "Network.requestWillBeSent" if params["request"]["url"] != url => {
                    seen.requests.push(params["request"]["url"].to_string());
                }
                _ => {}
            }
        }
        seen
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It takes its own children with it when it is asked; killed, they would stay for a while.
        let asked = self.requests.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        if asked.is_err() {
            self.child.kill().unwrap_or_default();
        }
        // Its last words are read, so that it does not wait for us.
        std::io::copy(&mut self.answers, &mut std::io::sink()).unwrap_or_default();
        self.child.wait().expect("the browser's end");
    }
}

/// Base64, as the protocol has pictures.
fn decoded(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').map(value).collect();
    let mut out = Vec::new();
    for four in letters.chunks(4) {
        let bits = (0..4).fold(0u32, |bits, at| bits << 6 | four.get(at).map_or(0, |v| u32::from(*v)));
        out.extend(bits.to_be_bytes()[1..].iter().take(four.len() * 6 / 8));
    }
    out
}
