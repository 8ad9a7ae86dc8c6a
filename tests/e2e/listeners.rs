//! Listeners: how many connections they take, certificates by name, clients' certificates, Unix sockets, the PROXY protocol.

use crate::harness::gateway::{Gateway, Setup, free_address};
use crate::harness::http1::{Conn, request};
use crate::harness::sim::Sim;
use crate::harness::tls::{Certificates, Client, connect};
use crate::harness::{soon, until};
use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::rustls::{ALL_VERSIONS, SupportedProtocolVersion, version};

/// Awaits that so many connections were rejected for a reason.
async fn counted(gateway: &Gateway, reason: &str, count: f64) {
    let series = format!("tidegate_rejected_connections_total{{reason=\"{reason}\"}}");
    until(reason, async || (gateway.metric(&series).await == count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_most_are_closed_and_counted_and_the_admin_listener_answers() {
    let sim = Sim::start().await;
    let secure = Certificates::new();
    // Configured, and what the descriptors allow: (400 - 128) / 2.
    for (server, most) in [("header_timeout: 1h, max_connections: 100", 100), ("header_timeout: 1h", 136)] {
        let setup = Setup::new(&sim.config(server, "")).tls(&secure);
        let gateway = setup.through(&["prlimit", "--nofile=400"]).start().await;
        let mut idle = Vec::new();
        for number in 0..200 {
            // One count for both listeners.
            let address = if number % 2 == 0 { gateway.listen } else { gateway.secure };
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        counted(&gateway, "max_connections", f64::from(200 - most)).await;
        let line = gateway.output.line("rejected, max_connections").await;
        assert!(line.contains("connection from 127.0.0.1:"), "{line}");
        assert_eq!(gateway.page("/readyz").await.status(), 200);
        let mut closed = Conn::connect(gateway.listen).await;
        assert!(closed.closed().await.is_empty());
        drop(idle);
        until("room for a connection", async || {
            let mut conn = gateway.connect().await;
            let _ = conn.send(&request("GET", "/v1/models", &[], None)).await; // it may be closed already
            conn.answer().await.ok().filter(|answer| answer.status() == 200)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_listener_answers_when_no_descriptor_is_left() {
    let sim = Sim::start().await;
    let setup = Setup::new(&sim.config("max_connections: 1000, header_timeout: 1h", ""));
    let gateway = setup.through(&["prlimit", "--nofile=200"]).start().await;
    let line = gateway.output.line("server.max_connections is 1000").await;
    assert!(line.contains("allows 36"), "{line}");
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(gateway.listen).await.unwrap()); // the kernel completes what is not accepted
    }
    gateway.output.line("Accept() failed").await;
    for _ in 0..4 {
        assert_eq!(gateway.page("/readyz").await.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_chosen_by_name_and_the_first_is_for_all_others() {
    let (sim, certificates, address) = (Sim::start().await, Certificates::new(), free_address());
    let entry = |(certificate, key): &(PathBuf, PathBuf)| format!("{{ certificate: {}, key: {} }}", certificate.display(), key.display());
    let first = (certificates.certificate.clone(), certificates.key.clone());
    let named = certificates.issue("named", "subjectAltName=DNS:a.example.com,DNS:Api.Example.org");
    let wild = certificates.issue("wild", "subjectAltName=DNS:*.example.com");
    let all = [&first, &named, &wild].map(entry).join(", ");
    let gateway = Setup::new(&sim.config("", "")).listener(&format!("{{ address: {address}, tls: {{ certificates: [ {all} ] }} }}"));
    let gateway = gateway.start().await;
    let shown = async |name: &str| {
        let client = Client { name, ..Client::local(&certificates.ca) };
        let stream = client.connect(address).await.map_err(|e| e.to_string())?;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        assert_eq!(Conn::over(stream).get("/v1/models", &[]).await.status(), 200);
        Ok::<_, String>(shown)
    };
    // The client checks the name: a certificate for another one is an error there.
    let [a, api, other, local, ip] = ["a.example.com", "api.example.org", "b.example.com", "localhost", "127.0.0.1"];
    assert_eq!(shown(a).await.unwrap(), shown(api).await.unwrap());
    assert_ne!(shown(a).await.unwrap(), shown(other).await.unwrap());
    assert_eq!(shown(local).await.unwrap(), shown(ip).await.unwrap());
    assert!(shown("unknown.example.net").await.is_err());
    // A new certificate of the second name, by a reload.
    let before = shown(a).await.unwrap();
    let new = certificates.issue("new", "subjectAltName=DNS:a.example.com");
    std::fs::rename(new.1, &named.1).unwrap();
    std::fs::rename(new.0, &named.0).unwrap();
    until("the new certificate", async || (shown(a).await.unwrap() != before).then_some(())).await;
    assert!(shown(api).await.is_err(), "the new one is not for this name");
    assert!(!gateway.output.text().contains("until the process is upgraded"), "{}", gateway.output.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_certificates_are_required_or_optional_and_checked() {
    let (sim, certificates, strangers) = (Sim::start().await, Certificates::new(), Certificates::new());
    let (required, optional) = (free_address(), free_address());
    let (certificate, key, ca) = (certificates.certificate.display(), certificates.key.display(), certificates.ca.display());
    let clients = certificates.dir().join("clients.pem");
    std::fs::copy(&certificates.ca, &clients).unwrap();
    let listener = |address, client: &str| {
        format!("{{ address: {address}, tls: {{ certificate: {certificate}, key: {key}, client_ca: {}{client} }} }}", clients.display())
    };
    let setup = Setup::new(&sim.config("", "")).listener(&listener(required, ""));
    let gateway = setup.listener(&listener(optional, ", client_certificate: optional")).start().await;
    let good = certificates.issue("client", "extendedKeyUsage=clientAuth");
    let bad = strangers.issue("client", "extendedKeyUsage=clientAuth");
    let server = certificates.issue("server", "extendedKeyUsage=serverAuth");
    let served = async |address, identity: Option<&(PathBuf, PathBuf)>, versions| {
        let identity = identity.map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let client = Client { versions, identity, ..Client::local(&certificates.ca) };
        let Ok(stream) = client.connect(address).await else { return false };
        let mut conn = Conn::over(stream);
        // With TLS 1.3 the refusal comes after the client's handshake.
        conn.send(&request("GET", "/v1/models", &[], None)).await.is_ok() && conn.answer().await.is_ok_and(|a| a.status() == 200)
    };
    let mut refused = 0.0;
    static ONE_EACH: [&[&SupportedProtocolVersion]; 2] = [&[&version::TLS12], &[&version::TLS13]];
    for versions in ONE_EACH {
        for (address, identity, expected) in [
            (required, Some(&good), true),
            (required, None, false),
            (required, Some(&bad), false),
            (required, Some(&server), false),
            (optional, Some(&good), true),
            (optional, None, true),
            (optional, Some(&bad), false),
        ] {
            assert_eq!(served(address, identity, versions).await, expected, "{address} {identity:?}");
            refused += f64::from(u8::from(!expected));
            counted(&gateway, "tls_handshake", refused).await;
        }
    }
    let line = gateway.output.line("rejected, tls_handshake").await;
    assert!(line.contains("connection from 127.0.0.1:") && line.contains("certificate"), "{line} ({ca})");
    // Another authority by a reload: whom the listener let in before, it does not any more.
    std::fs::rename(&strangers.ca, &clients).unwrap();
    until("the new authority", async || served(required, Some(&bad), ALL_VERSIONS).await.then_some(())).await;
    assert!(!served(required, Some(&good), ALL_VERSIONS).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_for_tls_1_3_refuses_tls_1_2() {
    let (sim, certificates, address) = (Sim::start().await, Certificates::new(), free_address());
    let (certificate, key) = (certificates.certificate.display(), certificates.key.display());
    let entry = format!("{{ address: {address}, tls: {{ certificate: {certificate}, key: {key}, min_version: 1.3 }} }}");
    let gateway = Setup::new(&sim.config("", "")).tls(&certificates).listener(&entry);
    let gateway = gateway.start().await;
    for (address, option, expected) in
        [(address, "-tls1_2", false), (address, "-tls1_3", true), (gateway.secure, "-tls1_2", true), (gateway.secure, "-tls1_3", true)]
    {
        let client = tokio::process::Command::new("openssl")
            .args(["s_client", "-connect", &address.to_string(), "-verify_return_error", "-CAfile"])
            .arg(&certificates.ca)
            .arg(option)
            .stdin(std::process::Stdio::null())
            .output();
        let done = soon("openssl s_client", client).await.unwrap();
        assert_eq!(done.status.success(), expected, "{address} {option}: {}", String::from_utf8_lossy(&done.stdout));
    }
    counted(&gateway, "tls_handshake", 1.0).await;
}

/// The lines of requests in the log.
fn clients(gateway: &Gateway) -> Vec<Value> {
    let lines = gateway.output.text();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get("status").is_some()).map(|line| line["client"].clone()).collect()
}

/// Awaits so many requests in the log; the client of the last one.
async fn client(gateway: &Gateway, requests: usize) -> Value {
    until("a line of the log", async || (clients(gateway).len() == requests).then(|| clients(gateway).pop().unwrap())).await
}

async fn unix(path: &Path) -> Conn {
    Conn::over(UnixStream::connect(path).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_is_listened_on_across_a_reload_and_an_upgrade() {
    let sim = Sim::start().await;
    let setup = Setup::new(&sim.config("upgrade_timeout: 60s", ""));
    let path = setup.dir.join("s");
    let own = setup.dir.join("own");
    // What is left of a process that has ended.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let setup = setup.listener(&format!("{{ address: \"unix:{}\" }}", path.display()));
    let mut gateway = setup.listener(&format!("{{ address: \"unix:{}\", mode: 0600 }}", own.display())).start().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&own)), (0o660, 0o600));
    let forwarded = [("x-forwarded-for", "192.0.2.7")];
    assert_eq!(unix(&own).await.get("/v1/models", &[]).await.status(), 200);
    let mut kept = unix(&path).await;
    assert_eq!(kept.get("/v1/models", &forwarded).await.status(), 200);
    assert_eq!(client(&gateway, 2).await, Value::Null, "nobody said that it may be believed");
    let mut bad = unix(&path).await;
    bad.send(b"GARBAGE\r\n\r\n").await.unwrap();
    assert_eq!(bad.answer().await.unwrap().status(), 400);
    gateway.output.line(&format!("connection from unix:{} rejected, malformed", path.display())).await;

    gateway.reload(&sim.config("upgrade_timeout: 60s, trust_forwarded_for: [unix]", "")).await;
    gateway.output.line("configuration 2 is in force").await;
    assert_eq!(kept.get("/v1/models", &forwarded).await.status(), 200);
    let told = until("its line", async || clients(&gateway).into_iter().find(|client| client.is_string())).await;
    assert_eq!(told, "192.0.2.7");

    // A second process does not take the socket from one that serves.
    let stolen = std::process::Command::new(crate::harness::gateway::BINARY).args(["run", "--config"]).arg(&gateway.path).output().unwrap();
    assert_eq!(stolen.status.code(), Some(3), "{}", String::from_utf8_lossy(&stolen.stderr));

    gateway.signal("QUIT").await;
    let successor = gateway.successor();
    successor.1.line("\"serving\"").await;
    let (mut old, _) = gateway.continue_with(successor);
    kept.send(&request("GET", "/v1/models", &[], None)).await.unwrap();
    assert_eq!(kept.answer().await.unwrap().header("connection"), "close");
    assert_eq!(unix(&path).await.get("/v1/models", &forwarded).await.status(), 200);
    assert_eq!(client(&gateway, 1).await, "192.0.2.7", "the new process has served it");
    assert_eq!(soon("the end of the old process", old.wait()).await.unwrap().code(), Some(0));
    assert_eq!(unix(&path).await.get("/v1/models", &forwarded).await.status(), 200);
    // The next process replaces the file.
    gateway.signal("TERM").await;
    gateway.start_again().await;
    assert_eq!(unix(&path).await.get("/v1/models", &[]).await.status(), 200);
}

/// A header of the PROXY protocol, version 2, for TCP over IPv4 (or as `family` says).
fn version_2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A connection from an address of the loopback network.
async fn from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

const BALANCER: [u8; 4] = [127, 0, 0, 2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_carries_the_clients_address_from_trusted_peers_only() {
    let (sim, certificates) = (Sim::start().await, Certificates::new());
    let (plain, secure) = (free_address(), free_address());
    let (certificate, key) = (certificates.certificate.display(), certificates.key.display());
    let setup = Setup::new(&sim.config("header_timeout: 1s, trust_forwarded_for: [127.0.0.2, 192.0.2.99, unix]", ""));
    let path = setup.dir.join("s");
    let gateway = setup
        .listener(&format!("{{ address: {plain}, proxy_protocol: true }}"))
        .listener(&format!("{{ address: {secure}, proxy_protocol: true, tls: {{ certificate: {certificate}, key: {key} }} }}"))
        .listener(&format!("{{ address: \"unix:{}\", proxy_protocol: true }}", path.display()))
        .start()
        .await;
    let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 1, 0, 1, 187];
    let v6: Vec<u8> =
        [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], [0; 16]].concat().into_iter().chain([1, 0, 1, 187]).collect();
    let with_tlv = [&v4[..], &[2, 0, 3, b'a', b'b', b'c']].concat();
    let mut requests = 0;
    let plain_get = request("GET", "/v1/models", &[("x-forwarded-for", "198.51.100.1")], None);
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 256 443\r\n".to_vec(), "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::7 ::1 256 443\r\n".to_vec(), "2001:db8::7"),
        (version_2(1, 0x11, &v4), "192.0.2.1"),
        (version_2(1, 0x11, &with_tlv), "192.0.2.1"),
        (version_2(1, 0x21, &v6), "2001:db8::7"),
        // The peer's own address stays, which is one that is believed.
        (b"PROXY UNKNOWN\r\n".to_vec(), "198.51.100.1"),
        (version_2(0, 0x11, &v4), "198.51.100.1"),
        (version_2(1, 0x00, &[]), "198.51.100.1"),
        // The address in it is one that is believed.
        (b"PROXY TCP4 192.0.2.99 10.0.0.1 256 443\r\n".to_vec(), "198.51.100.1"),
    ] {
        // With the request in one piece, and byte by byte.
        for slowly in [false, true] {
            let mut conn = Conn::over(from(BALANCER, plain).await);
            if slowly {
                for byte in &header {
                    conn.send(&[*byte]).await.unwrap();
                }
                conn.send(&plain_get).await.unwrap();
            } else {
                conn.send(&[&header[..], &plain_get].concat()).await.unwrap();
            }
            assert_eq!(conn.answer().await.unwrap().status(), 200, "{}", header.escape_ascii());
            requests += 1;
            assert_eq!(client(&gateway, requests).await, expected, "{}", header.escape_ascii());
        }
    }

    // Before the TLS handshake, and at a Unix socket.
    let mut stream = from(BALANCER, secure).await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, &version_2(1, 0x11, &v4)).await.unwrap();
    let stream = Client::local(&certificates.ca).over(stream).await.unwrap();
    assert_eq!(Conn::over(stream).get("/v1/models", &[]).await.status(), 200);
    assert_eq!(client(&gateway, requests + 1).await, "192.0.2.1");
    let mut conn = unix(&path).await;
    conn.send(b"PROXY TCP4 192.0.2.1 10.0.0.1 256 443\r\n").await.unwrap();
    assert_eq!(conn.get("/v1/models", &[]).await.status(), 200);
    assert_eq!(client(&gateway, requests + 2).await, "192.0.2.1");

    // A handshake that fails is the client's.
    let mut stream = from(BALANCER, secure).await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"PROXY TCP4 192.0.2.1 10.0.0.1 256 443\r\n\x16\x03\x01\x00").await.unwrap();
    soon("the end of a late handshake", stream.read_to_end(&mut Vec::new())).await.unwrap();
    gateway.output.line("connection from 192.0.2.1:256 rejected, tls_handshake").await;

    // From a peer that is not believed, with a good header.
    for address in [plain, secure] {
        let mut conn = Conn::over(TcpStream::connect(address).await.unwrap());
        let _ = conn.send(b"PROXY TCP4 192.0.2.1 10.0.0.1 256 443\r\n").await; // it may be closed already
        assert!(conn.closed().await.is_empty());
    }
    counted(&gateway, "untrusted_proxy", 2.0).await;
    let line = gateway.output.line("rejected, untrusted_proxy").await;
    assert!(line.contains("connection from 127.0.0.1:"), "{line}");

    // What is no header; the last two are not complete in time.
    for (number, bytes) in [
        &plain_get[..],
        b"\x16\x03\x01\x00\x01",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 256\r\n",
        &version_2(2, 0x11, &v4),
        &version_2(1, 0x11, &[0; 5000]),
        &b"PROXY UNKNOWN ".repeat(10),
        b"PROXY TCP4 192.0.2.1",
        &version_2(1, 0x11, &v4)[..20],
    ]
    .into_iter()
    .enumerate()
    {
        let mut conn = Conn::over(from(BALANCER, plain).await);
        let _ = conn.send(bytes).await; // it may be closed before all is written
        assert!(conn.closed().await.is_empty(), "case {number}");
        counted(&gateway, "proxy_header", (number + 1) as f64).await;
    }
    let line = gateway.output.line("rejected, proxy_header").await;
    assert!(line.contains("connection from 127.0.0.2:") && line.contains("no PROXY header"), "{line}");
    // A health check, which only connects, and a listener without the protocol.
    drop(from(BALANCER, plain).await);
    assert!(Conn::over(from(BALANCER, plain).await).closed().await.is_empty());
    counted(&gateway, "proxy_header", 8.0).await;
    assert_eq!(gateway.get("/v1/models", &[]).await.status(), 200);
    assert!(connect(gateway.listen, &certificates.ca, &[]).await.is_err());
}
