//! Folds an answer into one completion object.

use crate::front::chat::chunk::{begin_call, string};
use crate::front::chat::head::Head;
use crate::front::chat::merge::merged;
use crate::front::chat::rules::finish_reason;
use crate::front::chat::usage;
use crate::front::write::append;
use crate::json::text::Text;
use crate::json::write::integer;
use crate::llm::event::{Event, Finish, Sink};
use crate::llm::order::Writer;
use crate::llm::usage::Usage;
use smallvec::SmallVec;

/// Collects events; [`CompletionWriter::finish`] writes the object. Texts are kept as the inside of JSON strings.
#[derive(Debug)]
pub struct CompletionWriter {
    head: Head,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Debug, Default)]
struct Choice {
    content: Option<Vec<u8>>,
    reasoning: Option<Vec<u8>>,
    refusal: Option<Vec<u8>>,
    /// `{"id":…,"arguments":"…` of each call, without its end.
    calls: Vec<Vec<u8>>,
    /// Further members of the message, by name, each in the pieces in which it came.
    extra: Vec<(Box<str>, Vec<Box<str>>)>,
    /// One of them is an answer by itself.
    extra_content: bool,
    logprobs: Vec<Box<str>>,
    finish: Option<Finish>,
}

/// Appends the value that came in pieces.
fn whole(out: &mut Vec<u8>, pieces: &[Box<str>]) {
    let pieces: SmallVec<[&str; 4]> = pieces.iter().map(|piece| &**piece).collect();
    out.extend_from_slice(merged(&pieces).as_bytes());
}

impl CompletionWriter {
    /// A writer for an answer with this head.
    pub fn new(head: Head) -> Self {
        Self { head, choices: Vec::new(), usage: None }
    }

    /// The completion.
    pub fn finish(&self) -> Vec<u8> {
        let text: usize =
            self.choices.iter().map(|c| c.content.as_ref().map_or(0, Vec::len) + c.reasoning.as_ref().map_or(0, Vec::len)).sum();
        let mut out = Vec::with_capacity(text + 1024);
        self.head.write(&mut out, "chat.completion");
        out.extend_from_slice(b",\"choices\":[");
        // A provider may skip an index: then that choice never was.
        for (i, choice) in self.choices.iter().enumerate() {
            if let Some(finish) = &choice.finish {
                choice.write(&mut out, i, finish);
                out.push(b',');
            }
        }
        if out.last() == Some(&b',') {
            out.pop();
        }
        out.push(b']');
        if let Some(usage) = &self.usage {
            out.extend_from_slice(b",\"usage\":");
            usage::write(usage, &mut out);
        }
        out.push(b'}');
        out
    }
}

impl Choice {
    fn write(&self, out: &mut Vec<u8>, index: usize, finish: &Finish) {
        fn nullable(out: &mut Vec<u8>, inside: Option<&Vec<u8>>) {
            match inside {
                None => out.extend_from_slice(b"null"),
                Some(inside) => {
                    out.push(b'"');
                    out.extend_from_slice(inside);
                    out.push(b'"');
                }
            }
        }
        out.extend_from_slice(b"{\"index\":");
        integer(out, index as u64);
        out.extend_from_slice(b",\"message\":{\"role\":\"assistant\",\"content\":");
        let empty = Vec::new();
        // An answer of nothing at all is the empty text; null is for calls, refusals and speech.
        let silent = self.calls.is_empty() && self.refusal.is_none() && !self.extra_content;
        nullable(out, self.content.as_ref().or(silent.then_some(&empty)));
        out.extend_from_slice(b",\"refusal\":");
        nullable(out, self.refusal.as_ref());
        if self.reasoning.is_some() {
            out.extend_from_slice(b",\"reasoning_content\":");
            nullable(out, self.reasoning.as_ref());
        }
        if !self.calls.is_empty() {
            out.extend_from_slice(b",\"tool_calls\":[");
            for (i, call) in self.calls.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(call);
                out.extend_from_slice(b"\"}}");
            }
            out.push(b']');
        }
        for (key, json) in &self.extra {
            out.push(b',');
            string(out, Text::Raw(key));
            out.push(b':');
            whole(out, json);
        }
        out.extend_from_slice(b"},\"logprobs\":");
        whole(out, &self.logprobs);
        out.extend_from_slice(b",\"finish_reason\":");
        string(out, Text::Raw(finish_reason(finish)));
        out.push(b'}');
    }
}

