//! A receiver of OTLP that decodes with OpenTelemetry's own Python classes, and a real collector to put before it.

use super::gateway::{Output, free_address};
use super::{accepts, silent, until};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// A running receiver; it ends when this is dropped.
pub struct Receiver {
    _child: Child,
    output: Output,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Receiver {
    /// Starts one with a Python that has `opentelemetry-proto`. The first exports get these answers, later ones 200.
    pub async fn start(python: &str, answers: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/harness/otlp.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(answers)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = Output::of(&mut child);
        let line: Value = serde_json::from_str(&output.line("{\"port\": ").await).unwrap();
        let port = u16::try_from(line["port"].as_u64().unwrap()).unwrap();
        Self { _child: child, output, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }
    }

    /// The exports so far.
    pub fn exports(&self) -> Vec<Value> {
        let text = self.output.text();
        assert!(!text.contains("Traceback"), "{text}");
        text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The spans of accepted exports, in no order.
    pub fn spans(&self) -> Vec<Value> {
        let accepted = self.exports().into_iter().filter(|export| matches!(export["answer"].as_str(), Some("200" | "partial")));
        accepted.flat_map(|export| export["spans"].as_array().unwrap().clone()).collect()
    }

    /// The spans, once there are as many.
    pub async fn all(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} spans"), async || Some(self.spans()).filter(|spans| spans.len() >= count)).await
    }
}

/// A running collector (PyPI's `rotel`), which forwards what it receives; it ends when this is dropped.
pub struct Collector {
    _child: Child,
    /// Where it receives OTLP over HTTP.
    pub address: SocketAddr,
}

impl Collector {
    /// Starts one from a virtual environment's folder, before a receiver.
    pub async fn start(dir: &Path, receiver: &Receiver) -> Self {
        let agent = find(dir).unwrap_or_else(|| panic!("there is no rotel-agent below {}", dir.display()));
        let (grpc, address) = (free_address(), free_address());
        let child = silent(agent)
            .args(["start", "--otlp-grpc-endpoint", &grpc.to_string(), "--otlp-http-endpoint", &address.to_string()])
            .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
            .args(["--otlp-exporter-endpoint", &format!("http://{}", receiver.address)])
            .spawn()
            .unwrap();
        accepts("the collector", address).await;
        Self { _child: child, address }
    }
}

/// `lib/python*/site-packages/rotel/rotel-agent`.
fn find(dir: &Path) -> Option<std::path::PathBuf> {
    let versions = std::fs::read_dir(dir.join("lib")).ok()?;
    versions.filter_map(Result::ok).map(|version| version.path().join("site-packages/rotel/rotel-agent")).find(|path| path.exists())
}
