//! What the events of a stream have in common, on both sides of the gateway.
//!
//! From one event to the next a server changes a few words of content and leaves the other two hundred bytes as they are.
//! An event that is equal to the last one but for its words means what that one meant. Where reading that one has done
//! nothing that would be done again ([`is_repeatable`](crate::dialect::Decoder::is_repeatable)), the client is told what it
//! was told then, but for the words: neither framer nor decoder nor writer has to look at it.

use crate::json::walk;
use crate::llm::words::Words;

/// Most bytes of an event without its words that are kept.
const MAX: usize = 1024;

/// The last event, where it said some words and nothing else; and the chunk that the client got for it.
#[derive(Debug, Default)]
pub struct Stencil {
    /// The provider's event: up to the opening quote of the words, with it …
    before: Vec<u8>,
    /// … and from their closing quote to the blank line. Empty: there is no such event.
    after: Vec<u8>,
    /// The client's chunk, up to the words …
    told_before: Vec<u8>,
    /// … and behind them.
    told_after: Vec<u8>,
}

impl Stencil {
    /// There is no such event any more.
    pub fn forget(&mut self) {
        self.after.clear();
    }

    /// Keeps an event in which the raw inside of a string, `words`, is a slice, where `told` is the chunk for it, cut before
    /// and behind them. Whatever does not fit is forgotten.
    pub fn keep(&mut self, event: &[u8], words: Words, told: Option<(&[u8], &[u8])>) {
        self.forget();
        let Some((before, after)) = words.cut(event) else { return };
        let Some((told_before, told_after)) = told else { return };
        // Ended by a line feed, so that the next byte begins an event whatever it is.
        let quoted = before.ends_with(b"\"") && after.starts_with(b"\"") && after.ends_with(b"\n");
        if !quoted || before.len() + after.len() > MAX {
            return;
        }
        for (kept, part) in
            [(&mut self.before, before), (&mut self.after, after), (&mut self.told_before, told_before), (&mut self.told_after, told_after)]
        {
            kept.clear();
            kept.extend_from_slice(part);
        }
    }

    /// The words of the first event in `bytes`, where it is otherwise equal to the one that was kept, and what follows it.
    pub fn words<'a>(&self, bytes: &'a [u8]) -> Option<(&'a str, &'a [u8])> {
        if self.after.is_empty() {
            return None;
        }
        let rest = bytes.strip_prefix(&*self.before)?;
        let end = walk::string_end(rest)?;
        let (words, rest) = rest.split_at_checked(end)?;
        let rest = rest.strip_prefix(&*self.after)?;
        let words = simdutf8::basic::from_utf8(words).ok().filter(|words| !words.is_empty())?;
        Some((words, rest))
    }

    /// Appends the client's chunk with these words.
    pub fn tell(&self, words: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.told_before);
        out.extend_from_slice(words.as_bytes());
        out.extend_from_slice(&self.told_after);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const EVENT: &str = "data: {\"id\":\"a\",\"content\":\"one\",\"usage\":null}\n\n";

    fn stencil(event: &str) -> Stencil {
        let mut stencil = Stencil::default();
        let at = event.find("one").unwrap();
        stencil.keep(event.as_bytes(), Words::of(&event[at..at + 3]), Some((b"<", b">")));
        stencil
    }

    #[test]
    fn other_words_in_the_same_place_are_told_in_the_place_of_the_last_ones() {
        for words in ["two", r#"a \"b\" \\"#, r"\u00e9", "é", "a much longer text than the machine's words, and blocks"] {
            for next in ["", "data: [DONE]\n\n", "da"] {
                let bytes = EVENT.replace("one", words) + next;
                let stencil = stencil(EVENT);
                let (found, rest) = stencil.words(bytes.as_bytes()).unwrap();
                assert_eq!((found, rest), (words, next.as_bytes()));
                let mut out = b"x".to_vec();
                stencil.tell(found, &mut out);
                assert_eq!(out, format!("x<{words}>").as_bytes());
            }
        }
    }

    #[test]
    fn any_other_difference_is_left_to_the_reader() {
        let mut cases: Vec<Vec<u8>> = [
            EVENT.replace("null", "{}"),
            EVENT.replace("\"a\"", "\"b\""),
            EVENT.replace("one", "one\",\"refusal\":\"no"),
            EVENT.replace("one", r"\q"),
            EVENT.replace("one", "\\"),
            EVENT.replace("one", "\n"),
            EVENT.replace("one", ""),
            EVENT.replace("\"one\"", "null"),
            EVENT.replace("\n\n", "\n"),
            String::new(),
        ]
        .map(String::into_bytes)
        .into();
        cases.extend((1..EVENT.len()).map(|cut| EVENT.as_bytes()[..cut].to_vec()));
        cases.push(EVENT.replace("one", "?").into_bytes().iter().map(|b| if *b == b'?' { 0xff } else { *b }).collect());
        for bytes in cases {
            assert_eq!(stencil(EVENT).words(&bytes), None, "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn nothing_is_kept_that_might_mean_something_else_the_next_time() {
        assert_eq!(Stencil::default().words(EVENT.as_bytes()), None);
        // Another line may follow a carriage return, or be the rest of one.
        let ends = EVENT.replace('\n', "\r");
        assert_eq!(stencil(&ends).words(ends.as_bytes()), None);
        let large = EVENT.replace("null", &"9".repeat(MAX));
        assert_eq!(stencil(&large).words(large.as_bytes()), None);
        let mut stencil = stencil(EVENT);
        let elsewhere = "one".to_owned();
        for (words, told) in [
            (Words::of(&elsewhere), Some((&b"<"[..], &b">"[..]))),
            (Words::default(), Some((b"<", b">"))),
            (Words::of(&EVENT[EVENT.find("ne").unwrap()..][..2]), Some((b"<", b">"))),
            (Words::of(&EVENT[EVENT.find("one").unwrap()..][..3]), None),
        ] {
            stencil.keep(EVENT.as_bytes(), words, told);
            assert_eq!(stencil.words(EVENT.as_bytes()), None);
        }
    }
}
