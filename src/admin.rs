//! The admin listener: metrics, health, status. It has a thread of its own, apart from the proxy, so that it answers
//! while the process drains and when every worker is busy.

use crate::edge::serve::Process;
use crate::telemetry::pages::{self, State, TargetHealth};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a scraper may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens on `address`, on a thread of its own, until the process ends or hands the address to the next one.
///
/// # Errors
/// When the address cannot be listened on, after `patience`.
pub fn serve(address: SocketAddr, process: Arc<Process>, patience: Duration) -> io::Result<()> {
    let listener = bind(address, patience)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => accept(listener, process).await,
                Err(e) => log::error!("the admin listener ended: {e}"),
            }
        });
    })?;
    Ok(())
}

fn bind(address: SocketAddr, patience: Duration) -> io::Result<TcpListener> {
    const AGAIN: Duration = Duration::from_millis(10);
    let until = Instant::now() + patience;
    loop {
        match TcpListener::bind(address) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => std::thread::sleep(AGAIN),
            bound => return bound,
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, process: Arc<Process>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = process.admin_leaves.notified() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await; // out of file descriptors: try again when some are back
            continue;
        };
        let process = process.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let process = process.clone();
            async move { Ok::<_, Infallible>(page(&process, request.method().as_str(), request.uri().path())) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
    }
}

fn page(process: &Process, method: &str, path: &str) -> Response<Full<Bytes>> {
    if !matches!(method, "GET" | "HEAD") {
        let mut refusal = Response::new(Full::default());
        *refusal.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
        refusal.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let live = process.live.load();
    let now = live.now();
    let reloads = process.reloads.lock().clone();
    let target = |index| TargetHealth::of(live.health.rests(index, now));
    let state = State {
        metrics: &live.metrics,
        limiter: &live.limiter,
        store: Some(&live.store),
        now,
        started: process.started,
        uptime: process.began.elapsed(),
        serving: process.serving.load(Ordering::Relaxed),
        reloads: &reloads,
        target: &target,
        models: &|index| live.health.models(index, now),
        log_lines_dropped: crate::telemetry::log::dropped(),
    };
    let page = pages::page(path, &state);
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = http::StatusCode::from_u16(page.status).unwrap_or_default();
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(page.content_type));
    response
}
