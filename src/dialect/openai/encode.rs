//! The request of one attempt: the client's bytes with only what must change.

use super::body::Body;
use super::decode::Decoder;
use super::quirks::{self, Choice, ForcedTools, MaxTokens, Quirks, ReasoningField};
use super::{cache_marks, compose, constraint, instructions, messages, nulls};
use crate::dialect::shared::params::{self, Policy, Settled, Unknown};
use crate::dialect::shared::rewrite::Rewrite;
use crate::dialect::shared::think::SplitThink;
use crate::dialect::shared::toolbox;
use crate::dialect::shared::unwrap::Unwrap;
use crate::dialect::{self, Outgoing};
use crate::error::ApiError;
use crate::hex;
use crate::json::envelope::ScanError;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::request::{Ask, Tool, ToolChoice};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::HashSet;

/// Members that a route's settings cannot change: the gateway itself decides them.
const FIXED: [Field; 3] = [Field::Model, Field::Messages, Field::Stream];

/// Writes a request to a provider that differs from OpenAI by these quirks.
///
/// # Errors
/// A 400 that names the field that the provider cannot keep.
pub fn encode(ask: &dyn Ask, request: &ChatRequest<'_>, quirks: &Quirks, split_think_tags: bool) -> Result<Outgoing, ApiError> {
    let mut draft = Draft::new(request, quirks)?;
    // A think text that was split off the content goes back into it.
    let field = if split_think_tags { ReasoningField::Content } else { quirks.reasoning_field };
    if let Some(json) = messages::rewrite(request, quirks, field, &mut draft.settled)? {
        draft.body.set(Field::Messages, json);
    }
    tools(ask, request, quirks, &mut draft.body)?;
    if quirks.unique_tools {
        draft.unique_tools(request)?;
    }
    constraint::tool_schemas(request, quirks, &mut draft)?;
    let unwrap = draft.constraint(request, quirks)?;
    if !quirks.cache_marks || request.params.adjustments.without_cache_marks {
        for field in [Field::Messages, Field::Tools] {
            let list = draft.body.value(field).unwrap_or_default();
            if let Some(json) = cache_marks::left_out(list).map_err(|e| messages::bad(field.name(), e))? {
                draft.body.set(field, json);
            }
        }
    }
    if request.params.adjustments.system_first {
        let joined = {
            let messages = draft.body.value(Field::Messages).and_then(|json| std::str::from_utf8(json).ok()).unwrap_or("[]");
            instructions::first(messages, request.system).map_err(|e| messages::bad("messages", e))?
        };
        draft.body.set(Field::Messages, joined);
    } else if let Some(system) = request.system {
        let mut w = Writer::with_capacity(system.len() + 40);
        w.object().key("role").string("system").key("content").string(system).end_object();
        draft.body.prepend_message(w.finish());
    }
    Ok(draft.finish(request, quirks, split_think_tags, unwrap))
}

/// A request in the making: the parts that a dialect close to OpenAI's can share.
pub struct Draft<'a> {
    /// The body.
    pub body: Body<'a>,
    /// What became of its parameters.
    pub settled: Settled,
}

impl<'a> Draft<'a> {
    /// Settles the parameters and says all of them as the quirks want them; messages, tools and constraints are left.
    ///
    /// # Errors
    /// A 400 that names the field that the provider cannot keep.
    pub fn new(request: &ChatRequest<'a>, quirks: &'a Quirks) -> Result<Self, ApiError> {
        let settled = params::settle_chat(request, quirks.unknown, |field| quirks.policy(field))?;
        let mut draft = Self { body: Body::new(*request), settled };
        draft.choose_members(quirks);
        draft.body.set_model();
        draft.limits(request, quirks)?;
        draft.logprobs(request, quirks)?;
        draft.effort(request, quirks)?;
        draft.user(request, quirks);
        draft.stream_options(request, quirks)?;
        if quirks.stop_list
            && let Some(stop) = request.raw(Field::Stop).filter(|raw| raw.starts_with('"'))
        {
            draft.body.set(Field::Stop, format!("[{stop}]").into_bytes());
        }
        for (field, name) in &quirks.rename {
            if request.raw(*field).is_some()
                && let Some(value) = draft.body.value(*field).map(<[u8]>::to_vec)
            {
                draft.body.remove(*field);
                draft.body.set(name.as_str(), value);
            }
        }
        Ok(draft)
    }

