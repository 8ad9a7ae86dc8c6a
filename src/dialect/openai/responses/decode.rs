//! Reads answers of the Responses API. One that passes as it comes is read for what the gateway has to know of it: when it begins,
//! what it used, how it ends. One for a client of another protocol is read for all that it says.
//!
//! ```text
//! Open --deltas, items--> Open --completed, incomplete--> Complete --[DONE] or the end--> Complete
//!   |\--failed, error--> failed
//!   \--[DONE] or the end--> Cut
//! ```
//!
//! An item begins, has deltas and is done; one without deltas is read when it is done. A whole answer is its items, each done at
//! once. One that runs in the background has none yet.

use super::state::Returned;
use super::wire::{WireEvent, WireIncomplete, WireItem, WireResponse, parts};
use crate::dialect;
use crate::dialect::openai::{error, logprobs, usage};
use crate::frame::Frame;
use crate::json::text::{Text, raw_text};
use crate::json::walk::{self, Cursor};
use crate::llm::event::{Block, Event, Finish, RawBlock, Sink, ToolForm};
use crate::llm::failure::Fault;
use crate::llm::responses::Functions;
use serde_json::value::RawValue;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;

/// Items that are an answer by themselves, or that the client has to act on. All others beside messages, reasoning and calls are
/// traces of tools that the provider runs.
const ESSENTIAL: [&str; 8] = [
    "compaction",
    "image_generation_call",
    "computer_call",
    "shell_call",
    "local_shell_call",
    "apply_patch_call",
    "tool_search_call",
    "mcp_approval_request",
];
/// Stands between the parts of a summary, which have no white space of their own around them.
const BETWEEN_PARTS: Text<'static> = Text::Plain("\n\n");

/// How far an answer is. What follows its end is ignored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Complete,
    Cut,
}

/// Reads one answer.
pub(super) struct Decoder {
    completion_excludes_reasoning: bool,
    /// The functions that stand for the request's other tools, by whose names the tools of namespaces are called.
    functions: Arc<Functions>,
    /// What the next call needs back; `None` where the answer passes, so that its client has all of it.
    returned: Option<Returned>,
    /// The calls that have begun, by their place among the items.
    calls: SmallVec<[u32; 4]>,
    /// The items of which deltas have come.
    begun: SmallVec<[u32; 4]>,
    stage: Stage,
}

impl Decoder {
    /// For one answer that passes. `completion_excludes_reasoning`: whether the provider's `output_tokens` leave reasoning out.
    pub(super) fn passing(completion_excludes_reasoning: bool, functions: Arc<Functions>) -> Self {
        Self {
            completion_excludes_reasoning,
            functions,
            returned: None,
            calls: SmallVec::new(),
            begun: SmallVec::new(),
            stage: Stage::Open,
        }
    }

    /// For one answer to a client of another protocol.
    pub(super) fn translating(completion_excludes_reasoning: bool) -> Self {
        Self { returned: Some(Returned::default()), ..Self::passing(completion_excludes_reasoning, Arc::default()) }
    }

    fn event(&mut self, name: Option<&str>, data: &str, out: &mut dyn Sink) -> Result<(), Fault> {
        let event: WireEvent<'_> = serde_json::from_str(data).map_err(|_| broken("an event is not JSON of this protocol"))?;
        // Some servers leave the names out.
        let kind = event.r#type.map_or(Cow::Borrowed(name.unwrap_or_default()), Text::decode);
        let delta = raw_text(event.delta).unwrap_or(Text::Raw(""));
        let index = event.output_index.and_then(|raw| walk::unsigned(raw.get())).unwrap_or_default();
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        if kind.ends_with(".delta") && !self.begun.contains(&index) {
            self.begun.push(index);
        }
        match &*kind {
            "response.output_text.delta" => {
                out.event(Event::Content { choice: 0, text: delta });
                self.logprobs(event.logprobs, out)?;
            }
            "response.refusal.delta" => out.event(Event::Refusal { choice: 0, text: delta }),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                out.event(Event::Reasoning { choice: 0, text: delta });
            }
            "response.reasoning_summary_part.added" if event.summary_index.is_some_and(|raw| raw.get() != "0") => {
                out.event(Event::Reasoning { choice: 0, text: BETWEEN_PARTS });
            }
            "response.function_call_arguments.delta" => self.arguments(index, ToolForm::Function, delta, out),
            "response.custom_tool_call_input.delta" => self.arguments(index, ToolForm::Custom, delta, out),
            "response.output_item.added" => {
                if let Some(item) = event.item {
                    self.begin_item(index, item.get(), &read_item(item)?, out);
                }
            }
            "response.output_item.done" => {
                if let Some(item) = event.item {
                    self.end_item(index, &read_item(item)?, out)?;
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let response = event.response.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
                let status = kind.trim_start_matches("response.");
                self.finish(status, &response, out)?;
                if self.returned.is_some() {
                    out.event(Event::End);
                }
            }
            "error" => return Err(Fault::Provider(error::in_band(data))),
            "" => return Err(broken("an event without a type")),
            _ => {}
        }
        Ok(())
    }

