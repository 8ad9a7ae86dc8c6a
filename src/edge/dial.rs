//! How connections to providers that are asked with HTTP/1.1 only are made, lent and kept: those in the clear, and over TLS where
//! the configuration says so.
//!
//! Pingora hands the making of connections over to whoever names a protocol of his own; what is handed back here is a
//! plain stream, on which Pingora then speaks HTTP/1.1. It is lent for one answer:
//!
//! ```text
//! Pool --take--> Lent --answer read to its end--> Pingora reads once more: has the server closed? --end of stream--> Pool
//!  dialled ------^  \--anything else that ends it--> closed
//! ```
//!
//! That last read is how Pingora sees whether a connection can be kept. It is told that the stream has ended and drops it,
//! and the connection goes into the gateway's own [`Pool`], which costs less than Pingora's.
//!
//! The contract with `pingora-core` and `pingora-proxy` 0.9.1, which their own sources are the only documentation of:
//! - Behind the last piece of an answer's body, nothing is read from a stream but to see whether it can be kept.
//! - A stream that must not be kept (`Connection: close`, bytes too many, …) is shut down or dropped without that.
//! - Pingora's own pool is asked first. It never has a stream of these: none is left to be kept after that read.

use super::connections::describe;
use super::pool::Pool;
use super::wire::Wire;
use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::protocols::{
    ALPN, Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest, UniqueID,
    UniqueIDType,
};
use pingora_core::upstreams::peer::Peer;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Marks a peer whose connections the [`Dialler`] makes. It is never negotiated.
pub fn http1_only() -> ALPN {
    static NAME: LazyLock<CustomALPN> = LazyLock::new(|| CustomALPN::new(b"tidegate".to_vec()));
    ALPN::Custom(NAME.clone())
}

/// Connects to the peers that [`http1_only`] marks.
pub struct Dialler {
    connector: TransportConnector,
    pool: Arc<Pool>,
}

impl Dialler {
    /// With these settings, and connections that wait in `pool`.
    pub fn new(mut options: ConnectorOptions, pool: Arc<Pool>) -> Self {
        options.keepalive_pool_size = 1; // it is never used
        Self { connector: TransportConnector::new(Some(options)), pool }
    }

    async fn make<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<Stream> {
        let mut peer = peer.clone();
        if let Some(options) = peer.get_mut_peer_options() {
            options.alpn = ALPN::H1;
        }
        self.connector.new_stream(&peer).await
    }
}

