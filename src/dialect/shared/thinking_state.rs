//! Thinking that has to come back: with thinking on, a turn that calls tools must be sent with the thinking blocks that led to
//! the calls, signatures included. [`ThinkingState`] collects them, and [`thinking`] reads them from the call that brings them
//! back. The state is the blocks themselves, as the inside of a JSON array.

use crate::json::text::Text;
use crate::llm::request::CallId;
use crate::llm::state::MAX_STATE;

/// How every state begins.
const BLOCK: &str = r#"{"type":""#;

/// Collects the thinking blocks that precede a tool call.
#[derive(Default)]
pub(in crate::dialect) struct ThinkingState {
    /// Who makes the blocks.
    maker: &'static str,
    done: Vec<u8>,
    text: Vec<u8>,
    signature: Vec<u8>,
    overflow: bool,
}

impl ThinkingState {
    /// For the blocks of this maker.
    pub(in crate::dialect) fn new(maker: &'static str) -> Self {
        Self { maker, ..Self::default() }
    }

    /// More of the open thinking block.
    pub(in crate::dialect) fn thinking(&mut self, text: Text<'_>, signature: Text<'_>) {
        if self.overflow {
            return;
        }
        self.text.extend_from_slice(text.escaped().as_bytes());
        self.signature.extend_from_slice(signature.escaped().as_bytes());
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
            *self = Self { overflow: true, ..Self::new(self.maker) };
        }
    }

    /// The state of a tool call: the blocks since the call before it; `None` where there are none.
    pub(in crate::dialect) fn take(&mut self) -> Option<Vec<u8>> {
        self.overflow = false;
        let done = std::mem::take(&mut self.done);
        (!done.is_empty()).then(|| [self.maker.as_bytes(), &done].concat())
    }
}

/// The thinking blocks to put before a call, the inside of a JSON array. `None` where no state came back with it, or one that
/// `maker` has not made: Claude is [`CLAUDE`], and its blocks are the same wherever it is asked.
pub(in crate::dialect) fn thinking(call: &CallId<'_>, maker: &str) -> Option<String> {
    let blocks = std::str::from_utf8(call.state.as_deref()?).ok()?.strip_prefix(maker)?;
    blocks.starts_with(BLOCK).then(|| blocks.to_owned())
}

/// What stands before the blocks that Claude makes: nothing, and no block begins with what stands before those of others.
pub(in crate::dialect) const CLAUDE: &str = "";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_travel_with_the_call_that_follows_them() {
        let mut kept = ThinkingState::default();
        kept.thinking(Text::Raw(r"a\n"), Text::Raw(""));
        kept.thinking(Text::Raw("b"), Text::Raw("c2ln"));
        kept.end_thinking();
        kept.redacted("AAAA");
        let blocks = thinking(&CallId { id: "toolu_1".into(), state: kept.take() }, CLAUDE).unwrap();
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
    fn another_providers_state_stays_behind() {
        for state in [&b"\xffgemini:AAAA"[..], b"CisBVKhc", b"\"}],\"x\":1"] {
            assert_eq!(thinking(&CallId { id: "call.1".into(), state: Some(state.to_vec()) }, CLAUDE), None);
        }
        assert_eq!(thinking(&CallId { id: "call.1".into(), state: None }, CLAUDE), None);
    }
}
