//! Writes an answer as OpenAI's server-sent chunks.

use crate::front::chat::head::Head;
use crate::front::chat::rules::finish_reason;
use crate::front::chat::usage;
use crate::front::write::append;
use crate::json::text::Text;
use crate::json::write::integer;
use crate::llm::event::{Event, Sink, ToolForm};
use crate::llm::order::Writer;
use crate::llm::usage::Usage;

/// Where the usage of a stream goes, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsagePlace {
    /// The client did not ask for it.
    Withheld,
    /// On the chunk that carries the last finish reason.
    Merged,
    /// On one more chunk without choices.
    Separate,
}

/// Largest buffer that is kept from one chunk to the next, in bytes.
const KEPT: usize = 4 << 10;

/// Turns events into `data: {…}` lines. The events of one provider frame for one choice become one chunk.
#[derive(Debug)]
pub struct ChunkWriter {
    /// Bytes for the client; taken by the relay after every frame.
    out: Vec<u8>,
    head: Head,
    /// `data: {"id":…,"service_tier":…`, made when the first chunk is written.
    prefix: Vec<u8>,
    usage_place: UsagePlace,
    /// Choices whose role has been written.
    roles: u128,
    /// Choice and index of the calls of custom tools.
    customs: Vec<(u32, u32)>,
    pending: Pending,
    usage: Option<Usage>,
}

/// The chunk that is being put together.
#[derive(Debug, Default)]
struct Pending {
    choice: Option<u32>,
    /// Members of `delta`, each followed by a comma.
    delta: Vec<u8>,
    /// Which of content, reasoning and refusal `delta` has, one bit each.
    texts: u8,
    /// Elements of `delta.tool_calls`, each followed by a comma.
    calls: Vec<u8>,
    /// The call that the last of these elements is about.
    last_call: u32,
    logprobs: Vec<u8>,
    finish: Option<&'static str>,
}

impl ChunkWriter {
    /// A writer for an answer with this head.
    pub fn new(head: Head, usage_place: UsagePlace) -> Self {
        Self {
            out: Vec::new(),
            head,
            prefix: Vec::new(),
            usage_place,
            roles: 0,
            customs: Vec::new(),
            pending: Pending::default(),
            usage: None,
        }
    }

    /// What has been written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        if self.out.capacity() > KEPT {
            return std::mem::take(&mut self.out);
        }
        // A chunk or two are copied: the next ones find their room where it is, and what has no room to spare becomes
        // `Bytes` as it is.
        let out = self.out.to_vec();
        self.out.clear();
        out
    }

    /// The answer is complete: writes the last chunk and what comes after it.
    pub fn done(&mut self) {
        self.chunk(self.usage.filter(|_| self.usage_place == UsagePlace::Merged));
        if let Some(usage) = self.usage.filter(|_| self.usage_place == UsagePlace::Separate) {
            self.begin();
            self.out.extend_from_slice(b",\"choices\":[],\"usage\":");
            usage::write(&usage, &mut self.out);
            self.out.extend_from_slice(b"}\n\n");
        }
        self.out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn begin(&mut self) {
        if self.prefix.is_empty() {
            self.prefix.extend_from_slice(b"data: ");
            self.head.write(&mut self.prefix, "chat.completion.chunk");
        }
        self.out.extend_from_slice(&self.prefix);
    }

    /// The pending chunk for `choice`; an earlier one of another choice is written first.
    fn pending(&mut self, choice: u32) -> &mut Pending {
        if self.pending.choice != Some(choice) {
            self.flush();
            self.pending.choice = Some(choice);
        }
        &mut self.pending
    }

    fn text(&mut self, choice: u32, bit: u8, key: &'static [u8], text: Text<'_>) {
        if self.pending.choice == Some(choice) && (self.pending.texts & bit != 0 || !self.pending.calls.is_empty()) {
            self.flush();
        }
        let pending = self.pending(choice);
        pending.texts |= bit;
        pending.delta.extend_from_slice(key);
        string(&mut pending.delta, text);
        pending.delta.push(b',');
    }

    /// A chunk has each call once: clients begin with the first chunk as it is, and only add later chunks to it.
    fn arguments(&mut self, choice: u32, call: u32, fragment: Text<'_>) {
        let has_calls = self.pending.choice == Some(choice) && !self.pending.calls.is_empty();
        if has_calls && call < self.pending.last_call {
            self.flush();
        }
        let custom = self.customs.contains(&(choice, call));
        let pending = self.pending(choice);
        let calls = &mut pending.calls;
        if !calls.is_empty() && pending.last_call == call {
            calls.truncate(calls.len() - CALL_END.len());
        } else {
            calls.extend_from_slice(b"{\"index\":");
            integer(calls, u64::from(call));
            calls.extend_from_slice(if custom { b",\"custom\":{\"input\":\"" } else { b",\"function\":{\"arguments\":\"" });
        }
        pending.last_call = call;
        append(calls, fragment);
        calls.extend_from_slice(CALL_END);
    }
}

