//! The JSON scanner: validates the grammar of RFC 8259 and yields raw slices.
//!
//! [`members`] and [`elements`] iterate over one level; nested values are validated and skipped. The scanner does not
//! allocate or recurse: the kinds of open containers are bits of one integer.

use super::envelope::{Member, ScanError, Span};
use super::grammar;
pub use super::key::Key;
use super::run::Block;
use crate::json::text::Text;

/// A problem and its position; converted to [`ScanError`], which counts lines, only when returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// A thin pointer, so that a result fits into two registers.
    what: &'static &'static str,
    at: usize,
}

impl SyntaxError {
    pub(super) const fn new(what: &'static &'static str, at: usize) -> Self {
        Self { what, at }
    }

    /// Adds line and column.
    #[cold]
    pub(super) fn locate(self, text: &[u8]) -> ScanError {
        let before = text.get(..self.at).unwrap_or(text);
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        ScanError { what: self.what, offset: self.at, line, column: before.len() - line_start + 1 }
    }
}

/// Iterator over the members of an object.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    list: List<'a>,
}

/// Opens an object; surrounding white space is allowed.
///
/// # Errors
/// When it is not an object.
pub fn members(json: &str) -> Result<Members<'_>, ScanError> {
    List::open(json, b'{', false).map(|list| Members { list }).map_err(|error| error.locate(json.as_bytes()))
}

/// Opens an object that [`members`] or [`elements`] returned: it is already validated, so nested values are skipped
/// without checks.
///
/// # Errors
/// When it is not an object.
pub fn inner_members(json: &str) -> Result<Members<'_>, ScanError> {
    List::open(json, b'{', true).map(|list| Members { list }).map_err(|error| error.locate(json.as_bytes()))
}

/// The value of the first member of this name in an object that [`members`] or [`elements`] returned.
///
/// # Errors
/// When it is not an object.
pub fn member<'a>(object: &'a str, name: &str) -> Result<Option<&'a str>, ScanError> {
    inner_members(object)?.find(name)
}

impl<'a> Members<'a> {
    /// The next member: key, and value without surrounding white space. `None` after the whole text, including what
    /// follows the closing brace, was validated.
    ///
    /// # Errors
    /// The first problem; iteration ends.
    #[expect(clippy::should_implement_trait, reason = "an iterator of results would go on after an error")]
    pub fn next(&mut self) -> Result<Option<(Key<'a>, &'a str)>, ScanError> {
        let text = self.list.cursor.text;
        match self.list.member() {
            Ok(Some(Member { key, value })) => Ok(Some((Key::of(inside(key.text(text))), value.text(text)))),
            Ok(None) => Ok(None),
            Err(error) => Err(error.locate(text.as_bytes())),
        }
    }

    /// The value of the next member of this name.
    ///
    /// # Errors
    /// The first problem before it.
    pub fn find(mut self, name: &str) -> Result<Option<&'a str>, ScanError> {
        while let Some((key, value)) = self.next()? {
            if key.is(name) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The remaining members.
    ///
    /// # Errors
    /// The first problem and its position.
    pub fn rest(mut self) -> Result<Vec<(Key<'a>, &'a str)>, ScanError> {
        let mut all = Vec::new();
        while let Some(member) = self.next()? {
            all.push(member);
        }
        Ok(all)
    }
}

/// Iterator over the elements of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    list: List<'a>,
}

/// Opens an array; surrounding white space is allowed.
///
/// # Errors
/// When it is not an array.
pub fn elements(json: &str) -> Result<Elements<'_>, ScanError> {
    List::open(json, b'[', false).map(|list| Elements { list }).map_err(|error| error.locate(json.as_bytes()))
}

/// Opens an array that is already validated; see [`inner_members`].
///
/// # Errors
/// When it is not an array.
pub fn inner_elements(json: &str) -> Result<Elements<'_>, ScanError> {
    List::open(json, b'[', true).map(|list| Elements { list }).map_err(|error| error.locate(json.as_bytes()))
}

