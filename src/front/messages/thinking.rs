//! What a provider wants back with the next turn, sealed into the `signature` of a thinking block. Clients return a block as
//! it came, and only Claude reads signatures.
//!
//! A signature of ours is [`MARK`] and what is sealed: the provider's name, a zero byte, and its state, which may be empty.

use crate::llm::state::{MARK, Seal};

/// The signature of a block that the provider of this seal made.
pub fn signature(seal: Option<&Seal>, state: &[u8]) -> String {
    let sealed = |state: &[u8]| seal.map(|seal| seal.seal("", &[seal.provider.as_bytes(), &[0], state].concat())).unwrap_or_default();
    let signature = sealed(state);
    // A state that is too long is not kept.
    if signature.is_empty() { sealed(&[]) } else { signature }
}

/// What a signature says.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin {
    /// The provider that is asked made the block; its state may be empty.
    Own(Vec<u8>),
    /// Another provider made it, or nobody can open it any more: nothing of it may go upstream.
    Other,
    /// The gateway did not make it.
    Foreign,
}

/// Who made a block with this signature. `seal`: that of the provider that is asked.
pub fn origin(seal: Option<&Seal>, signature: &str) -> Origin {
    if !is_sealed(signature) {
        return Origin::Foreign;
    }
    let own = || {
        let seal = seal?;
        let (_, sealed) = seal.open(signature)?;
        Some(sealed.strip_prefix(seal.provider.as_bytes())?.strip_prefix(&[0])?.to_vec())
    };
    own().map_or(Origin::Other, Origin::Own)
}

/// Whether the gateway made this signature.
pub fn is_sealed(signature: &str) -> bool {
    signature.starts_with(MARK)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::llm::state::{MAX_STATE, Sealer};

    #[test]
    fn a_state_goes_back_to_its_provider_only() {
        let seal =
            |key: u8, provider: &str| Seal::new(std::sync::Arc::new(Sealer::new(&[key; 32]).unwrap()), "search".into(), provider.into());
        let gemini = seal(7, "gemini");
        let made = signature(Some(&gemini), b"\xffstate");
        assert_eq!(origin(Some(&gemini), &made), Origin::Own(b"\xffstate".to_vec()));
        for provider in ["gem", "gemini2", "openai", ""] {
            assert_eq!(origin(Some(&seal(7, provider)), &made), Origin::Other);
        }
        assert_eq!(origin(Some(&seal(8, "gemini")), &made), Origin::Other);
        assert_eq!(origin(None, &made), Origin::Other);
        assert_eq!(origin(Some(&gemini), "EqQBCkYIBxgC"), Origin::Foreign);
        let long = signature(Some(&gemini), &vec![b'x'; MAX_STATE]);
        assert_eq!(origin(Some(&gemini), &long), Origin::Own(Vec::new()));
    }
}
