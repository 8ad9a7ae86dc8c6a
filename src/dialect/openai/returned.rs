//! What a provider that speaks OpenAI needs back on the next turn, for clients that return OpenAI's members only: collected
//! from an answer as the state of a tool call, and put back where it was when the client returns the call.

use super::quirks::Returned;
use crate::json::envelope::ScanError;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::event::{Event, Sink, ToolForm};
use crate::llm::state::MAX_STATE;

/// Starts every state, so that another dialect's is never sent here. No text in UTF-8 begins with this byte.
const TAG: &[u8] = b"\xffopenai:";
/// Bytes of a state beside the reasoning and the extra content in it.
const FRAME: usize = 64;

/// A state that came back: raw JSON.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The turn's reasoning, a JSON string.
    pub reasoning: Option<String>,
    /// The turn's `reasoning_details`, an array.
    pub details: Option<String>,
    /// The call's `extra_content`.
    pub extra: Option<String>,
}

impl State {
    /// Reads a state that was opened; it is empty where it is another dialect's.
    pub fn of(state: &[u8]) -> Self {
        let mut found = Self::default();
        let json = state.strip_prefix(TAG).and_then(|json| std::str::from_utf8(json).ok());
        let mut members = json.and_then(|json| walk::members(json).ok());
        while let Some((key, value)) = members.as_mut().and_then(|members| members.next().ok()).flatten() {
            match key.raw() {
                "reasoning_content" => found.reasoning = Some(value.to_owned()),
                "reasoning_details" => found.details = Some(value.to_owned()),
                "extra_content" => found.extra = Some(value.to_owned()),
                _ => {}
            }
        }
        found
    }
}

/// Collects what a provider needs back.
pub struct Keeper {
    reasoning: bool,
    details: bool,
    extra: bool,
}

/// What has been collected of a choice since its last call.
#[derive(Debug, Default)]
pub struct Kept {
    /// Its reasoning, the inside of a JSON string.
    thought: String,
    details: Details,
}

impl Keeper {
    /// A keeper of these; `None` where nothing is to be kept.
    pub fn new(returns: &[Returned]) -> Option<Self> {
        let has = |one: Returned| returns.contains(&one);
        (!returns.is_empty()).then(|| Self {
            reasoning: has(Returned::Reasoning),
            details: has(Returned::ReasoningDetails),
            extra: has(Returned::ExtraContent),
        })
    }

    /// Whether reasoning is kept, so that all of it has to pass through [`Keeping`].
    pub const fn keeps_reasoning(&self) -> bool {
        self.reasoning
    }

    /// Takes the `reasoning_details` (raw JSON) of a chunk, or of a `whole` answer.
    ///
    /// # Errors
    /// Where they are not well formed.
    pub fn take_details(&self, json: &str, whole: bool, kept: &mut Kept) -> Result<(), ScanError> {
        if self.details && json.starts_with('[') { kept.details.push(json, whole) } else { Ok(()) }
    }

    /// A sink in front of another one.
    pub fn over<'a>(&'a self, kept: &'a mut Kept, out: &'a mut dyn Sink) -> Keeping<'a> {
        Keeping { keeper: self, kept, out }
    }
}

/// See [`Keeper::over`].
pub struct Keeping<'a> {
    keeper: &'a Keeper,
    kept: &'a mut Kept,
    out: &'a mut dyn Sink,
}

impl Keeping<'_> {
    /// More of the reasoning, kept as the inside of a JSON string. What is beyond the bound is left out: a provider that
    /// wants its reasoning back checks that there is some, not how much.
    fn think(&mut self, text: Text<'_>) {
        let piece = text.escaped();
        if self.kept.thought.len() + piece.len() + TAG.len() + FRAME <= MAX_STATE {
            self.kept.thought.push_str(&piece);
        }
    }

    /// The state of a call; the turn's reasoning and its details go with its first one.
    fn state(&mut self, form: ToolForm<'_>) -> Option<Vec<u8>> {
        let thought = std::mem::take(&mut self.kept.thought);
        let details = self.kept.details.take();
        let extra = match form {
            ToolForm::FunctionWith(json) if self.keeper.extra => Some(json),
            _ => None,
        };
        let used = thought.len() + details.as_ref().map_or(0, String::len);
        let fits = |extra: &&str| used + extra.len() + TAG.len() + FRAME <= MAX_STATE;
        let members = [
            Some(thought.as_str()).filter(|thought| !thought.is_empty()).map(|thought| format!("\"reasoning_content\":\"{thought}\"")),
            details.map(|details| format!("\"reasoning_details\":{details}")),
            extra.filter(fits).map(|json| format!("\"extra_content\":{json}")),
        ];
        let members: Vec<String> = members.into_iter().flatten().collect();
        if members.is_empty() { None } else { Some([TAG, b"{", members.join(",").as_bytes(), b"}"].concat()) }
    }
}