impl Sink for CompletionWriter {
    fn event(&mut self, event: Event<'_>) {
        let Some(index) = event.choice() else {
            return match event {
                Event::Fingerprint(text) => self.head.set_fingerprint(text),
                Event::ServiceTier(text) => self.head.set_service_tier(text),
                Event::Usage(usage) => self.usage = Some(usage),
                _ => {}
            };
        };
        // `llm::order` bounds the number of choices.
        while self.choices.len() <= index as usize {
            self.choices.push(Choice::default());
        }
        let Some(c) = self.choices.get_mut(index as usize) else { return };
        match event {
            Event::Content { text, .. } => append(c.content.get_or_insert_default(), text),
            Event::Reasoning { text, .. } => append(c.reasoning.get_or_insert_default(), text),
            Event::Refusal { text, .. } => append(c.refusal.get_or_insert_default(), text),
            Event::ToolStart { id, name, form, .. } => {
                let mut call = vec![b'{'];
                begin_call(&mut call, id, name, form);
                c.calls.push(call);
            }
            Event::ToolArguments { call, fragment, .. } => {
                if let Some(call) = c.calls.get_mut(call as usize) {
                    append(call, fragment);
                }
            }
            Event::Logprobs { json, .. } => c.logprobs.push(json.into()),
            Event::Extra { key, json, content, .. } => {
                c.extra_content |= content;
                match c.extra.iter_mut().find(|(known, _)| **known == *key) {
                    Some((_, pieces)) => pieces.push(json.into()),
                    None => c.extra.push((key.into(), vec![json.into()])),
                }
            }
            Event::Finish { reason, .. } => c.finish = Some(reason),
            _ => {} // no part of a completion
        }
    }
}

impl Writer for CompletionWriter {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::event::Event;

    #[test]
    fn a_message_has_no_member_twice() {
        let mut writer = CompletionWriter::new(Head::new(uuid::Uuid::nil(), uuid::Uuid::nil(), 0, "m"));
        for json in ["1", "[2]"] {
            writer.event(Event::Extra { choice: 0, key: "more", json, content: false });
        }
        writer.event(Event::Finish { choice: 0, reason: Finish::Stop });
        let text = String::from_utf8(writer.finish()).unwrap();
        assert!(text.contains(r#""refusal":null,"more":[2]},"#), "{text}");
    }

    #[test]
    fn what_came_in_pieces_is_whole() {
        let mut writer = CompletionWriter::new(Head::new(uuid::Uuid::nil(), uuid::Uuid::nil(), 0, "m"));
        for json in [r#"{"name":"f","arguments":"{"}"#, r#"{"arguments":"}"}"#] {
            writer.event(Event::Extra { choice: 0, key: "function_call", json, content: true });
        }
        for json in [r#"{"content":[1],"refusal":null}"#, r#"{"content":[2],"refusal":null}"#] {
            writer.event(Event::Logprobs { choice: 0, json });
        }
        writer.event(Event::Finish { choice: 0, reason: Finish::ToolCalls });
        let text = String::from_utf8(writer.finish()).unwrap();
        assert!(text.contains(r#""content":null,"refusal":null,"function_call":{"name":"f","arguments":"{}"}},"#), "{text}");
        assert!(text.contains(r#""logprobs":{"content":[1,2],"refusal":null},"#), "{text}");
    }
}
