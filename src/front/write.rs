//! Writes what answers of several protocols have in common.

use crate::json::text::Text;
use crate::json::write::{Writer, escape};

/// Room for most events, in bytes.
const EVENT: usize = 256;

/// Appends a text to the inside of a JSON string.
pub(in crate::front) fn append(out: &mut Vec<u8>, text: Text<'_>) {
    match text {
        Text::Raw(raw) => out.extend_from_slice(raw.as_bytes()),
        Text::Plain(plain) => escape(out, plain),
    }
}

/// Writes a string, or null.
pub(in crate::front) fn nullable(text: Option<&str>, w: &mut Writer) {
    match text {
        Some(text) => w.string(text),
        None => w.raw("null"),
    };
}

/// Appends an event of this type. `members` writes what follows the type.
pub(in crate::front) fn event(out: &mut Vec<u8>, kind: &str, members: impl FnOnce(&mut Writer)) {
    out.reserve(EVENT);
    for piece in ["event: ", kind, "\ndata: "] {
        out.extend_from_slice(piece.as_bytes());
    }
    let mut w = Writer::appending(std::mem::take(out));
    w.object().key("type").string(kind);
    members(&mut w);
    w.end_object();
    *out = w.finish();
    out.extend_from_slice(b"\n\n");
}
