//! Server-sent events, read as the WHATWG HTML standard says (section 9.2, "Server-sent events").
//!
//! The usual chunk holds whole events, which are read in place. Only an event that is cut by a chunk's end is copied.
//!
//! One thing is not the standard's: a `data` line behind one that is a whole JSON object begins the next event. Some
//! servers separate events by a single line break, and no document of any protocol here consists of two objects.

use crate::llm::failure::Fault;
use std::borrow::Cow;

/// Longest event in bytes, its comments and field names included. A provider that sends more in one event (a whole
/// image is a few MiB of base64) is not speaking the protocol.
pub const MAX_EVENT: usize = 16 << 20;
/// Most bytes of buffer that an idle stream keeps: thousands of them are open at a time.
const KEEP: usize = 1 << 10;

/// Takes one event: its type, where it has one, and its data.
pub type Take<'t> = &'t mut dyn FnMut(Option<&str>, &str) -> Result<(), Fault>;

/// Cuts a body into events. One for each stream.
#[derive(Debug)]
pub struct SseFramer {
    /// The beginning of an event whose end has not come yet.
    carry: Vec<u8>,
    /// The line that the next byte belongs to is empty so far.
    fresh: bool,
    /// The last byte was a carriage return: a line feed that follows belongs to the same line end.
    cr: bool,
    /// No event has ended yet, so that the next one may begin with a byte order mark.
    first: bool,
}

impl Default for SseFramer {
    fn default() -> Self {
        Self { carry: Vec::new(), fresh: true, cr: false, first: true }
    }
}

