//! The stream of a client connection, which sees the bytes of a request's head before Pingora does.
//!
//! Pingora answers a head that it refuses by itself, without a hook. While a head is awaited, nothing else is written to an
//! HTTP/1 connection; so what Pingora writes then is dropped, and the stream is returned to the task that serves the
//! connection, which answers, counts and logs ([`super::reject`]). The same happens to a head that is late.

use super::head::{Frames, Head, PREFACE};
use super::patience::Patience;
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

/// Where a connection's stream is left when its request is not served.
pub struct Screen {
    patience: Arc<Patience>,
    /// For a header block of HTTP/2, whose other deadlines are Pingora's.
    header_timeout: Duration,
    left: Mutex<Option<Left>>,
}

/// The stream of a connection whose client has sent a part of a head, or one that is refused.
pub struct Left {
    /// It can be written to.
    pub stream: Stream,
    /// Why the head is refused; `None` for one that is not complete.
    pub refused: Option<Rejected>,
    /// Whether an answer in HTTP/1.1 can be read.
    pub answerable: bool,
}

impl Screen {
    /// For a connection under these deadlines.
    pub fn new(patience: Arc<Patience>, header_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { patience, header_timeout, left: Mutex::new(None) })
    }

    /// What is left of the connection, once it is not served any more.
    pub fn left(&self) -> Option<Left> {
        self.left.lock().take()
    }

    /// Leaves a stream that is refused before Pingora has it.
    pub fn refuse(&self, stream: Stream, reason: Rejected) {
        *self.left.lock() = Some(Left { stream, refused: Some(reason), answerable: true });
    }

    /// The stream for Pingora.
    pub fn over(self: &Arc<Self>, stream: Stream) -> Stream {
        let speaks = match stream.selected_alpn_proto() {
            Some(ALPN::H2) => Speaks::Http2(Frames::default()),
            _ => Speaks::Http1(Head::default()),
        };
        Box::new(Screened { stream: Some(stream), screen: self.clone(), speaks, refused: None, peeked: Peeked::default() })
    }
}

/// The protocol of a connection and where it stands.
#[derive(Debug)]
enum Speaks {
    Http1(Head),
    Http2(Frames),
}

/// Bytes that have been looked at and not been read.
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

struct Screened {
    /// Always there, until this is dropped.
    stream: Option<Stream>,
    screen: Arc<Screen>,
    speaks: Speaks,
    refused: Option<Rejected>,
    peeked: Peeked,
}

impl Screened {
    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Whether what Pingora writes is its own refusal of a head.
    fn is_refused(&mut self) -> bool {
        if self.refused.is_none()
            && let Speaks::Http1(head) = &self.speaks
            && self.screen.patience.is_head_awaited()
        {
            self.refused = Some(head.refusal());
        }
        self.refused.is_some()
    }

    /// Looks at bytes on their way to Pingora; false where it must not have them.
    fn look(&mut self, bytes: &[u8]) -> bool {
        let patience = &self.screen.patience;
        if !bytes.is_empty() {
            patience.hear();
        }
        let is_too_large = match &mut self.speaks {
            Speaks::Http1(head) if patience.is_head_awaited() => {
                if head.has_ended() {
                    *head = Head::default();
                }
                head.push(bytes);
                head.is_too_large()
            }
            Speaks::Http1(_) => false,
            Speaks::Http2(frames) => {
                let (was_open, blocks) = (frames.is_open(), frames.blocks);
                frames.push(bytes);
                match frames.is_open() {
                    true if !was_open || frames.blocks != blocks => patience.await_client(Instant::now() + self.screen.header_timeout),
                    false if was_open => patience.rest(),
                    _ => {}
                }
                frames.is_too_large()
            }
        };
        if is_too_large {
            self.refused = Some(Rejected::HeadersTooLarge);
            patience.await_client(Instant::now()); // ends the connection's task
        }
        !is_too_large
    }

