//! The field that a provider's refusal blames, in the client's own words.
//!
//! A refusal names a place in the request that the provider got: `messages.0.content`,
//! `generationConfig.maxOutputTokens`, `tools.0.custom.input_schema`. Names are translated back by a table of the
//! dialect ([`Dialect::names`](crate::dialect::Dialect::names)). Numbers are compared with the body that was sent, because instructions
//! may have been moved and turns merged: where a message's number is not certain, `messages` alone is blamed.

use crate::dialect::openai::quirks::{Choice, Quirks};
use crate::front::responses;
use crate::json::slices::Slices;
use crate::json::walk;
use crate::llm::embeddings::INPUT;
use crate::llm::envelope::Parsed;
use crate::llm::field::{Field, GUIDED};
use crate::redact::truncated;
use std::borrow::Cow;

/// A provider's names for what clients write, each with the client's name. Names are compared without regard to letter case
/// and underscores. `tools#.name` stands for `tools[3].name` and `tools.3.name`, and the client's `#` for the same number; the
/// longest name that fits counts.
pub type Names = &'static [(&'static str, &'static str)];

/// Longest part of a message that is searched, in bytes.
const MAX_MESSAGE: usize = 4096;
/// Most paths of a message that are looked up.
const MAX_PATHS: usize = 16;
/// Longest path, in bytes.
const MAX_PATH: usize = 128;
/// Names around a whole request.
const WRAPPERS: [&str; 2] = ["body", "request"];

/// The parts of a message that may be the path of a field, in their order: what is quoted, stands before a colon or at the
/// beginning, has several steps, or is spelled like an identifier.
pub fn paths(message: &str) -> impl Iterator<Item = Path<'_>> {
    let message = truncated(message, MAX_MESSAGE);
    let mut at = 0;
    let tokens = message.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']'))).map(move |token| {
        let start = at;
        at = start + token.len() + message.get(start + token.len()..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        (start, token)
    });
    let around = |start: usize, token: &str| {
        let before = message.get(..start).and_then(|text| text.chars().next_back());
        (before, message.get(start + token.len()..).and_then(|text| text.chars().next()))
    };
    let found = tokens.filter_map(move |(start, token)| {
        let trimmed = token.trim_matches('.');
        if trimmed.len() > MAX_PATH || !trimmed.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return None;
        }
        let (before, after) = around(start, token);
        let quoted = before.is_some_and(|c| matches!(c, '\'' | '"' | '`')) && before == after;
        // A sentence begins with a capital letter: "User location is not supported".
        let lower = !trimmed.starts_with(|c: char| c.is_ascii_uppercase());
        let leading = lower && (start == 0 || (after == Some(':') && before.is_none_or(char::is_whitespace)));
        let steps = trimmed.contains('.') || trimmed.contains('[');
        let camel = trimmed.as_bytes().windows(2).any(|pair| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()));
        let spelled = trimmed.contains('_') || camel;
        (quoted || leading || steps || spelled).then_some(Path { text: trimmed, sure: leading || steps || spelled })
    });
    found.take(MAX_PATHS)
}

/// A path that a refusal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    /// As the provider wrote it.
    pub text: &'a str,
    /// Whether it can be nothing else. A quoted word may as well be a value (`"user"` is a role and a field), and only counts
    /// where the client has sent such a field.
    pub sure: bool,
}

/// A request that was refused.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    /// The client's request.
    pub parsed: &'a Parsed,
    /// The body that the provider got.
    pub body: &'a Slices,
    /// What the provider does otherwise than OpenAI.
    pub quirks: Option<&'a Quirks>,
    /// The dialect's names.
    pub names: &'a [Names],
    /// Whether the client's request is one of the Responses API, which was translated.
    pub is_responses: bool,
}

/// One step of a path: a name and the number behind it.
struct Step<'a> {
    name: &'a str,
    number: Option<usize>,
}

