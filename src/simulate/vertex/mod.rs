//! Vertex AI: Google's models by Gemini's protocol, Claude by Anthropic's, everybody else's by OpenAI's, all of them
//! under a project's and a location's path and for an access token ([`token`]).

pub(super) mod token;

use super::anthropic::{self, Anthropic};
use super::ask::Ask;
use super::dialect::{Dialect, Incoming, Refusal, unescape};
use super::gemini::{self, Gemini};
use super::openai::Service;
use super::reply::Reply;
use super::shape::{object, text_of};
use bytes::Bytes;
use serde_json::{Value, json};

/// What Claude's requests say in the place of Anthropic's version header.
const CLAUDE_VERSION: &str = "vertex-2023-10-16";

/// Who answers at a path.
pub(super) fn find(path: &str) -> Option<&'static dyn Dialect> {
    if path == token::PATH {
        return Some(&Gemini::Vertex); // the server answers it; only faults of HTTP itself come here
    }
    let rest = path.strip_prefix("/vertex/v1")?;
    let rest = rest.strip_prefix("beta1").unwrap_or(rest).strip_prefix("/projects/")?;
    let (project, rest) = rest.split_once("/locations/")?;
    let (location, rest) = rest.split_once('/')?;
    if project.is_empty() || project.contains('/') || location.is_empty() {
        return None;
    }
    if rest == "endpoints/openapi/chat/completions" {
        return Some(&OPEN);
    }
    let (model, operation) = rest.rsplit_once(':').filter(|(model, _)| !model.ends_with('/'))?;
    let (publisher, _) = model.strip_prefix("publishers/")?.split_once("/models/").filter(|(_, model)| !model.contains('/'))?;
    match (publisher, operation) {
        ("google", "generateContent" | "streamGenerateContent" | "embedContent" | "batchEmbedContents" | "predict") => {
            Some(&Gemini::Vertex)
        }
        ("anthropic", "rawPredict" | "streamRawPredict") => Some(&CLAUDE),
        _ => None,
    }
}

/// A publisher whose protocol stands below Vertex AI's own refusals.
struct Guest<D> {
    inner: D,
    read: fn(Incoming<'_>) -> Result<Ask, Refusal>,
}

static CLAUDE: Guest<Anthropic> = Guest { inner: Anthropic, read: claude };
static OPEN: Guest<Service> = Guest { inner: Service::Compatible, read: open };

fn claude(request: Incoming<'_>) -> Result<Ask, Refusal> {
    let mut body = object(request.headers, request.body)?;
    let (path, operation) = request.path().rsplit_once(':').unwrap_or_default();
    let wrong = |at: &str, why: &str| Refusal::at(at, format!("{at}: {why}"));
    match body.remove("anthropic_version") {
        Some(version) if version == CLAUDE_VERSION => {}
        _ => return Err(wrong("anthropic_version", &format!("Input should be '{CLAUDE_VERSION}'"))),
    }
    body.remove("anthropic_beta");
    let model = unescape(path.rsplit('/').next().unwrap_or_default());
    if body.insert("model".into(), json!(model)).is_some() {
        return Err(wrong("model", "Extra inputs are not permitted"));
    }
    let stream = body.get("stream") == Some(&Value::Bool(true));
    if stream != (operation == "streamRawPredict") {
        return Err(wrong("stream", "does not fit the method"));
    }
    anthropic::read::body(body, request.body)
}

fn open(request: Incoming<'_>) -> Result<Ask, Refusal> {
    let body = object(request.headers, request.body)?;
    if !text_of(&Value::Object(body.clone()), "model").contains('/') {
        return Err(Refusal::at("model", "Malformed publisher model: it is `publisher/model`."));
    }
    Service::Compatible.judge(&body, request.body)
}

impl<D: Dialect> Dialect for Guest<D> {
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal> {
        token::check(&request)?;
        (self.read)(request)
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        self.inner.whole(ask, reply)
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        self.inner.events(ask, reply)
    }

    /// What is wrong with the request itself is the guest's to say.
    fn refusal(&self, refusal: &Refusal) -> Value {
        if refusal.status == 400 { self.inner.refusal(refusal) } else { gemini::error(refusal) }
    }

    fn refusal_headers(&self, _: &Refusal) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn junk(&self, text: &str) -> Bytes {
        self.inner.junk(text)
    }

    fn error_event(&self, ask: &Ask, sent: usize, refusal: &Refusal) -> Bytes {
        self.inner.error_event(ask, sent, refusal)
    }

    fn idle(&self) -> Bytes {
        self.inner.idle()
    }

    fn stream_type(&self) -> &'static str {
        self.inner.stream_type()
    }
}
