//! A request of a client that speaks the Responses API, on its way to a provider that has it: its own bytes, but for the model,
//! members that speak to the gateway, what the route sets, and reasoning that this provider cannot read. The route's settings
//! are written in the words of chat completions.

use super::compose::ENCRYPTED;
use crate::dialect::openai::body::Body;
use crate::dialect::shared::params::Settled;
use crate::dialect::shared::sealed::{is_kind, is_sealed, without};
use crate::error::ApiError;
use crate::json::envelope::{self, ScanError};
use crate::json::slices::Slices;
use crate::json::splice::Splice;
use crate::json::text::Text;
use crate::json::utf8;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::envelope::is_gateways;
use crate::llm::field::Field;
use crate::llm::request::Path;
use crate::llm::responses::ResponsesRequest;
use crate::llm::state;
use bytes::Bytes;
use memchr::memmem;
use std::borrow::Cow;

const INPUT: &str = "input";
const INCLUDE: &str = "include";
const INSTRUCTIONS: &str = "instructions";
/// Members that a route's settings cannot change: the gateway itself decides them.
const FIXED: [&str; 4] = ["model", "messages", "stream", INPUT];
/// The type of items with a model's reasoning, and their member that is sealed.
const REASONING: (&str, &str) = ("reasoning", "encrypted_content");
/// The type of items by which a client adds tools to `tools`.
const ADDED_TOOLS: &str = "additional_tools";
/// Chat's fields that are members of members here, and that a provider may refuse.
const INNER_HINTS: [Field; 2] = [Field::ReasoningEffort, Field::Verbosity];

/// The body, and what of the route's settings it cannot hold.
///
/// # Errors
/// A 400 that names a setting that is lost, where the route says `unsupported: reject`, or instructions that are no text.
pub(super) fn body(request: &ResponsesRequest<'_>) -> Result<(Slices, Settled), ApiError> {
    let (parsed, params) = (request.base.parsed, request.base.params);
    let settled = Settled::new(params.reject_unsupported);
    let mut edits = Edits { request, body: Body::new(request.base), settled, inner: Vec::new() };
    edits.body.set_model();
    edits.leave_out()?;
    for (list, is_default) in [(&params.defaults, true), (&params.overrides, false)] {
        for (name, json) in list {
            // The newer spelling counts.
            let is_older = name == Field::MaxTokens.name() && list.iter().any(|(name, _)| name == Field::MaxCompletionTokens.name());
            if !is_older {
                edits.set(name, json, is_default)?;
            }
        }
    }
    edits.merge("reasoning")?;
    edits.merge("text")?;
    if let Some(system) = request.base.system {
        edits.instruct(system)?;
    }
    let input = parsed.raw_named(INPUT).unwrap_or_default();
    let replaces_tools = params.overrides.iter().any(|(name, _)| name == Field::Tools.name());
    if let Some(input) = without_unwanted(input, request.without_reasoning(), replaces_tools)? {
        edits.body.set(INPUT, input.into_bytes());
    }
    Ok((edits.body.finish(), edits.settled))
}

struct Edits<'a, 'r> {
    request: &'r ResponsesRequest<'a>,
    body: Body<'a>,
    settled: Settled,
    inner: Vec<Inner<'a>>,
}

/// A new member of a member.
struct Inner<'a> {
    object: &'static str,
    name: &'static str,
    /// `None` takes it out.
    value: Option<Cow<'a, [u8]>>,
    /// Whether it counts only where the object has no such member.
    is_default: bool,
}

/// Where one of chat's fields stands in this protocol.
pub(super) enum Place<'a> {
    Top(&'a str),
    Inner(&'static str, &'static str),
}

