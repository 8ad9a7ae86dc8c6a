//! A JSON answer out of the code fence that a model put around it.
//!
//! ```text
//! Start --first line begins with ```--> Inside --finish--> the closing fence is left out
//!       --anything else--------------> Bare
//! ```

use super::rewrite::Rewrite;
use crate::json::text::Text;
use crate::llm::event::{Event, Sink};

/// How a fence begins and ends.
const FENCE: &str = "```";
/// Longest first line of a fence, in bytes; a longer one is content.
const MAX_FIRST_LINE: usize = 64;

/// Takes the fence off the content of the only choice.
#[derive(Debug, Default)]
pub struct Unfence {
    state: State,
    /// What may still belong to the fence.
    held: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing of the content has been written.
    #[default]
    Start,
    /// Behind the first line of a fence.
    Inside,
    /// There is no fence.
    Bare,
}

impl Unfence {
    fn push(&mut self, text: &str, choice: u32, out: &mut dyn Sink) {
        self.held.push_str(text);
        if self.state == State::Start {
            let begun = self.held.trim_start();
            if begun.is_empty() || (begun.len() < FENCE.len() && FENCE.starts_with(begun)) {
                return;
            }
            let first_line = begun.strip_prefix(FENCE).map(|rest| rest.find(['\n', '{']).map(|end| (rest, end)));
            match first_line {
                Some(Some((rest, end))) if end <= MAX_FIRST_LINE => {
                    (self.held, self.state) = (rest.get(end..).unwrap_or_default().trim_start().to_owned(), State::Inside)
                }
                Some(None) if begun.len() <= MAX_FIRST_LINE => return,
                _ => self.state = State::Bare,
            }
        }
        // White space and back-ticks at the end may be the closing fence.
        let kept = if self.state == State::Inside {
            self.held.trim_end_matches(|c: char| c == '`' || c.is_whitespace()).len()
        } else {
            self.held.len()
        };
        let rest = self.held.split_off(kept);
        let text = std::mem::replace(&mut self.held, rest);
        write(choice, &text, out);
    }

    fn finish(&mut self, choice: u32, out: &mut dyn Sink) {
        let held = std::mem::take(&mut self.held);
        let closing = self.state == State::Inside && held.trim() == FENCE;
        write(choice, if closing { "" } else { &held }, out);
    }
}

fn write(choice: u32, text: &str, out: &mut dyn Sink) {
    if !text.is_empty() {
        out.event(Event::Content { choice, text: Text::Plain(text) });
    }
}

impl Rewrite for Unfence {
    fn rewrite(&mut self, event: Event<'_>, out: &mut dyn Sink) {
        match event {
            Event::Content { text, .. } if self.state == State::Bare && text.is_empty() => {}
            Event::Content { choice, text } => self.push(&text.decode(), choice, out),
            Event::Finish { choice, .. } => {
                self.finish(choice, out);
                out.event(event);
            }
            _ => out.event(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::event::Finish;

    #[derive(Default)]
    struct Content(String);

    impl Sink for Content {
        fn event(&mut self, event: Event<'_>) {
            if let Event::Content { text, .. } = event {
                self.0.push_str(&text.decode());
            }
        }
    }

    #[test]
    fn only_a_fence_is_taken_off_however_it_is_cut() {
        for (text, want) in [
            ("```json\n{\"a\": 1}\n```", "{\"a\": 1}"),
            (" \n```\n{}\n```\n ", "{}"),
            ("```{\"a\": \"```\"}```", "{\"a\": \"```\"}"),
            ("{\"a\": \"``\"}\n", "{\"a\": \"``\"}\n"),
            ("```json\n{\"a\": ", "{\"a\": "),
            ("Sorry, ```no```", "Sorry, ```no```"),
            ("``", "``"),
            ("", ""),
        ] {
            for size in 1..=text.len().max(1) {
                let (mut unfence, mut out) = (Unfence::default(), Content::default());
                for piece in text.as_bytes().chunks(size) {
                    let text = Text::Plain(std::str::from_utf8(piece).unwrap_or_default());
                    unfence.rewrite(Event::Content { choice: 0, text }, &mut out);
                }
                unfence.rewrite(Event::Finish { choice: 0, reason: Finish::Stop }, &mut out);
                assert_eq!(out.0, want, "{text} by {size}");
            }
        }
    }
}