/// The steps of `messages[0].content`, `messages.0.content` or `messages.1.member.content`, the way in which AWS counts.
fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for part in path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        match (part.parse::<usize>(), steps.last_mut()) {
            (Ok(number), Some(last)) if last.number.is_none() => last.number = Some(number),
            (Ok(_), _) => break,
            (Err(_), Some(last)) if part == "member" && last.number.is_some() => last.number = last.number.and_then(|n| n.checked_sub(1)),
            (Err(_), _) => steps.push(Step { name: part, number: None }),
        }
    }
    let wrapped = |name: &str| WRAPPERS.iter().any(|wrapper| same(name, wrapper)) || name.ends_with("Request");
    if steps.len() > 1 && steps.first().is_some_and(|step| step.number.is_none() && wrapped(step.name)) {
        steps.remove(0);
    }
    steps
}

/// Whether two names are the same but for letter case and underscores.
fn same(a: &str, b: &str) -> bool {
    fn plain(name: &str) -> impl Iterator<Item = u8> {
        name.bytes().filter(|b| *b != b'_').map(|b| b.to_ascii_lowercase())
    }
    plain(a).eq(plain(b))
}

impl<'a> Sent<'a> {
    /// The path of what the client wrote, in OpenAI's spelling (`messages[0].content`); `None` where the provider's path is
    /// about nothing that the client could change.
    pub fn in_clients_words(&self, path: Path<'_>) -> Option<String> {
        let steps = steps(path.text);
        if let Some((client, number, rest)) = self.named(&steps) {
            let found = match client {
                "messages#" => self.message(number, rest, false),
                client => match client.strip_prefix("tools#") {
                    Some(inside) => self.tool(number, inside),
                    None => self.spelled(client).into_owned(),
                },
            };
            return Some(found).filter(|found| self.knows(found, path.sure));
        }
        let (root, rest) = steps.split_first()?;
        let found = match self.spelled(root.name) {
            name if name == "messages" => self.message(root.number, rest, true),
            name if name == "tools" => self.tool(root.number, &spell(rest)),
            name if name == root.name => spell(&steps),
            name => name.into_owned(),
        };
        Some(found).filter(|found| self.knows(found, path.sure))
    }

