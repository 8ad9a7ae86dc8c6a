//! Builds a new body from an old one and a few edits of top-level members, or a new array from an old one. Everything else
//! stays byte for byte: number formats, order, white space, unknown fields.

use super::envelope::{Envelope, Member, ScanError};
use super::slices::{Piece, Slices};
use super::walk::Cursor;
use super::write::quoted;
use bytes::Bytes;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::ops::Range;

/// Edits of a body's top-level members; [`Splice::finish`] builds the new body. If all new values are valid JSON, the
/// result is too.
#[derive(Debug)]
pub struct Splice<'a> {
    body: &'a Bytes,
    envelope: &'a Envelope,
    edits: SmallVec<[Edit<'a>; 8]>,
    inserts: SmallVec<[Insert<'a>; 2]>,
}

/// A new member: quoted key, and value.
type Insert<'a> = (Vec<u8>, Cow<'a, [u8]>);

/// The edits of one member.
#[derive(Debug, Default)]
struct Edit<'a> {
    /// Start of the member's key, which identifies the member.
    start: u32,
    removed: bool,
    value: Option<Cow<'a, [u8]>>,
    /// Elements to prepend to the value, in reverse order.
    elements: SmallVec<[Cow<'a, [u8]>; 1]>,
}

impl<'a> Splice<'a> {
    /// No edits. `envelope` must be that of `body`.
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

    /// Replaces a member's value.
    pub fn replace(&mut self, member: &Member, value: Cow<'a, [u8]>) {
        if let Some(edit) = self.edit(member) {
            edit.value = Some(value);
        }
    }

    /// Removes a member; overrides other edits of it.
    pub fn remove(&mut self, member: &Member) {
        if let Some(edit) = self.edit(member) {
            edit.removed = true;
        }
    }

    /// Appends a member. `key` is unescaped text and must not exist in the body.
    pub fn insert(&mut self, key: &str, value: Cow<'a, [u8]>) {
        self.inserts.push((quoted(key), value));
    }

    /// Prepends an element to a member's array (the replacement, if it is replaced too). Has no effect on other values.
    pub fn insert_into_array_start(&mut self, member: &Member, element: Cow<'a, [u8]>) {
        if let Some(edit) = self.edit(member) {
            edit.elements.push(element);
        }
    }

    /// The new body, which shares a long part of the old one; the old one if there are no edits.
    pub fn finish(self) -> Slices {
        if self.edits.is_empty() && self.inserts.is_empty() {
            return self.body.clone().into();
        }
        Slices::assemble(self.body, &self.pieces())
    }

    /// A remaining member is copied with the separator before it, which contains exactly one comma; the first remaining
    /// one takes the text before the very first member instead. So no edit drops or duplicates a comma.
    fn pieces(&self) -> Pieces<'_> {
        let mut out = Pieces::default();
        let members = &self.envelope.members;
        let open = self.envelope.open as usize + 1;
        let lead = members.first().map_or(open, |first| first.key.start as usize);
        let (mut edits, mut end, mut any) = (self.edits.iter().peekable(), open, false);
        out.copied(0..open);
        for member in members {
            let (key, value) = (member.key.range(), member.value.range());
            let edit = edits.next_if(|edit| edit.start == member.key.start);
            let separator = std::mem::replace(&mut end, value.end)..key.start;
            if edit.is_some_and(|edit| edit.removed) {
                continue;
            }
            out.copied(if any { separator } else { open..lead });
            any = true;
            match edit {
                Some(edit) => {
                    out.copied(key.start..value.start);
                    let old = self.body.get(value.clone()).unwrap_or_default();
                    out.value(edit, value, old);
                }
                None => out.copied(key.start..value.end),
            }
        }
        for (key, value) in &self.inserts {
            if std::mem::replace(&mut any, true) {
                out.new_bytes(b",");
            }
            out.new_bytes(key);
            out.new_bytes(b":");
            out.new_bytes(value);
        }
        out.copied(end..self.body.len());
        out
    }
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
    /// Appends old bytes, merging adjacent ranges.
    fn copied(&mut self, range: Range<usize>) {
        match self.0.last_mut() {
            Some(Piece::Copied(last)) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.0.push(Piece::Copied(range)),
        }
    }

    fn new_bytes(&mut self, bytes: &'p [u8]) {
        self.0.push(Piece::New(bytes));
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
            Some(value) => out.new_bytes(value.get(from..to).unwrap_or_default()),
            None => out.copied(range.start + from..range.start + to),
        };
        if cut > 0 {
            part(self, 0, cut);
            for (i, element) in edit.elements.iter().rev().enumerate() {
                if i > 0 {
                    self.new_bytes(b",");
                }
                self.new_bytes(element);
            }
            if !empty {
                self.new_bytes(b",");
            }
        }
        part(self, cut, now.len());
    }
}

