//! Services and servers that speak OpenAI's chat completions by a documentation of their own: what each refuses, and in which
//! form, as that documentation says. The table is the simulator's own; nothing here reads the gateway's catalogue.

mod errors;
mod rules;
mod table;

use super::Service::Compatible;
use super::{EMBEDDINGS, embeddings, responses, write};
use crate::simulate::ask::Ask;
use crate::simulate::dialect::{Dialect, Incoming, Refusal, unescape};
use crate::simulate::reply::Reply;
use crate::simulate::shape::object;
use bytes::Bytes;
use errors::Shape;
use serde_json::{Map, Value, json};
use table::HOSTED;

/// What begins a stream at Azure, as recorded in llama-stack's tests/integration/recordings.
const FILTERED: &str = r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#;

/// A service, and what it refuses. The defaults ([`Hosted::OPEN`]) refuse nothing beyond what every server does.
pub(super) struct Hosted {
    /// Base path, as in the service's own base URL behind its name.
    base: &'static str,
    /// Where the key is.
    key: Key,
    /// Whether the model is the segment of the path behind the base, and every request has an `api-version`.
    is_by_deployment: bool,
    /// Members that it refuses.
    refused: &'static [&'static str],
    /// The only members that it knows; empty: it takes any.
    known: &'static [&'static str],
    /// Highest temperature.
    hottest: f64,
    /// Whether more than one answer can be asked for.
    takes_n: bool,
    /// Roles of messages beside `user`, `assistant` and `tool`.
    roles: &'static [&'static str],
    /// Whether messages may have a `name`.
    takes_names: bool,
    /// Content parts beside `text`.
    parts: &'static [&'static str],
    /// What `tool_choice` may be; `named` stands for an object.
    choices: &'static [&'static str],
    /// Highest `top_logprobs`.
    top_logprobs: u64,
    /// Words for `reasoning_effort`; empty: any.
    efforts: &'static [&'static str],
    /// Types of `response_format`.
    formats: &'static [&'static str],
    /// Whether `stop` must be an array.
    needs_stop_list: bool,
    /// Parts of the names of models that think unless they are told not to.
    thinkers: &'static [&'static str],
    /// Whether the reasoning of a turn that called tools must come back.
    needs_reasoning_back: bool,
    /// Where reasoning is.
    reasoning: &'static str,
    /// Whether it has embeddings.
    embeds: bool,
    /// Whether it has the Responses API.
    responds: bool,
    /// Members of embeddings that it does not know.
    refused_embedding: &'static [&'static str],
    /// The form of its errors.
    shape: Shape,
}

/// Where a key is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// `api-key: KEY`, or an access token as `authorization: Bearer TOKEN`.
    Azure,
    /// Nowhere: none is asked for.
    Open,
}

impl Hosted {
    const OPEN: Self = Self {
        base: "",
        key: Key::Bearer,
        is_by_deployment: false,
        refused: &[],
        known: &[],
        hottest: 2.0,
        takes_n: true,
        roles: &["system", "developer"],
        takes_names: true,
        parts: &["image_url", "file", "input_audio"],
        choices: &["none", "auto", "required", "named"],
        top_logprobs: 20,
        efforts: &[],
        formats: &["text", "json_object", "json_schema"],
        needs_stop_list: false,
        thinkers: &[],
        needs_reasoning_back: false,
        reasoning: "reasoning_content",
        embeds: true,
        responds: false,
        refused_embedding: &[],
        shape: Shape::OpenAi,
    };

    /// The endpoint and the deployment that a path names here; `None` where it is another one's.
    fn endpoint<'p>(&self, path: &'p str) -> Option<(&'p str, Option<&'p str>)> {
        let rest = path.strip_prefix(self.base)?;
        if !self.is_by_deployment {
            return Some((rest, None));
        }
        let rest = rest.strip_prefix('/')?;
        let (deployment, endpoint) = rest.split_at_checked(rest.find('/')?)?;
        Some((endpoint, Some(deployment)))
    }

    /// The body with the model where the others have it.
    fn body(&self, request: Incoming<'_>) -> Result<Map<String, Value>, Refusal> {
        let mut body = object(request.headers, request.body)?;
        if let Some((_, Some(deployment))) = self.endpoint(request.path()) {
            if !request.path_and_query.contains("api-version=") {
                return Err(Refusal::status(404, "Resource not found"));
            }
            body.insert("model".into(), json!(unescape(deployment)));
        }
        Ok(body)
    }

    /// Puts reasoning where this service has it.
    fn named(&self, mut answer: Value) -> Value {
        for choice in answer.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
            for place in ["message", "delta"] {
                if let Some(Value::Object(message)) = choice.get_mut(place)
                    && let Some(text) = message.remove("reasoning_content")
                {
                    message.insert(self.reasoning.to_owned(), text);
                }
            }
        }
        answer
    }
}

/// Who answers at a path.
pub(super) fn find(path: &str) -> Option<&'static dyn Dialect> {
    HOSTED.iter().find_map(|service| match service.endpoint(path)? {
        ("/chat/completions", _) => Some(service as &dyn Dialect),
        (EMBEDDINGS, _) if service.embeds => Some(service),
        (responses::PATH, _) if service.responds => responses::of(Compatible),
        _ => None,
    })
}

impl Dialect for Hosted {
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal> {
        rules::key(self, request)?;
        let body = self.body(request)?;
        let raw = Value::Object(body.clone()).to_string();
        if self.endpoint(request.path()).is_some_and(|(endpoint, _)| endpoint == EMBEDDINGS) {
            rules::embeddings(self, &body)?;
            return embeddings::read(Compatible, request.headers, raw.as_bytes());
        }
        rules::chat(self, &body)?;
        let mut ask = Compatible.judge(&body, raw.as_bytes())?;
        ask.thinks |= rules::thinks(self, &body);
        if self.known.contains(&"stream") && !self.known.contains(&"stream_options") {
            ask.include_usage = true; // it comes unasked
        }
        Ok(ask)
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        if ask.embed.is_some() {
            return Compatible.whole(ask, reply);
        }
        self.named(write::whole(Compatible, ask, reply)).to_string().into_bytes()
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        let chunks = write::chunks(Compatible, ask, reply).into_iter().map(|chunk| self.named(chunk).to_string());
        let done = std::iter::once("[DONE]".to_owned());
        let filtered = (self.shape == Shape::Azure).then(|| FILTERED.to_owned());
        filtered.into_iter().chain(chunks).chain(done).map(|data| Bytes::from(format!("data: {data}\n\n"))).collect()
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        self.shape.body(refusal)
    }

    fn refusal_status(&self, refusal: &Refusal) -> u16 {
        self.shape.status(refusal)
    }

    fn idle(&self) -> Bytes {
        Bytes::from_static(b": OPENROUTER PROCESSING\n\n") // the comment of the one service that documents its own
    }
}
