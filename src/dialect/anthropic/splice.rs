//! A request of a client that speaks the Messages API, on its way to a Claude: its own bytes, but for what the host wants
//! elsewhere and what the route sets. Signatures of thinking are bound to everything before them, so that no other byte may
//! change. The answer passes as it comes, and is only read for what the gateway has to know of it.

use super::encode::{self, opaque};
use super::{Host, Seat};
use crate::dialect::shared::claude::{Model, Sampling, Thought};
use crate::dialect::shared::params::{Settled, temperature};
use crate::dialect::shared::sealed::{is_sealed, without};
use crate::error::ApiError;
use crate::json::slices::Slices;
use crate::json::splice::{Element, Splice, elements};
use crate::json::text::Text;
use crate::json::walk::{self, Cursor};
use crate::json::write::{Writer, quoted};
use crate::llm::field::Field;
use crate::llm::messages::MessagesRequest;
use crate::llm::request::{Authority, Effort};
use crate::llm::state;
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
pub(super) fn body(request: &MessagesRequest<'_>, seat: &Seat<'_>, counting: bool) -> Result<(Slices, Settled), ApiError> {
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
        edits.settings(seat, &mut settled)?;
    }
    if let Some(system) = base.system {
        edits.instruct(system)?;
    }
    if let Some(messages) = without_sealed(base.parsed.raw(Field::Messages).unwrap_or_default())? {
        edits.set("messages", messages.into_bytes());
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

    /// Applies the route's settings in this protocol's words: overrides, and defaults where the client is silent.
    fn settings(&mut self, seat: &Seat<'_>, settled: &mut Settled) -> Result<(), ApiError> {
        let params = self.base.base.params;
        let overrides = params.overrides.iter().map(|setting| (setting, true));
        for ((name, json), overrides) in overrides.chain(params.defaults.iter().map(|setting| (setting, false))) {
            let field = Field::of(name.as_bytes());
            if let Some(field) = field.filter(|field| params.adjustments.without.contains(*field)) {
                settled.drop(field.name())?;
                continue;
            }
            match field {
                Some(Field::Temperature | Field::TopP | Field::ReasoningEffort) => {} // below
                None => self.setting(name, json, overrides),
                Some(Field::MaxTokens | Field::MaxCompletionTokens) if json == "null" => {
                    self.setting("max_tokens", seat.default_max_tokens.to_string(), overrides); // the API demands it
                }
                Some(Field::MaxTokens | Field::MaxCompletionTokens) => self.setting("max_tokens", json.as_str(), overrides),
                Some(Field::Stop) if json.starts_with('"') => self.setting("stop_sequences", format!("[{json}]"), overrides),
                Some(Field::Stop) => self.setting("stop_sequences", json.as_str(), overrides),
                Some(Field::User) => self.user(json, overrides)?,
                Some(field) if json == "null" => self.setting(field.name(), json.as_str(), overrides),
                Some(field) => settled.drop(field.name())?,
            }
        }
        let is_silenced = self.effort(settled)?;
        self.sampling(seat, is_silenced, settled)
    }

    /// Sets a member, or removes it where the override is null; the first setting of a name counts.
    fn setting(&mut self, name: &str, json: impl Into<Cow<'a, str>>, overrides: bool) {
        let applies = overrides || self.base.base.parsed.raw_named(name).is_none();
        if !applies || self.set.iter().any(|known| known == name) {
            return;
        }
        self.set.push(name.to_owned());
        match json.into() {
            json if json == "null" => self.remove(name),
            Cow::Borrowed(json) => self.set(name, json.as_bytes()),
            Cow::Owned(json) => self.set(name, json.into_bytes()),
        }
    }

    /// Sets `metadata.user_id` and leaves the client's other metadata.
    fn user(&mut self, json: &str, overrides: bool) -> Result<(), ApiError> {
        let metadata = self.base.base.parsed.raw_named("metadata");
        let applies = overrides || member(metadata, "user_id")?.is_none();
        if applies && !self.set.iter().any(|known| known == "metadata") {
            self.set.push("metadata".to_owned());
            let user = walk::string(json).map(|user| quoted(&opaque(&user.decode())));
            self.set_inner("metadata", "user_id", user.as_deref())?;
        }
        Ok(())
    }

    /// Sets `output_config.effort`, or turns thinking off. The client's `thinking` is a word on effort too, unless it leaves it
    /// to the model. Returns whether the route has turned thinking off.
    fn effort(&mut self, settled: &mut Settled) -> Result<bool, ApiError> {
        let (base, field) = (&self.base.base, Field::ReasoningEffort);
        let overrides = base.authority(field) == Authority::Override;
        let is_set = |name: &str| self.set.iter().any(|known| known == name);
        if base.params.adjustments.without.contains(field) || is_set("output_config") || is_set("thinking") {
            return Ok(false);
        }
        let word = base.raw(field).and_then(walk::string);
        if !overrides {
            let Some(word) = word else { return Ok(false) };
            let is_open = match kind(base.parsed.raw_named("thinking"))? {
                None => true,
                Some(kind) => kind == "adaptive" && word.decode() != Effort::None.name(),
            };
            if !is_open || member(base.parsed.raw_named("output_config"), "effort")?.is_some() {
                return Ok(false);
            }
        }
        let effort = word.map(|word| Effort::of(word, || field.name().into())).transpose()?; // none where it is null
        let model = Model::of(base.model);
        let thought = effort.map(|effort| Thought::beside(effort, model, settled)).transpose()?.unwrap_or_default();
        let is_silenced = matches!(effort, None | Some(Effort::None)) && thought.effort().is_none();
        if let Some(word) = thought.effort() {
            self.set_inner("output_config", "effort", Some(&quoted(word)))?;
        } else if is_silenced {
            self.set_inner("output_config", "effort", None)?;
        }
        match thought.off() {
            Some(word) => self.set("thinking", format!("{{\"type\":\"{word}\"}}").into_bytes()),
            None if is_silenced => self.remove("thinking"),
            None => {}
        }
        Ok(is_silenced)
    }

    /// Sets `temperature` and `top_p`. Claude accepts one of them, and neither beside thinking or from a generation on: what
    /// an override loses is named, a default yields to the client.
    fn sampling(&mut self, seat: &Seat<'_>, is_silenced: bool, settled: &mut Settled) -> Result<(), ApiError> {
        let base = &self.base.base;
        let thinks = !is_silenced && kind(base.raw_named("thinking"))?.is_some_and(|kind| matches!(&*kind, "enabled" | "adaptive"));
        let version = self.base.headers.version.as_deref().unwrap_or(seat.version);
        let sampling = encode::sampling(Model::of(base.model), thinks, seat.host, version);
        for (field, rival) in [(Field::Temperature, Field::TopP), (Field::TopP, Field::Temperature)] {
            let authority = base.authority(field);
            let raw = match base.raw(field) {
                _ if authority == Authority::Client || base.params.adjustments.without.contains(field) => continue,
                Some(raw) => raw,
                None if authority == Authority::Override => {
                    self.remove(field.name());
                    continue;
                }
                None => continue,
            };
            let rivals = base.raw(rival).map(|_| base.authority(rival));
            match (authority, rivals) {
                // 1 is the default of both.
                (Authority::Override, _) if sampling == Sampling::Fixed && raw.parse() == Ok(1.0_f64) => self.remove(field.name()),
                (Authority::Override, _) if sampling == Sampling::Fixed => settled.drop(field.name())?,
                _ if sampling == Sampling::Fixed => {}
                (_, Some(rivals)) if rivals > authority => {}
                (_, Some(rivals)) if rivals == authority && field == Field::TopP => {
                    settled.drop(field.name())?;
                    self.remove(field.name());
                }
                (_, rivals) => {
                    if rivals == Some(Authority::Client) {
                        settled.drop(rival.name())?;
                        self.remove(rival.name());
                    }
                    let raw = if field == Field::Temperature { temperature(raw, field.name(), "1", settled)? } else { raw };
                    self.set(field.name(), raw.as_bytes());
                }
            }
        }
        Ok(())
    }

    /// Sets a member of the client's object `name` and leaves the others; `None` removes it, and an object that is empty then.
    fn set_inner(&mut self, name: &str, inner: &str, value: Option<&[u8]>) -> Result<(), ApiError> {
        let object = self.base.base.parsed.raw_named(name).filter(|raw| raw.starts_with('{'));
        if value.is_none() && member(object, inner)?.is_none() {
            return Ok(());
        }
        let object = object.unwrap_or("{}");
        let mut w = Writer::with_capacity(object.len() + 64);
        w.object();
        let (mut members, mut is_empty) = (walk::inner_members(object)?, value.is_none());
        while let Some((key, raw)) = members.next()? {
            if !key.is(inner) {
                w.key(&key.decode()).raw(raw);
                is_empty = false;
            }
        }
        if let Some(value) = value {
            w.key(inner).raw(&String::from_utf8_lossy(value));
        }
        w.end_object();
        if is_empty {
            self.remove(name);
        } else {
            self.set(name, w.finish());
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

/// The raw value of a member of an object; `None` where it is absent or null.
fn member<'a>(object: Option<&'a str>, name: &str) -> Result<Option<&'a str>, ApiError> {
    let Some(object) = object.filter(|raw| raw.starts_with('{')) else { return Ok(None) };
    Ok(walk::member(object, name)?.filter(|raw| *raw != "null"))
}

/// The `type` of an object.
fn kind(object: Option<&str>) -> Result<Option<Cow<'_, str>>, ApiError> {
    Ok(member(object, "type")?.and_then(walk::string).map(Text::decode))
}

