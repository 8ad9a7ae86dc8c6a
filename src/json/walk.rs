//! The one JSON scanner: it walks over a text, checks the grammar of RFC 8259, and hands out raw slices.
//!
//! [`members`] and [`elements`] open one level; what is inside of a value is checked and skipped without being kept.
//! Nothing is allocated and nothing recurses: the kinds of the open containers are the bits of one number.

use super::envelope::{MAX_DEPTH, Member, ScanError, Span};
pub use super::key::Key;
use super::run;
use crate::json::text::Text;

/// What is wrong, and at which byte; becomes a [`ScanError`] (which costs a count of lines) only on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    what: &'static str,
    at: usize,
}

impl Stop {
    pub(super) const fn new(what: &'static str, at: usize) -> Self {
        Self { what, at }
    }

    /// The error with its line and column in `text`.
    #[cold]
    pub(super) fn locate(self, text: &[u8]) -> ScanError {
        let before = text.get(..self.at).unwrap_or(text);
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        ScanError { what: self.what, offset: self.at, line, column: before.len() - line_start + 1 }
    }
}

/// The members of one object, in order.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    list: List<'a>,
}

/// Opens the object that `json` is; white space may stand around it.
///
/// # Errors
/// Where it does not begin as an object.
pub fn members(json: &str) -> Result<Members<'_>, ScanError> {
    List::open(json, b'{', false).map(|list| Members { list }).map_err(|stop| stop.locate(json.as_bytes()))
}

/// The same for a value that [`members`] or [`elements`] has handed out: it has been checked already, so that what is
/// inside of it is only skipped.
///
/// # Errors
/// Where it does not begin as an object.
pub fn inner_members(json: &str) -> Result<Members<'_>, ScanError> {
    List::open(json, b'{', true).map(|list| Members { list }).map_err(|stop| stop.locate(json.as_bytes()))
}

impl<'a> Members<'a> {
    /// The next member: its key, and its value without the white space around it. `None` tells that the whole text
    /// has been checked, including what stands behind the closing brace.
    ///
    /// # Errors
    /// The first thing that is wrong. The walk is over then.
    #[expect(clippy::should_implement_trait, reason = "an iterator of results would go on after an error")]
    pub fn next(&mut self) -> Result<Option<(Key<'a>, &'a str)>, ScanError> {
        let text = self.list.cursor.text;
        match self.list.member() {
            Ok(Some(Member { key, value })) => Ok(Some((Key::of(inside(key.text(text))), value.text(text)))),
            Ok(None) => Ok(None),
            Err(stop) => Err(stop.locate(text.as_bytes())),
        }
    }
}

/// The elements of one array, in order.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    list: List<'a>,
}

/// Opens the array that `json` is; white space may stand around it.
///
/// # Errors
/// Where it does not begin as an array.
pub fn elements(json: &str) -> Result<Elements<'_>, ScanError> {
    List::open(json, b'[', false).map(|list| Elements { list }).map_err(|stop| stop.locate(json.as_bytes()))
}

/// The same for a value that has been checked already; see [`inner_members`].
///
/// # Errors
/// Where it does not begin as an array.
pub fn inner_elements(json: &str) -> Result<Elements<'_>, ScanError> {
    List::open(json, b'[', true).map(|list| Elements { list }).map_err(|stop| stop.locate(json.as_bytes()))
}

