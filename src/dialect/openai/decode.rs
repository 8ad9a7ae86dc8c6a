//! The answer of a server that speaks OpenAI, streamed or whole, read without building a document.
//!
//! ```text
//! open --chunks--> open --finish_reason of every choice seen--> finished --[DONE] or the end--> complete
//!   \--the end, or [DONE], before a finish_reason--> truncated
//! ```

use super::calls::Calls;
use super::element::{Element, filled};
use super::quirks::Returned;
use super::returned::{Keeper, Kept};
use super::sources::Sources;
use super::{error, logprobs, usage};
use crate::dialect::Decoder as Decodes;
use crate::frame::Frame;
use crate::json::envelope::ScanError;
use crate::json::walk::Cursor;
use crate::llm::event::{Event, Finish, Sink};
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use smallvec::SmallVec;

/// Most choices of one answer; OpenAI's own bound for `n`.
pub const MAX_CHOICES: u64 = 128;

#[derive(Debug, Default)]
struct Choice {
    index: u32,
    finished: bool,
    /// Whether any content of it has come.
    begun: bool,
    calls: Calls,
    /// What the provider needs back with the next call.
    kept: Kept,
}

/// Reads one answer.
#[derive(Default)]
pub struct Decoder {
    keeper: Option<Keeper>,
    completion_excludes_reasoning: bool,
    choices: SmallVec<[Choice; 1]>,
    has_fingerprint: bool,
    has_tier: bool,
    sources: Sources,
    done: bool,
}

impl Decoder {
    /// A decoder for a provider whose `completion_tokens` leave reasoning out, or not.
    pub fn new(completion_excludes_reasoning: bool) -> Self {
        Self { completion_excludes_reasoning, ..Self::default() }
    }

    /// Gives to tool calls as their state what the provider needs back.
    pub fn returning(self, returns: &[Returned]) -> Self {
        Self { keeper: Keeper::new(returns), ..self }
    }

