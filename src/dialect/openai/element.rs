//! One element of `choices`, under the names and in the forms that servers have for its members.

use super::calls::odd;
use super::usage;
use crate::json::envelope::ScanError;
use crate::json::text::Text;
use crate::json::walk::{self, Cursor};
use crate::json::write::Writer;
use crate::llm::event::{Event, Sink};
use crate::llm::failure::Fault;
use crate::llm::usage::Usage;
use smallvec::SmallVec;
use std::borrow::Cow;

/// An element, all of it raw; `""` where it has no such member.
#[derive(Default)]
pub struct Element<'a> {
    /// Its number.
    pub index: u64,
    /// Its tool calls, an array.
    pub calls: &'a str,
    /// Its log probabilities, an object.
    pub logprobs: &'a str,
    /// Why it ended.
    pub finish: Option<Text<'a>>,
    /// What it used.
    pub used: Option<Usage>,
    /// The whole element, where it holds an error.
    pub failure: Option<&'a str>,
    /// The `message` of a stream, unread: see [`Element::read_message`].
    pub message: &'a str,
    /// The text.
    content: &'a str,
    /// The model's reasoning, in one of its forms.
    reasoning: &'a str,
    /// The same in OpenRouter's form, which the client gets too, because it has to be sent back.
    details: &'a str,
    refusal: Option<Text<'a>>,
    extras: SmallVec<[(&'a str, &'a str); 2]>,
}

impl<'a> Element<'a> {
    /// Reads an element; `place` is its number where it has none.
    ///
    /// # Errors
    /// Where it is not well formed.
    pub fn read(at: &mut Cursor<'a>, place: u64, whole: bool, completion_excludes_reasoning: bool) -> Result<Self, Fault> {
        let (start, mut failed, mut odd_member) = (at.position(), false, None);
        let mut element = Self { index: place, ..Self::default() };
        at.object(|at, name| {
            match name {
                "delta" if at.at_object() => return at.object(|at, name| element.member(name, at.raw()?)),
                "message" if whole && at.at_object() => return at.object(|at, name| element.member(name, at.raw()?)),
                "usage" if at.at_object() => {
                    element.used = usage::read(at, completion_excludes_reasoning)?;
                    return Ok(());
                }
                _ => {}
            }
            let value = at.raw()?;
            match name {
                "index" => element.index = walk::unsigned(value).unwrap_or(place),
                "logprobs" if value.starts_with('{') => element.logprobs = value,
                "finish_reason" => {
                    element.finish = filled(value);
                    if element.finish.is_none() && !is_nothing(value) {
                        odd_member = Some("finish_reason");
                    }
                }
                "message" if value.starts_with('{') => element.message = value,
                "delta" | "message" if !is_nothing(value) => odd_member = Some("delta"),
                "error" => failed |= value.starts_with('{') && value != "{}",
                _ => {}
            }
            Ok::<_, ScanError>(())
        })?;
        if let Some(member) = odd_member {
            return Err(odd(member));
        }
        element.failure = failed.then(|| at.since(start));
        Ok(element)
    }

    /// Reads the message of a stream. Some servers end a stream with one that repeats the deltas.
    ///
    /// # Errors
    /// Where it is not well formed.
    pub fn read_message(&mut self) -> Result<(), Fault> {
        let mut members = walk::inner_members(self.message)?;
        while let Some((key, value)) = members.next()? {
            self.member(key.raw(), value)?;
        }
        Ok(())
    }

    /// Whether there is anything of an answer in it.
    pub fn has_content(&self) -> bool {
        !self.calls.is_empty() || self.has_text()
    }

    /// Whether there is anything of an answer in it beside calls.
    pub fn has_text(&self) -> bool {
        !self.reasoning.is_empty() || self.refusal.is_some() || !self.extras.is_empty() || !is_nothing(self.content)
    }

