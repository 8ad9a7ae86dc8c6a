//! The way to providers: through a real egress proxy, and through Unix sockets.

use crate::harness::gateway::{Gateway, Setup, free_port};
use crate::harness::sim::Sim;
use crate::harness::sse::Events;
use crate::harness::tinyproxy::{DENIED, PASSWORD, Tinyproxy};
use crate::harness::tls::Certificates;
use crate::harness::{chat, streamed};
use http::Version;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpStream, UnixListener};

/// A configuration in which each provider has a route of its name, asked once.
fn config(server: &str, providers: &[(&str, String)]) -> String {
    let mut text = format!("auth: none\nserver: {{ {server} }}\nproviders:\n");
    for (name, provider) in providers {
        text += &format!("  {name}: {{ {provider} }}\n");
    }
    text += "routes:\n";
    for (name, _) in providers {
        text += &format!(
            "  {name}: {{ retry: {{ attempts: 1 }}, ejection: {{ failures: 0 }}, targets: [ {{ provider: {name}, model: {name} }} ] }}\n"
        );
    }
    text
}

fn vllm(base_url: &str, more: &str) -> String {
    format!("kind: vllm, base_url: \"{base_url}\"{more}")
}

/// At the end the connections are back in the pool.
async fn whole_and_streamed(gateway: &Gateway, route: &str) {
    let answer = gateway.chat(&chat(route)).await;
    assert_eq!(answer.status(), 200, "{route}: {}", answer.text());
    assert!(answer.content().contains("Hello"), "{route}: {}", answer.text());
    gateway.at_rest(route).await;
    let conn = gateway.open(&streamed(route)).await;
    let story = Events::of(conn).await.all().await;
    assert!(story.done && !story.broken, "{route}: {story:?}");
    gateway.at_rest(route).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_through_a_tunnel_or_in_absolute_form() {
    let (sim, certificates, proxy) = (Sim::start().await, Certificates::new(), Tinyproxy::start().await);
    let (one, other) = (certificates.front(sim.address()).await, certificates.front(sim.address()).await);
    let plain = sim.address();
    let through = format!(", proxy: \"{}\"", proxy.url());
    let tls = format!(", tls: {{ ca_file: {}, server_name: localhost }}", certificates.ca.display());
    let gateway = Gateway::start(&config(
        "",
        &[
            ("plain", vllm(&format!("http://{plain}/vllm/v1"), &through)),
            ("direct", vllm(&format!("http://{plain}/vllm/v1"), "")),
            ("h2", vllm(&format!("https://{one}/vllm/v1"), &(through.clone() + &tls))),
            ("h2-direct", vllm(&format!("https://{one}/vllm/v1"), &tls)),
            ("h1", vllm(&format!("https://{other}/vllm/v1"), &(through + &tls + ", http: \"1.1\""))),
        ],
    ))
    .await;
    let counts = || {
        let absolute = format!("POST http://{plain}/vllm/v1/chat/completions");
        [absolute, format!("CONNECT {one}"), format!("CONNECT {other}")].map(|what| proxy.requests(&what))
    };
    // The direct ones first: a connection of theirs must not serve those that go through the proxy, nor the other way round.
    for (route, after) in [
        ("direct", [0, 0, 0]),
        ("h2-direct", [0, 0, 0]),
        ("plain", [2, 0, 0]),
        ("h2", [2, 1, 0]),
        ("h1", [2, 1, 1]),
        ("direct", [2, 1, 1]),
        ("h2-direct", [2, 1, 1]),
        ("h2", [2, 1, 1]),
        ("h1", [2, 1, 1]),
    ] {
        whole_and_streamed(&gateway, route).await;
        assert_eq!(counts(), after, "{route}");
    }
    assert_eq!(sim.request_for("h2").await.version, Version::HTTP_2);
    assert_eq!(sim.request_for("h1").await.version, Version::HTTP_11);
    assert_eq!(sim.request_for("plain").await.headers["host"], plain.to_string());
    assert!(sim.seen().iter().all(|seen| !seen.headers.contains_key("proxy-authorization")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_refuses_or_is_gone_is_a_502_that_says_so() {
    let (sim, certificates, proxy) = (Sim::start().await, Certificates::new(), Tinyproxy::start().await);
    let front = certificates.front(sim.address()).await;
    let (good, address) = (format!(", proxy: \"{}\"", proxy.url()), proxy.address());
    let wrong = format!(", proxy: \"http://gate:wrong-{PASSWORD}@{address}\"");
    let none = format!(", proxy: \"http://{address}\"");
    let (secure, plain) = (format!("https://{front}/v1"), format!("http://{}/vllm/v1", sim.address()));
    let nobody = free_port();
    let providers = [
        ("secure-407", vllm(&secure, &none)),
        ("plain-407", vllm(&plain, &none)),
        ("secure-401", vllm(&secure, &wrong)),
        ("plain-401", vllm(&plain, &wrong)),
        ("secure-403", vllm(&format!("https://{DENIED}/v1"), &good)),
        ("plain-403", vllm(&format!("http://{DENIED}/v1"), &good)),
        ("secure-500", vllm(&format!("https://127.0.0.1:{nobody}/v1"), &good)),
        ("plain-500", vllm(&format!("http://127.0.0.1:{nobody}/v1"), &good)),
        ("secure-ok", vllm(&secure, &format!("{good}, tls: {{ verify: false }}"))),
        ("plain-ok", vllm(&plain, &good)),
    ];
    let gateway = Setup::new(&config("", &providers)).level("debug").start().await;
    for (route, _) in &providers[..8] {
        let answer = gateway.chat(&chat(route)).await;
        let (status, message) = (route.split('-').next_back().unwrap(), answer.error());
        assert_eq!(answer.status(), 502, "{}", answer.text());
        let what = if route.starts_with("secure") { "connection" } else { "request" };
        let said = format!("The egress proxy refused the {what} to provider `{route}` with status {status}");
        assert!(answer.text().contains(&said), "{route}: {message}");
        assert!(!answer.text().contains(&address.to_string()), "{}", answer.text());
        let series = format!("tidegate_upstream_attempts_total{{operation=\"chat\",outcome=\"connect\",provider=\"{route}\"}}");
        assert_eq!(gateway.metric(&series).await, 1.0, "{route}");
    }
    assert_eq!(sim.count(), 0);
    gateway.output.line(&format!("the egress proxy {address} refused with status 407")).await;
    gateway.output.line(&format!("the egress proxy {address} refused a request with status 407")).await;
    assert_eq!(proxy.stop().await, address);
    for route in ["secure-ok", "plain-ok"] {
        let answer = gateway.chat(&chat(route)).await;
        assert_eq!(answer.status(), 502);
        let said = format!("The egress proxy on the way to provider `{route}` cannot be connected to");
        assert!(answer.text().contains(&said), "{}", answer.text());
    }
    gateway.output.line(&format!("cannot connect to the egress proxy {address}: ")).await;
    for (where_, text) in
        [("the log", gateway.output.text()), ("/status", gateway.page("/status").await.text()), ("/metrics", gateway.metrics().await)]
    {
        assert!(!text.contains(PASSWORD) && !text.contains("Z2F0ZT"), "{where_} shows the proxy's account");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_names_the_proxy_and_what_needs_none() {
    let (sim, exempt, certificates) = (Sim::start().await, Sim::start().await, Certificates::new());
    let (proxy, own) = (Tinyproxy::start().await, Tinyproxy::start().await);
    let front = certificates.front(sim.address()).await;
    // The loopback address is never proxied for the environment's sake; this one leads there too.
    let far = |address: SocketAddr| format!("0.0.0.0:{}", address.port());
    let (plain, secure, listed) = (far(sim.address()), far(front), far(exempt.address()));
    let providers = [
        ("plain", vllm(&format!("http://{plain}/vllm/v1"), "")),
        ("secure", vllm(&format!("https://{secure}/vllm/v1"), ", tls: { verify: false }")),
        ("listed", vllm(&format!("http://{listed}/vllm/v1"), "")),
        ("near", vllm(&format!("http://{}/vllm/v1", sim.address()), "")),
        ("never", vllm(&format!("http://{plain}/vllm/v1"), ", proxy: none")),
        ("own", vllm(&format!("http://{plain}/vllm/v1"), &format!(", proxy: \"{}\"", own.url()))),
    ];
    let gateway = Setup::new(&config("proxy_from_environment: true", &providers))
        .variable("HTTPS_PROXY", &proxy.url())
        .variable("http_proxy", &proxy.url())
        .variable("NO_PROXY", &format!("elsewhere.example, {listed}"))
        .start()
        .await;
    let counts = || {
        let absolute = |to: &str| format!("POST http://{to}/vllm/v1/chat/completions");
        let asked = [absolute(&plain), format!("CONNECT {secure}"), absolute(&listed)].map(|what| proxy.requests(&what));
        (asked, own.requests(&absolute(&plain)))
    };
    for (route, after) in [
        ("listed", ([0, 0, 0], 0)),
        ("near", ([0, 0, 0], 0)),
        ("never", ([0, 0, 0], 0)),
        ("plain", ([1, 0, 0], 0)),
        ("secure", ([1, 1, 0], 0)),
        ("own", ([1, 1, 0], 1)),
    ] {
        let answer = gateway.chat(&chat(route)).await;
        assert_eq!((answer.status(), counts()), (200, after), "{route}: {}", answer.text());
    }
    // Without the switch the environment says nothing.
    let gateway = Setup::new(&config("", &providers[..1])).variable("HTTP_PROXY", "http://127.0.0.1:1").start().await;
    assert_eq!(gateway.chat(&chat("plain")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_fetched_through_the_proxy() {
    let (sim, proxy) = (Sim::start().await, Tinyproxy::start().await);
    let setup = Setup::new("");
    let account = |name: &str| {
        let account = json!({
            "type": "authorized_user", "client_id": "i", "client_secret": name, "refresh_token": "r",
            "token_uri": format!("http://{}/vertex/token", sim.address()),
        });
        setup.dir.write(name, &account.to_string())
    };
    let vertex = |name: &str, proxy: &str| {
        let file = account(name);
        format!(
            "kind: vertex, project: p, location: global, base_url: \"http://{}/vertex\", credentials_file: {}, proxy: \"{proxy}\"",
            sim.address(),
            file.display()
        )
    };
    let wrong = proxy.url().replace("gate:", "gate:wrong-");
    let text = config("", &[("good", vertex("good", &proxy.url())), ("refused", vertex("refused", &wrong))]);
    let gateway = setup.config(&text.replace("model: good", "model: gemini-2.5-flash")).start().await;
    let answer = gateway.chat(&chat("good")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(proxy.requests(&format!("POST http://{}/vertex/token", sim.address())) > 0);
    let answer = gateway.chat(&chat("refused")).await;
    assert_eq!((answer.status(), answer.text().contains("could not be fetched")), (502, true), "{}", answer.text());
    gateway.output.line(&format!("the token server: the egress proxy {} refused with status 401", proxy.address())).await;
    assert!(!gateway.output.text().contains(PASSWORD));
}

/// Serves `to` at a Unix socket, and counts connections there.
fn socket(path: &Path, to: SocketAddr) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path).unwrap();
    let count = Arc::<AtomicUsize>::default();
    let counter = count.clone();
    tokio::spawn(async move {
        while let Ok((mut outer, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut inner = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await; // one side's end is the other's
            });
        }
    });
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_may_be_at_a_unix_socket() {
    let sim = Sim::start().await;
    let setup = Setup::new("");
    let [path, missing] = ["llm.sock", "missing.sock"].map(|name| setup.dir.join(name));
    let count = socket(&path, sim.address());
    let provider = |path: &Path| vllm(&format!("unix:{}:/vllm/v1", path.display()), "");
    let text = config("", &[("local", provider(&path)), ("missing", provider(&missing))]);
    let gateway = setup.config(&text).start().await;
    for _ in 0..3 {
        whole_and_streamed(&gateway, "local").await;
    }
    let seen = sim.request_for("local").await;
    assert_eq!((seen.path.as_str(), seen.headers["host"].to_str().unwrap()), ("/vllm/v1/chat/completions", "localhost"));
    assert_eq!(count.load(Ordering::Relaxed), 1, "the connection is kept");
    let answer = gateway.chat(&chat("missing")).await;
    assert_eq!((answer.status(), answer.text().contains("`missing` cannot be connected to")), (502, true), "{}", answer.text());
    let count = socket(&missing, sim.address());
    whole_and_streamed(&gateway, "missing").await;
    assert_eq!(count.load(Ordering::Relaxed), 1, "a server that has come is found");
}
