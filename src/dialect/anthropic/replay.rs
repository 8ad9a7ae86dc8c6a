//! Thinking that has to come back: collected from an answer while it passes, given to the tool call that follows it as its
//! state, and put before that call when the client sends the turn again.
//!
//! With thinking on, a turn that calls tools must begin with the very thinking blocks that led to the calls, signature
//! included. The state is the blocks themselves, as the inside of a JSON array.

use crate::json::text::Text;
use crate::llm::request::CallId;
use crate::llm::state::MAX_STATE;
use ring::digest;

/// Longest id that Bedrock takes (`toolUseId` of its service model); Anthropic's own are shorter.
const MAX_ID: usize = 64;
/// How every state begins.
const BLOCK: &str = r#"{"type":""#;

/// Collects the thinking blocks that precede a tool call.
#[derive(Default)]
pub(in crate::dialect) struct ThinkingState {
    done: Vec<u8>,
    text: Vec<u8>,
    signature: Vec<u8>,
    overflow: bool,
}

impl ThinkingState {
    /// More of the open thinking block.
    pub(in crate::dialect) fn thinking(&mut self, text: Text<'_>, signature: Text<'_>) {
        if self.overflow {
            return;
        }
        for (piece, buffer) in [(text, &mut self.text), (signature, &mut self.signature)] {
            match piece {
                Text::Raw(raw) => buffer.extend_from_slice(raw.as_bytes()),
                Text::Plain(plain) => crate::json::write::escape(buffer, plain),
            }
        }
        self.check();
    }

    /// The open thinking block is complete. One without a signature cannot be replayed and is forgotten.
    pub(in crate::dialect) fn end_thinking(&mut self) {
        let (text, signature) = (std::mem::take(&mut self.text), std::mem::take(&mut self.signature));
        if !signature.is_empty() {
            self.push(&[br#"{"type":"thinking","thinking":""#, &text, br#"","signature":""#, &signature, br#""}"#]);
        }
    }

    /// A block of encrypted thinking.
    pub(in crate::dialect) fn redacted(&mut self, data: &str) {
        self.push(&[br#"{"type":"redacted_thinking","data":""#, data.as_bytes(), br#""}"#]);
    }

    fn push(&mut self, pieces: &[&[u8]]) {
        if self.overflow {
            return;
        }
        if !self.done.is_empty() {
            self.done.push(b',');
        }
        pieces.iter().for_each(|piece| self.done.extend_from_slice(piece));
        self.check();
    }

    /// More than a state can hold is not kept at all: half a block would be refused.
    fn check(&mut self) {
        if self.done.len() + self.text.len() + self.signature.len() > MAX_STATE {
            *self = Self { overflow: true, ..Self::default() };
        }
    }

    /// The state of a tool call: the blocks since the call before it; `None` where there are none.
    pub(in crate::dialect) fn take(&mut self) -> Option<Vec<u8>> {
        self.overflow = false;
        Some(std::mem::take(&mut self.done)).filter(|state| !state.is_empty())
    }
}

/// The thinking blocks to put before a call, the inside of a JSON array. `None` where no state came back with it, or
/// another provider's, which no block begins.
pub(in crate::dialect) fn thinking(call: &CallId<'_>) -> Option<String> {
    let state = std::str::from_utf8(call.state.as_deref()?).ok()?;
    state.starts_with(BLOCK).then(|| state.to_owned())
}

/// An id in Anthropic's alphabet, `^[a-zA-Z0-9_-]+$`: every other byte as a dash and two hexadecimal digits, so that ids that
/// other providers made stay different from each other. One that is too long becomes its hash, the same wherever it
/// stands.
pub(in crate::dialect) fn legal(id: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(id.len());
    for b in id.bytes() {
        if b.is_ascii_alphanumeric() || b == b'_' || b == b'-' {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "-{b:02x}"); // writing to a String cannot fail
        }
    }
    match out.len() {
        0 => "-".to_owned(),
        1..=MAX_ID => out,
        _ => {
            let hash = digest::digest(&digest::SHA256, out.as_bytes());
            hash.as_ref().iter().take(MAX_ID / 2).map(|b| format!("{b:02x}")).collect()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::llm::state::{Seal, Sealer};
    use std::sync::Arc;

    fn seal() -> Seal {
        Seal::new(Arc::new(Sealer::new(&[7; 32]).unwrap()), "search".into())
    }

    #[test]
    fn blocks_travel_with_the_call_that_follows_them() {
        let mut kept = ThinkingState::default();
        kept.thinking(Text::Raw(r"a\n"), Text::Raw(""));
        kept.thinking(Text::Raw("b"), Text::Raw("c2ln"));
        kept.end_thinking();
        kept.redacted("AAAA");
        let blocks = thinking(&CallId { id: "toolu_1".into(), state: kept.take() }).unwrap();
        assert_eq!(kept.take(), None);
        assert_eq!(blocks, r#"{"type":"thinking","thinking":"a\nb","signature":"c2ln"},{"type":"redacted_thinking","data":"AAAA"}"#);
    }

    #[test]
    fn too_much_thinking_and_thinking_without_a_signature_stay_behind() {
        let mut thinking = ThinkingState::default();
        thinking.thinking(Text::Plain("unsigned"), Text::Raw(""));
        thinking.end_thinking();
        assert_eq!(thinking.take(), None);
        thinking.thinking(Text::Raw(&"x".repeat(MAX_STATE)), Text::Raw("c2ln"));
        thinking.end_thinking();
        thinking.redacted("AAAA");
        assert_eq!(thinking.take(), None);
        thinking.redacted("AAAA");
        assert!(thinking.take().is_some());
    }

    #[test]
    fn foreign_ids_become_legal_and_stay_apart() {
        assert_eq!([legal("call_1"), legal("call:1")], ["call_1", "call-3a1"]);
        assert_ne!(legal("a.b"), legal("a b"));
        assert_eq!(legal(&"c".repeat(65)).len(), MAX_ID);
        let (a, b) = (legal(&seal().seal("", b"a")), legal(&seal().seal("", b"b")));
        assert!(a != b && a.len() <= MAX_ID);
    }

    #[test]
    fn another_providers_state_stays_behind() {
        for state in [&b"\xffgemini:AAAA"[..], b"CisBVKhc", b"\"}],\"x\":1"] {
            assert_eq!(thinking(&CallId { id: "call.1".into(), state: Some(state.to_vec()) }), None);
        }
        assert_eq!(thinking(&CallId { id: "call.1".into(), state: None }), None);
    }
}
