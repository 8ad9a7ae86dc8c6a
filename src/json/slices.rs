//! A body as it is sent: a long part of another one is shared, not copied.

use bytes::Bytes;
use smallvec::SmallVec;
use std::ops::Range;

/// A part of another body that is shorter than this is copied: a slice of its own costs a write of its own.
pub const LONG: usize = 16 << 10;

/// A body in at most three slices.
#[derive(Clone, Debug, Default)]
pub struct Slices(SmallVec<[Bytes; 1]>);

impl Slices {
    /// Puts pieces together: the longest one stands for itself if it is [`LONG`], the others are copied. `share` returns a piece
    /// that is part of another body; `bytes` reads any.
    pub(super) fn assemble<P>(pieces: &[P], bytes: impl Fn(&P) -> &[u8], share: impl Fn(&P) -> Option<Bytes>) -> Self {
        let length = |at: usize| pieces.get(at).map_or(0, |piece| bytes(piece).len());
        let shared = (0..pieces.len()).max_by_key(|at| length(*at)).filter(|at| length(*at) >= LONG);
        let shared = shared.and_then(|at| Some((at, share(pieces.get(at)?)?)));
        let copied = |pieces: &[P]| {
            let mut out = Vec::with_capacity(pieces.iter().map(|piece| bytes(piece).len()).sum());
            pieces.iter().for_each(|piece| out.extend_from_slice(bytes(piece)));
            Bytes::from(out)
        };
        let slices = match shared {
            None => [copied(pieces), Bytes::new(), Bytes::new()],
            Some((at, shared)) => {
                let (before, after) = (pieces.get(..at).unwrap_or_default(), pieces.get(at + 1..).unwrap_or_default());
                [copied(before), shared, copied(after)]
            }
        };
        Self(slices.into_iter().filter(|slice| !slice.is_empty()).collect())
    }

    /// A body with `new` in the place of a range of it.
    pub fn replacing(body: &Bytes, range: Range<usize>, new: &[u8]) -> Self {
        let pieces = [part(body, 0..range.start), Bytes::copy_from_slice(new), part(body, range.end..body.len())];
        Self::assemble(&pieces, |piece| piece, |piece| Some(piece.clone()))
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its bytes in one piece: a copy if it has several slices.
    pub fn joined(&self) -> Bytes {
        match self.0.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            several => several.concat().into(),
        }
    }

    /// Takes its first slice.
    pub fn take_slice(&mut self) -> Option<Bytes> {
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }
}

/// A part of a body, which is shared; empty if it is out of range.
pub(super) fn part(body: &Bytes, range: Range<usize>) -> Bytes {
    body.get(range).map(|part| body.slice_ref(part)).unwrap_or_default()
}

impl From<Bytes> for Slices {
    fn from(bytes: Bytes) -> Self {
        Self(Some(bytes).into_iter().filter(|bytes| !bytes.is_empty()).collect())
    }
}

impl From<Vec<u8>> for Slices {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_piece_is_shared_and_the_others_are_copied() {
        let (long, longer) = (Bytes::from("a".repeat(LONG)), Bytes::from("b".repeat(LONG + 1)));
        let pieces = [Bytes::from("{"), long, Bytes::from(","), longer.clone(), Bytes::from("1"), Bytes::from("}")];
        let mut body = Slices::assemble(&pieces, |piece| piece, |piece| Some(piece.clone()));
        assert_eq!((body.len(), body.joined()), (2 * LONG + 5, pieces.concat().into()));
        let slices: Vec<_> = std::iter::from_fn(|| body.take_slice()).collect();
        assert_eq!(slices.iter().map(Bytes::len).collect::<Vec<_>>(), [LONG + 2, LONG + 1, 2]);
        assert_eq!(slices.get(1).unwrap().as_ptr(), longer.as_ptr());
        assert!(body.is_empty() && body.take_slice().is_none());
    }

    #[test]
    fn a_range_is_replaced_without_a_copy_of_the_rest() {
        let body = Bytes::from(["model=a", &"-".repeat(LONG)].concat());
        let mut sent = Slices::replacing(&body, 6..7, b"other");
        assert_eq!(sent.joined(), ["model=other", &"-".repeat(LONG)].concat());
        assert_eq!(sent.take_slice().unwrap(), "model=other");
        assert_eq!(sent.take_slice().unwrap().as_ptr(), part(&body, 7..body.len()).as_ptr());
        assert!(part(&body, 0..body.len() + 1).is_empty());
    }

    #[test]
    fn short_pieces_are_one_slice() {
        let pieces = [Bytes::from("{"), Bytes::from("a".repeat(LONG - 1)), Bytes::new()];
        let mut body = Slices::assemble(&pieces, |piece| piece, |piece| Some(piece.clone()));
        assert_eq!(body.take_slice().map(|slice| slice.len()), Some(LONG));
        assert!(body.is_empty() && Slices::from(Vec::new()).is_empty());
    }
}
