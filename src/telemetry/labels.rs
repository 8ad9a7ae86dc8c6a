//! Label values that are not names from the configuration. All are closed sets.

use crate::closed_set::closed_set;

/// Label value for requests without a route, without an authenticated team, or without a provider. A route, team or
/// provider of this name shares the series.
pub const NONE: &str = "none";

closed_set! {
    /// How an attempt at a provider ended.
    Outcome {
        /// A complete answer.
        Success = "success",
        /// Connecting failed.
        Connect = "connect",
        /// A timeout passed, or the provider reported one.
        Timeout = "timeout",
        /// The provider's rate limit.
        RateLimited = "rate_limited",
        /// The provider has no capacity.
        Overloaded = "overloaded",
        /// The provider rejected the operator's credential or account, or no credential could be obtained.
        Credential = "credential",
        /// The provider rejected the request.
        BadRequest = "bad_request",
        /// The prompt exceeds the model's context.
        ContextLength = "context_length",
        /// The provider's content policy blocked the prompt or the answer.
        ContentFilter = "content_filter",
        /// The provider does not have the model.
        NotFound = "not_found",
        /// Any other failure of the provider.
        ServerError = "server_error",
        /// The answer violates the protocol.
        Broken = "broken",
        /// The answer ended early.
        Truncated = "truncated",
        /// The client disconnected first.
        Cancelled = "cancelled",
        /// The client's `x-request-timeout` passed first.
        Deadline = "deadline",
        /// The gateway shut down first.
        Drained = "drained",
        /// Not attempted: a limit of the gateway on the provider, or its connection limit.
        Limited = "limited",
    }
}

closed_set! {
    /// Why a client connection was closed, or a request head rejected before it became a request.
    Rejected {
        /// The head is not HTTP.
        Malformed = "malformed",
        /// A header is continued on the next line.
        HeaderFolding = "header_folding",
        /// Too many headers.
        TooManyHeaders = "too_many_headers",
        /// The head is too large.
        HeadersTooLarge = "headers_too_large",
        /// The client closed the connection before the head was complete.
        Incomplete = "incomplete",
        /// The head was incomplete when the timeout passed.
        HeaderTimeout = "header_timeout",
        /// TLS on a listener without it.
        TlsOnPlainPort = "tls_on_plain_port",
        /// No TLS on a listener that requires it.
        PlainOnTlsPort = "plain_on_tls_port",
        /// The TLS handshake failed or timed out.
        TlsHandshake = "tls_handshake",
        /// A PROXY header is required and the peer is not in `server.trust_forwarded_for`.
        UntrustedProxy = "untrusted_proxy",
        /// The PROXY header is missing, malformed or timed out.
        ProxyHeader = "proxy_header",
        /// `server.max_connections` are open.
        MaxConnections = "max_connections",
    }
}

closed_set! {
    /// Why the gateway rejected a request, unless a more specific reason exists.
    Refused {
        /// An invalid field, invalid JSON or framing, or no target that supports the request.
        InvalidRequest = "invalid_request",
        /// No such endpoint or route.
        NotFound = "not_found",
        /// The endpoint does not support the method.
        MethodNotAllowed = "method_not_allowed",
        /// Reading the body timed out.
        BodyTimeout = "body_timeout",
        /// The body has no length.
        LengthRequired = "length_required",
        /// The body is larger than `server.max_body`.
        BodyTooLarge = "body_too_large",
        /// The body is compressed.
        EncodedBody = "encoded_body",
        /// The headers are too large.
        HeadersTooLarge = "headers_too_large",
        /// The client disconnected first.
        Cancelled = "cancelled",
        /// Any other rejection.
        Overloaded = "overloaded",
        /// An internal error of the gateway.
        Internal = "internal",
    }
}

impl Refused {
    /// The reason implied by a status of 400 or above.
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

/// `reason` of a request for which the limit store failed.
pub const LIMIT_STORE_FAILED: &str = "limit_store_failed";

closed_set! {
    /// When a client disconnected.
    Phase {
        /// Before its request was complete.
        Request = "request",
        /// Before the first byte of the answer.
        Waiting = "waiting",
        /// During the answer.
        Answer = "answer",
    }
}

closed_set! {
    /// Decision of a limit.
    Decision {
        /// The request was admitted.
        Admitted = "admitted",
        /// The request was rejected.
        Refused = "refused",
    }
}

closed_set! {
    /// Result of loading a new configuration.
    Reload {
        /// It is in force.
        Applied = "applied",
        /// It is invalid; nothing changed.
        Rejected = "rejected",
    }
}

closed_set! {
    /// Why sampled spans were not exported.
    SpanLoss {
        /// Requests finish faster than batches are exported, or the collector is away.
        QueueFull = "queue_full",
        /// The collector did not accept the batch in several tries.
        Unavailable = "unavailable",
        /// The collector refused the batch, or these spans of it.
        Rejected = "rejected",
        /// The process ended before the collector had accepted them, or when the request finished.
        Shutdown = "shutdown",
    }
}

closed_set! {
    /// Kinds of tokens.
    TokenType {
        /// The whole prompt.
        Input = "input",
        /// The whole completion.
        Output = "output",
        /// Prompt tokens read from a cache.
        CachedInput = "cached_input",
        /// Completion tokens used for reasoning.
        Reasoning = "reasoning",
    }
}

closed_set! {
    /// How much of a prompt a provider's cache held.
    PromptCache {
        /// Read from the cache.
        Read = "read",
        /// Written to it.
        Write = "write",
        /// Neither.
        None = "none",
    }
}

/// Statuses the gateway responds with; all others count as `other`. 499: the client disconnected first.
const STATUSES: [(u16, &str); 21] = [
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
    (529, "529"),
];

/// Number of status labels.
pub const STATUS_COUNT: usize = STATUSES.len() + 1;

/// Index and label of a status.
pub fn status(status: u16) -> (usize, &'static str) {
    match STATUSES.binary_search_by_key(&status, |(code, _)| *code) {
        Ok(at) => (at, STATUSES.get(at).map_or("other", |(_, name)| name)),
        Err(_) => (STATUS_COUNT - 1, "other"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_its_own_label_or_other() {
        assert_eq!(status(200), (0, "200"));
        assert_eq!(status(529), (STATUS_COUNT - 2, "529"));
        for odd in [0, 199, 418, 599, u16::MAX] {
            assert_eq!(status(odd), (STATUS_COUNT - 1, "other"));
        }
        for (code, name) in STATUSES {
            assert_eq!((code.to_string().as_str(), status(code).1), (name, name));
        }
    }
}
