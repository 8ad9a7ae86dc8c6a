//! What a provider that speaks OpenAI needs back on the next turn, for clients that return OpenAI's members only: collected
//! from an answer as the state of a tool call, and put back where it was when the client returns the call.

use super::quirks::Returned;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::escape;
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
    extra: bool,
}

impl Keeper {
    /// A keeper of these; `None` where nothing is to be kept.
    pub fn new(returns: &[Returned]) -> Option<Self> {
        let has = |one: Returned| returns.contains(&one);
        (!returns.is_empty()).then(|| Self { reasoning: has(Returned::Reasoning), extra: has(Returned::ExtraContent) })
    }

    /// Whether reasoning is kept, so that all of it has to pass through [`Keeping`].
    pub const fn keeps_reasoning(&self) -> bool {
        self.reasoning
    }

    /// A sink in front of another one. `thought` is the reasoning of the choice so far.
    pub fn over<'a>(&'a self, thought: &'a mut String, out: &'a mut dyn Sink) -> Keeping<'a> {
        Keeping { keeper: self, thought, out }
    }
}

/// See [`Keeper::over`].
pub struct Keeping<'a> {
    keeper: &'a Keeper,
    thought: &'a mut String,
    out: &'a mut dyn Sink,
}

impl Keeping<'_> {
    /// More of the reasoning, kept as the inside of a JSON string. What is beyond the bound is left out: a provider that
    /// wants its reasoning back checks that there is some, not how much.
    fn think(&mut self, text: Text<'_>) {
        let mut escaped = Vec::new();
        let piece = match text {
            Text::Raw(raw) => raw,
            Text::Plain(plain) => {
                escape(&mut escaped, plain);
                std::str::from_utf8(&escaped).unwrap_or_default()
            }
        };
        if self.thought.len() + piece.len() + TAG.len() + FRAME <= MAX_STATE {
            self.thought.push_str(piece);
        }
    }

    /// The state of a call; the turn's reasoning goes with its first one.
    fn state(&mut self, form: ToolForm<'_>) -> Option<Vec<u8>> {
        let thought = std::mem::take(self.thought);
        let extra = match form {
            ToolForm::FunctionWith(json) if self.keeper.extra => Some(json),
            _ => None,
        };
        let fits = |extra: &&str| thought.len() + extra.len() + TAG.len() + FRAME <= MAX_STATE;
        let members = [
            Some(thought.as_str()).filter(|thought| !thought.is_empty()).map(|thought| format!("\"reasoning_content\":\"{thought}\"")),
            extra.filter(fits).map(|json| format!("\"extra_content\":{json}")),
        ];
        let members: Vec<String> = members.into_iter().flatten().collect();
        if members.is_empty() { None } else { Some([TAG, b"{", members.join(",").as_bytes(), b"}"].concat()) }
    }
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
#[allow(clippy::unwrap_used)]
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
        let (mut thought, mut states) = (String::new(), States::default());
        let mut sink = keeper.over(&mut thought, &mut states);
        sink.event(Event::Reasoning { choice: 0, text: Text::Raw("a\\n") });
        sink.event(Event::Reasoning { choice: 0, text: Text::Plain("\"b\"") });
        sink.event(call(0, ToolForm::FunctionWith("{\"x\":1}")));
        sink.event(call(1, ToolForm::FunctionWith("{\"x\":2}")));
        sink.event(call(2, ToolForm::Function));
        let state = |reasoning: Option<&str>, extra: &str| State { reasoning: reasoning.map(str::to_owned), extra: Some(extra.to_owned()) };
        assert_eq!(states.0, [state(Some("\"a\\n\\\"b\\\"\""), "{\"x\":1}"), state(None, "{\"x\":2}"), State::default()]);
        assert_eq!(State::of(b"\xffgemini:x"), State::default());
    }

    #[test]
    fn reasoning_beyond_the_bound_is_left_out_and_the_rest_is_kept() {
        let keeper = Keeper::new(&[Returned::Reasoning]).unwrap();
        let (mut thought, mut states) = (String::new(), States::default());
        let mut sink = keeper.over(&mut thought, &mut states);
        for _ in 0..100 {
            sink.event(Event::Reasoning { choice: 0, text: Text::Plain(&"x".repeat(1000)) });
        }
        sink.event(call(0, ToolForm::Function));
        let kept = states.0.remove(0).reasoning.unwrap().len();
        assert!((MAX_STATE - 2000..MAX_STATE).contains(&kept));
        assert!(Keeper::new(&[]).is_none());
    }
}
