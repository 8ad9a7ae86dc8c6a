//! What a provider wants back with the next turn, sealed into a text that clients return as it came: the `signature` of a
//! thinking block, the `encrypted_content` of a reasoning item. Only the provider that made such a text reads it.
//!
//! A text of ours is [`MARK`] and what is sealed: the provider's name, a zero byte, and its state, which may be empty.

use crate::llm::state::{MARK, Seal};

/// The text for reasoning that the provider of this seal made.
pub fn seal(by: Option<&Seal>, state: &[u8]) -> String {
    let sealed = |state: &[u8]| by.map(|by| by.seal("", &[by.provider.as_bytes(), &[0], state].concat())).unwrap_or_default();
    let text = sealed(state);
    // A state that is too long is not kept.
    if text.is_empty() { sealed(&[]) } else { text }
}

/// Who made reasoning.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin {
    /// The provider that is asked; its state may be empty.
    Own(Vec<u8>),
    /// Another provider, or one that nobody can tell any more: nothing of it may go upstream.
    Other,
    /// Somebody beyond the gateway.
    Foreign,
}

/// Who made reasoning with this text. `seal`: that of the provider that is asked.
pub fn origin(seal: Option<&Seal>, text: &str) -> Origin {
    if !is_sealed(text) {
        return Origin::Foreign;
    }
    let own = || {
        let seal = seal?;
        let (_, sealed) = seal.open(text)?;
        Some(sealed.strip_prefix(seal.provider.as_bytes())?.strip_prefix(&[0])?.to_vec())
    };
    own().map_or(Origin::Other, Origin::Own)
}

/// Whether the gateway made this text.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::state::{MAX_STATE, Sealer};

    #[test]
    fn a_state_goes_back_to_its_provider_only() {
        let by =
            |key: u8, provider: &str| Seal::new(std::sync::Arc::new(Sealer::new(&[key; 32]).unwrap()), "search".into(), provider.into());
        let gemini = by(7, "gemini");
        let made = seal(Some(&gemini), b"\xffstate");
        assert_eq!(origin(Some(&gemini), &made), Origin::Own(b"\xffstate".to_vec()));
        for provider in ["gem", "gemini2", "openai", ""] {
            assert_eq!(origin(Some(&by(7, provider)), &made), Origin::Other);
        }
        assert_eq!(origin(Some(&gemini.clone().forgetting()), &made), Origin::Other);
        assert_eq!(origin(Some(&by(8, "gemini")), &made), Origin::Other);
        assert_eq!(origin(None, &made), Origin::Other);
        assert_eq!(origin(Some(&gemini), "EqQBCkYIBxgC"), Origin::Foreign);
        let long = seal(Some(&gemini), &vec![b'x'; MAX_STATE]);
        assert_eq!(origin(Some(&gemini), &long), Origin::Own(Vec::new()));
    }
}
