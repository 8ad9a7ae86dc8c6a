//! Finds the JSON path of an error that reports only line and column.

use super::walk;

/// Maximum length of a path, in bytes.
const MAX_PATH: usize = 128;

/// Path (`a.b[2]`) and text of the innermost value that contains a position as reported by serde_json. The path is
/// empty for the document itself.
pub fn locate(json: &str, line: usize, column: usize) -> (String, &str) {
    let before: usize = json.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let (mut position, mut json, mut path) = (before + column, json, String::new());
    loop {
        let child = if json.trim_start().starts_with('{') { member(json, position) } else { element(json, position) };
        let Some((name, start, value)) = child.filter(|(name, ..)| path.len() + name.len() < MAX_PATH) else { return (path, json) };
        if !path.is_empty() && !name.starts_with('[') {
            path.push('.');
        }
        path.push_str(&name);
        (position, json) = (position - start, value);
    }
}

fn member(json: &str, position: usize) -> Option<(String, usize, &str)> {
    let mut members = walk::inner_members(json).ok()?;
    while let Some((key, value)) = members.next().ok()? {
        if let Some(start) = start_within(json, value, position) {
            return Some((key.decode().into_owned(), start, value));
        }
    }
    None
}

fn element(json: &str, position: usize) -> Option<(String, usize, &str)> {
    let mut elements = walk::inner_elements(json).ok()?;
    let mut number = 0;
    while let Some(value) = elements.next().ok()? {
        if let Some(start) = start_within(json, value, position) {
            return Some((format!("[{number}]"), start, value));
        }
        number += 1;
    }
    None
}

/// Start of `part` within `json`, if the position is inside it or at its end.
fn start_within(json: &str, part: &str, position: usize) -> Option<usize> {
    let start = (part.as_ptr() as usize).checked_sub(json.as_ptr() as usize)?;
    (start < position && position <= start + part.len()).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_value_at_a_position_is_named() {
        let json = "{\"a\": 1,\n \"b\": [true, {\"c\": \"x\"}], \"d\": {}}";
        let value = |what: &str| {
            let end = json.find(what).unwrap() + what.len();
            let line = json.get(..end).unwrap().matches('\n').count() + 1;
            locate(json, line, end - json.get(..end).unwrap().rfind('\n').map_or(0, |n| n + 1)).0
        };
        for (what, path) in [("1", "a"), ("true", "b[0]"), ("\"x\"", "b[1].c"), ("\"x\"}", "b[1]"), ("\"x\"}]", "b"), ("{}}", "")] {
            assert_eq!(value(what), path, "{what}");
        }
        assert_eq!(locate("7", 1, 1), (String::new(), "7"));
        assert_eq!(locate("", 1, 9), (String::new(), ""));
    }
}
