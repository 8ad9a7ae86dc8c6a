//! What the simulated model says: decided once from the neutral request, written by each dialect in its own words.
//!
//! The rules, in this order:
//! - The conversation ends in tool results: a text that quotes them.
//! - Tools are offered, and one is required or the user's text speaks of the weather or of a tool by name (a word of at
//!   least three letters in it): that tool is called, with arguments that satisfy its schema. With "both" or "all" in the
//!   text and parallel calls allowed, every tool is called. A custom tool gets a text in its grammar, or the user's text.
//! - A constraint is given: the shortest or first text that satisfies it.
//! - Otherwise a friendly line that names the model, what media it saw and the first words of the user.
//!
//! Tokens are bytes / 4, rounded up, for each text; an image, document or sound is 85. A model that thinks says one fixed
//! sentence, whose tokens count as reasoning. `max_tokens` covers reasoning and text.

use super::ask::{Ask, Choice, Constraint, Tool, cut, tokens};
use super::script::{MAX_ANSWER, MAX_CHUNKS};
use super::{grammar, pattern, sample};
use serde_json::Value;

/// Words of the user's text that are echoed.
const ECHOED_WORDS: usize = 8;
/// Characters of the user's text that are echoed.
const ECHOED_CHARS: usize = 120;
/// Characters of the tool results that are quoted.
const QUOTED_CHARS: usize = 2_000;
/// Shortest part of a tool's name that counts as the user speaking of it, in bytes.
const MIN_NAME_WORD: usize = 3;
/// Characters in one piece of a text of more than [`MAX_CHUNKS`] bytes.
const LONG_PIECE: usize = 4_096;
/// Characters of a call's arguments in one piece.
const ARGUMENTS_PIECE: usize = 8;
/// What a model that thinks thinks.
const THOUGHT: &str = "The user wants an answer, so I will give a short and honest one.";
/// What long answers are made of.
const FILLER: &str = "The tide comes in and the tide goes out, and the gate lets each wave pass in its turn. ";

/// The answers to a request.
#[derive(Debug)]
pub(super) struct Reply {
    /// As many as were asked for.
    pub(super) choices: Vec<Spoken>,
    /// What it cost.
    pub(super) usage: Usage,
}

/// One answer.
#[derive(Debug, PartialEq)]
pub(super) struct Spoken {
    /// Thinking before the answer.
    pub(super) reasoning: Option<&'static str>,
    /// The answer; empty where tools are called.
    pub(super) text: String,
    /// Tool calls.
    pub(super) calls: Vec<Call>,
    /// Why it ended.
    pub(super) finish: Finish,
}

/// A part of an answer, in the order in which parts are said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Block<'a> {
    /// Thinking.
    Thinking(&'a str),
    /// The answer.
    Text(&'a str),
    /// The nth call.
    Call(usize, &'a Call),
}

impl Spoken {
    /// The parts; a text even where it is empty, unless tools are called.
    pub(super) fn blocks(&self) -> Vec<Block<'_>> {
        let text = self.calls.is_empty().then_some(Block::Text(&self.text));
        let calls = self.calls.iter().enumerate().map(|(n, call)| Block::Call(n, call));
        self.reasoning.map(Block::Thinking).into_iter().chain(text).chain(calls).collect()
    }
}

impl Block<'_> {
    /// The pieces in which it is streamed; a call's are those of its arguments.
    pub(super) fn pieces(self, ask: &Ask) -> Vec<String> {
        match self {
            Self::Thinking(text) => text.split_inclusive(' ').map(str::to_owned).collect(),
            Self::Text(text) => pieces(ask, text),
            Self::Call(_, call) => {
                let arguments: Vec<char> = call.text().chars().collect();
                arguments.chunks(ARGUMENTS_PIECE).map(|piece| piece.iter().collect()).collect()
            }
        }
    }
}

/// A tool call.
#[derive(Debug, PartialEq)]
pub(super) struct Call {
    /// Which tool.
    pub(super) name: String,
    /// An object that satisfies its schema; a string for a custom tool.
    pub(super) arguments: Value,
    /// Whether the tool is a custom one.
    pub(super) is_custom: bool,
    /// The namespace the tool is in.
    pub(super) namespace: Option<String>,
}