impl<'a> Elements<'a> {
    /// The next element, without surrounding white space. `None` after the whole text, including what follows the
    /// closing bracket, was validated.
    ///
    /// # Errors
    /// The first problem; iteration ends.
    #[expect(clippy::should_implement_trait, reason = "an iterator of results would go on after an error")]
    pub fn next(&mut self) -> Result<Option<&'a str>, ScanError> {
        let text = self.list.cursor.text;
        match self.list.element() {
            Ok(value) => Ok(value.map(|span| span.text(text))),
            Err(error) => Err(error.locate(text.as_bytes())),
        }
    }

    /// The remaining elements.
    ///
    /// # Errors
    /// The first problem and its position.
    pub fn rest(mut self) -> Result<Vec<&'a str>, ScanError> {
        let mut all = Vec::new();
        while let Some(element) = self.next()? {
            all.push(element);
        }
        Ok(all)
    }

    /// The next element, usually an object, whose members are passed to `each` during the scan, so that an array of
    /// objects is scanned once.
    ///
    /// # Errors
    /// The first problem; iteration ends.
    pub fn next_object(&mut self, mut each: impl FnMut(Key<'a>, &'a str)) -> Result<Option<Element>, ScanError> {
        let text = self.list.cursor.text;
        let read = self.list.step(|cursor| cursor.item(&mut each));
        read.map_err(|error| error.locate(text.as_bytes()))
    }
}

/// What is met in an array, usually one of objects.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A member of an object in it.
    Member(Key<'a>, &'a str),
    /// The end of an element.
    End(Element),
}

/// The kind of an element read by [`Elements::next_object`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// An object; its members were passed on.
    Object,
    /// Another value.
    Other,
}

/// The inside of a string value; `None` for other values. `json` must be validated.
pub fn string(json: &str) -> Option<Text<'_>> {
    json.strip_prefix('"')?.strip_suffix('"').map(Text::Raw)
}

/// An unsigned integer without fraction or exponent; `None` for other values and on overflow.
pub fn unsigned(json: &str) -> Option<u64> {
    if json.len() > 1 && json.starts_with('0') || json.is_empty() {
        return None;
    }
    json.bytes().try_fold(0u64, |n, b| n.checked_mul(10)?.checked_add(u64::from(b.checked_sub(b'0').filter(|digit| *digit < 10)?)))
}

/// A quoted key; `None` without quotes.
pub fn key(json: &str) -> Option<Key<'_>> {
    json.strip_prefix('"')?.strip_suffix('"').map(Key::of)
}

fn inside(quoted: &str) -> &str {
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default()
}

/// Position within a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// After the opening bracket.
    Opened,
    /// After an item.
    Item,
    /// After the end or an error.
    Over,
}

/// An open container; shared by [`Members`] and [`Elements`].
#[derive(Clone, Debug)]
pub(super) struct List<'a> {
    cursor: Cursor<'a>,
    progress: Progress,
    object: bool,
    /// Position of the opening bracket.
    pub(super) open: usize,
}

impl<'a> List<'a> {
    /// Whether a null occurred at any level; unknown in validated text.
    pub(super) const fn has_null(&self) -> bool {
        self.cursor.has_null
    }

    /// Opens the container at the beginning of `text`.
    pub(super) fn open(text: &'a str, bracket: u8, checked: bool) -> Result<Self, SyntaxError> {
        let mut cursor = Cursor { text, at: 0, checked, has_null: false, level: 1, block: Block::NONE };
        cursor.skip_whitespace();
        let object = bracket == b'{';
        let open = cursor.at;
        if cursor.peek() != Some(bracket) {
            return Err(cursor.error(if object { &"expected an object (`{`)" } else { &"expected an array (`[`)" }));
        }
        cursor.at += 1;
        Ok(Self { cursor, progress: Progress::Opened, object, open })
    }

    /// The next member of an object.
    pub(super) fn member(&mut self) -> Result<Option<Member>, SyntaxError> {
        self.step(Cursor::member)
    }

