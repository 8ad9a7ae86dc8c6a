//! One answer on its way through the gateway: framer, decoder, order, front; bytes in, bytes out.
//!
//! ```text
//! provider's bytes --framer--> frames --decoder--> events --order--> front --> client's bytes
//!                  \--collected whole--> decoder
//! ```
//!
//! What comes in (frames or one whole body) and what goes out (chunks or one object) are independent: a provider that
//! answers a stream request in one piece is written in chunks all the same.

use crate::dialect::{self, Decoder, openai};
use crate::error::ApiError;
use crate::frame::{Frame, Framer, Framing};
use crate::front::chat::chunk::{ChunkWriter, UsagePlace};
use crate::front::chat::completion::CompletionWriter;
use crate::front::chat::head::Head;
use crate::front::chat::rules::Rules;
use crate::front::embeddings::EmbeddingsWriter;
use crate::front::messages;
use crate::front::messages::blocks::Blocks;
use crate::front::messages::ids::Used;
use crate::front::messages::stream::Events;
use crate::front::messages::whole::Message;
use crate::front::native::{self, Native};
use crate::front::responses::items::Items;
use crate::front::responses::response::Response;
use crate::llm::event::{Event, RawBlock, Sink};
use crate::llm::failure::Fault;
use crate::llm::finish::FinishReasons;
use crate::llm::order::{Order, Writer};
use crate::llm::state::Seal;
use crate::llm::usage::Usage;
use std::borrow::Cow;

pub mod passed;

/// What the client gets.
#[derive(Clone, Debug)]
pub enum Form {
    /// A stream of chunks, with usage in this place.
    Chunks(UsagePlace),
    /// One completion.
    Completion,
    /// Anthropic's stream. Its calls have none of these ids.
    Events(Used),
    /// One message of Anthropic's. Its calls have none of these ids.
    Message(Used),
    /// What the provider sends, whose protocol the client speaks: a stream, or one body.
    Native {
        /// The protocol.
        protocol: native::Protocol,
        /// Whether it is a stream.
        stream: bool,
    },
    /// A response of OpenAI's: a stream, or one object.
    Response {
        /// What the client is told of it.
        response: Response,
        /// Whether it is a stream.
        stream: bool,
    },
    /// A count of tokens.
    Count,
    /// A list of vectors.
    Embeddings {
        /// What the inputs are taken to have used where the provider does not count.
        estimate: u64,
    },
}

/// One answer. Thrown away with its attempt.
pub struct Relay {
    input: Input,
    decoder: Box<dyn Decoder>,
    order: Order,
    output: Output,
    /// Bytes of the provider's body so far.
    taken: usize,
    over: bool,
}

/// How the provider's body is read.
enum Input {
    /// Nothing but white space has come. Labels are often wrong, so the first byte counts for more.
    Labelled(Option<Framing>),
    Frames(Framer),
    Whole(Vec<u8>),
}

/// The front's writer.
enum Output {
    Chunks(Box<Rules<ChunkWriter>>),
    Completion(Box<Rules<CompletionWriter>>),
    Events(Box<Blocks<Events>>),
    Message(Box<Blocks<Message>>),
    Native { passed: Native, stream: bool, body: Vec<u8> },
    Response { items: Box<Items>, stream: bool },
    Count,
    Embeddings { writer: EmbeddingsWriter, model: Box<str>, estimate: u64 },
}

impl Relay {
    /// A relay for an answer whose body is labelled as cut by `framing`, or as coming whole where there is none. `seal` seals
    /// what the provider needs back.
    pub fn new(framing: Option<Framing>, decoder: Box<dyn Decoder>, head: Head, form: Form, seal: Option<Seal>) -> Self {
        let id = head.id.simple().to_string();
        let output = match form {
            Form::Chunks(place) => Output::Chunks(Box::new(Rules::new(ChunkWriter::new(head, place), &id, seal))),
            Form::Completion => Output::Completion(Box::new(Rules::new(CompletionWriter::new(head), &id, seal))),
            Form::Events(used) => Output::Events(Box::new(Blocks::new(Events::new(head), &id, used, seal))),
            Form::Message(used) => Output::Message(Box::new(Blocks::new(Message::new(head), &id, used, seal))),
            Form::Native { protocol, stream } => Output::Native { passed: Native::new(protocol, head.model), stream, body: Vec::new() },
            Form::Response { response, stream } => Output::Response { items: Box::new(Items::new(response, &id, stream, seal)), stream },
            Form::Count => Output::Count,
            Form::Embeddings { estimate } => Output::Embeddings { writer: EmbeddingsWriter::default(), model: head.model, estimate },
        };
        Self { input: Input::Labelled(framing), decoder, order: Order::default(), output, taken: 0, over: false }
    }