impl Call {
    /// The arguments as JSON, or the input of a custom tool as it is.
    pub(super) fn text(&self) -> String {
        match &self.arguments {
            Value::String(input) if self.is_custom => input.clone(),
            arguments => arguments.to_string(),
        }
    }
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// It was complete, or a stop text was reached.
    Stop,
    /// `max_tokens` was reached.
    Length,
    /// Tools are to be called.
    Calls,
    /// In the script's own word.
    Scripted(String),
}

impl Finish {
    /// In a dialect's own words for a complete answer, one that is too long, and calls.
    pub(super) fn word<'a>(&'a self, stop: &'a str, length: &'a str, calls: &'a str) -> &'a str {
        match self {
            Self::Stop => stop,
            Self::Length => length,
            Self::Calls => calls,
            Self::Scripted(word) => word,
        }
    }
}

/// Tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Of the prompt.
    pub(super) prompt: u64,
    /// Of all answers, reasoning included.
    pub(super) completion: u64,
    /// Of the reasoning alone.
    pub(super) reasoning: u64,
}

/// Decides the answers.
///
/// # Errors
/// Why the constraint or a tool's schema cannot be satisfied.
pub(super) fn decide(ask: &Ask) -> Result<Reply, String> {
    let each = |size: Option<usize>| size.unwrap_or(0).saturating_mul(ask.n);
    if each(ask.script.bytes) > MAX_ANSWER || each(ask.script.chunks) > MAX_CHUNKS {
        return Err(format!("all answers together may have {MAX_ANSWER} bytes and {MAX_CHUNKS} chunks"));
    }
    let mut choices = Vec::with_capacity(ask.n);
    let mut usage = Usage { prompt: ask.prompt_tokens, ..Usage::default() };
    for index in 0..ask.n.max(1) {
        let spoken = speak(ask, index)?;
        let reasoning = spoken.reasoning.map_or(0, tokens);
        let calls: u64 = spoken.calls.iter().map(|call| tokens(&call.name) + tokens(&call.text())).sum();
        usage.reasoning += reasoning;
        usage.completion += reasoning + calls + tokens(&spoken.text);
        choices.push(spoken);
    }
    Ok(Reply { choices, usage })
}

fn speak(ask: &Ask, index: usize) -> Result<Spoken, String> {
    let reasoning = ask.thinks.then_some(THOUGHT);
    let scripted = ask.script.finish.clone().map(Finish::Scripted);
    let calls = calls(ask)?;
    if !calls.is_empty() {
        return Ok(Spoken { reasoning, text: String::new(), calls, finish: scripted.unwrap_or(Finish::Calls) });
    }
    let mut text = constrained(ask, &ask.constraint)?;
    if index > 0 && ask.constraint == Constraint::Free {
        text.push_str(&format!(" (choice {index})"));
    }
    let mut finish = Finish::Stop;
    if let Some(end) = ask.stop.iter().filter_map(|stop| text.find(stop.as_str())).min() {
        text.truncate(end);
    }
    let budget = ask.max_tokens.map(|most| most.saturating_sub(reasoning.map_or(0, tokens)));
    if let Some(head) = budget.and_then(|budget| cut(&text, budget)) {
        text = head.to_owned();
        finish = Finish::Length;
    }
    Ok(Spoken { reasoning, text, calls, finish: scripted.unwrap_or(finish) })
}