    /// Which of the client's members stay, and what the route's settings add.
    fn choose_members(&mut self, quirks: &Quirks) {
        let closed = quirks.unknown == Unknown::Drop;
        let sent = |field: Option<Field>, _: &str| field.map_or(!closed, |field| quirks.policy(field) == Policy::Mapped);
        self.body.choose(closed, &FIXED.map(Field::name), sent);
    }

    fn limits(&mut self, request: &ChatRequest<'a>, quirks: &'a Quirks) -> Result<(), ApiError> {
        if let Some(max) = &quirks.temperature_max
            && let Some(raw) = request.raw(Field::Temperature)
        {
            let value = params::temperature(raw, Field::Temperature.name(), max, &mut self.settled)?;
            self.body.set(Field::Temperature, value.as_bytes());
        }
        let spellings = [Field::MaxTokens, Field::MaxCompletionTokens];
        let routes = request.params.overrides.iter().chain(&request.params.defaults);
        let Some((field, value)) = request.max_tokens() else { return Ok(()) };
        let field = match quirks.max_tokens {
            _ if let Some(field) = request.params.adjustments.max_tokens_as => field,
            MaxTokens::MaxTokens => Field::MaxTokens,
            MaxTokens::MaxCompletionTokens => Field::MaxCompletionTokens,
            // A route's setting and the client's must not contradict each other in two spellings.
            MaxTokens::AsItCame if routes.map(|(name, _)| name).any(|name| spellings.iter().any(|field| field.name() == name)) => field,
            MaxTokens::AsItCame => return Ok(()),
        };
        spellings.iter().for_each(|field| self.body.remove(*field));
        self.body.set(field, value.as_bytes());
        Ok(())
    }