impl<'a> Elements<'a> {
    /// The next element without the white space around it. `None` tells that the whole text has been checked,
    /// including what stands behind the closing bracket.
    ///
    /// # Errors
    /// The first thing that is wrong. The walk is over then.
    #[expect(clippy::should_implement_trait, reason = "an iterator of results would go on after an error")]
    pub fn next(&mut self) -> Result<Option<&'a str>, ScanError> {
        let text = self.list.cursor.text;
        match self.list.element() {
            Ok(value) => Ok(value.map(|span| span.text(text))),
            Err(stop) => Err(stop.locate(text.as_bytes())),
        }
    }

    /// All that are left.
    ///
    /// # Errors
    /// The first thing that is wrong, with its position.
    pub fn rest(mut self) -> Result<Vec<&'a str>, ScanError> {
        let mut all = Vec::new();
        while let Some(element) = self.next()? {
            all.push(element);
        }
        Ok(all)
    }

    /// The next element, which is expected to be an object: its members go to `each` (as [`Members::next`] gives them)
    /// while it is being read, so that a long array of objects is read once and not twice.
    ///
    /// # Errors
    /// The first thing that is wrong. The walk is over then.
    pub fn next_object(&mut self, mut each: impl FnMut(Key<'a>, &'a str)) -> Result<Option<Element>, ScanError> {
        let text = self.list.cursor.text;
        let read = self.list.step(|cursor| {
            if cursor.peek() != Some(b'{') {
                cursor.value()?;
                return Ok(Element::Other);
            }
            cursor.at += 1;
            let mut more = cursor.opened(true);
            while more {
                let Member { key, value } = cursor.member()?;
                each(Key::of(inside(key.text(text))), value.text(text));
                more = cursor.after(true)?;
            }
            Ok(Element::Object)
        });
        read.map_err(|stop| stop.locate(text.as_bytes()))
    }
}

/// The kinds of element that [`Elements::next_object`] tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// An object, whose members have been given out.
    Object,
    /// Anything else.
    Other,
}

/// The inside of a string value that a scanner has handed out; `None` where the value is no string.
pub fn string(json: &str) -> Option<Text<'_>> {
    json.strip_prefix('"')?.strip_suffix('"').map(Text::Raw)
}

/// A value that is a whole number of 0 or more, written without fraction or exponent, and fits.
pub fn unsigned(json: &str) -> Option<u64> {
    if json.len() > 1 && json.starts_with('0') || json.is_empty() {
        return None;
    }
    json.bytes().try_fold(0u64, |n, b| n.checked_mul(10)?.checked_add(u64::from(b.checked_sub(b'0').filter(|digit| *digit < 10)?)))
}

/// A key as it stands in a body, with its quotes; `None` where it has none.
pub fn key(json: &str) -> Option<Key<'_>> {
    json.strip_prefix('"')?.strip_suffix('"').map(Key::of)
}

fn inside(quoted: &str) -> &str {
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default()
}

/// Where a walk over one container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind the opening bracket.
    Opened,
    /// Behind an item.
    Item,
    /// Behind everything, or after an error.
    Over,
}

/// A container that is open, at its own level: what members and elements have in common.
#[derive(Clone, Debug)]
pub(super) struct List<'a> {
    cursor: Cursor<'a>,
    place: Place,
    object: bool,
    /// Position of the opening bracket.
    pub(super) open: usize,
}

impl<'a> List<'a> {
    /// Whether a null has been read, on whatever level; of a checked text it is not known.
    pub(super) const fn has_null(&self) -> bool {
        self.cursor.has_null
    }

    /// Opens the container that `text` is.
    pub(super) fn open(text: &'a str, bracket: u8, checked: bool) -> Result<Self, Stop> {
        let mut cursor = Cursor { text, at: 0, checked, has_null: false };
        cursor.white();
        let object = bracket == b'{';
        let open = cursor.at;
        if cursor.peek() != Some(bracket) {
            return Err(cursor.stop(if object { "expected an object (`{`)" } else { "expected an array (`[`)" }));
        }
        cursor.at += 1;
        Ok(Self { cursor, place: Place::Opened, object, open })
    }

    /// The next member of an object.
    pub(super) fn member(&mut self) -> Result<Option<Member>, Stop> {
        self.step(Cursor::member)
    }

    /// The next element of an array.
    fn element(&mut self) -> Result<Option<Span>, Stop> {
        self.step(Cursor::span)
    }

