//! What OpenAI's clients rely on, whichever provider answered: every call has an id that OpenAI would take and arguments,
//! a `stop` after calls is `tool_calls`, what a provider needs back rides in the id of a call, and what the protocol has no
//! event for becomes a member of the message.
//!
//! OpenAI's chat has a form for speech and for links
//! ([`annotations`](https://platform.openai.com/docs/api-reference/chat/object)); images have the form of OpenRouter and
//! LiteLLM; sources without a link and the results of a search are members of the gateway's own, `citations` and
//! `search_results`.

use crate::json::text::Text;
use crate::json::write::Writer as Json;
use crate::llm::event::{Block, Event, Finish, RawBlock, Sink, Source, ToolForm};
use crate::llm::order::Writer;
use crate::llm::state::Seal;
use crate::redact::cut;
use smallvec::SmallVec;

/// Applies the rules to events on their way to a writer.
pub struct Rules<W> {
    /// Where the events go.
    pub writer: W,
    /// Makes the ids of calls that come without one of their own; unique for the answer.
    answer_id: Box<str>,
    seal: Option<Seal>,
    /// By choice, whether each of its calls has what it must have: arguments, which an input need not be.
    calls: SmallVec<[SmallVec<[bool; 4]>; 1]>,
}

/// OpenAI's word for a finish.
pub const fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::Pause => "stop",
        Finish::Length | Finish::ContextWindow => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter | Finish::Refusal(_) => "content_filter",
    }
}

impl<W: Sink> Rules<W> {
    /// Rules for an answer of this id. Without a `seal` nothing that a provider needs back is kept.
    pub fn new(writer: W, answer_id: &str, seal: Option<Seal>) -> Self {
        // The end of an id is what is random in it.
        let end = answer_id.get(answer_id.len().saturating_sub(MAX_ANSWER_ID)..).unwrap_or_default();
        Self { writer, answer_id: end.into(), seal, calls: SmallVec::new() }
    }

    fn calls(&mut self, choice: u32) -> &mut [bool] {
        self.calls.get_mut(choice as usize).map_or(&mut [], |calls| calls)
    }

    fn start_call(&mut self, event: Event<'_>) {
        let Event::ToolStart { choice, call, id, name, form, state } = event else { return };
        while self.calls.len() <= choice as usize {
            self.calls.push(SmallVec::new());
        }
        if let Some(calls) = self.calls.get_mut(choice as usize) {
            calls.push(form == ToolForm::Custom);
        }
        let made = id.is_none().then(|| format!("call_{}_{choice}_{call}", self.answer_id));
        let id = id.or(made.as_deref().map(Text::Plain));
        let sealed = id.zip(state).zip(self.seal.as_ref()).map(|((id, state), seal)| seal.seal(&id.decode(), state));
        let id = sealed.as_deref().map(Text::Plain).or(id);
        self.writer.event(Event::ToolStart { choice, call, id, name, form, state: None });
    }

    /// Gives a call empty arguments, where it has none.
    fn complete_call(&mut self, choice: u32, call: u32) {
        if let Some(has_arguments @ false) = self.calls(choice).get_mut(call as usize) {
            *has_arguments = true;
            self.writer.event(Event::ToolArguments { choice, call, fragment: Text::Plain("{}") });
        }
    }

    fn finish(&mut self, choice: u32, reason: Finish) {
        let calls = self.calls(choice).len() as u32;
        let reason = match finish_reason(&reason) {
            "stop" if calls > 0 => Finish::ToolCalls,
            _ => reason,
        };
        if finish_reason(&reason) != "length" {
            (0..calls).for_each(|call| self.complete_call(choice, call));
        }
        self.writer.event(Event::Finish { choice, reason });
    }
}

impl<W: Sink> Sink for Rules<W> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::ToolStart { .. } => self.start_call(event),
            Event::ToolArguments { choice, call, .. } => {
                if let Some(has_arguments) = self.calls(choice).get_mut(call as usize) {
                    *has_arguments = true;
                }
                self.writer.event(event);
            }
            Event::BlockEnd { choice, block: Block::Call(call) } => self.complete_call(choice, call),
            Event::Finish { choice, reason } => self.finish(choice, reason),
            Event::Image { .. } | Event::Audio { .. } | Event::Citations { .. } | Event::SearchResults { .. } => {
                write_members(&event, &mut self.writer);
            }
            Event::Signature { .. }
            | Event::RedactedReasoning { .. }
            | Event::BlockEnd { .. }
            | Event::Raw { .. }
            | Event::RawInput { .. } => {}
            _ => self.writer.event(event),
        }
    }
}

impl<W: Writer> Writer for Rules<W> {
    fn flush(&mut self) {
        self.writer.flush();
    }

