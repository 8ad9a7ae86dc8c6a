//! One value out of the pieces in which a stream brought it.

use crate::json::walk;
use std::borrow::Cow;

/// Members of which every piece has the whole value.
const WHOLE: [&str; 3] = ["id", "index", "type"];

/// The value that all the pieces (raw JSON) make together, by the rule of OpenAI's client libraries: texts are joined,
/// lists follow each other, objects get each other's members. Of anything else the last piece counts, null last of all.
pub fn merged<'a>(pieces: &[&'a str]) -> Cow<'a, str> {
    let present: Vec<&'a str> = pieces.iter().copied().filter(|piece| *piece != "null").collect();
    let all = |first: char| present.iter().all(|piece| piece.starts_with(first));
    let insides = || present.iter().map(|piece| piece.get(1..piece.len() - 1).unwrap_or_default());
    match present.as_slice() {
        [] => Cow::Borrowed("null"),
        [only] => Cow::Borrowed(*only),
        _ if all('"') => Cow::Owned(format!("\"{}\"", insides().collect::<String>())),
        _ if all('[') => {
            Cow::Owned(format!("[{}]", insides().filter(|inside| !inside.trim_ascii().is_empty()).collect::<Vec<_>>().join(",")))
        }
        objects if all('{') => Cow::Owned(object(objects)),
        [.., last] => Cow::Borrowed(*last),
    }
}

fn object(pieces: &[&str]) -> String {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for piece in pieces {
        let Ok(mut members) = walk::inner_members(piece) else { continue };
        while let Ok(Some((key, value))) = members.next() {
            match all.iter_mut().find(|(name, _)| *name == key.raw()) {
                Some((name, values)) if WHOLE.contains(name) => *values = vec![value],
                Some((_, values)) => values.push(value),
                None => all.push((key.raw(), vec![value])),
            }
        }
    }
    let members: Vec<_> = all.iter().map(|(name, values)| format!("\"{name}\":{}", merged(values))).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn pieces_become_one_value() {
        for (pieces, want) in [
            (vec![], "null"),
            (vec!["null", "null"], "null"),
            (vec![r#"{ "a" : 1 }"#, "null"], r#"{ "a" : 1 }"#),
            (vec![r#""a\"""#, r#""""#, r#""b""#], r#""a\"b""#),
            (vec!["[1]", "[ ]", "[2,3]"], "[1,2,3]"),
            (vec!["1", "[2]"], "[2]"),
            (
                vec![r#"{"id":"x","name":"f","arguments":""}"#, r#"{"id":"x","arguments":"{"}"#, r#"{"arguments":"}"}"#],
                r#"{"id":"x","name":"f","arguments":"{}"}"#,
            ),
            (
                vec![r#"{"content":[{"t":1}],"refusal":null}"#, r#"{"content":[{"t":2}],"refusal":null}"#],
                r#"{"content":[{"t":1},{"t":2}],"refusal":null}"#,
            ),
        ] {
            assert_eq!(merged(&pieces), want, "{pieces:?}");
        }
    }
}
