//! The answers of providers that count the tokens of a prompt.

use crate::dialect;
use crate::llm::event::{Event, Sink};
use crate::llm::failure::Fault;
use crate::llm::usage::Usage;
use serde::Deserialize;

/// Reads the answer of a provider's counter.
pub struct Decoder;

/// What Anthropic, Bedrock and Google call the count.
#[derive(Deserialize)]
struct Wire {
    #[serde(alias = "inputTokens", alias = "totalTokens")]
    input_tokens: u64,
}

impl dialect::Decoder for Decoder {
    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let Wire { input_tokens } = serde_json::from_slice(body).map_err(|_| Fault::Broken("the answer is no count of tokens".into()))?;
        out.event(Event::Usage(Usage { prompt: input_tokens, ..Usage::default() }));
        Ok(())
    }
}