fn calls(ask: &Ask) -> Result<Vec<Call>, String> {
    let user = ask.user.to_lowercase();
    let has_word = |wanted: &str| user.split(|c: char| !c.is_alphanumeric()).any(|word| word == wanted);
    let speaks_of = |tool: &&Tool| {
        let name = tool.name.to_lowercase();
        name.split(|c: char| !c.is_alphanumeric()).any(|word| word.len() >= MIN_NAME_WORD && has_word(word))
    };
    let called: Vec<&Tool> = match &ask.choice {
        Choice::None => Vec::new(),
        Choice::Named(name) => ask.tools.iter().filter(|tool| tool.name == *name).take(1).collect(),
        _ if ask.results.is_some() => Vec::new(),
        Choice::Auto | Choice::Required => {
            let meant = ask.tools.iter().find(speaks_of);
            let due = meant.is_some() || ask.choice == Choice::Required || has_word("weather");
            match meant.or(ask.tools.first()) {
                Some(_) if due && ask.parallel && (has_word("both") || has_word("all")) => ask.tools.iter().collect(),
                Some(tool) if due => vec![tool],
                _ => Vec::new(),
            }
        }
    };
    let hint = proper_noun(&ask.user);
    called
        .into_iter()
        .map(|tool| {
            let arguments = match &tool.input {
                None => sample::sample(&tool.parameters, hint),
                Some(Constraint::Free) => Ok(Value::String(ask.user.chars().take(ECHOED_CHARS).collect())),
                Some(constraint) => constrained(ask, constraint).map(Value::String),
            };
            let arguments = arguments.map_err(|why| format!("tool `{}`: {why}", tool.name))?;
            Ok(Call { name: tool.name.clone(), arguments, is_custom: tool.input.is_some(), namespace: tool.namespace.clone() })
        })
        .collect()
}

fn constrained(ask: &Ask, constraint: &Constraint) -> Result<String, String> {
    match constraint {
        Constraint::Free => Ok(sized(ask, prose(ask))),
        Constraint::Object => Ok(serde_json::json!({ "answer": prose(ask) }).to_string()),
        Constraint::Schema(schema) => sample::sample(schema, proper_noun(&ask.user)).map(|value| value.to_string()),
        Constraint::OneOf(choices) => choices.first().cloned().ok_or_else(|| "there is nothing to choose from".into()),
        Constraint::Pattern(pattern) => pattern::example(pattern),
        Constraint::Grammar(text) => grammar::example(text),
    }
}

fn prose(ask: &Ask) -> String {
    if let Some(results) = &ask.results {
        return format!("Here is what the tool says: {}", results.join("; ").chars().take(QUOTED_CHARS).collect::<String>());
    }
    let mut out = format!("Hello from {}!", ask.name);
    if !ask.media.is_empty() {
        let plural = if ask.media.len() == 1 { "attachment" } else { "attachments" };
        out.push_str(&format!(" I see {} {plural} ({}).", ask.media.len(), ask.media.join(", ")));
    }
    let words: Vec<&str> = ask.user.split_whitespace().take(ECHOED_WORDS).collect();
    if !words.is_empty() {
        out.push_str(&format!(" You said: {}", words.join(" ").chars().take(ECHOED_CHARS).collect::<String>()));
    }
    out
}

/// The text in the size that the script asks for: `bytes`, or enough for each of `chunks` to have something.
fn sized(ask: &Ask, text: String) -> String {
    let least = ask.script.chunks.filter(|chunks| text.len() < *chunks).map(|chunks| chunks.saturating_mul(4));
    match ask.script.bytes.or(least) {
        None => text,
        Some(size) => FILLER.chars().cycle().take(size).collect(), // the filler is ASCII
    }
}

/// The last capitalised word that is not the first, for arguments that look right ("weather in Paris"); else empty.
fn proper_noun(text: &str) -> &str {
    let words = text.split_whitespace().skip(1).map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    words.filter(|word| word.len() > 1 && word.starts_with(char::is_uppercase)).last().unwrap_or_default()
}

