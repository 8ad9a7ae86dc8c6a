//! Selects how outgoing connections are made: directly, or through an HTTP proxy from the configuration or the
//! environment.
//!
//! Used for providers (`edge/`) and token endpoints (`sign/`). An https destination is reached through a tunnel
//! (`CONNECT`), an http destination with a request in absolute form.

pub mod environment;
pub mod no_proxy;
pub mod proxy;
pub mod tunnel;

use environment::Environment;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use proxy::Proxy;
use std::sync::Arc;

/// The proxy selection of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// No proxy.
    #[default]
    Direct,
    /// One proxy for all destinations.
    Through(Arc<Proxy>),
    /// The environment's proxy for the destination.
    Environment(Arc<Environment>),
}

impl Egress {
    /// The proxy for a destination. `host` is a name, or an address without brackets; `tls` means https.
    pub fn proxy_for(&self, tls: bool, host: &str, port: u16) -> Option<&Arc<Proxy>> {
        match self {
            Self::Direct => None,
            Self::Through(proxy) => Some(proxy),
            Self::Environment(environment) => environment.proxy_for(tls, host, port),
        }
    }

    /// All proxies that may be used.
    pub fn proxies(&self) -> impl Iterator<Item = &Arc<Proxy>> {
        let (own, environment) = match self {
            Self::Direct => (None, None),
            Self::Through(proxy) => (Some(proxy), None),
            Self::Environment(environment) => (None, Some(environment.proxies())),
        };
        own.into_iter().chain(environment.into_iter().flatten())
    }
}

/// Whether a response to a request in absolute form came from the proxy. A 407 always does; an HTML page with an error
/// status nearly always does, because APIs respond with JSON.
pub fn is_proxys_refusal(status: u16, headers: &HeaderMap) -> bool {
    let is_page = || headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    status == 407 || matches!(status, 401 | 403 | 500..=504) && is_page()
}

/// `host:port`, with an IPv6 address in brackets.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_proxys_refusal_is_a_407_or_a_page() {
        let headers = |kind| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        for (status, kind, own) in [
            (407, "application/json", true),
            (403, "text/html; charset=utf-8", true),
            (502, "text/html", true),
            (403, "application/json", false),
            (502, "application/json", false),
            (200, "text/html", false),
            (404, "text/html", false),
            (429, "text/html", false),
        ] {
            assert_eq!(is_proxys_refusal(status, &headers(kind)), own, "{status} {kind}");
        }
        assert!(is_proxys_refusal(407, &HeaderMap::new()) && !is_proxys_refusal(503, &HeaderMap::new()));
    }

    #[test]
    fn an_ipv6_address_has_brackets() {
        assert_eq!([authority("h", 1), authority("::1", 2)], ["h:1", "[::1]:2"]);
    }
}
