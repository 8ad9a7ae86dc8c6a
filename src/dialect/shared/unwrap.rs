//! A choice out of the object that held it.
//!
//! Where a provider can only be held to a JSON object, `guided_choice` is asked for as `{"choice": …}` (see
//! [`choice_schema`](crate::llm::constraint::choice_schema)), and the client gets the choice alone.

use super::rewrite::Rewrite;
use crate::json::text::Text;
use crate::json::walk;
use crate::llm::constraint::CHOICE_KEY;
use crate::llm::event::{Event, Sink};

/// Longest object that is held back, in bytes; what is longer is no choice and is emitted as it came.
pub const MAX_HELD: usize = 64 << 10;

/// Takes the choice out of an answer that is an object with one: holds the content of each choice back until it ends.
#[derive(Debug, Default)]
pub struct Unwrap {
    /// Number and text of the choices that have not ended; `None` where nothing is held back any more.
    held: Vec<(u32, Option<String>)>,
}

impl Unwrap {
    fn slot(&mut self, choice: u32) -> Option<&mut Option<String>> {
        let at = self.held.iter().position(|(number, _)| *number == choice).unwrap_or_else(|| {
            self.held.push((choice, Some(String::new())));
            self.held.len() - 1
        });
        self.held.get_mut(at).map(|(_, text)| text)
    }
}

impl Rewrite for Unwrap {
    fn rewrite(&mut self, event: Event<'_>, out: &mut dyn Sink) {
        match event {
            Event::Content { choice, text } => {
                let Some(slot) = self.slot(choice) else { return };
                match slot {
                    Some(held) if held.len() + text.decode().len() <= MAX_HELD => held.push_str(&text.decode()),
                    Some(_) => {
                        let held = slot.take().unwrap_or_default();
                        out.event(Event::Content { choice, text: Text::Plain(&held) });
                        out.event(event);
                    }
                    None => out.event(event),
                }
            }
            Event::Finish { choice, .. } => {
                if let Some(held) = self.slot(choice).and_then(Option::take).filter(|held| !held.is_empty()) {
                    out.event(Event::Content { choice, text: chosen(&held).unwrap_or(Text::Plain(&held)) });
                }
                out.event(event);
            }
            _ => out.event(event),
        }
    }
}

/// The choice in the object, or in a JSON string that came instead of one; `None` where the text is neither (cut off, or
/// not held to it at all).
fn chosen(json: &str) -> Option<Text<'_>> {
    if let Ok(text) = serde_json::from_str(json.trim()) {
        return Some(text);
    }
    let members = walk::members(json).ok()?.rest().ok()?;
    members.into_iter().rfind(|(key, _)| key.is(CHOICE_KEY)).and_then(|(_, value)| walk::string(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::event::Finish;

    #[derive(Default)]
    struct Content(String);

    impl Sink for Content {
        fn event(&mut self, event: Event<'_>) {
            match event {
                Event::Content { text, .. } => self.0.push_str(&text.decode()),
                Event::Finish { .. } => self.0.push('.'),
                _ => {}
            }
        }
    }

    fn content(pieces: &[&str]) -> String {
        let (mut unwrap, mut out) = (Unwrap::default(), Content::default());
        for piece in pieces {
            unwrap.rewrite(Event::Content { choice: 0, text: Text::Raw(piece) }, &mut out);
        }
        unwrap.rewrite(Event::Finish { choice: 0, reason: Finish::Stop }, &mut out);
        out.0
    }

    #[test]
    fn the_choice_comes_alone() {
        assert_eq!(content(&[r#"{\"cho"#, r#"ice\": \"r\\u00e9d\"}\n"#]), "réd.");
        assert_eq!(content(&[r#" \"r\\u00e9"#, r#"d\"\n"#]), "réd.");
    }

    #[test]
    fn what_is_no_such_object_comes_as_it_is() {
        assert_eq!(content(&["blue"]), "blue.");
        assert_eq!(content(&[r#"{\"choice\":\"bl"#]), r#"{"choice":"bl."#);
        let long = "x".repeat(MAX_HELD);
        assert_eq!(content(&["ab", &long, "c"]), format!("ab{long}c."));
    }
}
