//! The README's snippet in a real browser, on a page of another origin; and the protocol that lets it through.

use crate::harness::chromium::ARGUMENTS;
use crate::harness::gateway::Gateway;
use crate::harness::http1::request;
use crate::harness::http2::{H2, head};
use crate::harness::sim::Sim;
use crate::harness::{chat, silent, soon};
use crate::sdk::demo_with;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The README's snippet for browsers, with another gateway's address.
fn snippet(gateway: SocketAddr) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks = readme.split("```js\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let block = blocks.into_iter().find(|block| block.contains("await fetch(")).unwrap();
    block.replace("127.0.0.1:3000", &gateway.to_string())
}

/// A page that runs the snippet and reports what it showed, which headers it could read, and what failed.
fn page(gateway: SocketAddr) -> String {
    format!(
        "<!doctype html><meta charset=utf-8><body><script type=module>\n\
         let error = null, headers = {{}};\n\
         try {{\n{}\nheaders = Object.fromEntries(response.headers);\n}} catch (e) {{ error = String(e); }}\n\
         await fetch('/result', {{ method: 'POST', body: JSON.stringify({{ error, headers, text: document.body.innerText }}) }});\n\
         </script>",
        snippet(gateway)
    )
}

/// Serves the page on one connection after another until a result is posted.
async fn result(listener: TcpListener, page: String) -> Value {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if let Some(result) = serve(stream, &page).await {
            return result;
        }
    }
}

async fn serve(stream: TcpStream, page: &str) -> Option<Value> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await.ok()?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (status, text) = if first.starts_with("GET / ") { ("200 OK", page) } else { ("404 Not Found", "") };
    let answer =
        format!("HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len());
    stream.write_all(answer.as_bytes()).await.ok()?;
    first.starts_with("POST /result ").then(|| serde_json::from_slice(&body).unwrap())
}

/// What the page reports in a browser; `None` where there is none.
async fn in_chromium(gateway: &Gateway, listener: TcpListener) -> Option<Value> {
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let profile = gateway.dir.join("chromium").display().to_string();
    let started = silent("chromium").args(ARGUMENTS).arg(format!("--user-data-dir={profile}")).arg(&url).spawn();
    let mut browser = match started {
        Ok(browser) => browser,
        Err(e) => {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
            println!("SKIPPED: chromium is not installed");
            return None;
        }
    };
    let result = soon("the page's result", result(listener, page(gateway.listen))).await;
    browser.kill().await.unwrap();
    Some(result)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_snippet_of_the_readme_streams_in_a_browser_and_reads_the_gateway_s_headers() {
    let sim = Sim::start().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let gateway = demo_with(&sim, &format!("cors: {{ origins: [\"https://other.example\", \"{origin}\"] }}")).await;
    let Some(result) = in_chromium(&gateway, listener).await else { return };
    assert!(result["error"].is_null(), "{result}");
    assert!(result["text"].as_str().unwrap().contains("You said: Hello there"), "{result}");
    for name in ["x-request-id", "x-tidegate-provider", "x-tidegate-upstream-model", "x-tidegate-attempts"] {
        assert!(result["headers"][name].is_string(), "{name}: {result}");
    }
    gateway.output.line("\"status\":204").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_cors_a_browser_does_not_get_through() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "").await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let Some(result) = in_chromium(&gateway, listener).await else { return };
    assert!(result["error"].as_str().unwrap().contains("Failed to fetch"), "{result}");
    assert_eq!(sim.count(), 0);
}

const PREFLIGHT: [(&str, &str); 2] =
    [("access-control-request-method", "POST"), ("access-control-request-headers", "authorization,content-type")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preflight_needs_no_key_and_only_allowed_origins_may_read_answers() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "cors: { origins: [\"https://app.example\"], max_age: 10m }").await;
    let preflight = async |origin: &str| {
        let mut conn = gateway.connect().await;
        let headers = [&[("origin", origin)], &PREFLIGHT[..]].concat();
        conn.send(&request("OPTIONS", "/v1/chat/completions", &headers, None)).await.unwrap();
        conn.head().await.unwrap()
    };
    let good = preflight("https://app.example").await;
    assert_eq!((good.status, good.get("access-control-allow-origin")), (204, Some("https://app.example")));
    assert_eq!(good.get("access-control-allow-headers"), Some("authorization,content-type"));
    assert_eq!((good.get("access-control-max-age"), good.get("vary"), good.get("content-length")), (Some("600"), Some("origin"), None));
    assert!(good.get("access-control-allow-methods").unwrap().contains("POST"));
    for origin in ["https://evil.example", "https://app.example.evil", "http://app.example", "null"] {
        let bad = preflight(origin).await;
        assert_eq!((bad.status, bad.get("access-control-allow-origin")), (405, None), "{origin}");
    }
    // The connection of a preflight serves the request itself, and what is refused can be read too.
    let origin = ("origin", "https://app.example");
    let mut conn = gateway.connect().await;
    conn.send(&request("OPTIONS", "/v1/chat/completions", &[&[origin], &PREFLIGHT[..]].concat(), None)).await.unwrap();
    assert_eq!(conn.head().await.unwrap().status, 204);
    for (key, status) in [("Bearer tg-demo", 200), ("Bearer wrong", 401)] {
        conn.chat(&[origin, ("authorization", key)], chat("openai").to_string().as_bytes()).await;
        let answer = conn.answer().await.unwrap();
        assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (status, "https://app.example"));
        let exposed: Vec<_> = answer.header("access-control-expose-headers").split(", ").collect();
        let own = answer.head.headers.iter().map(|(name, _)| name.as_str());
        for name in own.filter(|name| name.starts_with("x-") || name.starts_with("retry-after")) {
            assert!(exposed.contains(&name), "{name} is not exposed");
        }
    }
    let h2 = H2::connect(gateway.listen).await;
    let mut preflight = http::Request::options("http://gateway/v1/embeddings").header(origin.0, origin.1);
    for (name, value) in PREFLIGHT {
        preflight = preflight.header(name, value);
    }
    let answer = h2.send(preflight.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
    assert_eq!((head(&answer).status, head(&answer).get("access-control-allow-origin")), (204, Some("https://app.example")));
    // A request from elsewhere than a browser is served as ever.
    assert_eq!(gateway.chat_as(&[("authorization", "Bearer tg-demo")], &chat("openai")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_origins_may_be_allowed() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "cors: { origins: [\"*\"] }").await;
    let answer = gateway.get("/v1/models", &[("origin", "https://any.example"), ("authorization", "Bearer tg-demo")]).await;
    assert_eq!((answer.status(), answer.header("access-control-allow-origin"), answer.head.get("vary")), (200, "*", None));
    assert!(!answer.header("access-control-expose-headers").is_empty());
}