impl SseFramer {
    /// A framer at the beginning of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the body and emits every event that they complete.
    ///
    /// # Errors
    /// [`Fault::Broken`] for an event above [`MAX_EVENT`], and whatever `each` returns. The framer is of no more use then.
    pub fn push(&mut self, mut bytes: &[u8], each: Take<'_>) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.cr) && bytes.starts_with(b"\n") {
                bytes = bytes.get(1..).unwrap_or_default();
            }
            if self.fresh && bytes.starts_with(DATA) && ends_with_document(&self.carry) {
                let carry = std::mem::take(&mut self.carry);
                self.dispatch(&carry, each)?;
                self.reuse(carry);
            }
            // Nearly every event is one line of data.
            if self.carry.is_empty()
                && self.fresh
                && let Some((kind, data, rest)) = usual(bytes)
            {
                if bytes.len() - rest.len() > MAX_EVENT {
                    return Err(too_long());
                }
                (bytes, self.first) = (rest, false);
                each(kind, &text(data))?;
                continue;
            }
            let Some(end) = self.event_end(bytes) else { return self.keep(bytes) };
            let (event, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            bytes = rest;
            if self.carry.is_empty() {
                self.dispatch(event, each)?;
            } else {
                self.keep(event)?;
                let carry = std::mem::take(&mut self.carry);
                self.dispatch(&carry, each)?;
                self.reuse(carry);
            }
        }
        Ok(())
    }

    /// The body has ended. The standard discards an event that no blank line ends; some servers leave out the last
    /// blank line, so that it is emitted here. A decoder finds out whether it is whole.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self, each: Take<'_>) -> Result<(), Fault> {
        let rest = std::mem::take(self);
        let mut last = Self { first: rest.first, ..Self::default() };
        last.dispatch(&rest.carry, each)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.carry.len() + bytes.len() > MAX_EVENT {
            return Err(too_long());
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }

    fn reuse(&mut self, mut carry: Vec<u8>) {
        if carry.capacity() <= KEEP {
            carry.clear();
            self.carry = carry;
        }
    }

    /// How many of `bytes` belong to the event that is open: up to the end of the next blank line. Standard: "Lines
    /// must be separated by either a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF) character pair, a single U+000A
    /// LINE FEED (LF) character, or a single U+000D CARRIAGE RETURN (CR) character."
    fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(line) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.fresh &= rest.is_empty();
                return None;
            };
            let blank = self.fresh && line == 0;
            self.fresh = true;
            at += line + 1;
            if rest.get(line) == Some(&b'\r') {
                match bytes.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.cr = true,
                }
            }
            if blank {
                return Some(at);
            }
            let after = bytes.get(at..).unwrap_or_default();
            if after.starts_with(DATA) && ends_with_document(bytes.get(..at).unwrap_or_default()) {
                return Some(at);
            }
        }
    }

    /// Reads the lines of one event.
    fn dispatch(&mut self, event: &[u8], each: Take<'_>) -> Result<(), Fault> {
        if event.len() > MAX_EVENT {
            return Err(too_long());
        }
        // "The UTF-8 decode algorithm strips one leading UTF-8 Byte Order Mark (BOM), if any."
        let event = if std::mem::take(&mut self.first) { event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event) } else { event };
        let event = text(event);
        let mut rest = &*event;
        let (mut kind, mut data) = (None::<&str>, None::<Cow<'_, str>>);
        while !rest.is_empty() {
            // No field begins with a brace. Some servers end a stream with an error as bare JSON, on one line or several.
            if rest.starts_with('{') && data.is_none() {
                data = Some(Cow::Borrowed(rest.trim_end()));
                break;
            }
            let line;
            (line, rest) = split_line(rest);
            // "If the line starts with a U+003A COLON character (:): Ignore the line." Here it has no field name.
            // "If value starts with a U+0020 SPACE character, remove it from value." A line without a colon is a field
            // "using the whole line as the field name, and the empty string as the field value".
            let (name, value) = match line.strip_prefix("data:") {
                Some(value) => ("data", value), // nearly every line
                None => line.split_once(':').unwrap_or((line, "")),
            };
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                // "Append the field value to the data buffer, then append a single U+000A LINE FEED (LF) character to
                // the data buffer", of which the last one is removed before the event is dispatched.
                "data" => match &mut data {
                    None => data = Some(Cow::Borrowed(value)),
                    // Several lines are not looked at again: that would take quadratic time.
                    Some(Cow::Borrowed(whole)) if is_document(whole.as_bytes()) => {
                        each(kind.take().filter(|kind| !kind.is_empty()), whole)?;
                        data = Some(Cow::Borrowed(value));
                    }
                    Some(data) => {
                        let data = data.to_mut();
                        data.push('\n');
                        data.push_str(value);
                    }
                },
                "event" => kind = Some(value),
                // llama.cpp's way to end a stream that failed: `error: {"code":…,"message":…}`.
                "error" if data.is_none() => (kind, data) = (Some("error"), Some(Cow::Borrowed(value))),
                _ => {} // `id` and `retry` serve to reconnect, which the gateway does not do; "Otherwise: The field is ignored."
            }
        }
        // "If the data buffer is an empty string, set the data buffer and the event type buffer to the empty string and
        // return": no `data` line, no event; and an empty type is none.
        match data {
            Some(data) => each(kind.filter(|kind| !kind.is_empty()), &data),
            None => Ok(()),
        }
    }
}

/// Type and data of an event that is at most one `event` line, one `data` line and a blank one, and what follows it.
fn usual(bytes: &[u8]) -> Option<(Option<&str>, &[u8], &[u8])> {
    let (kind, line) = match bytes.strip_prefix(b"event: ") {
        None => (None, bytes),
        Some(named) => {
            let (kind, rest) = named.split_at_checked(named.iter().position(|b| matches!(b, b'\n' | b'\r'))?)?;
            (Some(str::from_utf8(kind).ok().filter(|kind| !kind.is_empty())?), rest.strip_prefix(b"\n")?)
        }
    };
    let line = line.strip_prefix(DATA)?;
    let (data, rest) = line.split_at_checked(memchr::memchr2(b'\n', b'\r', line)?)?;
    let rest = rest.strip_prefix(b"\n\n").or_else(|| rest.strip_prefix(b"\r\n\r\n"))?;
    Some((kind, data.strip_prefix(b" ").unwrap_or(data), rest))
}

/// "Streams must be decoded using the UTF-8 decode algorithm", which replaces what is no UTF-8 by U+FFFD.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    simdutf8::basic::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