    /// The client's name for the longest beginning of a path that the tables have, the number that is marked, and the rest.
    fn named<'s, 'p>(&self, steps: &'s [Step<'p>]) -> Option<(&'static str, Option<usize>, &'s [Step<'p>])> {
        let mut best: Option<(usize, &'static str, Option<usize>)> = None;
        for (theirs, client) in self.names.iter().flat_map(|table| table.iter()) {
            let (mut length, mut number) = (0, None);
            let fits = theirs.split('.').all(|part| {
                let step = steps.get(length);
                length += 1;
                step.is_some_and(|step| {
                    if part.ends_with('#') {
                        number = step.number;
                    }
                    same(step.name, part.trim_end_matches('#'))
                })
            });
            if fits && best.is_none_or(|(longest, ..)| length > longest) {
                best = Some((length, client, number));
            }
        }
        best.map(|(length, client, number)| (client, number, steps.get(length..).unwrap_or_default()))
    }

    /// A top-level field as the client spelled it: several mean the same, and the gateway may have sent another one.
    fn spelled<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let written = |field: Field| self.parsed.raw(field).map(|_| field.name());
        if self.parsed.find(name).is_some() {
            return Cow::Borrowed(name);
        }
        if let Some((field, _)) = self.quirks.and_then(|quirks| quirks.rename.iter().find(|(_, renamed)| renamed == name)) {
            return Cow::Borrowed(field.name());
        }
        if self.quirks.is_some_and(|quirks| quirks.reasoning_off.iter().any(|(member, _)| member == name)) {
            return Cow::Borrowed(Field::ReasoningEffort.name());
        }
        let Some(field) = Field::ALL.iter().copied().find(|field| same(field.name(), name)) else { return Cow::Borrowed(name) };
        let moved = match field {
            Field::MaxTokens | Field::MaxCompletionTokens if self.is_responses => Some(responses::MAX_TOKENS),
            Field::ReasoningEffort if self.is_responses => Some("reasoning.effort"),
            Field::ResponseFormat if self.is_responses => Some("text.format"),
            Field::Messages => self.parsed.find(INPUT).map(|_| INPUT),
            Field::MaxTokens => written(Field::MaxCompletionTokens),
            Field::MaxCompletionTokens => written(Field::MaxTokens),
            Field::User => written(Field::SafetyIdentifier),
            // A call may be demanded of the gateway's own tool, whose arguments are the answer.
            field if matches!(field, Field::ResponseFormat | Field::ToolChoice) || GUIDED.contains(&field) => {
                std::iter::once(Field::ResponseFormat).chain(GUIDED).find_map(written)
            }
            _ => None,
        };
        Cow::Borrowed(moved.unwrap_or(field.name()))
    }

    /// Whether the client has sent the field that a path begins with, or `sure`ly means one that it could have sent.
    fn knows(&self, path: &str, sure: bool) -> bool {
        let root = path.split(['.', '[']).next().unwrap_or(path);
        self.parsed.find(root).is_some() || (sure && Field::of(root.as_bytes()).is_some())
    }

    /// A place in the message that became the provider's message of this number. `own`: the rest of the path is in OpenAI's
    /// names.
    fn message(&self, number: Option<usize>, rest: &[Step<'_>], own: bool) -> String {
        let whole = || self.spelled("messages").into_owned();
        let body = self.body.joined();
        let Some((sent, client)) = number.and_then(|number| self.aligned(&body, number)) else { return whole() };
        let mut path = format!("messages[{}]", client.at);
        if own {
            let rest = spell(rest);
            path.extend([if rest.is_empty() { "" } else { "." }, &rest]);
            return path;
        }
        let Some(step) = rest.first() else { return path };
        match step.name {
            "role" => path.push_str(".role"),
            "content" | "parts" => {
                let block = step.number.and_then(|at| sent.parts.get(at).copied());
                if block.is_some_and(is_call) || rest.get(1).is_some_and(|step| is_call(step.name)) {
                    path.push_str(".tool_calls");
                } else {
                    path.push_str(".content");
                    if let Some(at) = step.number.filter(|at| *at < client.parts.len() && sent.parts.len() == client.parts.len()) {
                        path.push_str(&format!("[{at}]"));
                    }
                }
            }
            _ => {}
        }
        path
    }

    /// A place in the tool of this number, where tools were sent in the client's order.
    fn tool(&self, number: Option<usize>, rest: &str) -> String {
        if self.is_responses {
            return "tools".to_owned(); // those of namespaces are among them, and others were left out
        }
        let list = |raw: &'a str| elements(raw).len();
        let clients = self.parsed.raw(Field::Tools).map_or(0, list);
        let choice = self.parsed.raw(Field::ToolChoice).unwrap_or_default();
        let narrows = || self.quirks.is_some_and(|quirks| !quirks.can_choose(Choice::Named));
        let narrowed = choice.contains("allowed_tools") || (choice.starts_with('{') && narrows());
        match number.filter(|number| *number < clients && !narrowed) {
            Some(number) => format!("tools[{number}]{}{rest}", if rest.is_empty() || rest.starts_with('.') { "" } else { "." }),
            None => "tools".to_owned(),
        }
    }

    /// The message that was sent in `body` under this number, and the client's that it is; `None` where that is not certain.
    fn aligned<'b>(&self, body: &'b [u8], number: usize) -> Option<(Turn<'b>, Turn<'a>)> {
        let body = simdutf8::basic::from_utf8(body).ok()?;
        let sent = ["messages", "contents", INPUT].iter().find_map(|name| member(body, name)).map(turns)?;
        let clients = turns(self.parsed.raw(Field::Messages)?);
        let leading = clients.iter().take_while(|turn| turn.role == Role::System).count();
        let hoisted = if sent.first()?.role == Role::System { 0 } else { leading };
        let clients = clients.get(hoisted..)?;
        // A turn that the gateway added stands at the beginning or at the end.
        let added = sent.len().checked_sub(clients.len())?;
        [added, 0].into_iter().find_map(|before| {
            let part = sent.get(before..before + clients.len())?;
            let alike = part.iter().zip(clients).all(|(sent, client)| sent.role.may_be(client.role));
            let at = number.checked_sub(before).filter(|_| alike)?;
            Some((part.get(at)?.clone(), clients.get(at)?.clone()))
        })
    }
}