    /// The `reasoning_details`, raw JSON; `""` where there are none.
    pub const fn details(&self) -> &'a str {
        self.details
    }

    /// A member of a `delta` or a `message`.
    fn member(&mut self, name: &'a str, value: &'a str) -> Result<(), ScanError> {
        match name {
            "content" => self.content = value,
            // Some servers send the same under two names.
            "reasoning_content" | "reasoning" | "reasoning_text" | "thinking" => {
                if self.reasoning.is_empty() && !is_nothing(value) {
                    self.reasoning = value;
                }
            }
            "refusal" => self.refusal = filled(value),
            "tool_calls" => self.calls = if is_nothing(value) { "" } else { value },
            _ if is_nothing(value) => {}
            // Whatever is spelled with escapes may be a second one of the members above.
            name if name.contains('\\') => {}
            name if IGNORED.contains(&name) => {}
            name => {
                if name == "reasoning_details" {
                    self.details = value;
                }
                self.extras.push((name, value));
            }
        }
        Ok(())
    }

    /// Emits its texts and what is beside them. Reasoning comes before the content that it led to.
    ///
    /// # Errors
    /// Where a part of it is not well formed.
    pub fn emit(&self, choice: u32, out: &mut dyn Sink) -> Result<(), Fault> {
        for (key, json) in &self.extras {
            let json = if *key == "annotations" { citations(json) } else { Some(Cow::Borrowed(*json)) };
            if let Some(json) = json {
                out.event(Event::Extra { choice, key, json: &json, content: CONTENT.contains(key) });
            }
        }
        if !self.details.is_empty() {
            out.event(Event::ReasoningStart { choice });
        }
        reasoning(choice, if self.reasoning.is_empty() { self.details } else { self.reasoning }, out)?;
        match self.content.as_bytes().first() {
            Some(b'[') => parts(choice, self.content, out)?,
            Some(b'{') => part(choice, self.content, out)?,
            _ if is_nothing(self.content) => {}
            _ => out.event(Event::Content { choice, text: walk::string(self.content).ok_or_else(|| odd("content"))? }),
        }
        if let Some(text) = self.refusal {
            out.event(Event::Refusal { choice, text });
        }
        Ok(())
    }
}

/// Content as an array of parts: texts, and reasoning among them.
fn parts(choice: u32, json: &str, out: &mut dyn Sink) -> Result<(), Fault> {
    let mut elements = walk::inner_elements(json)?;
    while let Some(element) = elements.next()? {
        part(choice, element, out)?;
    }
    Ok(())
}

/// One part of the content: a text, or an object that holds one.
fn part(choice: u32, part: &str, out: &mut dyn Sink) -> Result<(), Fault> {
    let mut text = filled(part);
    let mut thinks = false;
    if part.starts_with('{') {
        let mut members = walk::inner_members(part)?;
        while let Some((key, value)) = members.next()? {
            match key.raw() {
                "text" => text = filled(value),
                "type" => thinks |= value.starts_with("\"reasoning") || value.starts_with("\"thinking"),
                _ => {}
            }
        }
    }
    if thinks {
        reasoning(choice, part, out)?;
    } else if let Some(text) = text {
        out.event(Event::Content { choice, text });
    }
    Ok(())
}

