//! Spans of sampled requests, exported by OTLP over HTTP: one of the request, and one of each attempt below it.
//!
//! ```text
//! edge: attempts are noted as they begin and end ([record])
//!   end of the request ──try_send──> queue ──> thread "traces": batches, [encode], [export] ──HTTP──> collector
//!                          full: dropped, counted
//! ```
//!
//! Names follow OpenTelemetry's semantic conventions for generative AI ([names]). There is no prompt, no answer, no key and
//! no value of a header in a span.

mod encode;
pub mod export;
pub mod names;
mod otlp;
pub mod record;

use super::trace::Sampling;
use crate::egress::Egress;
use crate::yaml::section::words;
use http::{HeaderName, HeaderValue, Uri};

/// Where spans go, and of which requests.
#[derive(Clone, PartialEq, Eq)]
pub struct Tracing {
    /// Where batches are posted: the base URL with `/v1/traces`.
    pub uri: Uri,
    /// The base URL without its query, for messages.
    pub shown: String,
    /// The operator's headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which of the traces that begin here are sampled.
    pub sampling: Sampling,
    /// `service.name`.
    pub service_name: String,
    /// How batches are encoded.
    pub compression: Compression,
    /// The proxies on the way.
    pub egress: Egress,
}

words! {
    /// How batches are encoded.
    Compression {
        /// Not at all.
        None = "none",
        /// With gzip.
        Gzip = "gzip",
    }
}

/// Path of OTLP/HTTP's endpoint for traces, appended to a base URL.
///
/// OpenTelemetry protocol exporter, "Endpoint URLs for OTLP/HTTP": the endpoint "is used as a base URL and the signals are sent to
/// these paths relative to that", `v1/traces` for traces.
pub const PATH: &str = "/v1/traces";
