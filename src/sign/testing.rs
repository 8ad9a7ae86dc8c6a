//! Servers for the tests of credentials.

use crate::egress::Egress;
use crate::egress::proxy::Proxy;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A proxy that refuses connections.
pub fn dead_proxy() -> Egress {
    Egress::Through(Proxy::parse("http://127.0.0.1:1").unwrap().into())
}

/// Responds to every request with `reply` and records the requests.
pub async fn serve(reply: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            let mut buffer = [0; 4096];
            // Head and body may arrive separately.
            loop {
                let n = socket.read(&mut buffer).await.unwrap();
                text.push_str(&String::from_utf8_lossy(&buffer[..n]));
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                if n == 0 || body.len() >= length.and_then(|l| l.parse().ok()).unwrap_or(0) {
                    break;
                }
            }
            let (status, body) = reply(&text);
            log.lock().unwrap().push(text);
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (base, seen)
}
