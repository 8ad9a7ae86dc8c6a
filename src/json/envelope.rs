//! Validates a JSON body in one pass and finds its top-level members.

use super::walk::{self, Cursor, Item, Key, List, SyntaxError};
use smallvec::SmallVec;
use std::cmp::Ordering;

/// Maximum nesting of arrays and objects; the envelope is level 1.
pub const MAX_DEPTH: usize = 128;
/// Maximum number of top-level members.
pub const MAX_MEMBERS: usize = 256;

/// A range of bytes of the scanned body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A span. Positions fit because [`scan`] limits the body.
    pub(super) const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The span as a range.
    pub const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes of the span in `body`; empty if out of range.
    pub fn of(self, body: &[u8]) -> &[u8] {
        body.get(self.range()).unwrap_or_default()
    }

    /// The text of the span in `body`; empty if out of range.
    pub fn text(self, body: &str) -> &str {
        body.get(self.range()).unwrap_or_default()
    }
}

/// A top-level member of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key with its quotes.
    pub key: Span,
    /// The value without surrounding white space.
    pub value: Span,
}

impl Member {
    /// The key, which may contain escapes.
    pub fn name(self, body: &str) -> Key<'_> {
        Key::of(Span { start: self.key.start + 1, end: self.key.end.saturating_sub(1) }.text(body))
    }
}

/// Positions of the top-level members of a body.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// In body order.
    pub members: SmallVec<[Member; 16]>,
    /// Position of the opening brace.
    pub open: u32,
    /// Whether a null occurs at any level.
    pub has_null: bool,
}

/// Why a body was rejected, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanError {
    /// The problem.
    pub what: &'static str,
    /// Offset of the byte, from 0.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
}

impl std::fmt::Display for ScanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Invalid JSON body: {} at line {} column {} (byte {})", self.what, self.line, self.column, self.offset)
    }
}

impl std::error::Error for ScanError {}

impl ScanError {
    /// The error as a sentence, with the key where it is about one. `body` is what was scanned.
    pub fn message(&self, body: &str) -> String {
        let key = body.get(self.offset..).filter(|_| self.what == DUPLICATE).and_then(|rest| Cursor::new(rest).raw().ok());
        let Some(key) = key.and_then(walk::string) else { return self.to_string() };
        let key: String = key.decode().chars().filter(|c| !c.is_control()).take(MAX_KEY).collect();
        let Self { what, line, column, offset } = self;
        format!("Invalid JSON body: {what} `{key}` at line {line} column {column} (byte {offset})")
    }
}

/// The problem of a key that is repeated.
const DUPLICATE: &str = "duplicate key";
/// Longest key that a message repeats, in characters.
const MAX_KEY: usize = 64;

/// Validates a body and finds its top-level members.
///
/// # Errors
/// The first problem and its position.
pub fn scan(body: &str) -> Result<Envelope, ScanError> {
    scan_noting(body, "", |_| ())
}

/// The same, and passes on what is in the array `name`, as it is read. After an error, what was passed on counts for nothing.
///
/// # Errors
/// See [`scan`].
pub fn scan_noting<'b>(body: &'b str, name: &str, each: impl FnMut(Item<'b>)) -> Result<Envelope, ScanError> {
    find(body, name, each).map_err(|error| error.locate(body.as_bytes()))
}

fn find<'b>(body: &'b str, name: &str, mut each: impl FnMut(Item<'b>)) -> Result<Envelope, SyntaxError> {
    if u32::try_from(body.len()).is_err() {
        return Err(SyntaxError::new(&"longer than 4 GiB", 0));
    }
    let mut list = List::open(body, b'{', false)?;
    let mut members = SmallVec::<[Member; 16]>::new();
    while let Some(member) = list.member_noting(name, &mut each)? {
        if members.len() == MAX_MEMBERS {
            return Err(SyntaxError::new(&"more than 256 members", member.key.start as usize));
        }
        members.push(member);
    }
    check_duplicates(body, &members)?;
    Ok(Envelope { members, open: list.open as u32, has_null: list.has_null() })
}

/// Up to this many keys are compared pairwise; more are sorted.
const MAX_PAIRWISE: usize = 16;

/// Rejects duplicate keys. RFC 8259, section 4: their meaning is unpredictable, so gateway and provider could read
/// different requests.
fn check_duplicates(body: &str, members: &[Member]) -> Result<(), SyntaxError> {
    let duplicate = if members.len() <= MAX_PAIRWISE && !members.iter().any(|member| member.name(body).is_escaped()) {
        let spelled = |member: &Member| member.key.text(body);
        (1..).zip(members).find_map(|(next, one)| members.iter().skip(next).find(|other| spelled(other) == spelled(one)))
    } else {
        first_duplicate(body, members)
    };
    match duplicate {
        Some(member) => Err(SyntaxError::new(&DUPLICATE, member.key.start as usize)),
        None => Ok(()),
    }
}