fn write_text(text: Option<&str>, w: &mut Writer) {
    if let Some(text) = text {
        w.object().key("type").string("text").key("text").string(text).end_object();
    }
}

/// The messages without the thinking that the gateway sealed for another provider; `None` where there is none. A message that
/// had nothing else is left out.
fn without_sealed(messages: &str) -> Result<Option<String>, ApiError> {
    if !state::may_be_in(messages) {
        return Ok(None);
    }
    elements(messages, |message| {
        let Some((at, content)) = content_of(message)? else { return Ok(Element::Kept) };
        let Some(kept) = without(content, |block| is_sealed(block, "thinking", "signature"))? else { return Ok(Element::Kept) };
        if walk::inner_elements(&kept)?.next()?.is_none() {
            return Ok(Element::Removed);
        }
        let (before, after) = (message.get(..at).unwrap_or_default(), message.get(at + content.len()..).unwrap_or_default());
        Ok(Element::Replaced([before, &kept, after].concat()))
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::shared::claude::StructuredOutput;
    use crate::llm::adjustments::Adjustments;
    use crate::llm::envelope::{ChatRequest, Parsed};
    use crate::llm::field::Fields;
    use crate::llm::messages::Headers;
    use crate::llm::settings::Params;

    fn spliced(host: Host, body: &str, params: &Params, system: Option<&str>) -> (String, Vec<Cow<'static, str>>) {
        spliced_for("claude", host, body, params, system)
    }

    fn spliced_for(model: &str, host: Host, body: &str, params: &Params, system: Option<&str>) -> (String, Vec<Cow<'static, str>>) {
        let parsed = Parsed::scan_as(body.to_owned().into(), |field| {
            matches!(field, Field::Messages | Field::Temperature | Field::TopP).then(|| field.shape())
        })
        .unwrap();
        let headers = Headers { version: Some("2023-06-01".into()), beta: "x-1, y-2".into() };
        let base = ChatRequest { parsed: &parsed, params, system, model, seal: None };
        let seat = Seat { host, version: "v", beta: &[], default_max_tokens: 1, structured_output: StructuredOutput::Native };
        let (body, settled) = super::body(&MessagesRequest { base, headers: &headers }, &seat, false).unwrap();
        (String::from_utf8(body.joined().to_vec()).unwrap(), settled.dropped)
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
        let params = Params {
            overrides: list(&[("stop", "\"END\""), ("max_completion_tokens", "9"), ("seed", "1")]),
            defaults: list(&[("temperature", "0.5"), ("top_p", "0.1"), ("stop", "\"x\""), ("max_tokens", "7")]),
            ..Params::default()
        };
        let body = r#"{"model":"r","max_tokens":5,"messages":[],"top_p":0.9}"#;
        let expected = r#"{"model":"claude","max_tokens":9,"messages":[],"top_p":0.9,"stop_sequences":["END"]}"#;
        assert_eq!(spliced(Host::Api, body, &params, None), (expected.to_owned(), vec!["seed".into()]));
    }

    fn list(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect()
    }

    /// The members after `messages` under these overrides and defaults, and the dropped fields.
    fn under(model: &str, overrides: &[(&str, &str)], defaults: &[(&str, &str)], members: &str) -> (String, Vec<String>) {
        let params = Params { overrides: list(overrides), defaults: list(defaults), ..Params::default() };
        let (body, dropped) = spliced_for(model, Host::Api, &format!(r#"{{"model":"r","messages":[]{members}}}"#), &params, None);
        let members = body.strip_prefix(&format!(r#"{{"model":"{model}","messages":[]"#)).unwrap().strip_suffix('}').unwrap();
        (members.to_owned(), dropped.into_iter().map(Cow::into_owned).collect())
    }

    fn ok(members: &str) -> (String, Vec<String>) {
        (members.to_owned(), Vec::new())
    }

    #[test]
    fn an_effort_is_merged_in_the_models_word() {
        let format = r#","output_config":{"format":{"type":"json_schema"},"effort":"max"}"#;
        let low = [("reasoning_effort", r#""minimal""#)];
        let merged = r#","output_config":{"format":{"type":"json_schema"},"effort":"low"}"#;
        assert_eq!(under("claude-opus-4-7", &low, &[], format), ok(merged));
        assert_eq!(under("claude-opus-4-7", &[], &low, format), ok(format));
        assert_eq!(under("claude-opus-4-7", &[], &low, ""), ok(r#","output_config":{"effort":"low"}"#));
        assert_eq!(under("claude-opus-4-6", &[("reasoning_effort", r#""xhigh""#)], &[], ""), ok(r#","output_config":{"effort":"high"}"#));
        assert_eq!(under("claude-sonnet-4-5", &low, &[], format), (format.to_owned(), vec!["reasoning_effort".to_owned()]));
        // The client's thinking is a word on effort, unless it leaves it to the model.
        let enabled = r#","thinking":{"type":"enabled","budget_tokens":2048}"#;
        assert_eq!(under("claude-opus-4-6", &[], &low, enabled), ok(enabled));
        let adaptive = r#","thinking":{"type":"adaptive"}"#;
        assert_eq!(under("claude-opus-4-6", &[], &low, adaptive), ok(&format!(r#"{adaptive},"output_config":{{"effort":"low"}}"#)));
    }

    #[test]
    fn no_effort_turns_thinking_off_as_the_model_has_it() {
        let none = [("reasoning_effort", r#""none""#)];
        let clients = r#","thinking":{"type":"adaptive"},"output_config":{"effort":"max"}"#;
        assert_eq!(under("claude-opus-4-6", &none, &[], clients), ok(""));
        assert_eq!(under("claude-opus-5", &none, &[], clients), ok(r#","thinking":{"type":"disabled"}"#));
        assert_eq!(under("claude-sonnet-5-5", &none, &[], ""), ok(r#","thinking":{"type":"between_tools"}"#));
        assert_eq!(under("claude-opus-5-5", &none, &[], ""), ok(r#","output_config":{"effort":"low"}"#));
        assert_eq!(under("claude-opus-5", &[], &none, clients), ok(clients));
        assert_eq!(under("claude-opus-5", &[], &none, ""), ok(r#","thinking":{"type":"disabled"}"#));
    }

    #[test]
    fn sampling_that_the_model_refuses_is_not_set() {
        let (heat, mass) = ([("temperature", "0.5")], [("top_p", "0.9")]);
        let dropped = |members: &str, name: &str| (members.to_owned(), vec![name.to_owned()]);
        assert_eq!(under("claude-opus-4-6", &heat, &[], ""), ok(r#","temperature":0.5"#));
        assert_eq!(under("claude-opus-4-7", &heat, &[], ""), dropped("", "temperature"));
        assert_eq!(under("claude-opus-4-7", &[], &heat, ""), ok(""));
        assert_eq!(under("claude-opus-4-7", &[("temperature", "1")], &[], r#","temperature":0.5"#), ok(""));
        let thinking = r#","thinking":{"type":"enabled","budget_tokens":2048}"#;
        assert_eq!(under("claude-opus-4-5", &mass, &[], thinking), dropped(thinking, "top_p"));
        assert_eq!(under("claude-opus-4-5", &[], &mass, thinking), ok(thinking));
        // Both together are refused as well.
        assert_eq!(under("claude-opus-4-5", &heat, &[], r#","top_p":0.1"#), dropped(r#","temperature":0.5"#, "top_p"));
        assert_eq!(under("claude-opus-4-5", &[], &heat, r#","top_p":0.1"#), ok(r#","top_p":0.1"#));
        assert_eq!(under("claude-opus-4-5", &mass, &heat, ""), ok(r#","top_p":0.9"#));
        let both = [heat[0], mass[0]];
        assert_eq!(under("claude-opus-4-5", &both, &[], r#","top_p":0.1"#), dropped(r#","temperature":0.5"#, "top_p"));
        let clients = r#","temperature":1.5,"top_p":0.1"#;
        assert_eq!(under("claude-opus-4-5", &[], &both, clients), ok(clients));
    }

    #[test]
    fn a_null_override_removes_the_member() {
        let clients = r#","stop_sequences":["a"],"temperature":0.5,"top_k":4,"metadata":{"user_id":"u"},"thinking":{"type":"adaptive"},"output_config":{"effort":"low"}"#;
        let names = ["stop", "temperature", "top_k", "user", "reasoning_effort", "seed"];
        let overrides: Vec<_> = names.iter().map(|name| (*name, "null")).collect();
        assert_eq!(under("claude-opus-4-6", &overrides, &[("stop", r#""x""#)], clients), ok(""));
        assert_eq!(under("claude-opus-4-6", &[("max_tokens", "null")], &[], r#","max_tokens":5"#), ok(r#","max_tokens":1"#));
    }

    #[test]
    fn a_user_is_merged_into_the_clients_metadata() {
        let user = [("user", r#""team""#)];
        assert_eq!(under("claude", &user, &[], r#","metadata":{"a":1,"user_id":"u"}"#), ok(r#","metadata":{"a":1,"user_id":"team"}"#));
        assert_eq!(under("claude", &[], &user, r#","metadata":{"a":1}"#), ok(r#","metadata":{"a":1,"user_id":"team"}"#));
        assert_eq!(under("claude", &[], &user, r#","metadata":{"user_id":"u"}"#), ok(r#","metadata":{"user_id":"u"}"#));
        let address = under("claude", &[("user", r#""a@example.com""#)], &[], "").0;
        assert!(!address.contains('@') && address.starts_with(r#","metadata":{"user_id":""#), "{address}");
    }

    #[test]
    fn a_setting_that_the_target_has_refused_is_not_made_again() {
        let adjustments = Adjustments::without(Fields::of(&[Field::Stop, Field::Temperature, Field::ReasoningEffort]));
        let overrides = list(&[("stop", r#""x""#), ("temperature", "0.5"), ("reasoning_effort", r#""low""#)]);
        let (body, dropped) = spliced(Host::Api, r#"{"messages":[]}"#, &Params { overrides, adjustments, ..Params::default() }, None);
        assert_eq!((&*body, dropped.len()), (r#"{"messages":[],"model":"claude"}"#, 3));
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
        assert_eq!(without_sealed(&all).unwrap(), Some(format!("[{user},{kept}]")));
        assert_eq!(without_sealed(&format!("[{user},{kept}]")).unwrap(), None);
    }
}