    /// Whether a part of a head has been read.
    fn has_begun(&self) -> bool {
        match &self.speaks {
            Speaks::Http1(head) => !self.peeked.unread().is_empty() || (head.has_begun() && self.screen.patience.is_head_awaited()),
            Speaks::Http2(frames) => frames.is_open(),
        }
    }
}

impl Drop for Screened {
    fn drop(&mut self) {
        if (self.refused.is_some() || self.has_begun())
            && let Some(stream) = self.stream.take()
        {
            let answerable = matches!(self.speaks, Speaks::Http1(_)) && self.refused != Some(Rejected::TlsOnPlainPort);
            *self.screen.left.lock() = Some(Left { stream, refused: self.refused, answerable });
        }
    }
}

impl std::fmt::Debug for Screened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screened").field("stream", &self.stream).field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl AsyncRead for Screened {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refused.is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let unread = this.peeked.unread();
        if unread.is_empty() {
            ready!(this.stream()?.poll_read(cx, buf))?;
        } else {
            let fits = unread.get(..buf.remaining()).unwrap_or(unread);
            buf.put_slice(fits);
            this.peeked.read += fits.len();
        }
        let accepted = this.look(buf.filled().get(before..).unwrap_or_default());
        if accepted { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl AsyncWrite for Screened {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_refused() { Poll::Ready(Ok(buf.len())) } else { this.stream()?.poll_write(cx, buf) }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_refused() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        this.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refused.is_some() { Poll::Ready(Ok(())) } else { this.stream()?.poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refused.is_some() { Poll::Ready(Ok(())) } else { this.stream()?.poll_shutdown(cx) }
    }
}

#[async_trait]
impl Shutdown for Screened {
    async fn shutdown(&mut self) {
        if let (None, Some(stream)) = (self.refused, &mut self.stream) {
            stream.shutdown().await;
        }
    }
}

#[async_trait]
impl Peek for Screened {
    /// Pingora's look for the preface of HTTP/2. It ends with the first byte that cannot be a part of it: a short request
    /// need not be longer than that.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        while self.peeked.end < PREFACE.len() {
            let (mut bytes, end) = (self.peeked.bytes, self.peeked.end);
            let read = poll_fn(|cx| {
                let mut rest = ReadBuf::new(bytes.get_mut(end..).unwrap_or_default());
                ready!(self.stream()?.poll_read(cx, &mut rest))?;
                Poll::Ready(io::Result::Ok(rest.filled().len()))
            });
            let read = read.await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (self.peeked.bytes, self.peeked.end) = (bytes, end + read);
            if self.peeked.unread().first() == Some(&TLS_HANDSHAKE) {
                self.refused = Some(Rejected::TlsOnPlainPort);
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !PREFACE.starts_with(self.peeked.unread()) {
                return Ok(true); // `buf` is not the preface either
            }
        }
        self.speaks = Speaks::Http2(Frames::default());
        buf.iter_mut().zip(PREFACE).for_each(|(slot, byte)| *slot = *byte);
        Ok(true)
    }
}

impl UniqueID for Screened {
    fn id(&self) -> UniqueIDType {
        self.stream.as_ref().map_or(-1, |stream| stream.id())
    }
}

impl Ssl for Screened {
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

impl GetTimingDigest for Screened {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.as_ref().map(|stream| stream.get_timing_digest()).unwrap_or_default()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.as_ref().map(|stream| stream.get_read_pending_time()).unwrap_or_default()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.as_ref().map(|stream| stream.get_write_pending_time()).unwrap_or_default()
    }
}

impl GetProxyDigest for Screened {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.as_ref()?.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        if let Some(stream) = &mut self.stream {
            stream.set_proxy_digest(digest);
        }
    }
}

impl GetSocketDigest for Screened {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.as_ref()?.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        if let Some(stream) = &mut self.stream {
            stream.set_socket_digest(digest);
        }
    }
}
