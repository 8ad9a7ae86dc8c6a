//! How much a strict schema asks of Claude: "Schemas contains too many parameters with union types (17 parameters with
//! type arrays or anyOf) … (limit: 16)", and the like for optional parameters (24) and strict tools (20), over all strict
//! schemas of a request.

use super::{elements, members};
use crate::json::envelope::MAX_DEPTH;
use crate::json::text::Text;
use crate::json::walk;
use std::collections::HashSet;

/// What schemas use up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Properties that are not required.
    pub optional: usize,
    /// Schemas with `anyOf` or a list of types.
    pub unions: usize,
    /// Strict tools.
    pub tools: usize,
}

/// What one request may use up.
pub const CLAUDE: Use = Use { optional: 24, unions: 16, tools: 20 };

impl Use {
    /// What this schema uses up.
    pub fn of(schema: &str) -> Self {
        let mut this = Self::default();
        this.count(schema, 0);
        this
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            optional: self.optional.saturating_add(other.optional),
            unions: self.unions.saturating_add(other.unions),
            tools: self.tools.saturating_add(other.tools),
        }
    }

    /// Whether it is within the limit in every respect.
    pub const fn is_within(self, limit: Self) -> bool {
        self.optional <= limit.optional && self.unions <= limit.unions && self.tools <= limit.tools
    }

    fn count(&mut self, schema: &str, depth: usize) {
        if !schema.starts_with('{') || depth > MAX_DEPTH {
            return;
        }
        let members = members(schema).unwrap_or_default();
        let required = members.iter().find(|(key, _)| key == "required").map_or("[]", |(_, value)| &**value);
        let required = elements(required).unwrap_or_default();
        let required: HashSet<_> = required.into_iter().filter_map(walk::string).map(Text::decode).collect();
        self.unions += usize::from(members.iter().any(|(key, value)| key == "anyOf" || (key == "type" && value.starts_with('['))));
        for (key, value) in &members {
            match &**key {
                "properties" | "$defs" | "definitions" if value.starts_with('{') => {
                    let Ok(mut named) = walk::members(value) else { continue };
                    while let Ok(Some((name, schema))) = named.next() {
                        self.optional += usize::from(key == "properties" && !required.contains(&name.decode()));
                        self.count(schema, depth + 1);
                    }
                }
                "anyOf" | "allOf" | "oneOf" => elements(value).unwrap_or_default().iter().for_each(|schema| self.count(schema, depth + 1)),
                "items" => self.count(value, depth + 1),
                _ => {}
            }
        }
    }
}
