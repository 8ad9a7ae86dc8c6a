//! What a provider responds with: an answer on its way to the client, or a refusal.

use super::{AttemptFailure, Connect};
use crate::error::ApiError;
use crate::frame::coding::ContentDecoder;
use crate::llm::failure::Fault;
use crate::llm::usage::Usage;
use crate::provider::protocol::Protocol;
use crate::relay::Relay;
use http::HeaderMap;

/// An answer on its way.
pub struct Answer {
    relay: Box<Relay>,
    /// Where the provider has encoded its body.
    decoder: Option<Box<ContentDecoder>>,
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
    /// The provider's id of an answer that passes as it comes.
    pub id: Option<Box<str>>,
}

impl Answer {
    /// An answer of which nothing has been read.
    pub fn new(relay: Relay, decoder: Option<Box<ContentDecoder>>) -> Self {
        Self { relay: Box::new(relay), decoder }
    }

    /// Takes a piece of the body, and its end; returns bytes for the client.
    pub(super) fn push(&mut self, bytes: &[u8], end: bool) -> (Vec<u8>, Result<(), Fault>) {
        let decoded = match self.decoder.as_mut().map(|decoder| decoder.push(bytes)).transpose() {
            Ok(decoded) => decoded,
            Err(fault) => return (Vec::new(), Err(fault)),
        };
        let (mut out, mut result) = self.relay.push(decoded.as_deref().unwrap_or(bytes));
        if end && result.is_ok() {
            let (more, ended) = self.relay.end();
            out = if out.is_empty() { more } else { [out, more].concat() };
            result = ended;
        }
        (out, result)
    }

    /// Whether there is content, or an end.
    pub(super) fn started(&self) -> bool {
        self.relay.started()
    }

    /// Whether the protocol's own end has come.
    pub(super) fn is_over(&self) -> bool {
        self.relay.is_over()
    }

    /// Whether the provider's policy forbids all of it.
    pub(super) fn is_withheld(&self) -> bool {
        self.relay.started() && self.relay.is_withheld()
    }

    /// See [`Relay::discard`].
    pub(super) fn discard(&self) {
        self.relay.discard();
    }

    /// See [`Relay::failure`].
    pub(super) fn failure(&self, error: &ApiError) -> Option<Vec<u8>> {
        self.relay.failure(error)
    }

    pub(super) fn metered(&self) -> Metered {
        let relay = &self.relay;
        Metered { reported: relay.usage(), whole: relay.is_finished(), bytes: relay.content_bytes(), id: relay.native_id().map(Box::from) }
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
