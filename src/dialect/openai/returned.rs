//! What a provider that speaks OpenAI needs back on the next turn, for clients that know OpenAI's members only: collected
//! from an answer, sealed into the id of the tool call, and put back where it was when the client returns the id.

use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::escape;
use crate::llm::event::{Event, Sink, ToolForm};
use crate::llm::state::{MAX_STATE, Seal};
use crate::provider::catalogue::Returned;

/// Stands before a sealed state, so that another dialect's is never sent here. No text in UTF-8 begins with this byte.
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
    /// Reads a state that was opened; it is empty where another dialect has sealed it.
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
    seal: Seal,
    reasoning: bool,
    extra: bool,
}

impl Keeper {
    /// A keeper of these; `None` where nothing is to be kept.
    pub fn new(returns: &[Returned], seal: Option<&Seal>) -> Option<Self> {
        let has = |one: Returned| returns.contains(&one);
        let keeper = |seal: &Seal| Self { seal: seal.clone(), reasoning: has(Returned::Reasoning), extra: has(Returned::ExtraContent) };
        seal.filter(|_| !returns.is_empty()).map(keeper)
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
            Event::ToolStart { choice, call, id, name, form } => {
                let Some(state) = self.state(form) else { return self.out.event(event) };
                // A call without an id gets one from the law. One that carries a state needs it here; the state makes it
                // unlike others.
                let own = id.filter(|id| !id.is_empty()).map_or_else(|| format!("call_{choice}_{call}"), |id| id.decode().into_owned());
                let sealed = self.keeper.seal.seal(&own, &state);
                self.out.event(Event::ToolStart { choice, call, id: Some(Text::Plain(&sealed)), name, form });
            }
            _ => self.out.event(event),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::llm::state::Sealer;
    use std::sync::Arc;

    #[derive(Default)]
    struct Ids(Vec<String>);

    impl Sink for Ids {
        fn event(&mut self, event: Event<'_>) {
            if let Event::ToolStart { id, .. } = event {
                self.0.push(id.map(|id| id.decode().into_owned()).unwrap_or_default());
            }
        }
    }

    #[test]
    fn reasoning_goes_with_the_first_call_and_extra_content_with_its_own() {
        let seal = Seal::new(Arc::new(Sealer::new(&[3; 32]).unwrap()), "team".into());
        let keeper = Keeper::new(&[Returned::Reasoning, Returned::ExtraContent], Some(&seal)).unwrap();
        let (mut thought, mut ids) = (String::new(), Ids::default());
        let mut sink = keeper.over(&mut thought, &mut ids);
        let call = |call, id, form| Event::ToolStart { choice: 0, call, id, name: Text::Raw("f"), form };
        sink.event(Event::Reasoning { choice: 0, text: Text::Raw("a\\n") });
        sink.event(Event::Reasoning { choice: 0, text: Text::Plain("\"b\"") });
        sink.event(call(0, Some(Text::Raw("c1")), ToolForm::FunctionWith("{\"x\":1}")));
        sink.event(call(1, None, ToolForm::FunctionWith("{\"x\":2}")));
        sink.event(call(2, Some(Text::Raw("c3")), ToolForm::Function));
        let opened = |id: &str| seal.open(id).map(|(id, state)| (id, State::of(&state)));
        let (id, state) = opened(&ids.0[0]).unwrap();
        assert_eq!((id.as_str(), state.reasoning.as_deref(), state.extra.as_deref()), ("c1", Some("\"a\\n\\\"b\\\"\""), Some("{\"x\":1}")));
        let (id, state) = opened(&ids.0[1]).unwrap();
        assert_eq!((id.as_str(), state.reasoning, state.extra.as_deref()), ("call_0_1", None, Some("{\"x\":2}")));
        assert_eq!(ids.0[2], "c3");
        assert_eq!(State::of(b"\xffgemini:x"), State::default());
    }

    #[test]
    fn reasoning_beyond_the_bound_is_left_out_and_the_rest_is_sealed() {
        let seal = Seal::new(Arc::new(Sealer::new(&[3; 32]).unwrap()), "team".into());
        let keeper = Keeper::new(&[Returned::Reasoning], Some(&seal)).unwrap();
        let (mut thought, mut ids) = (String::new(), Ids::default());
        let mut sink = keeper.over(&mut thought, &mut ids);
        for _ in 0..100 {
            sink.event(Event::Reasoning { choice: 0, text: Text::Plain(&"x".repeat(1000)) });
        }
        sink.event(Event::ToolStart { choice: 0, call: 0, id: None, name: Text::Raw("f"), form: ToolForm::Function });
        let (_, state) = seal.open(&ids.0[0]).unwrap();
        assert!(State::of(&state).reasoning.unwrap().len() > MAX_STATE - 2000);
        assert!(Keeper::new(&[], Some(&seal)).is_none() && Keeper::new(&[Returned::Reasoning], None).is_none());
    }
}
