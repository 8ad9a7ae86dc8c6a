//! The stream of a client connection, which inspects request heads before Pingora reads them.
//!
//! Pingora responds to an invalid head by itself, without a hook. On an HTTP/1 connection that awaits a head nothing else is
//! written, so what Pingora writes is dropped, and the stream is returned to the task of the connection, which responds, counts
//! and logs ([`super::reject`]). The same happens when a head times out.

use super::connector::delegate_digests;
use super::head::{Frames, Head, PREFACE};
use super::timer::ConnectionTimer;
use crate::telemetry::labels::Rejected;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest, UniqueID, UniqueIDType,
};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// First byte of a TLS record with a handshake message (RFC 8446, section 5.1).
pub const TLS_HANDSHAKE: u8 = 0x16;

/// Shared by the stream and the task of a connection, which receives the stream back if a head is rejected.
pub struct Inspector {
    timer: Arc<ConnectionTimer>,
    /// Timeout of an HTTP/2 header block.
    header_timeout: Duration,
    rejected: Mutex<Option<RejectedStream>>,
}

/// The stream of a connection whose head is incomplete or rejected.
pub struct RejectedStream {
    /// The stream; writable.
    pub stream: Stream,
    /// Why the head is rejected; `None` if it is incomplete and the client still connected.
    pub reason: Option<Rejected>,
    /// Whether the client can read an HTTP/1.1 response.
    pub can_respond: bool,
}

impl Inspector {
    /// An inspector for a new connection.
    pub fn new(timer: Arc<ConnectionTimer>, header_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { timer, header_timeout, rejected: Mutex::new(None) })
    }

    /// The rejected stream, once the connection is no longer served.
    pub fn take_rejected(&self) -> Option<RejectedStream> {
        self.rejected.lock().take()
    }

    /// Rejects a stream before it is passed to Pingora.
    pub fn reject(&self, stream: Stream, reason: Rejected) {
        *self.rejected.lock() = Some(RejectedStream { stream, reason: Some(reason), can_respond: true });
    }

    /// Wraps the stream for Pingora.
    pub fn wrap(self: &Arc<Self>, stream: Stream) -> Stream {
        let protocol = match stream.selected_alpn_proto() {
            Some(ALPN::H2) => Protocol::Http2(Frames::default()),
            _ => Protocol::Http1(Head::default()),
        };
        Box::new(InspectedStream {
            stream: Some(stream),
            inspector: self.clone(),
            protocol,
            rejected: None,
            closed: false,
            peeked: Peeked::default(),
        })
    }
}

/// The protocol of a connection, and its parser.
#[derive(Debug)]
enum Protocol {
    Http1(Head),
    Http2(Frames),
}

/// Bytes that were peeked and not read yet.
#[derive(Debug, Default)]
struct Peeked {
    bytes: [u8; PREFACE.len()],
    read: usize,
    end: usize,
}

impl Peeked {
    fn unread(&self) -> &[u8] {
        self.bytes.get(self.read..self.end).unwrap_or_default()
    }
}

struct InspectedStream {
    /// `None` only during the drop.
    stream: Option<Stream>,
    inspector: Arc<Inspector>,
    protocol: Protocol,
    rejected: Option<Rejected>,
    /// Whether the client has closed the connection.
    closed: bool,
    peeked: Peeked,
}

impl InspectedStream {
    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Whether the head is rejected. Call when Pingora writes: before a head is complete, that is its error response.
    fn is_rejected(&mut self) -> bool {
        if self.rejected.is_none()
            && let Protocol::Http1(head) = &self.protocol
            && self.inspector.timer.is_head_awaited()
        {
            self.rejected = Some(head.rejection());
        }
        self.rejected.is_some()
    }

