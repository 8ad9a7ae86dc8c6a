//! Connections to providers in the clear, over which the head of a request waits for its body and leaves with it.
//!
//! Pingora sends the head of a request by itself, and the body after it: two system calls, two packets, and a server that
//! is woken twice. The gateway always has the body, so the head is held back until the body's first bytes are written.
//! (HTTP/2, which TLS upstreams mostly speak, gathers its frames itself.)
//!
//! Pingora hands the making of connections over to whoever names a protocol of his own; what is handed back here is a
//! plain stream, on which Pingora then speaks HTTP/1.1 and which it pools like any other.

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest, UniqueID, UniqueIDType,
};
use pingora_core::upstreams::peer::Peer;
use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Room for the head of the next request that is kept with a connection, in bytes.
const KEPT: usize = 2 << 10;

/// The protocol of a peer in the clear; it is never negotiated.
pub fn in_the_clear() -> ALPN {
    static NAME: LazyLock<CustomALPN> = LazyLock::new(|| CustomALPN::new(b"tidegate".to_vec()));
    ALPN::Custom(NAME.clone())
}

/// Makes connections to the peers that [`in_the_clear`] is the protocol of.
pub struct Dialler(TransportConnector);

impl Dialler {
    /// With these settings.
    pub fn new(options: ConnectorOptions) -> Self {
        Self(TransportConnector::new(Some(options)))
    }
}

#[async_trait]
impl Connector for Dialler {
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<(Connection<()>, bool)> {
        let stream = self.0.new_stream(peer).await?;
        Ok((Connection::Stream(Box::new(Whole { stream, head: Vec::new(), sent: 0, left: 0 })), false))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<()> {
        None // Pingora's own pool has them
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(&self, _session: (), _peer: &P, _idle: Option<Duration>) {}
}

/// A stream on which the head of a request leaves with its body.
#[derive(Debug)]
struct Whole {
    stream: Stream,
    /// A head that waits for its body.
    head: Vec<u8>,
    /// Bytes of it that have been sent.
    sent: usize,
    /// Bytes of the body that have not been sent.
    left: usize,
}

/// The length of the body that a head announces; `None` where `written` is no whole head, or one without a length.
fn announced(written: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut rest = written.strip_suffix(b"\r\n\r\n")?;
    loop {
        rest = rest.get(memchr::memchr(b'\n', rest)? + 1..)?;
        if matches!(rest, [b'c' | b'C', ..])
            && let Some((name, value)) = rest.split_at_checked(NAME.len())
            && name.eq_ignore_ascii_case(NAME)
        {
            let end = memchr::memchr(b'\r', value).unwrap_or(value.len());
            return str::from_utf8(value.get(..end)?).ok()?.trim().parse().ok();
        }
    }
}

impl Whole {
    /// Counts what has been sent of the body.
    fn count(&mut self, written: usize) -> Poll<std::io::Result<usize>> {
        self.left = self.left.saturating_sub(written);
        Poll::Ready(Ok(written))
    }
}

impl AsyncWrite for Whole {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        if this.left == 0
            && let Some(length) = announced(bytes).filter(|length| *length > 0)
        {
            this.left = length;
            this.head.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while !this.head.is_empty() && !bytes.is_empty() {
            let head = this.head.get(this.sent..).unwrap_or_default();
            let sent = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(bytes)]))?;
            if sent == 0 {
                return Poll::Ready(Err(Error::from(ErrorKind::WriteZero)));
            }
            let of_body = sent.saturating_sub(head.len());
            this.sent += sent;
            if this.sent >= this.head.len() {
                this.sent = 0;
                this.head.clear();
                this.head.shrink_to(KEPT);
            }
            if of_body > 0 {
                return this.count(of_body);
            }
        }
        let sent = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.count(sent)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.head.is_empty() { Pin::new(&mut this.stream).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Whole {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

#[async_trait]
impl Shutdown for Whole {
    async fn shutdown(&mut self) {
        self.stream.shutdown().await;
    }
}

#[async_trait]
impl Peek for Whole {}

impl Ssl for Whole {}

impl UniqueID for Whole {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl GetTimingDigest for Whole {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Whole {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl GetSocketDigest for Whole {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const HEAD: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";

    fn whole(room: usize) -> (Whole, DuplexStream) {
        let (near, far) = duplex(room);
        (Whole { stream: Box::new(near), head: Vec::new(), sent: 0, left: 0 }, far)
    }

    #[tokio::test]
    async fn a_head_leaves_with_the_first_bytes_of_its_body() {
        let (mut whole, mut far) = whole(1 << 10);
        for _ in 0..2 {
            whole.write_all(HEAD).await.unwrap();
            whole.flush().await.unwrap();
            whole.write_all(b"0123").await.unwrap();
            whole.flush().await.unwrap();
            let mut seen = [0; HEAD.len() + 4];
            far.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen.as_slice(), [HEAD, b"0123"].concat());
            // What looks like a head within a body is body.
            whole.write_all(b"\n\n\r\n\r\n").await.unwrap();
            let mut seen = [0; 6];
            far.read_exact(&mut seen).await.unwrap();
            assert_eq!(&seen, b"\n\n\r\n\r\n");
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_where_little_is_taken_at_a_time() {
        for room in 1..80 {
            let (mut whole, mut far) = whole(room);
            let write = async move {
                for _ in 0..3 {
                    whole.write_all(HEAD).await.unwrap();
                    whole.flush().await.unwrap();
                    whole.write_all(b"0123456789").await.unwrap();
                }
            };
            let mut seen = Vec::new();
            let (_, read) = tokio::join!(write, far.read_to_end(&mut seen));
            read.unwrap();
            assert_eq!(seen, [HEAD, b"0123456789"].concat().repeat(3), "{room}");
        }
    }

    #[tokio::test]
    async fn what_has_no_body_waits_for_none() {
        for head in
            ["GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n"]
        {
            let (mut whole, mut far) = whole(1 << 10);
            whole.write_all(head.as_bytes()).await.unwrap();
            whole.flush().await.unwrap();
            let mut seen = vec![0; head.len()];
            far.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, head.as_bytes());
        }
    }
}
