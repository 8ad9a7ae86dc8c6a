//! The ids of calls: Anthropic's have letters, digits, `_` and `-`, and other providers' may have anything. An id of another
//! alphabet is written in base64url behind a prefix, and read back as its provider made it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::borrow::Cow;

/// Stands before an id in base64url.
const ENCODED: &str = "tgid_";

/// An id as clients of this protocol take it.
pub fn encode(id: &str) -> Cow<'_, str> {
    let legal = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if legal && !id.starts_with(ENCODED) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(format!("{ENCODED}{}", URL_SAFE_NO_PAD.encode(id)))
}

/// The provider's id.
pub fn decode(id: Cow<'_, str>) -> Cow<'_, str> {
    let original = id.strip_prefix(ENCODED).and_then(|encoded| String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok());
    original.map_or(id, Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_comes_back_and_is_legal_on_the_way() {
        for id in ["toolu_01", "functions.get_weather:0", "call-1", "tgid_x", "ünï", ""] {
            let shown = encode(id).into_owned();
            assert!(shown.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{shown}");
            assert_eq!(decode(Cow::Borrowed(&shown)), id);
        }
        assert_eq!(encode("toolu_01"), "toolu_01");
        assert_eq!(decode(Cow::Borrowed("tgid_%")), "tgid_%");
    }
}
