//! The events of an answer, between every dialect and every front.
//!
//! A decoder turns a provider's frames (or its whole body, which is a stream with one step) into events,
//! [`super::order`] holds them to the rules that every answer follows, and a front writes them in its own protocol.
//! Texts keep their JSON spelling where the provider sent JSON, so that nothing is unescaped and escaped again.

use crate::json::text::Text;
pub use crate::llm::finish::Finish;
use crate::llm::usage::Usage;

#[expect(missing_docs, reason = "the fields are explained by their variants")]
/// One step of an answer. `choice` counts alternative answers to one request, from 0.
///
/// A choice is a sequence of blocks. A text, reasoning or refusal block starts with its first piece and a call with
/// [`Event::ToolStart`]; a block ends with [`Event::BlockEnd`] where the provider marks its end, else where another kind
/// of block starts or the choice finishes. Calls may be open side by side.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// The provider's fingerprint of the serving stack.
    Fingerprint(Text<'a>),
    /// The tier that served the request, in the provider's word.
    ServiceTier(Text<'a>),
    /// More of the answer's text.
    Content { choice: u32, text: Text<'a> },
    /// The model has begun to think, whether or not anything of it will be shown.
    ReasoningStart { choice: u32 },
    /// More of the model's reasoning.
    Reasoning { choice: u32, text: Text<'a> },
    /// More of the signature of the open reasoning block, which may have no text.
    Signature { choice: u32, text: Text<'a> },
    /// A reasoning block that the provider encrypted, whole.
    RedactedReasoning { choice: u32, data: Text<'a> },
    /// More of a refusal.
    Refusal { choice: u32, text: Text<'a> },
    /// A tool call starts. A decoder numbers the calls of a choice by any unique number; behind
    /// [`super::order`] `call` counts them from 0 and no two ids of a choice are equal. `state` is what the provider needs back
    /// with this call, in the dialect's own encoding, for fronts that return nothing but the call; signed and redacted
    /// reasoning before the call is part of it.
    ToolStart { choice: u32, call: u32, id: Option<Text<'a>>, name: Text<'a>, form: ToolForm<'a>, state: Option<&'a [u8]> },
    /// More of a call's arguments: the *text* of a JSON document, so `Raw` is a JSON string's inside, and an argument
    /// object that came as JSON is `Plain`. For a custom tool it is the tool's input. A call without arguments has none.
    ToolArguments { choice: u32, call: u32, fragment: Text<'a> },
    /// A block is complete.
    BlockEnd { choice: u32, block: Block },
    /// An image, whole.
    Image { choice: u32, source: Source<'a> },
    /// Sound, whole, in base64.
    Audio { choice: u32, media_type: Text<'a>, data: Text<'a> },
    /// Sources of the text so far.
    Citations { choice: u32, list: &'a [Citation<'a>] },
    /// Pages that a search of the provider's own has found.
    SearchResults { choice: u32, pages: &'a [Page<'a>] },
    /// A block that has no event of its own.
    Raw { choice: u32, block: RawBlock<'a> },
    /// More of the input that an open [`Event::Raw`] block of the provider's own tool is called with; as [`Event::ToolArguments`].
    RawInput { choice: u32, fragment: Text<'a> },
    /// Log probabilities of the last tokens: a JSON object in OpenAI's form.
    Logprobs { choice: u32, json: &'a str },
    /// A member of the message that a provider of OpenAI's protocol added to it: raw JSON, never null. `content`: it is
    /// an answer by itself, as a call in OpenAI's first form or speech is.
    Extra { choice: u32, key: &'a str, json: &'a str, content: bool },
    /// The choice is complete. Only the first one of a choice counts.
    Finish { choice: u32, reason: Finish },
    /// The vector of one input, by the input's number: raw JSON in the form that the client wants. An answer has either
    /// vectors or choices.
    Embedding { index: u32, json: &'a str },
    /// Tokens so far; some providers count the prompt before the first content. See [`Usage::and_later`].
    Usage(Usage),
    /// The protocol's own end of a stream, where it has one: nothing of the answer follows, whether or not the bytes end.
    End,
}

impl Event<'_> {
    /// The choice that it belongs to; `None` for what belongs to the whole answer.
    pub const fn choice(&self) -> Option<u32> {
        match *self {
            Self::Content { choice, .. }
            | Self::ReasoningStart { choice }
            | Self::Reasoning { choice, .. }
            | Self::Signature { choice, .. }
            | Self::RedactedReasoning { choice, .. }
            | Self::Refusal { choice, .. }
            | Self::ToolStart { choice, .. }
            | Self::ToolArguments { choice, .. }
            | Self::BlockEnd { choice, .. }
            | Self::Image { choice, .. }
            | Self::Audio { choice, .. }
            | Self::Citations { choice, .. }
            | Self::SearchResults { choice, .. }
            | Self::Raw { choice, .. }
            | Self::RawInput { choice, .. }
            | Self::Logprobs { choice, .. }
            | Self::Extra { choice, .. }
            | Self::Finish { choice, .. } => Some(choice),
            Self::Fingerprint(_) | Self::ServiceTier(_) | Self::Embedding { .. } | Self::Usage(_) | Self::End => None,
        }
    }
}

/// What a tool call is beside its id, its name and its arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolForm<'a> {
    /// A call of a function.
    #[default]
    Function,
    /// The same with raw JSON for `extra_content`, which is where Google's OpenAI endpoint puts its signatures.
    FunctionWith(&'a str),
    /// A call of OpenAI's custom tools, whose input is any text.
    Custom,
}

/// A kind of block that can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// [`Event::Content`].
    Text,
    /// [`Event::Reasoning`].
    Reasoning,
    /// [`Event::ToolStart`], by its number.
    Call(u32),
    /// [`Event::Raw`].
    Raw,
}

/// Where the bytes of an image are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source<'a> {
    /// In the answer, in base64.
    Base64 {
        /// Its media type.
        media_type: Text<'a>,
        /// Its bytes.
        data: Text<'a>,
    },
    /// At an address.
    Url(Text<'a>),
}

/// A source of an answer's text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Citation<'a> {
    /// Its address, where it has one.
    pub url: Option<Text<'a>>,
    /// Its title.
    pub title: Option<Text<'a>>,
    /// Start and end of the cited words in the answer, in the provider's count; both are 0 where it gives none.
    pub span: (u64, u64),
    /// The provider's own form of it, raw JSON; empty where `url` and `title` are all.
    pub json: &'a str,
}

/// A page that a search has found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Page<'a> {
    /// Its address.
    pub url: Text<'a>,
    /// Its title.
    pub title: Option<Text<'a>>,
}

/// A block in the provider's own form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawBlock<'a> {
    /// The provider's name for this kind of block.
    pub name: &'a str,
    /// The media type of what is in it; may be empty.
    pub media_type: &'a str,
    /// The block, raw JSON; empty where it is not known.
    pub json: &'a str,
    /// Whether it is a part of the answer, which would not be whole without it. Else it is a trace of a tool that the provider ran.
    pub essential: bool,
}

/// Where a decoder puts its events.
pub trait Sink {
    /// Takes one event; what it borrows is only valid during the call.
    fn event(&mut self, event: Event<'_>);
}
