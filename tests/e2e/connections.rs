//! Connections to providers that die, end or refuse, and what a reload does to those that are well.

use crate::harness::dir::Dir;
use crate::harness::frames::Frames;
use crate::harness::gateway::{Gateway, free_port};
use crate::harness::http1::{Answer, Conn};
use crate::harness::manual::{Exchange, Manual};
use crate::harness::nginx::Nginx;
use crate::harness::sim::Sim;
use crate::harness::tls::Certificates;
use crate::harness::{self, COMPLETION, chat, soon, until};
use std::net::Ipv4Addr;

/// A configuration with one provider and one route.
fn config(provider: &str, attempts: u32) -> String {
    let route = format!("retry: {{ attempts: {attempts}, backoff: {{ initial: 1ms, max: 1ms }} }}, ejection: {{ failures: 1 }}");
    harness::config("", ("p", provider), "r", &route)
}

const SHORT: &str = "timeouts: { first_byte: 500ms }";
const LONG: &str = "timeouts: { first_byte: 10m, first_token: 10m, between_bytes: 10m }";

async fn ask(gateway: &Gateway) -> Answer {
    gateway.chat(&chat("r")).await
}

/// Status, and after how many attempts.
fn by(answer: &Answer) -> (u16, u32) {
    (answer.status(), answer.header("x-tidegate-attempts").parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_connection_on_which_a_request_timed_out_is_left_alone() {
    let upstream = Frames::start().await;
    let gateway = Gateway::start(&config(&upstream.provider(SHORT), 2)).await;
    let one = async {
        let mut peer = upstream.accept().await;
        peer.serve().await;
        peer
    };
    let (answer, silent) = tokio::join!(ask(&gateway), one);
    assert_eq!(by(&answer), (200, 1));
    // It stays open and answers nothing any more, neither requests nor pings.
    let another = async {
        let mut peer = upstream.accept().await;
        for _ in 0..3 {
            upstream.answer_next(&mut peer).await;
        }
    };
    let asking = async { [by(&ask(&gateway).await), by(&ask(&gateway).await), by(&ask(&gateway).await)] };
    let (answers, ()) = tokio::join!(asking, another);
    assert_eq!(answers, [(200, 2), (200, 1), (200, 1)]);
    silent.hung_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_connection_that_answers_no_ping_is_given_up_before_the_deadlines() {
    let upstream = Frames::start().await;
    let gateway = Gateway::start(&config(&upstream.provider(LONG), 1)).await;
    let serve = async {
        let mut peer = upstream.accept().await;
        peer.serve().await;
        let mut other = upstream.accept().await;
        other.serve().await;
    };
    let asking = async {
        assert_eq!(by(&ask(&gateway).await), (200, 1));
        assert_eq!(by(&ask(&gateway).await), (200, 1), "it costs no attempt");
    };
    tokio::join!(serve, asking);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_sends_its_settings_has_one_request_only() {
    let upstream = Frames::start().await;
    let gateway = Gateway::start(&config(&upstream.provider(SHORT), 1)).await;
    let (answer, silent) = tokio::join!(ask(&gateway), upstream.silent());
    assert_eq!(by(&answer).0, 504);
    let serve = async {
        let mut peer = upstream.accept().await;
        peer.serve().await;
    };
    let (answer, ()) = tokio::join!(ask(&gateway), serve);
    assert_eq!(by(&answer).0, 200);
    silent.hung_up().await;
}

/// So many connections that have served a request each and wait in the gateway's pool.
async fn pooled(gateway: &Gateway, manual: &Manual, count: usize) -> Vec<Exchange> {
    let mut under_way = Vec::new();
    for _ in 0..count {
        let conn = gateway.open(&chat("r")).await;
        under_way.push((conn, manual.accept().await));
    }
    let mut waiting = Vec::new();
    for (mut conn, mut exchange) in under_way {
        exchange.json("200 OK", COMPLETION).await;
        assert_eq!(conn.answer().await.unwrap().status(), 200);
        waiting.push(exchange);
    }
    waiting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_silent_pooled_connections_one_costs_a_wait() {
    let (manual, certificates) = (Manual::start().await, Certificates::new());
    let secure = certificates.provider(manual.address()).await;
    for (provider, http) in [(manual.provider(), ""), (secure, "http: 1.1, ")] {
        let provider = provider.replacen("{ kind", &format!("{{ {http}{SHORT}, kind"), 1);
        let gateway = Gateway::start(&config(&provider, 2)).await;
        let silent = pooled(&gateway, &manual, 20).await;
        for expected in [2, 1, 1, 1] {
            let answering = async {
                let mut exchange = manual.accept().await;
                exchange.json("200 OK\r\nconnection: close", COMPLETION).await;
            };
            let (answer, ()) = tokio::join!(ask(&gateway), answering);
            assert_eq!(by(&answer), (200, expected), "{http}");
        }
        for exchange in silent {
            exchange.hung_up().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_a_server_has_not_processed_is_repeated_at_no_cost() {
    const NO_ERROR: u32 = 0;
    const ENHANCE_YOUR_CALM: u32 = 11;
    for refusal in [None, Some(NO_ERROR), Some(ENHANCE_YOUR_CALM)] {
        let upstream = Frames::start().await;
        let gateway = Gateway::start(&config(&upstream.provider(LONG), 1)).await;
        let serve = async {
            let mut peer = upstream.accept().await;
            let stream = peer.serve().await;
            let second = peer.request().await;
            match refusal {
                None => peer.refuse(second).await,
                Some(code) => peer.go_away(stream, code).await,
            }
            let mut other = upstream.accept().await;
            for _ in 0..2 {
                upstream.answer_next(&mut other).await;
            }
        };
        let asking = async {
            for _ in 0..3 {
                assert_eq!(by(&ask(&gateway).await), (200, 1), "{refusal:?}");
            }
        };
        tokio::join!(serve, asking);
        let attempts = "tidegate_upstream_attempts_total{operation=\"chat\",outcome=\"success\",provider=\"p\"}";
        assert_eq!(gateway.metric(attempts).await, 3.0, "{}", gateway.metrics().await);
        assert_eq!(gateway.metric("tidegate_target_state{route=\"r\",target=\"p/m\"}").await, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_every_stream_is_not_asked_for_ever() {
    let upstream = Frames::start().await;
    let gateway = Gateway::start(&config(&upstream.provider(LONG), 1)).await;
    let refuse = async {
        // Kept open: a socket that is closed before the body has been read resets, and the refusal may be lost.
        let mut peers = Vec::new();
        while peers.len() < 9 {
            let mut peer = upstream.accept().await;
            let stream = peer.request().await;
            peer.refuse(stream).await;
            peers.push(peer);
        }
        peers
    };
    let (answer, _peers) = tokio::join!(ask(&gateway), refuse);
    assert_eq!(by(&answer), (502, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nginx_that_ends_its_connections_costs_no_request() {
    const CLIENTS: usize = 60;
    const REQUESTS: usize = 50;
    let (sim, certificates) = (Sim::start().await, Certificates::new());
    let (port, to) = (free_port(), sim.address());
    let (certificate, key) = (certificates.certificate.display(), certificates.key.display());
    let server = format!(
        "server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {certificate}; ssl_certificate_key {key}; keepalive_requests 50; \
         location / {{ proxy_pass http://{to}; }} }}"
    );
    let _nginx = Nginx::start(Dir::new(), &server, (Ipv4Addr::LOCALHOST, port).into()).await;
    let provider = format!(
        "{{ kind: vllm, base_url: \"https://127.0.0.1:{port}/vllm/v1\", tls: {{ ca_file: {}, server_name: localhost }}, {LONG} }}",
        certificates.ca.display()
    );
    let gateway = Gateway::start(&config(&provider, 1)).await;
    let address = gateway.listen;
    let clients = (0..CLIENTS).map(|_| {
        tokio::spawn(async move {
            let mut conn = Conn::connect(address).await;
            let mut wrong = Vec::new();
            for _ in 0..REQUESTS {
                conn.chat(&[], chat("r").to_string().as_bytes()).await;
                let answer = conn.answer().await.unwrap();
                if answer.status() != 200 {
                    wrong.push(answer.text());
                }
            }
            wrong
        })
    });
    let wrong = soon("all answers", futures::future::join_all(clients)).await;
    let wrong: Vec<_> = wrong.into_iter().flat_map(Result::unwrap).collect();
    assert!(wrong.is_empty(), "{} failed: {}", wrong.len(), wrong[0]);
    let attempts = "tidegate_upstream_attempts_total{operation=\"chat\",outcome=\"success\",provider=\"p\"}";
    assert_eq!(gateway.metric(attempts).await, (CLIENTS * REQUESTS) as f64);
}

/// Puts a configuration in force that has the route `r` and one named after the `round`.
async fn reload(gateway: &Gateway, provider: &str, round: usize) {
    let mark = format!("round{round}");
    let text = config(provider, 1).replacen("routes: {", &format!("routes: {{ {mark}: {{ targets: [ {{ provider: p, model: m }} ] }},"), 1);
    gateway.reload(&text).await;
    until("the reload", async || gateway.get("/v1/models", &[]).await.text().contains(&mark).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_survive_a_reload_that_does_not_concern_them_and_no_other() {
    const RELOADS: usize = 20;
    let (sim, certificates) = (Sim::start().await, Certificates::new());
    for http in ["auto", "1.1", "2"] {
        let (front, count) = certificates.counted_front(sim.address()).await;
        let provider = |max: usize, verify: bool| {
            let ca = certificates.ca.display();
            format!(
                "{{ kind: vllm, http: {http}, max_connections: {max}, base_url: \"https://{front}/vllm/v1\", \
                 tls: {{ ca_file: {ca}, server_name: localhost, verify: {verify} }} }}"
            )
        };
        let gateway = Gateway::start(&config(&provider(1, true), 1)).await;
        for round in 1..=RELOADS {
            assert_eq!(ask(&gateway).await.status(), 200);
            reload(&gateway, &provider(round + 1, true), round).await;
        }
        assert_eq!(ask(&gateway).await.status(), 200);
        assert_eq!(count.accepted(), 1, "http: {http}: a reload has made the pool cold");
        for round in 1..=RELOADS {
            reload(&gateway, &provider(1, round % 2 == 0), RELOADS + round).await;
            assert_eq!(ask(&gateway).await.status(), 200);
        }
        assert_eq!(count.accepted(), 1 + RELOADS, "http: {http}: a connection with other settings was used");
        until(&format!("the end of the old connections ({http})"), async || (count.open() == 1).then_some(())).await;
        assert_eq!(ask(&gateway).await.status(), 200);
        assert_eq!(count.accepted(), 1 + RELOADS);
    }
}
