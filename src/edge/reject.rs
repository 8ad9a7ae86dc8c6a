//! Rejected connections and request heads: counts, logs at a limited rate, and responds if the client can read it.

use super::head;
use super::inspect::RejectedStream;
use super::live::Live;
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

/// Time in which the client can read the response while its remaining bytes are discarded. Closing a connection with unread
/// bytes resets it, and the client may lose the response.
const LINGER: Duration = Duration::from_secs(2);
/// Maximum number of bytes discarded.
const MAX_DISCARD: usize = 1 << 20;
const PIECE: usize = 4 << 10;

/// Log rate limit of each reason.
#[derive(Default)]
pub struct Rejections([Throttle; Rejected::ALL.len()]);

impl Rejections {
    /// Counts a connection and logs it with the client's address and `detail`, at most once per second and reason.
    pub fn record(&self, live: &Live, reason: Rejected, client: Option<&SocketDigest>, detail: &str) {
        live.metrics.connection_rejected(reason);
        let Some(more) = self.0.get(reason as usize).and_then(|throttle| throttle.admit(system::now())) else { return };
        let client = client.map_or_else(|| "unknown address".to_owned(), client_name);
        let colon = if detail.is_empty() { "" } else { ": " };
        log::warn!("connection from {client} rejected, {}{colon}{detail}{more}", reason.name());
    }

    /// Counts, logs and responds to a rejected connection.
    pub async fn reject(&self, live: &Live, rejected: RejectedStream, reason: Rejected) {
        let client = rejected.stream.get_socket_digest();
        let error = head::error(reason).filter(|_| rejected.can_respond);
        let id = id::fresh(Duration::from_nanos(system::wall_clock()));
        let detail = error.as_ref().map(|error| format!("answered {} with x-request-id {id}", error.status));
        self.record(live, reason, client.as_deref(), detail.as_deref().unwrap_or_default());
        if let Some(error) = error {
            let written = write_response(rejected.stream, &error, id);
            let _ = tokio::time::timeout(LINGER, written).await; // the connection ends in any case
        }
    }
}

/// A client's address, or the path of the Unix socket it is connected to.
fn client_name(client: &SocketDigest) -> String {
    match (client.peer_addr(), client.local_addr()) {
        (Some(peer @ SocketAddr::Inet(_)), _) => peer.to_string(),
        (_, Some(SocketAddr::Unix(path))) => format!("unix:{}", path.as_pathname().unwrap_or(Path::new("")).display()),
        _ => "unknown address".to_owned(),
    }
}

/// Writes the response, and reads until the client closes the connection.
async fn write_response(mut stream: Stream, error: &ApiError, id: Uuid) -> std::io::Result<()> {
    let body = crate::front::chat::error::body(error);
    let status = http::StatusCode::from_u16(error.status).unwrap_or(http::StatusCode::BAD_REQUEST);
    let reason = status.canonical_reason().unwrap_or_default();
    let headers = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nx-request-id: {id}\r\nDate: {}\r\nConnection: close\r\n\r\n",
        status.as_u16(),
        body.len(),
        get_cached_date().to_str().unwrap_or_default(),
    );
    stream.write_all(&[headers.as_bytes(), &body].concat()).await?;
    stream.flush().await?;
    AsyncWriteExt::shutdown(&mut stream).await?;
    let (mut piece, mut read) = ([0; PIECE], 0);
    while read < MAX_DISCARD {
        match stream.read(&mut piece).await? {
            0 => break,
            more => read += more,
        }
    }
    Ok(())
}