    /// The next member of an object. If it is an array of this name, `each` receives what is in it.
    pub(super) fn member_noting(&mut self, name: &str, each: &mut impl FnMut(Item<'a>)) -> Result<Option<Member>, SyntaxError> {
        self.step(|cursor| {
            cursor.member_with(|cursor, key| if cursor.at_array() && key.is(name) { cursor.items(each) } else { cursor.value() })
        })
    }

    /// The next element of an array.
    fn element(&mut self) -> Result<Option<Span>, SyntaxError> {
        self.step(Cursor::span)
    }

    fn step<T>(&mut self, item: impl FnOnce(&mut Cursor<'a>) -> Result<T, SyntaxError>) -> Result<Option<T>, SyntaxError> {
        let progress = std::mem::replace(&mut self.progress, Progress::Over);
        if progress == Progress::Over {
            return Ok(None);
        }
        let more =
            if progress == Progress::Opened { self.cursor.has_first_item(self.object) } else { self.cursor.has_next_item(self.object)? };
        if more {
            let item = item(&mut self.cursor)?;
            self.progress = Progress::Item;
            return Ok(Some(item));
        }
        self.cursor.skip_whitespace();
        match self.cursor.peek() {
            None => Ok(None),
            Some(_) => Err(self.cursor.error(&"unexpected text after the end of the value")),
        }
    }
}

/// A read position. Every read method expects its item exactly here and moves past it. [`members`] and [`elements`] use
/// it; code that descends into values with it reads every byte once.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// The text is validated: nested values are skipped without checks.
    checked: bool,
    /// Whether a null occurred at any level; unknown in validated text.
    has_null: bool,
    /// The open containers around `at`: what a cursor is opened on is one, wherever it stands.
    level: usize,
    /// Where strings end near `at`.
    block: Block,
}

impl<'a> Cursor<'a> {
    /// At the first value of a text.
    pub fn new(text: &'a str) -> Self {
        let mut cursor = Self { text, at: 0, checked: false, has_null: false, level: 1, block: Block::NONE };
        cursor.skip_whitespace();
        cursor
    }

    /// At the first value of a text that [`members`], [`elements`] or a cursor returned: it is already validated.
    pub fn inside(text: &'a str) -> Self {
        Self { checked: true, ..Self::new(text) }
    }

    /// Whether the next value is an object.
    pub fn at_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Whether the next value is an array.
    pub fn at_array(&self) -> bool {
        self.peek() == Some(b'[')
    }

    /// Reads an object. `each` receives the raw key of every member and must read its value.
    ///
    /// # Errors
    /// The first problem, or an error of `each`.
    pub fn object<E: From<ScanError>>(&mut self, mut each: impl FnMut(&mut Self, &'a str) -> Result<(), E>) -> Result<(), E> {
        if !self.at_object() {
            return Err(self.error(&"expected an object (`{`)").locate(self.text.as_bytes()).into());
        }
        self.at += 1;
        let mut more = self.has_first_item(true);
        while more {
            let start = self.at + 1;
            let name = self.name().and_then(|()| {
                let end = self.at - 1;
                self.colon().map(|()| end)
            });
            let end = name.map_err(|error| error.locate(self.text.as_bytes()))?;
            each(self, self.text.get(start..end).unwrap_or_default())?;
            more = self.has_next_item(true).map_err(|error| error.locate(self.text.as_bytes()))?;
        }
        Ok(())
    }

    /// Reads an array. `each` must read every element.
    ///
    /// # Errors
    /// See [`Cursor::object`].
    pub fn array<E: From<ScanError>>(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        if !self.at_array() {
            return Err(self.error(&"expected an array (`[`)").locate(self.text.as_bytes()).into());
        }
        self.at += 1;
        let mut more = self.has_first_item(false);
        while more {
            each(self)?;
            more = self.has_next_item(false).map_err(|error| error.locate(self.text.as_bytes()))?;
        }
        Ok(())
    }

    /// Position in bytes.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The text read since `position`.
    pub fn since(&self, position: usize) -> &'a str {
        self.text.get(position..self.at).unwrap_or_default()
    }

    /// Validates and returns the next value.
    ///
    /// # Errors
    /// The first problem.
    pub fn raw(&mut self) -> Result<&'a str, ScanError> {
        let start = self.at;
        self.value().map_err(|error| error.locate(self.text.as_bytes()))?;
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    /// Expects the end of the text, after optional white space.
    ///
    /// # Errors
    /// When other text follows.
    pub fn finish(mut self) -> Result<(), ScanError> {
        self.skip_whitespace();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error(&"unexpected text after the end of the value").locate(self.text.as_bytes())),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    const fn error(&self, what: &'static &'static str) -> SyntaxError {
        SyntaxError::new(what, self.at)
    }

