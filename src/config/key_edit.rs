//! Changes of a key file's text that leave all the rest of it as it is: comments, order and notation.
//!
//! A text is changed at the place of one node; the result is read again, and taken only where it says the same as before but for
//! that change.

use crate::yaml::problem::{Position, Problems};
use crate::yaml::tree::{self, Node, Value};

const NOT_YAML: &str = "the file is not valid YAML; `tidegate check` shows what is wrong";
const BY_HAND: &str = "the notation of this file cannot be extended; write `keys` as a list with one key per line";

/// The text with one more key. `entry` is a flow mapping; `id` is its id.
///
/// # Errors
/// What the author has to do first.
pub fn with_key(text: &str, id: &str, entry: &str) -> Result<String, &'static str> {
    let before = parsed(text)?;
    let root = before.as_ref().map(|root| (root, first_char(text, root.at)));
    let (at, piece) = match (root, written_keys(before.as_ref())) {
        (Some((_, Some('{'))), None) => return Err(BY_HAND),
        (_, None) => {
            let indent = " ".repeat(before.as_ref().map_or(0, |root| root.at.column - 1));
            let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            (text.len(), format!("{newline}{indent}keys:\n{indent}  - {entry}\n"))
        }
        (_, Some((key, node))) => in_list(text, key, node, entry).ok_or(BY_HAND)?,
    };
    let changed = inserted(text, at, &piece).ok_or(BY_HAND)?;
    let after = parsed(&changed)?;
    let is_new = |node: &&Node| has_id(node, id);
    let (old, new) = (keys(before.as_ref()), keys(after.as_ref()));
    let rest: Vec<&Node> = new.iter().filter(|node| !is_new(node)).collect();
    let is_added = new.len() == old.len() + 1 && rest.len() == old.len() && old.iter().zip(rest).all(|(a, b)| same(a, b));
    if is_added && same_beside_keys(before.as_ref(), after.as_ref()) { Ok(changed) } else { Err(BY_HAND) }
}

/// Where to put an entry into the list of keys, and the text to put there.
fn in_list(text: &str, key: Position, node: &Node, entry: &str) -> Option<(usize, String)> {
    let start = offset(text, node.at)?;
    match &node.value {
        Value::List(items) if text.get(start..)?.starts_with('[') => {
            let separator = if items.is_empty() { " " } else { "," };
            Some((start + 1, format!(" {entry}{separator}")))
        }
        Value::List(_) => {
            // Before the first entry: where that begins is known, and where the last one ends is not.
            let line = text.get(..start)?.rfind('\n').map_or(0, |at| at + 1);
            let before = text.get(line..start)?;
            let dash = if text.get(start..)?.starts_with('-') { before } else { before.trim_end().strip_suffix('-')? };
            dash.chars().all(|c| c == ' ').then(|| (line, format!("{dash}- {entry}\n")))
        }
        Value::Scalar(..) if node.is_null() => {
            let start = offset(text, key)?;
            let rest = text.get(start..)?;
            let end = rest.find('\n').unwrap_or(rest.len());
            let after = rest.get(..end)?.strip_prefix("keys")?.trim_start().strip_prefix(':')?.trim_start();
            let indent = " ".repeat(key.column - 1);
            let is_bare = after.is_empty() || after.starts_with('#');
            is_bare.then(|| (start + end, format!("\n{indent}  - {entry}")))
        }
        _ => None,
    }
}

/// The text with a key disabled; `None` where it has none of this id.
///
/// # Errors
/// What the author has to do first.
pub fn with_disabled(text: &str, id: &str) -> Result<Option<String>, &'static str> {
    let before = parsed(text)?;
    let old = keys(before.as_ref());
    let Some(node) = old.iter().find(|node| has_id(node, id)) else { return Ok(None) };
    let changed = disabled(text, node).ok_or(BY_HAND)?;
    let after = parsed(&changed)?;
    let new = keys(after.as_ref());
    let is_disabled = |node: &Node| matches!(node.get("disabled").map(|node| &node.value), Some(Value::Scalar(word, _)) if word == "true");
    let as_before =
        |(old, new): (&Node, &Node)| if has_id(old, id) { is_disabled(new) && same_but_disabled(old, new) } else { same(old, new) };
    let is_done = old.len() == new.len() && old.iter().zip(new).all(as_before);
    if is_done && same_beside_keys(before.as_ref(), after.as_ref()) { Ok(Some(changed)) } else { Err(BY_HAND) }
}

fn disabled(text: &str, node: &Node) -> Option<String> {
    if let Some(written) = node.get("disabled") {
        let Value::Scalar(word, _) = &written.value else { return None };
        let start = offset(text, written.at)?;
        let end = start + word.len();
        let is_there = text.get(start..end)? == word;
        return is_there.then(|| format!("{}true{}", text.get(..start).unwrap_or_default(), text.get(end..).unwrap_or_default()));
    }
    let start = offset(text, node.at)?;
    match text.get(start..)?.starts_with('{') {
        true => inserted(text, start + 1, " disabled: true,"),
        false => inserted(text, start, &format!("disabled: true\n{}", " ".repeat(node.at.column - 1))),
    }
}

fn parsed(text: &str) -> Result<Option<Node>, &'static str> {
    let mut problems = Problems::default();
    let node = tree::parse(text, &mut problems).filter(|node| !node.is_null());
    let is_mapping = node.as_ref().is_none_or(|node| matches!(node.value, Value::Map(_)));
    let is_empty = text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#'));
    if is_empty {
        Ok(None)
    } else if problems.count() == 0 && is_mapping && node.is_some() {
        Ok(node)
    } else {
        Err(NOT_YAML)
    }
}

