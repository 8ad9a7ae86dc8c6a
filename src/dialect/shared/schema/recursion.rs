//! Whether a schema refers to itself.

use super::members;
use crate::json::walk;
use std::borrow::Cow;

/// Most definitions that are looked at; a schema of more is taken for one that does not refer to itself.
const MAX_DEFINITIONS: usize = 256;
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
    if definitions.len() > MAX_DEFINITIONS {
        return false;
    }
    // What leads nowhere is taken away until nothing more does; what is left leads in a circle.
    let mut open: Vec<(&str, Vec<usize>)> = definitions
        .iter()
        .map(|(name, schema)| {
            let to = references(schema).filter_map(|to| PLACES.iter().find_map(|place| to.strip_prefix(place)).map(str::to_owned));
            (&**name, to.filter_map(|to| definitions.iter().position(|(name, _)| *name == to)).collect())
        })
        .collect();
    let mut done = vec![false; open.len()];
    loop {
        let mut moved = false;
        for (at, (_, to)) in open.iter_mut().enumerate() {
            to.retain(|next| !done.get(*next).copied().unwrap_or(true));
            if let Some(done) = done.get_mut(at).filter(|done| !**done && to.is_empty()) {
                (*done, moved) = (true, true);
            }
        }
        if !moved {
            return done.contains(&false);
        }
    }
}

/// The references in a raw schema, wherever they stand.
fn references(schema: &str) -> impl Iterator<Item = String> {
    schema.match_indices("\"$ref\"").filter_map(|(at, key)| {
        let value = schema.get(at + key.len()..)?.trim_start().strip_prefix(':')?.trim_start();
        let end = value.get(1..)?.find('"')? + 2;
        Some(walk::string(value.get(..end)?)?.decode().into_owned())
    })
}
