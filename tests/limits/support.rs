//! Nodes that share a Redis, and gateways in processes of their own.

use crate::dir::Dir;
pub use crate::redis::{LONG, Redis, free_port, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tidegate::config;
use tidegate::limit::{Clock, Estimate, LimitError, Limiter, Permit, Store, StoreEvent, Subject};

pub const WHO: Subject = Subject { key: Some(0), team: Some(0) };

/// Asks until it is so, for answers that take a while.
pub async fn until_async(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is().await {
        assert!(began.elapsed() < LONG, "{what} did not come to pass");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A configuration with one team, one key, one route and one provider, and these limits.
pub struct Limits<'a> {
    pub team: &'a str,
    pub key: &'a str,
    pub provider: &'a str,
    pub store: String,
}

impl Limits<'_> {
    pub fn team<'a>(team: &'a str, redis: &Redis, more: &str) -> Limits<'a> {
        Limits { team, key: "[]", provider: "[]", store: format!("{{ store: \"{}\", {more} }}", redis.url()) }
    }

    fn yaml(&self, listen: u16, admin: u16, simulator: u16) -> String {
        let Self { team, key, provider, store } = self;
        let digest = tidegate::auth::key::digest(KEY);
        format!(
            "listen: [ {{ address: 127.0.0.1:{listen} }} ]\nadmin: {{ address: 127.0.0.1:{admin} }}\nserver: {{ threads: 1 }}\n\
             providers:\n  p: {{ kind: vllm, base_url: \"http://127.0.0.1:{simulator}/vllm/v1\", limits: {provider} }}\n\
             routes:\n  r: {{ targets: [ {{ provider: p, model: sim, price: {{ input: 1, output: 1 }} }} ] }}\n  \
             slow: {{ targets: [ {{ provider: p, model: \"sim+chunks=400+pace=20ms\" }} ] }}\n\
             teams:\n  secret-team:\n    limits: {team}\n    keys: [ {{ id: secret-key, sha256: \"{digest}\", limits: {key} }} ]\n\
             limits: {store}\nlog: {{ level: warn }}\n"
        )
    }
}

pub const KEY: &str = "tg-of-the-tests";

/// One node's store, as the gateway makes it.
pub struct Node {
    pub store: Store,
    limiter: Arc<Limiter>,
    pub clock: Arc<Clock>,
    errors: Arc<AtomicUsize>,
}

impl Node {
    pub fn new(limits: &Limits<'_>) -> Self {
        Self::try_new(limits).unwrap()
    }

    pub fn try_new(limits: &Limits<'_>) -> Result<Self, String> {
        Self::after(limits, None)
    }

    /// The same node with another configuration.
    pub fn reloaded(&self, limits: &Limits<'_>) -> Self {
        Self::after(limits, Some(self)).unwrap()
    }

    fn after(limits: &Limits<'_>, previous: Option<&Self>) -> Result<Self, String> {
        let yaml = limits.yaml(0, 0, 1);
        let snapshot = config::parse(&yaml, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot;
        let clock = Clock::start();
        let before = previous.map(|node| &node.store);
        let limiter = Arc::new(Limiter::new(snapshot.limits(), previous.map(|node| &*node.limiter), &clock));
        let errors = Arc::new(AtomicUsize::new(0));
        let counter = errors.clone();
        let on_event = Arc::new(move |event| {
            counter.fetch_add(usize::from(event == StoreEvent::Error), Ordering::Relaxed);
        });
        let client = Store::client(&snapshot.limit_store, before, on_event)?;
        let store = Store::new(&snapshot.limit_store, &limiter, client, before);
        Ok(Self { store, limiter, clock, errors })
    }

    pub async fn admit(&self, tokens: u64) -> Result<Permit, LimitError> {
        self.admit_on(0, tokens).await
    }

    /// On the route `r`, which is 0, or `slow`, which is 1.
    pub async fn admit_on(&self, route: usize, tokens: u64) -> Result<Permit, LimitError> {
        self.store.admit(&WHO, route, Some(0), Estimate { tokens, micro_usd: tokens }, self.clock.now()).await
    }

    /// Of all limits.
    pub fn warnings(&self) -> u64 {
        self.limiter.warnings().flatten().map(|(_, count)| count).sum()
    }

    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    pub fn errors(&self) -> usize {
        self.errors.load(Ordering::Relaxed)
    }
}

/// A process of this program; killed when dropped.
pub struct Process {
    child: Child,
    dir: Option<Dir>,
    pub port: u16,
    pub admin: u16,
}

impl Process {
    pub fn simulator() -> Self {
        let port = free_port();
        let child = program(&["simulate", "--listen", &format!("127.0.0.1:{port}")]).spawn().unwrap();
        let process = Self { child, dir: None, port, admin: 0 };
        until("the simulator", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        process
    }

    pub fn gateway(limits: &Limits<'_>, simulator: u16) -> Self {
        Self::gateway_with(limits, simulator, &[])
    }

    /// The same with variables of its environment.
    pub fn gateway_with(limits: &Limits<'_>, simulator: u16, environment: &[(&str, &str)]) -> Self {
        let mut process = Self::unready(limits, simulator, environment);
        until("the gateway", || {
            assert!(process.child.try_wait().unwrap().is_none(), "the gateway ended");
            TcpStream::connect(("127.0.0.1", process.port)).is_ok()
        });
        process
    }

    /// A gateway that may not come up.
    pub fn unready(limits: &Limits<'_>, simulator: u16, environment: &[(&str, &str)]) -> Self {
        let (port, admin) = (free_port(), free_port());
        let dir = Dir::new();
        let path = dir.write("tidegate.yaml", &limits.yaml(port, admin, simulator));
        let mut run = program(&["run", "--config", &path.display().to_string()]);
        run.stdout(std::fs::File::create(dir.join("log")).unwrap());
        let child = run.envs(environment.iter().copied()).spawn().unwrap();
        Self { child, dir: Some(dir), port, admin }
    }

    /// Writes another configuration for this gateway, which finds it.
    pub fn reconfigure(&self, limits: &Limits<'_>, simulator: u16) {
        self.dir.as_ref().unwrap().write("tidegate.yaml", &limits.yaml(self.port, self.admin, simulator));
    }

    /// What a gateway has printed.
    pub fn output(&self) -> String {
        self.dir.as_ref().map_or_else(String::new, |dir| std::fs::read_to_string(dir.join("log")).unwrap())
    }

    pub fn kill(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// One request to the route; the status and the whole answer.
    pub fn ask(&self, route: &str) -> (u16, String) {
        let mut stream = self.send(route);
        let mut answer = String::new();
        let _broken_off = stream.read_to_string(&mut answer);
        (answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
    }

    /// The same, not yet read.
    pub fn send(&self, route: &str) -> TcpStream {
        let body = format!(r#"{{"model":"{route}","stream":{},"messages":[{{"role":"user","content":"hi"}}]}}"#, route == "slow");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    pub fn admin_page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// `tidegate_limit_store_errors_total`.
    pub fn store_errors(&self) -> u64 {
        self.metric("tidegate_limit_store_errors_total") as u64
    }

    /// The value of the first series whose line begins like this; 0 where there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let page = self.admin_page("/metrics");
        let line = page.lines().find(|line| line.starts_with(series)).unwrap_or_default();
        line.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
