//! A body as it is sent: a long part of another one is shared, not copied.

use bytes::Bytes;
use smallvec::SmallVec;
use std::ops::Range;

/// A part of another body that is shorter than this is copied: a slice of its own costs a write of its own.
pub const LONG: usize = 16 << 10;

/// A body in at most three slices.
#[derive(Clone, Debug, Default)]
pub struct Slices(SmallVec<[Bytes; 1]>);

/// A part of a new body.
#[derive(Debug)]
pub(super) enum Piece<'p> {
    /// Bytes of the old body.
    Copied(Range<usize>),
    /// New bytes.
    New(&'p [u8]),
}

impl<'p> Piece<'p> {
    fn bytes(&self, body: &'p [u8]) -> &'p [u8] {
        match self {
            Self::Copied(range) => body.get(range.clone()).unwrap_or_default(),
            Self::New(bytes) => bytes,
        }
    }
}

impl Slices {
    /// Puts pieces together, those of the old body from `body`: the longest of these is shared if it is [`LONG`], all others are
    /// copied.
    pub(super) fn assemble(body: &Bytes, pieces: &[Piece<'_>]) -> Self {
        let copied = |pieces: &[Piece<'_>]| {
            let mut out = Vec::with_capacity(pieces.iter().map(|piece| piece.bytes(body).len()).sum());
            pieces.iter().for_each(|piece| out.extend_from_slice(piece.bytes(body)));
            Bytes::from(out)
        };
        let old = pieces.iter().enumerate().filter(|(_, piece)| matches!(piece, Piece::Copied(_)));
        let longest = old.map(|(at, piece)| (at, piece.bytes(body))).max_by_key(|(_, bytes)| bytes.len());
        let slices = match longest.filter(|(_, bytes)| bytes.len() >= LONG) {
            None => [copied(pieces), Bytes::new(), Bytes::new()],
            Some((at, shared)) => {
                let (before, after) = (pieces.get(..at).unwrap_or_default(), pieces.get(at + 1..).unwrap_or_default());
                [copied(before), body.slice_ref(shared), copied(after)]
            }
        };
        Self(slices.into_iter().filter(|slice| !slice.is_empty()).collect())
    }

    /// A body with `new` in the place of a range of it.
    pub fn replacing(body: &Bytes, range: Range<usize>, new: &[u8]) -> Self {
        Self::assemble(body, &[Piece::Copied(0..range.start), Piece::New(new), Piece::Copied(range.end..body.len())])
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its slices, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|slice| &**slice)
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
mod tests {
    use super::*;

    #[test]
    fn the_longest_old_piece_is_shared_and_the_others_are_copied() {
        let (long, new) = ("a".repeat(LONG), "b".repeat(3 * LONG));
        let body = Bytes::from([&long, ",", &long, "-}"].concat());
        let pieces = [
            Piece::New(b"{"),
            Piece::Copied(0..LONG + 1),
            Piece::New(new.as_bytes()),
            Piece::Copied(LONG + 1..2 * LONG + 2),
            Piece::Copied(2 * LONG + 2..body.len()),
        ];
        let mut sent = Slices::assemble(&body, &pieces);
        let want = ["{", &long, ",", &new, &long, "-", "}"].concat();
        assert_eq!((sent.len(), sent.joined()), (want.len(), want.into()));
        let slices: Vec<_> = std::iter::from_fn(|| sent.take_slice()).collect();
        assert_eq!(slices.iter().map(Bytes::len).collect::<Vec<_>>(), [4 * LONG + 2, LONG + 1, 1]);
        assert_eq!(slices.get(1).unwrap().as_ptr(), body.get(LONG + 1..).unwrap().as_ptr());
        assert!(sent.is_empty() && sent.take_slice().is_none());
    }

    #[test]
    fn a_range_is_replaced_without_a_copy_of_the_rest() {
        let body = Bytes::from(["model=a", &"-".repeat(LONG)].concat());
        let mut sent = Slices::replacing(&body, 6..7, b"other");
        assert_eq!(sent.joined(), ["model=other", &"-".repeat(LONG)].concat());
        assert_eq!(sent.take_slice().unwrap(), "model=other");
        assert_eq!(sent.take_slice().unwrap().as_ptr(), body.get(7..).unwrap().as_ptr());
    }

    #[test]
    fn short_pieces_are_one_slice() {
        let body = Bytes::from("a".repeat(LONG - 1));
        let mut sent = Slices::assemble(&body, &[Piece::New(b"{"), Piece::Copied(0..LONG - 1), Piece::New(b"")]);
        assert_eq!(sent.take_slice().map(|slice| slice.len()), Some(LONG));
        assert!(sent.is_empty() && Slices::from(Vec::new()).is_empty());
    }
}
