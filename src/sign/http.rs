//! A minimal HTTP client for token endpoints, the keys of issuers and exports of spans.
//!
//! All are asked seldom, so connections are not pooled. Every request has one deadline and a maximum response size.

use super::fresh::Reason;
use crate::egress::proxy::Proxy;
use crate::egress::{Egress, authority, is_proxys_refusal, tunnel};
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Maximum response size in bytes; token responses have 1 to 4 KiB.
pub const MAX_ANSWER: usize = 64 * 1024;
/// Deadline for resolving, connecting, proxy, TLS, request and response.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`MAX_ANSWER`] bytes.
    pub body: Bytes,
}

/// Sends a request to its absolute URI, through the proxy of `egress`, and reads the whole response. Does not follow
/// redirects.
///
/// # Errors
/// The failure, without parts of request or response.
pub async fn send(request: Request<Bytes>, egress: &Egress) -> Result<Answer, Reason> {
    match tokio::time::timeout(DEADLINE, attempt(request, egress)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no response within {DEADLINE:?}").into()),
    }
}

async fn attempt(request: Request<Bytes>, egress: &Egress) -> Result<Answer, Reason> {
    let uri = request.uri().clone();
    let host = uri.host().ok_or("the URL has no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("the URL is neither http nor https".into()),
    };
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let proxy = egress.proxy_for(tls, host, port).map(|proxy| &**proxy);
    let mut stream = match proxy {
        None => TcpStream::connect((host, port)).await.map_err(|_| "could not connect")?,
        Some(proxy) => {
            let connect = TcpStream::connect((proxy.host(), proxy.port())).await;
            connect.map_err(|e| format!("could not connect to the egress proxy {proxy}: {e}"))?
        }
    };
    if !tls {
        return exchange(stream, request, &uri, proxy).await;
    }
    if let Some(proxy) = proxy {
        let opened = tunnel::open(&mut stream, proxy, &authority(host, port)).await;
        opened.map_err(|what| format!("the egress proxy {proxy} {what}"))?;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "the URL's host is not a valid server name")?;
    let stream = connector()?.connect(name, stream).await.map_err(|_| "the TLS handshake failed")?;
    exchange(stream, request, &uri, None).await
}

/// Sends the request to the server, or in absolute form if the stream leads to the proxy `forward`.
async fn exchange<S>(stream: S, request: Request<Bytes>, uri: &Uri, forward: Option<&Proxy>) -> Result<Answer, Reason>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| "the connection failed")?;
    let (mut parts, body) = request.into_parts();
    match forward {
        // RFC 9112 3.2.1: origin-form on the request line, authority in `host`.
        None => {
            let path = uri.path_and_query().map_or("/", |p| p.as_str());
            parts.uri = path.parse().map_err(|_| "the URL's path is not valid")?;
        }
        // "When making a request to a proxy […], a client MUST send the target URI in absolute-form" (RFC 9112 3.2.2).
        Some(proxy) => parts.headers.extend(proxy.authorization().map(|value| (PROXY_AUTHORIZATION, value.clone()))),
    }
    if let Some(authority) = uri.authority() {
        let value = authority.as_str().parse().map_err(|_| "the URL's host is not valid")?;
        parts.headers.insert(HOST, value);
    }
    let exchange = async {
        let request = Request::from_parts(parts, Full::new(body));
        let response = sender.send_request(request).await.map_err(|_| "the connection failed")?;
        let status = response.status().as_u16();
        if let Some(proxy) = forward.filter(|_| is_proxys_refusal(status, response.headers())) {
            return Err(format!("the egress proxy {proxy} {}", tunnel::TunnelError::Refused(status)).into());
        }
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|_| "the response is incomplete or too large")?.to_bytes();
        Ok(Answer { status, headers: head.headers, body })
    };
    tokio::pin!(exchange);
    tokio::pin!(connection);
    // Drives the connection together with the exchange; both end here.
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut exchange => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

/// TLS with the system's root certificates, loaded once because it takes milliseconds.
fn connector() -> Result<TlsConnector, &'static str> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().ok()?);
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().ok()?;
        Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    });
    config.clone().map(TlsConnector::from).ok_or("the system's root certificates could not be read")
}