    /// Takes bytes of the provider's body, returns bytes for the client.
    ///
    /// # Errors
    /// A [`Fault`], beside whatever was written before it. The relay is of no more use then.
    pub fn push(&mut self, mut bytes: &[u8]) -> (Vec<u8>, Result<(), Fault>) {
        if self.over {
            return (Vec::new(), Ok(())); // what a provider sends after the end of its answer is ignored
        }
        self.taken = self.taken.saturating_add(bytes.len());
        // A byte order mark is white space, too.
        if let Input::Labelled(label) = self.input
            && let Some(first) = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF))
        {
            bytes = bytes.get(first..).unwrap_or_default();
            self.input = Input::of(bytes.first().copied().unwrap_or_default(), label);
        }
        let Self { input, decoder, order, output, taken, .. } = self;
        // Whatever is kept until the end is bounded; a stream that is passed on need not be.
        let kept = !matches!(input, Input::Frames(_)) || !output.is_stream();
        let result = match input {
            _ if kept && *taken > MAX_WHOLE_ANSWER => Err(Fault::Broken("the answer is too large".into())),
            Input::Labelled(_) => Ok(()),
            Input::Whole(body) => {
                body.extend_from_slice(bytes);
                return (Vec::new(), Ok(()));
            }
            Input::Frames(framer) => framer.push(bytes, &mut |one| frame(decoder.as_mut(), order, output, one)),
        };
        if order.ended() {
            return self.end(); // whatever came behind it is ignored, however the bytes are cut
        }
        (self.take(), result)
    }

    /// Whether the answer is complete: a provider may mark it before its body ends.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The provider's body has ended, or its answer has; returns the last bytes for the client.
    ///
    /// # Errors
    /// A [`Fault`] where the answer is not complete, beside whatever was written before.
    pub fn end(&mut self) -> (Vec<u8>, Result<(), Fault>) {
        if self.over {
            return (Vec::new(), Ok(()));
        }
        self.over = true;
        let result = self.complete();
        let whole = match &mut self.output {
            // What is written in one piece is written when it is complete, or not at all.
            _ if result.is_err() => Vec::new(),
            Output::Chunks(chat) => {
                chat.writer.done();
                Vec::new()
            }
            Output::Completion(chat) => chat.writer.finish(),
            Output::Events(blocks) => {
                blocks.done();
                Vec::new()
            }
            Output::Message(blocks) => {
                blocks.done();
                blocks.form.finish()
            }
            Output::Native { stream: true, .. } => Vec::new(),
            Output::Native { passed, body, .. } => passed.whole(body),
            Output::Response { items, .. } => items.finish(),
            Output::Count => messages::count(self.order.usage().map_or(0, |usage| usage.prompt)),
            Output::Embeddings { writer, model, estimate } => {
                writer.finish(model, self.order.usage().map_or(*estimate, |usage| usage.prompt))
            }
        };
        (if self.output.is_stream() { self.take() } else { whole }, result)
    }

    fn complete(&mut self) -> Result<(), Fault> {
        let Self { input, decoder, order, output, .. } = self;
        if let Input::Labelled(label) = input {
            *input = Input::new(*label);
        }
        match input {
            Input::Labelled(_) => {}
            Input::Whole(body) => {
                let whole = std::mem::take(body);
                decoder.whole(&whole, &mut order.over(output)).map_err(|fault| explained(fault, || std::str::from_utf8(&whole).ok()))?;
                output.flush();
                if let Output::Native { stream, body, .. } = output {
                    if *stream {
                        return Err(Fault::Broken("the answer to a stream request is no stream".into()));
                    }
                    *body = whole;
                }
            }
            Input::Frames(framer) => {
                if !order.ended() {
                    framer.finish(&mut |one| frame(decoder.as_mut(), order, output, one))?;
                }
                decoder.end(&mut order.over(output))?;
                if let Output::Native { stream: false, .. } = output {
                    return Err(Fault::Broken("the answer is a stream that was not asked for".into()));
                }
            }
        }
        if let Some(what) = output.fault() {
            return Err(Fault::Broken(what));
        }
        if let Output::Embeddings { .. } | Output::Count = output {
            return Ok(()); // has no choices; its decoder has held it to the request
        }
        order.complete(output).map_err(Fault::Broken)
    }

    /// What there is for the client. Before the first content nothing is: another target may still answer in its place.
    fn take(&mut self) -> Vec<u8> {
        match &mut self.output {
            _ if !self.order.started() => Vec::new(),
            Output::Chunks(chat) => chat.writer.take(),
            Output::Events(blocks) => blocks.form.take(),
            Output::Native { passed, .. } => passed.take(),
            Output::Response { items, .. } => items.take(),
            _ => Vec::new(),
        }
    }

    /// Whether the answer has begun: content, or its end.
    pub fn started(&self) -> bool {
        self.order.started() || (matches!(self.output, Output::Count) && self.order.usage().is_some())
    }

    /// Whether the model has begun to think, which need not be shown.
    pub fn is_thinking(&self) -> bool {
        self.order.is_thinking()
    }

    /// Whether every choice has ended, so that counts are final.
    pub fn is_finished(&self) -> bool {
        self.order.is_finished() || matches!(self.output, Output::Count)
    }

    /// Whether the answer is over without content, because the provider's policy forbids it.
    pub fn is_withheld(&self) -> bool {
        self.order.is_withheld()
    }

    /// What the provider has counted so far. Counting a prompt uses nothing.
    pub fn usage(&self) -> Option<Usage> {
        if let Output::Count = self.output { Some(Usage::default()) } else { self.order.usage() }
    }

    /// Why the choices ended that have.
    pub fn finish_reasons(&self) -> FinishReasons {
        self.order.finish_reasons()
    }

    /// The provider's id of an answer that passes as it comes.
    pub fn native_id(&self) -> Option<&str> {
        if let Output::Native { passed, .. } = &self.output { passed.id() } else { None }
    }

    /// Another answer takes the place of this one, of which the client has been sent nothing.
    pub fn discard(&self) {
        if let Output::Response { items, .. } = &self.output {
            items.discard();
        }
    }

    /// The events that end a stream which cannot be completed, where they depend on what has been written.
    pub fn failure(&self, error: &ApiError) -> Option<Vec<u8>> {
        match &self.output {
            Output::Response { items, .. } => Some(items.failure(error)),
            Output::Native { passed, .. } => passed.failure(error),
            _ => None,
        }
    }

    /// Bytes of text, reasoning and arguments so far.
    pub fn content_bytes(&self) -> u64 {
        self.order.content_bytes()
    }
}

