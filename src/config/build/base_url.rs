//! A base URL taken apart.

use crate::config::types::MAX_SOCKET_PATH;
use crate::provider::BaseUrl;
use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};
use std::path::Path;
use std::sync::Arc;

/// Paths of endpoints, the longer of two with one ending first; an SDK's base URL ends before them.
const ENDPOINTS: [&str; 6] =
    ["/chat/completions", "/completions", "/embeddings", "/responses", "/v1/messages/count_tokens", "/v1/messages"];

/// What to write in place of a base URL that ends with an endpoint's path, which the gateway appends itself.
pub(super) fn without_endpoint(url: &str) -> Option<String> {
    if url.trim().strip_prefix(UNIX).is_some_and(|rest| !rest.contains(":/")) {
        return None; // the path of a socket
    }
    let (path, query) = url.trim().split_at_checked(url.trim().find('?').unwrap_or(url.trim().len()))?;
    let path = path.trim_end_matches('/');
    let base = ENDPOINTS.iter().find_map(|endpoint| path.strip_suffix(endpoint))?;
    Some(format!("{}{}", base.trim_end_matches('/'), if query.is_empty() { "" } else { "?…" }))
}

/// What a base URL begins with that is a Unix socket: `unix:/run/llm.sock`, or `unix:/run/llm.sock:/v1` with a path.
const UNIX: &str = "unix:";

/// Takes a base URL apart.
pub(super) fn base_url(url: &str) -> Result<BaseUrl, &'static str> {
    if let Some(rest) = url.trim().strip_prefix(UNIX) {
        return unix(rest);
    }
    let uri: Uri = url.trim().parse().map_err(|_| "is not a URL like https://llm.example.com/v1")?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("must begin with http://, https:// or unix:/"),
    };
    let authority = uri.authority().ok_or("has no host")?;
    if authority.as_str().contains('@') {
        return Err("must not hold a user or password; use `api_key` or `headers`");
    }
    if url.contains('#') {
        return Err("must not have a fragment (`#…`)");
    }
    let own_port = if tls { 443 } else { 80 };
    let port = match authority.port_u16() {
        Some(port) if port > 0 => port,
        None if authority.as_str() == authority.host() => own_port,
        _ => return Err("has a bad port"),
    };
    let bracketed = authority.host();
    let host = bracketed.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("has no host");
    }
    let name = if port == own_port { bracketed.to_owned() } else { format!("{bracketed}:{port}") };
    Ok(BaseUrl {
        tls,
        socket: None,
        host: Arc::from(host),
        port,
        authority: HeaderValue::from_str(&name).map_err(|_| "has a bad host")?,
        prefix: Arc::from(uri.path().trim_end_matches('/')),
        query: Arc::from(uri.query().unwrap_or_default().trim_matches('&')),
    })
}