fn is_call(block: &str) -> bool {
    ["tool_use", "toolUse", "function_call", "functionCall", "tool_calls"].iter().any(|word| block.contains(word))
}

/// A path in OpenAI's spelling.
fn spell(steps: &[Step<'_>]) -> String {
    let mut path = String::new();
    for step in steps {
        path.extend([if path.is_empty() { "" } else { "." }, step.name]);
        if let Some(number) = step.number {
            path.push_str(&format!("[{number}]"));
        }
    }
    path
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    fn of(word: &str) -> Self {
        match word {
            "system" | "developer" => Self::System,
            "assistant" | "model" => Self::Assistant,
            "tool" | "function" => Self::Tool,
            _ => Self::User,
        }
    }

    /// Whether a message of the client's in that role may have been sent in this one.
    fn may_be(self, client: Self) -> bool {
        self == client || (self == Self::User && client == Self::Tool)
    }
}

/// A message or a turn: its place in its list, its role, and the parts of its content, raw.
#[derive(Clone)]
struct Turn<'a> {
    at: usize,
    role: Role,
    parts: Vec<&'a str>,
}

fn turns(list: &str) -> Vec<Turn<'_>> {
    let turn = |(at, raw)| {
        let role = member(raw, "role").and_then(walk::string).map_or(Role::User, |role| Role::of(&role.decode()));
        let content = member(raw, "content").or_else(|| member(raw, "parts"));
        Turn { at, role, parts: content.map(elements).unwrap_or_default() }
    };
    elements(list).into_iter().enumerate().map(turn).collect()
}

/// The elements of an array; none where it is something else.
fn elements(raw: &str) -> Vec<&str> {
    walk::inner_elements(raw).and_then(walk::Elements::rest).unwrap_or_default()
}

