//! An upstream that a test plays by hand, so that what comes next comes after what the test has seen.

use super::http1::request_of;
use super::soon;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Listens for the gateway.
pub struct Manual(TcpListener);

/// One request of the gateway's, to be answered by hand.
pub struct Exchange {
    stream: TcpStream,
    /// The request's body.
    pub body: Value,
    /// The same as it came.
    pub text: String,
}

/// A whole answer with JSON.
pub fn whole(status: &str, json: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}", json.len())
}

impl Manual {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The configuration of this provider.
    pub fn provider(&self) -> String {
        format!("{{ kind: vllm, base_url: \"http://{}/v1\" }}", self.address())
    }

    /// A configuration with these keys of `server` and a route `hand` to it with more keys.
    pub fn config(&self, server: &str, route: &str) -> String {
        super::config(server, ("manual", &self.provider()), "hand", route)
    }

    /// The next connection, with or without a request.
    pub async fn connection(&self) -> TcpStream {
        soon("a connection to the upstream", self.0.accept()).await.unwrap().0
    }

    /// The next request.
    pub async fn accept(&self) -> Exchange {
        let mut exchange = Exchange { stream: self.connection().await, body: Value::Null, text: String::new() };
        exchange.again().await;
        exchange
    }

    /// The next request, answered with the begin of a stream.
    pub async fn say(&self, text: &str) -> Exchange {
        let mut exchange = self.accept().await;
        exchange.begin().await;
        exchange.say(text).await;
        exchange
    }
}

impl Exchange {
    /// Sends the head of an event stream.
    pub async fn begin(&mut self) {
        self.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
    }

    /// Sends an event.
    pub async fn event(&mut self, data: &str) {
        let text = format!("data: {data}\n\n");
        self.write(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await;
    }

    /// Sends an event with a piece of text.
    pub async fn say(&mut self, text: &str) {
        let delta = serde_json::json!({ "role": "assistant", "content": text });
        self.event(&chunk(delta, Value::Null).to_string()).await;
    }

    /// Sends a whole answer with JSON.
    pub async fn json(&mut self, status: &str, json: &str) {
        self.write(whole(status, json).as_bytes()).await;
    }

    /// Ends the answer well.
    pub async fn end(&mut self) {
        self.done().await;
        self.close().await;
    }

    /// Says that the answer is complete, and does not end its body.
    pub async fn done(&mut self) {
        self.event(&chunk(serde_json::json!({}), "stop".into()).to_string()).await;
        self.event("[DONE]").await;
    }

    /// Ends the body.
    pub async fn close(&mut self) {
        self.write(b"0\r\n\r\n").await;
    }

    /// Awaits the next request on the same connection.
    pub async fn again(&mut self) {
        let body = soon("a request on the connection", request_of(&mut self.stream)).await.unwrap();
        self.text = String::from_utf8(body).unwrap();
        self.body = serde_json::from_str(&self.text).unwrap();
    }

    /// Takes the head of the next request on the same connection, and resets the connection before its body is read.
    pub async fn reset_after_the_head(mut self) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("the head of another request", self.stream.read_u8()).await.unwrap());
        }
        self.stream.set_zero_linger().unwrap();
    }

    /// Awaits the gateway's hanging up.
    pub async fn hung_up(mut self) {
        let mut rest = Vec::new();
        let _ = soon("the gateway's hanging up", self.stream.read_to_end(&mut rest)).await; // a reset is one too
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }
}

fn chunk(delta: Value, finish: Value) -> Value {
    serde_json::json!({
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
    })
}
