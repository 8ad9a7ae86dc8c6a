//! Text Generation Inference's `generate`: a prompt and parameters in, tokens or one text out.
//! <https://huggingface.co/docs/text-generation-inference>

use super::prompt::{LLAMA3_END, Template};
use super::{SageMaker, read_only};
use crate::dialect::shared::params::{self, Policy};
use crate::dialect::{self, Decoder, Outgoing};
use crate::error::ApiError;
use crate::frame::Frame;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::constraint::{Constraint, choice_regex};
use crate::llm::event::{Event, Finish, Sink};
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use crate::llm::field::Field;
use crate::llm::request::{Authority, Request};
use crate::llm::usage::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// `max_new_tokens` where nobody gives one: TGI's own default, which older versions had at 20.
const DEFAULT_MAX_NEW_TOKENS: u64 = 1024;
/// Most stop sequences that TGI takes by default.
const MAX_STOPS: usize = 4;

const MAPPED: [Field; 13] = [
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::Temperature,
    Field::TopP,
    Field::Stop,
    Field::Seed,
    Field::FrequencyPenalty,
    Field::ResponseFormat,
    Field::GuidedJson,
    Field::GuidedRegex,
    Field::GuidedChoice,
    Field::GuidedGrammar,
    Field::StructuralTag,
];

/// Writes a request; path and framing are the service's.
pub(super) fn encode(request: &Request<'_>, target: &SageMaker) -> Result<Outgoing, ApiError> {
    let mut settled = params::settle(request, |field| Policy::of(field, &MAPPED))?;
    let template = Template::of([request.model, target.inference_component.as_deref().unwrap_or_default()]);
    let prompt = template.render(&request.turns())?;
    let stops = stops(request)?;
    let mut w = Writer::with_capacity(prompt.len() + 512);
    w.object().key("inputs").string(&prompt).key("parameters").object();
    w.key("max_new_tokens").integer(max_new_tokens(request, target)?);
    sampling(&mut w, request);
    // TGI's description says of both which value they must be above.
    let (seed, penalty) = (request.sampling.seed, request.sampling.frequency_penalty);
    for (field, value, key, above) in [(Field::Seed, seed, "seed", 0.0), (Field::FrequencyPenalty, penalty, "frequency_penalty", -2.0)] {
        match value {
            Some(raw) if raw.parse::<f64>().is_ok_and(|value| value > above) => {
                w.key(key).raw(raw);
            }
            Some(_) => settled.drop(request.name_of(field))?,
            None => {}
        }
    }
    if !stops.is_empty() || template == Template::Llama3 {
        w.key("stop").array();
        for stop in &stops {
            w.string(stop);
        }
        // Old tokenizer files do not count the end of a turn as the end of the text.
        if template == Template::Llama3 && stops.len() < MAX_STOPS {
            w.string(LLAMA3_END);
        }
        w.end_array();
    }
    grammar(&mut w, request)?;
    w.key("details").flag(true).key("return_full_text").flag(false).end_object();
    w.key("stream").flag(request.stream).end_object();
    let decoder = Tgi { trim: Trim::new(stops), has_content: false, finished: false };
    Ok(Outgoing::new("", w.finish(), settled, Box::new(decoder)))
}

/// The limit on the answer's tokens.
pub(super) fn max_new_tokens(request: &Request<'_>, target: &SageMaker) -> Result<u64, ApiError> {
    Ok(request.token_limit()?.unwrap_or_else(|| target.default_max_tokens.map_or(DEFAULT_MAX_NEW_TOKENS, u64::from)))
}