/// A member of an object.
fn member<'a>(raw: &'a str, name: &str) -> Option<&'a str> {
    walk::member(raw, name).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{anthropic, bedrock, gemini};
    use serde_json::{Value, json};

    fn words(client: &Value, sent: &Value, quirks: Option<&Quirks>, names: &[Names], message: &str) -> Option<String> {
        let parsed = Parsed::scan(client.to_string().into()).unwrap();
        let body = sent.to_string().into_bytes().into();
        let is_responses = parsed.find("input").is_some();
        let sent = Sent { parsed: &parsed, body: &body, quirks, names, is_responses };
        paths(message).find_map(|path| sent.in_clients_words(path))
    }

    const CLAUDE: &[Names] = &[anthropic::error::NAMES];
    const CONVERSE: &[Names] = &[bedrock::error::NAMES, anthropic::error::NAMES];
    const GOOGLE: &[Names] = &[gemini::NAMES];

    /// A client's request with instructions, a call, its result and tools.
    fn client() -> Value {
        json!({
            "model": "r", "max_completion_tokens": 9, "stop": ["x"], "reasoning_effort": "low", "temperature": 2, "user": "u",
            "guided_json": {}, "tool_choice": "auto",
            "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}],
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "b"}}]},
                {"role": "assistant", "content": "c", "tool_calls": [{}]},
                {"role": "tool", "content": "d"},
            ],
        })
    }

    /// The same as Anthropic gets it.
    fn hoisted() -> Value {
        json!({"messages": [
            {"role": "user", "content": [{"type": "text"}, {"type": "image"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "c"}, {"type": "tool_use"}]},
            {"role": "user", "content": [{"type": "tool_result"}]},
        ]})
    }

    #[test]
    fn anthropics_paths_become_the_clients() {
        for (message, want) in [
            ("messages.0.content.1.image.source.base64.data: invalid base64", "messages[1].content[1]"),
            ("messages.1.content.1.tool_use.id: String should match pattern", "messages[2].tool_calls"),
            ("messages.2.content.0.tool_result.content: Field required", "messages[3].content"),
            ("messages.0.role: Input should be 'user'", "messages[1].role"),
            ("messages.7.content: Field required", "messages"),
            ("messages: at least one message is required", "messages"),
            ("tools.1.custom.input_schema.type: Field required", "tools[1].function.parameters"),
            ("tools.0.custom.name: String should match pattern", "tools[0].function.name"),
            ("tools.5.custom.name: String should match pattern", "tools"),
            ("max_tokens: 100000 > 8192, which is the maximum", "max_completion_tokens"),
            ("temperature: range: 0..1", "temperature"),
            ("stop_sequences: each stop sequence must contain non-whitespace", "stop"),
            ("`thinking.budget_tokens` must be less than `max_tokens`", "reasoning_effort"),
            ("output_config.format.schema: too complex", "guided_json"),
            ("metadata.user_id: user_id appears to contain an email address", "user"),
            ("system: text content blocks must be non-empty", "messages"),
        ] {
            assert_eq!(words(&client(), &hoisted(), None, CLAUDE, message).as_deref(), Some(want), "{message}");
        }
    }

    #[test]
    fn conversess_paths_become_the_clients() {
        for (message, want) in [
            (
                "2 validation errors detected: Value '0' at 'inferenceConfig.maxTokens' failed to satisfy constraint",
                "max_completion_tokens",
            ),
            ("1 validation error detected: Value at 'messages.2.member.content' failed to satisfy constraint", "messages[2].content"),
            ("Value at 'toolConfig.tools.2.member.toolSpec.inputSchema' failed", "tools[1].function.parameters"),
            ("The model returned the following errors: messages.0.content.1.image: too large", "messages[1].content[1]"),
            ("The model returned the following errors: tools.0.custom.input_schema.type: Field required", "tools[0].function.parameters"),
            ("The additional field additionalModelRequestFields.thinking conflicts", "reasoning_effort"),
        ] {
            assert_eq!(words(&client(), &hoisted(), None, CONVERSE, message).as_deref(), Some(want), "{message}");
        }
        let message = "This model doesn't support the toolConfig.toolChoice.any field. Remove toolConfig.toolChoice.any and try again.";
        for (client, want) in
            [(json!({"response_format": {}}), "response_format"), (json!({"tool_choice": "required", "guided_json": {}}), "tool_choice")]
        {
            assert_eq!(words(&client, &hoisted(), None, CONVERSE, message).as_deref(), Some(want));
        }
    }

    #[test]
    fn googles_paths_become_the_clients() {
        let sent = json!({"contents": [
            {"role": "user", "parts": [{"text": "a"}, {"inlineData": {}}]},
            {"role": "model", "parts": [{"text": "c"}, {"functionCall": {}}]},
            {"role": "user", "parts": [{"functionResponse": {}}]},
        ]});
        for (message, want) in [
            ("Invalid value at 'generation_config.max_output_tokens' (TYPE_INT32), \"x\"", "max_completion_tokens"),
            ("Invalid JSON payload received. Unknown name \"thinkingLevels\" at 'generation_config.thinking_config'", "reasoning_effort"),
            ("* GenerateContentRequest.generation_config.response_schema.type: must be specified", "guided_json"),
            (
                "* GenerateContentRequest.tools[0].function_declarations[1].parameters.properties[a].items: missing field.",
                "tools[1].function.parameters",
            ),
            ("* GenerateContentRequest.contents[0].parts[1].data: must have one initialized field", "messages[1].content[1]"),
            ("contents[2].parts[0]: function response parts must match", "messages[3].content"),
            ("contents[1].parts[1].function_call: no", "messages[2].tool_calls"),
            ("Thinking budget is not supported; thinking_budget", "reasoning_effort"),
        ] {
            assert_eq!(words(&client(), &sent, None, GOOGLE, message).as_deref(), Some(want), "{message}");
        }
        assert_eq!(words(&client(), &sent, None, GOOGLE, "User location is not supported for the API use."), None);
    }

    #[test]
    fn openais_names_become_those_that_the_client_used() {
        let quirks = crate::dialect::shared::testing::quirks("{ rename: { seed: random_seed }, reasoning_off: { thinking: \"{}\" } }");
        let client = json!({
            "max_tokens": 1, "seed": 2, "guided_regex": "a", "own_field": 1, "reasoning_effort": "none",
            "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{}]}],
        });
        let sent =
            json!({"messages": [{"role": "system", "content": "the route's"}, {"role": "user", "content": "a"}, {"role": "assistant"}]});
        for (message, want) in [
            ("Invalid 'random_seed'", Some("seed")),
            ("body.max_completion_tokens: too many", Some("max_tokens")),
            ("Invalid value at 'messages[2].content[0].text'", Some("messages[1].content[0].text")),
            ("messages.0.content is empty", Some("messages")),
            ("response_format.json_schema: no", Some("guided_regex")),
            ("structured_outputs: no", Some("guided_regex")),
            ("thinking: no", Some("reasoning_effort")),
            ("own_field: Extra inputs are not permitted", Some("own_field")),
            ("Unsupported parameter: 'maxTokens'", Some("max_tokens")),
            ("roles must alternate between 'user' and 'assistant'", None),
            ("An error occurred. See https://example.com/docs.html for more.", None),
            ("", None),
        ] {
            assert_eq!(words(&client, &sent, Some(&quirks), &[], message).as_deref(), want, "{message}");
        }
    }

    #[test]
    fn merged_and_moved_messages_are_blamed_as_a_whole() {
        let message = |role: &str| json!({"role": role, "content": "x"});
        for (client, sent, number, want) in [
            (&["user", "user"][..], &["user"][..], 0, "messages"),
            (&["system", "user", "assistant", "user"], &["user", "assistant", "user"], 1, "messages[2].content"),
            (&["user", "system", "user"], &["user"], 0, "messages"),
            (&["assistant", "user"], &["user", "assistant", "user"], 0, "messages"),
            (&["assistant", "user"], &["user", "assistant", "user"], 2, "messages[1].content"),
            (&["system", "assistant"], &["assistant", "user"], 0, "messages[1].content"),
            (&["user", "assistant", "tool", "tool"], &["user", "assistant", "user"], 1, "messages"),
        ] {
            let list = |roles: &[&str]| json!({"messages": roles.iter().map(|role| message(role)).collect::<Vec<_>>()});
            let told = words(&list(client), &list(sent), None, CLAUDE, &format!("messages.{number}.content: no"));
            assert_eq!(told.as_deref(), Some(want), "{client:?} {sent:?}");
        }
    }

    #[test]
    fn vectors_are_asked_for_by_other_fields() {
        let client = json!({"model": "r", "input": ["a"], "dimensions": 3});
        let told = |names: &[Names], message: &str| words(&client, &json!({}), None, names, message);
        assert_eq!(told(GOOGLE, "Invalid value at 'requests[0].output_dimensionality'").as_deref(), Some("dimensions"));
        assert_eq!(told(GOOGLE, "* BatchEmbedContentsRequest.requests[0].content: is not specified").as_deref(), Some("input"));
        assert_eq!(told(CONVERSE, "#/inputText: expected minLength: 1").as_deref(), Some("input"));
    }
    #[test]
    fn names_of_a_translated_responses_request_are_its_own() {
        let client = json!({
            "model": "r", "input": [{"role": "user", "content": "a"}], "max_output_tokens": 9, "temperature": 1,
            "reasoning": {"effort": "low"}, "text": {"format": {"type": "json_object"}}, "tools": [{"type": "function", "name": "f"}],
        });
        for (message, want) in [
            ("max_tokens: must be less than 5", "max_output_tokens"),
            ("messages.0.content: text content blocks must be non-empty", "input"),
            ("tools.0.custom.input_schema: no", "tools"),
            ("temperature: range: 0..1", "temperature"),
            ("output_config.effort: no", "reasoning.effort"),
            ("response_format.type: no", "text.format"),
        ] {
            assert_eq!(words(&client, &hoisted(), None, CLAUDE, message).as_deref(), Some(want), "{message}");
        }
    }
}
