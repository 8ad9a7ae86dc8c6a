//! An HTTP/1.1 stream that sends the head of a request together with its body.
//!
//! Pingora writes head and body separately: two system calls and two packets, which wake the server twice. The body is always
//! available, so the head is buffered until the first bytes of the body are written, and with it a short first slice of a body
//! that goes on. (HTTP/2 coalesces its frames itself.)

use super::connections::Connection;
use pingora_core::protocols::Stream;
use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
#[derive(Debug)]
pub struct Http1Stream {
    /// Writes to it bypass a buffered head.
    pub(super) stream: Stream,
    pub(super) connection: Arc<Connection>,
    /// A buffered head, and the beginning of its body.
    head: Vec<u8>,
    /// Bytes of the head sent.
    sent: usize,
    /// Remaining bytes of the body.
    body_left: usize,
}

impl Http1Stream {
    /// Wraps a new connection.
    pub const fn new(stream: Stream, connection: Arc<Connection>) -> Self {
        Self { stream, connection, head: Vec::new(), sent: 0, body_left: 0 }
    }

    /// Whether a request was written and no byte of it was sent.
    pub const fn is_unsent(&self) -> bool {
        !self.head.is_empty() && self.sent == 0
    }

    /// Whether all requests were sent completely.
    pub const fn is_between_requests(&self) -> bool {
        self.head.is_empty() && self.body_left == 0
    }

    fn body_written(&mut self, bytes: usize) -> Poll<std::io::Result<usize>> {
        self.body_left = self.body_left.saturating_sub(bytes);
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncWrite for Http1Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        if this.body_left == 0
            && let Some(length) = content_length(bytes).filter(|length| *length > 0)
        {
            this.body_left = length;
            this.head.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        if this.is_unsent() && bytes.len() < this.body_left && bytes.len() <= SHORT {
            this.head.extend_from_slice(bytes);
            return this.body_written(bytes.len());
        }
        while !this.head.is_empty() && !bytes.is_empty() {
            let head = this.head.get(this.sent..).unwrap_or_default();
            let sent = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(bytes)]))?;
            if sent == 0 {
                return Poll::Ready(Err(Error::from(ErrorKind::WriteZero)));
            }
            let of_body = sent.saturating_sub(head.len());
            this.sent += sent;
            if this.sent >= this.head.len() {
                this.sent = 0;
                this.head.clear();
                this.head.shrink_to(HEAD_ROOM);
            }
            if of_body > 0 {
                return this.body_written(of_body);
            }
        }
        let sent = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.body_written(sent)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.head.is_empty() { Pin::new(&mut this.stream).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Http1Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

/// The `content-length` of a head; `None` if `written` is not a complete head or has none.
fn content_length(written: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut rest = written.strip_suffix(b"\r\n\r\n")?;
    loop {
        rest = rest.get(memchr::memchr(b'\n', rest)? + 1..)?;
        if matches!(rest, [b'c' | b'C', ..])
            && let Some((name, value)) = rest.split_at_checked(NAME.len())
            && name.eq_ignore_ascii_case(NAME)
        {
            let end = memchr::memchr(b'\r', value).unwrap_or(value.len());
            return str::from_utf8(value.get(..end)?).ok()?.trim().parse().ok();
        }
    }
}

/// The longest part of a body that waits for the rest, in bytes.
const SHORT: usize = 4 << 10;
/// Capacity kept for the next head, in bytes.
const HEAD_ROOM: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const HEAD: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";

    fn stream(room: usize) -> (Http1Stream, DuplexStream) {
        let (near, far) = duplex(room);
        (Http1Stream::new(Box::new(near), Arc::default()), far)
    }

    #[tokio::test]
    async fn a_head_leaves_with_the_first_bytes_of_its_body() {
        let (mut stream, mut far) = stream(1 << 10);
        for _ in 0..2 {
            stream.write_all(HEAD).await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(b"0123").await.unwrap();
            stream.flush().await.unwrap();
            assert!(stream.is_unsent());
            // What looks like a head within a body is body.
            stream.write_all(b"\n\n\r\n\r\n").await.unwrap();
            assert!(stream.is_between_requests());
            let mut seen = [0; HEAD.len() + 10];
            far.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen.as_slice(), [HEAD, b"0123\n\n\r\n\r\n"].concat());
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_where_little_is_taken_at_a_time() {
        for room in 1..80 {
            let (mut stream, mut far) = stream(room);
            let write = async move {
                for _ in 0..3 {
                    stream.write_all(HEAD).await.unwrap();
                    stream.flush().await.unwrap();
                    for slice in [&b"01"[..], b"23456", b"789"] {
                        stream.write_all(slice).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                }
            };
            let mut seen = Vec::new();
            let (_, read) = tokio::join!(write, far.read_to_end(&mut seen));
            read.unwrap();
            assert_eq!(seen, [HEAD, b"0123456789"].concat().repeat(3), "{room}");
        }
    }

    #[tokio::test]
    async fn what_has_no_body_waits_for_none() {
        for head in
            ["GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n"]
        {
            let (mut stream, mut far) = stream(1 << 10);
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let mut seen = vec![0; head.len()];
            far.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, head.as_bytes());
        }
    }
}
