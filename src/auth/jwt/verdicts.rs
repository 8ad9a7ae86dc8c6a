//! Tokens that were found valid, by the SHA-256 of their text, until they expire: the next request with the same token costs a
//! digest and one look-up, and no signature is checked.
//!
//! A fixed number of sets of [`WAYS`] entries; a digest belongs to one set, and a full one forgets an entry that has expired, else
//! the next in turn. Only valid tokens are stored, so that nobody else can displace them.

use crate::auth::Principal;
use parking_lot::Mutex;

/// Number of sets; with [`WAYS`], 16384 tokens and about 1.5 MB, beside what each has as its id and routes.
pub const SETS: usize = 4096;
/// Entries of a set.
const WAYS: usize = 4;

/// SHA-256 of a token's text.
pub type Digest = [u8; 32];

/// A valid token.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Whose it is.
    pub principal: Principal,
    /// Until when it is valid, in seconds since the epoch, the clock skew included.
    pub until: i64,
    /// The issuer, by index.
    pub issuer: usize,
    /// The version of the issuer's keys that it was checked with.
    pub version: u64,
}

#[derive(Default)]
struct Set {
    entries: [Option<(Digest, Verdict)>; WAYS],
    /// The entry that is replaced next.
    turn: usize,
}

/// See the module.
pub struct Verdicts(Box<[Mutex<Set>]>);

impl Verdicts {
    /// A table of so many sets.
    pub fn new(sets: usize) -> Self {
        Self((0..sets).map(|_| Mutex::default()).collect())
    }

    /// What was stored of a token, if it is still valid. `version` has the current version of an issuer's keys.
    pub fn get(&self, digest: &Digest, now: i64, version: impl FnOnce(usize) -> u64) -> Option<Principal> {
        let set = self.set(digest)?.lock();
        let (_, verdict) = set.entries.iter().flatten().find(|(known, _)| known == digest)?;
        (now < verdict.until && version(verdict.issuer) == verdict.version).then(|| verdict.principal.clone())
    }

    /// Stores a valid token.
    pub fn put(&self, digest: Digest, verdict: Verdict, now: i64) {
        let Some(mut set) = self.set(&digest).map(Mutex::lock) else { return };
        let same = set.entries.iter().position(|entry| entry.as_ref().is_some_and(|(known, _)| *known == digest));
        let free = || set.entries.iter().position(|entry| entry.as_ref().is_none_or(|(_, old)| old.until <= now));
        let at = same.or_else(free).unwrap_or_else(|| set.turn % WAYS);
        set.turn = at + 1;
        if let Some(entry) = set.entries.get_mut(at) {
            *entry = Some((digest, verdict));
        }
    }

    fn set(&self, digest: &Digest) -> Option<&Mutex<Set>> {
        let [a, b, c, d, ..] = *digest;
        self.0.get(u32::from_be_bytes([a, b, c, d]) as usize % self.0.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(until: i64, version: u64) -> Verdict {
        Verdict { principal: Principal { team: 3, key: None, identity: None }, until, issuer: 0, version }
    }

    fn digest(number: u32) -> Digest {
        let mut digest = [0; 32];
        digest[4..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    #[test]
    fn a_token_is_known_until_it_expires_or_the_keys_of_its_issuer_change() {
        let table = Verdicts::new(8);
        table.put(digest(1), verdict(100, 7), 50);
        let known = |number, now, version| table.get(&digest(number), now, |issuer| if issuer == 0 { version } else { 0 }).is_some();
        assert!(known(1, 99, 7) && !known(1, 100, 7) && !known(1, 99, 8) && !known(2, 99, 7));
        table.put(digest(1), verdict(200, 8), 100);
        assert!(known(1, 199, 8));
    }

    #[test]
    fn a_full_set_forgets_what_has_expired_else_the_next_in_turn() {
        let table = Verdicts::new(1);
        let known = |now| (0..9).filter(|number| table.get(&digest(*number), now, |_| 0).is_some()).collect::<Vec<_>>();
        for (number, until) in [(0, 100), (1, 20), (2, 100), (3, 100)] {
            table.put(digest(number), verdict(until, 0), 0);
        }
        assert_eq!(known(10), [0, 1, 2, 3]);
        table.put(digest(4), verdict(100, 0), 30);
        assert_eq!(known(30), [0, 2, 3, 4]);
        for number in 5..8 {
            table.put(digest(number), verdict(100, 0), 30);
            assert_eq!(known(30).len(), WAYS, "it never grows");
        }
        assert!(known(30).contains(&7));
        table.put(digest(7), verdict(110, 0), 30);
        assert_eq!(known(30).len(), WAYS, "the same token has one entry");
    }
}
