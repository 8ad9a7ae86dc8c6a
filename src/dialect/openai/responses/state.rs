//! What the Responses API needs back with a call, for clients of other protocols: the items of the answer that led to it. It is
//! the state of that call, and [`super::input`] puts the items before the call when it comes back.
//! <https://platform.openai.com/docs/guides/reasoning#keeping-reasoning-items-in-context>
//!
//! A state is the inside of an array of items. The client returns the text of a message itself, so that of a message there is
//! only the place and its `phase`: "preserve and resend phase on all assistant messages".

use super::wire::WireItem;
use crate::json::text::{Text, raw_text};
use crate::json::write::Writer;
use crate::llm::state::MAX_STATE;
use serde_json::value::RawValue;

/// Starts every state, so that another dialect's is never sent here. No text in UTF-8 begins with this byte.
const TAG: &[u8] = b"\xffresponses:";

/// The items since the last call.
#[derive(Default)]
pub(super) struct Returned {
    /// The inside of an array.
    items: Vec<u8>,
    /// Whether they say more than the client does.
    needed: bool,
    /// Whether there were too many. Reasoning without the rest of it may be refused, so that nothing is kept then.
    overflow: bool,
}

impl Returned {
    /// Adds a reasoning item. One that is neither encrypted nor shown is known only to a provider that stores it.
    pub(super) fn reasoning(&mut self, item: &WireItem<'_>) {
        let encrypted = raw_text(item.encrypted_content).filter(|text| !text.is_empty());
        let content = item.content.map(RawValue::get).filter(|raw| raw.starts_with('[') && !is_empty(raw));
        // OpenAI refuses a `content` beside what is encrypted: "Expected an array with maximum length 0".
        let content = content.filter(|_| encrypted.is_none());
        if encrypted.is_none() && content.is_none() {
            return;
        }
        let mut w = Writer::default();
        w.object().key("type").string("reasoning").optional_text("id", raw_text(item.id).filter(|id| !id.is_empty()));
        w.key("summary").raw(item.summary.map(RawValue::get).filter(|raw| raw.starts_with('[')).unwrap_or("[]"));
        w.optional_raw("content", content).optional_text("encrypted_content", encrypted).end_object();
        self.push(&w.finish(), true);
    }

    /// Adds the place of a message, and its phase.
    pub(super) fn message(&mut self, phase: Option<Text<'_>>) {
        let mut w = Writer::default();
        w.object().key("type").string("message").optional_text("phase", phase).end_object();
        self.push(&w.finish(), phase.is_some());
    }

    fn push(&mut self, item: &[u8], needed: bool) {
        if self.overflow {
            return;
        }
        if !self.items.is_empty() {
            self.items.push(b',');
        }
        self.items.extend_from_slice(item);
        self.needed |= needed;
        if TAG.len() + self.items.len() > MAX_STATE {
            *self = Self { overflow: true, ..Self::default() };
        }
    }

    /// The state of the call that follows; `None` where nothing has to come back.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let Self { items, needed, .. } = std::mem::take(self);
        needed.then(|| [TAG, &items].concat())
    }
}

/// The items in a state, an array; `None` where it is another dialect's.
pub(super) fn items(state: &[u8]) -> Option<String> {
    let items = std::str::from_utf8(state.strip_prefix(TAG)?).ok()?;
    Some(format!("[{items}]"))
}

/// Whether a raw array has no elements.
fn is_empty(array: &str) -> bool {
    array.bytes().all(|b| matches!(b, b'[' | b']') || b.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(items: &[&str]) -> Option<String> {
        let mut returned = Returned::default();
        items.iter().for_each(|json| returned.reasoning(&serde_json::from_str(json).unwrap()));
        returned.take().map(|state| super::items(&state).unwrap())
    }

    #[test]
    fn reasoning_comes_back_with_what_its_maker_needs_of_it() {
        let summary = r#""summary":[{"type":"summary_text","text":"a\n"}]"#;
        let encrypted =
            format!(r#"{{"id":"rs_1","type":"reasoning","status":null,"content":[{{"text":"x"}}],{summary},"encrypted_content":"gA=="}}"#);
        assert_eq!(kept(&[&encrypted]), Some(format!(r#"[{{"type":"reasoning","id":"rs_1",{summary},"encrypted_content":"gA=="}}]"#)));
        let open = r#"{"id":"","content":[{"type":"reasoning_text","text":"x"}],"summary":null,"encrypted_content":null}"#;
        assert_eq!(
            kept(&[open]),
            Some(r#"[{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"x"}]}]"#.to_owned())
        );
        assert_eq!(kept(&[r#"{"id":"rs_1","summary":[{"text":"a"}],"content":[ ],"encrypted_content":""}"#]), None);
        assert_eq!(kept(&[]), None);
    }

    #[test]
    fn the_place_of_a_message_is_kept_beside_reasoning_or_with_its_phase() {
        let mut returned = Returned::default();
        returned.message(None);
        assert_eq!(returned.take(), None);
        returned.message(Some(Text::Raw("commentary")));
        returned.reasoning(&serde_json::from_str(r#"{"encrypted_content":"g"}"#).unwrap());
        let state = returned.take().unwrap();
        let want = r#"[{"type":"message","phase":"commentary"},{"type":"reasoning","summary":[],"encrypted_content":"g"}]"#;
        assert_eq!((items(&state).as_deref(), returned.take()), (Some(want), None));
        assert_eq!(items(b"\xffopenai:{}"), None);
    }

    #[test]
    fn too_much_is_not_kept_at_all() {
        let mut returned = Returned::default();
        let item = |size| serde_json::json!({"encrypted_content": "g".repeat(size)}).to_string();
        for size in [MAX_STATE, 1] {
            returned.reasoning(&serde_json::from_str(&item(size)).unwrap());
        }
        assert_eq!(returned.take(), None);
        returned.reasoning(&serde_json::from_str(&item(1)).unwrap());
        assert!(returned.take().is_some());
    }
}