    fn logprobs(&mut self, request: &ChatRequest<'a>, quirks: &Quirks) -> Result<(), ApiError> {
        let mut top = request.asked(Field::TopLogprobs).map(Cow::Borrowed);
        if let (Some(raw), Some(max)) = (&top, quirks.top_logprobs_max)
            && raw.parse::<u64>().is_ok_and(|n| n > max)
        {
            self.settled.adjust(Field::TopLogprobs.name(), &format!("its provider gives at most {max}"))?;
            top = Some(Cow::Owned(max.to_string()));
        }
        let number = |text: Cow<'a, str>| match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        if quirks.logprobs_number {
            self.body.remove(Field::TopLogprobs);
            match request.asked(Field::Logprobs) {
                Some(_) => self.body.set(Field::Logprobs, number(top.unwrap_or(Cow::Borrowed("1")))),
                None => self.body.remove(Field::Logprobs),
            }
        } else if let Some(top) = top
            && quirks.policy(Field::TopLogprobs) == Policy::Mapped
        {
            self.body.set(Field::TopLogprobs, number(top));
        }
        Ok(())
    }

    /// Leaves out tools whose name another one has, unless the tools are narrowed already: those have each name once.
    fn unique_tools(&mut self, request: &ChatRequest<'_>) -> Result<(), ApiError> {
        fn name(tool: &str) -> Option<Cow<'_, str>> {
            let function = walk::member(tool, "function").ok()??;
            Some(walk::string(walk::member(function, "name").ok()??)?.decode())
        }
        let Some(raw) = request.raw(Field::Tools) else { return Ok(()) };
        let list: Vec<&RawValue> = request.get(Field::Tools)?.unwrap_or_default();
        let mut names = HashSet::with_capacity(list.len());
        let kept: Vec<&str> = list.iter().map(|tool| tool.get()).filter(|tool| name(tool).is_none_or(|name| names.insert(name))).collect();
        if kept.len() == list.len() {
            return Ok(());
        }
        self.settled.adjust(Field::Tools.name(), toolbox::ONE_OF_A_NAME)?;
        if self.body.value(Field::Tools) == Some(raw.as_bytes()) {
            self.body.set(Field::Tools, format!("[{}]", kept.join(",")).into_bytes());
        }
        Ok(())
    }

    /// Writes the reasoning effort in the provider's words.
    fn effort(&mut self, request: &ChatRequest<'a>, quirks: &'a Quirks) -> Result<(), ApiError> {
        let field = Field::ReasoningEffort;
        if request.params.adjustments.tools_without_reasoning && request.asked(Field::Tools).is_some() {
            if request.raw(field).is_some_and(|raw| raw != "\"none\"") {
                self.settled.adjust(field.name(), "its provider takes no tools beside reasoning in chat completions")?;
            }
            self.body.set(field, b"\"none\"".as_slice());
            return Ok(());
        }
        let asked = if quirks.efforts.is_empty() && quirks.reasoning_off.is_empty() { None } else { request.raw(field) };
        let Some(word) = asked.map(|raw| raw.trim_matches('"')) else { return Ok(()) };
        if word == "none" && !quirks.reasoning_off.is_empty() {
            self.body.remove(field);
            quirks.reasoning_off.iter().for_each(|(name, json)| self.body.set(name.as_str(), json.as_bytes()));
        } else if let Some(nearest) = params::nearest_effort(word, &quirks.efforts) {
            self.settled.adjust(field.name(), &format!("its provider knows only {}", quirks.efforts.join(", ")))?;
            self.body.set(field, format!("\"{nearest}\"").into_bytes());
        }
        Ok(())
    }

    /// The end user's id. One that is too long goes as its SHA-256, the same in every request.
    fn user(&mut self, request: &ChatRequest<'a>, quirks: &Quirks) {
        if let Some(hash) = request.raw(Field::User).and_then(walk::string).and_then(|user| hashed_user(user, quirks)) {
            self.body.set(Field::User, format!("\"{hash}\"").into_bytes());
        }
    }

    /// Usage is always asked for, for the accounts; the client's other options stay.
    fn stream_options(&mut self, request: &ChatRequest<'a>, quirks: &Quirks) -> Result<(), ApiError> {
        let field = Field::StreamOptions;
        if !quirks.usage_option || !request.stream() || request.params.adjustments.without.contains(field) {
            self.body.remove(field);
            return Ok(());
        }
        let mut w = Writer::default();
        w.object();
        if let Some(raw) = request.raw(field) {
            let bad = |e: ScanError| ApiError::field(field.name(), format!("`stream_options`: {}", e.what));
            let mut members = walk::inner_members(raw).map_err(bad)?;
            while let Some((key, value)) = members.next().map_err(bad)? {
                match key.is("include_usage") {
                    true if value == "true" => return Ok(()), // already as it must be
                    true => {}
                    false => {
                        w.key(&key.decode()).raw(value);
                    }
                }
            }
        }
        w.key("include_usage").flag(true).end_object();
        self.body.set(field, w.finish());
        Ok(())
    }

    /// Says what the answer is held to. Whether it will be an object that holds a choice.
    ///
    /// # Errors
    /// A 400 that names the field where the provider cannot keep it.
    pub fn constraint(&mut self, request: &ChatRequest<'_>, quirks: &Quirks) -> Result<bool, ApiError> {
        constraint::encode(request, quirks, self)
    }

    /// The finished request. `unwrap_choice`: the answer is an object that holds
    /// the choice.
    pub fn finish(mut self, request: &ChatRequest<'_>, quirks: &Quirks, split_think_tags: bool, unwrap_choice: bool) -> Outgoing {
        nulls::remove(&mut self.body, request);
        let mut decoder: Box<dyn dialect::Decoder> =
            Box::new(Decoder::new(quirks.completion_excludes_reasoning).returning(&quirks.returns));
        if split_think_tags {
            decoder = SplitThink::default().around(decoder);
        }
        if unwrap_choice {
            decoder = Unwrap::default().around(decoder);
        }
        Outgoing::new(quirks::path(&quirks.path, request.model), self.body.finish(), self.settled, decoder)
    }
}

/// The hash that takes the place of an end user's id which is too long for the provider.
pub(super) fn hashed_user(user: Text<'_>, quirks: &Quirks) -> Option<String> {
    let max = quirks.user_max.filter(|max| user.spelled().len() > *max)?;
    let user = user.decode();
    (user.chars().count() > max).then(|| hex::encode(&Sha256::digest(user.as_bytes())))
}