/// A Unix socket, and the path of the base URL behind the first `:/`.
fn unix(rest: &str) -> Result<BaseUrl, &'static str> {
    let (socket, prefix) = match rest.find(":/").and_then(|at| rest.split_at_checked(at)) {
        Some((socket, prefix)) => (socket, prefix.trim_start_matches(':')),
        None => (rest, "/"),
    };
    if !socket.starts_with('/') || socket.ends_with('/') {
        return Err("must have the absolute path of a socket after unix:, like unix:/run/llm.sock, or unix:/run/llm.sock:/v1 with a path");
    }
    if socket.len() > MAX_SOCKET_PATH || socket.contains('\0') {
        return Err("has a path that no Unix socket can have: the longest has 107 bytes");
    }
    let path: PathAndQuery = prefix.parse().map_err(|_| "has a bad path behind the socket")?;
    if prefix.contains('#') {
        return Err("must not have a fragment (`#…`)");
    }
    Ok(BaseUrl {
        tls: false,
        socket: Some(Arc::from(Path::new(socket))),
        host: Arc::from("localhost"),
        port: 80,
        authority: HeaderValue::from_static("localhost"),
        prefix: Arc::from(path.path().trim_end_matches('/')),
        query: Arc::from(path.query().unwrap_or_default().trim_matches('&')),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_taken_apart() {
        for (url, tls, host, port, authority, prefix, query) in [
            ("https://api.openai.com/v1", true, "api.openai.com", 443, "api.openai.com", "/v1", ""),
            ("http://10.0.0.7:8000/v1/", false, "10.0.0.7", 8000, "10.0.0.7:8000", "/v1", ""),
            ("http://[::1]:80", false, "::1", 80, "[::1]", "", ""),
            ("https://[2001:db8::1]:8443/a/b", true, "2001:db8::1", 8443, "[2001:db8::1]:8443", "/a/b", ""),
            ("https://h/v1/?api-version=1&x=", true, "h", 443, "h", "/v1", "api-version=1&x="),
        ] {
            let authority = HeaderValue::from_static(authority);
            let want = BaseUrl { tls, socket: None, host: host.into(), port, authority, prefix: prefix.into(), query: query.into() };
            assert_eq!(base_url(url), Ok(want), "{url}");
        }
    }

    #[test]
    fn a_unix_socket_may_have_a_path_behind_it() {
        for (url, socket, prefix, shown) in [
            ("unix:/run/llm.sock", "/run/llm.sock", "", "unix:/run/llm.sock"),
            (" unix:/run/llm.sock:/ ", "/run/llm.sock", "", "unix:/run/llm.sock"),
            ("unix:/run/llm.sock:/v1/", "/run/llm.sock", "/v1", "unix:/run/llm.sock:/v1"),
            ("unix:/run/a:b.sock:/v1", "/run/a:b.sock", "/v1", "unix:/run/a:b.sock:/v1"),
        ] {
            let base = base_url(url).unwrap();
            assert_eq!((base.socket.as_deref(), &*base.prefix), (Some(Path::new(socket)), prefix), "{url}");
            assert_eq!((base.tls, base.authority.to_str().unwrap(), base.to_string().as_str()), (false, "localhost", shown), "{url}");
        }
    }

    #[test]
    fn a_query_is_sent_with_every_path_and_its_credentials_are_known() {
        let base = base_url("https://h/v1?api-version=2024-10-21&sig=abc").unwrap();
        assert_eq!(base.path_and_query("/chat/completions"), "/v1/chat/completions?api-version=2024-10-21&sig=abc");
        assert_eq!(base.path_and_query("/m:stream?alt=sse"), "/v1/m:stream?alt=sse&api-version=2024-10-21&sig=abc");
        assert_eq!(base.query_secrets().collect::<Vec<_>>(), ["abc"]);
        let plain = base_url("https://h/v1?").unwrap();
        assert_eq!((plain.path_and_query("/x"), plain.query_secrets().count()), ("/v1/x".to_owned(), 0));
    }

    #[test]
    fn what_is_no_base_url() {
        for url in [
            "",
            "api.openai.com",
            "/v1",
            "ftp://h",
            "https://",
            "https://u:p@h",
            "https://h/#f",
            "http://h:0",
            "http://h:99999",
            "unix:",
            "unix:run/llm.sock",
            "unix:/run/",
            "unix:/run/llm.sock:/v1#f",
            "unix:/run/llm.sock:/v 1",
            &format!("unix:/{}", "x".repeat(107)),
        ] {
            assert!(base_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_endpoint_is_no_base_url() {
        for (url, base) in [
            ("https://api.openai.com/v1/chat/completions", Some("https://api.openai.com/v1")),
            ("http://10.0.0.7:8000/v1/chat/completions/ ", Some("http://10.0.0.7:8000/v1")),
            ("http://10.0.0.7:8000/chat/completions", Some("http://10.0.0.7:8000")),
            ("https://api.openai.com/v1/embeddings", Some("https://api.openai.com/v1")),
            ("https://api.openai.com/v1/responses", Some("https://api.openai.com/v1")),
            ("https://api.anthropic.com/v1/messages", Some("https://api.anthropic.com")),
            ("unix:/run/llm.sock:/v1/chat/completions", Some("unix:/run/llm.sock:/v1")),
            ("unix:/run/completions", None),
            ("https://h/openai/deployments/d/chat/completions?api-version=1", Some("https://h/openai/deployments/d?…")),
            ("https://api.openai.com/v1", None),
            ("https://h/v1?to=/chat/completions", None),
            ("https://name.services.ai.azure.com/models", None),
            ("https://chat/completions.example/v1", None),
        ] {
            assert_eq!(without_endpoint(url).as_deref(), base, "{url}");
        }
    }
}