/// Sorts the keys: pairwise comparison would be quadratic in the length of many long keys.
fn first_duplicate<'m>(body: &str, members: &'m [Member]) -> Option<&'m Member> {
    let mut buffer = [0u32; MAX_MEMBERS];
    let order = buffer.get_mut(..members.len())?;
    (0..).zip(order.iter_mut()).for_each(|(i, slot)| *slot = i);
    let name = |i: u32| members.get(i as usize).map_or(Key::of(""), |member| member.name(body));
    order.sort_unstable_by(|&a, &b| name(a).order(name(b)).then(a.cmp(&b)));
    let duplicate = order.windows(2).filter_map(|pair| match pair {
        [a, b] if name(*a).order(name(*b)) == Ordering::Equal => Some(*b),
        _ => None,
    });
    duplicate.min().and_then(|i| members.get(i as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::utf8;

    fn scan(body: &[u8]) -> Result<Envelope, ScanError> {
        super::scan(utf8::text(body)?)
    }

    #[test]
    fn spans_are_of_keys_and_values() {
        let body = b" {\"a\" : [1] , \"b\":\"\xc3\xbc\"}\n";
        let envelope = scan(body).unwrap();
        let texts: Vec<_> = envelope.members.iter().map(|m| (m.key.of(body), m.value.of(body))).collect();
        assert_eq!(texts, [(&b"\"a\""[..], &b"[1]"[..]), (b"\"b\"", b"\"\xc3\xbc\"")]);
        assert_eq!(envelope.open, 1);
    }

    #[test]
    fn what_is_in_a_list_is_passed_on_as_it_is_read() {
        let body = r#"{"x":[{"a":0}],"l\u0069st":[{"a":1,"b":[{"c":2}]}, 3, {}, [{"a":4}]],"list2":[5]}"#;
        let mut seen = Vec::new();
        let envelope = scan_noting(body, "list", |item| {
            seen.push(match item {
                Item::Member(key, value) => format!("{}={value}", key.decode()),
                Item::End(element) => format!("{element:?}"),
            });
        });
        assert_eq!(seen, ["a=1", r#"b=[{"c":2}]"#, "Object", "Other", "Object", "Other"]);
        assert_eq!(envelope.unwrap().members, scan(body.as_bytes()).unwrap().members);
        for depth in [MAX_DEPTH - 4, MAX_DEPTH - 3, MAX_DEPTH - 2] {
            let body = format!("{{\"list\":[{{\"a\":{}{}}}]}}", "[".repeat(depth), "]".repeat(depth));
            let noting = scan_noting(&body, "list", |_| ()).map(|found| found.members);
            assert_eq!(noting, scan(body.as_bytes()).map(|found| found.members), "{depth}");
            assert_eq!(noting.is_ok(), depth <= MAX_DEPTH - 3, "{depth}");
        }
    }

    #[test]
    fn a_null_is_seen_on_whatever_level() {
        let has_null = |body: &str| scan(body.as_bytes()).unwrap().has_null;
        for body in [r#"{"a":null}"#, r#"{"a":[{"b":[null]}]}"#, r#"{"a":{"b":null},"c":1}"#] {
            assert!(has_null(body), "{body}");
        }
        assert!(!has_null(r#"{"a":"null","null":["\"null\"",true]}"#));
    }

    #[test]
    fn a_name_stands_once_however_it_is_spelled() {
        let error = scan(br#"{"z":0,"model":1,"a":2,"mod\u0065l":3,"a":4}"#).unwrap_err();
        assert_eq!((error.what, error.offset), ("duplicate key", 23));
        assert!(scan(br#"{"a":{"x":1,"x":2},"x":3}"#).is_ok(), "only the envelope's names must be distinct");
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_at_its_place() {
        let error = scan(b"{\n\"a\":\"\xff\"}").unwrap_err();
        assert_eq!((error.what, error.offset, error.line, error.column), ("expected UTF-8 text", 7, 2, 6));
        assert!(scan(b"{\"a\":\"\xc3").is_err());
    }

    #[test]
    fn the_number_of_members_is_bounded() {
        let body = |n: usize| format!("{{{}}}", (0..n).map(|i| format!("\"k{i}\":{i}")).collect::<Vec<_>>().join(","));
        assert_eq!(scan(body(MAX_MEMBERS).as_bytes()).unwrap().members.len(), MAX_MEMBERS);
        assert_eq!(scan(body(MAX_MEMBERS + 1).as_bytes()).unwrap_err().what, "more than 256 members");
    }
}