impl Place<'static> {
    /// `None` where the protocol has no counterpart.
    pub(super) const fn of(field: Field) -> Option<Self> {
        Some(match field {
            Field::MaxTokens | Field::MaxCompletionTokens => Self::Top("max_output_tokens"),
            Field::ReasoningEffort => Self::Inner("reasoning", "effort"),
            Field::Verbosity => Self::Inner("text", "verbosity"),
            Field::ResponseFormat => Self::Inner("text", "format"),
            Field::Temperature
            | Field::TopP
            | Field::TopLogprobs
            | Field::Tools
            | Field::ToolChoice
            | Field::ParallelToolCalls
            | Field::User
            | Field::Metadata
            | Field::Store
            | Field::ServiceTier
            | Field::PromptCacheKey
            | Field::PromptCacheRetention
            | Field::PromptCacheOptions
            | Field::SafetyIdentifier
            | Field::Moderation
            | Field::StreamOptions => Self::Top(field.name()),
            _ => return None,
        })
    }
}

impl<'a> Edits<'a, '_> {
    /// Takes out what speaks to the gateway, and what the target has refused.
    fn leave_out(&mut self) -> Result<(), ApiError> {
        let (parsed, refused) = (self.request.base.parsed, self.request.base.params.adjustments.without);
        for member in &parsed.envelope().members {
            let name = parsed.name_of(member);
            let is_refused = Field::of(name.as_bytes()).is_some_and(|field| refused.contains(field));
            if is_refused {
                self.settled.drop(name.clone().into_owned())?;
            }
            if is_refused || is_gateways(&name) {
                self.body.remove(name);
            }
        }
        if self.request.base.params.adjustments.plain_reasoning
            && let Some(include) = parsed.raw_named(INCLUDE).filter(|raw| raw.starts_with('['))
            && let Some(others) = without(include, |element| Ok(element == ENCRYPTED))?
        {
            self.settled.drop(INCLUDE)?;
            self.body.set(INCLUDE, others.into_bytes());
        }
        for field in INNER_HINTS.into_iter().filter(|field| refused.contains(*field)) {
            let Some(Place::Inner(object, name)) = Place::of(field) else { continue };
            if parsed.raw_named(object).is_some_and(|raw| has(raw, name)) {
                self.settled.drop(format!("{object}.{name}"))?;
                self.inner.push(Inner { object, name, value: None, is_default: false });
            }
        }
        Ok(())
    }

    /// Sets what the route's settings call `name`, in this protocol's words; a default only where the client is silent.
    fn set(&mut self, name: &'a str, json: &'a str, is_default: bool) -> Result<(), ApiError> {
        if FIXED.contains(&name) || is_gateways(name) {
            return Ok(());
        }
        let field = Field::of(name.as_bytes());
        let place = match field {
            Some(field) if self.request.base.params.adjustments.without.contains(field) => return self.settled.drop(name.to_owned()),
            Some(field) => Place::of(field),
            None => {
                self.set_top(name, json.as_bytes(), is_default);
                return Ok(());
            }
        };
        let value = match field {
            Some(Field::Tools | Field::ToolChoice | Field::ResponseFormat) => flat(json, field == Some(Field::Tools))?.into(),
            _ => Cow::Borrowed(json.as_bytes()),
        };
        match place {
            None if json == "null" => self.set_top(name, value, is_default),
            None => return self.settled.drop(name.to_owned()),
            Some(Place::Top(name)) => self.set_top(name, value, is_default),
            Some(Place::Inner(object, name)) => {
                let value = Some(value).filter(|_| json != "null");
                if value.is_some() || !is_default {
                    self.inner.push(Inner { object, name, value, is_default });
                }
            }
        }
        Ok(())
    }

    fn set_top(&mut self, name: &'a str, value: impl Into<Cow<'a, [u8]>>, is_default: bool) {
        let value = value.into();
        match &*value {
            _ if is_default && self.request.base.parsed.raw_named(name).is_some() => {}
            b"null" if is_default => {}
            b"null" => self.body.remove(name),
            _ => self.body.set(name, value),
        }
    }

    /// Puts what [`Self::inner`] has for an object into it. Its other members stay.
    fn merge(&mut self, object: &'static str) -> Result<(), ApiError> {
        let changes = self.inner.extract_if(.., |inner| inner.object == object).collect::<Vec<_>>();
        let old = self.body.value(object).unwrap_or(b"{}");
        if changes.is_empty() || !old.starts_with(b"{") {
            return Ok(()); // what is no object is the provider's to refuse
        }
        let old = Bytes::copy_from_slice(old);
        let json = utf8::text(&old)?;
        let scanned = envelope::scan(json)?;
        let mut last: Vec<Inner<'a>> = Vec::new();
        for change in changes {
            if change.is_default && has(json, change.name) {
                continue;
            }
            last.retain(|before| before.name != change.name);
            last.push(change);
        }
        let mut splice = Splice::new(&old, &scanned);
        for Inner { name, value, .. } in last {
            match (scanned.members.iter().find(|member| member.name(json).is(name)), value) {
                (Some(member), Some(value)) => splice.replace(member, value),
                (Some(member), None) => splice.remove(member),
                (None, Some(value)) => splice.insert(name, value),
                (None, None) => {}
            }
        }
        let new = splice.finish().joined();
        if new != old {
            self.body.set(object, new.to_vec());
        }
        Ok(())
    }

    /// Puts the route's instructions before the client's.
    fn instruct(&mut self, system: &str) -> Result<(), ApiError> {
        let old = self.body.value(INSTRUCTIONS).map(|json| std::str::from_utf8(json).unwrap_or_default());
        let mut w = Writer::with_capacity(old.map_or(0, str::len) + system.len() + 8);
        match old.map(walk::string) {
            None => w.string(system),
            Some(Some(text)) if text.is_empty() => w.string(system),
            Some(Some(text)) => w.texts(&[Text::Plain(system), Text::Plain("\n\n"), text]),
            Some(None) => return Err(Path::top(INSTRUCTIONS).must_be("a text")),
        };
        self.body.set(INSTRUCTIONS, w.finish());
        Ok(())
    }
}

