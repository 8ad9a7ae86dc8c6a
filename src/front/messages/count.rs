//! Writes the answer of `count_tokens`.

use crate::json::write::Writer;

/// The object.
pub fn write(tokens: u64) -> Vec<u8> {
    let mut w = Writer::default();
    w.object().key("input_tokens").integer(tokens).end_object();
    w.finish()
}
