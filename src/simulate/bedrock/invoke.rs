//! InvokeModel and InvokeModelWithResponseStream of a Claude: Anthropic's own protocol below Bedrock's path, each event of a
//! stream in base64 in a frame of its own.

use super::Bedrock;
use crate::simulate::anthropic::{self, Anthropic};
use crate::simulate::ask::Ask;
use crate::simulate::aws;
use crate::simulate::dialect::{Dialect, Incoming, Refusal, unescape};
use crate::simulate::reply::Reply;
use crate::simulate::shape::object;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

/// What a Claude's requests say in the place of Anthropic's version header.
const VERSION: &str = "bedrock-2023-05-31";

/// A Claude behind InvokeModel.
pub(super) struct Claude;

/// The model, as it came, and whether its answer is to be streamed.
pub(super) fn parse(path: &str) -> Option<(&str, bool)> {
    let (model, operation) = path.strip_prefix("/bedrock/model/")?.split_once('/').filter(|(model, _)| model.contains("anthropic."))?;
    match operation {
        "invoke" => Some((model, false)),
        "invoke-with-response-stream" => Some((model, true)),
        _ => None,
    }
}

/// Anthropic's event, which comes as a server-sent one.
fn chunk(event: &Bytes) -> Bytes {
    let text = String::from_utf8_lossy(event);
    let data = text.split_once("data: ").map_or("", |(_, data)| data.trim_end());
    aws::message(true, "chunk", json!({ "bytes": STANDARD.encode(data), "p": "abcdefgh" }).to_string().as_bytes())
}

impl Dialect for Claude {
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal> {
        aws::check(&request, "bedrock", true)?;
        let (model, stream) = parse(request.path()).unwrap_or_default();
        let mut body = object(request.headers, request.body)?;
        if body.remove("anthropic_version").is_none_or(|version| version != VERSION) {
            return Err(Refusal::at("anthropic_version", format!("anthropic_version: Input should be '{VERSION}'")));
        }
        body.remove("anthropic_beta");
        for name in ["model", "stream"] {
            if body.contains_key(name) {
                return Err(Refusal::at(name, format!("{name}: Extra inputs are not permitted")));
            }
        }
        body.insert("model".into(), json!(unescape(model)));
        Ok(Ask { stream, ..anthropic::read::body(body, request.body)? })
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        Anthropic.whole(ask, reply)
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        Anthropic.events(ask, reply).iter().map(chunk).collect()
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        Bedrock.refusal(refusal)
    }

    fn refusal_headers(&self, refusal: &Refusal) -> Vec<(&'static str, String)> {
        Bedrock.refusal_headers(refusal)
    }

    fn junk(&self, text: &str) -> Bytes {
        aws::message(true, "chunk", text.as_bytes())
    }

    fn error_event(&self, ask: &Ask, sent: usize, refusal: &Refusal) -> Bytes {
        Bedrock.error_event(ask, sent, refusal)
    }

    fn idle(&self) -> Bytes {
        chunk(&Anthropic.idle())
    }

    fn stream_type(&self) -> &'static str {
        Bedrock.stream_type()
    }
}
