//! Signatures of thinking: what a service hands out with a thought, and wants back unchanged on the next turn.

use super::dialect::Refusal;
use sha2::{Digest, Sha256};

/// The signature of a thought, standard base64. It depends on `about` alone, so that it can be checked without a store.
pub(super) fn sign(about: &str) -> String {
    use base64::Engine;
    let digest = Sha256::new().chain_update("a thought of the simulator: ").chain_update(about).finalize();
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// What one block of a turn is, as far as thinking goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A thought and its signature.
    Thought(&'a str, &'a str),
    /// A thought that only the service can read.
    Sealed,
    /// A tool call.
    Call,
    /// Anything else.
    Other,
}

/// Checks the thoughts of an assistant's turn at `at`. `loops` says that the model thinks and that this turn's calls
/// are being answered: it must begin with the thought that led to them.
///
/// # Errors
/// A changed thought, or a turn that lost its own.
pub(super) fn check<'a>(turn: impl Iterator<Item = Kind<'a>>, loops: bool, at: &str) -> Result<(), Refusal> {
    let turn: Vec<Kind<'_>> = turn.collect();
    let changed = |kind: &&Kind<'_>| matches!(kind, Kind::Thought(text, signature) if sign(text) != *signature);
    if turn.iter().any(|kind| changed(&kind)) {
        return Err(Refusal::at(at, format!("{at}: Invalid `signature` in `thinking` block")));
    }
    let begins = matches!(turn.first(), Some(Kind::Thought(..) | Kind::Sealed));
    if loops && turn.contains(&Kind::Call) && !begins {
        let why = "Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final `assistant` \
                   message must start with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks).";
        return Err(Refusal::at(at, format!("{at}.content.0.type: {why}")));
    }
    Ok(())
}
