//! Steady load from clients that keep their connections.

use super::http1::Conn;
use super::{chat, until};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::task::JoinSet;

/// Clients that post until they are stopped.
pub struct Load {
    served: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<Vec<String>>,
}

impl Load {
    /// Eight clients of `address`, each with one request for `model` at a time.
    pub fn start(address: SocketAddr, model: &str) -> Self {
        let (served, stop, mut clients) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)), JoinSet::new());
        for _ in 0..8 {
            let (served, stop, body) = (served.clone(), stop.clone(), chat(model).to_string());
            clients.spawn(async move {
                let mut failures = Vec::new();
                let mut conn = Conn::connect(address).await;
                while !stop.load(Ordering::Relaxed) {
                    conn.chat(&[], body.as_bytes()).await;
                    match conn.answer().await {
                        Ok(answer) if answer.status() == 200 && answer.header("connection") == "keep-alive" => {}
                        Ok(answer) if answer.status() == 200 => conn = Conn::connect(address).await,
                        Ok(answer) => failures.push(format!("{}: {}", answer.status(), answer.text())),
                        Err(e) => {
                            failures.push(e.to_string());
                            conn = Conn::connect(address).await;
                        }
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        Self { served, stop, clients }
    }

    /// Awaits `more` answers from now on.
    pub async fn served(&self, more: usize) {
        let goal = self.served.load(Ordering::Relaxed) + more;
        until("more answers", async || (self.served.load(Ordering::Relaxed) >= goal).then_some(())).await;
    }

    /// Stops the clients, and returns what failed.
    pub async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await.concat()
    }
}
