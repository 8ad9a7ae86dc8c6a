//! `<think>…</think>` at the beginning of the content as reasoning. Only where a target has `think_tags: split`: a text that
//! merely mentions the tag is content.

use super::rewrite::Rewrite;
use crate::json::text::Text;
use crate::llm::event::{Event, Sink};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";
/// Most bytes that are held back because they may belong to a tag or to the white space around it.
const MAX_HELD: usize = 1 << 10;

/// Where a choice's content is.
///
/// ```text
/// Before --<think>--> Opened --first other character--> Inside --</think>--> Behind --first other character--> Content
///      \---------------anything else----------------------------------------------------------------------> Content
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Before,
    /// Line feeds after the tag are not part of the thought.
    Opened,
    Inside,
    /// White space between the think text and the answer belongs to neither.
    Behind,
    Content,
}

#[derive(Debug, Default)]
struct State {
    choice: u32,
    position: Position,
    /// What may still become a tag: shorter than one, and white space before it.
    held: String,
}

/// Makes the think text of every choice reasoning.
#[derive(Debug, Default)]
pub struct SplitThink {
    states: Vec<State>,
}

impl SplitThink {
    fn state(&mut self, choice: u32) -> Option<&mut State> {
        let at = self.states.iter().position(|state| state.choice == choice).unwrap_or_else(|| {
            self.states.push(State { choice, ..State::default() });
            self.states.len() - 1
        });
        self.states.get_mut(at)
    }
}

impl Rewrite for SplitThink {
    fn rewrite(&mut self, event: Event<'_>, out: &mut dyn Sink) {
        match event {
            Event::Content { choice, text } => {
                let Some(state) = self.state(choice) else { return };
                if state.position == Position::Content {
                    return out.event(event);
                }
                state.held.push_str(&text.decode());
                state.advance(out);
            }
            Event::Finish { choice, .. } | Event::ToolStart { choice, .. } => {
                if let Some(state) = self.state(choice) {
                    state.give_up(out);
                }
                out.event(event);
            }
            _ => out.event(event),
        }
    }
}

impl State {
    fn advance(&mut self, out: &mut dyn Sink) {
        if self.position == Position::Before {
            let begun = self.held.trim_start();
            if let Some(rest) = begun.strip_prefix(OPEN) {
                self.held = rest.to_owned();
                self.position = Position::Opened;
            } else if OPEN.starts_with(begun) && self.held.len() <= MAX_HELD {
                return;
            } else {
                self.position = Position::Content;
            }
        }
        if self.position == Position::Opened {
            let thought = self.held.trim_start_matches('\n');
            if thought.is_empty() {
                return self.held.clear();
            }
            self.held = thought.to_owned();
            self.position = Position::Inside;
        }
        if self.position == Position::Inside {
            let held = std::mem::take(&mut self.held);
            if let Some((thought, rest)) = held.split_once(CLOSE) {
                self.emit(thought.trim_end_matches('\n'), out);
                self.held = rest.to_owned();
                self.position = Position::Behind;
            } else {
                // Line feeds are held too: the last ones before the closing tag are not part of the thought.
                let tag = (1..CLOSE.len()).rev().find(|n| CLOSE.get(..*n).is_some_and(|start| held.ends_with(start))).unwrap_or(0);
                let (thought, tail) = held.split_at_checked(held.len() - tag).unwrap_or((&held, ""));
                let kept =
                    if held.len() > MAX_HELD + thought.trim_end_matches('\n').len() { thought } else { thought.trim_end_matches('\n') };
                self.emit(kept, out);
                self.held = [thought.strip_prefix(kept).unwrap_or_default(), tail].concat();
                return;
            }
        }
        if self.position == Position::Behind {
            let rest = self.held.trim_start();
            if rest.is_empty() {
                self.held.clear();
                return;
            }
            self.held = rest.to_owned();
            self.position = Position::Content;
        }
        self.give_up(out);
    }

    /// What is held back is no tag.
    fn give_up(&mut self, out: &mut dyn Sink) {
        let held = std::mem::take(&mut self.held);
        self.emit(&held, out);
    }

    fn emit(&self, text: &str, out: &mut dyn Sink) {
        let (choice, text) = (self.choice, Text::Plain(text));
        match self.position {
            _ if text.is_empty() => {}
            Position::Inside => out.event(Event::Reasoning { choice, text }),
            _ => out.event(Event::Content { choice, text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::event::Finish;

    #[derive(Default)]
    struct Texts(String, String);

    impl Sink for Texts {
        fn event(&mut self, event: Event<'_>) {
            match event {
                Event::Content { text, .. } => self.1.push_str(&text.decode()),
                Event::Reasoning { text, .. } => self.0.push_str(&text.decode()),
                _ => {}
            }
        }
    }

    /// Splits the text whole and letter by letter; both must agree.
    fn split(text: &str) -> (String, String) {
        let run = |pieces: &[String]| {
            let (mut split, mut out) = (SplitThink::default(), Texts::default());
            for piece in pieces {
                split.rewrite(Event::Content { choice: 0, text: Text::Plain(piece) }, &mut out);
            }
            split.rewrite(Event::Finish { choice: 0, reason: Finish::Stop }, &mut out);
            (out.0, out.1)
        };
        let whole = run(&[text.to_owned()]);
        assert_eq!(whole, run(&text.chars().map(String::from).collect::<Vec<_>>()), "{text}");
        whole
    }

    #[test]
    fn a_think_text_at_the_beginning_is_reasoning() {
        let texts = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(split("\n<think>\nhm\n\nso\n</think>\n\nyes <think>"), texts("hm\n\nso", "yes <think>"));
        assert_eq!(split("<think>a </thin b</think>c"), texts("a </thin b", "c"));
        assert_eq!(split("<think>never ends"), texts("never ends", ""));
        assert_eq!(split("say <think>x</think>"), texts("", "say <think>x</think>"));
        assert_eq!(split(" <thi"), texts("", " <thi"));
    }
}
