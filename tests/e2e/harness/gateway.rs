//! The gateway's process: its configuration in a directory of its own, free ports, what it prints, its signals and end.

use super::dir::Dir;
use super::http1::{Answer, Conn, request};
use super::tls::Certificates;
use super::{LOOK, soon, until};
use serde_json::Value;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

/// A port that nobody listens on, below those that the kernel gives to outgoing connections; so it stays free.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests run in processes of their own at the same time: each begins somewhere else.
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    loop {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The same with its address.
pub fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// Most lines that are kept; of those before, only the ones that speak of a panic.
const MAX_LINES: usize = 50_000;

/// What the process has printed, line by line.
#[derive(Clone, Default)]
pub struct Output(Arc<parking_lot::Mutex<Vec<String>>>);

impl Output {
    /// Keeps what a process prints to its pipes.
    pub fn of(child: &mut Child) -> Self {
        let output = Self::default();
        child.stdout.take().into_iter().for_each(|pipe| output.follow(pipe));
        child.stderr.take().into_iter().for_each(|pipe| output.follow(pipe));
        output
    }

    fn follow(&self, pipe: impl AsyncRead + Unpin + Send + 'static) {
        let lines = self.0.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                let mut lines = lines.lock();
                if lines.len() >= MAX_LINES {
                    let old = lines.drain(..MAX_LINES / 2).filter(|line| line.contains("panicked")).collect::<Vec<_>>();
                    lines.splice(0..0, old);
                }
                lines.push(line);
            }
        });
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.0.lock().join("\n")
    }

    /// Awaits a line that contains `part`.
    pub async fn line(&self, part: &str) -> String {
        until(&format!("a line with `{part}`"), async || self.0.lock().iter().find(|line| line.contains(part)).cloned()).await
    }
}

/// How the process is started.
#[derive(Default)]
struct Launch {
    /// A program and arguments that execute the gateway in their place.
    wrapper: Vec<String>,
    variables: Vec<(String, String)>,
    /// Stdout in place of a pipe to the test.
    stdout: Option<File>,
}

/// What is to be started.
pub struct Setup {
    config: String,
    tls: Option<String>,
    listeners: String,
    linked: bool,
    launch: Launch,
    level: &'static str,
    attributes: String,
    /// Where the configuration will be.
    pub dir: Dir,
}

impl Setup {
    /// A configuration without `listen`, `admin` and `log`, which are added.
    pub fn new(config: &str) -> Self {
        Self {
            config: config.to_owned(),
            tls: None,
            listeners: String::new(),
            linked: false,
            launch: Launch::default(),
            level: "info",
            attributes: String::new(),
            dir: Dir::new(),
        }
    }

    /// Adds a TLS listener.
    pub fn tls(mut self, Certificates { certificate, key, .. }: &Certificates) -> Self {
        self.tls = Some(format!("{{ certificate: {}, key: {} }}", certificate.display(), key.display()));
        self
    }

    /// Adds a listener, an entry of `listen` in YAML's flow style.
    pub fn listener(mut self, entry: &str) -> Self {
        self.listeners += &format!("  - {entry}\n");
        self
    }

    /// Replaces the configuration.
    pub fn config(mut self, config: &str) -> Self {
        config.clone_into(&mut self.config);
        self
    }

    /// Logs from this level on; `info` otherwise.
    pub fn level(mut self, level: &'static str) -> Self {
        self.level = level;
        self
    }

    /// Logs these attributes, a mapping in YAML's flow style.
    pub fn attributes(mut self, entries: &str) -> Self {
        self.attributes = format!(", attributes: {entries}");
        self
    }

    /// Puts the file where a Kubernetes volume has it: behind a link into `..data`, a link to a directory.
    pub fn linked(mut self) -> Self {
        self.linked = true;
        self
    }

    /// Starts it through a program that executes it in its own place.
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.launch.wrapper = wrapper.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// Adds an environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.launch.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives the process another stdout, whose lines [`Gateway::output`] does not have.
    pub fn stdout(mut self, file: File) -> Self {
        self.launch.stdout = Some(file);
        self
    }

