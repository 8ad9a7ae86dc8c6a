//! What a provider responds with: an answer on its way to the client, or a refusal.

use super::{AttemptFailure, Connect};
use crate::account::ReportedUnits;
use crate::error::ApiError;
use crate::frame::coding::ContentDecoder;
use crate::llm::failure::Fault;
use crate::llm::finish::FinishReasons;
use crate::llm::usage::Usage;
use crate::provider::protocol::Protocol;
use crate::relay::Relay;
use crate::relay::passed::Passed;
use http::HeaderMap;

/// An answer on its way.
pub struct Answer {
    body: Body,
    /// Where the provider has encoded its body.
    decoder: Option<Box<ContentDecoder>>,
}

/// What reads an answer and writes it for the client.
enum Body {
    Relay(Box<Relay>),
    Passed(Box<Passed>),
}

/// What is known of the usage of an answer that has ended, or that ends here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// What the provider reported so far.
    pub reported: Option<Usage>,
    /// Whether that is final.
    pub whole: bool,
    /// Bytes of text, reasoning and arguments.
    pub bytes: u64,
    /// What the answer reports of what is paid beside tokens.
    pub units: ReportedUnits,
    /// The provider's id of an answer that passes as it comes.
    pub id: Option<Box<str>>,
    /// Why its choices ended.
    pub finish: FinishReasons,
}

impl Answer {
    /// An answer of which nothing has been read.
    pub fn new(relay: Relay, decoder: Option<Box<ContentDecoder>>) -> Self {
        Self { body: Body::Relay(Box::new(relay)), decoder }
    }

    /// The same of one that passes as it is.
    pub fn passed(passed: Passed, decoder: Option<Box<ContentDecoder>>) -> Self {
        Self { body: Body::Passed(Box::new(passed)), decoder }
    }

    /// Takes a piece of the body, and its end; returns bytes for the client.
    pub(super) fn push(&mut self, bytes: &[u8], end: bool) -> (Vec<u8>, Result<(), Fault>) {
        let decoded = match self.decoder.as_mut().map(|decoder| decoder.push(bytes)).transpose() {
            Ok(decoded) => decoded,
            Err(fault) => return (Vec::new(), Err(fault)),
        };
        let bytes = decoded.as_deref().unwrap_or(bytes);
        let (mut out, mut result) = match &mut self.body {
            Body::Relay(relay) => relay.push(bytes),
            Body::Passed(passed) => passed.push(bytes),
        };
        if end && result.is_ok() {
            let (more, ended) = match &mut self.body {
                Body::Relay(relay) => relay.end(),
                Body::Passed(passed) => passed.end(),
            };
            out = if out.is_empty() { more } else { [out, more].concat() };
            result = ended;
        }
        (out, result)
    }

    /// Whether there is content, or an end.
    pub(super) fn started(&self) -> bool {
        match &self.body {
            Body::Relay(relay) => relay.started(),
            Body::Passed(passed) => passed.started(),
        }
    }

    /// Whether the model thinks, and nothing of that need be for the client.
    pub(super) fn is_thinking(&self) -> bool {
        matches!(&self.body, Body::Relay(relay) if relay.is_thinking())
    }

    /// Whether the protocol's own end has come.
    pub(super) fn is_over(&self) -> bool {
        match &self.body {
            Body::Relay(relay) => relay.is_over(),
            Body::Passed(passed) => passed.is_over(),
        }
    }

    /// Whether it has no form in which an error could be told: bytes that pass.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(&self.body, Body::Passed(passed) if !passed.is_stream())
    }

    /// Whether the provider's policy forbids all of it.
    pub(super) fn is_withheld(&self) -> bool {
        matches!(&self.body, Body::Relay(relay) if relay.started() && relay.is_withheld())
    }

    /// See [`Relay::discard`].
    pub(super) fn discard(&self) {
        if let Body::Relay(relay) = &self.body {
            relay.discard();
        }
    }

    /// See [`Relay::failure`].
    pub(super) fn failure(&self, error: &ApiError) -> Option<Vec<u8>> {
        if let Body::Relay(relay) = &self.body { relay.failure(error) } else { None }
    }

    pub(super) fn metered(&self) -> Metered {
        match &self.body {
            Body::Relay(relay) => Metered {
                reported: relay.usage(),
                whole: relay.is_finished(),
                bytes: relay.content_bytes(),
                units: ReportedUnits::default(),
                id: relay.native_id().map(Box::from),
                finish: relay.finish_reasons(),
            },
            Body::Passed(passed) => {
                Metered { reported: passed.usage(), whole: passed.is_over(), units: passed.units(), ..Metered::default() }
            }
        }
    }
}

/// A response of another status than 2xx.
pub struct Refusal {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body so far.
    pub body: Vec<u8>,
    /// Where that is encoded.
    pub decoder: Option<Box<ContentDecoder>>,
    /// The provider's protocol; `None` where the egress proxy has refused the request.
    pub protocol: Option<Protocol>,
}

impl Refusal {
    /// Takes a piece of the body. Returns whether no more of it is needed.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        // A body that cannot be decoded is left out: the status says enough.
        let decoded = self.decoder.as_mut().map(|decoder| decoder.push(bytes).unwrap_or_default());
        let bytes = decoded.as_deref().unwrap_or(bytes);
        let room = MAX_REFUSAL.saturating_sub(self.body.len());
        self.body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.body.len() >= MAX_REFUSAL
    }

    pub(super) fn failure(&self) -> AttemptFailure {
        match &self.protocol {
            Some(protocol) => protocol.dialect().read_error(self.status, &self.headers, &self.body).into(),
            None => AttemptFailure::Connect(Connect::ForwardRefused(self.status)),
        }
    }
}

/// Largest body of a refusal that is read, in bytes.
const MAX_REFUSAL: usize = 64 << 10;
