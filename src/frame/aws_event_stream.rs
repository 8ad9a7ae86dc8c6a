//! The AWS event stream: length-prefixed binary messages with two checksums, cut anywhere by the network.
//!
//! ```text
//! u32 total length | u32 headers length | u32 CRC of these 8 bytes      (the prelude)
//! headers: (u8 length, name, u8 type, value)*
//! payload
//! u32 CRC of everything before
//! ```
//!
//! All integers are big-endian, the CRC is CRC-32 as in zlib. A message that lies whole in the bytes just pushed is
//! read in place; only a message that is cut across pushes is put together in a buffer.

use crate::frame::Frame;
use crate::llm::failure::Fault;

/// Largest message in bytes, prelude and checksums included; the limit that AWS documents.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
/// Largest header block in bytes; the limit that AWS documents.
pub const MAX_HEADERS: usize = 128 * 1024;
/// Bytes of buffer that an idle stream may keep; a larger one is given back when its message is done.
const KEEP: usize = 8 * 1024;
const PRELUDE: usize = 12;
const CRC: usize = 4;

/// Takes one message.
pub type Take<'t> = &'t mut dyn FnMut(Frame<'_>) -> Result<(), Fault>;

/// Cuts a byte stream into AWS messages. One for each stream.
#[derive(Debug, Default)]
pub struct AwsFramer {
    /// The beginning of a message whose end has not come; empty between messages.
    partial: Vec<u8>,
}

impl AwsFramer {
    /// Takes the next bytes and emits every message that they complete.
    ///
    /// # Errors
    /// [`Fault::Broken`] for a wrong checksum or an impossible length, and whatever `each` returns. The framer is of no more
    /// use then.
    pub fn push(&mut self, mut bytes: &[u8], each: Take<'_>) -> Result<(), Fault> {
        while !self.partial.is_empty() {
            // The length is known once the prelude is whole; a broken prelude shows before anything more is kept.
            let want = total_length(&self.partial)?.unwrap_or(PRELUDE);
            let missing = want.saturating_sub(self.partial.len());
            let Some((now, later)) = bytes.split_at_checked(missing) else {
                self.partial.extend_from_slice(bytes);
                return Ok(());
            };
            self.partial.extend_from_slice(now);
            bytes = later;
            if want == PRELUDE {
                continue;
            }
            let message = std::mem::take(&mut self.partial);
            read_message(&message, each)?;
            if message.capacity() <= KEEP {
                self.partial = message;
                self.partial.clear();
            }
        }
        while let Some(total) = total_length(bytes)? {
            let Some((message, later)) = bytes.split_at_checked(total) else { break };
            read_message(message, each)?;
            bytes = later;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Fault::Truncated`] inside a message.
    pub fn finish(&self) -> Result<(), Fault> {
        if self.partial.is_empty() { Ok(()) } else { Err(Fault::Truncated) }
    }
}

fn broken<T>(what: &'static str) -> Result<T, Fault> {
    Err(Fault::Broken(what.into()))
}

/// The whole message's length, once its prelude is there.
fn total_length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some((prelude, _)) = bytes.split_first_chunk::<PRELUDE>() else { return Ok(None) };
    let (total, headers) = lengths(prelude)?;
    if headers > MAX_HEADERS {
        return broken("an event-stream message announces more than 128 KiB of headers");
    }
    if total > MAX_FRAME {
        return broken("an event-stream message announces more than 16 MiB");
    }
    // Not below the prelude's own length, so that the reader always moves on.
    if total < PRELUDE + headers + CRC {
        return broken("an event-stream message announces an impossible length");
    }
    Ok(Some(total))
}

/// Total and headers length out of a prelude whose checksum is right.
fn lengths(prelude: &[u8; PRELUDE]) -> Result<(usize, usize), Fault> {
    let [a, b, c, d, e, f, g, h, crc @ ..] = *prelude;
    if crc32fast::hash(&[a, b, c, d, e, f, g, h]) != u32::from_be_bytes(crc) {
        return broken("an event-stream prelude has a wrong checksum");
    }
    Ok((u32::from_be_bytes([a, b, c, d]) as usize, u32::from_be_bytes([e, f, g, h]) as usize))
}

fn read_message(message: &[u8], each: Take<'_>) -> Result<(), Fault> {
    let Some((checked, crc)) = message.split_last_chunk::<CRC>() else { return broken("an event-stream message is too short") };
    if crc32fast::hash(checked) != u32::from_be_bytes(*crc) {
        return broken("an event-stream message has a wrong checksum");
    }
    let Some((prelude, rest)) = checked.split_first_chunk::<PRELUDE>() else { return broken("an event-stream message is too short") };
    let (_, headers) = lengths(prelude)?;
    let Some((mut headers, payload)) = rest.split_at_checked(headers) else { return broken("event-stream headers overrun their message") };
    let (mut message_type, mut kind, mut error_message) = ("", "", "");
    while !headers.is_empty() {
        let Some((name, value, more)) = header(headers) else { return broken("an event-stream header cannot be read") };
        headers = more;
        let slot = match name {
            b":message-type" => &mut message_type,
            b":event-type" | b":exception-type" | b":error-code" => &mut kind,
            b":error-message" => &mut error_message,
            _ => continue,
        };
        *slot = match value.map(std::str::from_utf8) {
            Some(Ok(text)) => text,
            _ => return broken("an event-stream header is no text"),
        };
    }
    each(Frame::Aws { message_type, kind, error_message, payload })
}

/// A header's name, its value where that is a string, and the bytes that follow it.
type Header<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

/// One header off the front.
fn header(bytes: &[u8]) -> Option<Header<'_>> {
    let (&length, bytes) = bytes.split_first()?;
    let (name, bytes) = bytes.split_at_checked(usize::from(length))?;
    let (&kind, bytes) = bytes.split_first()?;
    let (length, bytes) = match kind {
        0 | 1 => (0, bytes), // true, false
        2 => (1, bytes),
        3 => (2, bytes),
        4 => (4, bytes),
        5 | 8 => (8, bytes), // integer, timestamp
        6 | 7 => {
            let (&length, bytes) = bytes.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(length)), bytes)
        }
        9 => (16, bytes), // UUID
        _ => return None,
    };
    let (value, bytes) = bytes.split_at_checked(length)?;
    Some((name, (kind == 7).then_some(value), bytes))
}

/// Writes one message with string headers, as AWS would; the simulator and the tests speak with it.
pub fn write_message(out: &mut Vec<u8>, headers: &[(&str, &str)], payload: &[u8]) {
    let start = out.len();
    let headers_length: usize = headers.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
    let total = PRELUDE + headers_length + payload.len() + CRC;
    out.extend_from_slice(&(total as u32).to_be_bytes());
    out.extend_from_slice(&(headers_length as u32).to_be_bytes());
    append_checksum(out, start);
    for (name, value) in headers {
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        out.push(7);
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(payload);
    append_checksum(out, start);
}

fn append_checksum(out: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
#[path = "aws_event_stream_tests.rs"]
mod tests;