    /// Starts it and waits until it serves.
    pub async fn start(self) -> Gateway {
        let (listen, admin, secure) = (free_address(), free_address(), free_address());
        let mut head = format!("listen:\n  - address: {listen}\n");
        if let Some(tls) = &self.tls {
            head += &format!("  - address: {secure}\n    tls: {tls}\n");
        }
        head += &self.listeners;
        head +=
            &format!("admin: {{ address: {admin} }}\nlog: {{ format: json, level: {}, access: true{} }}\n", self.level, self.attributes);
        let path = self.dir.join("tidegate.yaml");
        if self.linked {
            std::fs::create_dir(self.dir.join("v1")).unwrap();
            symlink("v1", self.dir.join("..data")).unwrap();
            symlink("..data/tidegate.yaml", &path).unwrap();
        }
        std::fs::write(&path, head.clone() + &self.config).unwrap();
        let (mut child, output) = run(&path, &[], self.launch);
        soon("the gateway's start", async {
            while !is_ready(admin).await {
                if let Some(status) = child.try_wait().unwrap() {
                    tokio::time::sleep(LOOK * 20).await; // what it said may still be on its way
                    panic!("the gateway did not start ({status}):\n{}", output.text());
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
        Gateway { child, listen, admin, secure, output, dir: self.dir, path, head }
    }
}

fn run(config: &Path, arguments: &[&str], launch: Launch) -> (Child, Output) {
    let mut program = launch.wrapper.iter().map(String::as_str).chain([BINARY]);
    let mut child = Command::new(program.next().unwrap())
        .args(program)
        .args(["run", "--config"])
        .arg(config)
        .args(arguments)
        .envs(launch.variables)
        .stdin(Stdio::null())
        .stdout(launch.stdout.map_or_else(Stdio::piped, Stdio::from))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = Output::of(&mut child);
    (child, output)
}

async fn is_ready(admin: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(admin).await else { return false };
    let mut conn = Conn::over(stream);
    conn.send(&request("GET", "/readyz", &[], None)).await.is_ok() && conn.answer().await.is_ok_and(|a| a.status() == 200)
}

/// A gateway that serves.
pub struct Gateway {
    child: Child,
    /// HTTP/1.1 and h2c.
    pub listen: SocketAddr,
    /// Metrics, health, status.
    pub admin: SocketAddr,
    /// The TLS listener, if there is one.
    pub secure: SocketAddr,
    /// What it has printed.
    pub output: Output,
    /// Where its files are.
    pub dir: Dir,
    /// Its configuration.
    pub path: PathBuf,
    head: String,
}

impl Gateway {
    /// Starts a configuration without `listen`, `admin` and `log`.
    pub async fn start(config: &str) -> Self {
        Setup::new(config).start().await
    }

    /// A connection to the client side.
    pub async fn connect(&self) -> Conn {
        Conn::connect(self.listen).await
    }

    /// One chat request on a connection of its own.
    pub async fn chat(&self, body: &Value) -> Answer {
        self.chat_as(&[], body).await
    }

    /// The same with more headers.
    pub async fn chat_as(&self, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.open_as(headers, body).await.answer().await.unwrap()
    }

    /// A connection on which a chat request has been sent.
    pub async fn open(&self, body: &Value) -> Conn {
        self.open_as(&[], body).await
    }

    /// The same with more headers.
    pub async fn open_as(&self, headers: &[(&str, &str)], body: &Value) -> Conn {
        let mut conn = self.connect().await;
        conn.chat(headers, body.to_string().as_bytes()).await;
        conn
    }

    /// A POST of JSON on the client side.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send(&request("POST", path, headers, Some(body.to_string().as_bytes()))).await
    }

    /// The answer to these bytes, sent on a connection of their own.
    pub async fn send(&self, bytes: &[u8]) -> Answer {
        let mut conn = self.connect().await;
        conn.send(bytes).await.unwrap();
        conn.answer().await.unwrap()
    }

    /// A GET on the client side.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        Conn::connect(self.listen).await.get(path, headers).await
    }

    /// A page of the admin listener.
    pub async fn page(&self, path: &str) -> Answer {
        Conn::connect(self.admin).await.get(path, &[]).await
    }

    /// The value of a series as `/metrics` writes its name; 0 where it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |v| v.parse().unwrap())
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let page = self.page("/metrics").await;
        assert_eq!(page.status(), 200);
        page.text()
    }

    /// A configuration for the same addresses: what a reload reads.
    pub fn text(&self, config: &str) -> String {
        self.head.clone() + config
    }

    /// Replaces the configuration's file and sends the signal.
    pub async fn reload(&self, config: &str) {
        std::fs::write(&self.path, self.text(config)).unwrap();
        self.signal("HUP").await;
    }

    /// Awaits that so many reloads have been applied.
    pub async fn reloaded(&self, count: usize) {
        let series = "tidegate_config_reloads_total{result=\"applied\"}";
        until("the reload", async || (self.metric(series).await >= count as f64).then_some(())).await;
    }

    /// Awaits the end of a route's requests.
    pub async fn at_rest(&self, route: &str) {
        let series = format!("tidegate_in_flight_requests{{route=\"{route}\"}}");
        until("the end of the requests", async || (self.metric(&series).await == 0.0).then_some(())).await;
    }

    /// Sends a signal by its name.
    pub async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
        assert!(status.success());
    }

    /// Starts a process that is to take over from this one.
    pub fn successor(&self) -> (Child, Output) {
        run(&self.path, &["--upgrade"], Launch::default())
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the process lives")
    }

    /// Continues with the process that has taken over, and returns the one before.
    pub fn continue_with(&mut self, (child, output): (Child, Output)) -> (Child, Output) {
        (std::mem::replace(&mut self.child, child), std::mem::replace(&mut self.output, output))
    }

    /// Awaits the end of the process, starts another one and waits until it serves.
    pub async fn start_again(&mut self) {
        assert_eq!(self.exit().await.code(), Some(0));
        let before = self.continue_with(run(&self.path, &[], Launch::default()));
        assert!(!before.1.text().contains("panicked"), "{}", before.1.text());
        until("the gateway's start", async || is_ready(self.admin).await.then_some(())).await;
    }

    /// Whether the process lives.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Awaits the end of the process.
    pub async fn exit(&mut self) -> ExitStatus {
        soon("the gateway's end", self.child.wait()).await.unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let text = self.output.text();
        if std::thread::panicking() {
            let lines: Vec<_> = text.lines().rev().take(40).collect();
            println!("the gateway's last lines:");
            lines.iter().rev().for_each(|line| println!("{line}"));
        } else {
            assert!(!text.contains("panicked"), "{text}");
        }
    }
}
