//! Function names. OpenAI's may begin with a digit or a hyphen, Gemini's only with a letter or an underscore
//! (<https://ai.google.dev/api/caching#FunctionDeclaration>): such a name goes there with an underscore before it, which
//! is taken off again in the answer. A name that would be taken for such a one gets an underscore more, so that no two
//! names become one.

use crate::json::text::Text;
use crate::json::write::Writer;

/// Writes a name as Gemini takes it.
pub(super) fn write(w: &mut Writer, name: Text<'_>) {
    if shifts(&name.decode()) {
        w.texts(&[Text::Plain("_"), name]);
    } else {
        w.text(name);
    }
}

/// The client's name for a function that Gemini calls; `None` where it is the same.
pub(super) fn read(name: &str) -> Option<&str> {
    name.strip_prefix('_').filter(|name| shifts(name))
}

/// Whether there is an underscore to be put before a name: one that begins with a digit or a hyphen, whatever number of
/// underscores it has already.
fn shifts(name: &str) -> bool {
    name.trim_start_matches('_').starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_and_no_two_become_one() {
        let mut all = std::collections::HashSet::new();
        for name in ["3d-render", "_3d-render", "__3d-render", "-x", "_-x", "_x", "__", "_", "x-3", "get_time", "7", "_7"] {
            let mut w = Writer::default();
            write(&mut w, Text::Plain(name));
            let sent: String = serde_json::from_slice(&w.finish()).unwrap();
            assert!(sent.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()), "{sent}");
            assert_eq!(read(&sent).unwrap_or(&sent), name);
            assert!(all.insert(sent));
        }
        let mut w = Writer::default();
        write(&mut w, Text::Raw("\\u0033d"));
        assert_eq!(w.finish(), b"\"_\\u0033d\"");
        assert_eq!(read("3d"), None, "a name that was never sent");
    }
}