/// Says the tools as the provider wants them.
///
/// # Errors
/// A 400 that names `tool_choice` or `tools` where they cannot be read.
fn tools<'a>(ask: &dyn Ask, request: &ChatRequest<'_>, quirks: &'a Quirks, body: &mut Body<'a>) -> Result<(), ApiError> {
    if request.asked(Field::Tools).is_none() {
        // `tools: []` is a 400 at OpenAI, and so is every word about tools that are not there.
        for field in [Field::Tools, Field::ToolChoice, Field::ParallelToolCalls] {
            if request.raw(field).is_some() && request.asked(field).is_none() {
                body.remove(field);
            }
        }
        return Ok(());
    }
    let Some(raw) = request.raw(Field::ToolChoice) else { return Ok(()) };
    let mut demanded = raw == "\"required\"" || raw.starts_with('{');
    if !quirks.allowed_tools && raw.starts_with('{') && raw.contains("allowed_tools") {
        let neutral = ask.request()?;
        if let Some(ToolChoice::Allowed { required, names }) = &neutral.tool_choice {
            demanded = *required;
            body.set(Field::Tools, narrowed(request, &neutral.tools, names)?);
            choose(if *required { Choice::Required } else { Choice::Auto }, names, quirks, body)?;
        }
    } else if quirks.tool_choices.len() < Choice::ALL.len() {
        let neutral = ask.request()?;
        let all = || neutral.tools.iter().map(|tool| tool.name).collect::<Vec<_>>();
        match &neutral.tool_choice {
            Some(ToolChoice::None) => choose(Choice::None, &[], quirks, body)?,
            Some(ToolChoice::Auto) => choose(Choice::Auto, &[], quirks, body)?,
            Some(ToolChoice::Required) => choose(Choice::Required, &all(), quirks, body)?,
            Some(ToolChoice::Named(name)) if !quirks.can_choose(Choice::Named) => {
                body.set(Field::Tools, narrowed(request, &neutral.tools, &[*name])?);
                choose(Choice::Required, &[*name], quirks, body)?;
            }
            Some(ToolChoice::Named(_) | ToolChoice::Allowed { .. }) | None => {}
        }
    }
    if demanded && quirks.forced_tools == ForcedTools::WithoutThinking {
        quirks.reasoning_off.iter().for_each(|(name, json)| body.set(name.as_str(), json.as_bytes()));
    }
    Ok(())
}

/// Writes a choice among the tools of these names with what the provider knows of `tool_choice`.
///
/// # Errors
/// A 400 that names `tool_choice` where it cannot say that one of several tools is required.
fn choose(choice: Choice, names: &[Text<'_>], quirks: &Quirks, body: &mut Body<'_>) -> Result<(), ApiError> {
    match (choice, names) {
        (Choice::None | Choice::Auto | Choice::Required, _) if quirks.can_choose(choice) => {
            body.set(Field::ToolChoice, format!("\"{}\"", choice.name()).into_bytes());
        }
        (Choice::None, _) => body.remove_tools(),
        (Choice::Auto, _) => body.remove(Field::ToolChoice),
        (Choice::Required | Choice::Named, [name]) if quirks.can_choose(Choice::Named) => {
            let mut w = Writer::default();
            compose::write_choice(*name, &mut w);
            body.set(Field::ToolChoice, w.finish());
        }
        (Choice::Required | Choice::Named, _) => return Err(params::unsupported(Field::ToolChoice.name())),
    }
    Ok(())
}

/// The tools of these names, each as it came and each name once.
fn narrowed(request: &ChatRequest<'_>, tools: &[Tool<'_>], names: &[Text<'_>]) -> Result<Vec<u8>, ApiError> {
    let raw: Vec<&RawValue> = request.get(Field::Tools)?.unwrap_or_default();
    let mut left: HashSet<Cow<'_, str>> = names.iter().map(|name| name.decode()).collect();
    let mut w = Writer::default();
    w.array();
    for (json, _) in raw.iter().zip(tools).filter(|(_, tool)| left.remove(&tool.name.decode())) {
        w.raw(json.get());
    }
    w.end_array();
    Ok(w.finish())
}