/// Whether an object has a member of this name that is not null.
fn has(object: &str, name: &str) -> bool {
    walk::members(object).and_then(|members| members.find(name)).is_ok_and(|found| found.is_some_and(|value| value != "null"))
}

/// The items without the reasoning that the gateway sealed for another provider, or without `all` reasoning; and without those
/// that add tools where the route `replaces_tools`. `None` where there is none of them.
fn without_unwanted(input: &str, all: bool, replaces_tools: bool) -> Result<Option<String>, ApiError> {
    let (kind, member) = REASONING;
    let has = |kind: &str| memmem::find(input.as_bytes(), kind.as_bytes()).is_some();
    let may_reason = if all { has(kind) } else { state::may_be_in(input) };
    let may_add = replaces_tools && has(ADDED_TOOLS);
    if !(may_reason || may_add) || !input.starts_with('[') {
        return Ok(None);
    }
    without(input, |item| {
        let reasons = may_reason && if all { is_kind(item, kind)? } else { is_sealed(item, kind, member)? };
        Ok(reasons || (may_add && is_kind(item, ADDED_TOOLS)?))
    })
}

/// A value of a chat completion in this protocol's form: the members of the object named like its `type` stand beside the
/// type. `tools`: it is a list of tools, which chat completions do not take strictly by default.
fn flat(json: &str, tools: bool) -> Result<Vec<u8>, ScanError> {
    let mut w = Writer::with_capacity(json.len() + 16);
    flatten(json, tools, &mut w)?;
    Ok(w.finish())
}

