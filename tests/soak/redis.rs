//! A redis-server that is restarted while limits are counted in it.

use crate::harness::gateway::free_port;
use crate::harness::{LOOK, soon};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

/// Restarts in one run.
const RESTARTS: u32 = 4;
/// How long it is away each time.
const AWAY: Duration = Duration::from_millis(700);

/// See the module; stopped when dropped.
pub struct Redis {
    port: u16,
    process: Option<Child>,
}

impl Redis {
    /// One that is not started yet.
    pub fn new() -> Self {
        Self { port: free_port(), process: None }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it, empty, unless it runs.
    pub async fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        let (number, port) = (self.port, self.port.to_string());
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", env!("CARGO_TARGET_TMPDIR")])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.process = Some(process.expect("redis-server is installed"));
        soon("the start of redis-server", async {
            while TcpStream::connect(("127.0.0.1", number)).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }

    async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.unwrap();
        }
    }
}

/// Restarts it over `whole`.
pub async fn restarts(redis: Arc<Mutex<Redis>>, whole: Duration) {
    loop {
        tokio::time::sleep(whole / (RESTARTS + 1)).await;
        redis.lock().await.stop().await;
        tokio::time::sleep(AWAY).await;
        redis.lock().await.start().await;
    }
}
