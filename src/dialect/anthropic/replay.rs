//! Thinking that has to come back: collected from an answer while it passes, sealed into the id of the tool call that
//! follows it, and put before that call when the client sends the turn again.
//!
//! With thinking on, a turn that calls tools must begin with the very thinking blocks that led to the calls, signature
//! included. The state is the blocks themselves, as the inside of a JSON array.

use crate::json::text::Text;
use crate::llm::request::CallId;
use crate::llm::state::{MAX_STATE, Seal};
use ring::digest;
use std::borrow::Cow;

/// Longest id that Bedrock takes (`toolUseId` of its service model); Anthropic's own are shorter.
const MAX_ID: usize = 64;
/// How every kept state begins.
const BLOCK: &str = r#"{"type":""#;

/// Collects the thinking blocks that precede a tool call.
pub(in crate::dialect) struct Keeper {
    seal: Option<Seal>,
    done: Vec<u8>,
    text: Vec<u8>,
    signature: Vec<u8>,
    overflow: bool,
}

impl Keeper {
    /// Keeps nothing where there is no seal to keep it with.
    pub(in crate::dialect) fn new(seal: Option<Seal>) -> Self {
        Self { seal, done: Vec::new(), text: Vec::new(), signature: Vec::new(), overflow: false }
    }

    /// More of the open thinking block.
    pub(in crate::dialect) fn thinking(&mut self, text: Text<'_>, signature: Text<'_>) {
        if self.seal.is_none() || self.overflow {
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
        if self.seal.is_some() {
            self.push(&[br#"{"type":"redacted_thinking","data":""#, data.as_bytes(), br#""}"#]);
        }
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

    /// More than an id can carry is not carried at all: half a block would be refused.
    fn check(&mut self) {
        if self.done.len() + self.text.len() + self.signature.len() > MAX_STATE {
            self.overflow = true;
            (self.done, self.text, self.signature) = Default::default();
        }
    }

    /// The id under which a client learns of a tool call.
    pub(in crate::dialect) fn id<'a>(&mut self, id: Text<'a>) -> Cow<'a, str> {
        let plain = id.decode();
        let state = std::mem::take(&mut self.done);
        self.overflow = false;
        match &self.seal {
            Some(seal) if !state.is_empty() => Cow::Owned(seal.seal(&plain, &state)),
            _ => plain,
        }
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
    use crate::llm::state::Sealer;
    use std::sync::Arc;

    fn seal() -> Seal {
        Seal::new(Arc::new(Sealer::new(&[7; 32]).unwrap()), "search".into())
    }

    #[test]
    fn blocks_travel_with_the_call_that_follows_them() {
        let mut k = Keeper::new(Some(seal()));
        k.thinking(Text::Raw(r"a\n"), Text::Raw(""));
        k.thinking(Text::Raw("b"), Text::Raw("c2ln"));
        k.end_thinking();
        k.redacted("AAAA");
        let first = k.id(Text::Raw("toolu_1")).into_owned();
        assert_eq!(k.id(Text::Raw("toolu_2")), "toolu_2");
        let (id, state) = seal().open(&first).unwrap();
        let blocks = thinking(&CallId { id: id.into(), state: Some(state) }).unwrap();
        assert!(first.starts_with("toolu_1"));
        assert_eq!(blocks, r#"{"type":"thinking","thinking":"a\nb","signature":"c2ln"},{"type":"redacted_thinking","data":"AAAA"}"#);
    }

    #[test]
    fn too_much_thinking_and_thinking_without_a_signature_stay_behind() {
        let mut k = Keeper::new(Some(seal()));
        k.thinking(Text::Plain("unsigned"), Text::Raw(""));
        k.end_thinking();
        assert_eq!(k.id(Text::Raw("t")), "t");
        k.thinking(Text::Raw(&"x".repeat(MAX_STATE)), Text::Raw("c2ln"));
        k.end_thinking();
        k.redacted("AAAA");
        assert_eq!(k.id(Text::Raw("t")), "t");
        k.redacted("AAAA");
        assert_ne!(k.id(Text::Raw("t")), "t");
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
