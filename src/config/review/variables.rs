//! Values that look like a variable in another notation than `${NAME}`.

use crate::yaml::problem::Problems;
use crate::yaml::tree::{Node, Value};

/// Keys whose text is written for models; in it only a value that is nothing but a variable is warned of.
const PROSE: [&str; 2] = ["system", "params"];

pub(super) fn review(file: &Node, problems: &mut Problems) {
    walk(file, "", false, problems);
}

fn walk(node: &Node, key: &str, prose: bool, problems: &mut Problems) {
    match &node.value {
        Value::Scalar(text, _) => {
            if is_variable(text.trim()) || !prose && text.contains("://") && has_variable(text) {
                let message =
                    format!("`{key}`: this looks like a variable, and is taken as it stands; a variable is written `${{NAME}}` here");
                problems.warn(node.at, message);
            }
        }
        Value::List(items) => items.iter().for_each(|item| walk(item, key, prose, problems)),
        Value::Map(entries) => entries.iter().for_each(|(key, node)| {
            let prose = prose || PROSE.contains(&key.text.as_str());
            walk(node, &key.text, prose, problems);
        }),
    }
}

/// `$NAME` and `$(NAME)` of shells, `%NAME%` of Windows, `os.environ/NAME` of LiteLLM.
fn is_variable(text: &str) -> bool {
    let name = text.strip_prefix("os.environ/").or_else(|| text.strip_prefix("$(")?.strip_suffix(')'));
    let name = name.or_else(|| text.strip_prefix('%')?.strip_suffix('%')).or_else(|| text.strip_prefix('$'));
    name.is_some_and(is_name)
}

/// Whether a part of a URL begins with `$NAME`.
fn has_variable(url: &str) -> bool {
    url.split(['/', '@', ':', '.', '?', '=', '&']).any(|part| part.strip_prefix('$').is_some_and(is_name))
}

/// The usual form of a variable's name.
fn is_name(text: &str) -> bool {
    text.len() > 1 && text.starts_with(|c: char| c.is_ascii_uppercase() || c == '_') && {
        text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_notations_are_variables_and_passwords_are_not() {
        for text in ["$OPENAI_API_KEY", "$(KEY)", "%KEY%", "os.environ/KEY", "$_X1"] {
            assert!(is_variable(text), "{text}");
        }
        for text in ["${KEY}", "pa$SWORD", "$5", "$x", "$", "$A", "100%", "%", "os.environ/", "$KEY and more", "$A-B"] {
            assert!(!is_variable(text), "{text}");
        }
        assert!(has_variable("https://$HOST/v1") && has_variable("http://h:$PORT/v1") && !has_variable("https://h/a$B/v1"));
    }
}
