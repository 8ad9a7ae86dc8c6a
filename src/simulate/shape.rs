//! Closed shapes of requests: what the services' published types allow, as tables, and the first fault against them.

use super::dialect::Refusal;
use serde_json::{Map, Value};

/// What a value must be.
#[derive(Debug)]
pub(super) enum Shape {
    /// Anything.
    Any,
    /// A string.
    Text,
    /// A string that is not blank.
    Filled,
    /// `true` or `false`.
    Flag,
    /// A whole number in this range.
    Whole(i64, i64),
    /// A number in this range.
    Number(f64, f64),
    /// Standard base64.
    Base64,
    /// One of these strings.
    Word(&'static [&'static str]),
    /// A string of up to so many ASCII letters, digits and these other characters; not empty.
    Name(usize, &'static str),
    /// An object, whatever is in it.
    Object,
    /// An array, each of whose items is this.
    List(&'static Shape),
    /// An array of at least one item.
    Some(&'static Shape),
    /// An object, each of whose values is this.
    Map(&'static Shape),
    /// An object with these members and no others.
    Closed(&'static [Member]),
    /// An object with these members and any others.
    Open(&'static [Member]),
    /// An object whose `type` says which of these it is, and which has these members beside it.
    Tagged(&'static [(&'static str, &'static [Member])]),
    /// An object with exactly one of these members.
    One(&'static [Member]),
    /// The same, which may also have those of the second list.
    Union(&'static [Member], &'static [Member]),
    /// Whatever of these fits; the fault of the last is told.
    Either(&'static [&'static Shape]),
}

/// A member of an object.
pub(super) type Member = (&'static str, Rule, &'static Shape);

/// Whether a member must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It must.
    Need,
    /// It may, not as null.
    May,
    /// It may, and null is the same as not there.
    Null,
}

/// Why a value does not have its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A member is missing.
    Missing,
    /// A member is not known.
    Unknown,
    /// It is something else.
    Wrong,
}

/// A fault: where, as `messages.0.content`, and why.
pub(super) type Fault = (String, Why);

impl Shape {
    /// Compares `value`, which stands at `at`, with this shape.
    ///
    /// # Errors
    /// The first fault.
    pub(super) fn check(&self, value: &Value, at: &str) -> Result<(), Fault> {
        let good = match (self, value) {
            (Self::Any, _) => true,
            (Self::Text, Value::String(_)) | (Self::Flag, Value::Bool(_)) | (Self::Object, Value::Object(_)) => true,
            (Self::Filled, Value::String(text)) => !text.trim().is_empty(),
            (Self::Whole(least, most), Value::Number(n)) => n.as_i64().is_some_and(|n| (least..=most).contains(&&n)),
            (Self::Number(least, most), Value::Number(n)) => n.as_f64().is_some_and(|n| (least..=most).contains(&&n)),
            (Self::Base64, Value::String(text)) => is_base64(text),
            (Self::Word(words), Value::String(text)) => words.contains(&text.as_str()),
            (Self::Name(most, others), Value::String(text)) => {
                (1..=*most).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
            }
            (Self::Some(_), Value::Array(items)) if items.is_empty() => false,
            (Self::List(shape) | Self::Some(shape), Value::Array(items)) => {
                return items.iter().enumerate().try_for_each(|(n, item)| shape.check(item, &below(at, n)));
            }
            (Self::Map(shape), Value::Object(object)) => {
                return object.iter().try_for_each(|(key, value)| shape.check(value, &below(at, key)));
            }
            (Self::Closed(members), Value::Object(object)) => return closed(members, None, object, at),
            (Self::Open(members), Value::Object(object)) => return known(members, object, at),
            (Self::Tagged(kinds), Value::Object(object)) => {
                let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
                return match kinds.iter().find(|(known, _)| *known == kind) {
                    Some((_, members)) => closed(members, Some("type"), object, at),
                    None => Err((below(at, "type"), if kind.is_empty() { Why::Missing } else { Why::Wrong })),
                };
            }
            (Self::One(branches), Value::Object(object)) => return union(branches, &[], object, at),
            (Self::Union(branches, beside), Value::Object(object)) => return union(branches, beside, object, at),
            (Self::Either(shapes), _) => {
                let mut last = Ok(());
                for shape in *shapes {
                    last = shape.check(value, at);
                    if last.is_ok() {
                        break;
                    }
                }
                return last;
            }
            _ => false,
        };
        if good { Ok(()) } else { Err((at.to_owned(), Why::Wrong)) }
    }
}

fn union(branches: &[Member], beside: &[Member], object: &Map<String, Value>, at: &str) -> Result<(), Fault> {
    let mut taken = branches.iter().filter_map(|(name, _, shape)| Some((name, shape, object.get(*name)?)));
    let (Some((name, shape, value)), None) = (taken.next(), taken.next()) else { return Err((at.to_owned(), Why::Wrong)) };
    closed(beside, Some(name), object, at)?;
    shape.check(value, &below(at, name))
}

/// Checks the members of an object that has no others but `one`, which is not looked at.
fn closed(members: &[Member], one: Option<&str>, object: &Map<String, Value>, at: &str) -> Result<(), Fault> {
    if let Some(unknown) = object.keys().find(|key| one != Some(key) && !members.iter().any(|(name, ..)| name == key)) {
        return Err((below(at, unknown), Why::Unknown));
    }
    known(members, object, at)
}

fn known(members: &[Member], object: &Map<String, Value>, at: &str) -> Result<(), Fault> {
    for (name, rule, shape) in members {
        match object.get(*name) {
            None if *rule == Rule::Need => return Err((below(at, name), Why::Missing)),
            None => {}
            Some(Value::Null) if *rule == Rule::Null => {}
            Some(value) => shape.check(value, &below(at, name))?,
        }
    }
    Ok(())
}

fn below(at: &str, step: impl std::fmt::Display) -> String {
    if at.is_empty() { step.to_string() } else { format!("{at}.{step}") }
}

/// Whether `text` is standard base64 with its padding.
pub(super) fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    text.len().is_multiple_of(4) && text.len() - digits.len() < 3 && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
}

/// The body as a JSON object.
///
/// # Errors
/// Another content type, no JSON, or no object.
pub(super) fn object(headers: &http::HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let kind = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(Refusal::status(400, "The content-type must be application/json."));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Refusal::status(400, "The body must be a JSON object.")),
        Err(error) => Err(Refusal::status(400, format!("We could not parse the JSON body of your request: {error}"))),
    }
}

/// A member that is there and not null.
pub(super) fn given<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// The text of a member; empty where it is none.
pub(super) fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a member that is a list; none where it is not.
pub(super) fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text or a list of texts; empty ones are left out.
pub(super) fn strings(value: Option<&Value>) -> Vec<String> {
    let texts = match value {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    texts.iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::Rule::{May, Need, Null};
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_are_found_where_they_are() {
        static SHAPE: Shape = Shape::Closed(&[
            ("n", Need, &Shape::Whole(1, 3)),
            ("s", May, &Shape::Either(&[&Shape::Text, &Shape::Some(&Shape::Base64)])),
            ("b", Null, &Shape::Tagged(&[("x", &[("w", Need, &Shape::Word(&["a"]))])])),
            ("o", May, &Shape::Open(&[("k", Need, &Shape::Flag)])),
            ("u", May, &Shape::Union(&[("l", May, &Shape::Flag), ("r", May, &Shape::Name(2, "-"))], &[("m", May, &Shape::Any)])),
        ]);
        for good in [
            json!({ "n": 3, "b": null, "s": "" }),
            json!({ "n": 1, "s": ["QQ=="], "o": { "k": true, "z": 1 }, "u": { "r": "a-", "m": 1 } }),
        ] {
            assert_eq!(SHAPE.check(&good, ""), Ok(()), "{good}");
        }
        for (bad, at, why) in [
            (json!({}), "n", Why::Missing),
            (json!({ "n": 4 }), "n", Why::Wrong),
            (json!({ "n": 1, "z": 0 }), "z", Why::Unknown),
            (json!({ "n": 1, "s": null }), "s", Why::Wrong),
            (json!({ "n": 1, "s": [] }), "s", Why::Wrong),
            (json!({ "n": 1, "s": ["Q"] }), "s.0", Why::Wrong),
            (json!({ "n": 1, "b": {} }), "b.type", Why::Missing),
            (json!({ "n": 1, "b": { "type": "y" } }), "b.type", Why::Wrong),
            (json!({ "n": 1, "b": { "type": "x" } }), "b.w", Why::Missing),
            (json!({ "n": 1, "o": { "z": 1 } }), "o.k", Why::Missing),
            (json!({ "n": 1, "u": { "l": true, "r": "a" } }), "u", Why::Wrong),
            (json!({ "n": 1, "u": { "r": "abc" } }), "u.r", Why::Wrong),
            (json!({ "n": 1, "u": { "l": true, "k": 1 } }), "u.k", Why::Unknown),
        ] {
            assert_eq!(SHAPE.check(&bad, ""), Err((at.to_owned(), why)), "{bad}");
        }
    }
}