/// Appends a call from its id to the opening quote of its arguments, as completions and chunks have it.
pub(super) fn begin_call(out: &mut Vec<u8>, id: Option<Text<'_>>, name: Text<'_>, form: ToolForm<'_>) {
    out.extend_from_slice(b"\"id\":");
    string(out, id.unwrap_or(Text::Plain("")));
    let (before, after): (&[u8], &[u8]) = match form {
        ToolForm::Custom => (b",\"type\":\"custom\",\"custom\":{\"name\":", b",\"input\":\""),
        _ => (b",\"type\":\"function\",\"function\":{\"name\":", b",\"arguments\":\""),
    };
    if let ToolForm::FunctionWith(json) = form {
        out.extend_from_slice(b",\"extra_content\":");
        one_line(out, json);
    }
    out.extend_from_slice(before);
    string(out, name);
    out.extend_from_slice(after);
}

/// How every element of `delta.tool_calls` ends: behind the last character of its arguments.
const CALL_END: &[u8] = b"\"}},";

/// Whether a key may be among these members already. Where it only stands deeper inside, one more chunk does no harm.
fn has_key(delta: &[u8], key: &str) -> bool {
    memchr::memmem::find_iter(delta, key).any(|at| {
        let before = at.checked_sub(1).and_then(|at| delta.get(at));
        before == Some(&b'"') && delta.get(at + key.len()) == Some(&b'"')
    })
}

/// Appends a JSON value. A line break, which can only stand between its tokens, would end the event's line.
fn one_line(out: &mut Vec<u8>, json: &str) {
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    for byte in out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
}

/// Appends a JSON string.
pub(super) fn string(out: &mut Vec<u8>, text: Text<'_>) {
    out.push(b'"');
    append(out, text);
    out.push(b'"');
}

impl Sink for ChunkWriter {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Fingerprint(text) => self.head.set_fingerprint(text),
            Event::ServiceTier(text) => self.head.set_service_tier(text),
            Event::Content { choice, text } => self.text(choice, 1, b"\"content\":", text),
            Event::Reasoning { choice, text } => self.text(choice, 2, b"\"reasoning_content\":", text),
            Event::Refusal { choice, text } => self.text(choice, 4, b"\"refusal\":", text),
            Event::ToolStart { choice, call, id, name, form, .. } => {
                if form == ToolForm::Custom {
                    self.customs.push((choice, call));
                }
                let pending = self.pending(choice);
                pending.last_call = call;
                let calls = &mut pending.calls;
                calls.extend_from_slice(b"{\"index\":");
                integer(calls, u64::from(call));
                calls.push(b',');
                begin_call(calls, id, name, form);
                calls.extend_from_slice(CALL_END);
            }
            Event::ToolArguments { choice, call, fragment } => self.arguments(choice, call, fragment),
            Event::Logprobs { choice, json } => {
                if self.pending.choice == Some(choice) && !self.pending.logprobs.is_empty() {
                    self.flush();
                }
                one_line(&mut self.pending(choice).logprobs, json);
            }
            Event::Extra { choice, key, json, .. } => {
                if self.pending.choice == Some(choice) && has_key(&self.pending.delta, key) {
                    self.flush();
                }
                let delta = &mut self.pending(choice).delta;
                string(delta, Text::Raw(key));
                delta.push(b':');
                one_line(delta, json);
                delta.push(b',');
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finish { choice, reason } => self.pending(choice).finish = Some(finish_reason(&reason)),
            _ => {} // no part of a chunk
        }
    }
}

impl Writer for ChunkWriter {
    fn flush(&mut self) {
        self.chunk(None);
    }
}