impl Input {
    fn new(framing: Option<Framing>) -> Self {
        framing.map_or(Self::Whole(Vec::new()), |framing| Self::Frames(Framer::new(framing)))
    }

    /// The body that begins with this byte: JSON does not begin as any line of server-sent events does, nor as a frame of
    /// an AWS event stream, whose first byte is part of its length.
    fn of(first: u8, label: Option<Framing>) -> Self {
        Self::new(match first {
            b'{' | b'[' => None,
            b':' | b'd' | b'e' | b'i' | b'r' => Some(Framing::Sse), // a comment, data, event, id, retry
            _ => label,
        })
    }
}

impl Output {
    /// Whether it is written as it comes.
    const fn is_stream(&self) -> bool {
        matches!(self, Self::Chunks(_) | Self::Events(_) | Self::Native { stream: true, .. } | Self::Response { stream: true, .. })
    }

    /// Why the answer cannot be written, where it cannot.
    fn fault(&mut self) -> Option<Cow<'static, str>> {
        match self {
            Self::Events(blocks) => blocks.fault(),
            Self::Message(blocks) => blocks.fault(),
            Self::Response { items, .. } => items.fault(),
            _ => None,
        }
    }
}

impl Sink for Output {
    fn event(&mut self, event: Event<'_>) {
        match self {
            Self::Events(blocks) => blocks.event(event),
            Self::Message(blocks) => blocks.event(event),
            Self::Response { items, .. } => items.event(event),
            Self::Native { .. } | Self::Count => {}
            Self::Chunks(chat) => chat.event(event),
            Self::Completion(chat) => chat.event(event),
            Self::Embeddings { writer, .. } => writer.event(event),
        }
    }
}

impl Writer for Output {
    fn flush(&mut self) {
        match self {
            Self::Chunks(chat) => chat.flush(),
            Self::Response { items, .. } => items.flush(),
            _ => {}
        }
    }

    fn refusal(&self, block: &RawBlock<'_>) -> Option<String> {
        match self {
            Self::Chunks(chat) => chat.refusal(block),
            Self::Completion(chat) => chat.refusal(block),
            Self::Events(blocks) => blocks.refusal(block),
            Self::Message(blocks) => blocks.refusal(block),
            Self::Response { items, .. } => items.refusal(block),
            Self::Native { .. } | Self::Count | Self::Embeddings { .. } => None,
        }
    }
}

/// Reads one frame.
fn frame(decoder: &mut dyn Decoder, order: &mut Order, output: &mut Output, frame: Frame<'_>) -> Result<(), Fault> {
    let mut result = decoder.frame(frame, &mut order.over(output));
    output.flush();
    if let (Output::Native { passed, stream: true, .. }, Frame::Sse { event, data }, true) = (&mut *output, frame, result.is_ok()) {
        passed.event(event, data);
    }
    match frame {
        Frame::Sse { event: Some("error"), data } if result.is_ok() && !order.ended() && !data.is_empty() => {
            return Err(Fault::Provider(openai::error::in_band(data)));
        }
        Frame::Sse { data, .. } => result = result.map_err(|fault| explained(fault, || Some(data))),
        Frame::Aws { .. } => {}
    }
    match order.broken().cloned().or_else(|| output.fault()) {
        Some(what) if result.is_ok() => Err(Fault::Broken(what)),
        _ => result,
    }
}

/// The failure that the text names itself, where its dialect could not read it: an error in the form of another protocol.
fn explained<'t>(fault: Fault, text: impl FnOnce() -> Option<&'t str>) -> Fault {
    match fault {
        Fault::Broken(_) => text().and_then(dialect::error_in).map_or(fault, Fault::Provider),
        fault => fault,
    }
}

/// Largest answer that is collected whole, in bytes. Embeddings of a large batch are the largest ones there are.
pub const MAX_WHOLE_ANSWER: usize = 64 << 20;

#[cfg(test)]
mod tests;
