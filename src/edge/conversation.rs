//! What `balance: sticky` goes by, so that a conversation stays where its prompt is cached: the first of an episode, the session
//! that an agent names, a cache key, the beginning of the conversation, the user, the key.

use crate::front::{messages, responses};
use crate::json::walk;
use crate::llm::envelope::Parsed;
use crate::llm::field::Field;
use crate::operation::Operation;
use http::HeaderValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A conversation, as far as requests show which one they belong to.
pub struct Conversation {
    /// What it is known by, as a word of a closed set; for the log.
    pub by: &'static str,
    /// Equal for the requests of one conversation.
    pub key: Vec<u8>,
}

impl Conversation {
    /// The conversation of a request. `episode`: only one that the client gave; `session`: a header of an agent's; `key`: the
    /// client's, which stands for requests that show nothing else.
    pub fn of(parsed: &Parsed, operation: Operation, episode: Option<&Uuid>, session: Option<&HeaderValue>, key: &str) -> Self {
        let known = |by, key: Option<Vec<u8>>| Some(Self { by, key: key? });
        let text = |name: &str| parsed.raw_named(name).and_then(walk::string).map(|text| text.decode().into_owned().into_bytes());
        let in_metadata = || if operation == Operation::Messages { messages::session(parsed).map(String::into_bytes) } else { None };
        known("episode", episode.map(|id| id.as_bytes().to_vec()))
            .or_else(|| known("session", session.map(|value| value.as_bytes().to_vec())))
            .or_else(|| known("session", in_metadata()))
            .or_else(|| known("prompt_cache_key", text(Field::PromptCacheKey.name())))
            .or_else(|| known("beginning", beginning(parsed)))
            .or_else(|| known("user", text(Field::User.name())))
            .unwrap_or_else(|| Self { by: "key", key: key.as_bytes().to_vec() })
    }
}

/// A digest of the instructions, the tools and the user's first message, which are the same in every turn. `None` where there
/// is no message of a user's.
fn beginning(parsed: &Parsed) -> Option<Vec<u8>> {
    let mut digest = Sha256::new();
    for raw in [parsed.raw_named("system"), parsed.raw_named(responses::INSTRUCTIONS), parsed.raw(Field::Tools)].into_iter().flatten() {
        digest.update(raw);
    }
    let mut messages = walk::inner_elements(parsed.raw(Field::Messages).or_else(|| parsed.raw_named(responses::INPUT))?).ok()?;
    while let Some(message) = messages.next().ok()? {
        digest.update(message);
        let mut members = walk::inner_members(message).ok()?;
        while let Some((key, value)) = members.next().ok()? {
            if key.is("role") && value == "\"user\"" {
                return Some(digest.finalize().to_vec());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(operation: Operation, body: &str, session: Option<&'static str>) -> (&'static str, Vec<u8>) {
        let parsed = operation.parse(body.to_owned().into()).unwrap();
        let session = session.map(HeaderValue::from_static);
        let found = Conversation::of(&parsed, operation, None, session.as_ref(), "k");
        (found.by, found.key)
    }

    #[test]
    fn the_turns_of_a_conversation_are_one_by_the_first_thing_that_shows_it() {
        let chat =
            |more: &str| format!(r#"{{"model":"r","messages":[{{"role":"system","content":"s"}},{{"role":"user","content":"u"}}{more}]}}"#);
        let turn = r#",{"role":"assistant","content":"a"},{"role":"user","content":"v"}"#;
        let first = known(Operation::Chat, &chat(""), None);
        assert_eq!(first.0, "beginning");
        assert_eq!(known(Operation::Chat, &chat(turn), None), first);
        assert_ne!(known(Operation::Chat, &chat("").replace("\"u\"", "\"w\""), None), first);
        assert_eq!(known(Operation::Chat, &chat(""), Some("s-1")), ("session", b"s-1".to_vec()));
        let metadata =
            r#"{"model":"r","max_tokens":1,"messages":[{"role":"user","content":"u"}],"metadata":{"user_id":"{\"session_id\":\"s-2\"}"}}"#;
        assert_eq!(known(Operation::Messages, metadata, None), ("session", b"s-2".to_vec()));
        let cached = r#"{"model":"r","messages":[{"role":"user","content":"u"}],"prompt_cache_key":"p","user":"x"}"#;
        assert_eq!(known(Operation::Chat, cached, None), ("prompt_cache_key", b"p".to_vec()));
        let instructed = r#"{"model":"r","messages":[{"role":"system","content":"u"}],"user":"x"}"#;
        assert_eq!(known(Operation::Chat, instructed, None), ("user", b"x".to_vec()));
        assert_eq!(known(Operation::Embeddings, r#"{"model":"r","input":"x"}"#, None), ("key", b"k".to_vec()));
    }
}
