//! Property tests: the scanner agrees with `serde_json`, and a splice equals an edit of the document.
//!
//! Intended differences are checked separately: the envelope must be an object with unique keys, which `serde_json`
//! does not require. Generated texts are nested far below either limit. Numbers out of range and lone surrogates are
//! grammatical; `serde_json` accepts them too when it builds no values, as with `IgnoredAny`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::run::{Block, plain};
use super::splice::Splice;
use super::walk;
use super::{envelope, utf8};
use bytes::Bytes;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A random document.
fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-z]{0,12}".boxed(), "[ -~]{0,90}".boxed(), "(\"|\\\\|\n|\t|/|\u{1}|ü|😀|[a-z ]{0,20}){0,24}".boxed(),];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 64.0)), // exact: `serde_json` reads other fractions less exactly
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..6).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec(("[a-d\"\\\\ü]{1,3}", value()), 0..7).prop_map(|members| members.into_iter().collect())
}

/// A document as compact or pretty text.
fn text(pretty: bool, map: &Map<String, Value>) -> String {
    if pretty { serde_json::to_string_pretty(map) } else { serde_json::to_string(map) }.unwrap()
}

/// Whether `serde_json` accepts the text.
fn grammatical(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn is_object(bytes: &[u8]) -> bool {
    bytes.iter().find(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t')) == Some(&b'{')
}

fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
    let found = utf8::text(bytes).and_then(envelope::scan);
    for name in ["a", "b", "\"", "ü"] {
        let noting = utf8::text(bytes).and_then(|text| envelope::scan_noting(text, name, |_| ()));
        prop_assert_eq!(noting.map(|found| found.members), found.clone().map(|found| found.members));
    }
    match found {
        Ok(_) => prop_assert!(grammatical(bytes), "accepted: {:?}", String::from_utf8_lossy(bytes)),
        Err(e) if e.what == "duplicate key" => prop_assert!(grammatical(bytes)),
        Err(e) => prop_assert!(!is_object(bytes) || !grammatical(bytes), "{e}: {:?}", String::from_utf8_lossy(bytes)),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn documents_are_accepted_and_found(map in object(), pretty: bool) {
        let body = text(pretty, &map);
        let found = envelope::scan(&body).unwrap();
        let read: Map<String, Value> = found.members.iter()
            .map(|m| (m.name(&body).decode().into_owned(), serde_json::from_str(m.value.text(&body)).unwrap()))
            .collect();
        prop_assert_eq!(&read, &map);
        prop_assert_eq!(found.members.len(), map.len());
    }

    #[test]
    fn mutated_documents_are_judged_alike(
        map in object(), pretty: bool,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, prop::sample::select(&b"{}[]\",:\\/u0019aftn-+.eE \n\t\x00\x1f\x7f\xc3\xbc\xff"[..])), 1..4),
    ) {
        let mut bytes = text(pretty, &map).into_bytes();
        for (place, kind, b) in edits {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = b,
                1 => bytes.insert(at, b),
                2 if bytes.len() > 1 => { bytes.remove(at); }
                _ => bytes.truncate(at.max(1)),
            }
            agrees(&bytes)?;
        }
    }

    #[test]
    fn text_of_json_letters_is_judged_alike(inside in "[{}\\[\\]\",:\\\\u01a.eE\\-tn ]{0,14}") {
        agrees(format!("{{\"a\":{inside}}}").as_bytes())?;
        agrees(inside.as_bytes())?;
    }

    #[test]
    fn strings_of_escapes_are_judged_alike(
        pieces in prop::collection::vec(prop::sample::select(&[
            "\\n", "\\\"", "\\\\", "\\/", "\\t", "\\b", "\\u00e4", "\\ud800", "\\uD83D\\uDE00", "\\", "\\u12", "\\x", "\"", "\t", "\u{1f}",
            "plain text of some length, longer than a word", "x", "ü", "", "a block of text that is a good deal longer than sixty-four bytes, so that blocks count",
        ][..]), 0..16),
        rare in 0..3u8,
    ) {
        // Most strings must be valid, or the first error hides the rest.
        let good = |p: &&str| rare == 0 || !matches!(*p, "\\" | "\\u12" | "\\x" | "\"" | "\t" | "\u{1f}");
        let inside: String = pieces.into_iter().filter(good).collect();
        agrees(format!("{{\"a\":\"{inside}\"}}").as_bytes())?;
        let quoted = format!("\"{inside}\"");
        if grammatical(quoted.as_bytes()) {
            prop_assert_eq!(Block::NONE.clone().string_end::<false>(quoted.as_bytes(), 1).ok(), Some(quoted.len()));
        }
        let special = |b: &u8| *b < 0x20 || matches!(b, b'"' | b'\\');
        prop_assert_eq!(plain(inside.as_bytes()), inside.as_bytes().iter().position(special).unwrap_or(inside.len()));
    }

    #[test]
    fn arrays_are_cut_into_their_elements(list in prop::collection::vec(value(), 0..6)) {
        let json = serde_json::to_string(&list).unwrap();
        let mut walk = walk::elements(&json).unwrap();
        let mut read = Vec::<Value>::new();
        while let Some(element) = walk.next().unwrap() {
            read.push(serde_json::from_str(element).unwrap());
        }
        prop_assert_eq!(read, list);
    }

    #[test]
    fn a_splice_is_an_edit_of_the_document(
        map in object(), pretty: bool,
        edits in prop::collection::vec((0..4u8, value()), 7),
        inserts in prop::collection::vec(value(), 0..3),
    ) {
        let body = Bytes::from(text(pretty, &map));
        let found = envelope::scan(std::str::from_utf8(&body).unwrap()).unwrap();
        let mut splice = Splice::new(&body, &found);
        let mut want = Vec::<(String, Value)>::new();
        let json = |value: &Value| Cow::Owned(serde_json::to_vec(value).unwrap());
        for ((key, old), (member, (kind, new))) in map.iter().zip(found.members.iter().zip(&edits)) {
            match kind {
                0 => splice.remove(member),
                1 => {
                    splice.replace(member, json(new));
                    want.push((key.clone(), new.clone()));
                }
                2 => {
                    splice.insert_into_array_start(member, json(new));
                    let mut value = old.clone();
                    if let Value::Array(list) = &mut value {
                        list.insert(0, new.clone());
                    }
                    want.push((key.clone(), value));
                }
                _ => want.push((key.clone(), old.clone())),
            }
        }
        for (i, value) in inserts.iter().enumerate() {
            splice.insert(&format!("inserted {i}"), json(value));
            want.push((format!("inserted {i}"), value.clone()));
        }
        let out = splice.finish().joined();
        let again = envelope::scan(std::str::from_utf8(&out).unwrap()).unwrap();
        let read: Vec<(String, Value)> = again.members.iter()
            .map(|m| {
                let text = std::str::from_utf8(&out).unwrap();
                (m.name(text).decode().into_owned(), serde_json::from_str(m.value.text(text)).unwrap())
            })
            .collect();
        prop_assert_eq!(read, want, "{}", String::from_utf8_lossy(&out));
    }
}

#[test]
fn what_only_a_reader_of_values_would_refuse_is_accepted_by_both() {
    for text in ["{\"a\":1e999}", "{\"a\":\"\\ud800\"}", "{\"a\":{\"b\":1,\"b\":2}}"] {
        assert!(grammatical(text.as_bytes()) && envelope::scan(text).is_ok(), "{text}");
    }
}
