//! `${NAME}` and `${NAME:-default}` inside values.

use std::borrow::Cow;

/// Where variables come from; injected, so that tests need no process environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Puts variables in. `$${` stands for a literal `${`; a `$` before anything else stays. A default is taken where the
/// variable is unset or empty, as in a shell, and is not expanded itself.
///
/// # Errors
/// A message that names every variable that is not set and has no default, or says which `${` is not closed.
pub fn expand<'t>(text: &'t str, env: Env<'_>) -> Result<Cow<'t, str>, String> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut unset: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((inside, tail)) = after.split_once('}') else {
            return Err("a `${` is not closed with `}` (write `$${` for a literal `${`)".to_owned());
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(
                "`${…}` needs the name of an environment variable: letters, digits and `_` (write `$${` for a literal `${`)".to_owned()
            );
        }
        match (env(name), default) {
            (Some(value), _) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (Some(_), None) => {}
            (None, None) => unset.push(name),
        }
        rest = tail;
    }
    out.push_str(rest);
    if unset.is_empty() {
        return Ok(Cow::Owned(out));
    }
    unset.dedup();
    let names = unset.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Err(format!("the environment variable {names} is not set; set it, or give a default with `${{NAME:-default}}`"))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("81".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_literals() {
        for (text, want) in [
            ("plain $5", "plain $5"),
            ("http://h:${PORT}/v1", "http://h:81/v1"),
            ("${PORT}${PORT}", "8181"),
            ("${NONE:-a:-b}", "a:-b"),
            ("${EMPTY:-x}", "x"),
            ("<${EMPTY}>", "<>"),
            ("${NONE:-}", ""),
            ("$${PORT} ${PORT}", "${PORT} 81"),
        ] {
            assert_eq!(expand(text, &env).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_named() {
        let error = expand("${ONE} ${PORT} ${TWO}", &env).unwrap_err();
        assert!(error.contains("`ONE`, `TWO`") && !error.contains("PORT"), "{error}");
        assert!(expand("${PORT", &env).is_err());
        assert!(expand("${a b}", &env).is_err());
        assert!(expand("${}", &env).is_err());
    }
}
