//! The simulator's server: connections, the record of what arrived, and one exchange from head to body.

use super::body::{Paced, Step, Watch};
use super::dialect::{Dialect, Incoming, Refusal, find};
use super::play::{Scene, answered, refused};
use super::reply;
use super::script::{Script, Trouble};
use super::seen::{DEFAULT_SHOWN, Ending, Ring, Seen, UNRECORDED};
use super::vertex::token;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Largest request body, in bytes.
pub const MAX_BODY: usize = 64 << 20;
/// Connections at a time; further ones wait in the listener's queue.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Streams at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 1_000;
/// How long a connection may take for a head, or be idle.
const HEAD_DEADLINE: Duration = Duration::from_secs(300);
/// How long a body may take.
const BODY_DEADLINE: Duration = Duration::from_secs(60);
/// Names whose `fail-first` is counted; when there are more, counting begins anew.
const MAX_COUNTED: usize = 4_096;
/// Pause after the listener could not accept (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A simulator that is bound and not yet serving.
pub struct Simulator {
    listener: TcpListener,
    handle: Handle,
    pace: Duration,
}

/// What a test holds while the simulator serves.
#[derive(Clone)]
pub struct Handle {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ring: Arc<Ring>,
    /// Path and model -> requests so far.
    failures: Mutex<HashMap<String, u32>>,
}

impl Handle {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The last [`MAX_SEEN`](super::seen::MAX_SEEN) requests, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.ring.all()
    }
}

impl Simulator {
    /// Binds to `address`; port 0 takes a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let handle = Handle { address: listener.local_addr()?, shared: Arc::default() };
        Ok(Self { listener, handle, pace: Duration::ZERO })
    }

    /// Waits for so long before each event of a stream but the first, where the script of a model does not say `pace`.
    pub fn with_pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.address
    }

    /// The last requests, oldest first; see [`Simulator::handle`] for asking while it serves.
    pub fn seen(&self) -> Vec<Seen> {
        self.handle.seen()
    }

    /// What stays in hand while [`Simulator::serve`] has the simulator.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves HTTP/1.1 and cleartext HTTP/2 until `shutdown` resolves; open connections are then cut.
    pub async fn serve(self, shutdown: impl Future) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = &mut shutdown => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve_connection(stream, Arc::clone(&self.handle.shared), self.pace));
                    }
                    Err(error) => {
                        log::warn!("simulator: cannot accept: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>, pace: Duration) {
    let _ = stream.set_nodelay(true); // events are to be seen one by one; a socket that refuses still works
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let service = service_fn(move |request| exchange(request, Arc::clone(&shared), pace));
    // an error here is a client that left or a script that broke the connection: both are in the record
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// Why an exchange ends without an answer: the connection breaks.
type Broken = io::Error;

async fn exchange(request: Request<body::Incoming>, shared: Arc<Shared>, pace: Duration) -> Result<Response<Paced>, Broken> {
    let path = request.uri().path();
    let unrecorded = || Watch::new(Arc::clone(&shared.ring), UNRECORDED);
    if path == "/healthz" {
        return respond(plain(200, "text/plain", b"ok\n".to_vec()), unrecorded());
    }
    if path == "/_simulator/requests" {
        let last = request.uri().query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("last=")));
        let count = last.and_then(|count| count.parse().ok()).unwrap_or(DEFAULT_SHOWN);
        let shown = serde_json::to_vec_pretty(&shared.ring.show(count)).unwrap_or_default();
        return respond(plain(200, "application/json", shown), unrecorded());
    }
    let number = shared.ring.arrived(&request);
    let watch = Watch::new(Arc::clone(&shared.ring), number);
    let Some(dialect) = find(path) else {
        return respond(
            plain(404, "application/json", br#"{"error":{"message":"The simulator has nothing at this path."}}"#.to_vec()),
            watch,
        );
    };
    if request.method() != Method::POST {
        return respond(refused(dialect, &Refusal::status(405, "Only POST is allowed here.")), watch);
    }
    let (head, body) = request.into_parts();
    let body = match timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY).collect()).await {
        Err(_) => return respond(refused(dialect, &Refusal::status(408, "The body took too long.")), watch),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return respond(refused(dialect, &Refusal::status(413, format!("The body is larger than {MAX_BODY} bytes."))), watch);
        }
        Ok(Err(error)) => return Err(io::Error::other(error)),
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    shared.ring.body(number, &body);
    if head.uri.path() == token::PATH {
        let (status, answer) = token::exchange(&body);
        return respond(plain(status, "application/json", answer.to_string().into_bytes()), watch);
    }
    perform(dialect, &head, &body, (&shared, pace), watch).await
}

/// Answers a request that has arrived whole.
async fn perform(
    dialect: &dyn Dialect,
    head: &http::request::Parts,
    body: &Bytes,
    (shared, pace): (&Shared, Duration),
    watch: Watch,
) -> Result<Response<Paced>, Broken> {
    let path = head.uri.path();
    let path_and_query = head.uri.path_and_query().map_or(path, |whole| whole.as_str());
    let (ask, reply) = match dialect.read(Incoming { path_and_query, headers: &head.headers, body }) {
        Err(refusal) => return respond(refused(dialect, &refusal), watch),
        Ok(ask) => match reply::decide(&ask) {
            Ok(reply) => (ask, reply),
            Err(why) => return respond(refused(dialect, &Refusal { code: "invalid_value", ..Refusal::status(400, why) }), watch),
        },
    };
    let script = shared.still_failing(path, &ask.model, ask.script.clone());
    let script = Script { pace: Some(script.pace.unwrap_or(pace)), ..script };
    if !script.delay.is_zero() {
        sleep(script.delay).await;
    }
    match script.trouble {
        Some(Trouble::Hang) => return pending().await,
        Some(Trouble::Close) => {
            watch.settle(Ending::Broken);
            return Err(io::Error::other("the script closed this connection"));
        }
        _ => {}
    }
    respond(answered(dialect, &ask, &reply, &script), watch)
}

impl Shared {
    /// The script as it is for this request: recovered after the first few where it says `fail-first`.
    fn still_failing(&self, path: &str, model: &str, script: Script) -> Script {
        let Some(first) = script.fail_first else { return script };
        let mut failures = self.failures.lock();
        if failures.len() >= MAX_COUNTED {
            failures.clear();
        }
        let so_far = failures.entry(format!("{path} {model}")).or_default();
        *so_far = so_far.saturating_add(1);
        if *so_far > first { script.recovered() } else { script }
    }
}

fn plain(status: u16, content_type: &'static str, body: Vec<u8>) -> Scene {
    Scene { status, content_type, headers: Vec::new(), length: Some(body.len()), steps: vec![Step::Send(body.into())] }
}

fn respond(scene: Scene, watch: Watch) -> Result<Response<Paced>, Broken> {
    let mut response = Response::new(Paced::new(scene.steps, watch));
    *response.status_mut() = StatusCode::from_u16(scene.status).map_err(io::Error::other)?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(scene.content_type));
    if let Some(length) = scene.length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    for (name, value) in scene.headers {
        headers.insert(name, HeaderValue::from_str(&value).map_err(io::Error::other)?);
    }
    Ok(response)
}
