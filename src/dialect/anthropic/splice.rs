//! A request of a client that speaks the Messages API, on its way to a Claude: its own bytes, but for what the host wants
//! elsewhere and what the route sets. Signatures of thinking are bound to everything before them, so that no other byte may
//! change. The answer passes as it comes, and is only read for what the gateway has to know of it.

use super::decode::Decoder;
use super::{Host, Seat};
use crate::dialect::bedrock::error::exception;
use crate::dialect::shared::params::Settled;
use crate::dialect::{self, shared};
use crate::error::ApiError;
use crate::frame::Frame;
use crate::json::splice::Splice;
use crate::json::text::Text;
use crate::json::walk::{self, Cursor};
use crate::json::write::Writer;
use crate::llm::event::Sink;
use crate::llm::failure::Fault;
use crate::llm::field::Field;
use crate::llm::messages::MessagesRequest;
use crate::llm::state::MARK;
use bytes::Bytes;
use memchr::memmem;
use std::borrow::Cow;

/// How the text begins that has to stay the first one of the instructions.
const ATTRIBUTION: &str = "x-anthropic-billing-header";

/// The names in `anthropic-beta`: the provider's configured ones, and the client's.
pub(super) fn betas<'a>(request: &MessagesRequest<'a>, seat: &Seat<'a>) -> Vec<&'a str> {
    let mut all: Vec<&str> = seat.beta.iter().map(String::as_str).collect();
    for name in request.headers.betas() {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// The body for `seat`, and what of the route's settings it cannot hold.
///
/// # Errors
/// A 400 that names a setting that is lost, where the route says `unsupported: reject`.
pub(super) fn body(request: &MessagesRequest<'_>, seat: &Seat<'_>, counting: bool) -> Result<(Bytes, Settled), ApiError> {
    let base = &request.base;
    let mut settled = Settled::new(base.params.reject_unsupported);
    let mut edits = Edits { base: request, splice: Splice::new(base.parsed.body(), base.parsed.envelope()), set: Vec::new() };
    match seat.host {
        Host::Api => edits.set("model", quoted(base.model)),
        // The counter is not below a model there.
        Host::Vertex if counting => {
            edits.set("model", quoted(base.model.strip_prefix(super::VERTEX_PREFIX).unwrap_or(base.model)));
            edits.set("anthropic_version", quoted(seat.version));
        }
        Host::Vertex => {
            edits.remove("model");
            edits.set("anthropic_version", quoted(seat.version));
        }
        Host::Bedrock => {
            edits.remove("model");
            edits.remove("stream");
            edits.set("anthropic_version", quoted(seat.version));
            let betas = betas(request, seat);
            if !betas.is_empty() {
                edits.set("anthropic_beta", serde_json::to_vec(&betas).unwrap_or_default());
            }
        }
    }
    if !counting {
        for (name, json) in &base.params.overrides {
            edits.setting(name, json, true, &mut settled)?;
        }
        for (name, json) in &base.params.defaults {
            edits.setting(name, json, false, &mut settled)?;
        }
    }
    if let Some(system) = base.system {
        edits.instruct(system)?;
    }
    if let Some(messages) = without_sealed(base.parsed.raw(Field::Messages).unwrap_or_default())? {
        edits.set("messages", messages);
    }
    Ok((edits.splice.finish(), settled))
}

struct Edits<'a, 'r> {
    base: &'r MessagesRequest<'a>,
    splice: Splice<'a>,
    /// Members that the route has set: the first of its settings counts.
    set: Vec<String>,
}

impl<'a> Edits<'a, '_> {
    fn set(&mut self, name: &str, value: impl Into<Cow<'a, [u8]>>) {
        match self.base.base.parsed.find(name) {
            Some(member) => self.splice.replace(member, value.into()),
            None => self.splice.insert(name, value.into()),
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(member) = self.base.base.parsed.find(name) {
            self.splice.remove(member);
        }
    }

    /// Sets what the route's settings call `name`, in this protocol's words; a default only where the client is silent.
    fn setting(&mut self, name: &str, json: &'a str, overrides: bool, settled: &mut Settled) -> Result<(), ApiError> {
        let (name, value): (&str, Cow<'a, [u8]>) = match Field::of(name.as_bytes()) {
            Some(Field::Temperature | Field::TopP | Field::MaxTokens) | None => (name, json.as_bytes().into()),
            Some(Field::MaxCompletionTokens) => (Field::MaxTokens.name(), json.as_bytes().into()),
            Some(Field::Stop) if json.starts_with('"') => ("stop_sequences", format!("[{json}]").into_bytes().into()),
            Some(Field::Stop) => ("stop_sequences", json.as_bytes().into()),
            Some(Field::User) => ("metadata", format!("{{\"user_id\":{json}}}").into_bytes().into()),
            Some(Field::ReasoningEffort) => ("output_config", format!("{{\"effort\":{json}}}").into_bytes().into()),
            Some(field) => return settled.drop(field.name()),
        };
        let is_silent = overrides || self.base.base.parsed.raw_named(name).is_none();
        if is_silent && !self.set.iter().any(|known| known == name) {
            self.set(name, value);
            self.set.push(name.to_owned());
        }
        Ok(())
    }

    /// Puts the route's instructions before the client's. Where these are blocks they stay so, with their marks.
    fn instruct(&mut self, system: &'a str) -> Result<(), ApiError> {
        let parsed = self.base.base.parsed;
        let Some(raw) = parsed.raw_named("system") else {
            self.set("system", quoted(system));
            return Ok(());
        };
        let mut w = Writer::with_capacity(raw.len() + system.len() + 64);
        if let Some(text) = walk::string(raw) {
            w.texts(&[Text::Plain(system), Text::Plain("\n\n"), text]);
        } else {
            let mut blocks = walk::inner_elements(raw)?;
            let mut own = Some(system);
            w.array();
            while let Some(block) = blocks.next()? {
                if !block.contains(ATTRIBUTION) {
                    write_text(own.take(), &mut w);
                }
                w.raw(block);
            }
            write_text(own, &mut w);
            w.end_array();
        }
        self.set("system", w.finish());
        Ok(())
    }
}

fn write_text(text: Option<&str>, w: &mut Writer) {
    if let Some(text) = text {
        w.object().key("type").string("text").key("text").string(text).end_object();
    }
}

fn quoted(text: &str) -> Vec<u8> {
    let mut w = Writer::with_capacity(text.len() + 2);
    w.string(text);
    w.finish()
}

/// The messages without the thinking that the gateway sealed for another provider; `None` where there is none. A message that
/// had nothing else is left out.
fn without_sealed(messages: &str) -> Result<Option<Vec<u8>>, ApiError> {
    if memmem::find(messages.as_bytes(), MARK.as_bytes()).is_none() {
        return Ok(None);
    }
    let (mut kept, mut changed) = (Vec::new(), false);
    let mut list = walk::inner_elements(messages)?;
    while let Some(message) = list.next()? {
        let content = content_of(message)?;
        let mut blocks = Vec::new();
        let mut sealed = false;
        if let Some((_, content)) = content {
            let mut all = walk::inner_elements(content)?;
            while let Some(block) = all.next()? {
                if is_sealed(block)? { sealed = true } else { blocks.push(block) }
            }
        }
        changed |= sealed;
        match content.filter(|_| sealed) {
            None => kept.push(Cow::Borrowed(message)),
            Some(_) if blocks.is_empty() => {}
            Some((at, content)) => {
                let (before, after) = (message.get(..at).unwrap_or_default(), message.get(at + content.len()..).unwrap_or_default());
                kept.push(Cow::Owned(format!("{before}[{}]{after}", blocks.join(","))));
            }
        }
    }
    Ok(changed.then(|| format!("[{}]", kept.join(",")).into_bytes()))
}

/// The content of a message, where it is an array, and where it begins.
fn content_of(message: &str) -> Result<Option<(usize, &str)>, ApiError> {
    let (mut cursor, mut content) = (Cursor::inside(message), None);
    if cursor.at_object() {
        cursor.object(|cursor, key| {
            let value = cursor.raw()?;
            if Text::Raw(key).decode() == "content" && value.starts_with('[') {
                content = Some((cursor.position() - value.len(), value));
            }
            Ok::<_, ApiError>(())
        })?;
    }
    Ok(content)
}

/// Whether a block is thinking with a signature of the gateway's.
fn is_sealed(block: &str) -> Result<bool, ApiError> {
    if !block.starts_with('{') || memmem::find(block.as_bytes(), MARK.as_bytes()).is_none() {
        return Ok(false);
    }
    let (mut thinking, mut sealed) = (false, false);
    let mut members = walk::inner_members(block)?;
    while let Some((key, value)) = members.next()? {
        match &*key.decode() {
            "type" => thinking = value == "\"thinking\"",
            "signature" => sealed = walk::string(value).is_some_and(|text| text.decode().starts_with(MARK)),
            _ => {}
        }
    }
    Ok(thinking && sealed)
}

/// Reads an answer that passes as it comes.
pub(super) struct Native(Decoder);

impl Native {
    /// For one answer.
    pub(super) fn new() -> Self {
        Self(Decoder::new(None, false))
    }
}

impl dialect::Decoder for Native {
    fn is_native(&self) -> bool {
        true
    }

    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        match frame {
            Frame::Aws { message_type: "exception" | "error", kind, error_message, payload } => {
                Err(Fault::Provider(exception(kind, error_message, payload)))
            }
            Frame::Aws { .. } => Ok(()), // an event that is not known yet
            sse => self.0.frame(sse, out),
        }
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        self.0.whole(body, out)
    }

    fn end(&mut self, out: &mut dyn Sink) -> Result<(), Fault> {
        self.0.end(out)
    }
}

/// The decoder of a counter, or of an answer.
pub(super) fn decoder(counting: bool) -> Box<dyn dialect::Decoder> {
    if counting { Box::new(shared::count::Decoder) } else { Box::new(Native::new()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dialect::shared::claude::StructuredOutput;
    use crate::llm::envelope::{ChatRequest, Parsed};
    use crate::llm::messages::Headers;
    use crate::llm::settings::Params;

    fn spliced(host: Host, body: &str, params: &Params, system: Option<&str>) -> (String, Vec<Cow<'static, str>>) {
        let parsed = Parsed::scan_as(body.to_owned().into(), |field| (field == Field::Messages).then(|| field.shape())).unwrap();
        let headers = Headers { version: None, beta: "x-1, y-2".into() };
        let base = ChatRequest { parsed: &parsed, params, system, model: "claude", seal: None };
        let seat = Seat { host, version: "v", beta: &[], default_max_tokens: 1, structured_output: StructuredOutput::Native };
        let (body, settled) = super::body(&MessagesRequest { base, headers: &headers }, &seat, false).unwrap();
        (String::from_utf8(body.to_vec()).unwrap(), settled.dropped)
    }

    #[test]
    fn each_host_gets_what_it_wants_elsewhere() {
        let body = r#"{ "stream":true, "model" : "r", "messages":[ ] }"#;
        let sent = |host| spliced(host, body, &Params::default(), None).0;
        assert_eq!(sent(Host::Api), r#"{ "stream":true, "model" : "claude", "messages":[ ] }"#);
        assert_eq!(sent(Host::Vertex), r#"{ "stream":true, "messages":[ ],"anthropic_version":"v" }"#);
        assert_eq!(sent(Host::Bedrock), r#"{ "messages":[ ],"anthropic_version":"v","anthropic_beta":["x-1","y-2"] }"#);
    }

    #[test]
    fn the_routes_settings_have_this_protocols_words() {
        let list = |list: &[(&str, &str)]| list.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect();
        let params = Params {
            overrides: list(&[("stop", "\"END\""), ("max_completion_tokens", "9"), ("seed", "1")]),
            defaults: list(&[("temperature", "0.5"), ("top_p", "0.1"), ("stop", "\"x\""), ("max_tokens", "7")]),
            ..Params::default()
        };
        let body = r#"{"model":"r","max_tokens":5,"messages":[],"top_p":0.9}"#;
        let expected = r#"{"model":"claude","max_tokens":9,"messages":[],"top_p":0.9,"stop_sequences":["END"],"temperature":0.5}"#;
        assert_eq!(spliced(Host::Api, body, &params, None), (expected.to_owned(), vec!["seed".into()]));
    }

    #[test]
    fn the_routes_instructions_stand_before_the_clients_and_behind_the_attribution() {
        let sent = |system: &str| spliced(Host::Api, &format!(r#"{{{system}"messages":[]}}"#), &Params::default(), Some("Be brief.")).0;
        assert_eq!(sent(""), r#"{"messages":[],"model":"claude","system":"Be brief."}"#);
        assert!(sent(r#""system":"Kind","#).starts_with(r#"{"system":"Be brief.\n\nKind","#));
        let billing = r#"{"type":"text","text":"x-anthropic-billing-header: a"}"#;
        let own = r#"{"type":"text","text":"Be brief."}"#;
        let kind = r#"{"text":"Kind","type":"text","cache_control":{"type":"ephemeral"}}"#;
        assert!(sent(&format!(r#""system":[{billing}, {kind}],"#)).starts_with(&format!(r#"{{"system":[{billing},{own},{kind}],"#)));
    }

    #[test]
    fn what_was_sealed_for_another_provider_is_taken_out() {
        let sealed = r#"{"type":"thinking","thinking":"a","signature":"--tg1-x"}"#;
        let claudes = r#"{"type":"thinking","thinking":"b","signature":"EoQB"}"#;
        let text = r#"{"type":"text","text":"--tg1-"}"#;
        let message = |blocks: &[&str]| format!(r#"{{"role":"assistant", "content":[{}] }}"#, blocks.join(","));
        let (user, kept) = (r#"{"role":"user","content":"--tg1-"}"#, message(&[claudes, text]));
        let all = format!("[{user},{},{}]", message(&[sealed, claudes, text]), message(&[sealed]));
        assert_eq!(without_sealed(&all).unwrap().map(|json| String::from_utf8(json).unwrap()), Some(format!("[{user},{kept}]")));
        assert_eq!(without_sealed(&format!("[{user},{kept}]")).unwrap(), None);
    }
}
