//! Opens a tunnel through a proxy with `CONNECT` (RFC 9110, section 9.3.6).

use super::proxy::Proxy;
use std::fmt;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Maximum size of the response head, in bytes, including interim responses.
pub const MAX_HEAD: usize = 16 << 10;
/// Bytes peeked at once.
const PEEK_SIZE: usize = 1 << 10;

/// Why there is no tunnel. Displayed as a predicate of "the proxy".
#[derive(Debug)]
pub enum TunnelError {
    /// The proxy responded with this status.
    Refused(u16),
    /// Not an HTTP/1 response, or its head exceeds [`MAX_HEAD`].
    Unreadable,
    /// The connection to the proxy failed.
    Broken(io::Error),
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status @ (401 | 407)) => write!(f, "refused with status {status}: missing or wrong proxy credentials"),
            Self::Refused(status) => write!(f, "refused with status {status}"),
            Self::Unreadable => f.write_str("sent an invalid response"),
            Self::Broken(error) => write!(f, "closed the connection: {error}"),
        }
    }
}

impl std::error::Error for TunnelError {}

impl From<io::Error> for TunnelError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Makes the proxy connect `stream` to `authority` (`host:port`). No byte of the tunnelled connection is read. Has no
/// timeout.
///
/// # Errors
/// Why there is no tunnel; the stream is unusable.
pub async fn open(stream: &mut TcpStream, proxy: &Proxy, authority: &str) -> Result<(), TunnelError> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(credentials) = proxy.authorization() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credentials.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut limit = MAX_HEAD;
    loop {
        let head = read_head(stream, limit).await?;
        limit -= head.len();
        match status(&head).ok_or(TunnelError::Unreadable)? {
            100..=199 => {} // interim response
            200..=299 => return Ok(()),
            refused => return Err(TunnelError::Refused(refused)),
        }
    }
}

/// Reads a head of at most `limit` bytes without reading beyond it: the server may send first.
async fn read_head(stream: &mut TcpStream, limit: usize) -> Result<Vec<u8>, TunnelError> {
    let mut head = Vec::new();
    let mut buffer = [0; PEEK_SIZE];
    loop {
        let count = stream.peek(&mut buffer).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let before = head.len();
        head.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let end = end(&head, before.saturating_sub(3));
        head.truncate(end.unwrap_or(head.len()));
        // Does not block: these bytes were peeked.
        stream.read_exact(buffer.get_mut(..head.len() - before).unwrap_or_default()).await?;
        if head.len() > limit {
            return Err(TunnelError::Unreadable);
        }
        if end.is_some() {
            return Ok(head);
        }
    }
}

/// End of the head: after the first empty line that ends at `from` or later. A bare line feed also ends a line (RFC
/// 9112, section 2.2).
fn end(head: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', head).skip_while(|at| *at < from).find_map(|at| match head.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The status of an HTTP/1 response.
fn status(head: &[u8]) -> Option<u16> {
    let (version, rest) = head.strip_prefix(b"HTTP/1.")?.split_first()?;
    let (digits, rest) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let ends = matches!(rest, [b' ' | b'\r' | b'\n', ..]);
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (version.is_ascii_digit() && digits.iter().all(u8::is_ascii_digit) && ends && status >= 100).then_some(status)
}

#[cfg(test)]
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
                    break; // the client has buffer enough
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
