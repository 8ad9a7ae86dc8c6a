//! JSON lines, <https://jsonlines.org>: one document a line, as older LMI containers stream.

use super::sse::MAX_EVENT;
use crate::llm::failure::Fault;

/// Most bytes of buffer that an idle stream keeps.
const KEEP: usize = 1 << 10;

/// Takes one line, without its end and never empty.
pub type Take<'t> = &'t mut dyn FnMut(&str) -> Result<(), Fault>;

/// Cuts a body into lines. One for each stream.
#[derive(Debug, Default)]
pub struct LineFramer {
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
}

impl LineFramer {
    /// Takes the next bytes of the body and emits every line that they complete.
    ///
    /// # Errors
    /// [`Fault::Broken`] for a line above [`MAX_EVENT`], and whatever `each` returns. The
    /// framer is of no more use then.
    pub fn push(&mut self, mut bytes: &[u8], each: Take<'_>) -> Result<(), Fault> {
        while let Some((line, rest)) = memchr::memchr(b'\n', bytes).and_then(|end| bytes.split_at_checked(end)) {
            self.keep(line)?;
            give(&self.carry, each)?;
            self.carry.clear();
            self.carry.shrink_to(KEEP);
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.keep(bytes)
    }

    /// The body has ended: emits a last line that nothing ends. A decoder finds out whether it is whole.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self, each: Take<'_>) -> Result<(), Fault> {
        give(&std::mem::take(&mut self.carry), each)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.carry.len() + bytes.len() > MAX_EVENT {
            return Err(Fault::Broken("a line is too long".into()));
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }
}

fn give(line: &[u8], each: Take<'_>) -> Result<(), Fault> {
    let line = String::from_utf8_lossy(line); // borrowed where it is UTF-8
    let line = line.trim();
    if line.is_empty() { Ok(()) } else { each(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8], step: usize) -> Result<Vec<String>, Fault> {
        let (mut framer, mut seen) = (LineFramer::default(), Vec::new());
        let mut each = |line: &str| {
            seen.push(line.to_owned());
            Ok(())
        };
        body.chunks(step).try_for_each(|piece| framer.push(piece, &mut each))?;
        framer.finish(&mut each)?;
        assert!(framer.carry.capacity() <= KEEP);
        Ok(seen)
    }

    #[test]
    fn lines_are_found_wherever_bytes_are_cut() {
        let long = format!("{{\"text\":\"{}\"}}", "ü".repeat(KEEP));
        let body = format!("{{\"text\":\"Zürich 🏔\"}}\r\n\n{long}\n{{}}");
        for step in [1, 2, 3, 7, body.len()] {
            assert_eq!(read(body.as_bytes(), step).unwrap(), ["{\"text\":\"Zürich 🏔\"}", &*long, "{}"], "steps of {step}");
        }
    }

    #[test]
    fn an_endless_line_ends_the_stream() {
        assert!(matches!(read(&vec![b' '; MAX_EVENT + 1], 1 << 20), Err(Fault::Broken(_))));
        assert!(matches!(read(b"", 1), Ok(lines) if lines.is_empty()));
    }
}
