//! A connection to a server that speaks HTTP/1.1, over which the head of a request waits for its body and leaves with it.
//!
//! Pingora sends the head of a request by itself, and the body after it: two system calls, two packets, and a server that
//! is woken twice. The gateway always has the body, so the head is held back until the body's first bytes are written.
//! (HTTP/2, which TLS upstreams mostly speak, gathers its frames itself.)

use super::connections::Connection;
use super::dial::Loan;
use pingora_core::protocols::Stream;
use pingora_core::protocols::raw_connect::ProxyDigest;
use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Room for the head of the next request that is kept with a connection, in bytes.
const KEPT: usize = 2 << 10;

/// See the module.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    /// A head that waits for its body.
    head: Vec<u8>,
    /// Bytes of it that have been sent.
    sent: usize,
    /// Bytes of the body that have not been sent.
    left: usize,
    loan: Arc<Loan>,
    /// What Pingora is told of the connection: the loan.
    description: Arc<ProxyDigest>,
    connection: Option<Arc<Connection>>,
}

/// The length of the body that a head announces; `None` where `written` is no whole head, or one without a length.
fn announced(written: &[u8]) -> Option<usize> {
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

impl Wire {
    /// Over a connection that has just been made.
    pub fn new(stream: Stream) -> Self {
        let loan = Arc::<Loan>::default();
        let description = loan.describe();
        let connection = Connection::below(&*stream);
        Self { stream, head: Vec::new(), sent: 0, left: 0, loan, description, connection }
    }

    /// The connection itself, to ask about it.
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The connection itself, past what is held back.
    pub const fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// What it and the hooks tell each other.
    pub const fn loan(&self) -> &Arc<Loan> {
        &self.loan
    }

    /// What Pingora is told of it.
    pub const fn description(&self) -> &Arc<ProxyDigest> {
        &self.description
    }

    /// Whether it must not be used for another request.
    pub fn is_retired(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_retired())
    }

    /// Whether a request has been begun on it and nothing of that has been sent.
    pub const fn holds_back(&self) -> bool {
        !self.head.is_empty() && self.sent == 0
    }

    /// Whether every request that was begun on it has been sent to its end.
    pub const fn is_between_requests(&self) -> bool {
        self.head.is_empty() && self.left == 0
    }

    /// Counts what has been sent of the body.
    fn count(&mut self, written: usize) -> Poll<std::io::Result<usize>> {
        self.left = self.left.saturating_sub(written);
        Poll::Ready(Ok(written))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        if this.left == 0
            && let Some(length) = announced(bytes).filter(|length| *length > 0)
        {
            this.left = length;
            this.head.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
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
                this.head.shrink_to(KEPT);
            }
            if of_body > 0 {
                return this.count(of_body);
            }
        }
        let sent = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.count(sent)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.head.is_empty() { Pin::new(&mut this.stream).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const HEAD: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";

    fn wire(room: usize) -> (Wire, DuplexStream) {
        let (near, far) = duplex(room);
        (Wire::new(Box::new(near)), far)
    }

    #[tokio::test]
    async fn a_head_leaves_with_the_first_bytes_of_its_body() {
        let (mut wire, mut far) = wire(1 << 10);
        for _ in 0..2 {
            wire.write_all(HEAD).await.unwrap();
            wire.flush().await.unwrap();
            wire.write_all(b"0123").await.unwrap();
            wire.flush().await.unwrap();
            let mut seen = [0; HEAD.len() + 4];
            far.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen.as_slice(), [HEAD, b"0123"].concat());
            // What looks like a head within a body is body.
            wire.write_all(b"\n\n\r\n\r\n").await.unwrap();
            let mut seen = [0; 6];
            far.read_exact(&mut seen).await.unwrap();
            assert_eq!(&seen, b"\n\n\r\n\r\n");
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_where_little_is_taken_at_a_time() {
        for room in 1..80 {
            let (mut wire, mut far) = wire(room);
            let write = async move {
                for _ in 0..3 {
                    wire.write_all(HEAD).await.unwrap();
                    wire.flush().await.unwrap();
                    wire.write_all(b"0123456789").await.unwrap();
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
            let (mut wire, mut far) = wire(1 << 10);
            wire.write_all(head.as_bytes()).await.unwrap();
            wire.flush().await.unwrap();
            let mut seen = vec![0; head.len()];
            far.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, head.as_bytes());
        }
    }
}
