//! HTTP/2 clients: hyper's, which is none of Pingora's code.

use super::http1::{Answer, Head};
use super::soon;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// One connection; clones share it.
#[derive(Clone)]
pub struct H2(SendRequest<Full<Bytes>>);

impl H2 {
    /// Cleartext HTTP/2 with prior knowledge.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    /// HTTP/2 over any stream.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// A chat request; returns once the answer's head is there.
    pub async fn chat(&self, headers: &[(&str, &str)], body: Bytes) -> hyper::Result<http::Response<Incoming>> {
        let mut request = http::Request::post("http://gateway/v1/chat/completions").header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(body)).unwrap()).await
    }

    /// Whether the server has closed the connection, or announced that it will.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Any request.
    pub async fn send(&self, request: http::Request<Full<Bytes>>) -> hyper::Result<http::Response<Incoming>> {
        soon("the head of an answer", self.0.clone().send_request(request)).await
    }
}

/// The whole of an answer.
pub async fn whole(response: http::Response<Incoming>) -> hyper::Result<Answer> {
    let head = head(&response);
    let body = soon("the body of an answer", response.into_body().collect()).await?.to_bytes().to_vec();
    Ok(Answer { head, body })
}

/// Status and headers.
pub fn head(response: &http::Response<Incoming>) -> Head {
    let text = |v: &http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(n, v)| (n.to_string(), text(v))).collect();
    Head { status: response.status().as_u16(), headers }
}