/// The pieces in which a text is streamed: as many as the script says, else a word each, or more of a long text.
pub(super) fn pieces(ask: &Ask, text: &str) -> Vec<String> {
    match ask.script.chunks {
        None if text.len() > MAX_CHUNKS => {
            let all: Vec<char> = text.chars().collect();
            all.chunks(LONG_PIECE).map(|piece| piece.iter().collect()).collect()
        }
        None => text.split_inclusive(' ').map(str::to_owned).collect(),
        Some(wanted) => {
            let length = text.chars().count();
            let mut rest = text.chars();
            (0..wanted).map(|n| rest.by_ref().take(length * (n + 1) / wanted - length * n / wanted).collect()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::script::Script;
    use serde_json::json;

    fn ask(user: &str) -> Ask {
        Ask { name: "m".into(), user: user.into(), n: 1, parallel: true, ..Ask::default() }
    }

    fn weather() -> Vec<Tool> {
        let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
        ["get_weather", "get_time"].map(|name| Tool { name: name.into(), parameters: parameters.clone(), ..Tool::default() }).into()
    }

    #[test]
    fn a_plain_answer_echoes() {
        let reply = decide(&Ask { media: vec!["image/png".into()], prompt_tokens: 3, ..ask("one two") }).unwrap();
        assert_eq!(reply.choices[0].text, "Hello from m! I see 1 attachment (image/png). You said: one two");
        assert_eq!(reply.usage, Usage { prompt: 3, completion: 16, reasoning: 0 });
    }

    #[test]
    fn tools_are_called_when_meant_or_required_and_then_answered() {
        let call = |ask: &Ask| decide(ask).unwrap().choices.remove(0).calls.into_iter().map(|c| (c.name, c.arguments)).collect::<Vec<_>>();
        let paris = json!({ "city": "Paris" });
        assert_eq!(call(&Ask { tools: weather(), ..ask("What is the weather in Paris?") }), [("get_weather".into(), paris.clone())]);
        assert_eq!(call(&Ask { tools: weather(), ..ask("Tell the time in Paris") }), [("get_time".into(), paris)]);
        assert_eq!(call(&Ask { tools: weather(), ..ask("hello") }), []);
        assert_eq!(call(&Ask { tools: weather(), choice: Choice::Required, ..ask("hello") }).len(), 1);
        assert_eq!(call(&Ask { tools: weather(), ..ask("weather, all of it") }).len(), 2);
        assert_eq!(call(&Ask { tools: weather(), parallel: false, ..ask("weather, all of it") }).len(), 1);
        assert_eq!(call(&Ask { tools: weather(), choice: Choice::None, ..ask("weather") }), []);
        let after = decide(&Ask { tools: weather(), results: Some(vec!["sunny".into()]), ..ask("weather") }).unwrap();
        assert_eq!(after.choices[0].text, "Here is what the tool says: sunny");
    }

    #[test]
    fn custom_tools_get_a_text() {
        let input = |constraint| {
            let tool = Tool { name: "apply_patch".into(), input: Some(constraint), ..Tool::default() };
            decide(&Ask { tools: vec![tool], ..ask("please patch \"a\"") }).unwrap().choices.remove(0).calls.remove(0).text()
        };
        assert_eq!(input(Constraint::Free), "please patch \"a\"");
        assert_eq!(input(Constraint::Pattern("[0-9]{2}".into())), "00");
        assert_eq!(input(Constraint::Grammar("start: \"x\" LF\n%import common.LF".into())), "x\n");
    }

    #[test]
    fn limits_stops_and_sizes() {
        let one = |ask: &Ask| decide(ask).unwrap().choices.remove(0);
        let short = one(&Ask { max_tokens: Some(2), ..ask("x") });
        assert_eq!((short.text.as_str(), short.finish), ("Hello fr", Finish::Length));
        let stopped = one(&Ask { stop: vec!["You".into(), " from".into()], ..ask("x") });
        assert_eq!((stopped.text.as_str(), stopped.finish), ("Hello", Finish::Stop));
        let thinking = one(&Ask { thinks: true, max_tokens: Some(1), ..ask("x") });
        assert_eq!((thinking.text.as_str(), thinking.finish), ("", Finish::Length));
        let sized = Ask { script: Script { bytes: Some(10), chunks: Some(4), ..Script::default() }, ..ask("x") };
        assert_eq!(pieces(&sized, &one(&sized).text), ["Th", "e t", "id", "e c"]);
        let many = Ask { script: Script { chunks: Some(100), ..Script::default() }, ..ask("x") };
        assert!(pieces(&many, &one(&many).text).iter().all(|piece| !piece.is_empty()));
        let long = Ask { script: Script { bytes: Some(MAX_ANSWER), ..Script::default() }, ..ask("x") };
        assert_eq!(pieces(&long, &one(&long).text).len(), MAX_ANSWER / LONG_PIECE);
        assert!(decide(&Ask { n: 2, ..long }).is_err(), "the bound is for all answers together");
    }
}
