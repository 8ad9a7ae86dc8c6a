//! The ids of calls: Anthropic's have letters, digits, `_` and `-`, and other providers' may have anything. An id of another
//! alphabet is written in base64url behind a prefix, and read back as its provider made it.

use crate::json::walk;
use crate::llm::envelope::Parsed;
use crate::llm::field::Field;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use memchr::memmem;
use std::borrow::Cow;
use std::collections::HashSet;

/// Stands before an id in base64url.
const ENCODED: &str = "tgid_";

/// An id as clients of this protocol take it.
pub fn encode(id: &str) -> Cow<'_, str> {
    let legal = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if legal && !id.starts_with(ENCODED) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(format!("{ENCODED}{}", URL_SAFE_NO_PAD.encode(id)))
}

/// The provider's id.
pub fn decode(id: Cow<'_, str>) -> Cow<'_, str> {
    let original = id.strip_prefix(ENCODED).and_then(|encoded| String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok());
    original.map_or(id, Cow::Owned)
}

/// Names the call that a result answers.
const ANSWERS: &str = "\"tool_use_id\"";

/// The ids of calls that a conversation has had. Claude Code pairs results with calls by the id alone, so that a call under an
/// id that has been answered is never answered itself: a server that numbers the calls of each answer anew keeps it in a circle.
#[derive(Clone, Debug, Default)]
pub struct Used(HashSet<Box<str>>);

impl Used {
    /// Those that have a result in a request. It may have too many: ids in what a tool has answered count, too.
    pub fn of(parsed: &Parsed) -> Self {
        let messages = parsed.raw(Field::Messages).unwrap_or_default();
        let id = |at: usize| {
            let value = messages.get(at + ANSWERS.len()..)?.trim_start().strip_prefix(':')?.trim_start();
            let end = value.get(1..)?.find('"')? + 2;
            Some(walk::string(value.get(..end)?)?.decode().into())
        };
        Self(memmem::find_iter(messages.as_bytes(), ANSWERS).filter_map(id).collect())
    }

    /// Adds the id of a call. Whether it is a new one.
    pub fn add(&mut self, id: &str) -> bool {
        self.0.insert(id.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_with_a_result_are_used() {
        let body = r#"{"model":"r","messages":[{"role":"user","content":[{"type":"tool_result" , "tool_use_id" : "call_0","content":"\"tool_use_id\":\"x\""}]}],"tool_use_id":7}"#;
        let mut used = Used::of(&Parsed::scan(body.into()).unwrap());
        assert_eq!(["call_0", "x", "call_1", "call_1"].map(|id| used.add(id)), [false, true, true, false]);
    }

    #[test]
    fn every_id_comes_back_and_is_legal_on_the_way() {
        for id in ["toolu_01", "functions.get_weather:0", "call-1", "tgid_x", "ünï", ""] {
            let shown = encode(id).into_owned();
            assert!(shown.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{shown}");
            assert_eq!(decode(Cow::Borrowed(&shown)), id);
        }
        assert_eq!(encode("toolu_01"), "toolu_01");
        assert_eq!(decode(Cow::Borrowed("tgid_%")), "tgid_%");
    }
}
