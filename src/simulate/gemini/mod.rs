//! Gemini's `generateContent`, as Google AI Studio and Vertex AI serve it.

mod embed;
mod read;
mod shape;
mod write;

use super::ask::Ask;
use super::dialect::{Dialect, Incoming, Refusal, unescape};
use super::embed::Form;
use super::reply::{Reply, Usage};
use super::shape::object;
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Who serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gemini {
    /// generativelanguage.googleapis.com.
    Studio,
    /// Vertex AI, which checks who asks itself.
    Vertex,
}

/// Who answers at a path.
pub(super) fn find(path: &str) -> Option<&'static dyn Dialect> {
    let rest = path.strip_prefix("/google_ai_studio/v1")?;
    let model = rest.strip_prefix("beta").unwrap_or(rest).strip_prefix("/models/")?;
    let operation = Operation::of(model).filter(|operation| operation.embeds != Some(Form::Predictions));
    operation.map(|_| &Gemini::Studio as &dyn Dialect)
}

/// The end of a path: a model and what is wanted of it.
pub(super) struct Operation {
    /// The model, unescaped.
    pub(super) model: String,
    /// Whether its answer is to be streamed.
    pub(super) stream: bool,
    /// The form of vectors, where those are wanted.
    pub(super) embeds: Option<Form>,
}

impl Operation {
    fn of(segment: &str) -> Option<Self> {
        let (model, operation) = segment.rsplit_once(':').filter(|(model, _)| !model.is_empty() && !model.contains('/'))?;
        let (stream, embeds) = match operation {
            "generateContent" => (false, None),
            "streamGenerateContent" => (true, None),
            "embedContent" => (false, Some(Form::Embedding)),
            "batchEmbedContents" => (false, Some(Form::Embeddings)),
            "predict" => (false, Some(Form::Predictions)),
            _ => return None,
        };
        Some(Self { model: unescape(model), stream, embeds })
    }
}

impl Gemini {
    /// Reads a request from whoever may ask.
    ///
    /// # Errors
    /// What the service would refuse.
    pub(super) fn judge(self, request: Incoming<'_>, body: Map<String, Value>) -> Result<Ask, Refusal> {
        let last = request.path().rsplit('/').next().unwrap_or_default();
        let operation = Operation::of(last).ok_or_else(|| Refusal::status(404, "Not found"))?;
        if operation.stream && !request.asks("alt=sse") {
            return Err(Refusal::status(400, "This simulator streams server-sent events only: ask with alt=sse."));
        }
        if let Some(form) = operation.embeds {
            return embed::read(self, form, operation.model, &Value::Object(body), request.body);
        }
        let ask = read::body(self == Self::Vertex, operation.model, body, request.body)?;
        Ok(Ask { stream: operation.stream, ..ask })
    }
}

impl Dialect for Gemini {
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal> {
        match self {
            Self::Vertex => super::vertex::token::check(&request)?,
            // whoever puts the key into the URL puts it into logs: the services allow it, this simulator does not
            Self::Studio if request.header("x-goog-api-key").starts_with("AIza") => {}
            Self::Studio => {
                let bad = Refusal::status(400, "API key not valid. Please pass a valid API key.");
                return Err(Refusal { code: "invalid_api_key", ..bad });
            }
        }
        self.judge(request, object(request.headers, request.body)?)
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        match &ask.embed {
            Some(embed) => embed::whole(ask, embed).to_string().into_bytes(),
            None => write::whole(ask, reply).to_string().into_bytes(),
        }
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        write::events(ask, reply)
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        error(refusal)
    }

    /// Google says in the body when to come again.
    fn refusal_headers(&self, _: &Refusal) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn junk(&self, text: &str) -> Bytes {
        Bytes::from(format!("data: {text}\r\n\r\n"))
    }

    fn error_event(&self, _: &Ask, _: usize, refusal: &Refusal) -> Bytes {
        write::event(&error(refusal))
    }

    fn idle(&self) -> Bytes {
        write::event(&write::response(&Ask::default(), json!([]), Usage::default()))
    }

    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }
}

/// An error in Google's shape.
pub(super) fn error(refusal: &Refusal) -> Value {
    let status = match refusal.status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        500 => "INTERNAL",
        501 => "UNIMPLEMENTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "UNKNOWN",
    };
    let mut details: Vec<Value> = Vec::new();
    if refusal.code == "invalid_api_key" && refusal.status == 400 {
        details
            .push(json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com" }));
    }
    if let Some(after) = &refusal.retry_after {
        details.push(json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{after}s") }));
    }
    let mut error = json!({ "code": refusal.status, "message": refusal.message, "status": status });
    if let (Value::Object(error), false) = (&mut error, details.is_empty()) {
        error.insert("details".into(), details.into());
    }
    json!({ "error": error })
}