#[async_trait]
impl Connector for Dialler {
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<(Connection<()>, bool)> {
        let key = peer.reuse_hash();
        let (wire, reused) = match self.pool.take(key) {
            Some(wire) => {
                give_way().await;
                (wire, true)
            }
            // Boxed, so that a request which finds a connection has no room made for the making of one.
            None => (Wire::new(Box::pin(self.make(peer)).await?), false),
        };
        wire.loan().begin(reused);
        let patience = peer.idle_timeout().unwrap_or_default();
        Ok((Connection::Stream(Box::new(Lent { wire: Some(wire), key, patience, pool: self.pool.clone() })), reused))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<()> {
        None // a stream is no session
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(&self, _session: (), _peer: &P, _idle: Option<Duration>) {}
}

/// Lets the tasks go on that are ready. Requests that have come together then leave together, which wakes a server once
/// where it would be woken for each of them.
async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What the hooks and a connection that is lent tell each other.
#[derive(Debug, Default)]
pub struct Loan {
    reused: AtomicBool,
    heard: AtomicBool,
    answered: AtomicBool,
}

impl Loan {
    /// That of the connection which Pingora describes so; `None` where the connection is Pingora's own.
    pub fn of(connection: &Digest) -> Option<Arc<Self>> {
        connection.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Self>>().cloned()
    }

    /// Pingora's description of the connection.
    pub fn describe(self: &Arc<Self>) -> Arc<ProxyDigest> {
        Arc::new(describe(self.clone()))
    }

    fn begin(&self, reused: bool) {
        self.reused.store(reused, Ordering::Relaxed);
        self.heard.store(false, Ordering::Relaxed);
        self.answered.store(false, Ordering::Relaxed);
    }

    /// Whether the connection has served a request before, which Pingora does not tell.
    pub fn is_reused(&self) -> bool {
        self.reused.load(Ordering::Relaxed)
    }

    /// Whether anything has come since the request.
    pub fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Says that the answer has been read to its end.
    pub fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

/// A connection while Pingora has it.
#[derive(Debug)]
struct Lent {
    /// `None` once it has gone into the pool or has been shut down.
    wire: Option<Wire>,
    /// What it is connected to.
    key: u64,
    /// How long it may wait in the pool.
    patience: Duration,
    pool: Arc<Pool>,
}

impl Lent {
    fn wire(&mut self) -> std::io::Result<Pin<&mut Wire>> {
        self.wire.as_mut().map(Pin::new).ok_or_else(|| ErrorKind::NotConnected.into())
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.get_mut().wire()?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.get_mut().wire()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let done = ready!(this.wire()?.poll_shutdown(cx));
        this.wire = None;
        Poll::Ready(done)
    }
}

impl AsyncRead for Lent {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let Some(wire) = &mut this.wire else { return Poll::Ready(Ok(())) };
        if wire.loan().answered.load(Ordering::Relaxed) {
            // One whose request has not been sent to its end is closed.
            if let Some(wire) = this.wire.take().filter(Wire::is_between_requests) {
                this.pool.keep(this.key, wire, this.patience);
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut *wire).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            if wire.holds_back() {
                // Whatever this answers, it is not the request that waits here: as good as closed.
                buf.set_filled(before);
                this.wire = None;
            } else {
                wire.loan().heard.store(true, Ordering::Relaxed);
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Shutdown for Lent {
    async fn shutdown(&mut self) {
        if let Some(mut wire) = self.wire.take() {
            wire.stream_mut().shutdown().await;
        }
    }
}

#[async_trait]
impl Peek for Lent {}

impl Ssl for Lent {}

impl UniqueID for Lent {
    fn id(&self) -> UniqueIDType {
        self.wire.as_ref().map_or(-1, |wire| wire.stream().id())
    }
}

impl GetTimingDigest for Lent {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.wire.as_ref().map(|wire| wire.stream().get_timing_digest()).unwrap_or_default()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.wire.as_ref().map(|wire| wire.stream().get_read_pending_time()).unwrap_or_default()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.wire.as_ref().map(|wire| wire.stream().get_write_pending_time()).unwrap_or_default()
    }
}

impl GetProxyDigest for Lent {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.wire.as_ref().map(|wire| wire.description().clone())
    }
}

impl GetSocketDigest for Lent {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.wire.as_ref().and_then(|wire| wire.stream().get_socket_digest())
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        if let Some(wire) = &mut self.wire {
            wire.stream_mut().set_socket_digest(digest);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const KEY: u64 = 7;

    fn lent() -> (Lent, Arc<Pool>, DuplexStream) {
        let (near, far) = duplex(1 << 10);
        let pool = Arc::new(Pool::new(1));
        (Lent { wire: Some(Wire::new(Box::new(near))), key: KEY, patience: Duration::from_secs(9), pool: pool.clone() }, pool, far)
    }

    /// The loan as the hooks find it.
    fn loan(lent: &Lent) -> Arc<Loan> {
        let digest = Digest { proxy_digest: lent.get_proxy_digest(), ..Digest::default() };
        Loan::of(&digest).unwrap()
    }

    #[tokio::test]
    async fn a_connection_whose_answer_has_been_read_is_kept_when_pingora_looks_at_it() {
        let (mut lent, pool, mut far) = lent();
        lent.write_all(b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n").await.unwrap();
        lent.write_all(b"?").await.unwrap();
        far.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        lent.read_exact(&mut answer).await.unwrap();
        assert!(loan(&lent).has_heard());
        loan(&lent).set_answered();
        assert!(pool.take(KEY).is_none(), "it is still in use");
        assert_eq!(lent.read(&mut [0]).await.unwrap(), 0);
        assert!(lent.write_all(b"!").await.is_err());
        drop(lent);
        let mut kept = pool.take(KEY).unwrap();
        kept.stream_mut().write_all(b"!").await.unwrap();
        let mut seen = Vec::new();
        drop(kept);
        far.read_to_end(&mut seen).await.unwrap();
        assert!(seen.ends_with(b"?!"));
    }

    #[tokio::test]
    async fn what_comes_before_the_request_has_left_is_no_answer_to_it() {
        let (mut lent, pool, mut far) = lent();
        lent.write_all(b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n").await.unwrap();
        far.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        let loan = loan(&lent);
        assert_eq!(lent.read(&mut [0; 64]).await.unwrap(), 0);
        assert!(!loan.has_heard());
        assert!(lent.write_all(b"?").await.is_err());
        assert!(pool.take(KEY).is_none());
    }

    #[tokio::test]
    async fn a_connection_that_is_given_up_is_closed() {
        for (answered, sent, shut) in [(false, true, false), (true, false, false), (true, true, true)] {
            let (mut lent, pool, mut far) = lent();
            lent.write_all(b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n").await.unwrap();
            if sent {
                lent.write_all(b"?").await.unwrap();
            }
            if answered {
                loan(&lent).set_answered();
            }
            if shut {
                AsyncWriteExt::shutdown(&mut lent).await.unwrap();
            }
            if answered {
                assert_eq!(lent.read(&mut [0]).await.unwrap(), 0);
            }
            drop(lent);
            assert!(pool.take(KEY).is_none());
            let mut rest = Vec::new();
            far.read_to_end(&mut rest).await.unwrap(); // comes to an end only where the connection is closed
            assert_eq!(rest.ends_with(b"?"), sent);
        }
    }
}
