//! Writes a request for the Messages API, straight from the client's bytes into one new body.

use super::decode::Decoder;
use super::effort::Thought;
use super::model::Model;
use super::sampling::{self, Sampling};
use super::toolbox::{Means, Toolbox};
use super::{Host, Seat, messages, tools};
use crate::dialect::{
    self,
    params::{Policy, Settled, settle},
};
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::llm::field::Field;
use crate::llm::request::Request;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Longest `metadata.user_id`, in bytes.
const MAX_USER: usize = 256;
/// From so many digits on, a text without letters may be a telephone number.
const PHONE_DIGITS: usize = 7;
/// From this `anthropic-version` on sampling parameters are refused.
const UNSAMPLED_VERSION: &str = "2026-10-21";

/// What this dialect has a form for; constraints and old function calls are judged where they are read.
const MAPPED: [Field; 17] = [
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::Temperature,
    Field::TopP,
    Field::Stop,
    Field::Tools,
    Field::ToolChoice,
    Field::ParallelToolCalls,
    Field::ResponseFormat,
    Field::ReasoningEffort,
    Field::User,
    Field::GuidedJson,
    Field::GuidedRegex,
    Field::GuidedChoice,
    Field::GuidedGrammar,
    Field::StructuralTag,
    Field::Functions,
];

/// A body, what became of the parameters, and the reader of its answer.
pub struct Encoded {
    /// The request body.
    pub body: Vec<u8>,
    /// What was left out or changed.
    pub settled: Settled,
    /// Reads the answer.
    pub decoder: Box<dyn dialect::Decoder>,
}

/// Writes the body of a request.
///
/// # Errors
/// A 400 that names what the model cannot take.
pub fn body(request: &Request<'_>, seat: &Seat<'_>) -> Result<Encoded, ApiError> {
    let mut settled = settle(request, |field| match field {
        Field::FunctionCall => Policy::Mapped,
        _ => Policy::of(field, &MAPPED),
    })?;
    let toolbox = Toolbox::read(request, &Means::claude(seat.structured_output), &mut settled)?;
    let conversation = messages::read(request, seat.host)?;
    let model = Model::of(request.model);
    let limit = request.token_limit()?;
    let thought = Thought::choose(request, model, limit, (toolbox.forces(), conversation.can_think()), &mut settled)?;
    let sampled = model.sampled() && !thought.thinks() && (seat.host != Host::Api || seat.version < UNSAMPLED_VERSION);
    let sampling = if sampled { Sampling::Either } else { Sampling::Fixed };

    let mut w = Writer::with_capacity(request.size + 4096);
    w.object();
    match seat.host {
        Host::Api => {
            w.key("model").string(request.model);
        }
        Host::Vertex | Host::Bedrock => {
            w.key("anthropic_version").string(seat.version);
            if !seat.beta.is_empty() && seat.host == Host::Bedrock {
                w.key("anthropic_beta").array();
                seat.beta.iter().for_each(|beta| {
                    w.string(beta);
                });
                w.end_array();
            }
        }
    }
    w.key("max_tokens").integer(thought.max_tokens(limit, seat.default_max_tokens));
    if request.stream && seat.host != Host::Bedrock {
        w.key("stream").flag(true);
    }
    messages::write(&mut w, &conversation, thought.thinks());
    tools::write(&mut w, &toolbox);
    thought.write(&mut w, toolbox.native().map(|held| &*held.schema));
    let (temperature, top_p) = sampling.settle(request, &mut settled)?;
    for (key, value) in [("temperature", temperature), ("top_p", top_p)] {
        if let Some(value) = value {
            w.key(key).raw(value);
        }
    }
    let stops = sampling::stops(request, true)?;
    if !stops.is_empty() {
        w.key("stop_sequences").array();
        stops.iter().for_each(|text| {
            w.text(*text);
        });
        w.end_array();
    }
    user(request, &mut w);
    w.end_object();

    let decoder = toolbox.around(Decoder::new(toolbox.content_tool(), thought.thinks() && toolbox.calls));
    Ok(Encoded { body: w.finish(), settled, decoder })
}

/// Writes `metadata.user_id`.
fn user(request: &Request<'_>, w: &mut Writer) {
    if let Some(user) = request.user {
        w.key("metadata").object().key("user_id").string(&opaque(&user.decode())).end_object();
    }
}

/// A user's id as Anthropic takes it: "a uuid, hash value, or other opaque identifier". An e-mail address or a telephone
/// number is refused with a 400, so that everything that is not plainly an identifier goes as its SHA-256, the same in
/// every request. <https://docs.anthropic.com/en/api/messages#body-metadata-user-id>
fn opaque(user: &str) -> Cow<'_, str> {
    let plain = user.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':' | b'|'));
    let letters = user.bytes().any(|b| b.is_ascii_alphabetic());
    let digits = user.bytes().filter(u8::is_ascii_digit).count();
    if plain && user.len() <= MAX_USER && (letters || digits < PHONE_DIGITS) {
        return Cow::Borrowed(user);
    }
    Cow::Owned(Sha256::digest(user.as_bytes()).iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_name_a_person_goes_as_its_hash() {
        for user in ["user-123", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "org:7|u_9", "123456"] {
            assert_eq!(opaque(user), user);
        }
        let long = "x".repeat(MAX_USER + 1);
        for user in ["alice@example.com", "+49 30 901820", "030-901-820", "4930901820", "Alice Smith", "Jürgen", long.as_str()] {
            let hash = opaque(user);
            assert!(hash.len() == 64 && hash != user && hash == opaque(user), "{user}");
        }
        assert_eq!(opaque("alice@example.com"), "ff8d9819fc0e12bf0d24892e45987e249a28dce836a85cad60e28eaaa8c6d976");
    }
}
