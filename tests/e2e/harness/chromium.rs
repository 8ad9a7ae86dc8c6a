//! A headless Chromium, driven by its DevTools protocol over a pipe.

use super::dir::Dir;
use super::{LOOK, soon};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// What every start needs, without the page and the profile.
pub const ARGUMENTS: [&str; 6] =
    ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"];

/// A browser with one page.
pub struct Browser {
    _child: Child,
    _profile: Dir,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    calls: u64,
    session: Option<String>,
    /// Events of the page so far: its requests, messages on its console, exceptions, violations of its policy.
    pub events: Vec<Value>,
}

impl Browser {
    /// Starts one; `None` where there is none.
    pub async fn start() -> Option<Self> {
        if Command::new("chromium").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await.is_err() {
            println!("SKIPPED: chromium is not installed");
            return None;
        }
        let profile = Dir::new();
        // The protocol is spoken over the descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", "--remote-debugging-pipe"])
            .args(ARGUMENTS)
            .arg(format!("--user-data-dir={}", profile.join("chromium").display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Self { _child: child, _profile: profile, input, output, calls: 0, session: None, events: Vec::new() };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true })).await;
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Runtime", "Log", "Network", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        Some(browser)
    }

    /// Calls a method of the protocol; its result.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.input.write_all(format!("{message}\0").as_bytes()).await.unwrap();
        loop {
            let mut bytes = Vec::new();
            soon("an answer of the browser", self.output.read_until(0, &mut bytes)).await.unwrap();
            let answer: Value = serde_json::from_slice(bytes.strip_suffix(b"\0").expect("the browser lives")).unwrap();
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// The value of an expression on the page.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params).await;
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Evaluates a condition until it is true.
    pub async fn until(&mut self, condition: &str) {
        soon(condition, async {
            while self.evaluate(condition).await != true {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }

    /// Opens a page and awaits its load.
    pub async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        self.until(&format!("location.href === {} && document.readyState === 'complete'", json!(url))).await;
    }

    /// Events of this name so far, their parameters.
    pub fn events(&self, name: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["method"] == name).map(|event| &event["params"]).collect()
    }
}