impl ChunkWriter {
    /// Writes the pending chunk, with the usage of the whole answer where it is the last one.
    fn chunk(&mut self, usage: Option<Usage>) {
        let Some(choice) = self.pending.choice.take() else { return };
        self.begin();
        let (out, p) = (&mut self.out, &mut self.pending);
        out.extend_from_slice(b",\"choices\":[{\"index\":");
        integer(out, u64::from(choice));
        out.extend_from_slice(b",\"delta\":{");
        let role = 1u128.checked_shl(choice).unwrap_or(0);
        if self.roles & role == 0 {
            self.roles |= role;
            out.extend_from_slice(b"\"role\":\"assistant\",");
        }
        out.append(&mut p.delta);
        if !p.calls.is_empty() {
            out.extend_from_slice(b"\"tool_calls\":[");
            out.append(&mut p.calls);
            out.pop();
            out.extend_from_slice(b"],");
        }
        if out.last() == Some(&b',') {
            out.pop();
        }
        out.extend_from_slice(b"},\"logprobs\":");
        out.extend_from_slice(if p.logprobs.is_empty() { b"null" } else { &p.logprobs });
        p.logprobs.clear();
        out.extend_from_slice(b",\"finish_reason\":");
        match p.finish.take() {
            Some(reason) => string(out, Text::Raw(reason)),
            None => out.extend_from_slice(b"null"),
        }
        p.texts = 0;
        out.extend_from_slice(b"}]");
        if let Some(usage) = usage {
            out.extend_from_slice(b",\"usage\":");
            usage::write(&usage, out);
        } else if self.usage_place == UsagePlace::Separate {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn no_chunk_has_a_member_twice() {
        let mut writer = ChunkWriter::new(Head::new(Uuid::nil(), Uuid::nil(), 0, "m"), UsagePlace::Withheld);
        for (key, json) in [("a", "1"), ("aa", "{\"b\":2}"), ("a", "3")] {
            writer.event(Event::Extra { choice: 0, key, json, content: false });
        }
        writer.flush();
        let text = String::from_utf8(writer.take()).unwrap();
        let deltas: Vec<_> =
            text.lines().filter_map(|line| Some(line.split_once("\"delta\":")?.1.split_once(",\"logprobs\"")?.0)).collect();
        assert_eq!(deltas, [r#"{"role":"assistant","a":1,"aa":{"b":2}}"#, r#"{"a":3}"#]);
    }

    #[test]
    fn a_chunk_is_one_line() {
        let mut writer = ChunkWriter::new(Head::new(Uuid::nil(), Uuid::nil(), 0, "m"), UsagePlace::Withheld);
        writer.event(Event::Extra { choice: 0, key: "a", json: "{\r\n\"b\\n\": 1\n}", content: false });
        writer.event(Event::Logprobs { choice: 0, json: "{\n}" });
        writer.flush();
        let text = String::from_utf8(writer.take()).unwrap();
        assert_eq!((text.trim_end().lines().count(), text.contains('\r')), (1, false), "{text}");
        assert!(text.contains(r#""a":{  "b\n": 1 }},"logprobs":{ },"#), "{text}");
    }

    #[test]
    fn a_chunk_has_each_call_once() {
        let mut writer = ChunkWriter::new(Head::new(Uuid::nil(), Uuid::nil(), 0, "m"), UsagePlace::Withheld);
        let start = |call| Event::ToolStart {
            choice: 0,
            call,
            id: Some(Text::Raw("i")),
            name: Text::Raw("f"),
            form: ToolForm::Function,
            state: None,
        };
        let arguments = |call, text| Event::ToolArguments { choice: 0, call, fragment: Text::Plain(text) };
        for event in [start(0), arguments(0, "{\"a\":"), arguments(0, "1}"), start(1), arguments(1, "{"), arguments(0, " ")] {
            writer.event(event);
        }
        writer.flush();
        let text = String::from_utf8(writer.take()).unwrap();
        let calls: Vec<_> = text.lines().filter_map(|line| line.split_once("\"tool_calls\":")?.1.split_once("},\"logprobs\"")).collect();
        let calls: Vec<_> = calls.into_iter().map(|(calls, _)| calls).collect();
        let whole = |call, text| format!(r#"{{"index":{call},"id":"i","type":"function","function":{{"name":"f","arguments":"{text}"}}}}"#);
        let first = format!("[{},{}]", whole(0, r#"{\"a\":1}"#), whole(1, "{"));
        assert_eq!(calls, [first.as_str(), r#"[{"index":0,"function":{"arguments":" "}}]"#]);
    }

    #[test]
    fn calls_of_other_forms_keep_their_form() {
        let mut writer = ChunkWriter::new(Head::new(Uuid::nil(), Uuid::nil(), 0, "m"), UsagePlace::Withheld);
        let start = |call, form| Event::ToolStart { choice: 0, call, id: Some(Text::Raw("i")), name: Text::Raw("f"), form, state: None };
        let arguments = |call, text| Event::ToolArguments { choice: 0, call, fragment: Text::Plain(text) };
        for event in [start(0, ToolForm::Custom), arguments(0, "pri"), start(1, ToolForm::FunctionWith("{\n}")), arguments(0, "nt")] {
            writer.event(event);
        }
        writer.flush();
        let text = String::from_utf8(writer.take()).unwrap();
        assert!(text.contains(r#"{"index":0,"id":"i","type":"custom","custom":{"name":"f","input":"pri"}}"#), "{text}");
        assert!(
            text.contains(r#"{"index":1,"id":"i","extra_content":{ },"type":"function","function":{"name":"f","arguments":""}}"#),
            "{text}"
        );
        assert!(text.contains(r#"[{"index":0,"custom":{"input":"nt"}}]"#), "{text}");
    }
}
