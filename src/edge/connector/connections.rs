//! Establishes and closes the connections of a provider that share the same settings.
//!
//! Pingora's pools cannot be searched. To retire a connection, the gateway stops using its pool key and closes the socket:
//!
//! ```text
//! usable --newer generation of the address, other settings--> retired --no attempt uses it--> closed
//! ```

use super::addresses::{Addresses, Picked};
use super::via::Via;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::ext::TcpKeepalive;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{Digest, GetProxyDigest};
use pingora_core::upstreams::peer::{Tracer, Tracing};
use pingora_core::{Error, ErrorType, Result};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep_until};

/// A group of interchangeable connections. Dropped with the last configuration that uses it, which closes them.
pub struct Connections {
    pub(super) addresses: Arc<Addresses>,
    pub(super) via: Via,
    /// Unique in this process.
    id: u32,
    /// Whether idle ones are in Pingora's pool, and may speak HTTP/2; otherwise in [`super::idle::IdlePool`].
    pub(super) pooled_by_pingora: bool,
    all: Mutex<Vec<(Picked, Weak<Connection>)>>,
}

/// The state of one connection, shared by its stream and the attempts that use it. Stored as an `Arc` in
/// `ProxyDigest::user_data`, Pingora's only extension slot.
#[derive(Debug, Default)]
pub struct Connection {
    /// Whether it must not be reused.
    retired: AtomicBool,
    /// Number of attempts using it, including the one that establishes it.
    leases: AtomicUsize,
    /// Whether an attempt has used it.
    used: AtomicBool,
    /// Whether bytes were received since the request. Only set by [`super::http1`].
    received: AtomicBool,
    /// Whether the response is complete.
    answered: AtomicBool,
    /// Duplicate of a socket in Pingora's pool, used to close it. `None` once closed.
    socket: Mutex<Option<std::net::TcpStream>>,
}

/// The use of a connection by one attempt. A retired connection is closed with its last lease.
#[derive(Debug)]
pub struct Lease {
    pub connection: Arc<Connection>,
    /// Whether the connection has served an earlier request.
    pub reused: bool,
    ended: bool,
}

impl Connections {
    /// An empty group. `addresses` are those of [`Via::endpoint`].
    pub fn new(addresses: Arc<Addresses>, via: Via, pooled_by_pingora: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self { addresses, via, id: NEXT.fetch_add(1, Ordering::Relaxed), pooled_by_pingora, all: Mutex::default() }
    }

    /// The pool key of the connections that an attempt may use.
    pub fn key(&self, picked: Picked) -> u64 {
        u64::from(self.id) << 32 | u64::from(picked.generation)
    }

    /// Retires all connections of this address and generation. Idle ones are closed now, the others after their requests.
    pub fn retire(&self, picked: Picked) {
        if self.addresses.retire(picked) {
            log::info!("retired connections to {}: one of them timed out or refused requests", picked.address);
            self.retire_all(|made| made.address == picked.address && made.generation <= picked.generation);
        }
    }

    fn retire_all(&self, which: impl Fn(&Picked) -> bool) {
        let made: Vec<_> = self.all.lock().iter().filter(|(picked, _)| which(picked)).filter_map(|(_, made)| made.upgrade()).collect();
        made.iter().for_each(|made| made.retire());
    }

    /// Registers a connection to `address` and attaches its state to the stream.
    fn register(&self, mut stream: Stream, address: std::net::SocketAddr, socket: Option<std::net::TcpStream>) -> Stream {
        let connection = Arc::new(Connection { leases: 1.into(), socket: Mutex::new(socket), ..Connection::default() });
        let mut made = self.all.lock();
        if made.len() == made.capacity() {
            made.retain(|(_, made)| made.strong_count() > 0);
        }
        made.push((self.addresses.current(address), Arc::downgrade(&connection)));
        drop(made);
        stream.tracer = Some(Tracer(Box::new(CloseBoth(connection.clone()))));
        let (unused, ()) = http::Response::new(()).into_parts(); // a CONNECT proxy's response; nothing reads it
        stream.set_proxy_digest(ProxyDigest::new(Box::new(unused.into()), Some(Box::new(connection))));
        stream
    }