    fn step<T>(&mut self, item: impl FnOnce(&mut Cursor<'a>) -> Result<T, Stop>) -> Result<Option<T>, Stop> {
        let place = std::mem::replace(&mut self.place, Place::Over);
        if place == Place::Over {
            return Ok(None);
        }
        let more = if place == Place::Opened { self.cursor.opened(self.object) } else { self.cursor.after(self.object)? };
        if more {
            let item = item(&mut self.cursor)?;
            self.place = Place::Item;
            return Ok(Some(item));
        }
        self.cursor.white();
        match self.cursor.peek() {
            None => Ok(None),
            Some(_) => Err(self.cursor.stop("expected nothing more after the end of the value")),
        }
    }
}

/// A position in a text. Every method that reads something expects it exactly here and moves behind it. It is what
/// [`members`] and [`elements`] walk with; a reader that goes down into the values itself reads every byte once.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// The text is part of one that has been read to its end: what is not looked at is skipped unread.
    checked: bool,
    /// Whether a null has been read, on whatever level; of a checked text it is not known.
    has_null: bool,
}

impl<'a> Cursor<'a> {
    /// At the first value of a text.
    pub fn new(text: &'a str) -> Self {
        let mut cursor = Self { text, at: 0, checked: false, has_null: false };
        cursor.white();
        cursor
    }

    /// At the first value of a text that [`members`], [`elements`] or a cursor has handed out: it has been checked already,
    /// so that what is not looked at is skipped unread.
    pub fn inside(text: &'a str) -> Self {
        Self { checked: true, ..Self::new(text) }
    }

    /// Whether an object begins here.
    pub fn at_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Whether an array begins here.
    pub fn at_array(&self) -> bool {
        self.peek() == Some(b'[')
    }

    /// Reads an object: `each` gets the raw name of every member and has to read its value.
    ///
    /// # Errors
    /// The first thing that is wrong, and whatever `each` says.
    pub fn object<E: From<ScanError>>(&mut self, mut each: impl FnMut(&mut Self, &'a str) -> Result<(), E>) -> Result<(), E> {
        if !self.at_object() {
            return Err(self.stop("expected an object (`{`)").locate(self.text.as_bytes()).into());
        }
        self.at += 1;
        let mut more = self.opened(true);
        while more {
            let start = self.at + 1;
            let name = self.name().and_then(|()| {
                let end = self.at - 1;
                self.colon().map(|()| end)
            });
            let end = name.map_err(|stop| stop.locate(self.text.as_bytes()))?;
            each(self, self.text.get(start..end).unwrap_or_default())?;
            more = self.after(true).map_err(|stop| stop.locate(self.text.as_bytes()))?;
        }
        Ok(())
    }

    /// Reads an array: `each` has to read every element.
    ///
    /// # Errors
    /// As [`Cursor::object`].
    pub fn array<E: From<ScanError>>(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        if !self.at_array() {
            return Err(self.stop("expected an array (`[`)").locate(self.text.as_bytes()).into());
        }
        self.at += 1;
        let mut more = self.opened(false);
        while more {
            each(self)?;
            more = self.after(false).map_err(|stop| stop.locate(self.text.as_bytes()))?;
        }
        Ok(())
    }

    /// Where it is, in bytes.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// What has been read since it was at a position.
    pub fn since(&self, position: usize) -> &'a str {
        self.text.get(position..self.at).unwrap_or_default()
    }

    /// Checks a value with everything in it, and gives it raw.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn raw(&mut self) -> Result<&'a str, ScanError> {
        let start = self.at;
        self.value().map_err(|stop| stop.locate(self.text.as_bytes()))?;
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    /// Nothing but white space may follow.
    ///
    /// # Errors
    /// Where something does.
    pub fn finish(mut self) -> Result<(), ScanError> {
        self.white();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.stop("expected nothing more after the end of the value").locate(self.text.as_bytes())),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    const fn stop(&self, what: &'static str) -> Stop {
        Stop::new(what, self.at)
    }

    #[inline]
    fn at_white(&self) -> bool {
        matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t'))
    }

    /// Mostly there is no white space, or one character of it.
    #[inline]
    fn white(&mut self) {
        if self.at_white() {
            self.at += 1;
            if self.at_white() {
                self.much_white();
            }
        }
    }

    fn much_white(&mut self) {
        while self.at_white() {
            self.at += 1;
            self.at += run::spaces(self.rest());
        }
    }

    /// Behind an opening bracket: whether an item comes (and the cursor is at it), or the bracket closes.
    fn opened(&mut self, object: bool) -> bool {
        self.white();
        let closes = self.peek() == Some(if object { b'}' } else { b']' });
        self.at += usize::from(closes);
        !closes
    }

