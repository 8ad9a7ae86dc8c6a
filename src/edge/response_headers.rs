//! The headers of answers, by name. Those of limits are in [`crate::limit::headers`].

use http::HeaderName;

macro_rules! headers {
    ($($(#[doc = $about:literal])+ $name:ident = $text:literal;)+) => {
        $($(#[doc = $about])+ pub const $name: HeaderName = HeaderName::from_static($text);)+

        /// All of them, each with its description.
        pub const ALL: &[(&str, &str)] = &[$(($text, concat!($($about),+))),+];
    };
}

headers! {
    /// The gateway's id of the request, as in the log. In a request: the client's own.
    X_REQUEST_ID = "x-request-id";
    /// The same id, beside answers of the Messages API.
    REQUEST_ID = "request-id";
    /// The client's own `x-request-id`, where it has at most 128 letters, digits and `-_.:/+=@`.
    X_CLIENT_REQUEST_ID = "x-client-request-id";
    /// How many targets were tried. A first try is 1.
    X_ATTEMPTS = "x-tidegate-attempts";
    /// The provider that answered, by its name in the configuration. Not where a heartbeat came first, unless only one target could answer.
    X_PROVIDER = "x-tidegate-provider";
    /// The model that answered, as its provider calls it. Not where a heartbeat came first, unless only one target could answer.
    X_MODEL = "x-tidegate-upstream-model";
    /// Fields of the request that the provider has no counterpart for and that were left out, separated by commas. Not where a heartbeat came first, unless only one target could answer.
    X_DROPPED = "x-tidegate-dropped-params";
    /// Fields of the request whose value was changed to fit, separated by commas. Not where a heartbeat came first, unless only one target could answer.
    X_ADJUSTED = "x-tidegate-adjusted-params";
    /// With a 429, and where a provider sent one: when to try again, in seconds, rounded up.
    RETRY_AFTER = "retry-after";
    /// The same in milliseconds.
    RETRY_AFTER_MS = "retry-after-ms";
    /// `false` with a 402: OpenAI's libraries do not try again.
    X_SHOULD_RETRY = "x-should-retry";
    /// `Bearer`, with a 401.
    WWW_AUTHENTICATE = "www-authenticate";
    /// The methods of the endpoint, with a 405.
    ALLOW = "allow";
    /// `application/json`, or `text/event-stream; charset=utf-8` for a stream. The provider's own where its answer passes as it is.
    CONTENT_TYPE = "content-type";
    /// The provider's name for the file that its answer is, where that passes as it is.
    CONTENT_DISPOSITION = "content-disposition";
    /// The length of a whole answer.
    CONTENT_LENGTH = "content-length";
    /// `chunked`, for a stream over HTTP/1.1, and for audio of unknown length.
    TRANSFER_ENCODING = "transfer-encoding";
    /// `no-cache`, for a stream.
    CACHE_CONTROL = "cache-control";
    /// `no`, for a stream: nginx passes each event on as it arrives.
    X_ACCEL_BUFFERING = "x-accel-buffering";
    /// When the answer was begun.
    DATE = "date";
    /// `close` while the process drains, and where the connection cannot be used again.
    CONNECTION = "connection";
    /// `origin`, where `server.cors` lists origins.
    VARY = "vary";
    /// The origin whose pages may read the answer, by `server.cors`.
    ACCESS_CONTROL_ALLOW_ORIGIN = "access-control-allow-origin";
    /// The headers of this table that those pages may read.
    ACCESS_CONTROL_EXPOSE_HEADERS = "access-control-expose-headers";
    /// In the answer to a preflight: the methods that may be used.
    ACCESS_CONTROL_ALLOW_METHODS = "access-control-allow-methods";
    /// In the answer to a preflight: the headers that may be sent.
    ACCESS_CONTROL_ALLOW_HEADERS = "access-control-allow-headers";
    /// In the answer to a preflight: `server.cors.max_age`, in seconds.
    ACCESS_CONTROL_MAX_AGE = "access-control-max-age";
}
