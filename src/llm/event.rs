//! The small vocabulary between every provider's answer and every client's.
//!
//! A decoder turns a provider's frames (or its whole buffered body, which is a stream with one step) into events;
//! [`super::law`] puts them right, and a writer turns them into chunks or into one completion. Texts stay in their
//! JSON spelling whenever the provider sent JSON, so that nothing is unescaped and escaped again on the way.

use crate::json::text::Text;
pub use crate::llm::finish::Finish;
use crate::llm::usage::Usage;

/// What a tool call is beside its id, its name and its arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolForm<'a> {
    /// A call of a function.
    #[default]
    Function,
    /// The same with what its provider wants back beside it: raw JSON for `extra_content`, which is where Google's
    /// OpenAI endpoint puts its signatures.
    FunctionWith(&'a str),
    /// A call of OpenAI's custom tools, whose input is any text.
    Custom,
}

#[expect(missing_docs, reason = "the fields are explained by their variants")]
/// One thing that an answer says. `choice` is OpenAI's `index`, counted from 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// The provider's fingerprint of the serving stack.
    Fingerprint(Text<'a>),
    /// The tier that served the request, in the provider's word.
    ServiceTier(Text<'a>),
    /// More of the answer's text.
    Content { choice: u32, text: Text<'a> },
    /// More of the model's thinking.
    Reasoning { choice: u32, text: Text<'a> },
    /// More of a refusal.
    Refusal { choice: u32, text: Text<'a> },
    /// A tool call begins. `call` is any number that is unique for the call within its choice (the provider's own
    /// index will do); the client's contiguous index is given by the law.
    ToolStart { choice: u32, call: u32, id: Option<Text<'a>>, name: Text<'a>, form: ToolForm<'a> },
    /// More of a call's arguments: the *text* of a JSON document, so `Raw` is a JSON string's inside, and an argument
    /// object that came as JSON is `Plain`. For a custom tool it is the tool's input.
    ToolArguments { choice: u32, call: u32, fragment: Text<'a> },
    /// Log probabilities of the tokens just said: a raw JSON value (an object).
    Logprobs { choice: u32, json: &'a str },
    /// A member of the message that OpenAI's schema leaves to the provider: raw JSON, never null.
    Extra { choice: u32, key: &'a str, json: &'a str },
    /// The choice is complete. At most one counts per choice.
    Finish { choice: u32, reason: Finish },
    /// The vector of one input, by the input's number: raw JSON in the form that the client wants. An answer has either
    /// vectors or choices.
    Embedding { index: u32, json: &'a str },
    /// What has been used so far; see [`Usage::and_later`].
    Usage(Usage),
    /// The protocol's own end of a stream, where it has one: nothing of the answer follows, whether or not the bytes end.
    End,
}

/// Names of [`Event::Extra`] that are an answer by themselves: OpenAI's first form of a tool call, speech, and images, a list
/// of `{"type": "image_url", "image_url": {"url": "data:…"}}` (OpenAI has no form of its own; this one is OpenRouter's).
pub const SPEAKING: [&str; 3] = ["function_call", "audio", "images"];

/// Where a decoder puts its events.
pub trait Sink {
    /// Takes one event; what it borrows is only valid during the call.
    fn event(&mut self, event: Event<'_>);
}
