//! The hooks under a real proxy in the test's own process, for what no name server of a test can be made to say.

use super::downstream::{self, Options};
use super::live::Live;
use super::proxy::Gateway;
use super::serve::Process;
use super::sockets::Sockets;
use crate::config;
use crate::config::snapshot::{Listen, ListenAddress};
use crate::provider::Target;
use crate::simulate::Simulator;
use arc_swap::ArcSwap;
use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::Service as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn try_live(config: &str, previous: Option<&Live>) -> Result<Arc<Live>, String> {
    let loaded = config::parse(config, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}"));
    Live::new(loaded.snapshot, previous).map(Arc::new)
}

fn live(config: &str, previous: Option<&Live>) -> Arc<Live> {
    try_live(config, previous).unwrap()
}

fn first_target(live: &Live) -> &Target {
    &live.snapshot.routes[0].targets[0]
}

/// Serves; where.
async fn serve(live: Arc<Live>) -> SocketAddr {
    let address = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let gateway = Gateway { live: Arc::new(ArcSwap::from(live)) };
    let sockets = Sockets::open(std::iter::empty(), ANY.into(), None).unwrap();
    let process = Arc::new(Process::new(gateway.live.clone(), sockets, None));
    let door = Listen { address: ListenAddress::Tcp(address), tls: None, proxy_protocol: false };
    let options = Options { server: HttpServerOptions::default(), h2: H2Options::new(), listeners: vec![door] };
    let mut service = downstream::service(&Arc::new(ServerConf::default()), gateway, process, options);
    service.add_tcp(&address.to_string());
    let (running, shutdown) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        service.start_service(None, shutdown, 1).await;
        drop(running);
    });
    while TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    address
}

/// The whole answer to a small chat request.
async fn ask(gateway: SocketAddr, model: &str) -> String {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hello"}}]}}"#);
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let length = body.len();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_refuses_costs_no_attempt() {
    let simulator = Simulator::bind(ANY.into()).await.unwrap();
    let good = simulator.local_addr();
    tokio::spawn(simulator.serve(std::future::pending::<()>()));
    // Every address has the same port: one that nobody listens on is another loopback address.
    let [one, two] = [2, 3].map(|last| SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), good.port()));
    let live = live(&named(good.port()), None);
    let addresses = live.upstream(first_target(&live)).addresses();
    addresses.set_source(vec![one, two, good]);
    let gateway = serve(live.clone()).await;
    for _ in 0..2 {
        let answer = ask(gateway, "r").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("x-tidegate-attempts: 1\r\n"), "{answer}");
    }
    addresses.set_source(vec![one, two]);
    addresses.update(vec![one, two]);
    let answer = ask(gateway, "r").await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("cannot be connected to"), "{answer}");
}

/// A provider named `upstream.invalid` at this port, asked once for each request.
fn named(port: u16) -> String {
    format!(
        "auth: none\nproviders: {{ p: {{ kind: vllm, base_url: \"http://upstream.invalid:{port}/vllm/v1\" }} }}\n\
         routes: {{ r: {{ retry: {{ attempts: 1 }}, targets: [ {{ provider: p, model: m }} ] }} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_address_has_its_share_and_one_that_moved_costs_no_request() {
    let first = Simulator::bind(ANY.into()).await.unwrap();
    let port = first.local_addr().port();
    let mut simulators = vec![first];
    for last in [2, 3] {
        simulators.push(Simulator::bind(SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), port)).await.unwrap());
    }
    let all: Vec<_> = simulators.iter().map(Simulator::local_addr).collect();
    let handles: Vec<_> = simulators.iter().map(Simulator::handle).collect();
    simulators.into_iter().for_each(|simulator| drop(tokio::spawn(simulator.serve(std::future::pending::<()>()))));
    let live = live(&named(port), None);
    let addresses = live.upstream(first_target(&live)).addresses();
    addresses.set_source(all.clone());
    addresses.update(all);
    let gateway = serve(live.clone()).await;
    for _ in 0..9 {
        let answer = ask(gateway, "r").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    assert_eq!(handles.iter().map(|handle| handle.seen().len()).collect::<Vec<_>>(), [3, 3, 3]);
    // The name is looked up when nobody listens at the addresses any more, and the same attempt finds the new one.
    let gone = [4, 5].map(|last| SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), port));
    addresses.update(gone.to_vec());
    for _ in 0..4 {
        let answer = ask(gateway, "r").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_does_not_answer_costs_a_quarter_of_a_second_and_no_request() {
    let simulator = Simulator::bind(ANY.into()).await.unwrap();
    let good = simulator.local_addr();
    tokio::spawn(simulator.serve(std::future::pending::<()>()));
    // A listener whose queue is full: connects to it get no answer.
    let stalled = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), good.port());
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(stalled).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = tokio::time::timeout(std::time::Duration::from_millis(300), TcpStream::connect(stalled)).await {
        queue.push(stream.unwrap());
    }
    let live = live(&named(good.port()), None);
    live.upstream(first_target(&live)).addresses().set_source(vec![stalled, good]);
    let gateway = serve(live.clone()).await;
    for _ in 0..3 {
        let answer = ask(gateway, "r").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("x-tidegate-attempts: 1\r\n"), "{answer}");
    }
    drop(listener);
}

