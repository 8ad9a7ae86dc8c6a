//! The clients: HTTP/1.1 with kept and with fresh connections, and shared HTTP/2 connections in the clear.

use crate::harness::http1::{Answer, Conn, Head, request};
use crate::harness::http2::{self, H2};
use crate::harness::soon;
use crate::harness::sse::{Events, Story};
use crate::report::{BROKEN, CLOSED, Report, panic_text};
use crate::scenario::{Expect, Got, Leave, Scenario};
use crate::world::{KEY, World};
use bytes::Bytes;
use fastrand::Rng;
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// HTTP/2 connections that all clients share.
const SHARED: usize = 2;
/// Chance, in percent, that a shared HTTP/2 connection is replaced before a request.
const REPLACED: u8 = 2;

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

/// What the clients share.
struct Shared {
    gateway: SocketAddr,
    h2: [Mutex<Option<H2>>; SHARED],
    report: Arc<Report>,
}

/// Starts so many clients.
pub fn start(world: &World, report: &Arc<Report>, clients: usize, seed: u64) -> Load {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let shared = Arc::new(Shared { gateway: world.gateway.listen, h2: Default::default(), report: report.clone() });
    let stop = Arc::new(AtomicBool::new(false));
    let client = |client: usize| {
        let (shared, stop) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            let mut random = Rng::with_seed(seed.wrapping_mul(1_000).wrapping_add(client as u64));
            let mut kept = None;
            while !stop.load(Ordering::Relaxed) {
                let scenario = Scenario::draw(&mut random, NUMBER.fetch_add(1, Ordering::Relaxed));
                let protocol = random.u8(..3);
                let choice = random.u8(..100);
                // A task of its own: what panics in it, in a check of the harness, is this request's failure.
                let one = exchange(shared.clone(), scenario.clone(), kept.take(), protocol, choice);
                let result = tokio::spawn(one)
                    .await
                    .map_err(|e| e.try_into_panic().map_or_else(|e| e.to_string(), panic_text))
                    .and_then(|result| result);
                match result {
                    Ok(conn) => {
                        kept = conn;
                        shared.report.expected(scenario.name);
                    }
                    Err(why) => {
                        let route = scenario.body["model"].as_str().unwrap_or_default();
                        let protocol = ["kept HTTP/1.1", "HTTP/1.1", "h2c"][usize::from(protocol)];
                        shared.report.failed(scenario.name, &format!("{route}, stream {}, {protocol}: {why}", scenario.stream()));
                    }
                }
            }
        })
    };
    Load { clients: (0..clients).map(client).collect(), stop }
}

