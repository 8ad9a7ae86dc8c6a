//! State that a provider needs back on the next turn, sealed into text that a client returns verbatim.
//!
//! Thought signatures have to come back with the conversation, and the gateway keeps no store. A plain OpenAI client returns
//! only what OpenAI's shape has room for, so there the state is in the id of a tool call: `ID--tg1-` and base64url of nonce,
//! ciphertext and tag. ChaCha20-Poly1305 makes it unreadable and unforgeable; the team and the provider's id are authenticated
//! with it, so that a state cannot be moved to another team or another call. Nothing here is random: the nonce is an HMAC of
//! everything that is sealed (a synthetic nonce), so equal ids mean equal contents and two different contents share a nonce
//! with probability 2^-96 a pair.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use memchr::memmem;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use std::sync::Arc;

/// Most bytes of state that an id carries; a longer state is not sealed at all. The id is a third longer.
pub const MAX_STATE: usize = 32 * 1024;

/// Most bytes of an id that [`Sealer::open`] looks at: a sealed state of [`MAX_STATE`] and a long id of the provider.
pub const MAX_ID: usize = MAX_STATE / 3 * 4 + 1024;

/// Stands between the provider's id and the sealed state; the 1 is the format's version. A request without it anywhere
/// brings no state back.
pub const MARK: &str = "--tg1-";

/// Whether there may be a sealed state in a text.
pub fn may_be_in(text: impl AsRef<[u8]>) -> bool {
    memmem::find(text.as_ref(), MARK.as_bytes()).is_some()
}

/// Most places of one id where a sealed state is looked for.
const MAX_MARKS: usize = 4;

/// Seals with one key and opens with several, so that keys can be replaced. Has no `Debug`: it holds keys.
pub struct Sealer {
    first: Key,
    others: Vec<Key>,
}

struct Key {
    cipher: LessSafeKey,
    nonces: hmac::Key,
}

impl Key {
    fn new(key: &[u8; 32]) -> Option<Self> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key);
        let cipher = UnboundKey::new(&CHACHA20_POLY1305, hmac::sign(&root, b"tidegate seal cipher").as_ref()).ok()?;
        let nonces = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, b"tidegate seal nonce").as_ref());
        Some(Self { cipher: LessSafeKey::new(cipher), nonces })
    }
}

impl Sealer {
    /// A sealer that seals with this key; all nodes that serve the same clients need the same one.
    /// `None` only where the cipher refuses the key, which it does for no key of this length.
    pub fn new(key: &[u8; 32]) -> Option<Self> {
        Some(Self { first: Key::new(key)?, others: Vec::new() })
    }

    /// The same, which opens with these keys too.
    pub fn opening(mut self, keys: &[[u8; 32]]) -> Option<Self> {
        self.others = keys.iter().map(Key::new).collect::<Option<_>>()?;
        Some(self)
    }

    /// The provider's id with a state sealed behind it. `context`: the team that may open it. The id stays as it
    /// is where the state is empty or longer than [`MAX_STATE`].
    pub fn seal(&self, context: &[u8], id: &str, state: &[u8]) -> String {
        self.try_seal(context, id, state).unwrap_or_else(|| id.to_owned())
    }

    fn try_seal(&self, context: &[u8], id: &str, state: &[u8]) -> Option<String> {
        if state.is_empty() || state.len() > MAX_STATE {
            return None;
        }
        let bound = bind(context, id);
        let mut synthetic = hmac::Context::with_key(&self.first.nonces);
        synthetic.update(&bound);
        synthetic.update(state);
        let nonce: [u8; NONCE_LEN] = synthetic.sign().as_ref().get(..NONCE_LEN)?.try_into().ok()?;
        let mut boxed = state.to_vec();
        self.first.cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut boxed).ok()?;
        boxed.splice(..0, nonce);
        Some(format!("{id}{MARK}{}", URL_SAFE_NO_PAD.encode(boxed)))
    }

    /// Takes a sealed id apart: the provider's id and the state. `None` for an id that was never sealed, was sealed for
    /// another context, or was changed.
    pub fn open(&self, context: &[u8], sealed: &str) -> Option<(String, Vec<u8>)> {
        if sealed.len() > MAX_ID {
            return None;
        }
        // A provider's id or a base64 text may hold the mark by chance, so every place is tried.
        sealed.match_indices(MARK).take(MAX_MARKS).find_map(|(at, _)| {
            let id = sealed.get(..at)?;
            let boxed = URL_SAFE_NO_PAD.decode(sealed.get(at + MARK.len()..)?).ok()?;
            let (nonce, boxed) = boxed.split_first_chunk::<NONCE_LEN>()?;
            std::iter::once(&self.first).chain(&self.others).find_map(|key| {
                let (mut boxed, bound) = (boxed.to_vec(), Aad::from(bind(context, id)));
                let opened = key.cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), bound, &mut boxed).ok()?;
                Some((id.to_owned(), opened.to_vec()))
            })
        })
    }
}