    fn refusal(&self, block: &RawBlock<'_>) -> Option<String> {
        Some(refusal(block))
    }
}

/// Why an answer with this block cannot be written.
pub fn refusal(block: &RawBlock<'_>) -> String {
    let kind = if block.media_type.is_empty() { String::new() } else { format!(" of type `{}`", cut(block.media_type)) };
    format!("the answer has a block `{}`{kind}, which a chat completion cannot hold", cut(block.name))
}

/// Writes an image, sound, citations or search results as members of the message.
pub fn write_members(event: &Event<'_>, out: &mut dyn Sink) {
    let mut write = |choice, key, json: Json, content| {
        if let Ok(json) = String::from_utf8(json.finish()) {
            out.event(Event::Extra { choice, key, json: &json, content });
        }
    };
    let mut w = Json::with_capacity(128);
    match *event {
        Event::Image { choice, source } => {
            w.array().object().key("type").string("image_url").key("image_url").object().key("url");
            match source {
                Source::Url(url) => w.text(url),
                Source::Base64 { media_type, data } => w.texts(&[Text::Plain("data:"), media_type, Text::Plain(";base64,"), data]),
            };
            w.end_object().end_object().end_array();
            write(choice, "images", w, true);
        }
        Event::Audio { choice, data, .. } => {
            w.object().key("id").string(&format!("audio_{choice}")).key("data").text(data);
            w.key("expires_at").integer(0).key("transcript").string("").end_object();
            write(choice, "audio", w, true);
        }
        Event::Citations { choice, list } => {
            let mut others = Json::default();
            w.array();
            others.array();
            for one in list {
                let Some(url) = one.url else {
                    others.raw(one.json);
                    continue;
                };
                w.object().key("type").string("url_citation").key("url_citation").object();
                w.key("start_index").integer(one.span.0).key("end_index").integer(one.span.1);
                w.key("url").text(url).key("title").text(one.title.unwrap_or(Text::Raw(""))).end_object().end_object();
            }
            w.end_array();
            others.end_array();
            if list.iter().any(|one| one.url.is_some()) {
                write(choice, "annotations", w, false);
            }
            if list.iter().any(|one| one.url.is_none()) {
                write(choice, "citations", others, false);
            }
        }
        Event::SearchResults { choice, pages } if !pages.is_empty() => {
            w.array();
            for page in pages {
                w.object().key("url").text(page.url).key("title").text(page.title.unwrap_or(Text::Raw(""))).end_object();
            }
            w.end_array();
            write(choice, "search_results", w, false);
        }
        _ => {}
    }
}

