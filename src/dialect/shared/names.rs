//! Names of tools that a provider does not take, because they are too long or have other characters: replaced in the request,
//! restored in the answer.

use crate::dialect::shared::rewrite::Rewrite;
use crate::dialect::{Decoder, Outgoing};
use crate::error::ApiError;
use crate::hex;
use crate::json::text::Text;
use crate::llm::event::{Event, Sink};
use crate::llm::request::{Content, Request, ToolChoice};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Which names of functions a provider takes.
#[derive(Clone, Copy, Debug)]
pub struct Legal {
    /// The longest one, in bytes.
    most: usize,
    /// Characters beside letters, digits, `_` and `-`; `None`: all.
    more: Option<&'static [u8]>,
}

/// At Anthropic: `^[a-zA-Z0-9_-]{1,128}$`.
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use>
pub const CLAUDE: Legal = Legal { most: 128, more: Some(b"") };
/// At Bedrock (`ToolName` of its service model: `[a-zA-Z0-9_-]+`) and at Mistral ("Function name was … but must be a-z, A-Z, 0-9, or
/// contain underscores and dashes, with a maximum length of 64").
pub const PLAIN: Legal = Legal { most: 64, more: Some(b"") };
/// At Google: "Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64".
/// Older servers of Google's have no colons.
pub const GOOGLE: Legal = Legal { most: 64, more: Some(b".") };
/// At OpenAI (<https://platform.openai.com/docs/api-reference/chat/create>) and others that speak its protocol, some of which take
/// more characters than it.
pub const OPENAI: Legal = Legal { most: 64, more: None };

/// How much of a name is kept, in bytes; behind it stand `_` and the beginning of the name's hash.
const KEPT: usize = 50;

impl Legal {
    /// Whether a name can be sent. An empty one is for the provider to refuse.
    fn takes(self, name: &str) -> bool {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        name.len() <= self.most && self.more.is_none_or(|more| name.bytes().all(|b| known(b) || more.contains(&b)))
    }
}

/// The names that a provider does not take, each with its replacement, which is the same in every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShortNames(HashMap<String, String>);

impl ShortNames {
    /// Writes a request with short names and restores them in its answer.
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn within(
        request: Request<'_>,
        legal: Legal,
        encode: impl FnOnce(&Request<'_>) -> Result<Outgoing, ApiError>,
    ) -> Result<Outgoing, ApiError> {
        let names = Self::of(&request, legal);
        let mut shortened = request;
        names.shorten(&mut shortened);
        let mut outgoing = encode(&shortened)?;
        outgoing.decoder = names.clone().around(outgoing.decoder);
        Ok(outgoing)
    }

    /// The names of a request that are not legal: of its tools, and of earlier calls.
    pub fn of(request: &Request<'_>, legal: Legal) -> Self {
        let mut names = HashMap::new();
        let calls = request.blocks.iter().filter_map(|block| if let Content::Call(call) = &block.content { Some(call.name) } else { None });
        // A name that is legal as it is spelled has no escapes.
        for name in request.tools.iter().map(|tool| tool.name).chain(calls).filter(|name| !legal.takes(name.spelled())) {
            let name = name.decode();
            if !legal.takes(&name) && !names.contains_key(&*name) {
                names.insert(name.to_string(), replacement(&name));
            }
        }
        Self(names)
    }

    /// Replaces them in the request.
    pub fn shorten<'a>(&'a self, request: &mut Request<'a>) {
        if self.0.is_empty() {
            return;
        }
        let shorten = |name: &mut Text<'a>| {
            if let Some(short) = self.0.get(&*name.decode()) {
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
        let long = LongNames(self.0.into_iter().map(|(long, short)| (short, long)).collect());
        if long.0.is_empty() { decoder } else { Rewrite::around(long, decoder) }
    }
}

/// The names that were replaced, by their short form.
struct LongNames(HashMap<String, String>);

impl Rewrite for LongNames {
    fn rewrite(&mut self, event: Event<'_>, out: &mut dyn Sink) {
        match event {
            Event::ToolStart { choice, call, id, name, form, state } => {
                let short = name.decode();
                let long = self.0.get(&*short).map(|long| Text::Plain(long));
                out.event(Event::ToolStart { choice, call, id, name: long.unwrap_or(name), form, state });
            }
            event => out.event(event),
        }
    }
}

/// A name that every provider takes.
fn replacement(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let kept: String = name.chars().map(plain).take(KEPT).collect();
    let hash = hex::encode(Sha256::digest(name.as_bytes()).iter().take(6));
    format!("{kept}_{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_begin_alike_stay_apart_within_the_limit() {
        let (a, b) = (format!("{}a", "x".repeat(127)), format!("{}b", "x".repeat(127)));
        assert_ne!(replacement(&a), replacement(&b));
        assert_eq!(replacement(&a), replacement(&a));
        assert_ne!(replacement("fs/read"), replacement("fs.read"));
        assert!(replacement("mcp.fs/read file").starts_with("mcp_fs_read_file_"));
        for name in [a, b, "\u{e9}".repeat(64)] {
            assert!(PLAIN.takes(&replacement(&name)), "{name}");
        }
    }

    #[test]
    fn each_provider_has_names_of_its_own() {
        let takes = |name: &str| [CLAUDE, PLAIN, GOOGLE, OPENAI].map(|legal| legal.takes(name));
        assert_eq!(takes("get_time-2"), [true; 4]);
        assert_eq!(takes("fs.read"), [false, false, true, true]);
        assert_eq!(takes("\u{fc}"), [false, false, false, true]);
        assert_eq!(takes(&"x".repeat(65)), [true, false, false, false]);
    }
}