/// What becomes of an element of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// It stays.
    Kept,
    /// It is taken out.
    Removed,
    /// It is replaced by this JSON.
    Replaced(String),
}

/// Edits the elements of an array that [`super::walk`] returned; `None` where all of them stay. Separators are copied as in
/// [`Splice`].
///
/// # Errors
/// The first problem, or an error of `edit`.
pub fn elements<E: From<ScanError>>(array: &str, mut edit: impl FnMut(&str) -> Result<Element, E>) -> Result<Option<String>, E> {
    let mut cursor = Cursor::inside(array);
    let (mut out, mut changed) = (String::new(), false);
    // The text before the first element, the end of the one before, and whether one has stayed.
    let (mut lead, mut end, mut any) = (None, 0, false);
    cursor.array(|cursor| {
        let start = cursor.position();
        let element = cursor.raw()?;
        let lead = *lead.get_or_insert(start);
        let separator = std::mem::replace(&mut end, cursor.position())..start;
        let edited = edit(element)?;
        changed |= edited != Element::Kept;
        let element = match &edited {
            Element::Kept => element,
            Element::Removed => return Ok(()),
            Element::Replaced(json) => json,
        };
        out.push_str(array.get(if std::mem::replace(&mut any, true) { separator } else { 0..lead }).unwrap_or_default());
        out.push_str(element);
        Ok::<_, E>(())
    })?;
    if !any {
        out.push('[');
    }
    out.push_str(array.get(end..).unwrap_or_default());
    Ok(changed.then_some(out))
}

#[cfg(test)]
mod tests {
    use super::super::envelope::scan;
    use super::super::utf8::text;
    use super::*;

    fn edited(body: &'static str, edit: impl FnOnce(&mut Splice<'_>, &[Member])) -> String {
        let body = Bytes::from_static(body.as_bytes());
        let envelope = scan(text(&body).unwrap()).unwrap();
        let mut splice = Splice::new(&body, &envelope);
        edit(&mut splice, &envelope.members);
        String::from_utf8(splice.finish().joined().to_vec()).unwrap()
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
    fn elements_come_and_go_with_their_commas() {
        let edited = |gone: &[&str], array: &str| {
            let edit = |element: &str| match element {
                gone_one if gone.contains(&gone_one) => Ok(Element::Removed),
                "3" => Ok(Element::Replaced("[3]".into())),
                _ => Ok::<_, ScanError>(Element::Kept),
            };
            elements(array, edit).unwrap()
        };
        const ARRAY: &str = " [ 1 , 2,\n 4 ] ";
        assert_eq!(edited(&["1"], ARRAY).as_deref(), Some(" [ 2,\n 4 ] "));
        assert_eq!(edited(&["2"], ARRAY).as_deref(), Some(" [ 1,\n 4 ] "));
        assert_eq!(edited(&["2", "4"], ARRAY).as_deref(), Some(" [ 1 ] "));
        assert_eq!(edited(&["1", "2", "4"], ARRAY).as_deref(), Some("[ ] "));
        assert_eq!(edited(&[], "[1, 3 ,2]").as_deref(), Some("[1, [3] ,2]"));
        assert_eq!((edited(&["2"], "[1]"), edited(&[], "[ ]")), (None, None));
    }

    #[test]
    fn without_an_edit_nothing_is_copied() {
        let body = Bytes::from_static(b"{\"a\":1}");
        let envelope = scan(text(&body).unwrap()).unwrap();
        assert_eq!(Splice::new(&body, &envelope).finish().joined().as_ptr(), body.as_ptr());
    }
}
