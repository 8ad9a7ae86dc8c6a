//! A tunnel through a proxy: `CONNECT` (RFC 9110, section 9.3.6), and its answer.

use super::proxy::Proxy;
use std::fmt;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest head of an answer to `CONNECT` that is read, in bytes, interim answers included.
pub const MAX_HEAD: usize = 16 << 10;
/// How much is looked at in one go, in bytes.
const LOOK: usize = 1 << 10;

/// Why there is no tunnel. Displayed as what the proxy did.
#[derive(Debug)]
pub enum TunnelError {
    /// The proxy answered with this status.
    Refused(u16),
    /// What came is no answer of HTTP/1, or its head is larger than [`MAX_HEAD`].
    Unreadable,
    /// The connection to the proxy broke.
    Broken(io::Error),
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status @ (401 | 407)) => write!(f, "refused with status {status}: it wants a user name and password, or others"),
            Self::Refused(status) => write!(f, "refused with status {status}"),
            Self::Unreadable => f.write_str("sent an answer that cannot be read"),
            Self::Broken(error) => write!(f, "broke the connection off: {error}"),
        }
    }
}

impl std::error::Error for TunnelError {}

impl From<io::Error> for TunnelError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Has the proxy at the other end of `stream` connect to `authority` (`host:port`). Afterwards the stream leads there; no byte
/// of that connection has been read. Has no deadline of its own.
///
/// # Errors
/// Why there is no tunnel; the stream is of no further use.
pub async fn open(stream: &mut TcpStream, proxy: &Proxy, authority: &str) -> Result<(), TunnelError> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(credentials) = proxy.authorization() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credentials.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut room = MAX_HEAD;
    loop {
        let head = read_head(stream, room).await?;
        room -= head.len();
        match status(&head).ok_or(TunnelError::Unreadable)? {
            100..=199 => {} // an interim answer; another one follows
            200..=299 => return Ok(()),
            refused => return Err(TunnelError::Refused(refused)),
        }
    }
}

/// Reads a head of at most `room` bytes, and nothing behind it: a server may speak first.
async fn read_head(stream: &mut TcpStream, room: usize) -> Result<Vec<u8>, TunnelError> {
    let mut head = Vec::new();
    let mut seen = [0; LOOK];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let before = head.len();
        head.extend_from_slice(seen.get(..count).unwrap_or_default());
        let end = end(&head, before.saturating_sub(3));
        head.truncate(end.unwrap_or(head.len()));
        // These bytes are there already.
        stream.read_exact(seen.get_mut(..head.len() - before).unwrap_or_default()).await?;
        if head.len() > room {
            return Err(TunnelError::Unreadable);
        }
        if end.is_some() {
            return Ok(head);
        }
    }
}

/// Where a head ends: behind its first empty line. Nothing ends before `from`. A lone line feed ends a line too (RFC 9112,
/// section 2.2).
fn end(head: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', head).skip_while(|at| *at < from).find_map(|at| match head.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The status of an answer of HTTP/1.
fn status(head: &[u8]) -> Option<u16> {
    let (version, rest) = head.strip_prefix(b"HTTP/1.")?.split_first()?;
    let (digits, rest) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let ends = matches!(rest, [b' ' | b'\r' | b'\n', ..]);
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (version.is_ascii_digit() && digits.iter().all(u8::is_ascii_digit) && ends && status >= 100).then_some(status)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What a tunnel comes to, what the proxy was sent, and what can be read from the tunnel, where the proxy answers with these
    /// pieces and closes the connection.
    async fn answered(url: &str, pieces: &'static [&'static [u8]]) -> (Result<(), TunnelError>, String, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            for piece in pieces {
                if stream.write_all(piece).await.is_err() {
                    break; // the client has seen enough
                }
                tokio::task::yield_now().await;
            }
            String::from_utf8(request).unwrap()
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        let result = open(&mut stream, &Proxy::parse(url).unwrap(), "api.example:443").await;
        let mut rest = Vec::new();
        if result.is_ok() {
            stream.read_to_end(&mut rest).await.unwrap();
        }
        drop(stream);
        (result, server.await.unwrap(), rest)
    }

    #[tokio::test]
    async fn an_accepted_connect_leaves_what_follows_its_head_to_the_tunnel() {
        let (result, request, rest) = answered("http://proxy:1", &[b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello"]).await;
        assert!(result.is_ok());
        assert_eq!(request, "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n");
        assert_eq!(rest, b"hello");
        let (result, request, rest) =
            answered("http://u:p@proxy:1", &[b"HTTP/1.0 20", b"0 ok\n", b"Via: x\r", b"\n\r", b"\nhel", b"lo"]).await;
        assert!(result.is_ok() && rest == b"hello");
        assert!(request.ends_with("\r\nProxy-Authorization: Basic dTpw\r\n\r\n"), "{request}");
        let (result, _, rest) = answered("http://proxy:1", &[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\n\r\nhello"]).await;
        assert!(result.is_ok() && rest == b"hello");
    }

    #[tokio::test]
    async fn a_refusal_is_told_by_its_status() {
        const REFUSALS: [(&[&[u8]], u16); 2] = [(&[b"HTTP/1.1 407 x\r\n\r\n<p>"], 407), (&[b"HTTP/1.1 503\r\n\r\n"], 503)];
        for (answer, status) in REFUSALS {
            let (result, _, _) = answered("http://proxy:1", answer).await;
            assert!(matches!(result, Err(TunnelError::Refused(s)) if s == status), "{result:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_or_does_not_end_is_refused() {
        const LONG: &[u8] = &[b'x'; MAX_HEAD];
        const ANSWERS: [&[&[u8]]; 5] = [
            &[b"SSH-2.0-x\r\n\r\n"],
            &[b"HTTP/1.1 20x ok\r\n\r\n"],
            &[b"HTTP/1.1 2000 ok\r\n\r\n"],
            &[b"HTTP/2 200\r\n\r\n"],
            &[b"HTTP/1.1 200 ok\r\nx: ", LONG, b"\r\n\r\n"],
        ];
        for answer in ANSWERS {
            let (result, _, _) = answered("http://proxy:1", answer).await;
            assert!(matches!(result, Err(TunnelError::Unreadable)), "{result:?}");
        }
        let (result, _, _) = answered("http://proxy:1", &[b"HTTP/1.1 200 ok\r\nvia: x\r\n"]).await;
        assert!(matches!(result, Err(TunnelError::Broken(_))), "{result:?}");
    }
}
