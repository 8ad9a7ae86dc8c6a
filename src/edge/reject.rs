//! Connections and heads that are not served: counted, logged at a bounded rate, answered where the client can read it.

use super::head::answer;
use super::live::Live;
use super::screen::Left;
use crate::error::ApiError;
use crate::id;
use crate::system;
use crate::telemetry::labels::Rejected;
use crate::telemetry::throttle::Throttle;
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{SocketDigest, Stream};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

/// How long a client may take to read an answer, and what it still sends is thrown away meanwhile. A connection that is closed
/// with bytes unread is reset, and the client may not see the answer.
const LINGER: Duration = Duration::from_secs(2);
/// Most bytes that are thrown away, in pieces.
const LEFTOVER: usize = 1 << 20;
const PIECE: usize = 4 << 10;

/// Bounds the log lines of each reason.
#[derive(Default)]
pub struct Rejections([Throttle; Rejected::ALL.len()]);

impl Rejections {
    /// Counts a connection, and logs it with its client's address and `detail` unless one of the same reason was logged
    /// within the last second.
    pub fn note(&self, live: &Live, reason: Rejected, client: Option<&SocketDigest>, detail: &str) {
        live.metrics.connection_rejected(reason);
        let Some(more) = self.0.get(reason as usize).and_then(|throttle| throttle.admit(system::now())) else { return };
        let client = client.map_or_else(|| "an unknown address".to_owned(), shown);
        let colon = if detail.is_empty() { "" } else { ": " };
        log::warn!("connection from {client} rejected, {}{colon}{detail}{more}", reason.name());
    }

    /// Counts, logs and answers what is left of a connection.
    pub async fn turn_away(&self, live: &Live, left: Left, reason: Rejected) {
        let client = left.stream.get_socket_digest();
        let error = answer(reason).filter(|_| left.answerable);
        let id = id::fresh(Duration::from_nanos(system::wall_clock()));
        let detail = error.as_ref().map(|error| format!("answered {} with x-request-id {id}", error.status));
        self.note(live, reason, client.as_deref(), detail.as_deref().unwrap_or_default());
        if let Some(error) = error {
            let answered = write_answer(left.stream, &error, id);
            let _ = tokio::time::timeout(LINGER, answered).await; // the connection ends in any case
        }
    }
}

/// A client's address; at a Unix socket it has none, and the socket is named.
fn shown(client: &SocketDigest) -> String {
    match (client.peer_addr(), client.local_addr()) {
        (Some(peer @ SocketAddr::Inet(_)), _) => peer.to_string(),
        (_, Some(SocketAddr::Unix(path))) => format!("unix:{}", path.as_pathname().unwrap_or(Path::new("")).display()),
        _ => "an unknown address".to_owned(),
    }
}

/// Writes the answer, and reads until the client closes the connection.
async fn write_answer(mut stream: Stream, error: &ApiError, id: Uuid) -> std::io::Result<()> {
    let body = crate::front::chat::error::body(error);
    let status = http::StatusCode::from_u16(error.status).unwrap_or(http::StatusCode::BAD_REQUEST);
    let reason = status.canonical_reason().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nx-request-id: {id}\r\nDate: {}\r\nConnection: close\r\n\r\n",
        status.as_u16(),
        body.len(),
        get_cached_date().to_str().unwrap_or_default(),
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await?;
    stream.flush().await?;
    AsyncWriteExt::shutdown(&mut stream).await?;
    let (mut piece, mut read) = ([0; PIECE], 0);
    while read < LEFTOVER {
        match stream.read(&mut piece).await? {
            0 => break,
            more => read += more,
        }
    }
    Ok(())
}