    /// An item begins.
    fn begin_item(&mut self, index: u32, raw: &str, item: &WireItem<'_>, out: &mut dyn Sink) {
        let kind = item.r#type.map(Text::decode).unwrap_or_default();
        match &*kind {
            "message" => {} // its deltas follow
            "reasoning" => out.event(Event::ReasoningStart { choice: 0 }),
            "function_call" | "custom_tool_call" => self.begin_call(index, item, out),
            name => {
                let block = RawBlock { name, media_type: "", json: raw, essential: ESSENTIAL.contains(&name) };
                out.event(Event::Raw { choice: 0, block });
            }
        }
    }

    /// An item is over, and there as a whole.
    fn end_item(&mut self, index: u32, item: &WireItem<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        let is_silent = !self.begun.contains(&index);
        match &*item.r#type.map(Text::decode).unwrap_or_default() {
            "message" => {
                if is_silent {
                    self.message(item, out)?;
                }
                if let Some(returned) = &mut self.returned {
                    returned.message(raw_text(item.phase));
                }
                out.event(Event::BlockEnd { choice: 0, block: Block::Text });
            }
            "reasoning" => {
                if is_silent {
                    let texts = parts(item.summary).into_iter().chain(parts(item.content)).filter_map(|part| raw_text(part.text));
                    for (number, text) in texts.enumerate() {
                        if number > 0 {
                            out.event(Event::Reasoning { choice: 0, text: BETWEEN_PARTS });
                        }
                        out.event(Event::Reasoning { choice: 0, text });
                    }
                }
                if let Some(returned) = &mut self.returned {
                    returned.reasoning(item);
                }
                out.event(Event::BlockEnd { choice: 0, block: Block::Reasoning });
            }
            kind @ ("function_call" | "custom_tool_call") => {
                if !self.calls.contains(&index) {
                    self.begin_call(index, item, out);
                }
                if is_silent {
                    let (form, text) =
                        if kind == "function_call" { (ToolForm::Function, item.arguments) } else { (ToolForm::Custom, item.input) };
                    self.arguments(index, form, raw_text(text).unwrap_or(Text::Raw("")), out);
                }
                // One that is cut off is done as well, and has another status.
                if raw_text(item.status).is_none_or(|status| status.decode() == "completed") {
                    out.event(Event::BlockEnd { choice: 0, block: Block::Call(index) });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The texts of a message.
    fn message(&self, item: &WireItem<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        for part in parts(item.content) {
            match (raw_text(part.text), raw_text(part.refusal)) {
                (Some(text), _) => {
                    out.event(Event::Content { choice: 0, text });
                    self.logprobs(part.logprobs, out)?;
                }
                (None, Some(text)) => out.event(Event::Refusal { choice: 0, text }),
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Log probabilities, an array of tokens in chat's form.
    fn logprobs(&self, tokens: Option<&RawValue>, out: &mut dyn Sink) -> Result<(), Fault> {
        match tokens.map(RawValue::get).filter(|raw| self.returned.is_some() && raw.starts_with('[')) {
            Some(tokens) => logprobs::emit(0, &format!("{{\"content\":{tokens},\"refusal\":null}}"), out),
            None => Ok(()),
        }
    }

    fn begin_call(&mut self, index: u32, item: &WireItem<'_>, out: &mut dyn Sink) {
        let custom = item.r#type.is_some_and(|kind| kind.decode() == "custom_tool_call");
        let form = if custom { ToolForm::Custom } else { ToolForm::Function };
        let (name, functions) = (raw_text(item.name).unwrap_or(Text::Raw("")), self.functions.clone());
        let namespace = raw_text(item.namespace).map(Text::decode);
        let function = namespace.and_then(|namespace| functions.for_tool(Some(&namespace), &name.decode()));
        self.call(index, raw_text(item.call_id), function.map_or(name, |function| Text::Plain(&function.name)), form, out);
    }

    fn call(&mut self, call: u32, id: Option<Text<'_>>, name: Text<'_>, form: ToolForm<'_>, out: &mut dyn Sink) {
        self.calls.push(call);
        let state = self.returned.as_mut().and_then(Returned::take);
        out.event(Event::ToolStart { choice: 0, call, id, name, form, state: state.as_deref() });
    }

    /// More of a call's arguments. That the call has not begun is the client's to judge.
    fn arguments(&mut self, call: u32, form: ToolForm<'_>, fragment: Text<'_>, out: &mut dyn Sink) {
        if !self.calls.contains(&call) {
            self.call(call, None, Text::Raw(""), form, out);
        }
        out.event(Event::ToolArguments { choice: 0, call, fragment });
    }

    /// Reads the end of an answer, or the state of one that continues in the background.
    fn finish(&mut self, status: &str, response: &WireResponse<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        // Some servers call every end `completed`.
        let own = raw_text(response.status).map(Text::decode);
        let status = own.as_deref().filter(|own| matches!(*own, "incomplete" | "failed" | "cancelled")).unwrap_or(status);
        if matches!(status, "failed" | "cancelled") {
            return Err(Fault::Provider(error::in_band(response.error.map_or("null", RawValue::get))));
        }
        self.stage = Stage::Complete;
        if let Some(tier) = raw_text(response.service_tier).filter(|_| self.returned.is_some()) {
            out.event(Event::ServiceTier(tier));
        }
        if let Some(raw) = response.usage.filter(|raw| raw.get().starts_with('{'))
            && let Some(usage) = usage::read(&mut Cursor::new(raw.get()), self.completion_excludes_reasoning)?
        {
            out.event(Event::Usage(usage));
        }
        let details = response.incomplete_details.and_then(|raw| serde_json::from_str::<WireIncomplete<'_>>(raw.get()).ok());
        let why = details.and_then(|details| raw_text(details.reason)).map(Text::decode);
        let reason = match status {
            "incomplete" if why.as_deref() == Some("content_filter") => Finish::ContentFilter,
            "incomplete" => Finish::Length,
            "queued" | "in_progress" => Finish::Stop,
            _ if !self.calls.is_empty() => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        out.event(Event::Finish { choice: 0, reason });
        Ok(())
    }
}

impl dialect::Decoder for Decoder {
    fn is_native(&self) -> bool {
        self.returned.is_none()
    }

    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        match frame {
            Frame::Sse { data: "[DONE]", .. } => {
                if self.stage == Stage::Open {
                    self.stage = Stage::Cut;
                }
                out.event(Event::End);
            }
            Frame::Sse { data: "", .. } => {}
            Frame::Sse { .. } if self.stage != Stage::Open => {}
            Frame::Sse { event, data } => self.event(event, data, out)?,
            Frame::Aws { .. } => return Err(broken("not a server-sent event")),
        }
        Ok(())
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let response: WireResponse<'_> = serde_json::from_slice(body).map_err(|_| broken("the answer is not JSON of this protocol"))?;
        let status = raw_text(response.status).map(Text::decode);
        if response.output.is_none() && status.is_none() {
            return Err(broken("the answer is no response"));
        }
        for (index, raw) in (0..).zip(response.output.iter().flatten()) {
            let item = read_item(raw)?;
            self.begin_item(index, raw.get(), &item, out);
            self.end_item(index, &item, out)?;
        }
        self.finish(status.as_deref().unwrap_or("completed"), &response, out)
    }

    fn end(&mut self, _: &mut dyn Sink) -> Result<(), Fault> {
        if self.stage == Stage::Complete { Ok(()) } else { Err(Fault::Truncated) }
    }
}

fn read_item(raw: &RawValue) -> Result<WireItem<'_>, Fault> {
    serde_json::from_str(raw.get()).map_err(|_| broken("an item is not JSON of this protocol"))
}

fn broken(what: &'static str) -> Fault {
    Fault::Broken(Cow::Borrowed(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Decoder as _;
    use crate::dialect::openai::tests::{Record, cut, stream};
    use crate::llm::responses::Function;

    /// Events with their names, as OpenAI sends them.
    fn sse(events: &[(&str, &str)]) -> String {
        events.iter().map(|(name, members)| format!("event: {name}\ndata: {{\"type\":\"{name}\"{members}}}\n\n")).collect()
    }

    fn streamed(body: &str) -> String {
        let (record, end) = cut(|| Decoder::passing(false, Arc::default()), body.as_bytes(), body);
        record.tell(&end)
    }

    fn whole(body: &str) -> String {
        let (mut decoder, mut record) = (Decoder::passing(false, Arc::default()), Record::default());
        let end = decoder.whole(body.as_bytes(), &mut record);
        assert!(end.is_err() || decoder.end(&mut record).is_ok());
        record.tell(&end)
    }

    const USAGE: &str = r#""usage":{"input_tokens":20,"input_tokens_details":{"cached_tokens":8,"cache_write_tokens":2},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":29}"#;
    const COUNTED: &str = "usage 20+9 cached 8 reasoning 5";

    /// The items of an answer with everything in it, and what is read of them.
    const ITEMS: &str = r#"[{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm"}],"encrypted_content":"gAAA"},
        {"type":"web_search_call","id":"ws_1","status":"completed"},
        {"type":"message","content":[{"type":"output_text","text":"Hi \"you\"","annotations":[]},{"type":"refusal","refusal":"No"}]},
        {"type":"function_call","call_id":"call_1","name":"f","arguments":"{\"a\":1}"},
        {"type":"custom_tool_call","call_id":"call_2","name":"patch","input":"*** Begin"},
        {"type":"computer_call","call_id":"call_3","action":{"type":"click"}}]"#;
    const READ: &str = "reasoning 0 Hm\nraw 0 web_search_call \ncontent 0 Hi \"you\"\nrefusal 0 No\ncall 0.3 call_1 f\narguments 0.3 {\"a\":1}\nend 0.3 \n\
         call 0.4 call_2 patch Custom\narguments 0.4 *** Begin\nend 0.4 \nraw 0 computer_call essential\nfinish 0 tool_calls\n";

    #[test]
    fn a_stream_and_a_whole_answer_say_the_same() {
        let created = r#","response":{"id":"resp_1","status":"in_progress","output":[],"usage":null}"#;
        let items = ITEMS.replace('\n', ""); // an event's data is one line
        let completed = format!(r#","response":{{"status":"completed","output":{items},"error":null,"incomplete_details":null,{USAGE}}}"#);
        let added = |index: u8, item: &str| format!(r#","output_index":{index},"item":{{{item}}}"#);
        let delta = |index: u8, text: &str| format!(r#","output_index":{index},"delta":"{text}","obfuscation":"x""#);
        let body = sse(&[
            ("response.created", created),
            ("response.in_progress", created),
            ("response.output_item.added", &added(0, r#""type":"reasoning","summary":[]"#)),
            ("response.reasoning_summary_text.delta", &delta(0, "H")),
            ("response.reasoning_text.delta", &delta(0, "m")),
            ("response.reasoning_summary_text.done", r#","text":"Hm""#),
            ("response.output_item.added", &added(1, r#""type":"web_search_call""#)),
            ("response.output_item.added", &added(2, r#""type":"message","content":[]"#)),
            ("response.content_part.added", r#","part":{"type":"output_text","text":""}"#),
            ("response.output_text.delta", &delta(2, "Hi ")),
            ("response.output_text.delta", &delta(2, r#"\"you\""#)),
            ("response.refusal.delta", &delta(2, "No")),
            ("response.output_item.added", &added(3, r#""type":"function_call","call_id":"call_1","name":"f","arguments":"""#)),
            ("response.function_call_arguments.delta", &delta(3, r#"{\"a\""#)),
            ("response.function_call_arguments.delta", &delta(3, ":1}")),
            ("response.output_item.done", &added(3, r#""type":"function_call","status":"completed""#)),
            ("response.output_item.added", &added(4, r#""type":"custom_tool_call","call_id":"call_2","name":"patch","input":"""#)),
            ("response.custom_tool_call_input.delta", &delta(4, "*** Begin")),
            ("response.output_item.done", &added(4, r#""type":"custom_tool_call""#)),
            ("response.output_item.added", &added(5, r#""type":"computer_call","call_id":"call_3""#)),
            ("response.brand_new.delta", r#","delta":{"type":7},"output_index":"one","response":[],"item":null"#),
            ("response.completed", &completed),
        ]);
        let want = format!("{READ}{COUNTED}\ncomplete");
        assert_eq!(streamed(&body), want);
        // vLLM names no events and marks the end.
        let unnamed: String = body.lines().filter(|line| !line.starts_with("event:")).map(|line| format!("{line}\n")).collect();
        assert_eq!(streamed(&format!("{unnamed}data: [DONE]\n\n")), want);
        assert_eq!(whole(&format!(r#"{{"object":"response","status":"completed","output":{ITEMS},{USAGE}}}"#)), want);
    }

    #[test]
    fn a_tool_of_a_namespace_is_called_by_the_name_of_the_function_that_stands_for_it() {
        let mut functions = Functions::default();
        let function = |name: &str, tool: &str, namespace: Option<&str>| Function {
            name: name.into(),
            tool: tool.into(),
            namespace: namespace.map(Into::into),
            custom: None,
        };
        functions.add(function("crm__get", "get", Some("crm")));
        let (mut decoder, mut record) = (Decoder::passing(false, functions.into()), Record::default());
        let call = |namespace: &str| format!(r#"{{"type":"function_call","call_id":"c","name":"get"{namespace},"arguments":""}}"#);
        let calls = [r#","namespace":"crm""#, r#","namespace":"erp""#, ""].map(call).join(",");
        let end = decoder.whole(format!(r#"{{"status":"completed","output":[{calls}]}}"#).as_bytes(), &mut record);
        let said = record.tell(&end);
        assert_eq!(
            said.lines().filter_map(|line| line.strip_prefix("call ")).collect::<Vec<_>>(),
            ["0.0 c crm__get", "0.1 c get", "0.2 c get"]
        );
    }

    #[test]
    fn a_call_that_is_cut_off_does_not_end() {
        let call = r#""type":"custom_tool_call","call_id":"c","name":"p","input":"a","status":"incomplete""#;
        let items =
            ["added", "done"].map(|what| (format!("response.output_item.{what}"), format!(r#","output_index":0,"item":{{{call}}}"#)));
        let mut events: Vec<(&str, &str)> = items.iter().map(|(name, members)| (&**name, &**members)).collect();
        events.push(("response.incomplete", r#","response":{}"#));
        assert_eq!(streamed(&sse(&events)), "call 0.0 c p Custom\narguments 0.0 a\nfinish 0 length\ncomplete");
    }

    #[test]
    fn each_end_has_its_finish() {
        let text = r#"{"type":"message","content":[{"type":"output_text","text":"a"}]}"#;
        for (status, details, finish) in [
            ("completed", "null", "stop"),
            ("incomplete", r#"{"reason":"max_output_tokens"}"#, "length"),
            ("incomplete", r#"{"reason":"content_filter"}"#, "content_filter"),
            ("incomplete", "null", "length"),
        ] {
            let response = format!(r#"{{"status":"{status}","output":[{text}],"incomplete_details":{details}}}"#);
            assert_eq!(whole(&response), format!("content 0 a\nfinish 0 {finish}\ncomplete"));
            for event in [status, "completed"] {
                let end = format!(r#","response":{response}"#);
                let body = sse(&[("response.output_text.delta", r#","delta":"a""#), (&format!("response.{event}"), &end)]);
                assert_eq!(streamed(&body), format!("content 0 a\nfinish 0 {finish}\ncomplete"), "{event} {response}");
            }
        }
        assert_eq!(streamed(&sse(&[("response.completed", "")])), "finish 0 stop\ncomplete");
        // A summary of the conversation is an answer by itself, and what is unknown is none and no failure.
        for (kind, essential) in [("compaction", "essential"), ("brand_new", "")] {
            let read = whole(&format!(r#"{{"status":"brand_new","output":[{{"type":"{kind}","encrypted_content":"x"}}]}}"#));
            assert_eq!(read, format!("raw 0 {kind} {essential}\nfinish 0 stop\ncomplete"));
        }
        for status in ["queued", "in_progress"] {
            let body = format!(r#"{{"id":"resp_1","status":"{status}","background":true,"output":[],"usage":null}}"#);
            assert_eq!(whole(&body), "finish 0 stop\ncomplete");
        }
    }

    #[test]
    fn failures_have_the_class_of_their_code() {
        for (code, class) in [
            ("rate_limit_exceeded", "RateLimited"),
            ("context_length_exceeded", "ContextLength"),
            ("server_error", "Server"),
            ("insufficient_quota", "Credential"),
            ("server_is_overloaded", "Overloaded"),
            ("invalid_prompt", "ContentFilter"),
            ("cyber_policy", "ContentFilter"),
            ("misalignment_policy_violation", "ContentFilter"),
            ("invalid_image_url", "BadRequest"),
            ("invalid_encrypted_content", "StaleReasoning"),
        ] {
            let error = format!(r#"{{"code":"{code}","message":"no"}}"#);
            let response = format!(r#"{{"status":"failed","output":[],"error":{error}}}"#);
            let want = format!("provider {class} no");
            assert_eq!(whole(&response), want);
            let text = ("response.output_text.delta", r#","delta":"a""#);
            for (name, members) in [
                ("response.failed", format!(r#","response":{response}"#)),
                ("error", format!(r#","code":"{code}","message":"no","param":null,"sequence_number":500"#)),
                ("error", format!(r#","error":{error},"sequence_number":3"#)),
            ] {
                assert_eq!(streamed(&sse(&[text, (name, &members)])), format!("content 0 a\n{want}"), "{name}{members}");
            }
        }
        assert!(streamed(&sse(&[("response.failed", "")])).starts_with("provider Server "));
    }

    #[test]
    fn an_answer_without_its_end_is_cut_off() {
        let text = sse(&[("response.created", ""), ("response.output_text.delta", r#","delta":"a""#)]);
        assert_eq!(streamed(&text), "content 0 a\ntruncated");
        let late = sse(&[("response.completed", "")]);
        assert_eq!(streamed(&format!("{text}data: [DONE]\n\n{late}")), "content 0 a\ntruncated");
        assert_eq!(streamed("data: {\"delta\":\"a\"}\n\n"), "broken");
        assert_eq!(whole(r#"{"object":"chat.completion","choices":[]}"#), "broken");
    }

    #[test]
    fn a_call_that_never_began_is_one_all_the_same() {
        let body = sse(&[("response.function_call_arguments.delta", r#","output_index":1,"delta":"{}""#), ("response.completed", "")]);
        assert_eq!(streamed(&body), "call 0.1 - \narguments 0.1 {}\nfinish 0 tool_calls\ncomplete");
    }

    #[test]
    fn output_without_the_reasoning_is_completed_from_the_total() {
        let usage = r#"{"input_tokens":10,"output_tokens":4,"output_tokens_details":{"reasoning_tokens":6},"total_tokens":20}"#;
        let body = sse(&[("response.completed", &format!(r#","response":{{"usage":{usage}}}"#))]);
        let (record, end) = stream(Decoder::passing(true, Arc::default()), [body.as_bytes()]);
        assert!(record.tell(&end).contains("usage 10+10 cached 0 reasoning 6"));
    }
}