/// The key `keys` and its value, which may be null.
fn written_keys(root: Option<&Node>) -> Option<(Position, &Node)> {
    root?.entries().iter().find(|(key, _)| key.text == "keys").map(|(key, node)| (key.at, node))
}

fn keys(root: Option<&Node>) -> &[Node] {
    written_keys(root).map_or(&[], |(_, node)| node.items())
}

fn has_id(node: &Node, id: &str) -> bool {
    matches!(node.get("id").map(|node| &node.value), Some(Value::Scalar(text, _)) if text == id)
}

fn inserted(text: &str, at: usize, piece: &str) -> Option<String> {
    Some(format!("{}{piece}{}", text.get(..at)?, text.get(at..)?))
}

fn first_char(text: &str, at: Position) -> Option<char> {
    text.get(offset(text, at)?..)?.chars().next()
}

/// The byte at which a position is.
fn offset(text: &str, at: Position) -> Option<usize> {
    let line = if at.line == 1 { 0 } else { text.match_indices('\n').nth(at.line.checked_sub(2)?)?.0 + 1 };
    let rest = text.get(line..)?;
    rest.char_indices().map(|(index, _)| index).chain([rest.len()]).nth(at.column.checked_sub(1)?).map(|column| line + column)
}

/// Whether two nodes say the same, wherever they stand.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Scalar(a, plain), Value::Scalar(b, too)) => a == b && plain == too,
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(_), Value::Map(_)) => same_without(a, b, ""),
        _ => false,
    }
}

/// Whether two mappings say the same but for one key.
fn same_without(a: &Node, b: &Node, but: &str) -> bool {
    let rest = |node: &Node| node.entries().iter().filter(|(key, _)| key.text != but).cloned().collect::<Vec<_>>();
    let (a, b) = (rest(a), rest(b));
    a.len() == b.len() && a.iter().zip(&b).all(|((name, a), (other, b))| name.text == other.text && same(a, b))
}

fn same_but_disabled(a: &Node, b: &Node) -> bool {
    same_without(a, b, "disabled")
}

fn same_beside_keys(a: Option<&Node>, b: Option<&Node>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same_without(a, b, "keys"),
        (None, Some(b)) => b.entries().len() == 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "{ id: \"new\", sha256: \"ab\" }";

    #[test]
    fn a_key_is_put_into_any_notation_and_all_the_rest_stays() {
        for (text, wanted) in [
            ("", "keys:\n  - ENTRY\n"),
            ("# ours\n", "# ours\nkeys:\n  - ENTRY\n"),
            ("team: a", "team: a\nkeys:\n  - ENTRY\n"),
            ("keys: []\n", "keys: [ ENTRY ]\n"),
            ("keys:\nteam: a # b\n", "keys:\n  - ENTRY\nteam: a # b\n"),
            ("keys: # none yet\n", "keys: # none yet\n  - ENTRY\n"),
            ("keys: [ { id: a } ] # x\nlimits: []\n", "keys: [ ENTRY, { id: a } ] # x\nlimits: []\n"),
            (
                "# ours\nkeys:\n  # the first\n  - { id: a } # of A\n  - id: b\n    sha256: x\nlimits: []\n",
                "# ours\nkeys:\n  # the first\n  - ENTRY\n  - { id: a } # of A\n  - id: b\n    sha256: x\nlimits: []\n",
            ),
            ("keys:\n- id: ü\n  sha256: x\n", "keys:\n- ENTRY\n- id: ü\n  sha256: x\n"),
            ("keys:\r\n  - { id: a }\r\n", "keys:\r\n  - ENTRY\n  - { id: a }\r\n"),
        ] {
            let changed = with_key(text, "new", ENTRY).unwrap_or_else(|why| panic!("{text:?}: {why}"));
            assert_eq!(changed.replace(ENTRY, "ENTRY"), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_text_that_cannot_be_extended_is_left_alone() {
        for text in
            ["{ team: a }", "keys: 5", "keys: ~", "keys: { a: b }", "- a", "a: [", "keys: *x", "keys: [ { id: new } ]", "team: a\n...\n"]
        {
            assert!(with_key(text, "new", ENTRY).is_err(), "{text:?}: {:?}", with_key(text, "new", ENTRY));
        }
    }

    #[test]
    fn a_key_is_disabled_in_any_notation() {
        for (text, wanted) in [
            ("keys: [ { id: a }, {id: b} ]\n", "keys: [ { id: a }, { disabled: true,id: b} ]\n"),
            ("keys:\n  - id: b # B\n    sha256: x\n", "keys:\n  - disabled: true\n    id: b # B\n    sha256: x\n"),
            ("keys:\n  - { id: b, disabled: false } # B\n", "keys:\n  - { id: b, disabled: true } # B\n"),
            ("keys:\n  - { id: b, disabled: true } # B\n", "keys:\n  - { id: b, disabled: true } # B\n"),
            ("keys:\n  - { id: \"b\" }\n", "keys:\n  - { disabled: true, id: \"b\" }\n"),
        ] {
            assert_eq!(with_disabled(text, "b").unwrap().unwrap(), wanted, "{text:?}");
        }
        assert_eq!(with_disabled("keys: [ { id: a } ]", "b"), Ok(None));
        assert_eq!(with_disabled("", "b"), Ok(None));
        assert!(with_disabled("keys: [", "b").is_err());
    }
}
