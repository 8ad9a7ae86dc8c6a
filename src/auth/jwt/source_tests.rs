//! Tests of [`super`].

use super::*;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SECOND: Duration = Duration::from_secs(1);

fn source(location: Location) -> Arc<KeySource> {
    Arc::new(KeySource::new("https://idp.example.com".into(), location, Egress::Direct))
}

fn schedule(now: Instant) -> Schedule {
    Schedule { due: now, failures: 0, wanted: None }
}

fn set(id: &str) -> String {
    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{}"}}]}}"#, "A".repeat(43))
}

#[test]
fn unknown_keys_cause_one_fetch_a_minute() {
    let now = Instant::now();
    let mut times = schedule(now);
    assert!(times.want(now), "the first fetch is under way");
    times.succeeded(now, None);
    let first = now + SECOND;
    assert!(times.want(first) && times.due == first, "a fetch is due at once");
    assert!(times.want(first + SECOND), "it is shared while it is under way");
    times.succeeded(first + SECOND, None);
    assert!(!times.want(first + SECOND) && !times.want(first + UNKNOWN_KEY_INTERVAL - SECOND));
    assert_eq!(times.due, first + SECOND + REFRESH, "what is refused changes nothing");
    assert!(times.want(first + UNKNOWN_KEY_INTERVAL));
}

#[test]
fn the_answer_says_within_bounds_when_to_fetch_again() {
    let now = Instant::now();
    let mut times = schedule(now);
    let header = |text: &'static str| max_age(&HeaderMap::from_iter([(CACHE_CONTROL, ::http::HeaderValue::from_static(text))]));
    for (text, wait) in [
        ("public, max-age=900", 900),
        ("Max-Age=0", 60),
        ("max-age=99999999, must-revalidate", 3600),
        ("no-store", 600),
        ("max-age=soon", 600),
        ("max-age=-1", 600),
    ] {
        times.succeeded(now, header(text));
        assert_eq!(times.due - now, SECOND * wait, "{text}");
    }
    assert_eq!(max_age(&HeaderMap::new()), None);
}

#[test]
fn failures_are_retried_later_and_later() {
    let now = Instant::now();
    let mut times = schedule(now);
    let mut wait = || {
        times.failed(now);
        (times.due - now).as_secs()
    };
    assert_eq!([(); 9].map(|()| wait()), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    times.succeeded(now, None);
    times.failed(now);
    assert_eq!(times.due - now, SECOND);
}

#[test]
fn keys_come_by_https_or_from_this_machine() {
    for fine in ["https://idp.example.com/keys?x=1", "http://127.0.0.1:9/k", "http://[::1]/k", "http://localhost:80/", "https://10.0.0.1/"]
    {
        assert!(key_url(fine).is_ok(), "{fine}");
    }
    for bad in [
        "",
        "idp.example.com",
        "/keys",
        "ftp://idp/k",
        "http://idp.example.com/k",
        "http://10.0.0.1/k",
        "http://localhost.evil.example/",
        "https://u:p@idp/k",
        "file:///etc/passwd",
    ] {
        assert!(key_url(bad).is_err(), "{bad}");
    }
}

/// Answers with what `answer` gives for a path, on a connection each; counts.
async fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = count.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let size = stream.read(&mut head).await.unwrap();
            let path = String::from_utf8_lossy(&head[..size]).split(' ').nth(1).unwrap().to_owned();
            counter.fetch_add(1, Ordering::SeqCst);
            let body = answer(&path);
            let status = if body.is_empty() { 500 } else { 200 };
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    (address, count)
}

fn url(address: SocketAddr, path: &str) -> Uri {
    format!("http://{address}{path}").parse().unwrap()
}

#[tokio::test]
async fn a_new_key_is_fetched_for_the_requests_that_wait_for_it_and_the_last_good_set_stays() {
    let body = Arc::new(Mutex::new(set("old")));
    let answers = body.clone();
    let (address, count) = serve(move |_| answers.lock().clone()).await;
    let source = source(Location::KeySet(url(address, "/")));
    let task = tokio::spawn({
        let source = source.clone();
        async move { source.keep_fresh().await }
    });
    source.wait().await;
    let (first, version) = (source.keys().unwrap(), source.version());
    *body.lock() = set("new");
    tokio::join!(source.wait(), source.wait(), source.wait());
    assert_eq!(count.load(Ordering::SeqCst), 2, "one fetch for all");
    assert!(source.keys().unwrap() != first && source.version() > version);
    source.wait().await;
    assert_eq!(count.load(Ordering::SeqCst), 2, "none again within the minute");
    // A fetch that fails leaves the keys as they are.
    *body.lock() = String::new();
    let (kept, version) = (source.keys().unwrap(), source.version());
    source.schedule.lock().due = Instant::now();
    source.wait().await;
    let status = source.status();
    assert_eq!((source.keys().unwrap(), source.version(), status.failing, status.failures, status.keys), (kept, version, true, 1, 1));
    assert_eq!(status.last_failure.unwrap().1, "the key set was answered with status 500");
    task.abort();
}

#[tokio::test]
async fn without_keys_a_request_waits_for_the_first_fetch_only() {
    let (address, count) = serve(|_| String::new()).await;
    let source = source(Location::KeySet(url(address, "/")));
    source.note(source.fetch().await);
    source.wait().await;
    assert!(source.keys().is_none() && source.next_fetch() > Duration::ZERO);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn keys_of_an_issuer_with_https_come_by_https() {
    let (secure, local) = (key_url("https://idp.example.com/d").unwrap(), key_url("http://127.0.0.1:8080/d").unwrap());
    for (text, from, fine) in [
        ("https://keys.example.com/k", &secure, true),
        ("http://127.0.0.1:6379/k", &secure, false),
        ("http://localhost/k", &secure, false),
        ("http://127.0.0.1:8080/k", &local, true),
        ("https://keys.example.com/k", &local, true),
        ("http://keys.example.com/k", &local, false),
    ] {
        assert_eq!(key_set_url(text, from).is_ok(), fine, "{text} from {from}");
    }
}

#[tokio::test]
async fn discovery_is_believed_about_its_own_issuer_only() {
    for (issuer, uri, what) in [
        ("https://idp.example.com", "/keys", "1 keys"),
        ("https://idp.example.com/", "/keys", "another issuer"),
        ("https://evil.example.com", "/keys", "another issuer"),
        ("https://idp.example.com", "http://evil.example.com/keys", "must begin with https://"),
        ("https://idp.example.com", "file:///etc/passwd", "URL"),
    ] {
        let own = Arc::new(Mutex::new(String::new()));
        let base = own.clone();
        let (address, _) = serve(move |path| match path {
            "/keys" => set("k"),
            _ => {
                let uri = if uri.starts_with('/') { format!("{}{uri}", base.lock()) } else { uri.to_owned() };
                format!(r#"{{"issuer":"{issuer}","jwks_uri":"{uri}","more":[]}}"#)
            }
        })
        .await;
        *own.lock() = format!("http://{address}");
        let source = source(Location::Discovery(url(address, "/.well-known/openid-configuration")));
        let said = source.fetch().await.map_or_else(|why| why.into_owned(), |(keys, _)| format!("{} keys", keys.count()));
        assert!(said.contains(what), "{issuer} {uri}: {said}");
    }
}
