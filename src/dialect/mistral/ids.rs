//! Tool-call ids of nine characters. Mistral: "must be a-z, A-Z, 0-9, with a length of 9".

use crate::dialect::ids::{LENGTH, hashed};
use crate::json::text::Text;

/// The id as Mistral takes it.
pub fn fit(id: Text<'_>) -> String {
    let id = id.decode();
    if id.len() == LENGTH && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.into_owned();
    }
    hashed(&id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn foreign_ids_fit_and_stay_apart() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|n| fit(Text::Plain(&format!("call_{n}")))).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    }

    #[test]
    fn an_id_is_the_same_however_it_is_spelled() {
        assert_eq!(fit(Text::Raw(r"call\u005f1")), fit(Text::Plain("call_1")));
        assert_eq!(fit(Text::Raw("aB3456789")), "aB3456789");
        assert_ne!(fit(Text::Plain("aB34_6789")), "aB34_6789");
    }
}
