//! Names of tools that are longer than a provider allows: shortened in the request, restored in the answer.

use crate::dialect::shared::rewrite::Rewrite;
use crate::dialect::{Decoder, Outgoing};
use crate::error::ApiError;
use crate::hex;
use crate::json::text::Text;
use crate::llm::event::{Event, Sink};
use crate::llm::request::{Content, Request, ToolChoice};
use sha2::{Digest, Sha256};

/// Longest name of a function, in bytes: at OpenAI (<https://platform.openai.com/docs/api-reference/chat/create>), at Bedrock
/// (`ToolName` of its service model), at Google ("Invalid function name. … with a maximum length of 64") and at Mistral
/// ("Function name was … but must be a-z, A-Z, 0-9, or contain underscores and dashes, with a maximum length of 64").
const MAX_NAME: usize = 64;
/// How much of a longer name is kept, in bytes; behind it stand `_` and the beginning of the name's hash.
const KEPT: usize = 50;

/// The names that are too long, each with its short form, which is the same in every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShortNames(Vec<(String, String)>);

impl ShortNames {
    /// Writes a request with short names and restores them in its answer.
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn within(request: Request<'_>, encode: impl FnOnce(&Request<'_>) -> Result<Outgoing, ApiError>) -> Result<Outgoing, ApiError> {
        let names = Self::of(&request);
        let mut shortened = request;
        names.shorten(&mut shortened);
        let mut outgoing = encode(&shortened)?;
        outgoing.decoder = names.clone().around(outgoing.decoder);
        Ok(outgoing)
    }

    /// The names of a request that are too long: of its tools, and of earlier calls.
    pub fn of(request: &Request<'_>) -> Self {
        let mut names = Self::default();
        let calls = request.blocks.iter().filter_map(|block| if let Content::Call(call) = &block.content { Some(call.name) } else { None });
        for name in request.tools.iter().map(|tool| tool.name).chain(calls).filter(|name| name.spelled().len() > MAX_NAME) {
            let name = name.decode();
            if name.len() > MAX_NAME && !names.0.iter().any(|(long, _)| *long == name) {
                names.0.push((name.to_string(), short(&name)));
            }
        }
        names
    }

    /// Shortens them in the request.
    pub fn shorten<'a>(&'a self, request: &mut Request<'a>) {
        if self.0.is_empty() {
            return;
        }
        let shorten = |name: &mut Text<'a>| {
            let long = name.decode();
            if let Some((_, short)) = self.0.iter().find(|(known, _)| *known == long) {
                *name = Text::Plain(short);
            }
        };
        request.tools.iter_mut().for_each(|tool| shorten(&mut tool.name));
        match &mut request.tool_choice {
            Some(ToolChoice::Named(name)) => shorten(name),
            Some(ToolChoice::Allowed { names, .. }) => names.iter_mut().for_each(shorten),
            None | Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Required) => {}
        }
        for block in &mut request.blocks {
            if let Content::Call(call) = &mut block.content {
                shorten(&mut call.name);
            }
        }
    }

    /// Restores them in the calls of the answer.
    pub fn around(self, decoder: Box<dyn Decoder>) -> Box<dyn Decoder> {
        if self.0.is_empty() { decoder } else { Rewrite::around(self, decoder) }
    }
}

impl Rewrite for ShortNames {
    fn rewrite(&mut self, event: Event<'_>, out: &mut dyn Sink) {
        match event {
            Event::ToolStart { choice, call, id, name, form, state } => {
                let short = name.decode();
                let long = self.0.iter().find(|(_, known)| *known == short).map(|(long, _)| Text::Plain(long));
                out.event(Event::ToolStart { choice, call, id, name: long.unwrap_or(name), form, state });
            }
            event => out.event(event),
        }
    }
}

fn short(name: &str) -> String {
    let kept = (0..=KEPT).rev().find_map(|end| name.get(..end)).unwrap_or_default();
    let hash = hex::encode(Sha256::digest(name.as_bytes()).iter().take(6));
    format!("{kept}_{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_that_begin_alike_stay_apart_within_the_limit() {
        let (a, b) = (format!("{}a", "x".repeat(127)), format!("{}b", "x".repeat(127)));
        assert_ne!(short(&a), short(&b));
        assert_eq!(short(&a), short(&a));
        for name in [a, b, "\u{e9}".repeat(64)] {
            assert!(short(&name).len() <= MAX_NAME, "{name}");
        }
    }
}