    /// Inspects bytes; `false` if they must not be passed to Pingora.
    fn inspect(&mut self, bytes: &[u8]) -> bool {
        let timer = &self.inspector.timer;
        if !bytes.is_empty() {
            timer.on_bytes();
        }
        let is_too_large = match &mut self.protocol {
            Protocol::Http1(head) if timer.is_head_awaited() => {
                if head.has_ended() {
                    *head = Head::default();
                }
                head.push(bytes);
                head.is_too_large()
            }
            Protocol::Http1(_) => false,
            Protocol::Http2(frames) => {
                let (was_open, blocks) = (frames.is_open(), frames.blocks);
                frames.push(bytes);
                match frames.is_open() {
                    true if !was_open || frames.blocks != blocks => timer.await_client(Instant::now() + self.inspector.header_timeout),
                    false if was_open => timer.clear(),
                    _ => {}
                }
                frames.is_too_large()
            }
        };
        if is_too_large {
            self.rejected = Some(Rejected::HeadersTooLarge);
            timer.await_client(Instant::now()); // times out at once, which ends the task
        }
        !is_too_large
    }

    /// Whether a head was started and is incomplete.
    fn has_begun(&self) -> bool {
        match &self.protocol {
            Protocol::Http1(head) => !self.peeked.unread().is_empty() || (head.has_begun() && self.inspector.timer.is_head_awaited()),
            Protocol::Http2(frames) => frames.is_open(),
        }
    }
}

impl Drop for InspectedStream {
    fn drop(&mut self) {
        if (self.rejected.is_some() || self.has_begun())
            && let Some(stream) = self.stream.take()
        {
            let can_respond = matches!(self.protocol, Protocol::Http1(_)) && self.rejected != Some(Rejected::TlsOnPlainPort);
            let reason = self.rejected.or(self.closed.then_some(Rejected::Incomplete));
            *self.inspector.rejected.lock() = Some(RejectedStream { stream, reason, can_respond });
        }
    }
}

impl std::fmt::Debug for InspectedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InspectedStream").field("stream", &self.stream).field("rejected", &self.rejected).finish_non_exhaustive()
    }
}

impl AsyncRead for InspectedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rejected.is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let unread = this.peeked.unread();
        if unread.is_empty() {
            let read = ready!(this.stream()?.poll_read(cx, buf));
            this.closed |= read.is_err() || (buf.filled().len() == before && buf.remaining() > 0);
            read?;
        } else {
            let fits = unread.get(..buf.remaining()).unwrap_or(unread);
            buf.put_slice(fits);
            this.peeked.read += fits.len();
        }
        let accepted = this.inspect(buf.filled().get(before..).unwrap_or_default());
        if accepted { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl AsyncWrite for InspectedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_rejected() { Poll::Ready(Ok(buf.len())) } else { this.stream()?.poll_write(cx, buf) }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_rejected() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        this.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rejected.is_some() { Poll::Ready(Ok(())) } else { this.stream()?.poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rejected.is_some() { Poll::Ready(Ok(())) } else { this.stream()?.poll_shutdown(cx) }
    }
}

#[async_trait]
impl Shutdown for InspectedStream {
    async fn shutdown(&mut self) {
        if let (None, Some(stream)) = (self.rejected, &mut self.stream) {
            stream.shutdown().await;
        }
    }
}

#[async_trait]
impl Peek for InspectedStream {
    /// Pingora peeks for the HTTP/2 preface. Returns at the first byte that differs, so that a short request does not block.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        while self.peeked.end < PREFACE.len() {
            let (mut bytes, end) = (self.peeked.bytes, self.peeked.end);
            let read = poll_fn(|cx| {
                let mut rest = ReadBuf::new(bytes.get_mut(end..).unwrap_or_default());
                ready!(self.stream()?.poll_read(cx, &mut rest))?;
                Poll::Ready(io::Result::Ok(rest.filled().len()))
            });
            let read = read.await.inspect_err(|_| self.closed = true)?;
            if read == 0 {
                self.closed = true;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (self.peeked.bytes, self.peeked.end) = (bytes, end + read);
            if self.peeked.unread().first() == Some(&TLS_HANDSHAKE) {
                self.rejected = Some(Rejected::TlsOnPlainPort);
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !PREFACE.starts_with(self.peeked.unread()) {
                return Ok(true); // `buf` is not the preface either
            }
        }
        self.protocol = Protocol::Http2(Frames::default());
        buf.iter_mut().zip(PREFACE).for_each(|(slot, byte)| *slot = *byte);
        Ok(true)
    }
}

impl Ssl for InspectedStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.as_ref()?.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.as_ref()?.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.as_ref()?.selected_alpn_proto()
    }
}

delegate_digests!(InspectedStream, stream => stream);