    /// Behind an item: whether another one comes (and the cursor is at it), or the bracket closes.
    fn after(&mut self, object: bool) -> Result<bool, Stop> {
        self.white();
        match (self.peek(), object) {
            (Some(b','), _) => {
                self.at += 1;
                self.white();
                Ok(true)
            }
            (Some(b'}'), true) | (Some(b']'), false) => {
                self.at += 1;
                Ok(false)
            }
            (_, true) => Err(self.stop("expected `,` or `}`")),
            (_, false) => Err(self.stop("expected `,` or `]`")),
        }
    }

    fn name(&mut self) -> Result<(), Stop> {
        if self.peek() == Some(b'"') { self.string() } else { Err(self.stop("expected a member's name in double quotes")) }
    }

    #[inline]
    fn colon(&mut self) -> Result<(), Stop> {
        self.white();
        if self.peek() != Some(b':') {
            return Err(self.stop("expected `:`"));
        }
        self.at += 1;
        self.white();
        Ok(())
    }

    fn member(&mut self) -> Result<Member, Stop> {
        let start = self.at;
        self.name()?;
        let key = Span::new(start, self.at);
        self.colon()?;
        Ok(Member { key, value: self.span()? })
    }

    /// A value, within a container that is itself of level 1.
    fn span(&mut self) -> Result<Span, Stop> {
        let start = self.at;
        self.value()?;
        Ok(Span::new(start, self.at))
    }

    /// `value` of RFC 8259, section 3, with everything in it.
    #[inline]
    fn value(&mut self) -> Result<(), Stop> {
        match self.peek() {
            Some(b'{' | b'[') if self.checked => self.skip(),
            Some(b'{' | b'[') => self.container(),
            _ => self.scalar(),
        }
    }

    /// A value that holds no others.
    #[inline]
    fn scalar(&mut self) -> Result<(), Stop> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => {
                self.has_null = true;
                self.literal("null")
            }
            _ => Err(self.stop("expected a value")),
        }
    }

    /// An object or an array with everything in it. One bit a level tells whether it is an object.
    fn container(&mut self) -> Result<(), Stop> {
        const ROOM: usize = MAX_DEPTH - 1;
        const { assert!(ROOM <= u128::BITS as usize) };
        let (mut objects, mut depth) = (0u128, 0usize);
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if depth == ROOM {
                        return Err(self.stop("nested deeper than 128 levels"));
                    }
                    let object = bracket == b'{';
                    self.at += 1;
                    if self.opened(object) {
                        depth += 1;
                        objects = objects << 1 | u128::from(object);
                        if object {
                            self.name()?;
                            self.colon()?;
                        }
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                if self.after(object)? {
                    if object {
                        self.name()?;
                        self.colon()?;
                    }
                    break;
                }
                objects >>= 1;
                depth -= 1;
            }
        }
    }

    /// Moves behind a container of a checked text: strings by their quotes, containers by their brackets, the rest up to
    /// the next delimiter.
    fn skip(&mut self) -> Result<(), Stop> {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',' | b':' | b' ' | b'\n' | b'\r' | b'\t') if depth > 0 => self.at += 1,
                Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                    let word = self.rest().iter().take_while(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.'));
                    self.at += word.count();
                }
                _ => return Err(self.stop("expected a value")),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn literal(&mut self, word: &'static str) -> Result<(), Stop> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.stop("expected a value (`true`, `false` and `null` are the only words)"));
        }
        self.at += word.len();
        Ok(())
    }

    /// `number` of RFC 8259, section 6: `[ minus ] int [ frac ] [ exp ]`.
    fn number(&mut self) -> Result<(), Stop> {
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.stop("a number must not begin with a zero"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let digits = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { Err(self.stop("expected a digit")) } else { Ok(()) }
    }

    #[inline]
    fn string(&mut self) -> Result<(), Stop> {
        let (bytes, start) = (self.text.as_bytes(), self.at + 1);
        self.at = if self.checked { run::closing_quote(bytes, start) } else { run::string_end(bytes, start) }?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