    /// Connects to `first` and, after each [`NEXT_ADDRESS_AFTER`], to one more address. Returns the first connection and its
    /// address.
    async fn race(&self, first: std::net::SocketAddr) -> std::io::Result<(std::net::SocketAddr, TcpStream)> {
        let connect = |address| async move { (address, TcpStream::connect(address).await) };
        let mut tried = vec![first];
        let mut racing = FuturesUnordered::new();
        racing.push(connect(first));
        let mut next_at = Some(Instant::now() + NEXT_ADDRESS_AFTER);
        loop {
            tokio::select! {
                Some((address, result)) = racing.next() => match result {
                    Ok(stream) => return Ok((address, stream)),
                    // The attempt retries with other addresses itself.
                    Err(e) if address == first => return Err(e),
                    Err(_) => self.addresses.skip(address),
                },
                () = sleep_until(next_at.unwrap_or_else(Instant::now)), if next_at.is_some() => {
                    next_at = match self.addresses.alternative(&tried) {
                        Some(other) => {
                            tried.push(other);
                            racing.push(connect(other));
                            Some(Instant::now() + NEXT_ADDRESS_AFTER)
                        }
                        None => None,
                    };
                }
            }
        }
    }
}

#[async_trait]
impl L4Connect for Connections {
    /// Fails if another address connected first: Pingora's pool is keyed by address, so the attempt has to request that one.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let failed = |e| self.via.failed(address, e);
        let Some(&wanted) = address.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "the upstream is not an IP address");
        };
        if let Via::Socket(path) = &self.via {
            let stream = UnixStream::connect(path).await.map_err(|e| self.via.failed(path.display(), e))?;
            return Ok(self.register(stream.into(), wanted, None));
        }
        let mut stream = match self.addresses.take_spare(wanted) {
            Some(stream) => stream,
            None => match self.race(wanted).await.map_err(failed)? {
                (address, stream) if address == wanted => stream,
                (other, stream) => {
                    self.addresses.put_spare(other, stream);
                    return Error::e_explain(ErrorType::ConnectError, format!("{other} connected before {wanted}"));
                }
            },
        };
        self.via.complete(&mut stream).await?;
        let mut socket = None;
        let stream = if self.pooled_by_pingora {
            let stream = stream.into_std().map_err(failed)?;
            socket = Some(stream.try_clone().map_err(failed)?);
            TcpStream::from_std(stream).map_err(failed)?
        } else {
            stream
        };
        Ok(self.register(stream.into(), wanted, socket))
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.retire_all(|_| true);
    }
}

impl Connection {
    /// The state attached to a stream; `None` if it is not from [`Connections`].
    pub fn of(stream: &dyn GetProxyDigest) -> Option<Arc<Self>> {
        Self::in_digest(&*stream.get_proxy_digest()?).cloned()
    }

    fn in_digest(digest: &ProxyDigest) -> Option<&Arc<Self>> {
        digest.user_data.as_ref()?.downcast_ref()
    }

    /// Whether it must not be reused.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Whether the response is complete.
    pub fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Resets the state for the next request.
    pub fn begin_request(&self) {
        self.received.store(false, Ordering::Relaxed);
        self.answered.store(false, Ordering::Relaxed);
    }

    /// Records that bytes were received.
    pub fn set_received(&self) {
        self.received.store(true, Ordering::Relaxed);
    }

    /// Whether bytes were received since the request.
    pub fn has_received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// Records that the response is complete.
    pub fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        if self.leases.load(Ordering::SeqCst) == 0 {
            self.close();
        }
    }

    /// Shuts the socket down; Pingora then sees it as closed.
    fn close(&self) {
        if let Some(socket) = self.socket.lock().take() {
            let _ = socket.shutdown(Shutdown::Both); // fails if it is closed
        }
    }
}

impl Lease {
    /// Takes the connection of this digest; `None` if it is not from [`Connections`].
    pub fn of(description: &Digest) -> Option<Self> {
        let connection = Connection::in_digest(description.proxy_digest.as_deref()?)?;
        let reused = connection.used.swap(true, Ordering::Relaxed);
        connection.leases.fetch_add(usize::from(reused), Ordering::SeqCst);
        Some(Self { connection: connection.clone(), reused, ended: false })
    }

    /// Releases the connection.
    pub fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true)
            && self.connection.leases.fetch_sub(1, Ordering::SeqCst) == 1
            && self.connection.retired.load(Ordering::SeqCst)
        {
            self.connection.close();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end();
    }
}

/// Closes the duplicate of a socket when Pingora closes the original.
#[derive(Debug)]
struct CloseBoth(Arc<Connection>);

impl Tracing for CloseBoth {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        self.0.socket.lock().take();
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Self(self.0.clone()))
    }
}

/// Keepalive of upstream sockets: a dead connection is closed after 30 s, by probes or unacknowledged data.
pub const KEEPALIVE: TcpKeepalive =
    TcpKeepalive { idle: Duration::from_secs(15), interval: Duration::from_secs(5), count: 3, user_timeout: Duration::from_secs(30) };
/// RFC 8305, section 5, the Connection Attempt Delay: "A recommended value for a default delay is 250 milliseconds."
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
