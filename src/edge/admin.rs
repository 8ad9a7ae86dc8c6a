//! The admin listener: a page, metrics, health, status. It runs on its own thread, so that it responds while the process drains
//! and when all workers are busy.

use crate::auth::jwt::Tokens;
use crate::edge::drain::{IDLE_GRACE, is_set};
use crate::edge::serve::Process;
use crate::telemetry::history::BUCKET;
use crate::telemetry::pages::{self, Configuration, State, TargetHealth};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Timeout for the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of connections. Further ones wait until one is closed, for an idle one after [`HEADER_TIMEOUT`].
/// `server.max_connections` leaves descriptors for them.
const MAX_CONNECTIONS: usize = 64;
/// Descriptors held in reserve, released one by one when the process has run out of them.
const MAX_SPARE: usize = 8;

/// Serves `listener` on its own thread, once `from` is set (at once without it), until the process exits or hands the
/// listener over.
///
/// # Errors
/// When the thread or its runtime cannot be created.
pub fn serve(listener: TcpListener, process: Arc<Process>, from: Option<watch::Receiver<bool>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        #[expect(clippy::disallowed_methods, reason = "this thread does nothing else")]
        runtime.block_on(async move {
            if let Some(mut from) = from {
                is_set(&mut from).await;
            }
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => tokio::select! {
                    () = accept(listener, process.clone()) => {}
                    () = sample(&process) => {}
                },
                Err(e) => log::error!("the admin listener ended: {e}"),
            }
        });
    })?;
    Ok(())
}

/// Refills the reserve of descriptors up to [`MAX_SPARE`].
fn refill(spare: &mut Vec<OwnedFd>, listener: &tokio::net::TcpListener) {
    while spare.len() < MAX_SPARE
        && let Ok(copy) = listener.as_fd().try_clone_to_owned()
    {
        spare.push(copy);
    }
}

/// Continues the history of routes; never ends.
async fn sample(process: &Process) {
    let mut bucket = tokio::time::interval_at(Instant::now() + BUCKET, BUCKET);
    loop {
        bucket.tick().await;
        let live = process.live.load_full();
        live.history.sample(&live.metrics);
    }
}

async fn accept(listener: tokio::net::TcpListener, process: Arc<Process>) {
    let mut released = process.admin_released.subscribe();
    let mut connections = tokio::task::JoinSet::new();
    let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let mut spare = Vec::with_capacity(MAX_SPARE);
    refill(&mut spare, &listener);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            Some(_) = connections.join_next() => {
                refill(&mut spare, &listener);
                continue;
            }
            () = is_set(&mut released) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(_) => {
                if spare.pop().is_none() {
                    tokio::time::sleep(Duration::from_millis(100)).await; // until descriptors are available
                }
                continue;
            }
        };
        let process = process.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let process = process.clone();
            async move { Ok::<_, Infallible>(respond(&process, &request, is_loopback)) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let connection = server.serve_connection(TokioIo::new(stream), answer);
        let mut released = released.clone();
        connections.spawn(async move {
            let mut connection = pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                () = is_set(&mut released) => {}
            }
            // New connections go to the next process; a request may be in flight on this one.
            if tokio::time::timeout(IDLE_GRACE, connection.as_mut()).await.is_err() {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        });
    }
    drop((listener, spare));
    connections.join_all().await;
}

/// A page of the web whose name leads to this machine must not read a listener on a loopback address (DNS rebinding): such a
/// listener answers to addresses and to names without a dot only.
fn respond<B>(process: &Process, request: &Request<B>, is_loopback: bool) -> Response<Full<Bytes>> {
    let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    if is_loopback && !host.is_none_or(is_local) {
        let mut refusal = Response::new(Full::from("this listener answers to addresses and to names without a dot only, like localhost\n"));
        *refusal.status_mut() = http::StatusCode::MISDIRECTED_REQUEST;
        return refusal;
    }
    page(process, request.method().as_str(), request.uri().path())
}

fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    !name.contains('.') || name.parse::<std::net::IpAddr>().is_ok()
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
    let target = |index| TargetHealth::of(live.health.unavailability(index, now), live.health.cause(index));
    let upgrade = process.upgrade.lock().clone();
    let adjusted = live.adjusted.list(now);
    let jwks = live.tokens.as_ref().map(Tokens::statuses).unwrap_or_default();
    let state = State {
        metrics: &live.metrics,
        limiter: &live.limiter,
        store: Some(&live.store),
        now,
        started: process.started,
        uptime: process.began.elapsed(),
        serving: process.serving.load(Ordering::Relaxed),
        configuration: Configuration { generation: live.generation, digest: live.snapshot.digest, loaded_at: live.loaded_at },
        history: &live.history,
        failures: &live.failures,
        reloads: &reloads,
        key_files: live.snapshot.keys_dir.as_ref().map(|dir| dir.in_force.len()),
        jwks: &jwks,
        upgrade: &upgrade,
        target: &target,
        models: &|index| live.health.models(index, now),
        adjusted: &adjusted,
        log_lines_dropped: crate::telemetry::log::dropped(),
    };
    let page = pages::page(path, &state);
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = http::StatusCode::from_u16(page.status).unwrap_or_default();
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, page.content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    if let Some(Ok(policy)) = page.policy.map(http::HeaderValue::from_str) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_web_is_not_local() {
        for (host, fine) in [
            ("localhost:9464", true),
            ("gateway", true),
            ("127.0.0.1:9464", true),
            ("[::1]:9464", true),
            ("10.0.0.7", true),
            ("evil.example:9464", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_local(host), fine, "{host}");
        }
    }
}
