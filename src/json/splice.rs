//! A new body out of the old one and a few edits.
//!
//! What is not edited keeps every byte: the spelling of numbers, the order, the white space, the unknown fields.

use super::envelope::{Envelope, Member};
use super::write;
use bytes::Bytes;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::ops::Range;

/// Edits of a body's top-level members, made into a new body by [`Splice::finish`].
///
/// New values must be valid JSON; then the new body is, whatever edits come together.
#[derive(Debug)]
pub struct Splice<'a> {
    body: &'a Bytes,
    envelope: &'a Envelope,
    edits: SmallVec<[Edit<'a>; 8]>,
    inserts: SmallVec<[Insert<'a>; 2]>,
}

/// A new member: its key with its quotes, and its value.
type Insert<'a> = (Vec<u8>, Cow<'a, [u8]>);

/// What happens to one member.
#[derive(Debug, Default)]
struct Edit<'a> {
    /// Where the member's key starts, which tells the member.
    start: u32,
    removed: bool,
    value: Option<Cow<'a, [u8]>>,
    /// New first elements of the value, the last one being the first.
    elements: SmallVec<[Cow<'a, [u8]>; 1]>,
}

impl<'a> Splice<'a> {
    /// No edits yet. `envelope` must be of this very body.
    pub fn new(body: &'a Bytes, envelope: &'a Envelope) -> Self {
        Self { body, envelope, edits: SmallVec::new(), inserts: SmallVec::new() }
    }

    fn edit(&mut self, member: &Member) -> Option<&mut Edit<'a>> {
        let start = member.key.start;
        let at = match self.edits.binary_search_by_key(&start, |edit| edit.start) {
            Ok(at) => at,
            Err(at) => {
                self.edits.insert(at, Edit { start, ..Edit::default() });
                at
            }
        };
        self.edits.get_mut(at)
    }

    /// Gives a member another value.
    pub fn replace(&mut self, member: &Member, value: Cow<'a, [u8]>) {
        if let Some(edit) = self.edit(member) {
            edit.value = Some(value);
        }
    }

    /// Takes a member out; other edits of it do not count then.
    pub fn remove(&mut self, member: &Member) {
        if let Some(edit) = self.edit(member) {
            edit.removed = true;
        }
    }

    /// Appends a member after all others. The key is in plain characters, and must not be there already.
    pub fn insert(&mut self, key: &str, value: Cow<'a, [u8]>) {
        self.inserts.push((quoted(key), value));
    }

    /// Puts an element in front of a member's array (its new one, where it is replaced too). A value that is no array
    /// stays as it is.
    pub fn insert_into_array_start(&mut self, member: &Member, element: Cow<'a, [u8]>) {
        if let Some(edit) = self.edit(member) {
            edit.elements.push(element);
        }
    }

    /// The new body, in one buffer of its exact size; the old one itself where there is no edit.
    pub fn finish(self) -> Bytes {
        if self.edits.is_empty() && self.inserts.is_empty() {
            return self.body.clone();
        }
        let pieces = self.pieces();
        let mut out = Vec::with_capacity(pieces.iter().map(|piece| self.bytes(piece).len()).sum());
        for piece in pieces.iter() {
            out.extend_from_slice(self.bytes(piece));
        }
        out.into()
    }

    fn bytes<'p>(&'p self, piece: &Piece<'p>) -> &'p [u8] {
        match piece {
            Piece::Old(range) => self.body.get(range.clone()).unwrap_or_default(),
            Piece::Fresh(bytes) => bytes,
        }
    }

    /// A member that stays brings the separator before it along: exactly one comma for every one but the first that
    /// stays, which takes what stands before the very first. So no edit can lose or double a comma.
    fn pieces(&self) -> Pieces<'_> {
        let mut out = Pieces::default();
        let members = &self.envelope.members;
        let open = self.envelope.open as usize + 1;
        let lead = members.first().map_or(open, |first| first.key.start as usize);
        let (mut edits, mut end, mut any) = (self.edits.iter().peekable(), open, false);
        out.old(0..open);
        for member in members {
            let (key, value) = (member.key.range(), member.value.range());
            let edit = edits.next_if(|edit| edit.start == member.key.start);
            let separator = std::mem::replace(&mut end, value.end)..key.start;
            if edit.is_some_and(|edit| edit.removed) {
                continue;
            }
            out.old(if any { separator } else { open..lead });
            any = true;
            match edit {
                Some(edit) => {
                    out.old(key.start..value.start);
                    let old = self.body.get(value.clone()).unwrap_or_default();
                    out.value(edit, value, old);
                }
                None => out.old(key.start..value.end),
            }
        }
        for (key, value) in &self.inserts {
            if std::mem::replace(&mut any, true) {
                out.fresh(b",");
            }
            out.fresh(key);
            out.fresh(b":");
            out.fresh(value);
        }
        out.old(end..self.body.len());
        out
    }
}