fn flatten(json: &str, tools: bool, w: &mut Writer) -> Result<(), ScanError> {
    match json.as_bytes().first() {
        Some(b'[') => {
            let mut elements = walk::elements(json)?;
            w.array();
            while let Some(element) = elements.next()? {
                flatten(element, tools, w)?;
            }
            w.end_array();
        }
        Some(b'{') => {
            let mut own = walk::members(json)?.rest()?;
            let kind = own.iter().find(|(key, _)| key.is("type")).and_then(|(_, value)| walk::string(value));
            let kind = kind.map(Text::decode).unwrap_or_default();
            let inside = match own.iter().position(|(key, value)| key.is(&kind) && value.starts_with('{')) {
                Some(at) => walk::members(own.remove(at).1)?.rest()?,
                None => Vec::new(),
            };
            let is_lax = tools && kind == "function" && !inside.is_empty() && !inside.iter().any(|(key, _)| key.is("strict"));
            w.object();
            for (key, value) in own.into_iter().chain(inside) {
                w.key(&key.decode());
                if key.is("tools") || key.is("format") { flatten(value, false, w)? } else { _ = w.raw(value) }
            }
            if is_lax {
                w.key("strict").flag(false);
            }
            w.end_object();
        }
        _ => _ = w.raw(json),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::adjustments::Adjustments;
    use crate::llm::envelope::{ChatRequest, Parsed};
    use crate::llm::field::Fields;
    use crate::llm::settings::Params;
    use std::sync::Arc;

    const SHARED: Fields = Fields::of(&[Field::Model, Field::Stream, Field::Temperature, Field::ToolChoice, Field::EpisodeId]);

    fn params(overrides: &[(&str, &str)], defaults: &[(&str, &str)]) -> Params {
        let list = |list: &[(&str, &str)]| list.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect();
        Params { overrides: list(overrides), defaults: list(defaults), ..Params::default() }
    }

    fn spliced(body: &str, params: &Params, system: Option<&str>) -> Result<(String, Settled), ApiError> {
        let parsed = Parsed::scan_as(body.to_owned().into(), |field| SHARED.contains(field).then(|| field.shape())).unwrap();
        let base = ChatRequest { parsed: &parsed, params, system, model: "gpt", seal: None };
        let request = ResponsesRequest { base, functions: &Arc::default() };
        super::body(&request).map(|(body, settled)| (String::from_utf8(body.joined().to_vec()).unwrap(), settled))
    }

    /// The members beside the model and the input.
    fn sent(members: &str, overrides: &[(&str, &str)], defaults: &[(&str, &str)]) -> (String, Vec<Cow<'static, str>>) {
        let start = r#"{"model":"gpt","input":"Hi""#;
        let (body, settled) = spliced(&format!("{start}{members}}}"), &params(overrides, defaults), None).unwrap();
        let members = body.strip_prefix(start).and_then(|body| body.strip_suffix('}')).unwrap().to_owned();
        (members, settled.dropped)
    }

    #[test]
    fn what_is_not_the_gateways_keeps_its_bytes() {
        let body = r#"{ "m\u006fdel" : "r","tensorzero::episode_id":"e", "input":[ {"type":"reasoning" , "encrypted_content":"gAAA"} ],
            "temperature":1.50, "x": null,"store" :true ,"episode_id":"e","max_tokens":null }"#;
        let expected = r#"{ "m\u006fdel" : "gpt", "input":[ {"type":"reasoning" , "encrypted_content":"gAAA"} ],
            "temperature":1.50, "x": null,"store" :true,"max_tokens":null }"#;
        assert_eq!(spliced(body, &Params::default(), None).unwrap(), (expected.to_owned(), Settled::default()));
    }

    #[test]
    fn the_token_limit_is_the_one_of_the_highest_authority() {
        let limit = |client: &str, overrides: &[(&str, &str)], defaults: &[(&str, &str)]| sent(client, overrides, defaults).0;
        let (both, default) = ([("max_completion_tokens", "3"), ("max_tokens", "2")], [("max_tokens", "9")]);
        assert_eq!(limit(r#","max_output_tokens":5"#, &both, &default), r#","max_output_tokens":3"#);
        assert_eq!(limit(r#","max_output_tokens":5"#, &[], &default), r#","max_output_tokens":5"#);
        assert_eq!(limit(r#","max_output_tokens":null"#, &[], &default), r#","max_output_tokens":9"#);
        assert_eq!(limit("", &[], &both), r#","max_output_tokens":3"#);
        assert_eq!(limit(r#","max_output_tokens":5"#, &[("max_tokens", "null")], &default), "");
    }

    #[test]
    fn effort_verbosity_and_format_are_put_into_the_clients_objects() {
        let client = r#","reasoning":{ "summary":"auto", "effort" : "low" },"text":{"verbosity":"low"}"#;
        let format = r#"{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"object"},"strict":true}}"#;
        let flat = r#"{"type":"json_schema","name":"s","schema":{"type":"object"},"strict":true}"#;
        let all = [("reasoning_effort", "\"high\""), ("verbosity", "\"high\""), ("response_format", format)];
        let overridden = format!(r#","reasoning":{{ "summary":"auto", "effort" : "high" }},"text":{{"verbosity":"high","format":{flat}}}"#);
        assert_eq!(sent(client, &all, &[]), (overridden, vec![]));
        let completed = client.replace("\"low\"}", &format!("\"low\",\"format\":{flat}}}"));
        assert_eq!(sent(client, &[], &all), (completed, vec![]));
        let alone = format!(r#","reasoning":{{"effort":"high"}},"text":{{"verbosity":"high","format":{flat}}}"#);
        assert_eq!(sent("", &[], &all), (alone.clone(), vec![]));
        assert_eq!(sent(r#","reasoning":null"#, &all, &[]).0, alone);
        let off = [("reasoning_effort", "null"), ("response_format", "null")];
        assert_eq!(sent(client, &off, &all).0, r#","reasoning":{ "summary":"auto" },"text":{"verbosity":"low"}"#);
        // The route may also use this protocol's words.
        let own = [("reasoning", r#"{"effort":"minimal"}"#)];
        assert_eq!(sent(client, &own, &all[..1]).0, r#","reasoning":{"effort":"minimal"},"text":{"verbosity":"low"}"#);
    }

    #[test]
    fn a_null_override_removes_the_clients_member() {
        let client = r#","temperature":1,"store":true,"tool_choice":"auto","x":1,"top_p":0.5"#;
        let overrides = [("temperature", "null"), ("store", "null"), ("x", "null"), ("user", "null"), ("top_p", "0.1")];
        assert_eq!(sent(client, &overrides, &[("temperature", "2")]).0, r#","tool_choice":"auto","top_p":0.1"#);
        assert_eq!(sent(client, &[], &[("temperature", "null"), ("user", "null")]).0, client);
        assert_eq!(sent(r#","stop":1"#, &[("stop", "null"), ("seed", "null")], &[]), (String::new(), vec![]));
    }

    #[test]
    fn fields_that_the_protocol_has_not_are_dropped_and_unknown_ones_pass() {
        let settings = [("stop", "\"x\""), ("seed", "1"), ("logprobs", "true"), ("truncation", "\"auto\""), ("n", "2"), ("input", "\"x\"")];
        let dropped = ["stop", "seed", "logprobs", "n"].map(Cow::Borrowed).to_vec();
        assert_eq!(sent("", &settings, &[]), (r#","truncation":"auto""#.to_owned(), dropped));
        let strict = Params { reject_unsupported: true, ..params(&settings, &[]) };
        assert_eq!(spliced(r#"{"input":"x"}"#, &strict, None).unwrap_err().param.as_deref(), Some("stop"));
    }

    #[test]
    fn tools_have_this_protocols_flat_form() {
        let tools = r#"[{"type":"function","function":{"name":"f","parameters":{"type":"function","function":{}}}},{"type":"web_search"},
            {"type":"function","name":"g"},{"type":"custom","custom":{"name":"c","format":{"type":"grammar","grammar":{"syntax":"lark"}}}}]"#;
        let flat = concat!(
            r#","tools":[{"type":"function","name":"f","parameters":{"type":"function","function":{}},"strict":false},{"type":"web_search"},"#,
            r#"{"type":"function","name":"g"},{"type":"custom","name":"c","format":{"type":"grammar","syntax":"lark"}}]"#
        );
        assert_eq!(sent("", &[("tools", tools)], &[]).0, flat);
        let choice = |json: &str| sent("", &[], &[("tool_choice", json)]).0;
        assert_eq!(choice("\"required\""), r#","tool_choice":"required""#);
        assert_eq!(choice(r#"{"type":"function","function":{"name":"f"}}"#), r#","tool_choice":{"type":"function","name":"f"}"#);
        let allowed = r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}}]}}"#;
        assert_eq!(choice(allowed), r#","tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}"#);
    }

    #[test]
    fn tools_of_the_routes_replace_those_that_items_add() {
        let (adds, text) =
            (r#"{"type":"additional_tools","role":"developer","tools":[{"type":"web_search"}]}"#, r#"{"role":"user","content":"x"}"#);
        let body = format!(r#"{{"model":"gpt","input":[{adds},{text}]}}"#);
        let tools = [("tools", r#"[{"type":"web_search"}]"#)];
        let replaced = format!(r#"{{"model":"gpt","input":[{text}],"tools":[{{"type":"web_search"}}]}}"#);
        assert_eq!(spliced(&body, &params(&tools, &[]), None).unwrap().0, replaced);
        assert_eq!(spliced(&body, &Params::default(), None).unwrap().0, body);
    }

    #[test]
    fn what_the_target_has_refused_is_left_out_and_named() {
        let adjustments = Adjustments::without(Fields::of(&[Field::Temperature, Field::User, Field::Verbosity, Field::Store]));
        let params = Params { adjustments, ..params(&[("user", "\"u\"")], &[("verbosity", "\"low\"")]) };
        let body = r#"{"model":"gpt","temperature":1,"text":{"verbosity":"high","x":1}}"#;
        let (sent, settled) = spliced(body, &params, None).unwrap();
        assert_eq!(sent, r#"{"model":"gpt","text":{"x":1}}"#);
        assert_eq!(settled.dropped, ["temperature", "text.verbosity", "verbosity", "user"]);
    }

    #[test]
    fn encrypted_reasoning_is_not_asked_of_a_model_that_has_none() {
        let params = Params { adjustments: Adjustments { plain_reasoning: true, ..Adjustments::default() }, ..Params::default() };
        let body = r#"{"model":"gpt","include":["x","reasoning.encrypted_content"]}"#;
        let (sent, settled) = spliced(body, &params, None).unwrap();
        assert_eq!((&*sent, settled.dropped), (r#"{"model":"gpt","include":["x"]}"#, vec![Cow::Borrowed("include")]));
        assert_eq!(spliced(r#"{"model":"gpt","include":["x"]}"#, &params, None).unwrap().1.dropped, Vec::<&str>::new());
    }

    #[test]
    fn the_routes_instructions_stand_before_the_clients() {
        let sent = |client: &str| spliced(&format!(r#"{{"model":"gpt"{client}}}"#), &Params::default(), Some("Be \"brief\"."));
        let alone = r#"{"model":"gpt","instructions":"Be \"brief\"."}"#;
        for client in ["", r#","instructions":null"#, r#","instructions":"""#] {
            assert_eq!(sent(client).unwrap().0, alone, "{client}");
        }
        assert_eq!(sent(r#","instructions":"\u004b\n""#).unwrap().0, r#"{"model":"gpt","instructions":"Be \"brief\".\n\n\u004b\n"}"#);
        assert_eq!(sent(r#","instructions":[]"#).unwrap_err().param.as_deref(), Some("instructions"));
    }

    #[test]
    fn reasoning_that_the_provider_cannot_read_is_taken_out() {
        let sealed = r#"{"encrypted_content":"--tg1-x","type":"reasoning","summary":[]}"#;
        let own = r#"{ "type" : "reasoning","encrypted_content":"gAAA--tg1-" }"#;
        let text = r#"{"role":"user","content":"--tg1- reasoning"}"#;
        let other = r#"{"type":"compaction","encrypted_content":"--tg1-x"}"#;
        let input = format!("[ {sealed} , {own} ,\n {text}, {other}, {sealed} ]");
        assert_eq!(without_unwanted(&input, false, true).unwrap(), Some(format!("[ {own} ,\n {text}, {other} ]")));
        assert_eq!(without_unwanted(&input, true, false).unwrap(), Some(format!("[ {text}, {other} ]")));
        assert_eq!(without_unwanted(&format!("[{own},{text}]"), false, true).unwrap(), None);
        assert_eq!(without_unwanted(r#""--tg1- reasoning additional_tools""#, true, true).unwrap(), None);
        let body = format!(r#"{{"model":"gpt","input":[{sealed},{text}] }}"#);
        let sent = spliced(&body, &Params::default(), None).unwrap().0;
        assert_eq!(sent, format!(r#"{{"model":"gpt","input":[{text}] }}"#));
    }
}
