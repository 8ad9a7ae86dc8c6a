//! A schema without references, for targets that take none: each is replaced by the definition that it names.

use super::members;
use super::top::Definitions;
use crate::json::envelope::{MAX_DEPTH, ScanError};
use crate::json::walk;
use crate::json::write::Writer;
use std::borrow::Cow;
use std::collections::HashSet;

/// Most bytes of definitions that are put in, beside as many as the schema itself has.
const MAX_INLINED: usize = 64 * 1024;

/// The schema with its definitions in the place of references to them, and whether something was lost: a definition that
/// refers to itself, that is not there, or that is too large becomes a schema that allows anything.
pub(super) fn inlined(schema: &str) -> Option<(Cow<'_, str>, bool)> {
    if !schema.contains("\"$ref\"") {
        return Some((Cow::Borrowed(schema), false));
    }
    let top = members(schema).ok()?;
    let mut pass =
        Pass { definitions: Definitions::of(schema, &top), inside: Vec::new(), room: MAX_INLINED.max(schema.len()), lost: false };
    let mut w = Writer::with_capacity(schema.len() * 2);
    pass.value(&mut w, schema, 0).ok()?;
    Some((Cow::Owned(String::from_utf8(w.finish()).ok()?), pass.lost))
}

struct Pass<'t> {
    definitions: Definitions<'t>,
    /// The definitions that are being written, from the outermost.
    inside: Vec<&'t str>,
    room: usize,
    lost: bool,
}

impl<'t> Pass<'t> {
    fn value(&mut self, w: &mut Writer, value: &str, depth: usize) -> Result<(), ScanError> {
        match value.as_bytes().first() {
            Some(b'{' | b'[') if depth > MAX_DEPTH => {
                self.lost = true;
                w.object().end_object();
            }
            Some(b'{') => {
                w.object();
                self.members(w, value, &mut HashSet::new(), depth)?;
                w.end_object();
            }
            Some(b'[') => {
                let mut list = walk::elements(value)?;
                w.array();
                while let Some(one) = list.next()? {
                    self.value(w, one, depth + 1)?;
                }
                w.end_array();
            }
            _ => {
                w.raw(value);
            }
        }
        Ok(())
    }

    /// Writes the members of an object, and those of the definition that it refers to; what stands beside a reference comes
    /// first, and counts.
    fn members(&mut self, w: &mut Writer, object: &str, written: &mut HashSet<String>, depth: usize) -> Result<(), ScanError> {
        let mut reference = None;
        let mut list = walk::members(object)?;
        while let Some((key, value)) = list.next()? {
            let name = key.decode();
            let is_definitions = depth == 0 && matches!(&*name, "$defs" | "definitions");
            if name == "$ref" && value.starts_with('"') {
                reference = Some(value);
            } else if !is_definitions && written.insert(name.to_string()) {
                self.value(w.key(&name), value, depth + 1)?;
            }
        }
        let Some(reference) = reference else { return Ok(()) };
        let target = self.definitions.find(reference).filter(|target| target.starts_with('{') && depth < MAX_DEPTH);
        match target.filter(|target| !self.inside.contains(target) && target.len() <= self.room) {
            Some(target) => {
                self.room -= target.len();
                self.inside.push(target);
                // One level deeper: definitions of its own are not at the top.
                self.members(w, target, written, depth + 1)?;
                self.inside.pop();
            }
            None => self.lost = true,
        }
        Ok(())
    }
}
