//! Event streams, read as they come.

use super::http1::{Conn, Reader};
use super::soon;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use std::collections::VecDeque;

/// The events of an answer.
pub struct Events {
    source: Source,
    buffer: Vec<u8>,
    ready: VecDeque<String>,
    /// Comments so far; the gateway's heartbeats are comments.
    pub comments: usize,
    /// Whether the transport broke before the body was complete.
    pub broken: bool,
    /// What keeps an HTTP/1.1 connection open.
    writer: Option<Box<dyn tokio::io::AsyncWrite + Unpin + Send>>,
}

enum Source {
    H1(Reader),
    H2(Incoming),
}

impl Events {
    /// The rest of a connection whose head has been read.
    pub fn h1(conn: Conn) -> Self {
        Self {
            source: Source::H1(conn.reader),
            buffer: Vec::new(),
            ready: VecDeque::new(),
            comments: 0,
            broken: false,
            writer: Some(conn.writer),
        }
    }

    /// The rest of a connection whose answer is yet to come, and good.
    pub async fn of(mut conn: Conn) -> Self {
        assert_eq!(conn.head().await.unwrap().status, 200);
        Self::h1(conn)
    }

    /// The body of an HTTP/2 answer.
    pub fn h2(body: Incoming) -> Self {
        Self { source: Source::H2(body), buffer: Vec::new(), ready: VecDeque::new(), comments: 0, broken: false, writer: None }
    }

    /// The HTTP/1.1 connection, for the next request.
    pub fn into_conn(self) -> Option<Conn> {
        match self.source {
            Source::H1(reader) => Some(Conn { reader, writer: self.writer? }),
            Source::H2(_) => None,
        }
    }

    /// The data of the next event; `None` at the end of the body.
    pub async fn next(&mut self) -> Option<String> {
        while self.ready.is_empty() {
            self.read().await?;
        }
        self.ready.pop_front()
    }

    /// Awaits one more comment; there must be no event before it.
    pub async fn comment(&mut self) {
        let before = self.comments;
        while self.comments == before {
            assert!(self.ready.is_empty(), "{:?} before a comment", self.ready);
            self.read().await.expect("a comment");
        }
    }

    /// Reads one more piece of the body; `None` at its end.
    async fn read(&mut self) -> Option<()> {
        {
            let piece = match &mut self.source {
                Source::H1(reader) => reader.piece().await.map_err(drop),
                Source::H2(body) => match soon("an event", body.frame()).await {
                    None => Ok(None),
                    Some(Ok(frame)) => Ok(Some(frame.into_data().map(|d| d.to_vec()).unwrap_or_default())),
                    Some(Err(_)) => Err(()),
                },
            };
            match piece {
                Err(()) => {
                    self.broken = true;
                    return None;
                }
                Ok(None) => {
                    assert!(self.buffer.is_empty(), "half an event at the end: {}", String::from_utf8_lossy(&self.buffer));
                    return None;
                }
                Ok(Some(piece)) => self.take(&piece),
            }
        }
        Some(())
    }

    fn take(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        while let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
            let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let event = String::from_utf8(event).unwrap();
            if event.starts_with(':') {
                self.comments += 1;
                continue;
            }
            let data = event.trim_end().strip_prefix("data: ").unwrap_or_else(|| panic!("not an event: {event:?}"));
            self.ready.push_back(data.to_owned());
        }
    }

    /// Everything to the end.
    pub async fn all(mut self) -> Story {
        let mut story = Story::default();
        self.rest(&mut story).await;
        story
    }

    /// Everything from here to the end.
    pub async fn rest(&mut self, story: &mut Story) {
        while let Some(event) = self.next().await {
            story.take(&event);
        }
        story.broken = self.broken;
    }
}

/// What a stream said, folded.
#[derive(Debug, Default)]
pub struct Story {
    pub content: String,
    pub finish: Vec<String>,
    pub usage: Vec<Value>,
    pub error: Option<Value>,
    pub done: bool,
    pub broken: bool,
    pub chunks: Vec<Value>,
}

impl Story {
    /// One event.
    pub fn take(&mut self, event: &str) {
        assert!(!self.done && self.error.is_none(), "{event} after the end");
        if event == "[DONE]" {
            self.done = true;
            return;
        }
        let chunk: Value = serde_json::from_str(event).unwrap();
        if let Some(error) = chunk.get("error") {
            self.error = Some(error.clone());
            return;
        }
        for choice in chunk["choices"].as_array().unwrap() {
            self.content += choice["delta"]["content"].as_str().unwrap_or_default();
            self.finish.extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
        if chunk.get("usage").is_some_and(|u| !u.is_null()) {
            self.usage.push(chunk["usage"].clone());
        }
        self.chunks.push(chunk);
    }
}
