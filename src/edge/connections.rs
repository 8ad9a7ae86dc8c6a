//! The connections of a provider that were made with the same settings: how they are made, and when they are closed.
//!
//! Pingora keeps its connections in pools that nobody else can look into. What the gateway can do is give up a key of
//! these pools, and close the sockets behind it:
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

/// RFC 8305, section 5, the Connection Attempt Delay: "A recommended value for a default delay is 250 milliseconds."
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// When TCP begins to probe a silent connection.
const PROBE_AFTER: Duration = Duration::from_secs(15);
/// How often it probes.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Unanswered probes that end a connection.
const PROBES: usize = 3;
/// How long sent bytes may stay unacknowledged before the connection ends.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The keepalive of every upstream socket.
pub const KEEPALIVE: TcpKeepalive = TcpKeepalive { idle: PROBE_AFTER, interval: PROBE_EVERY, count: PROBES, user_timeout: UNACKNOWLEDGED };

/// Connections of one provider that may serve each other's requests. Dropped with the last configuration that uses them,
/// which closes them.
pub struct Connections {
    addresses: Arc<Addresses>,
    via: Via,
    /// Unlike that of any other group in this process.
    id: u32,
    /// Whether Pingora keeps them in its pools; otherwise the gateway's own pool does.
    pooled_by_pingora: bool,
    made: Mutex<Vec<Weak<Connection>>>,
}

/// One connection, as it is found in Pingora's description of it.
#[derive(Debug)]
pub struct Connection {
    picked: Picked,
    retired: AtomicBool,
    /// Attempts that use it; the one that makes it counts from the beginning.
    leases: AtomicUsize,
    /// A second handle of the socket, to close it with; `None` where the gateway's own pool closes it, and once it is closed.
    socket: Mutex<Option<std::net::TcpStream>>,
}

/// The use of a connection by one attempt. A retired connection is closed with its last lease.
pub struct Lease(Arc<Connection>);

impl Connections {
    /// A group without connections yet. `addresses` are those of [`Via::place`].
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
    pub fn retire(&self, picked: Option<Picked>) {
        if let Some(picked) = picked
            && self.addresses.retire(picked)
        {
            log::info!("connections to {} are not used any more: one of them is silent or refuses requests", picked.address);
            let is_older = |made: &Connection| made.picked.address == picked.address && made.picked.generation <= picked.generation;
            self.each(|made| {
                if is_older(made) {
                    made.retire()
                }
            });
        }
    }

    fn each(&self, act: impl Fn(&Connection)) {
        let made: Vec<_> = self.made.lock().iter().filter_map(Weak::upgrade).collect();
        made.iter().for_each(|made| act(made));
    }

    fn register(&self, connection: &Arc<Connection>) {
        let mut made = self.made.lock();
        if made.len() == made.capacity() {
            made.retain(|made| made.strong_count() > 0);
        }
        made.push(Arc::downgrade(connection));
    }

    /// Registers a connection to `address`, and describes it to Pingora.
    fn made(&self, mut stream: Stream, address: std::net::SocketAddr, socket: Option<std::net::TcpStream>) -> Stream {
        let picked = self.addresses.current(address);
        let connection = Arc::new(Connection { picked, retired: false.into(), leases: 1.into(), socket: Mutex::new(socket) });
        self.register(&connection);
        stream.tracer = Some(Tracer(Box::new(Closing(connection.clone()))));
        stream.set_proxy_digest(describe(connection));
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
            return Ok(self.made(stream.into(), wanted, None));
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
        Ok(self.made(stream.into(), wanted, socket))
    }
}

/// Pingora's description of a connection, with something of the gateway's in `ProxyDigest::user_data`, its only extension
/// slot. Nothing reads the response that a real proxy would have given.
pub fn describe(extension: impl Send + Sync + 'static) -> ProxyDigest {
    let (nothing, ()) = http::Response::new(()).into_parts();
    ProxyDigest::new(Box::new(nothing.into()), Some(Box::new(extension)))
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.each(Connection::retire);
    }
}

impl Connection {
    /// The connection below a stream; `None` where the gateway has not made it.
    pub fn below(stream: &dyn GetProxyDigest) -> Option<Arc<Self>> {
        stream.get_proxy_digest()?.user_data.as_ref()?.downcast_ref::<Arc<Self>>().cloned()
    }

    /// Whether it must not be used for another request.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
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
    /// Takes the connection that Pingora describes, `reused` where another attempt has made it. `None` for one of the gateway's
    /// own pool.
    pub fn of(connection: &Digest, reused: bool) -> Option<Self> {
        let connection = connection.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Connection>>()?;
        connection.leases.fetch_add(usize::from(reused), Ordering::SeqCst);
        Some(Self(connection.clone()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.leases.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.retired.load(Ordering::SeqCst) {
            self.0.close();
        }
    }
}

/// Drops the second handle of a socket together with the first.
#[derive(Debug)]
struct Closing(Arc<Connection>);

impl Tracing for Closing {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        self.0.socket.lock().take();
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Self(self.0.clone()))
    }
}