#[test]
fn connections_are_kept_by_a_reload_where_their_settings_are_the_same() {
    let config = |key: &str, more: &str, tls: &str| {
        format!(
            "auth: none\nproviders: {{ {more} p: {{ kind: openai, api_key: {key}, base_url: \"https://upstream.invalid/v1\", {tls} }} }}\n\
             routes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}\n"
        )
    };
    let one = live(&config("one", "", ""), None);
    let same = |one: &Arc<Live>, other: &Arc<Live>| {
        let [one, other] = [one, other].map(|live| live.upstream(first_target(live)).connections.clone());
        Arc::ptr_eq(&one, &other)
    };
    let other = "other: { kind: openai, api_key: k },";
    assert!(same(&one, &live(&config("two", other, "timeouts: { total: 9s }, headers: { x-team: t }"), Some(&one))));
    let proxied = live(&config("one", "", "proxy: \"http://proxy.invalid:1\""), Some(&one));
    assert!(same(&proxied, &live(&config("two", other, "proxy: \"http://proxy.invalid:1\""), Some(&proxied))));
    for proxy in ["", "proxy: none", "proxy: \"http://proxy.invalid:2\"", "proxy: \"http://user:pw@proxy.invalid:1\""] {
        assert!(!same(&proxied, &live(&config("one", "", proxy), Some(&proxied))), "{proxy}");
    }
    for tls in ["tls: { verify: false }", "tls: { server_name: elsewhere.invalid }", "http: 2", "http: \"1.1\""] {
        assert!(!same(&one, &live(&config("one", "", tls), Some(&one))), "{tls}");
    }
}

#[test]
fn a_reload_goes_on_with_what_is_known_of_a_provider() {
    let config = |more: &str, host: &str| {
        format!(
            "auth: none\nproviders: {{ {more} p: {{ kind: vllm, max_connections: 1, base_url: \"http://{host}/v1\" }} }}\n\
             routes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}\n"
        )
    };
    let other = "other: { kind: openai, api_key: k },";
    let one = live(&config("", "upstream.invalid:80"), None);
    let slot = one.upstream(first_target(&one)).enter().unwrap();
    let two = live(&config(other, "upstream.invalid:80"), Some(&one));
    let three = live(&config(other, "elsewhere.invalid:80"), Some(&two));
    let same = |one: &Arc<Live>, other: &Arc<Live>| {
        let [one, other] = [one, other].map(|live| live.upstream(first_target(live)).addresses());
        Arc::ptr_eq(one, other)
    };
    assert!(same(&one, &two) && !same(&two, &three), "the last one is another place");
    assert!(two.upstream(first_target(&two)).enter().is_none() && three.upstream(first_target(&three)).enter().is_none());
    drop(slot);
    assert!(three.upstream(first_target(&three)).enter().is_some());
}

#[test]
fn a_configuration_that_is_refused_takes_no_series_away() {
    let config = |route: &str, store: &str| {
        format!(
            "auth: none\nproviders: {{ p: {{ kind: openai, api_key: k }} }}\nlimits: {{ store: {store}, on_store_failure: deny }}\n\
             routes: {{ {route}: {{ targets: [ {{ provider: p, model: m }} ] }} }}\n"
        )
    };
    let old = live(&config("old", "memory"), None);
    let shown = || {
        let text = old.metrics.text(0).unwrap();
        ["old", "new"].map(|route| text.contains(&format!("{{route=\"{route}\",target")))
    };
    assert!(try_live(&config("new", "\"redis://127.0.0.1:1\""), Some(&old)).is_err());
    assert_eq!(shown(), [true, false]);
    live(&config("new", "memory"), Some(&old));
    assert_eq!(shown(), [false, true]);
}
