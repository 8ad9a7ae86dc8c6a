//! A server that answers every connection's one request by a function of the test's.

use super::http1::request_of;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// Serves as long as the test's runtime.
pub struct Scripted {
    address: SocketAddr,
    count: Arc<AtomicUsize>,
}

impl Scripted {
    /// Answers a request's body with these bytes, and closes the connection.
    pub async fn start(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (count, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
        let counter = count.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (answer, counter) = (answer.clone(), counter.clone());
                tokio::spawn(async move {
                    let Ok(body) = request_of(&mut stream).await else { return };
                    counter.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.write_all(&answer(&body)).await; // the gateway may have heard enough
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, count }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// A whole answer.
pub fn answer(status: u16, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}
