//! Whether a schema refers to itself.

use super::members;
use crate::json::walk;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// How a reference inside the document begins.
const PLACES: [&str; 2] = ["#/$defs/", "#/definitions/"];

/// Whether following references from somewhere in the schema leads back there.
pub(super) fn is_recursive(schema: &str) -> bool {
    let mut definitions: Vec<(Cow<'_, str>, &str)> = Vec::new();
    let mut own = Vec::new();
    for (key, value) in members(schema).unwrap_or_default() {
        let Cow::Borrowed(value) = value else { continue };
        if (key == "$defs" || key == "definitions") && value.starts_with('{') {
            let Ok(mut named) = walk::members(value) else { continue };
            while let Ok(Some((name, schema))) = named.next() {
                definitions.push((name.decode(), schema));
            }
        } else {
            own.push(value);
        }
    }
    let all = own.iter().copied().chain(definitions.iter().map(|(_, schema)| *schema));
    if all.clone().any(|text| references(text).any(|to| to == "#")) {
        return true;
    }
    let places: HashMap<&str, usize> = definitions.iter().enumerate().rev().map(|(at, (name, _))| (&**name, at)).collect();
    // By definition: the others that refer to it, and to how many it refers itself.
    let (mut referring, mut open) = (vec![Vec::new(); definitions.len()], vec![0_usize; definitions.len()]);
    for (at, (_, schema)) in definitions.iter().enumerate() {
        let names = references(schema).filter_map(|to| PLACES.iter().find_map(|place| places.get(to.strip_prefix(place)?).copied()));
        for to in names.collect::<HashSet<_>>() {
            if let (Some(referring), Some(open)) = (referring.get_mut(to), open.get_mut(at)) {
                referring.push(at);
                *open += 1;
            }
        }
    }
    // What leads nowhere is taken away until nothing more does; what is left leads in a circle.
    let mut ends: Vec<usize> = (0..open.len()).filter(|at| open.get(*at) == Some(&0)).collect();
    let mut left = open.len();
    while let Some(end) = ends.pop() {
        left -= 1;
        for at in referring.get_mut(end).map(std::mem::take).unwrap_or_default() {
            let Some(open) = open.get_mut(at) else { continue };
            *open -= 1;
            if *open == 0 {
                ends.push(at);
            }
        }
    }
    left > 0
}

/// The references in a raw schema, wherever they stand.
fn references(schema: &str) -> impl Iterator<Item = String> {
    schema.match_indices("\"$ref\"").filter_map(|(at, key)| {
        let value = schema.get(at + key.len()..)?.trim_start().strip_prefix(':')?.trim_start();
        let end = value.get(1..)?.find('"')? + 2;
        Some(walk::string(value.get(..end)?)?.decode().into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::is_recursive;

    #[test]
    fn a_circle_is_found_whatever_its_length() {
        for length in [1, 2, 300, 20_000] {
            let chain = |end: &str| {
                let to = |i: usize| if i + 1 == length { end.to_owned() } else { format!("#/$defs/d{}", i + 1) };
                let definitions = (0..length).map(|i| format!(r#""d{i}":{{"items":{{"$ref":"{}"}}}}"#, to(i)));
                format!(r#"{{"$defs":{{{}}}}}"#, definitions.collect::<Vec<_>>().join(","))
            };
            assert!(is_recursive(&chain("#/$defs/d0")), "{length}");
            assert!(!is_recursive(&chain("#/$defs/none")), "{length}");
        }
    }

    #[test]
    fn a_definition_may_be_referred_to_often() {
        let references = vec![r##"{"$ref":"#/$defs/leaf"}"##; 20_000].join(",");
        assert!(!is_recursive(&format!(r#"{{"$defs":{{"leaf":{{}},"all":{{"anyOf":[{references}]}}}}}}"#)));
    }
}