/// Context and id in one string that no other pair gives.
fn bind(context: &[u8], id: &str) -> Vec<u8> {
    let mut bound = Vec::with_capacity(8 + context.len() + id.len());
    bound.extend_from_slice(&(context.len() as u64).to_be_bytes());
    bound.extend_from_slice(context);
    bound.extend_from_slice(id.as_bytes());
    bound
}

/// A sealer, the team it works for and the provider whose state it seals: what an attempt is given. Cheap to clone.
#[derive(Clone)]
pub struct Seal {
    sealer: Arc<Sealer>,
    context: Arc<str>,
    /// The provider's name.
    pub provider: Arc<str>,
    /// Whether the states in ids are left out, because the provider has refused one of them.
    forgets: bool,
}

impl Seal {
    /// Seals for this team what this provider wants back.
    pub fn new(sealer: Arc<Sealer>, team: Arc<str>, provider: Arc<str>) -> Self {
        Self { sealer, context: team, provider, forgets: false }
    }

    /// The same, which opens ids and finds no states in them.
    pub fn forgetting(self) -> Self {
        Self { forgets: true, ..self }
    }

    /// Whether no state goes back to the provider.
    pub const fn forgets(&self) -> bool {
        self.forgets
    }

    /// See [`Sealer::seal`].
    pub fn seal(&self, id: &str, state: &[u8]) -> String {
        self.sealer.seal(self.context.as_bytes(), id, state)
    }

    /// See [`Sealer::open`].
    pub fn open(&self, sealed: &str) -> Option<(String, Vec<u8>)> {
        let (id, state) = self.sealer.open(self.context.as_bytes(), sealed)?;
        Some((id, if self.forgets { Vec::new() } else { state }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: u8) -> Sealer {
        Sealer::new(&[key; 32]).unwrap()
    }

    #[test]
    fn a_state_comes_back_behind_the_providers_id() {
        let s = sealer(1);
        for id in ["toolu_01AbC", "", "call--tg1-x", "--tg1-"] {
            let sealed = s.seal(b"search", id, "thinking — 思考".as_bytes());
            assert!(sealed.starts_with(id));
            assert!(sealed.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
            assert!(!sealed.contains("thinking"));
            assert_eq!(s.open(b"search", &sealed), Some((id.to_owned(), "thinking — 思考".as_bytes().to_vec())));
        }
    }

    #[test]
    fn nobody_else_opens_it() {
        let sealed = sealer(1).seal(b"search", "call_1", b"state");
        assert_eq!(sealer(1).open(b"billing", &sealed), None);
        assert_eq!(sealer(2).open(b"search", &sealed), None);
        assert_eq!(sealer(1).open(b"search", &sealed.replace("call_1", "call_2")), None);
        assert_eq!(sealer(1).open(b"search", &sealed[..sealed.len() - 2]), None);
        for at in sealed.find(MARK).unwrap() + MARK.len()..sealed.len() {
            let mut forged = sealed.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(sealer(1).open(b"search", std::str::from_utf8(&forged).unwrap()), None);
        }
    }

    #[test]
    fn a_key_that_was_replaced_still_opens() {
        let sealed = sealer(1).seal(b"t", "call_1", b"state");
        let after = sealer(2).opening(&[[3; 32], [1; 32]]).unwrap();
        assert_eq!(after.open(b"t", &sealed), Some(("call_1".to_owned(), b"state".to_vec())));
        assert_eq!(sealer(1).open(b"t", &after.seal(b"t", "call_1", b"state")), None);
    }

    #[test]
    fn what_was_never_sealed_is_not_opened() {
        for id in ["call_1", "", "--tg1-", "x--tg1-AAAA", "x--tg1-é", &"a".repeat(MAX_ID + 1), &MARK.repeat(5000)] {
            assert_eq!(sealer(1).open(b"search", id), None);
        }
    }

    #[test]
    fn an_id_is_bounded_and_deterministic() {
        let s = sealer(1);
        assert_eq!(s.seal(b"t", "id", &vec![b'x'; MAX_STATE + 1]), "id");
        assert_eq!(s.seal(b"t", "id", b""), "id");
        let longest = s.seal(b"t", &"i".repeat(200), &vec![b'x'; MAX_STATE]);
        assert!(s.open(b"t", &longest).is_some());
        assert_eq!(s.seal(b"t", "id", b"a"), s.seal(b"t", "id", b"a"));
        let nonce = |state: &[u8]| s.seal(b"t", "id", state)[MARK.len() + 2..][..16].to_owned();
        assert_ne!(nonce(b"a"), nonce(b"b"));
    }
}
