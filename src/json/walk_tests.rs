//! Tests of the walk: what is raw, what is refused and where.

use super::*;
use crate::json::envelope::MAX_DEPTH;
use std::cmp::Ordering;

fn all(json: &str) -> Result<Vec<(String, String)>, ScanError> {
    let mut list = members(json)?;
    let mut out = Vec::new();
    while let Some((key, value)) = list.next()? {
        out.push((key.decode().into_owned(), value.to_owned()));
    }
    Ok(out)
}

#[test]
fn members_are_raw_and_trimmed() {
    let got = all(" { \"a\" : 1.50 ,\n\"b\":[ ],\"mod\\u0065l\" : {\"x\": \"}\"}\t} ").unwrap();
    let want = [("a", "1.50"), ("b", "[ ]"), ("model", "{\"x\": \"}\"}")];
    assert_eq!(got, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert_eq!(all("{}").unwrap(), []);
}

#[test]
fn elements_are_raw_and_trimmed() {
    let mut list = elements("[ 1 , \"a,b\",[2,[]] ,null]").unwrap();
    for want in ["1", "\"a,b\"", "[2,[]]", "null"] {
        assert_eq!(list.next().unwrap(), Some(want));
    }
    assert_eq!(list.next(), Ok(None));
    assert_eq!(list.next(), Ok(None));
}

#[test]
fn an_array_of_objects_is_read_in_one_go() {
    let mut list = elements("[{\"a\":1, \"b\":[{}]} ,2, {}, [{\"c\":1}]]").unwrap();
    let mut seen = String::new();
    let mut kinds = Vec::new();
    while let Some(kind) = list.next_object(|key, value| seen.push_str(&format!("{}={value};", key.raw()))).unwrap() {
        kinds.push(kind);
    }
    assert_eq!(seen, "a=1;b=[{}];");
    assert_eq!(kinds, [Element::Object, Element::Other, Element::Object, Element::Other]);
    let mut bad = elements("[{\"a\":1]").unwrap();
    assert_eq!(bad.next_object(|_, _| ()).unwrap_err().what, "expected `,` or `}`");
}

#[test]
fn an_error_tells_what_was_expected_and_where() {
    for (json, what, offset) in [
        ("[1]", "expected an object (`{`)", 0),
        ("", "expected an object (`{`)", 0),
        ("{\"a\":1 \"b\":2}", "expected `,` or `}`", 7),
        ("{\"a\":[1 2]}", "expected `,` or `]`", 8),
        ("{\"a\":[1}}", "expected `,` or `]`", 7),
        ("{\"a\" 1}", "expected `:`", 5),
        ("{a:1}", "expected a key in double quotes", 1),
        ("{\"a\":1,}", "expected a key in double quotes", 7),
        ("{\"a\":[1,]}", "expected a value", 8),
        ("{\"a\":}", "expected a value", 5),
        ("{\"a\":01}", "leading zero in a number", 6),
        ("{\"a\":1.}", "expected a digit", 7),
        ("{\"a\":-}", "expected a digit", 6),
        ("{\"a\":1e+}", "expected a digit", 8),
        ("{\"a\":nul}", "expected a value (`true`, `false` and `null` are the only words)", 5),
        ("{\"a\":\"b\nc\"}", "unescaped control character in a string", 7),
        ("{\"a\":\"\\x\"}", "unknown escape: expected one of `\"\\/bfnrtu` after `\\`", 6),
        ("{\"a\":\"\\u12g4\"}", "expected four hexadecimal digits after `\\u`", 6),
        ("{\"a\":\"b", "unterminated string: expected `\"`", 7),
        ("{\"a\":{\"b\":1}", "expected `,` or `}`", 12),
        ("{} {}", "unexpected text after the end of the value", 3),
    ] {
        let error = all(json).unwrap_err();
        assert_eq!((error.what, error.offset), (what, offset), "{json}");
    }
    let error = all("{\"a\":1,\n \"ä\":2 x}").unwrap_err();
    assert_eq!((error.line, error.column), (2, 9));
}

#[test]
fn depth_is_bounded_and_mixed_brackets_must_match() {
    let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
    assert!(all(&nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(all(&nested(MAX_DEPTH)).unwrap_err().what, "nested deeper than 128 levels");
    assert!(all(&format!("{{\"a\":{}1{}}}", "[{\"b\":".repeat(63), "}]".repeat(63))).is_ok());
    assert!(all(&format!("{{\"a\":{}1{}}}", "[{\"b\":".repeat(63), "]}".repeat(63))).is_err());
}

#[test]
fn a_key_is_compared_by_its_characters() {
    let key = Key::of(r"\ud83d\ude00\u00fc\/\n");
    assert!(key.is("😀ü/\n") && !key.is("😀ü/\n "));
    assert_eq!(key.decode(), "😀ü/\n");
    assert_eq!(key.order(Key::of("😀\u{fc}/\\n")), Ordering::Equal);
    assert!(!Key::of(r"\ud800").is(r"\ud800"));
    assert_eq!(Key::of(r"\ud800\u0041").decode(), "\u{fffd}A");
    assert_ne!(Key::of(r"\ud800").order(Key::of(r"\ud801")), Ordering::Equal);
}

#[test]
fn whole_numbers_only() {
    let max = u64::MAX.to_string();
    assert_eq!((unsigned("0"), unsigned("12"), unsigned(&max)), (Some(0), Some(12), Some(u64::MAX)));
    for no in ["", "-1", "1.0", "1e2", "01", "18446744073709551616", "\"1\"", "null"] {
        assert_eq!(unsigned(no), None, "{no}");
    }
}
