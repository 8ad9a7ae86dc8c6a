//! The one error a client can see.
//!
//! Everything that goes wrong between the client's first byte and the last one of its answer ends as an
//! [`ApiError`]: limits, bad JSON, an oversized body, a provider's failure. [`crate::front`] gives it its shape.

use crate::closed_set::closed_set;
use crate::json::envelope::ScanError;
use std::borrow::Cow;
use std::time::Duration;

closed_set! {
    /// What `error.type` says.
    ErrorKind {
        /// The request itself is wrong; sending it again will not help.
        InvalidRequest = "invalid_request_error",
        /// No key, or one that is unknown, expired or disabled.
        Authentication = "authentication_error",
        /// A good key that may not do this.
        Permission = "permission_error",
        /// No such route or endpoint.
        NotFound = "not_found_error",
        /// A limit; waiting helps.
        RateLimit = "rate_limit_error",
        /// A spent budget; waiting does not help.
        InsufficientQuota = "insufficient_quota",
        /// A bug of ours.
        Internal = "internal_error",
        /// The provider failed or answered something that cannot be read.
        Upstream = "upstream_error",
        /// The provider has no capacity.
        Overloaded = "overloaded_error",
        /// The provider was too slow.
        Timeout = "timeout_error",
    }
}

impl ErrorKind {
    /// The statuses that it comes with.
    pub const fn statuses(self) -> &'static [u16] {
        match self {
            Self::InvalidRequest => &[400, 405, 408, 411, 413, 415, 431],
            Self::Authentication => &[401],
            Self::Permission => &[403],
            Self::NotFound => &[404],
            Self::RateLimit => &[429],
            Self::InsufficientQuota => &[402],
            Self::Internal => &[500],
            Self::Upstream => &[502],
            Self::Overloaded => &[503],
            Self::Timeout => &[504],
        }
    }
}

/// An answer that says no: status, type, message, and the field that is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status, 400..=599.
    pub status: u16,
    /// What kind of error it is.
    pub kind: ErrorKind,
    /// What is wrong and what to do; never a secret, never a prompt.
    pub message: Cow<'static, str>,
    /// The request field to blame, as the client wrote it.
    pub param: Option<Cow<'static, str>>,
    /// When to come back; sent as `retry-after` (whole seconds, rounded up) and `retry-after-ms`.
    pub retry_after: Option<Duration>,
    /// The methods that a 405 would allow.
    pub allow: Option<&'static str>,
}

impl From<ScanError> for ApiError {
    fn from(e: ScanError) -> Self {
        Self::invalid(e.to_string())
    }
}

impl ApiError {
    /// An error of this status and kind.
    pub fn new(status: u16, kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, kind, message: message.into(), param: None, retry_after: None, allow: None }
    }

    /// 400: the request cannot be served as it is.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, ErrorKind::InvalidRequest, message)
    }

    /// 400 that blames one field.
    pub fn field(param: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid(message).with_param(param)
    }

    /// 502: the provider failed.
    pub fn upstream(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(502, ErrorKind::Upstream, message)
    }

    /// 500: a fault of the gateway's own, of which its log has more.
    pub fn internal() -> Self {
        Self::new(500, ErrorKind::Internal, "The gateway failed; its log has more under the request id.")
    }

    /// 405: the endpoint exists, the method does not.
    pub fn method(allow: &'static str) -> Self {
        let mut error = Self::new(405, ErrorKind::InvalidRequest, format!("Use {allow} here."));
        error.allow = Some(allow);
        error
    }

    /// Names the field to blame.
    pub fn with_param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to come back.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}