/// "`temperature` must be strictly positive" and "`top_p` must be > 0.0 and < 1.0": a temperature of 0 is written as not
/// sampling, a `top_p` of 1 by leaving it out.
fn sampling<'a>(w: &mut Writer, request: &Request<'a>) {
    let number = |value: Option<(&'a str, Authority)>| value.and_then(|(raw, _)| Some((raw, raw.parse::<f64>().ok()?)));
    let temperature = number(request.sampling.temperature);
    let top_p = number(request.sampling.top_p).filter(|(_, value)| *value < 1.0);
    let greedy = [temperature, top_p].into_iter().flatten().any(|(_, value)| value <= 0.0);
    w.key("do_sample").flag(!greedy);
    if greedy {
        return;
    }
    for (key, value) in [("temperature", temperature), ("top_p", top_p)] {
        w.optional_raw(key, value.map(|(raw, _)| raw));
    }
}

/// The client's stop sequences.
fn stops(request: &Request<'_>) -> Result<Vec<String>, ApiError> {
    let list = &request.sampling.stop;
    if list.len() > MAX_STOPS {
        let name = request.name_of(Field::Stop);
        let message = format!("`{name}` can hold at most {MAX_STOPS} sequences for this model");
        return Err(ApiError::field(name, message));
    }
    Ok(list.iter().map(|stop| stop.decode().into_owned()).collect())
}

fn grammar(w: &mut Writer, request: &Request<'_>) -> Result<(), ApiError> {
    let Some(output) = &request.output else { return Ok(()) };
    let field = request.name_of(output.field);
    w.key("grammar").object().key("type");
    match &output.constraint {
        Constraint::JsonSchema(schema) if !has_properties(&schema.schema) => {
            let message = format!("`{field}`: this model takes the schema of an object with `properties`, no other");
            return Err(ApiError::field(field, message));
        }
        Constraint::JsonSchema(schema) => w.string("json").key("value").raw(&schema.schema),
        Constraint::Choice(choices) => w.string("regex").key("value").string(&choice_regex(choices)),
        Constraint::Regex(regex) => w.string("regex").key("value").text(*regex),
        // Any object is a schema without properties.
        Constraint::JsonObject | Constraint::Grammar(_) | Constraint::StructuralTag(_) => return Err(params::unsupported(field)),
    };
    w.end_object();
    Ok(())
}

/// "Grammar must have a 'properties' field": TGI refuses every other schema.
fn has_properties(schema: &str) -> bool {
    walk::members(schema).and_then(|members| members.find("properties")).is_ok_and(|found| found.is_some())
}

/// A chunk of a stream, or a whole answer.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Wire<'a> {
    token: Option<Token<'a>>,
    generated_text: Option<Cow<'a, str>>,
    details: Option<Details<'a>>,
    /// A text; an object with a `message` where the container speaks OpenAI's errors.
    error: Option<&'a RawValue>,
    error_type: Option<Cow<'a, str>>,
    /// LMI's status beside its error.
    code: Option<u16>,
}

#[derive(Deserialize)]
struct Token<'a> {
    text: Option<Cow<'a, str>>,
    /// LMI's containers, which answer in nearly the same words, call it otherwise.
    #[serde(default, alias = "special_token")]
    special: bool,
}

#[derive(Deserialize)]
struct Details<'a> {
    finish_reason: Option<Cow<'a, str>>,
    generated_tokens: Option<u64>,
    /// In a stream.
    input_length: Option<u64>,
    /// In a whole answer: the prompt's tokens. They come where `decoder_input_details` asks for them, which costs the
    /// server the probabilities of all of them, and which newer ones do not do.
    prefill: Option<Vec<serde::de::IgnoredAny>>,
}

struct Tgi {
    trim: Trim,
    /// A text has come.
    has_content: bool,
    finished: bool,
}

/// The text of an error.
fn message(error: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow)]
        message: Cow<'a, str>,
    }
    let text: Result<Cow<'_, str>, _> = serde_json::from_str(error.get());
    let inner = || serde_json::from_str::<Wire<'_>>(error.get()).map(|wire| wire.message);
    text.or_else(|_| inner()).map_or_else(|_| "the container failed".to_owned(), Cow::into_owned)
}

impl Tgi {
    fn text(&mut self, text: &str, out: &mut dyn Sink) {
        if !text.is_empty() {
            self.has_content = true;
            out.event(Event::Content { choice: 0, text: Text::Plain(text) });
        }
    }