    /// Reads a chunk or a completion: every byte once, and its events are emitted when all of it has been read.
    fn document(&mut self, json: &str, whole: bool, out: &mut dyn Sink) -> Result<(), Fault> {
        let excludes = self.completion_excludes_reasoning;
        let mut elements: SmallVec<[Element<'_>; 1]> = SmallVec::new();
        let (mut used, mut has_choices, mut failure) = (None, false, false);
        let mut at = Cursor::new(json);
        at.object(|at, name| {
            match name {
                "choices" if at.at_array() => {
                    has_choices = true;
                    return at.array(|at| {
                        if elements.len() as u64 >= MAX_CHOICES {
                            return Err(Fault::Broken("the answer has too many choices".into()));
                        }
                        let place = elements.len() as u64;
                        elements.push(Element::read(at, place, whole, excludes)?);
                        Ok(())
                    });
                }
                "usage" if at.at_object() => {
                    used = usage::read(at, excludes)?.or(used);
                    return Ok(());
                }
                "x_groq" if at.at_object() => {
                    return at
                        .object(|at, name| {
                            if name == "usage" && used.is_none() && at.at_object() {
                                used = usage::read(at, excludes)?;
                            } else {
                                at.raw()?;
                            }
                            Ok::<_, ScanError>(())
                        })
                        .map_err(Fault::from);
                }
                _ => {}
            }
            let value = at.raw()?;
            match name {
                "error" => failure |= !matches!(value, "null" | "{}" | "\"\"" | "false"),
                "object" => failure |= value == "\"error\"",
                "base_resp" => failure |= error::is_failed_base_resp(value),
                "system_fingerprint" if !self.has_fingerprint => {
                    if let Some(text) = filled(value) {
                        self.has_fingerprint = true;
                        out.event(Event::Fingerprint(text));
                    }
                }
                "service_tier" if !self.has_tier => {
                    if let Some(text) = filled(value) {
                        self.has_tier = true;
                        out.event(Event::ServiceTier(text));
                    }
                }
                name => self.sources.keep(name, value),
            }
            Ok(())
        })?;
        at.finish()?;
        if failure {
            return Err(Fault::Provider(error::in_band(json)));
        }
        if !has_choices
            && used.is_none()
            && let Some(failure) = error::find(json)
        {
            return Err(Fault::Provider(failure));
        }
        if let Some(json) = elements.iter().find_map(|element| element.failure) {
            return Err(Fault::Provider(error::in_band(json)));
        }
        if let Some(used) = used {
            out.event(Event::Usage(used));
        }
        if whole {
            number(&mut elements);
        }
        elements.iter_mut().try_for_each(|element| self.choice(element, whole, out))
    }

    /// Emits what is in one element of `choices`.
    fn choice(&mut self, element: &mut Element<'_>, whole: bool, out: &mut dyn Sink) -> Result<(), Fault> {
        if element.index >= MAX_CHOICES {
            return Err(Fault::Broken("the answer has too many choices".into()));
        }
        let index = element.index as u32;
        let at = self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.choices.push(Choice { index, ..Choice::default() });
            self.choices.len() - 1
        });
        let Some(choice) = self.choices.get_mut(at) else { return Ok(()) };
        if let Some(keeper) = &self.keeper {
            keeper.take_details(element.details(), whole, &mut choice.kept)?;
        }
        let mut keeping;
        let out: &mut dyn Sink = match &self.keeper {
            Some(keeper) if keeper.keeps_reasoning() || !element.calls.is_empty() || choice.calls.is_waiting() => {
                keeping = keeper.over(&mut choice.kept, out);
                &mut keeping
            }
            _ => out,
        };
        choice.begun |= element.has_content();
        if !element.message.is_empty() && !choice.begun {
            element.read_message()?;
        }
        if choice.calls.is_waiting() && element.has_text() {
            choice.calls.start(index, out);
        }
        element.emit(index, out)?;
        if !element.calls.is_empty() {
            choice.calls.read(index, element.calls, whole, out)?;
        }
        if !element.logprobs.is_empty() {
            logprobs::emit(index, element.logprobs, out)?;
        }
        if let Some(used) = element.used {
            out.event(Event::Usage(used));
        }
        let Some(word) = element.finish else { return Ok(()) };
        let word = word.decode();
        let reason = Finish::of(&word, choice.begun).ok_or_else(|| Fault::Provider(failed(&word)))?;
        choice.calls.finish(index, out)?;
        self.sources.emit(index, out)?;
        choice.finished = true;
        out.event(Event::Finish { choice: index, reason });
        Ok(())
    }

    fn complete(&self) -> Result<(), Fault> {
        let finished = |choice: &Choice| choice.finished;
        let complete = if self.done { self.choices.iter().any(finished) } else { self.choices.iter().all(finished) };
        if complete && !self.choices.is_empty() { Ok(()) } else { Err(Fault::Truncated) }
    }
}

impl Decodes for Decoder {
    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        let Frame::Sse { event, data } = frame else {
            return Err(Fault::Broken("an event stream of another protocol".into()));
        };
        let data = data.trim_ascii();
        if self.done || data.is_empty() {
            return Ok(()); // what follows [DONE] is ignored; a blank event keeps the connection alive
        }
        if data == "[DONE]" {
            self.done = true;
            out.event(Event::End);
            return Ok(());
        }
        if event == Some("error") {
            return Err(Fault::Provider(error::in_band(data)));
        }
        self.document(data, false, out)
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let text = simdutf8::basic::from_utf8(body).map_err(|_| Fault::Broken("the provider's answer is no UTF-8 text".into()))?;
        self.document(text, true, out)?;
        if self.choices.is_empty() {
            return Err(Fault::Broken("the provider's answer has no choices".into()));
        }
        self.complete()
    }

    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        self.complete()
    }
}

/// The choices of a whole answer by their places, where two of them claim the same number.
fn number(elements: &mut [Element<'_>]) {
    let twice = elements.iter().enumerate().any(|(i, a)| elements.iter().take(i).any(|b| a.index == b.index));
    if twice {
        (0..).zip(elements).for_each(|(place, element)| element.index = place);
    }
}

/// The failure that a finish reason means.
fn failed(word: &str) -> ProviderError {
    let class = if word == "insufficient_system_resource" { FailureClass::Overloaded } else { FailureClass::Server };
    ProviderError::new(class, format!("the provider ended the answer with `{word}`"))
}
