//! The shape that the chunks of a stream share.
//!
//! From one chunk to the next a server changes a few words and leaves the other bytes, often two hundred, as they are.
//! What is equal to a chunk that has been read means what that one meant, so only the new words are read.

use crate::json::walk;

/// Most bytes of a chunk without its words that are kept.
const MAX: usize = 1024;

/// A chunk that said some words and nothing else, where in it they stood, and whose words they were.
#[derive(Debug, Default)]
pub struct Mold<W> {
    chunk: String,
    /// Bytes of `chunk` up to the opening quote of the words, with it; the rest begins with the closing quote.
    before: usize,
    whose: W,
}

impl<W: Copy> Mold<W> {
    /// Keeps a chunk that said nothing but `words`, which is a raw string within it, with its quotes.
    pub fn keep(&mut self, chunk: &str, words: &str, whose: W) {
        self.chunk.clear();
        self.before = 0;
        // Both are slices of one text, so the difference of their addresses is a place in it.
        let start = (words.as_ptr() as usize).wrapping_sub(chunk.as_ptr() as usize).saturating_add(1);
        let after = start.saturating_add(words.len()).saturating_sub(2);
        let Some((before, after)) = chunk.get(..start).zip(chunk.get(after..)) else { return };
        if before.len() + after.len() <= MAX {
            self.chunk.push_str(before);
            self.chunk.push_str(after);
            (self.before, self.whose) = (before.len(), whose);
        }
    }

    /// Whose words a chunk says that is otherwise equal to the one that was kept, and the inside of the string they are.
    pub fn cast<'a>(&self, chunk: &'a str) -> Option<(W, &'a str)> {
        let (before, after) = self.chunk.split_at_checked(self.before).filter(|(before, _)| !before.is_empty())?;
        let text = chunk.strip_prefix(before)?.strip_suffix(after)?;
        let closed = walk::string_end(chunk, before.len()) == Some(before.len() + text.len() + 1);
        closed.then_some((self.whose, text))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::Mold;

    const FIRST: &str = r#"{"id":"a","choices":[{"index":3,"delta":{"content":"one"}}],"usage":null}"#;

    fn mold() -> Mold<u32> {
        let mut mold = Mold::default();
        let at = FIRST.find("\"one\"").unwrap();
        mold.keep(FIRST, &FIRST[at..at + 5], 3);
        mold
    }

    #[test]
    fn another_text_in_the_same_place_is_found() {
        for text in ["two", "", r#"a \"b\" \\"#, r"\u00e9", "é", "a much longer text than the machine's words, and blocks"] {
            let chunk = FIRST.replace("one", text);
            assert_eq!(mold().cast(&chunk), Some((3, text)), "{chunk}");
        }
    }

    #[test]
    fn any_other_difference_is_left_to_the_reader() {
        for chunk in [
            FIRST.replace("null", "{}"),
            FIRST.replace("\"a\"", "\"b\""),
            FIRST.replace("one", "one\",\"refusal\":\"no"),
            FIRST.replace("one", r"\q"),
            FIRST.replace("one", "\\"),
            FIRST.replace("one", "\n"),
            FIRST.replace("\"one\"", "null"),
            String::new(),
            FIRST[..FIRST.find("ne\"").unwrap()].into(),
            // The two halves may not overlap.
            FIRST.replace("\"one\"", "\""),
        ] {
            assert_eq!(mold().cast(&chunk), None, "{chunk}");
        }
    }

    #[test]
    fn nothing_is_cast_before_a_chunk_was_kept_nor_after_one_that_is_too_large() {
        assert_eq!(Mold::<u32>::default().cast(FIRST), None);
        let mut mold = mold();
        let large = format!(r#"{{"pad":"{}","content":"x"}}"#, "p".repeat(super::MAX));
        let at = large.find("\"x\"").unwrap();
        mold.keep(&large, &large[at..at + 3], 0);
        assert_eq!(mold.cast(&large), None);
    }
}
