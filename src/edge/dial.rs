//! How connections to providers in the clear are made, lent and kept.
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

use super::pool::Pool;
use super::wire::Wire;
use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::protocols::{
    ALPN, Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
};
use pingora_core::upstreams::peer::Peer;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The protocol of a peer in the clear; it is never negotiated.
pub fn in_the_clear() -> ALPN {
    static NAME: LazyLock<CustomALPN> = LazyLock::new(|| CustomALPN::new(b"tidegate".to_vec()));
    ALPN::Custom(NAME.clone())
}

/// Connects to the peers that [`in_the_clear`] is the protocol of.
pub struct Dialler {
    connector: TransportConnector,
    pool: Arc<Pool>,
}

impl Dialler {
    /// With these settings, and connections that wait in `pool`.
    pub fn new(options: ConnectorOptions, pool: Arc<Pool>) -> Self {
        Self { connector: TransportConnector::new(Some(options)), pool }
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
            None => (Wire::new(Box::pin(self.connector.new_stream(peer)).await?), false),
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
    answered: AtomicBool,
}

impl Loan {
    /// That of the connection which Pingora describes so; `None` where the connection is Pingora's own.
    pub fn of(connection: &Digest) -> Option<Arc<Self>> {
        connection.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Self>>().cloned()
    }

    /// In the only room that Pingora's description of a connection has for something of ours: what a proxy before the server
    /// is known by. Nobody asks for the response that the proxy would have given.
    pub fn describe(self: &Arc<Self>) -> Arc<ProxyDigest> {
        let (nothing, ()) = http::Response::new(()).into_parts();
        Arc::new(ProxyDigest::new(Box::new(nothing.into()), Some(Box::new(self.clone()))))
    }

    fn begin(&self, reused: bool) {
        self.reused.store(reused, Ordering::Relaxed);
        self.answered.store(false, Ordering::Relaxed);
    }

    /// Whether the connection has served a request before, which Pingora does not tell.
    pub fn is_reused(&self) -> bool {
        self.reused.load(Ordering::Relaxed)
    }

    fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// The answer has been read to its end.
    pub fn answered(&self) {
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
        self.get_mut().wire()?.poll_shutdown(cx)
    }
}

impl AsyncRead for Lent {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if let Some(wire) = this.wire.take_if(|wire| wire.loan().is_answered())
            && wire.is_between_requests()
        {
            this.pool.keep(this.key, wire, this.patience);
        }
        match &mut this.wire {
            Some(wire) => Pin::new(wire).poll_read(cx, buf),
            None => Poll::Ready(Ok(())),
        }
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
        loan(&lent).answered();
        assert!(pool.take(KEY).is_none(), "it is still in use");
        assert_eq!(lent.read(&mut [0]).await.unwrap(), 0);
        assert!(lent.write_all(b"!").await.is_err());
        let kept = pool.take(KEY).unwrap();
        drop(lent);
        drop(far);
        drop(kept);
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
                loan(&lent).answered();
            }
            if shut {
                Shutdown::shutdown(&mut lent).await;
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