impl Load {
    /// Lets every client finish its request; all connections are closed afterwards.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}

/// One request; returns the connection if it can be used again.
async fn exchange(shared: Arc<Shared>, scenario: Scenario, kept: Option<Conn>, protocol: u8, choice: u8) -> Result<Option<Conn>, String> {
    let body = Bytes::from(scenario.body.to_string());
    let (got, conn) = match protocol {
        0 => h1(&shared, &scenario, body, kept).await,
        1 => h1(&shared, &scenario, body, None).await.map(|(got, _)| (got, kept)),
        _ => h2(&shared, &scenario, body, choice).await.map(|got| (got, kept)),
    }?;
    if let Some(got) = got {
        scenario.expect.check(&got)?;
        if got.error.is_some() {
            shared.report.event(BROKEN[usize::from(scenario.name != "break")]);
        }
    }
    Ok(conn)
}

type Reply = Result<(Option<Got>, Option<Conn>), String>;

async fn h1(shared: &Shared, scenario: &Scenario, body: Bytes, kept: Option<Conn>) -> Reply {
    let authorization = format!("Bearer {KEY}");
    let bytes = request("POST", "/v1/chat/completions", &[("authorization", &authorization)], Some(&body));
    let leave = if let Expect::Leave(leave) = scenario.expect { Some(leave) } else { None };
    if let Some(Leave::Sending) = leave {
        let mut conn = Conn::connect(shared.gateway).await;
        conn.send(&bytes[..bytes.len() - body.len() / 2]).await.map_err(|e| format!("sending: {e}"))?;
        return Ok((None, None));
    }
    let head = async |conn: &mut Conn| {
        conn.send(&bytes).await?;
        conn.head().await
    };
    let (mut conn, reused) = match kept {
        Some(conn) => (conn, true),
        None => (Conn::connect(shared.gateway).await, false),
    };
    if let Some(Leave::Waiting(wait)) = leave {
        let _ = tokio::time::timeout(wait, head(&mut conn)).await;
        return Ok((None, None));
    }
    let head = match head(&mut conn).await {
        // The server has closed a kept connection that was idle: every client sends the request again then.
        Err(e) if reused && is_closed(&e) => {
            shared.report.event(CLOSED);
            conn = Conn::connect(shared.gateway).await;
            head(&mut conn).await
        }
        head => head,
    };
    let head = head.map_err(|e| format!("no head, connection reused {reused}: {e}"))?;
    let reusable = head.get("connection") != Some("close");
    if !is_stream(&head) {
        let mut body = Vec::new();
        while let Some(piece) = conn.reader.piece().await.map_err(|e| format!("the body broke: {e}"))? {
            body.extend_from_slice(&piece);
        }
        return Ok((Some(buffered(&Answer { head, body })), Some(conn).filter(|_| reusable)));
    }
    let mut events = Events::h1(conn);
    let got = streamed(&head, &mut events, leave).await?;
    let conn = if got.is_some() && reusable { events.into_conn() } else { None };
    Ok((got, conn))
}

fn is_closed(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

async fn h2(shared: &Shared, scenario: &Scenario, body: Bytes, choice: u8) -> Result<Option<Got>, String> {
    let authorization = format!("Bearer {KEY}");
    let leave = if let Expect::Leave(leave) = scenario.expect { Some(leave) } else { None };
    let slot = &shared.h2[usize::from(choice) % SHARED];
    if choice < REPLACED {
        slot.lock().await.take();
    }
    for _ in 0..5 {
        let client = {
            let mut slot = slot.lock().await;
            if slot.is_none() {
                *slot = Some(H2::connect(shared.gateway).await);
            }
            slot.clone().unwrap()
        };
        let headers = [("authorization", authorization.as_str())];
        let ask = client.chat(&headers, body.clone());
        let response = match leave {
            Some(Leave::Sending | Leave::Waiting(_)) => {
                let wait = if let Some(Leave::Waiting(wait)) = leave { wait } else { std::time::Duration::ZERO };
                let _ = tokio::time::timeout(wait, ask).await;
                return Ok(None);
            }
            _ => ask.await,
        };
        match response {
            Ok(response) => {
                let head = http2::head(&response);
                if !is_stream(&head) {
                    let answer = http2::whole(response).await.map_err(|e| format!("the body broke: {e:?}"))?;
                    return Ok(Some(buffered(&answer)));
                }
                return streamed(&head, &mut Events::h2(response.into_body()), leave).await;
            }
            Err(e) if was_not_processed(&e) => {
                shared.report.event("requests on an HTTP/2 connection that had begun to close");
                slot.lock().await.take();
            }
            Err(e) => return Err(format!("no head: {e:?}")),
        }
    }
    Err("five connections in a row were closing".into())
}

/// RFC 9113, 6.8 and 8.7: what a GOAWAY excludes and what is refused has not been processed, and may be sent again.
fn was_not_processed(e: &hyper::Error) -> bool {
    let text = format!("{e:?}");
    e.is_canceled() || text.contains("REFUSED_STREAM") || text.contains("GoAway(b\"\", NO_ERROR, Remote)")
}

fn is_stream(head: &Head) -> bool {
    head.get("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
}

fn buffered(answer: &Answer) -> Got {
    let status = answer.status();
    if status != 200 {
        return Got { status, error: Some(answer.error()), ..Got::default() };
    }
    let json = answer.json();
    let choice = &json["choices"][0];
    let arguments = choice["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap_or_default().to_owned();
    let content = choice["message"]["content"].as_str().unwrap_or_default().to_owned();
    Got { status, content, arguments, complete: choice["finish_reason"].is_string() && json["usage"].is_object(), error: None }
}

/// `None` where the client has left.
async fn streamed(head: &Head, events: &mut Events, leave: Option<Leave>) -> Result<Option<Got>, String> {
    let mut story = Story::default();
    let mut count = 0;
    while let Some(event) = soon("an event", events.next()).await {
        story.take(&event);
        count += 1;
        if matches!(leave, Some(Leave::Reading(most)) if count >= most) {
            return Ok(None);
        }
    }
    if events.broken {
        return Err(format!("the transport broke after {count} events: {:?}", story.content));
    }
    let arguments =
        story.chunks.iter().filter_map(|chunk: &Value| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str());
    let complete = story.done && story.finish.len() == 1 && story.usage.len() == 1;
    let arguments = arguments.collect();
    Ok(Some(Got { status: head.status, content: story.content, arguments, complete, error: story.error.map(|e| e.to_string()) }))
}
