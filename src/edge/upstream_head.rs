//! The head of a provider's response: what its body becomes for the client.

use super::exchange::Exchange;
use super::passed_head::PassedHead;
use super::response_headers::DATE;
use crate::config::snapshot::{ResponseModel, StreamUsage};
use crate::dialect::Spent;
use crate::egress::is_proxys_refusal;
use crate::frame::coding::ContentDecoder;
use crate::front::chat::chunk::UsagePlace;
use crate::front::messages::ids::Used;
use crate::front::native;
use crate::lifecycle::{Answer, Refusal};
use crate::operation::{Beside, Operation};
use crate::provider::Target;
use crate::relay::passed::Passed;
use crate::relay::{Form, Relay};
use crate::system;
use crate::telemetry::throttle::Throttle;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use std::mem::replace;
use tokio::time::Instant;

impl Exchange {
    /// The head of the provider's response.
    pub fn on_head(&mut self, status: u16, headers: &HeaderMap) {
        self.spans.set_status(status);
        let coding = ContentDecoder::of(headers);
        let response = if (200..300).contains(&status) {
            self.answer(status, headers, coding).map(Ok)
        } else {
            self.attempt().map(|attempt| Err(refusal(&attempt.target, status, headers, coding)))
        };
        if let Some(response) = response {
            self.shared.lock().life.on_head(response, Instant::now().into_std());
        }
    }

    /// An answer with this head, on its way to the client.
    fn answer(&mut self, status: u16, headers: &HeaderMap, coding: Option<Box<ContentDecoder>>) -> Option<Answer> {
        let call = self.call.as_deref_mut()?;
        let attempt = call.attempt.as_mut()?;
        let (stream, server) = (self.ledger.stream, &self.live.snapshot.server);
        let usage = call.parsed.as_deref().is_some_and(|parsed| parsed.include_usage()).then_some(server.stream_usage);
        let is_native = attempt.outgoing.decoder.is_native();
        let shows_upstream = server.response_model == ResponseModel::Upstream;
        let form = match (call.operation, stream, usage) {
            (Operation::Passed(endpoint), ..) => {
                let head = attempt.passed.insert(Box::new(PassedHead::of(status, headers, coding.is_some())));
                return Some(Answer::passed(Passed::new(endpoint, head.content), coding));
            }
            (Operation::Responses, ..) => {
                let Beside::Responses { response, .. } = &call.beside else { return None };
                let response = if shows_upstream { response.of_model(&attempt.model) } else { response.clone() };
                // Where a heartbeat has begun the response, the provider's own beginning would be a second one.
                if is_native && !response.has_begun() {
                    Form::Native { protocol: native::Protocol::Responses(response), stream }
                } else {
                    Form::Response { response, stream }
                }
            }
            (Operation::CountTokens, ..) => Form::Count,
            (Operation::Messages, stream, _) if is_native => Form::Native { protocol: native::Protocol::Messages, stream },
            (Operation::Messages, stream, _) => {
                let used = call.parsed.as_deref().map(Used::of).unwrap_or_default();
                if stream { Form::Events(used) } else { Form::Message(used) }
            }
            (Operation::Embeddings, ..) => Form::Embeddings { estimate: self.live.limiter.usage(call.route.index, &call.size).prompt },
            (Operation::Chat, false, _) => Form::Completion,
            (Operation::Chat, true, None) => Form::Chunks(UsagePlace::Withheld),
            (Operation::Chat, true, Some(StreamUsage::Merged)) => Form::Chunks(UsagePlace::Merged),
            (Operation::Chat, true, Some(StreamUsage::Separate)) => Form::Chunks(UsagePlace::Separate),
        };
        let mut head = call.head.clone();
        if shows_upstream {
            head.model = attempt.model.clone();
        }
        let seal = self.live.seal(&call.team, &attempt.target.provider.name);
        let mut decoder = replace(&mut attempt.outgoing.decoder, Box::new(Spent));
        decoder.headers(headers);
        let framing = attempt.outgoing.framing.labelled(headers, stream);
        Some(Answer::new(Relay::new(framing, decoder, head, form, Some(seal)), coding))
    }
}

/// A response of another status than 2xx.
fn refusal(target: &Target, status: u16, headers: &HeaderMap, decoder: Option<Box<ContentDecoder>>) -> Box<Refusal> {
    let protocol = (!is_proxys(target, status, headers)).then(|| target.protocol.clone());
    let mut headers = headers.clone();
    headers.entry(DATE).or_insert_with(date); // what a `retry-after` that is a date is compared with
    Box::new(Refusal { status, headers, body: Vec::new(), decoder, protocol })
}

/// Whether a refusal is that of the proxy which the request was given to in absolute form.
fn is_proxys(target: &Target, status: u16, headers: &HeaderMap) -> bool {
    static REFUSED: Throttle = Throttle::new();
    let proxy = target.provider.forward_proxy().filter(|_| is_proxys_refusal(status, headers));
    if let Some(proxy) = proxy
        && let Some(suppressed) = REFUSED.admit(Instant::now().into_std())
    {
        let (name, more) = (&target.provider.name, if status == 407 { "" } else { ", or a server behind it did" });
        log::warn!("provider `{name}`: the egress proxy {proxy} refused a request with status {status}{more}{suppressed}");
    }
    proxy.is_some()
}

/// The time, as the header `date` has it.
fn date() -> HeaderValue {
    let seconds = i64::try_from(system::unix_time().as_secs()).unwrap_or_default();
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::from_second(seconds).unwrap_or_default());
    text.ok().and_then(|text| HeaderValue::try_from(text).ok()).unwrap_or(HeaderValue::from_static(""))
}
