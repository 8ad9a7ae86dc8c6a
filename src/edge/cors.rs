//! Cross-origin requests of browsers (the Fetch standard, section "CORS protocol"): which origins may read answers.
//!
//! A key travels in a header that the page sets, so credentials in the standard's sense (cookies) are never allowed.

use super::response_headers::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, VARY,
};
use crate::config::snapshot::Cors;
use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN};

/// Longest list of headers in a preflight that is accepted, in bytes.
const MAX_REQUEST_HEADERS: usize = 1024;
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
const ANY: HeaderValue = HeaderValue::from_static("*");
/// What a page may read beside the body. The standard has no patterns, and its `*` excludes requests with credentials.
const EXPOSED: HeaderValue = HeaderValue::from_static(EXPOSED_NAMES);
/// See [`EXPOSED`].
pub const EXPOSED_NAMES: &str = "x-request-id, x-client-request-id, x-tidegate-attempts, x-tidegate-provider, x-tidegate-upstream-model, \
     x-tidegate-dropped-params, x-tidegate-adjusted-params, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, \
     x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, \
     retry-after, retry-after-ms, x-should-retry";

/// What the answers to one request need.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `access-control-allow-origin`; `None` where the request has no origin, or none that is allowed.
    origin: Option<HeaderValue>,
    /// Whether the answers to other origins differ.
    varies: bool,
}

impl Answer {
    /// For a request with these headers.
    pub fn new(cors: &Cors, request: &HeaderMap) -> Self {
        let allowed = |origin: &HeaderValue| match cors.any {
            true => Some(ANY),
            false => cors.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone()),
        };
        Self { origin: request.get(ORIGIN).and_then(allowed), varies: !cors.any }
    }

    /// Whether the page that sent the request may read its answer.
    pub fn is_allowed(&self) -> bool {
        self.origin.is_some()
    }

    /// Adds the headers.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(VARY, HeaderValue::from(ORIGIN));
        }
        if let Some(origin) = &self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// Whether a request only asks what a page may send. It never has a key.
pub fn is_preflight(method: &Method, request: &HeaderMap) -> bool {
    *method == Method::OPTIONS && request.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What the answer to a preflight has beside those of [`Answer`]: any header may be sent.
pub fn preflight_headers(cors: &Cors, request: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
    if let Some(names) = request.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|names| names.len() <= MAX_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers
}
