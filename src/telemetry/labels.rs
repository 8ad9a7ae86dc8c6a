//! The label values that do not come from the configuration: closed sets, every one of them.

use crate::auth;
use crate::closed_set::closed_set;

/// The route of a request that found none, the team of one whose key was not accepted, the provider of one that reached
/// none. A route, team or provider of this name shares the series.
pub const NONE: &str = "none";

closed_set! {
    /// How an attempt at a provider ended.
    Outcome {
        /// Answered in full.
        Success = "success",
        /// No connection could be made.
        Connect = "connect",
        /// A deadline passed, or the provider said so.
        Timeout = "timeout",
        /// The provider's own limit.
        RateLimited = "rate_limited",
        /// The provider has no capacity.
        Overloaded = "overloaded",
        /// The operator's credential or account is refused, or there is none to be had.
        Credential = "credential",
        /// The provider refuses the request.
        BadRequest = "bad_request",
        /// The prompt does not fit into the model's context.
        ContextLength = "context_length",
        /// The provider's policy forbids the prompt or the answer.
        ContentFilter = "content_filter",
        /// The provider does not know the model.
        NotFound = "not_found",
        /// The provider failed in any other way.
        ServerError = "server_error",
        /// An answer that is not the protocol.
        Broken = "broken",
        /// An answer that broke off.
        Truncated = "truncated",
        /// The client went away first.
        Cancelled = "cancelled",
        /// The gateway went away first.
        Drained = "drained",
        /// Not made: a limit of the gateway's own on the provider, or all connections to it in use.
        Limited = "limited",
    }
}

closed_set! {
    /// Why a client was not let in.
    AuthFailure {
        /// No key.
        Missing = "missing",
        /// Something that is no key.
        Malformed = "malformed",
        /// A key that nobody has.
        Unknown = "unknown",
        /// A key after its time.
        Expired = "expired",
        /// A key that is switched off.
        Disabled = "disabled",
        /// A good key that may not use the route.
        Forbidden = "forbidden",
    }
}

impl From<auth::AuthFailure> for AuthFailure {
    fn from(failure: auth::AuthFailure) -> Self {
        match failure {
            auth::AuthFailure::Missing => Self::Missing,
            auth::AuthFailure::Malformed => Self::Malformed,
            auth::AuthFailure::Unknown => Self::Unknown,
            auth::AuthFailure::Expired => Self::Expired,
            auth::AuthFailure::Disabled => Self::Disabled,
        }
    }
}

closed_set! {
    /// Why a client connection was closed, or a request's head was refused before it was a request.
    Rejected {
        /// The head is not HTTP.
        Malformed = "malformed",
        /// A header is continued on the next line.
        HeaderFolding = "header_folding",
        /// Too many headers.
        TooManyHeaders = "too_many_headers",
        /// The head is too large.
        HeadersTooLarge = "headers_too_large",
        /// The head began and was not complete in time.
        HeaderTimeout = "header_timeout",
        /// TLS at a listener without it.
        TlsOnPlainPort = "tls_on_plain_port",
        /// No TLS at a listener with it.
        PlainOnTlsPort = "plain_on_tls_port",
        /// The TLS handshake failed or was not complete in time.
        TlsHandshake = "tls_handshake",
        /// A PROXY header is required and the peer is none of `server.trust_forwarded_for`.
        UntrustedProxy = "untrusted_proxy",
        /// The PROXY header is missing, malformed or was not complete in time.
        ProxyHeader = "proxy_header",
        /// `server.max_connections` are open.
        MaxConnections = "max_connections",
    }
}

closed_set! {
    /// Why the gateway refused a request, where nothing else gave a reason.
    Refused {
        /// A field, the JSON or the framing is wrong, or no target can serve it.
        InvalidRequest = "invalid_request",
        /// No such endpoint or route.
        NotFound = "not_found",
        /// The endpoint has another method.
        MethodNotAllowed = "method_not_allowed",
        /// The body took too long.
        BodyTimeout = "body_timeout",
        /// The body has no length.
        LengthRequired = "length_required",
        /// The body is larger than `server.max_body`.
        BodyTooLarge = "body_too_large",
        /// The body is compressed.
        EncodedBody = "encoded_body",
        /// The headers are too large.
        HeadersTooLarge = "headers_too_large",
        /// The client went away first.
        Cancelled = "cancelled",
        /// Any other refusal.
        Overloaded = "overloaded",
        /// A fault of the gateway's own.
        Internal = "internal",
    }
}

impl Refused {
    /// The reason that a status of 400 and above stands for by itself.
    pub const fn of_status(status: u16) -> Self {
        match status {
            404 => Self::NotFound,
            405 => Self::MethodNotAllowed,
            408 => Self::BodyTimeout,
            411 => Self::LengthRequired,
            413 => Self::BodyTooLarge,
            415 => Self::EncodedBody,
            431 => Self::HeadersTooLarge,
            499 => Self::Cancelled,
            502..=504 => Self::Overloaded,
            500.. => Self::Internal,
            _ => Self::InvalidRequest,
        }
    }
}

/// The access log's `reason` of a request that the limit store did not decide on.
pub const LIMIT_STORE_FAILED: &str = "limit_store_failed";

closed_set! {
    /// When a client went away.
    Phase {
        /// Before its request was there.
        Request = "request",
        /// Before the first byte of the answer.
        Waiting = "waiting",
        /// In the middle of the answer.
        Answer = "answer",
    }
}

closed_set! {
    /// What a limit said.
    Decision {
        /// Yes.
        Admitted = "admitted",
        /// No.
        Refused = "refused",
    }
}

closed_set! {
    /// What became of a new configuration.
    Reload {
        /// It is in force.
        Applied = "applied",
        /// It is bad; nothing changed.
        Rejected = "rejected",
    }
}

closed_set! {
    /// Kinds of tokens.
    TokenType {
        /// The whole prompt.
        Input = "input",
        /// The whole completion.
        Output = "output",
        /// The part of the prompt that was read from a cache.
        CachedInput = "cached_input",
        /// The part of the completion that was reasoning.
        Reasoning = "reasoning",
    }
}

/// The statuses that the gateway answers with; any other one counts as `other`. 499 is a client that left first.
const STATUSES: [(u16, &str); 20] = [
    (200, "200"),
    (204, "204"),
    (400, "400"),
    (401, "401"),
    (402, "402"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (411, "411"),
    (413, "413"),
    (415, "415"),
    (429, "429"),
    (431, "431"),
    (499, "499"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// How many different status labels there are.
pub const STATUS_COUNT: usize = STATUSES.len() + 1;

/// The number and the label of a status.
pub fn status(status: u16) -> (usize, &'static str) {
    match STATUSES.binary_search_by_key(&status, |(code, _)| *code) {
        Ok(at) => (at, STATUSES.get(at).map_or("other", |(_, name)| name)),
        Err(_) => (STATUS_COUNT - 1, "other"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_its_own_label_or_other() {
        assert_eq!(status(200), (0, "200"));
        assert_eq!(status(504), (STATUS_COUNT - 2, "504"));
        for odd in [0, 199, 418, 599, u16::MAX] {
            assert_eq!(status(odd), (STATUS_COUNT - 1, "other"));
        }
        for (code, name) in STATUSES {
            assert_eq!((code.to_string().as_str(), status(code).1), (name, name));
        }
    }
}