/// Reasoning in any of its forms: a text, a list of forms, or an object that holds one under a name of the server's.
fn reasoning(choice: u32, json: &str, out: &mut dyn Sink) -> Result<(), Fault> {
    match json.as_bytes().first() {
        Some(b'"') => {
            if let Some(text) = filled(json) {
                out.event(Event::Reasoning { choice, text });
            }
        }
        Some(b'[') => {
            let mut elements = walk::inner_elements(json)?;
            while let Some(element) = elements.next()? {
                reasoning(choice, element, out)?;
            }
        }
        Some(b'{') => {
            let mut members = walk::inner_members(json)?;
            while let Some((key, value)) = members.next()? {
                if matches!(key.raw(), "text" | "content" | "thinking" | "summary") {
                    reasoning(choice, value, out)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether a member is as good as absent.
fn is_nothing(json: &str) -> bool {
    matches!(json, "" | "null" | "[]" | "{}" | "\"\"")
}

/// The inside of a string that has something in it.
pub(super) fn filled(json: &str) -> Option<Text<'_>> {
    walk::string(json).filter(|text| !text.is_empty())
}

/// The annotations of OpenAI's schema, each with all the members that it has there; some servers put files and others
/// among them, and some leave members out or put them beside the type, as OpenAI's Responses have them.
fn citations(json: &str) -> Option<Cow<'_, str>> {
    let mut kept: SmallVec<[Cow<'_, str>; 4]> = SmallVec::new();
    let (mut count, mut elements) = (0, walk::inner_elements(json).ok()?);
    while let Some(element) = elements.next().ok()? {
        count += 1;
        kept.extend(citation(element));
    }
    let as_they_are = kept.len() == count && kept.iter().all(|one| matches!(one, Cow::Borrowed(_)));
    match kept.is_empty() {
        true => None,
        false if as_they_are => Some(Cow::Borrowed(json)),
        false => Some(Cow::Owned(format!("[{}]", kept.join(",")))),
    }
}

/// A link in OpenAI's form; `None` where it is something else or has no address.
fn citation(element: &str) -> Option<Cow<'_, str>> {
    let (mut found, mut inside) = (false, "");
    let mut members = walk::inner_members(element).ok()?;
    while let Some((key, value)) = members.next().ok()? {
        found |= key.is("type") && value == "\"url_citation\"";
        if key.is("url_citation") {
            inside = value;
        }
    }
    let (mut start, mut end, mut url, mut title) = (None, None, None, None);
    let nested = inside.starts_with('{');
    let mut members = walk::inner_members(if nested { inside } else { element }).ok()?;
    while let Some((key, value)) = members.next().ok()? {
        match &*key.decode() {
            "start_index" => start = walk::unsigned(value),
            "end_index" => end = walk::unsigned(value),
            "url" => url = walk::string(value),
            "title" => title = walk::string(value),
            _ => {}
        }
    }
    let url = url.filter(|_| found)?;
    if nested && start.is_some() && end.is_some() && title.is_some() {
        return Some(Cow::Borrowed(element));
    }
    let mut w = Writer::default();
    w.object().key("type").string("url_citation").key("url_citation").object();
    w.key("start_index").integer(start.unwrap_or_default()).key("end_index").integer(end.unwrap_or_default());
    w.key("url").text(url).key("title").text(title.unwrap_or(Text::Raw(""))).end_object().end_object();
    Some(Cow::Owned(w.into_string()))
}

/// Members of a message or delta that are not passed on: the client gets the same from others, or they mean nothing to it.
const IGNORED: [&str; 7] = ["role", "name", "prefix", "token_id", "token_ids", "tool_call_id", "stop_reason"];
/// Members that are an answer by themselves: OpenAI's first form of a tool call, speech, and images.
const CONTENT: [&str; 3] = ["function_call", "audio", "images"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_all_the_members_of_openais_schema_or_is_left_out() {
        let whole = r#"{"type":"url_citation","url_citation":{"end_index":2,"start_index":1,"url":"u","title":"t","content":"c"}}"#;
        let made = r#"{"type":"url_citation","url_citation":{"start_index":0,"end_index":0,"url":"u","title":""}}"#;
        for (json, want) in [
            (format!("[{whole}]"), Some(format!("[{whole}]"))),
            (r#"[{"type":"url_citation","url_citation":{"url":"u"}}]"#.into(), Some(format!("[{made}]"))),
            (r#"[{"type":"url_citation","url":"u","title":null}]"#.into(), Some(format!("[{made}]"))),
            (format!(r#"[{{"type":"file","file":{{}}}},{whole}]"#), Some(format!("[{whole}]"))),
            (r#"[{"type":"url_citation","url_citation":{"title":"t","start_index":1,"end_index":2}}]"#.into(), None),
            (r#"[{"type":"file_citation","url":"u"}]"#.into(), None),
            ("[7]".into(), None),
        ] {
            assert_eq!(citations(&json).as_deref(), want.as_deref(), "{json}");
        }
    }
}