    fn skip_whitespace(&mut self) {
        self.at = grammar::token(self.text.as_bytes(), self.at).0;
    }

    /// After an opening bracket: whether an item follows (the cursor is moved to it) or the container ends.
    fn has_first_item(&mut self, object: bool) -> bool {
        self.skip_whitespace();
        let closes = self.peek() == Some(if object { b'}' } else { b']' });
        self.at += usize::from(closes);
        !closes
    }

    /// After an item: whether another follows (the cursor is moved to it) or the container ends.
    fn has_next_item(&mut self, object: bool) -> Result<bool, SyntaxError> {
        self.skip_whitespace();
        match (self.peek(), object) {
            (Some(b','), _) => {
                self.at += 1;
                self.skip_whitespace();
                Ok(true)
            }
            (Some(b'}'), true) | (Some(b']'), false) => {
                self.at += 1;
                Ok(false)
            }
            (_, true) => Err(self.error(&"expected `,` or `}`")),
            (_, false) => Err(self.error(&"expected `,` or `]`")),
        }
    }

    fn name(&mut self) -> Result<(), SyntaxError> {
        if self.peek() == Some(b'"') { self.string() } else { Err(self.error(&"expected a key in double quotes")) }
    }

    #[inline]
    fn colon(&mut self) -> Result<(), SyntaxError> {
        self.skip_whitespace();
        if self.peek() != Some(b':') {
            return Err(self.error(&"expected `:`"));
        }
        self.at += 1;
        self.skip_whitespace();
        Ok(())
    }

    fn member(&mut self) -> Result<Member, SyntaxError> {
        self.member_with(|cursor, _| cursor.value())
    }

    #[inline]
    fn member_with(&mut self, value: impl FnOnce(&mut Self, Key<'a>) -> Result<(), SyntaxError>) -> Result<Member, SyntaxError> {
        let start = self.at;
        self.name()?;
        let key = Span::new(start, self.at);
        self.colon()?;
        let start = self.at;
        value(self, Key::of(inside(key.text(self.text))))?;
        Ok(Member { key, value: Span::new(start, self.at) })
    }

    /// An array whose items are passed on.
    fn items(&mut self, each: &mut impl FnMut(Item<'a>)) -> Result<(), SyntaxError> {
        self.at += 1;
        self.level += 1;
        let mut more = self.has_first_item(false);
        while more {
            let element = self.item(&mut |key, value| each(Item::Member(key, value)))?;
            each(Item::End(element));
            more = self.has_next_item(false)?;
        }
        self.level -= 1;
        Ok(())
    }

    /// An element of an array, usually an object, whose members are passed on.
    fn item(&mut self, each: &mut impl FnMut(Key<'a>, &'a str)) -> Result<Element, SyntaxError> {
        if !self.at_object() {
            self.value()?;
            return Ok(Element::Other);
        }
        self.at += 1;
        self.level += 1;
        let mut more = self.has_first_item(true);
        while more {
            let Member { key, value } = self.member()?;
            each(Key::of(inside(key.text(self.text))), value.text(self.text));
            more = self.has_next_item(true)?;
        }
        self.level -= 1;
        Ok(Element::Object)
    }

    /// A value, nested in a container of level 1.
    fn span(&mut self) -> Result<Span, SyntaxError> {
        let start = self.at;
        self.value()?;
        Ok(Span::new(start, self.at))
    }

    /// `value` of RFC 8259, section 3, including nested values.
    #[inline]
    fn value(&mut self) -> Result<(), SyntaxError> {
        let bytes = self.text.as_bytes();
        self.at = match self.peek() {
            Some(b'"') => return self.string(),
            Some(b'{' | b'[') if self.checked => grammar::skip(bytes, self.at, &mut self.block)?,
            _ => grammar::value(bytes, self.at, self.level, &mut self.block, &mut self.has_null)?,
        };
        Ok(())
    }

    #[inline]
    fn string(&mut self) -> Result<(), SyntaxError> {
        let (bytes, start) = (self.text.as_bytes(), self.at + 1);
        self.at = if self.checked { self.block.string_end::<true>(bytes, start) } else { self.block.string_end::<false>(bytes, start) }?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
