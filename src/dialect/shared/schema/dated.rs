//! Keywords of older drafts in those of 2020-12, which is the draft that targets read: Claude refuses a tool whose schema does
//! not match it ("JSON schema is invalid. It must match JSON Schema draft 2020-12"), and OpenAI has no list in `items`.
//!
//! | older | 2020-12 |
//! | --- | --- |
//! | `items: [A, B]`, `additionalItems: C` | `prefixItems: [A, B]`, `items: C` |
//! | `minimum: 1, exclusiveMinimum: true` (draft 4) | `exclusiveMinimum: 1` |
//! | `required: true` of a property (draft 3) | left out |
//!
//! <https://json-schema.org/draft/2020-12/release-notes#changes-to-items-and-additionalitems>

use super::Member;
use memchr::memmem;
use std::borrow::Cow;

/// A limit, and whether it is part of the range.
const LIMITS: [(&str, &str); 2] = [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")];
/// How keywords of older drafts begin, how they may end, and how their values begin. `additionalItems` means something beside a
/// list of `items` only.
const OLDER: [(&str, [&str; 2], &[u8]); 3] =
    [("items\"", [""; 2], b"["), ("exclusiveM", ["inimum\"", "aximum\""], b"tf"), ("required\"", [""; 2], b"tf")];

/// Whether a raw schema may have a keyword of an older draft. It may say too much, and never too little.
pub fn may_be(schema: &str) -> bool {
    OLDER.iter().any(|(start, ends, firsts)| {
        memmem::find_iter(schema.as_bytes(), start.as_bytes()).any(|at| {
            let rest = schema.get(at + start.len()..).unwrap_or_default();
            let value = ends.iter().find_map(|end| rest.strip_prefix(end)).and_then(|rest| rest.trim_start().strip_prefix(':'));
            value.and_then(|value| value.trim_start().bytes().next()).is_some_and(|first| firsts.contains(&first))
        })
    })
}

/// Rewrites the keywords of one schema. Whether there was anything to rewrite.
pub(super) fn renew(members: &mut Vec<Member<'_>>) -> bool {
    let is_flag = |value: &str| matches!(value, "true" | "false");
    let has_tuple = members.iter().any(|(key, value)| key == "items" && value.starts_with('['));
    let has_prefix = members.iter().any(|(key, _)| key == "prefixItems");
    let before = members.len();
    // "If "items" is absent or not an array of schemas, this keyword [additionalItems] MUST be ignored." (draft 7, 6.4.2)
    members.retain(|(key, value)| match &**key {
        "additionalItems" => has_tuple && !has_prefix,
        "items" => !(has_prefix && value.starts_with('[')),
        "required" => !is_flag(value),
        _ => true,
    });
    let mut changed = members.len() != before;
    for (key, _) in members.iter_mut().filter(|_| has_tuple && !has_prefix) {
        match &**key {
            "items" => (*key, changed) = (Cow::Borrowed("prefixItems"), true),
            "additionalItems" => *key = Cow::Borrowed("items"),
            _ => {}
        }
    }
    for (exclusive, limit) in LIMITS {
        let Some(at) = members.iter().position(|(key, value)| key == exclusive && is_flag(value)) else { continue };
        changed = true;
        let (_, flag) = members.remove(at);
        if flag == "true"
            && let Some((key, _)) = members.iter_mut().find(|(key, _)| key == limit)
        {
            *key = Cow::Borrowed(exclusive);
        }
    }
    changed
}
