//! What every test stands on: the gateway's process, simulators, clients, certificates.

pub mod chromium;
#[path = "../../shared/dir.rs"]
pub mod dir;
pub mod frames;
pub mod gateway;
pub mod http1;
pub mod http2;
pub mod load;
pub mod manual;
pub mod nginx;
pub mod otlp;
pub mod scripted;
pub mod sim;
pub mod sse;
pub mod tinyproxy;
pub mod tls;

use std::ffi::OsStr;
use std::future::Future;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;

/// Ends a hang. No test measures it, so it is generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a state that gives no notice of its change.
pub const LOOK: Duration = Duration::from_millis(5);

/// Awaits what has to come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: has not come"),
    }
}

/// Looks until there is something to see.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(value) = look().await {
                return value;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}

/// Awaits that a program accepts connections.
pub async fn accepts(program: &str, address: SocketAddr) {
    until(&format!("the start of {program}"), async || TcpStream::connect(address).await.ok()).await;
}

/// A program that ends with its handle, and whose output nobody reads.
pub fn silent(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// A whole answer of a server that speaks OpenAI.
pub const COMPLETION: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// A configuration with these keys of `server`, one provider, and one route to it with more keys; a pattern like `s/*` leads to
/// any model.
pub fn config(server: &str, (name, provider): (&str, &str), route: &str, more: &str) -> String {
    let model = if route.ends_with('*') { "*" } else { "m" };
    format!(
        "auth: none\nserver: {{ {server} }}\nproviders: {{ {name}: {provider} }}\n\
         routes: {{ \"{route}\": {{ targets: [ {{ provider: {name}, model: \"{model}\" }} ], {more} }} }}\n"
    )
}

/// The body of a small chat request.
pub fn chat(model: &str) -> serde_json::Value {
    serde_json::json!({ "model": model, "messages": [{ "role": "user", "content": "hello there" }] })
}

/// The same as a stream, with usage.
pub fn streamed(model: &str) -> serde_json::Value {
    let mut body = chat(model);
    body["stream"] = true.into();
    body["stream_options"] = serde_json::json!({ "include_usage": true });
    body
}
