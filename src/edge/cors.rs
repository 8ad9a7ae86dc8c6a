//! Cross-origin requests of browsers (Fetch standard, section "CORS protocol").
//!
//! Keys are sent in a header set by the page, so credentials in the standard's sense (cookies) are never allowed.

use super::response_headers::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, VARY,
};
use crate::config::snapshot::Cors;
use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN};

/// Maximum length of `access-control-request-headers`, in bytes.
const MAX_REQUEST_HEADERS: usize = 1024;
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
const ANY: HeaderValue = HeaderValue::from_static("*");
/// Response headers that a page may read. The standard has no prefix patterns.
const EXPOSED: HeaderValue = HeaderValue::from_static(EXPOSED_NAMES);
/// See [`EXPOSED`].
pub const EXPOSED_NAMES: &str = "x-request-id, request-id, x-client-request-id, x-tidegate-attempts, x-tidegate-provider, x-tidegate-upstream-model, \
     x-tidegate-dropped-params, x-tidegate-adjusted-params, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, \
     x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, \
     x-ratelimit-scope-requests, x-ratelimit-scope-tokens, x-ratelimit-exceeded, \
     retry-after, retry-after-ms, x-should-retry";

/// The CORS headers of the responses to one request.
#[derive(Clone, Debug)]
pub struct CorsHeaders {
    /// `access-control-allow-origin`; `None` without an allowed origin.
    origin: Option<HeaderValue>,
    /// Whether the response depends on the origin.
    varies: bool,
}

impl CorsHeaders {
    /// The headers for a request.
    pub fn new(cors: &Cors, request: &HeaderMap) -> Self {
        let allowed = |origin: &HeaderValue| match cors.any {
            true => Some(ANY),
            false => cors.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone()),
        };
        Self { origin: request.get(ORIGIN).and_then(allowed), varies: !cors.any }
    }

    /// Whether the page may read the response.
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

/// Whether a request is a preflight, which never has a key.
pub fn is_preflight(method: &Method, request: &HeaderMap) -> bool {
    *method == Method::OPTIONS && request.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Additional headers of the response to a preflight, which allows all request headers.
pub fn preflight_headers(cors: &Cors, request: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
    if let Some(names) = request.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|names| names.len() <= MAX_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers
}
