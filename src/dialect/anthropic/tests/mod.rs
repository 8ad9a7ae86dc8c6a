//! What the tests of this dialect share: a target of each provider kind and a sink that remembers.

use super::*;
use crate::dialect::gemini::Vertex;
use crate::dialect::shared::claude::DEFAULT_MAX_TOKENS;
use crate::dialect::shared::testing::{self, body, pieces, seal};
use crate::front::chat::rules::{finish_reason, write_members};
use crate::llm::envelope::ChatRequest;
use crate::llm::event::{Block, Event, Sink};
use crate::llm::failure::Fault;
use crate::llm::settings::Params;
use crate::llm::state::Seal;
use serde_json::Value;
use std::path::PathBuf;

mod answers;
mod requests;
mod thinking;

fn named(prefix: &str) -> Vec<(PathBuf, Value)> {
    let list: Vec<_> =
        testing::cases("anthropic").filter(|(path, _)| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect();
    assert!(!list.is_empty());
    list
}

/// Anthropic as a fixture describes it.
fn anthropic(case: &Value) -> Anthropic {
    Anthropic {
        version: "2023-06-01".into(),
        beta: case["beta"].as_array().into_iter().flatten().map(|b| b.as_str().unwrap().to_owned()).collect(),
        default_max_tokens: case["default_max_tokens"].as_u64().map_or(DEFAULT_MAX_TOKENS, |n| n as u32),
        structured_output: if case["structured_output"] == "tool" { StructuredOutput::Tool } else { StructuredOutput::Native },
    }
}

/// Vertex AI with the same settings.
fn vertex(case: &Value) -> Vertex {
    let Anthropic { default_max_tokens, structured_output, .. } = anthropic(case);
    Vertex { location: "/v1/projects/p%201/locations/us-east5".into(), openai: testing::openai(), default_max_tokens, structured_output }
}

fn params(case: &Value) -> Params {
    let list = |key: &str| case["params"][key].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.to_string())).collect();
    Params {
        defaults: list("defaults"),
        overrides: list("overrides"),
        reject_unsupported: case["params"]["reject_unsupported"] == true,
        ..Params::default()
    }
}

/// Writes the request of a fixture for its target.
fn encode(case: &Value, seal: Option<&Seal>) -> Result<Outgoing, ApiError> {
    let parsed = crate::llm::envelope::Parsed::parse(case["request"].to_string().into()).unwrap();
    let params = params(case);
    let model = case["model"].as_str().unwrap_or("claude-sonnet-4-5-20250929");
    let request = ChatRequest { parsed: &parsed, params: &params, system: case["system"].as_str(), model, seal };
    match case["provider"].as_str() {
        Some("vertex") => {
            vertex(case).encode(&ChatRequest { model: &format!("{VERTEX_PREFIX}{}", model.trim_start_matches(VERTEX_PREFIX)), ..request })
        }
        _ => anthropic(case).encode(&request),
    }
}

/// Remembers events, one line each, those without a text of their own as OpenAI's clients get them.
#[derive(Default)]
struct Said(Vec<String>);

impl Sink for Said {
    fn event(&mut self, event: Event<'_>) {
        self.0.push(match event {
            Event::Image { .. } | Event::Audio { .. } | Event::Citations { .. } | Event::SearchResults { .. } => {
                return write_members(&event, self);
            }
            Event::Extra { choice, key, json, .. } => format!("Extra {{ choice: {choice}, key: {key:?}, json: {json:?} }}"),
            // As the chat front has it.
            Event::BlockEnd { block: Block::Call(call), .. }
                if !self.0.iter().any(|line| line.starts_with(&format!("arguments {call} "))) =>
            {
                format!("arguments {call} {{}}")
            }
            Event::BlockEnd { .. }
            | Event::ReasoningStart { .. }
            | Event::Signature { .. }
            | Event::RedactedReasoning { .. }
            | Event::RawInput { .. } => return,
            Event::Raw { block, .. } if !block.essential => return,
            Event::Content { text, .. } => format!("content {}", text.decode()),
            Event::Reasoning { text, .. } => format!("reasoning {}", text.decode()),
            Event::ToolStart { call, id, name, state, .. } => {
                let id = id.unwrap().decode();
                format!("call {call} {} {}", state.map_or(id.clone().into(), |state| seal().seal(&id, state)), name.decode())
            }
            Event::ToolArguments { call, fragment, .. } => format!("arguments {call} {}", fragment.decode()),
            Event::Finish { reason, .. } => format!("finish {}", finish_reason(&reason)),
            Event::Usage(u) => {
                format!("usage {}+{} cached {}+{} reasoning {}", u.prompt, u.completion, u.cached, u.cache_write, u.reasoning)
            }
            other => format!("{other:?}"),
        });
    }
}

/// Reads a stream that arrives in these pieces; the last line tells how it ended.
fn stream<'a>(mut decoder: Box<dyn Decoder>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut said = Said::default();
    let end = testing::stream(Framing::Sse, &mut *decoder, pieces, &mut said);
    let ended = said.0.pop_if(|last| last == "End").is_some();
    assert_eq!(ended, end.is_ok(), "{:?}", said.0);
    said.0.extend(end.err().map(|fault| fault_line(&fault)));
    said.0
}

fn whole(mut decoder: Box<dyn Decoder>, body: &[u8]) -> Vec<String> {
    let mut said = Said::default();
    let end = decoder.whole(body, &mut said);
    said.0.extend(end.err().map(|fault| fault_line(&fault)));
    said.0
}

fn fault_line(fault: &Fault) -> String {
    match fault {
        Fault::Provider(error) => format!("provider {:?} {}", error.class, error.message),
        Fault::Broken(_) => "broken".into(),
        Fault::Truncated => "truncated".into(),
    }
}