    fn read(&mut self, wire: &Wire<'_>, whole: bool, out: &mut dyn Sink) -> Result<(), Fault> {
        if let Some(error) = wire.error.filter(|error| error.get() != "null") {
            let class = match (wire.error_type.as_deref(), wire.code) {
                (Some("overloaded"), _) => FailureClass::Overloaded,
                // TGI's own list: what the request is to blame for.
                (Some("validation" | "template_error" | "tool_error" | "unsupported_modality"), _) => FailureClass::BadRequest,
                (None, Some(status)) => FailureClass::of_status(status),
                _ => FailureClass::Server,
            };
            return Err(Fault::Provider(ProviderError::new(class, message(error))));
        }
        match (&wire.token, &wire.generated_text) {
            (Some(token), _) if !token.special => {
                let text = self.trim.push(token.text.as_deref().unwrap_or_default());
                self.text(&text, out);
            }
            (None, Some(text)) if whole => {
                let text = self.trim.push(text);
                self.text(&text, out);
            }
            (None, None) if whole => return Err(Fault::Broken("the answer holds no generated_text".into())),
            _ => {}
        }
        let Some(details) = &wire.details else {
            // Containers without details mark at least the end of their answer.
            return if wire.generated_text.is_some() { self.finish("stop", out) } else { Ok(()) };
        };
        let prefill = details.prefill.as_ref().map(|tokens| tokens.len() as u64).filter(|tokens| *tokens > 0);
        // Half of a usage would be taken for all of it: where the prompt is not counted, it is for the account to estimate.
        if let Some(prompt) = details.input_length.or(prefill) {
            out.event(Event::Usage(Usage { prompt, completion: details.generated_tokens.unwrap_or_default(), ..Usage::default() }));
        }
        self.finish(details.finish_reason.as_deref().unwrap_or_default(), out)
    }

    fn finish(&mut self, word: &str, out: &mut dyn Sink) -> Result<(), Fault> {
        let rest = self.trim.finish(word == "stop_sequence");
        self.text(&rest, out);
        let Some(reason) = Finish::of(word, self.has_content) else {
            return Err(Fault::Broken(format!("the answer ended with finish_reason `{word}`").into()));
        };
        self.finished = true;
        out.event(Event::Finish { choice: 0, reason });
        Ok(())
    }
}

impl Decoder for Tgi {
    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        let Frame::Sse { data, .. } = frame else { return Err(Fault::Broken("not a server-sent event".into())) };
        if self.finished || data.is_empty() || data == "[DONE]" {
            return Ok(());
        }
        let wire: Wire<'_> = serde_json::from_str(data).map_err(|_| Fault::Broken("an event is not JSON of this protocol".into()))?;
        let nothing = wire.token.is_none() && wire.generated_text.is_none() && wire.details.is_none() && wire.error.is_none();
        if let Some(failure) = if nothing { dialect::error_in(data) } else { None } {
            return Err(Fault::Provider(failure));
        }
        self.read(&wire, false, out)?;
        if self.finished {
            out.event(Event::End);
        }
        Ok(())
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        // `/invocations` answers with a list of one, `/generate` with its element.
        self.read(&read_only(body)?, true, out)
    }

    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        if self.finished { Ok(()) } else { Err(Fault::Truncated) }
    }
}

/// Takes the stop sequence off an answer's end, which TGI counts as a part of the text and OpenAI does not: holds back what may
/// be the beginning of one.
#[derive(Debug)]
struct Trim {
    stops: Vec<String>,
    held: String,
}

impl Trim {
    /// Looks for these; empty ones left out.
    fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self { stops, held: String::new() }
    }

    /// Takes more text and returns what certainly belongs to the answer. At most the longest stop sequence stays.
    fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let begins = |tail: &str| self.stops.iter().any(|stop| stop.starts_with(tail));
        let from = self.held.char_indices().map(|(at, _)| at).find(|at| self.held.get(*at..).is_some_and(begins));
        let rest = self.held.split_off(from.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }

    /// The answer has ended: what is held back, unless it is the sequence that `stopped` it.
    fn finish(&mut self, stopped: bool) -> String {
        let held = std::mem::take(&mut self.held);
        if stopped && self.stops.contains(&held) { String::new() } else { held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sequence_that_stopped_is_taken_off() {
        let text = |pieces: &[&str], stopped: bool| {
            let mut trim = Trim::new(vec!["END".into(), String::new(), "\n\n".into()]);
            let mut out: String = pieces.iter().map(|piece| trim.push(piece)).collect();
            out.push_str(&trim.finish(stopped));
            out
        };
        assert_eq!(text(&["The E", "ND of it ", "E", "N", "D"], true), "The END of it ");
        assert_eq!(text(&["The EN"], true), "The EN");
        assert_eq!(text(&["The END"], false), "The END");
        assert_eq!(text(&["ü\n", "\n"], true), "ü");
        assert_eq!(Trim::new(Vec::new()).push("E"), "E");
    }
}
