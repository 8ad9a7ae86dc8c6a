//! Mistral AI: OpenAI's shape under a closed schema.
//!
//! What OpenAI's dialect leaves alone is written anew here, because an unknown key is a 422: messages, tools, the
//! response format. Tool-call ids must be nine characters. Answers are read by OpenAI's decoder, which knows
//! content in chunks.

use super::openai::quirks::Quirks;
use super::openai::{OpenAi, ResponsesUse};
use super::openai::{compose, encode};
use super::shared::names::{self, ShortNames};
use crate::dialect::{Configure, Dialect, Outgoing, Setup};
use crate::error::ApiError;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::endpoint::Endpoint;
use crate::llm::envelope::ChatRequest;
use crate::llm::failure::ProviderError;
use crate::llm::field::Field;
use crate::llm::request::{Ask, Request};
use crate::yaml::read::Reader;
use http::HeaderMap;
use std::sync::Arc;

mod messages;

/// Mistral's chat completions, with what differs from OpenAI's.
#[derive(Clone)]
pub struct Mistral(pub(super) OpenAi);

impl Configure for Mistral {
    type ProviderKeys = ();
    type TargetKeys = ();

    fn configure(setup: &mut Setup<'_>, (): &(), _: &mut Reader<'_>) -> Option<Self> {
        let quirks = Arc::new(setup.quirks.clone());
        Some(Self(OpenAi { quirks, split_think_tags: false, responses: ResponsesUse::default() }))
    }

    fn for_target(&self, (): &(), split_think_tags: bool) -> Self {
        Self(self.0.for_target(&(), split_think_tags))
    }
}

impl Dialect for Mistral {
    fn encode(&self, ask: &dyn Ask) -> Result<Outgoing, ApiError> {
        compose::with_chat(ask, |chat, neutral| match neutral {
            Some(neutral) => encode(neutral, chat, &self.0.quirks, self.0.split_think_tags),
            None => {
                ShortNames::within(chat.request()?, names::PLAIN, |neutral| encode(neutral, chat, &self.0.quirks, self.0.split_think_tags))
            }
        })
    }

    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>) -> Result<Option<Outgoing>, ApiError> {
        self.0.encode_embeddings(request)
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        self.0.read_error(status, headers, body)
    }

    fn quirks(&self) -> Option<&Quirks> {
        self.0.quirks()
    }

    fn endpoint(&self, endpoint: Endpoint) -> Option<&str> {
        self.0.endpoint(endpoint)
    }
}

fn encode(neutral: &Request<'_>, request: &ChatRequest<'_>, quirks: &Quirks, split_think_tags: bool) -> Result<Outgoing, ApiError> {
    let mut draft = encode::Draft::new(request, quirks)?;
    draft.body.set(Field::Messages, messages::write(neutral)?);
    messages::write_tools(neutral, &mut draft.body, &mut draft.settled)?;
    let unwrap = draft.constraint(request, quirks)?;
    greedy(request, &mut draft)?;
    // OpenAI takes a negative seed and a prediction in parts; both only hint.
    if request.raw(Field::Seed).is_some_and(|seed| seed.starts_with('-')) {
        draft.body.remove("random_seed");
        draft.settled.drop(Field::Seed.name())?;
    }
    if request.raw(Field::Prediction).is_some() {
        prediction(request, &mut draft)?;
    }
    Ok(draft.finish(request, quirks, split_think_tags, unwrap))
}

/// "top_p must be 1 when using greedy sampling."
fn greedy(request: &ChatRequest<'_>, draft: &mut encode::Draft<'_>) -> Result<(), ApiError> {
    let number = |field| request.raw(field).and_then(|raw| raw.parse::<f64>().ok());
    if number(Field::Temperature) == Some(0.0) && number(Field::TopP).is_some_and(|value| value != 1.0) {
        draft.settled.adjust(Field::TopP.name(), "it must be 1 where the temperature is 0")?;
        draft.body.remove(Field::TopP);
    }
    Ok(())
}

fn prediction(request: &ChatRequest<'_>, draft: &mut encode::Draft<'_>) -> Result<(), ApiError> {
    #[derive(serde::Deserialize)]
    struct Prediction<'a> {
        #[serde(borrow)]
        content: &'a serde_json::value::RawValue,
    }
    let content = request.get::<Prediction<'_>>(Field::Prediction)?.map_or("", |prediction| prediction.content.get());
    if content.starts_with('"') {
        draft.body.set(Field::Prediction, format!(r#"{{"type":"content","content":{content}}}"#).into_bytes());
        return Ok(());
    }
    draft.body.remove(Field::Prediction);
    draft.settled.drop(Field::Prediction.name())
}

#[cfg(test)]
mod tests;
