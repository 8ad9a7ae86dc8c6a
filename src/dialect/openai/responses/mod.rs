//! OpenAI's Responses API at a provider that has it. For a client that speaks it too, [`splice`] edits the client's bytes; for
//! others [`compose`] writes a request, whose conversation is in [`input`]. [`decode`] reads the answers to both, and [`state`] is
//! what a call needs back.
//! <https://platform.openai.com/docs/api-reference/responses>

use super::OpenAi;
use super::quirks::Quirks;
use crate::dialect;
use crate::dialect::Outgoing;
use crate::dialect::shared::blame::Names;
use crate::dialect::shared::names::{self, ShortNames};
use crate::dialect::shared::rewrite::Rewrite;
use crate::dialect::shared::think::SplitThink;
use crate::dialect::shared::unwrap::Unwrap;
use crate::error::ApiError;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::request::Ask;
use crate::llm::responses::ResponsesRequest;
use compose::Settings;

mod compose;
mod decode;
mod input;
mod splice;
mod state;
mod wire;

/// Path below the provider's base URL.
const PATH: &str = "/responses";

/// What the API calls the fields of chat completions.
pub(super) const NAMES: Names = &[
    ("input#", "messages#"),
    ("instructions", "messages"),
    ("max_output_tokens", "max_tokens"),
    ("reasoning", "reasoning_effort"),
    ("text.format", "response_format"),
    ("text.verbosity", "verbosity"),
    ("tools#.name", "tools#.function.name"),
    ("tools#.description", "tools#.function.description"),
    ("tools#.parameters", "tools#.function.parameters"),
    ("tools#.strict", "tools#.function.strict"),
];

/// The request of one attempt for a client that speaks the API.
///
/// # Errors
/// A 400 that names a setting of the route's that is lost, where the route refuses that, or instructions that are no text.
pub(super) fn pass(request: &ResponsesRequest<'_>, quirks: &Quirks) -> Result<Outgoing, ApiError> {
    let (body, settled) = splice::body(request)?;
    let decoder = decode::Decoder::passing(quirks.completion_excludes_reasoning, request.functions.clone());
    Ok(Outgoing::new(PATH, body, settled, Box::new(decoder)))
}

/// Whether a request has tools and may have reasoning, of which the target's chat completions take one only.
pub(super) fn is_wanted(ask: &dyn Ask) -> bool {
    base(ask).is_some_and(|base| {
        let thinks = base.raw(Field::ReasoningEffort) != Some("\"none\"");
        base.params.adjustments.tools_without_reasoning && thinks && base.asked(Field::Tools).is_some()
    })
}

/// What every front's request is: a body under a route's settings.
fn base(ask: &dyn Ask) -> Option<&ChatRequest<'_>> {
    let messages = || ask.messages().map(|request| &request.base);
    ask.chat().or_else(messages).or_else(|| ask.responses().map(|request| &request.base))
}

/// The request of one attempt for a client that speaks another protocol.
///
/// # Errors
/// A 400 that names what the API cannot say.
pub(super) fn translate(ask: &dyn Ask, dialect: &OpenAi) -> Result<Outgoing, ApiError> {
    let (settings, quirks) = (Settings(base(ask)), &*dialect.quirks);
    let mut request = ask.request()?;
    let passed: Vec<&str> = request.passed.iter().map(|(name, _)| *name).collect();
    request.params.retain(|param| param.field.is_some() || !passed.contains(&&*param.name));
    compose::leave_out(&mut request, quirks);
    ShortNames::within(request, names::PLAIN, |request| {
        let composed = compose::body(request, &settings, quirks)?;
        let mut decoder: Box<dyn dialect::Decoder> = Box::new(decode::Decoder::translating(quirks.completion_excludes_reasoning));
        if dialect.split_think_tags {
            decoder = SplitThink::default().around(decoder);
        }
        if composed.unwrap_choice {
            decoder = Unwrap::default().around(decoder);
        }
        Ok(Outgoing::new(PATH, composed.body, composed.settled, decoder))
    })
}

#[cfg(test)]
mod tests;
