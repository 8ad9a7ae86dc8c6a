//! HTTP/1.1 over a plain socket, so that a test decides about every byte.

use super::soon;
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// One connection; its halves can be used at the same time.
pub struct Conn {
    pub reader: Reader,
    pub writer: Box<dyn AsyncWrite + Unpin + Send>,
}

/// What comes.
pub struct Reader {
    stream: BufReader<Box<dyn AsyncRead + Unpin + Send>>,
    body: Body,
}

enum Body {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

/// Status line and headers.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// A header's first value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// A header's first value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.head.get(name).unwrap_or_default()
    }

    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {} {}", self.head.status, self.text()))
    }

    /// The error's message, after a check of its whole shape.
    pub fn error(&self) -> String {
        error_message(self.head.status, &self.body).unwrap_or_else(|| panic!("not the error shape: {} {}", self.head.status, self.text()))
    }

    /// What the simulated model said.
    pub fn content(&self) -> String {
        assert_eq!(self.head.status, 200, "{}", self.text());
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }
}

/// The message of an error in the one shape that errors have; `None` for any other body.
pub fn error_message(status: u16, body: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let error = json.get("error")?.as_object()?;
    let names: Vec<&str> = error.keys().map(String::as_str).collect();
    let shape = names.len() == 4 && ["message", "type", "param", "code"].iter().all(|n| names.contains(n));
    let typed = error.get("type")?.is_string() && error.get("code")?.as_u64() == Some(u64::from(status));
    (shape && typed && json.as_object()?.len() == 1).then_some(error.get("message")?.as_str()?.to_owned()).filter(|m| !m.is_empty())
}

/// A request's head and body.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\n");
    headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    if let Some(body) = body {
        text += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    let mut bytes = (text + "\r\n").into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

impl Conn {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// HTTP/1.1 over any stream.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (read, write) = tokio::io::split(stream);
        let reader = Reader { stream: BufReader::new(Box::new(read)), body: Body::None };
        Self { reader, writer: Box::new(write) }
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.writer.flush().await
    }

    /// Sends a chat request with a length.
    pub async fn chat(&mut self, headers: &[(&str, &str)], body: &[u8]) {
        self.send(&request("POST", "/v1/chat/completions", headers, Some(body))).await.unwrap();
    }

    /// A GET and its answer.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(&request("GET", path, headers, None)).await.unwrap();
        self.answer().await.unwrap()
    }

    /// The next head.
    pub async fn head(&mut self) -> io::Result<Head> {
        self.reader.head().await
    }

    /// The next piece of the body; see [`Reader::piece`].
    pub async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.reader.piece().await
    }

    /// The next whole answer.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        self.reader.answer().await
    }

    /// Awaits the server's closing; what came before it.
    pub async fn closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = soon("the closing of a connection", self.reader.stream.read_to_end(&mut rest)).await; // a reset closes it as well
        rest
    }
}

impl Reader {
    /// The next head; interim ones are returned too.
    pub async fn head(&mut self) -> io::Result<Head> {
        let status_line = self.line().await?;
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let Some(status) = status else { return Err(io::Error::other(format!("not a status line: {status_line:?}"))) };
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("not a header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let head = Head { status, headers };
        self.body = match (status, head.get("content-length"), head.get("transfer-encoding")) {
            (100..200 | 204 | 304, ..) => Body::None,
            (_, Some(_), Some(_)) => return Err(io::Error::other("two framings at once")),
            (_, Some(length), None) => Body::Length(length.parse().map_err(io::Error::other)?),
            (_, None, Some("chunked")) => Body::Chunked,
            (_, None, Some(other)) => return Err(io::Error::other(format!("transfer-encoding: {other}"))),
            (_, None, None) => Body::UntilClose,
        };
        Ok(head)
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        soon("a line of an answer", self.stream.read_until(b'\n', &mut line)).await?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The next piece of the body as it came: for a chunked one, one chunk. `None`: it is complete.
    pub async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.body {
            Body::None | Body::Length(0) => Ok(None),
            Body::Length(left) => {
                let mut piece = vec![0; left.min(64 << 10)];
                let read = soon("a body", self.stream.read(&mut piece)).await?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                piece.truncate(read);
                self.body = Body::Length(left - read);
                Ok(Some(piece))
            }
            Body::Chunked => {
                let line = self.line().await?;
                let size = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
                let mut piece = vec![0; size + 2];
                soon("a chunk", self.stream.read_exact(&mut piece)).await?;
                if !piece.ends_with(b"\r\n") {
                    return Err(io::Error::other("a chunk without its end"));
                }
                piece.truncate(size);
                if size == 0 {
                    self.body = Body::None;
                }
                Ok((size > 0).then_some(piece))
            }
            Body::UntilClose => {
                let mut piece = Vec::new();
                soon("a body until the end", self.stream.read_to_end(&mut piece)).await?;
                self.body = Body::None;
                Ok(Some(piece).filter(|p| !p.is_empty()))
            }
        }
    }

    /// The next whole answer, interim ones skipped.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let mut head = self.head().await?;
        while head.status < 200 {
            head = self.head().await?;
        }
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            body.extend_from_slice(&piece);
        }
        Ok(Answer { head, body })
    }
}

/// Reads one request with a length, as a server; returns its body.
pub async fn request_of(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length: usize = head.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                return Ok(bytes[end + 4..end + 4 + length].to_vec());
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
