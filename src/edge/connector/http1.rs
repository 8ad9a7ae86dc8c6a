//! Connector for providers that only speak HTTP/1.1: those without TLS, unless `http: "2"`, and those with `http: "1.1"`.
//!
//! For a peer with a custom ALPN, Pingora uses the application's [`Connector`]. This one returns a plain stream, on which Pingora
//! speaks HTTP/1.1. The stream is checked out for one response:
//!
//! ```text
//! IdlePool --take--> PooledStream --response complete--> Pingora reads once more --end of stream--> IdlePool
//!    connected -----^      \--any other end--> closed
//! ```
//!
//! With that last read Pingora checks whether the connection can be kept. It sees the end of the stream and drops it; the
//! connection goes to [`IdlePool`] instead.
//!
//! The contract with `pingora-core` and `pingora-proxy` 0.9.1, documented only by their source:
//! - After the end of a response body, a stream is only read to check whether it can be kept.
//! - A stream that must not be kept (`Connection: close`, excess bytes, …) is shut down or dropped without that read.
//! - Pingora's own pool is queried first. It never contains these streams.

use super::connections;
use super::idle::IdlePool;
use super::stream::Http1Stream;
use async_trait::async_trait;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
};
use pingora_core::upstreams::peer::Peer;
use pingora_core::{Error, ErrorType, Result};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The ALPN that selects [`Http1Connector`]. Never negotiated.
pub fn alpn() -> ALPN {
    static NAME: LazyLock<CustomALPN> = LazyLock::new(|| CustomALPN::new(b"tidegate".to_vec()));
    ALPN::Custom(NAME.clone())
}

/// Connects to peers with [`alpn`].
pub struct Http1Connector {
    connector: TransportConnector,
    pool: Arc<IdlePool>,
}

impl Http1Connector {
    /// A connector with these options, whose idle connections are in `pool`.
    pub fn new(mut options: ConnectorOptions, pool: Arc<IdlePool>) -> Self {
        options.keepalive_pool_size = 1; // unused
        Self { connector: TransportConnector::new(Some(options)), pool }
    }

    async fn connect<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<Http1Stream> {
        let mut peer = peer.clone();
        if let Some(options) = peer.get_mut_peer_options() {
            options.alpn = ALPN::H1;
        }
        let stream = self.connector.new_stream(&peer).await?;
        match connections::Connection::of(&*stream) {
            Some(connection) => Ok(Http1Stream::new(stream, connection)),
            None => Error::e_explain(ErrorType::InternalError, "the connection has no state"),
        }
    }
}

#[async_trait]
impl Connector for Http1Connector {
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<(Connection<()>, bool)> {
        let key = peer.reuse_hash();
        let (stream, reused) = match self.pool.take(key) {
            Some(stream) => {
                yield_once().await;
                (stream, true)
            }
            // Boxed, so that the future is small if a connection is pooled.
            None => (Box::pin(self.connect(peer)).await?, false),
        };
        stream.connection.begin_request();
        let idle_timeout = peer.idle_timeout().unwrap_or_default();
        Ok((Connection::Stream(Box::new(PooledStream { stream: Some(stream), key, idle_timeout, pool: self.pool.clone() })), reused))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<()> {
        None // streams are not sessions
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(&self, _session: (), _peer: &P, _idle: Option<Duration>) {}
}

/// Yields to other ready tasks, so that requests that arrive together are sent together and wake the server once.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A connection checked out of the pool.
#[derive(Debug)]
struct PooledStream {
    /// `None` once returned to the pool or shut down.
    stream: Option<Http1Stream>,
    /// Pool key of the peer.
    key: u64,
    /// Idle timeout in the pool.
    idle_timeout: Duration,
    pool: Arc<IdlePool>,
}

impl PooledStream {
    fn open(&mut self) -> std::io::Result<Pin<&mut Http1Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| ErrorKind::NotConnected.into())
    }
}

impl AsyncWrite for PooledStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.get_mut().open()?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.get_mut().open()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let done = ready!(this.open()?.poll_shutdown(cx));
        this.stream = None;
        Poll::Ready(done)
    }
}

impl AsyncRead for PooledStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else { return Poll::Ready(Ok(())) };
        if stream.connection.is_answered() {
            // A connection with an incomplete request is closed.
            if let Some(stream) = this.stream.take().filter(Http1Stream::is_between_requests) {
                this.pool.put(this.key, stream, this.idle_timeout);
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut *stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            if stream.is_unsent() {
                // Bytes before the request are not its response: treat the connection as closed.
                buf.set_filled(before);
                this.stream = None;
            } else {
                stream.connection.set_received();
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Shutdown for PooledStream {
    async fn shutdown(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.stream.shutdown().await;
        }
    }
}

#[async_trait]
impl Peek for PooledStream {}

impl Ssl for PooledStream {}

delegate_digests!(PooledStream, stream => stream.stream);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const KEY: u64 = 7;

    fn checked_out() -> (PooledStream, Arc<connections::Connection>, Arc<IdlePool>, DuplexStream) {
        let (near, far) = duplex(1 << 10);
        let (pool, connection) = (Arc::new(IdlePool::new(1)), Arc::<connections::Connection>::default());
        let stream = Some(Http1Stream::new(Box::new(near), connection.clone()));
        (PooledStream { stream, key: KEY, idle_timeout: Duration::from_secs(9), pool: pool.clone() }, connection, pool, far)
    }

    #[tokio::test]
    async fn a_connection_whose_answer_has_been_read_is_kept_when_pingora_looks_at_it() {
        let (mut stream, connection, pool, mut far) = checked_out();
        stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n").await.unwrap();
        stream.write_all(b"?").await.unwrap();
        far.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(connection.has_received());
        connection.set_answered();
        assert!(pool.take(KEY).is_none(), "it is still in use");
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        assert!(stream.write_all(b"!").await.is_err());
        drop(stream);
        let mut kept = pool.take(KEY).unwrap();
        kept.stream.write_all(b"!").await.unwrap();
        let mut seen = Vec::new();
        drop(kept);
        far.read_to_end(&mut seen).await.unwrap();
        assert!(seen.ends_with(b"?!"));
    }

    #[tokio::test]
    async fn what_comes_before_the_request_has_left_is_no_answer_to_it() {
        let (mut stream, connection, pool, mut far) = checked_out();
        stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n").await.unwrap();
        far.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 0);
        assert!(!connection.has_received());
        assert!(stream.write_all(b"?").await.is_err());
        assert!(pool.take(KEY).is_none());
    }

    #[tokio::test]
    async fn a_connection_that_is_given_up_is_closed() {
        for (answered, sent, shut) in [(false, true, false), (true, false, false), (true, true, true)] {
            let (mut stream, connection, pool, mut far) = checked_out();
            stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n").await.unwrap();
            if sent {
                stream.write_all(b"?").await.unwrap();
            }
            if answered {
                connection.set_answered();
            }
            if shut {
                AsyncWriteExt::shutdown(&mut stream).await.unwrap();
            }
            if answered {
                assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            }
            drop(stream);
            assert!(pool.take(KEY).is_none());
            let mut rest = Vec::new();
            far.read_to_end(&mut rest).await.unwrap(); // comes to an end only where the connection is closed
            assert_eq!(rest.ends_with(b"?"), sent);
        }
    }
}
