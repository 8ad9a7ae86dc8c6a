//! The connections of a provider that were made with the same settings: how they are made, and when they are closed.
//!
//! Pingora's pools cannot be searched from outside. To retire a connection the gateway stops using its pool key and closes
//! the socket itself:
//!
//! ```text
//! usable --a newer generation of the address, other settings--> retired --no attempt uses it--> closed
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

/// Connections of one provider that may serve each other's requests. Dropped with the last configuration that uses them,
/// which closes them.
pub struct Connections {
    addresses: Arc<Addresses>,
    via: Via,
    /// Unlike that of any other group in this process.
    id: u32,
    /// Whether they wait in Pingora's pools; otherwise in [`super::idle::IdlePool`].
    pooled_by_pingora: bool,
    made: Mutex<Vec<(Picked, Weak<Connection>)>>,
}

/// The state of one connection, shared by its stream and the attempts that use it. Stored as an `Arc` in
/// `ProxyDigest::user_data`, Pingora's only extension slot.
#[derive(Debug, Default)]
pub struct Connection {
    /// Whether it must not be used for another request.
    retired: AtomicBool,
    /// Attempts that use it. The attempt that makes it is counted from the beginning.
    leases: AtomicUsize,
    /// Whether an attempt has used it.
    used: AtomicBool,
    /// Whether bytes have been received since the request. Only set by [`super::http1`].
    heard: AtomicBool,
    /// Whether the answer has been read to its end.
    answered: AtomicBool,
    /// A second handle of a socket that Pingora pools, to close it with. `None` once it is closed.
    socket: Mutex<Option<std::net::TcpStream>>,
}

/// The use of a connection by one attempt. A retired connection is closed with its last lease.
#[derive(Debug)]
pub struct Lease {
    connection: Arc<Connection>,
    /// Whether the connection has served a request before.
    reused: bool,
    ended: bool,
}

impl Connections {
    /// A group without connections yet. `addresses` are those of [`Via::endpoint`].
    pub fn new(addresses: Arc<Addresses>, via: Via, pooled_by_pingora: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self { addresses, via, id: NEXT.fetch_add(1, Ordering::Relaxed), pooled_by_pingora, made: Mutex::default() }
    }

    /// Where they lead.
    pub fn addresses(&self) -> &Arc<Addresses> {
        &self.addresses
    }

    /// What they lead through.
    pub fn via(&self) -> &Via {
        &self.via
    }

    /// The part of a pool's key that says which connections an attempt may use.
    pub fn key(&self, picked: Picked) -> u64 {
        u64::from(self.id) << 32 | u64::from(picked.generation)
    }

    /// Stops the use of all connections that an attempt with this address could have used, and closes those that are idle.
    /// The others are closed after the requests that use them.
    pub fn retire(&self, picked: Picked) {
        if self.addresses.retire(picked) {
            log::info!("connections to {} are not used any more: one of them is silent or refuses requests", picked.address);
            self.retire_all(|made| made.address == picked.address && made.generation <= picked.generation);
        }
    }

    fn retire_all(&self, which: impl Fn(&Picked) -> bool) {
        let made: Vec<_> = self.made.lock().iter().filter(|(picked, _)| which(picked)).filter_map(|(_, made)| made.upgrade()).collect();
        made.iter().for_each(|made| made.retire());
    }

    /// Registers a connection to `address`, and attaches its state to the stream.
    fn register(&self, mut stream: Stream, address: std::net::SocketAddr, socket: Option<std::net::TcpStream>) -> Stream {
        let connection = Arc::new(Connection { leases: 1.into(), socket: Mutex::new(socket), ..Connection::default() });
        let mut made = self.made.lock();
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

    /// Connects to `first`, and after each [`NEXT_ADDRESS_AFTER`] to one more address of the provider as well. Returns the
    /// first connection, and where it leads.
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
                    // The attempt connects to the others itself.
                    Err(e) if address == first => return Err(e),
                    Err(_) => self.addresses.rest(address),
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
    /// Fails where another address of the provider has answered first: Pingora looks for pooled connections by their address,
    /// so the attempt has to ask for that one.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let failed = |e| self.via.failed(address, e);
        let Some(&wanted) = address.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "an upstream is no IP address");
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
                    return Error::e_explain(ErrorType::ConnectError, format!("{other} answered before {wanted}"));
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
    /// That of a stream; `None` where it was not made by [`Connections`].
    pub fn of(stream: &dyn GetProxyDigest) -> Option<Arc<Self>> {
        Self::in_digest(&*stream.get_proxy_digest()?).cloned()
    }

    fn in_digest(digest: &ProxyDigest) -> Option<&Arc<Self>> {
        digest.user_data.as_ref()?.downcast_ref()
    }

    /// Whether it must not be used for another request.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Whether the answer has been read to its end.
    pub fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// The next request begins.
    pub fn begin_request(&self) {
        self.heard.store(false, Ordering::Relaxed);
        self.answered.store(false, Ordering::Relaxed);
    }

    /// Bytes have been received.
    pub fn set_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether bytes have been received since the request.
    pub fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// The answer has been read to its end.
    pub fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        if self.leases.load(Ordering::SeqCst) == 0 {
            self.close();
        }
    }

    /// Ends it in both directions. Pingora then finds that it is closed.
    fn close(&self) {
        if let Some(socket) = self.socket.lock().take() {
            let _ = socket.shutdown(Shutdown::Both); // it may be closed already
        }
    }
}

impl Lease {
    /// Takes the connection that Pingora describes. `None` where it was not made by [`Connections`].
    pub fn of(description: &Digest) -> Option<Self> {
        let connection = Connection::in_digest(description.proxy_digest.as_deref()?)?;
        let reused = connection.used.swap(true, Ordering::Relaxed);
        connection.leases.fetch_add(usize::from(reused), Ordering::SeqCst);
        Some(Self { connection: connection.clone(), reused, ended: false })
    }

    /// Whether the connection had served a request before.
    pub const fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether bytes have been received since the request. Only known of connections of [`super::http1`].
    pub fn has_heard(&self) -> bool {
        self.connection.has_heard()
    }

    /// The answer has been read to its end.
    pub fn set_answered(&self) {
        self.connection.set_answered();
    }

    /// Gives the connection back.
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

/// Drops the second handle of a socket together with the first.
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

/// The keepalive of every upstream socket: probes end a dead connection after 30 s, and so do bytes that stay
/// unacknowledged for 30 s.
pub const KEEPALIVE: TcpKeepalive =
    TcpKeepalive { idle: Duration::from_secs(15), interval: Duration::from_secs(5), count: 3, user_timeout: Duration::from_secs(30) };
/// RFC 8305, section 5, the Connection Attempt Delay: "A recommended value for a default delay is 250 milliseconds."
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