/// A stretch of the new body.
#[derive(Debug)]
enum Piece<'p> {
    /// Bytes of the old one.
    Old(Range<usize>),
    /// New bytes.
    Fresh(&'p [u8]),
}

#[derive(Debug, Default)]
struct Pieces<'p>(SmallVec<[Piece<'p>; 32]>);

impl<'p> std::ops::Deref for Pieces<'p> {
    type Target = [Piece<'p>];
    fn deref(&self) -> &[Piece<'p>] {
        &self.0
    }
}

impl<'p> Pieces<'p> {
    /// Appends old bytes; what adjoins becomes one run.
    fn old(&mut self, range: Range<usize>) {
        match self.0.last_mut() {
            Some(Piece::Old(last)) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.0.push(Piece::Old(range)),
        }
    }

    fn fresh(&mut self, bytes: &'p [u8]) {
        self.0.push(Piece::Fresh(bytes));
    }

    fn value(&mut self, edit: &'p Edit<'_>, range: Range<usize>, old: &[u8]) {
        let now: &[u8] = edit.value.as_deref().unwrap_or(old);
        let bracket = now.iter().position(|b| !b.is_ascii_whitespace()).filter(|&i| now.get(i) == Some(&b'['));
        let cut = match bracket {
            Some(bracket) if !edit.elements.is_empty() => bracket + 1,
            _ => 0,
        };
        let empty = now.iter().skip(cut).find(|b| !b.is_ascii_whitespace()) == Some(&b']');
        let part = |out: &mut Self, from: usize, to: usize| match &edit.value {
            Some(value) => out.fresh(value.get(from..to).unwrap_or_default()),
            None => out.old(range.start + from..range.start + to),
        };
        if cut > 0 {
            part(self, 0, cut);
            for (i, element) in edit.elements.iter().rev().enumerate() {
                if i > 0 {
                    self.fresh(b",");
                }
                self.fresh(element);
            }
            if !empty {
                self.fresh(b",");
            }
        }
        part(self, cut, now.len());
    }
}

fn quoted(key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 2);
    out.push(b'"');
    write::escape(&mut out, key);
    out.push(b'"');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::envelope::{scan, text};
    use super::*;

    fn edited(body: &'static str, edit: impl FnOnce(&mut Splice<'_>, &[Member])) -> String {
        let body = Bytes::from_static(body.as_bytes());
        let envelope = scan(text(&body).unwrap()).unwrap();
        let mut splice = Splice::new(&body, &envelope);
        edit(&mut splice, &envelope.members);
        String::from_utf8(splice.finish().to_vec()).unwrap()
    }

    #[test]
    fn what_is_not_edited_keeps_its_bytes() {
        let got = edited("{ \"model\" : \"a\",\n \"n\" : 1.0e0 , \"x\":{ } } ", |splice, m| {
            splice.replace(&m[0], Cow::Borrowed(b"\"b\""));
        });
        assert_eq!(got, "{ \"model\" : \"b\",\n \"n\" : 1.0e0 , \"x\":{ } } ");
    }

    #[test]
    fn members_come_and_go_with_their_commas() {
        const BODY: &str = "{ \"a\":1, \"b\":2 ,\"c\":3 }";
        let without = |gone: &[usize]| edited(BODY, |splice, m| gone.iter().for_each(|&i| splice.remove(&m[i])));
        assert_eq!(without(&[0]), "{ \"b\":2 ,\"c\":3 }");
        assert_eq!(without(&[1]), "{ \"a\":1 ,\"c\":3 }");
        assert_eq!(without(&[2, 1]), "{ \"a\":1 }");
        assert_eq!(without(&[0, 1, 2]), "{ }");
        let all = edited(BODY, |splice, m| {
            m.iter().for_each(|member| splice.remove(member));
            splice.insert("d", Cow::Borrowed(b"4"));
            splice.insert("e", Cow::Borrowed(b"5"));
        });
        assert_eq!(all, "{\"d\":4,\"e\":5 }");
        assert_eq!(edited("{}", |splice, _| splice.insert("d", Cow::Borrowed(b"4"))), "{\"d\":4}");
    }

    #[test]
    fn elements_go_to_the_front_of_an_array() {
        let got = edited("{\"a\":[ ],\"b\":[1],\"c\":{},\"d\":[1]}", |splice, m| {
            m.iter().for_each(|member| splice.insert_into_array_start(member, Cow::Borrowed(b"{}")));
            splice.insert_into_array_start(&m[1], Cow::Borrowed(b"0"));
            splice.replace(&m[3], Cow::Borrowed(b"[]"));
        });
        assert_eq!(got, "{\"a\":[{} ],\"b\":[0,{},1],\"c\":{},\"d\":[{}]}");
    }

    #[test]
    fn without_an_edit_nothing_is_copied() {
        let body = Bytes::from_static(b"{\"a\":1}");
        let envelope = scan(text(&body).unwrap()).unwrap();
        assert_eq!(Splice::new(&body, &envelope).finish().as_ptr(), body.as_ptr());
    }
}