/// `reasoning_details`, merged from the pieces of a stream. The elements that follow a text or a summary with the same type and
/// `index` continue it, up to its signature, as OpenRouter's own clients read them:
/// <https://github.com/OpenRouterTeam/ai-sdk-provider>. Elements of other types come whole.
#[derive(Debug, Default)]
struct Details {
    /// The elements that are whole, the inside of an array.
    done: String,
    /// The members of the last one, as names and raw JSON.
    open: Vec<(String, String)>,
    /// Whether there were too many. A part of a signed text is of no use, so that nothing is kept then.
    overflow: bool,
}

impl Details {
    fn push(&mut self, json: &str, whole: bool) -> Result<(), ScanError> {
        let mut elements = walk::inner_elements(json)?;
        while let Some(element) = elements.next()? {
            if element.starts_with('{') && !self.overflow {
                self.element(element, whole)?;
                let open: usize = self.open.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
                if self.done.len() + open + TAG.len() + FRAME > MAX_STATE {
                    *self = Self { overflow: true, ..Self::default() };
                }
            }
        }
        Ok(())
    }

    fn element(&mut self, json: &str, whole: bool) -> Result<(), ScanError> {
        let members = walk::inner_members(json)?.rest()?.into_iter().filter(|(_, value)| *value != "null");
        let element: Vec<_> = members.map(|(key, value)| (key.decode().into_owned(), value.to_owned())).collect();
        let kind = member(&element, "type");
        let continues = matches!(kind, "\"reasoning.text\"" | "\"reasoning.summary\"")
            && kind == member(&self.open, "type")
            && member(&element, "index") == member(&self.open, "index")
            && member(&self.open, "signature").is_empty();
        if whole || !continues {
            self.close();
            self.open = element;
            return Ok(());
        }
        for (name, value) in element {
            match self.open.iter_mut().find(|(known, _)| *known == name) {
                None => self.open.push((name, value)),
                Some((_, text)) if matches!(name.as_str(), "text" | "summary") && text.ends_with('"') && value.starts_with('"') => {
                    text.pop();
                    text.push_str(value.get(1..).unwrap_or_default());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Writes the last element behind the others.
    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let mut w = Writer::default();
        w.object();
        for (name, value) in self.open.drain(..) {
            w.key(&name).raw(&value);
        }
        w.end_object();
        if !self.done.is_empty() {
            self.done.push(',');
        }
        self.done.push_str(&w.into_string());
    }

    /// All of them, an array; `None` where there are none.
    fn take(&mut self) -> Option<String> {
        self.close();
        let all = std::mem::take(self).done;
        (!all.is_empty()).then(|| format!("[{all}]"))
    }
}

/// A member, raw JSON; `""` where there is none.
fn member<'a>(members: &'a [(String, String)], name: &str) -> &'a str {
    members.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

impl Sink for Keeping<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Reasoning { text, .. } if self.keeper.reasoning => {
                self.think(text);
                self.out.event(event);
            }
            Event::ToolStart { choice, call, id, name, form, .. } => {
                let state = self.state(form);
                self.out.event(Event::ToolStart { choice, call, id, name, form, state: state.as_deref() });
            }
            _ => self.out.event(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct States(Vec<State>);

    impl Sink for States {
        fn event(&mut self, event: Event<'_>) {
            if let Event::ToolStart { state, .. } = event {
                self.0.push(state.map(State::of).unwrap_or_default());
            }
        }
    }

    const fn call(call: u32, form: ToolForm<'_>) -> Event<'_> {
        Event::ToolStart { choice: 0, call, id: None, name: Text::Raw("f"), form, state: None }
    }

    #[test]
    fn reasoning_goes_with_the_first_call_and_extra_content_with_its_own() {
        let keeper = Keeper::new(&[Returned::Reasoning, Returned::ExtraContent]).unwrap();
        let (mut kept, mut states) = (Kept::default(), States::default());
        let mut sink = keeper.over(&mut kept, &mut states);
        sink.event(Event::Reasoning { choice: 0, text: Text::Raw("a\\n") });
        sink.event(Event::Reasoning { choice: 0, text: Text::Plain("\"b\"") });
        sink.event(call(0, ToolForm::FunctionWith("{\"x\":1}")));
        sink.event(call(1, ToolForm::FunctionWith("{\"x\":2}")));
        sink.event(call(2, ToolForm::Function));
        let state = |reasoning: Option<&str>, extra: &str| State {
            reasoning: reasoning.map(str::to_owned),
            extra: Some(extra.to_owned()),
            ..State::default()
        };
        assert_eq!(states.0, [state(Some("\"a\\n\\\"b\\\"\""), "{\"x\":1}"), state(None, "{\"x\":2}"), State::default()]);
        assert_eq!(State::of(b"\xffgemini:x"), State::default());
    }

    #[test]
    fn reasoning_beyond_the_bound_is_left_out_and_the_rest_is_kept() {
        let keeper = Keeper::new(&[Returned::Reasoning]).unwrap();
        let (mut kept, mut states) = (Kept::default(), States::default());
        let mut sink = keeper.over(&mut kept, &mut states);
        for _ in 0..100 {
            sink.event(Event::Reasoning { choice: 0, text: Text::Plain(&"x".repeat(1000)) });
        }
        sink.event(call(0, ToolForm::Function));
        let kept = states.0.remove(0).reasoning.unwrap().len();
        assert!((MAX_STATE - 2000..MAX_STATE).contains(&kept));
        assert!(Keeper::new(&[]).is_none());
    }

    #[test]
    fn details_are_put_together_from_the_pieces_of_a_stream() {
        let keeper = Keeper::new(&[Returned::ReasoningDetails]).unwrap();
        let state = |pieces: &[&str], whole: bool| {
            let (mut kept, mut states) = (Kept::default(), States::default());
            pieces.iter().for_each(|json| keeper.take_details(json, whole, &mut kept).unwrap());
            keeper.over(&mut kept, &mut states).event(call(0, ToolForm::Function));
            keeper.over(&mut kept, &mut states).event(call(1, ToolForm::Function));
            assert_eq!(states.0.remove(1), State::default());
            states.0.remove(0).details
        };
        let text = |text: &str| format!(r#"[{{"type":"reasoning.text","text":"{text}","signature":null,"format":"f","index":0}}]"#);
        let signed = r#"[{"type":"reasoning.text","signature":"s","index":0}]"#;
        let sealed = r#"[{"type":"reasoning.encrypted","data":"d","id":"i","index":0}]"#;
        let want = [
            r#"[{"type":"reasoning.text","text":"a\nb","format":"f","index":0,"signature":"s"}"#,
            r#"{"type":"reasoning.encrypted","data":"d","id":"i","index":0}"#,
            r#"{"type":"reasoning.encrypted","data":"d","id":"i","index":0}"#,
            r#"{"type":"reasoning.text","text":"c","format":"f","index":0}]"#,
        ];
        assert_eq!(state(&[&text(r"a\n"), &text("b"), signed, sealed, sealed, &text("c")], false), Some(want.join(",")));
        let both = format!("[{},{}]", text("a").trim_matches(['[', ']']), text("b").trim_matches(['[', ']']));
        assert_eq!(state(&[&both], true).unwrap().matches("reasoning.text").count(), 2);
        assert_eq!(state(&[&text(&"x".repeat(20_000)), &text(&"x".repeat(20_000)), sealed], false), None);
        assert_eq!(state(&["{}", "[7]"], false), None);
    }
}