/// Most of an answer's id that goes into the id of a call, so that this one keeps to OpenAI's bound of 40 characters.
const MAX_ANSWER_ID: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::event::{Citation, Page};
    use crate::llm::state::Sealer;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    #[derive(Default)]
    struct Log(Vec<String>);

    impl Sink for Log {
        fn event(&mut self, event: Event<'_>) {
            self.0.push(match event {
                Event::ToolStart { call, id, name, .. } => format!("call {call} {} {}", id.unwrap().decode(), name.decode()),
                Event::ToolArguments { call, fragment, .. } => format!("arguments {call} {}", fragment.decode()),
                Event::Finish { reason, .. } => format!("finish {}", finish_reason(&reason)),
                Event::Extra { key, json, content, .. } => format!("{key} {json} {content}"),
                other => format!("{other:?}"),
            });
        }
    }

    impl Writer for Log {}

    fn start<'a>(call: u32, id: Option<&'a str>, form: ToolForm<'a>) -> Event<'a> {
        Event::ToolStart { choice: 0, call, id: id.map(Text::Raw), name: Text::Raw("f"), form, state: None }
    }

    fn arguments(call: u32, fragment: &str) -> Event<'_> {
        Event::ToolArguments { choice: 0, call, fragment: Text::Plain(fragment) }
    }

    const fn finish(reason: Finish) -> Event<'static> {
        Event::Finish { choice: 0, reason }
    }

    fn written(events: Vec<Event<'_>>) -> Vec<String> {
        let mut rules = Rules::new(Log::default(), "01", None);
        events.into_iter().for_each(|event| rules.event(event));
        rules.writer.0
    }

    #[test]
    fn every_call_has_an_id_and_arguments_and_is_what_the_answer_ends_with() {
        let end = |call| Event::BlockEnd { choice: 0, block: Block::Call(call) };
        let calls = || vec![start(0, Some("a"), ToolForm::Function), arguments(0, "[1]"), start(1, None, ToolForm::Function)];
        let ended = |reason| written(calls().into_iter().chain([end(0), finish(reason)]).collect());
        let all = ["call 0 a f", "arguments 0 [1]", "call 1 call_01_0_1 f", "arguments 1 {}", "finish tool_calls"];
        for reason in [Finish::Stop, Finish::StopSequence(None), Finish::Pause, Finish::ToolCalls] {
            assert_eq!(ended(reason), all);
        }
        assert_eq!(ended(Finish::Length), [&all[..3], &["finish length"]].concat(), "the arguments may be what was cut");
        let whole = written(calls().into_iter().chain([end(1), finish(Finish::ContextWindow)]).collect());
        assert_eq!(whole, [&all[..4], &["finish length"]].concat());
        assert_eq!(written(vec![finish(Finish::Stop)]), ["finish stop"]);
        assert_eq!(ended(Finish::Refusal(None)).last().map(String::as_str), Some("finish content_filter"));
    }

    #[test]
    fn the_input_of_a_custom_tool_may_be_empty() {
        assert_eq!(
            written(vec![start(0, None, ToolForm::Custom), finish(Finish::ToolCalls)]),
            ["call 0 call_01_0_0 f", "finish tool_calls"]
        );
    }

    #[test]
    fn every_made_id_is_different_and_one_that_openai_takes() {
        let mut rules = Rules::new(Log::default(), &"0123456789abcdef".repeat(2), None);
        for call in 0..crate::llm::order::MAX_CALLS {
            let choice = crate::llm::order::MAX_CHOICES as u32 - 1;
            rules.event(Event::ToolStart { choice, call, id: None, name: Text::Plain("f"), form: ToolForm::Function, state: None });
        }
        let ids: BTreeSet<_> = rules.writer.0.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(ids.len(), crate::llm::order::MAX_CALLS as usize);
        assert!(ids.iter().all(|id| id.len() <= 40), "{ids:?}");
    }

    #[test]
    fn what_a_provider_needs_back_rides_in_the_id() {
        let seal = Seal::new(Arc::new(Sealer::new(&[3; 32]).unwrap()), "team".into(), "p".into());
        let mut rules = Rules::new(Log::default(), "01", Some(seal.clone()));
        for (call, id) in [(0, Some(Text::Raw("a"))), (1, None)] {
            rules.event(Event::ToolStart { choice: 0, call, id, name: Text::Raw("f"), form: ToolForm::Function, state: Some(b"s") });
        }
        let opened: Vec<_> = rules.writer.0.iter().map(|line| seal.open(line.split(' ').nth(2).unwrap()).unwrap()).collect();
        assert_eq!(opened, [("a".to_owned(), b"s".to_vec()), ("call_01_0_1".to_owned(), b"s".to_vec())]);
    }

    #[test]
    fn what_openai_has_no_event_for_is_a_member_of_the_message() {
        let (media_type, data) = (Text::Plain("image/png"), Text::Raw("AA\\/="));
        let link = Citation { url: Some(Text::Raw("u")), title: None, span: (1, 2), json: "" };
        let other = Citation { url: None, title: None, span: (0, 0), json: "{\"x\":1}" };
        let page = Page { url: Text::Raw("u"), title: Some(Text::Raw("t")) };
        let choice = 0;
        assert_eq!(
            written(vec![
                Event::Image { choice, source: Source::Base64 { media_type, data } },
                Event::Image { choice, source: Source::Url(Text::Raw("u")) },
                Event::Audio { choice, media_type: Text::Plain("audio/wav"), data },
                Event::Citations { choice, list: &[link, other, link] },
                Event::SearchResults { choice, pages: &[page] },
                Event::SearchResults { choice, pages: &[] },
            ]),
            [
                r#"images [{"type":"image_url","image_url":{"url":"data:image/png;base64,AA\/="}}] true"#,
                r#"images [{"type":"image_url","image_url":{"url":"u"}}] true"#,
                r#"audio {"id":"audio_0","data":"AA\/=","expires_at":0,"transcript":""} true"#,
                concat!(
                    r#"annotations [{"type":"url_citation","url_citation":{"start_index":1,"end_index":2,"url":"u","title":""}},"#,
                    r#"{"type":"url_citation","url_citation":{"start_index":1,"end_index":2,"url":"u","title":""}}] false"#
                ),
                r#"citations [{"x":1}] false"#,
                r#"search_results [{"url":"u","title":"t"}] false"#,
            ]
        );
    }

    #[test]
    fn a_block_that_a_completion_cannot_hold_is_named() {
        let why = |name, media_type| refusal(&RawBlock { name, media_type, json: "", essential: true });
        assert_eq!(why("video", ""), "the answer has a block `video`, which a chat completion cannot hold");
        assert_eq!(
            why("inlineData", "video/mp4"),
            "the answer has a block `inlineData` of type `video/mp4`, which a chat completion cannot hold"
        );
    }
}