fn split_line(text: &str) -> (&str, &str) {
    let Some(end) = memchr::memchr2(b'\n', b'\r', text.as_bytes()) else { return (text, "") };
    let (line, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    (line, rest.strip_prefix("\r\n").or_else(|| rest.get(1..)).unwrap_or_default())
}

/// How a line of data begins.
const DATA: &[u8] = b"data:";

/// Whether the last of these lines is data that is a whole JSON object.
fn ends_with_document(lines: &[u8]) -> bool {
    let lines = lines.trim_ascii_end();
    let start = memchr::memrchr2(b'\n', b'\r', lines).map_or(0, |end| end + 1);
    lines.get(start..).and_then(|line| line.strip_prefix(DATA)).is_some_and(is_document)
}

fn is_document(data: &[u8]) -> bool {
    let data = data.trim_ascii();
    data.starts_with(b"{") && data.ends_with(b"}") && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
}

fn too_long() -> Fault {
    Fault::Broken(format!("a server-sent event is longer than {} MiB", MAX_EVENT >> 20).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Events = Vec<(Option<String>, String)>;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Events, Fault> {
        let mut framer = SseFramer::new();
        let mut events = Vec::new();
        let mut each = |kind: Option<&str>, data: &str| {
            events.push((kind.map(str::to_owned), data.to_owned()));
            Ok(())
        };
        for piece in pieces {
            framer.push(piece, &mut each)?;
        }
        framer.finish(&mut each)?;
        Ok(events)
    }

    fn events(list: &[(&str, &str)]) -> Events {
        list.iter().map(|(kind, data)| ((!kind.is_empty()).then(|| (*kind).to_owned()), (*data).to_owned())).collect()
    }

    #[test]
    fn the_fields_are_read_as_the_standard_says() {
        for (text, want) in [
            ("data: a\n\ndata:b\n\n", events(&[("", "a"), ("", "b")])),
            ("data:  a \n\n", events(&[("", " a ")])),
            ("data: YHOO\ndata: +2\ndata: 10\n\n", events(&[("", "YHOO\n+2\n10")])),
            ("data\n\ndata\ndata\n\ndata:\n\n", events(&[("", ""), ("", "\n"), ("", "")])),
            ("event: x\nevent: y\ndata: a\n\ndata: b\n\n", events(&[("y", "a"), ("", "b")])),
            ("event: x\n\nevent:\ndata: b\n\n", events(&[("", "b")])),
            ("data: a\r\n\r\ndata:  b\n\r\ndata:\n\n", events(&[("", "a"), ("", " b"), ("", "")])),
            (": ping\n\n: ping\ndata: a\nid: 1\nretry: 5\nDATA: no\n data: no\n\n", events(&[("", "a")])),
            ("\u{feff}data: a\n\n\u{feff}data: b\n\n", events(&[("", "a")])),
            ("\u{feff}\ndata: a\n\n", events(&[("", "a")])),
            ("\n\r\n\rdata: a: b\r\r", events(&[("", "a: b")])),
            ("data: a\n\ndata: [DONE]", events(&[("", "a"), ("", "[DONE]")])),
            ("data: a\n\ndata: [DONE]\n", events(&[("", "a"), ("", "[DONE]")])),
            ("data: {\"a\":1}\ndata: {\"b\":2}\r\ndata: [DONE]\n", events(&[("", "{\"a\":1}"), ("", "{\"b\":2}"), ("", "[DONE]")])),
            ("event: x\ndata: {\"a\":\ndata: 1}\n\n", events(&[("x", "{\"a\":\n1}")])),
            ("event: x\ndata: {}\ndata: {}\n\n", events(&[("x", "{}"), ("", "{}")])),
            ("", events(&[])),
        ] {
            assert_eq!(read([text.as_bytes()]), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn every_cut_gives_the_same_events() {
        let unix = "\u{feff}: hi\n\nevent: ä\ndata: {\"x\":\"ü😀\"}\n\ndata: 1\ndata: 2\n\nid: 3\ndata:4\n\ndata: [DONE]";
        let single = "data: {\"a\":1}\ndata: {\"b\":\"}\"}\ndata: {\"c\":3}\n: hi\ndata: [DONE]\n";
        let spelled = |text: &str| [text.to_owned(), text.replace('\n', "\r\n"), text.replace('\n', "\r")];
        for text in spelled(unix).into_iter().chain(spelled(single)) {
            let bytes = text.as_bytes();
            let whole = read([bytes]).unwrap();
            assert_eq!(whole.len(), 4);
            assert_eq!(read(bytes.chunks(1)).unwrap(), whole);
            for cut in 0..bytes.len() {
                assert_eq!(read([&bytes[..cut], &[], &bytes[cut..]]).unwrap(), whole, "{cut}");
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn every_text_gives_the_same_events_however_it_is_cut(
            pieces in proptest::collection::vec(proptest::sample::select(&[
                "\n", "\r", "\r\n", "\n\n", "\r\n\r\n", "data", "data:", "data: a", "event: b", ":", " ", "ü😀", "\u{feff}", "id: 1", "x: y",
            ][..]), 0..40),
            cuts in proptest::collection::vec(1usize..9, 1..40),
        ) {
            let text = pieces.concat();
            let (mut rest, mut parts) = (text.as_bytes(), Vec::new());
            for &cut in cuts.iter().cycle() {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                parts.push(part);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            let whole = read([text.as_bytes()]);
            proptest::prop_assert_eq!(&read(text.as_bytes().chunks(1)), &whole);
            proptest::prop_assert_eq!(&read(parts), &whole);
            // An independent reading: the standard's own steps, line by line.
            proptest::prop_assert_eq!(whole.unwrap(), by_the_book(&text));
        }
    }

    fn by_the_book(text: &str) -> Events {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
        let (mut out, mut data, mut kind) = (Vec::new(), String::new(), String::new());
        // Two more line ends: what is pending at the end is given out.
        for line in format!("{text}\n\n").lines() {
            if line.is_empty() {
                let (data, kind) = (std::mem::take(&mut data), std::mem::take(&mut kind));
                if let Some(data) = data.strip_suffix('\n') {
                    out.push(((!kind.is_empty()).then_some(kind), data.to_owned()));
                }
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "data" => data += &format!("{value}\n"),
                "event" => kind = value.to_owned(),
                _ => {}
            }
        }
        out
    }

    #[test]
    fn an_event_is_given_out_when_the_next_one_begins_behind_one_line_break() {
        let (mut framer, mut seen) = (SseFramer::new(), Vec::new());
        for piece in ["data: {\"a\":1}\n", "data: {\"b\":2}\ndata", ": {\"c\":3}\n\n"] {
            let mut count = 0;
            framer
                .push(piece.as_bytes(), &mut |_, _| {
                    count += 1;
                    Ok(())
                })
                .unwrap();
            seen.push(count);
        }
        assert_eq!(seen, [0, 1, 2]);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(read([&b"data: a\xf0\x9f b\n\ndata: c\n\n"[..]]), Ok(events(&[("", "a\u{fffd} b"), ("", "c")])));
    }

    #[test]
    fn an_event_is_given_out_as_soon_as_its_blank_line_has_begun() {
        let mut framer = SseFramer::new();
        let mut seen = 0;
        framer
            .push(b"data: a\r\n\r", &mut |_, _| {
                seen += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, 1);
        framer.push(b"\n", &mut |_, _| Ok(())).unwrap();
        assert!(framer.carry.is_empty());
    }

    #[test]
    fn an_endless_event_ends_the_stream() {
        let piece = vec![b'x'; 1 << 20];
        let mut framer = SseFramer::new();
        framer.push(b"data: ", &mut |_, _| Ok(())).unwrap();
        let taken = (0..32).take_while(|_| framer.push(&piece, &mut |_, _| Ok(())).is_ok()).count();
        assert_eq!(taken, 15);
        let whole = [b"data: ".to_vec(), vec![b'x'; MAX_EVENT], b"\n\n".to_vec()].concat();
        assert!(matches!(read([&whole[..]]), Err(Fault::Broken(_))));
    }

    #[test]
    fn a_fault_of_the_taker_is_handed_on_and_buffers_do_not_stay() {
        let mut framer = SseFramer::new();
        assert_eq!(framer.push(b"data: a\n\n", &mut |_, _| Err(Fault::Truncated)), Err(Fault::Truncated));
        let mut framer = SseFramer::new();
        framer.push(&vec![b':'; 1 << 16], &mut |_, _| Ok(())).unwrap();
        framer.push(b"\n\n", &mut |_, _| Ok(())).unwrap();
        assert!(framer.carry.capacity() <= KEEP);
    }
}
