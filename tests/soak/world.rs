//! What the soak runs against: the gateway, its configuration, the simulator and everything that fails.

use crate::harness::gateway::{Gateway, Output, Setup, free_port};
use crate::harness::sim::Sim;
use crate::peer::Peer;
use crate::redis::Redis;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use tidegate::auth::key::digest;
use tokio::sync::Mutex;

/// The client's key.
pub const KEY: &str = "tg-of-the-soak";

const AWS: &str =
    "kind: bedrock, region: us-east-1, credentials: { access_key_id: AKIATIDEGATEDEMO, secret_access_key: demo-secret-access-key }";

/// Providers that the simulator plays: name, configuration without `base_url`, path, and a model.
pub const DIALECTS: [(&str, &str, &str, &str); 8] = [
    ("vllm", "kind: vllm", "vllm/v1", "qwen3"),
    ("openai", "kind: openai, api_key: sk-soak", "openai/v1", "gpt-4o-mini"),
    ("anthropic", "kind: anthropic, api_key: sk-ant-soak", "anthropic", "claude-sonnet-4-5"),
    ("bedrock", AWS, "bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ("google", "kind: google_ai_studio, api_key: AIzaSoak", "google_ai_studio", "gemini-3-flash-preview"),
    ("vertex", "kind: vertex, project: p, location: us-central1, access_token: ya29.demo", "vertex", "gemini-3-pro-preview"),
    ("mistral", "kind: mistral, api_key: sk-soak", "mistral/v1", "mistral-large-latest"),
    ("deepseek", "kind: deepseek, api_key: sk-soak", "deepseek", "deepseek-chat"),
];

/// See the module.
pub struct World {
    /// The process that serves.
    pub gateway: Gateway,
    /// What every process of the run has printed.
    pub outputs: Vec<Output>,
    /// Where limits are counted.
    pub redis: Arc<Mutex<Redis>>,
    /// The TLS front that dies.
    pub peer: Arc<Peer>,
    simulator: SocketAddr,
    url: String,
}

impl World {
    /// Starts all of it.
    pub async fn start() -> Self {
        let sim = Sim::start().await;
        let peer = Peer::start(sim.address()).await;
        let mut redis = Redis::new(free_port());
        redis.again();
        let (simulator, url) = (sim.address(), redis.url());
        let gateway = Setup::new(&config(simulator, &peer, &url, 0)).start().await;
        Self { outputs: vec![gateway.output.clone()], gateway, redis: Arc::new(Mutex::new(redis)), peer, simulator, url }
    }

    /// The configuration number `version`: each differs from the one before in what a reload has to carry over.
    pub fn config(&self, version: usize) -> String {
        self.gateway.text(&config(self.simulator, &self.peer, &self.url, version))
    }

    /// Whether no process has printed a panic.
    pub fn panics(&self) -> Result<String, String> {
        let panicked =
            |output: &Output| output.text().lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<String> = self.outputs.iter().flat_map(panicked).collect();
        if lines.is_empty() { Ok(format!("{} processes", self.outputs.len())) } else { Err(lines.join("\n")) }
    }
}

/// The route that shows which version is in force.
pub fn marker(version: usize) -> String {
    format!("version-{version}")
}

fn config(simulator: SocketAddr, peer: &Peer, redis: &str, version: usize) -> String {
    let mut text = format!("limits: {{ store: \"{redis}\", on_store_failure: local }}\nproviders:\n");
    let connections = 10_000 + version % 3; // a provider that a reload makes anew, and one that it need not
    for (name, settings, path, _) in DIALECTS {
        let url = format!("base_url: \"http://{simulator}/{path}\"");
        writeln!(text, "  {name}: {{ {settings}, {url}, max_connections: {connections} }}").unwrap();
        let short = "first_byte: 2s, first_token: 2s, between_bytes: 2s";
        writeln!(text, "  hurried-{name}: {{ {settings}, {url}, timeouts: {{ {short} }} }}").unwrap();
    }
    let ca = peer.certificates.ca.display();
    let tls = format!("tls: {{ ca_file: {ca}, server_name: localhost }}, timeouts: {{ connect: 1s, first_byte: 2s, between_bytes: 2s }}");
    writeln!(text, "  peer: {{ kind: vllm, base_url: \"https://{}/vllm/v1\", {tls} }}", peer.address).unwrap();
    text += "routes:\n";
    let good = "fallback: [ { provider: vllm, model: qwen3 } ]";
    for (name, ..) in DIALECTS {
        // Good scripts only; then troubles that the fallback makes good; then those that come too late for it.
        writeln!(text, "  \"{name}/*\": {{ targets: [ {{ provider: {name}, model: \"*\" }} ] }}").unwrap();
        writeln!(text, "  \"over-{name}/*\": {{ targets: [ {{ provider: hurried-{name}, model: \"*\" }} ], {good} }}").unwrap();
        writeln!(text, "  \"break-{name}/*\": {{ targets: [ {{ provider: hurried-{name}, model: \"*\" }} ], {good} }}").unwrap();
    }
    writeln!(text, "  \"peer/*\": {{ targets: [ {{ provider: peer, model: \"*\" }} ], {good}, retry: {{ attempts: 3 }} }}").unwrap();
    for balance in ["weighted", "least_requests", "latency", "sticky"] {
        let target = |(i, (name, _, _, model)): (usize, &(&str, &str, &str, &str))| {
            format!("{{ provider: {name}, model: \"{model}\", weight: {} }}", (i + version) % 3 + 1)
        };
        let targets: Vec<_> = DIALECTS.iter().enumerate().map(target).collect();
        writeln!(text, "  {balance}: {{ balance: {balance}, targets: [ {} ] }}", targets.join(", ")).unwrap();
    }
    writeln!(text, "  {}: {{ targets: [ {{ provider: vllm, model: qwen3 }} ] }}", marker(version)).unwrap();
    let limits = "[ { requests: 100000000, per: 1m }, { tokens: 100000000000, per: 1m }, { concurrent: 100000 } ]";
    write!(text, "teams:\n  soak: {{ limits: {limits}, keys: [ {{ id: soak, sha256: \"{}\" }} ] }}\n", digest(KEY)).unwrap();
    text
}
