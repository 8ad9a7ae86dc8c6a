//! The TLS listener: HTTP/2 by ALPN, HTTP/1.1 without it, both with the gateway's own certificate.

use crate::harness::gateway::Setup;
use crate::harness::http1::Conn;
use crate::harness::http2::{self, H2};
use crate::harness::sim::Sim;
use crate::harness::sse::Events;
use crate::harness::tls::{Certificates, connect};
use crate::harness::{chat, streamed, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alpn_decides_about_the_protocol() {
    let (sim, certificates) = (Sim::start().await, Certificates::new());
    let gateway = Setup::new(&sim.config("", "")).tls(&certificates).start().await;
    for (alpn, agreed) in [(&["h2", "http/1.1"][..], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)] {
        let stream = connect(gateway.secure, &certificates.ca, alpn).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        let story = if agreed == Some(b"h2") {
            let client = H2::over(stream).await;
            let answer = http2::whole(client.chat(&[], chat("r").to_string().into()).await.unwrap()).await.unwrap();
            assert!(answer.content().contains("Hello"));
            Events::h2(client.chat(&[], streamed("r").to_string().into()).await.unwrap().into_body()).all().await
        } else {
            let mut conn = Conn::over(stream);
            conn.chat(&[], chat("r").to_string().as_bytes()).await;
            assert!(conn.answer().await.unwrap().content().contains("Hello"));
            conn.chat(&[], streamed("r").to_string().as_bytes()).await;
            Events::of(conn).await.all().await
        };
        assert!(story.done && !story.broken, "{story:?}");
    }
    // Somebody else's authority does not vouch for it, and cleartext is not served there.
    assert!(connect(gateway.secure, &Certificates::new().ca, &["h2"]).await.is_err());
    let mut plain = Conn::connect(gateway.secure).await;
    let _ = plain.send(b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n").await; // it may be hung up on meanwhile
    let answer = plain.answer().await.unwrap();
    assert_eq!((answer.status(), answer.error().contains("https")), (400, true));
    assert_eq!(gateway.chat(&chat("r")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_whose_certificate_is_not_trusted_is_not_asked() {
    let (sim, certificates, others) = (Sim::start().await, Certificates::new(), Certificates::new());
    let front = certificates.front(sim.address()).await;
    let provider = |tls: &str| format!("{{ kind: vllm, base_url: \"https://{front}/vllm/v1\", tls: {{ {tls} }} }}");
    let (own, other) = (certificates.ca.display(), others.ca.display());
    let config = format!(
        "auth: none\nproviders:\n  good: {}\n  stranger: {}\n  misnamed: {}\n  blind: {}\nroutes: {{ \"good/*\": {{ targets: [ {{ provider: good, model: \"*\" }} ] }}, \
         stranger: {{ targets: [ {{ provider: stranger, model: m }} ] }}, misnamed: {{ targets: [ {{ provider: misnamed, model: m }} ] }}, \
         blind: {{ targets: [ {{ provider: blind, model: m }} ] }} }}\n",
        provider(&format!("ca_file: {own}, server_name: localhost")),
        provider(&format!("ca_file: {other}, server_name: localhost")),
        provider(&format!("ca_file: {own}, server_name: elsewhere.example")),
        provider("verify: false"),
    );
    let gateway = Setup::new(&config).start().await;
    // The good one first: a pooled connection must not serve those that would not have been trusted.
    for (route, status) in [("good/m", 200), ("stranger", 502), ("misnamed", 502), ("blind", 200), ("good/m", 200)] {
        let answer = gateway.chat(&chat(route)).await;
        assert_eq!(answer.status(), status, "{route}: {}", answer.text());
    }
    assert_eq!(sim.count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_certificate_is_shown_and_half_of_one_is_not() {
    let (sim, old, new) = (Sim::start().await, Certificates::new(), Certificates::new());
    let gateway = Setup::new(&sim.config("", "")).tls(&old).start().await;
    let shows = async |authority: &Certificates| connect(gateway.secure, &authority.ca, &["h2"]).await.is_ok();
    assert!(shows(&old).await && !shows(&new).await);
    // The key is there a moment before its certificate is.
    std::fs::rename(&new.key, &old.key).unwrap();
    until("the rejection of a key without its certificate", async || {
        let status = gateway.page("/status").await.json();
        status["reloads"]["problems"].to_string().contains("another certificate").then_some(())
    })
    .await;
    assert!(shows(&old).await);
    std::fs::rename(&new.certificate, &old.certificate).unwrap();
    until("the new certificate", async || shows(&new).await.then_some(())).await;
    assert!(!shows(&old).await);
    assert!(!gateway.output.text().contains("until the process is upgraded"), "{}", gateway.output.text());
}
