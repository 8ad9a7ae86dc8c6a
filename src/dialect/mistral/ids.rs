//! Tool-call ids of nine characters. Mistral: "must be a-z, A-Z, 0-9, with a length of 9".

use crate::dialect::ids::{LENGTH, hashed};

/// The id as Mistral takes it.
pub fn fit(id: &str) -> String {
    if id.len() == LENGTH && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    hashed(id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn foreign_ids_fit_and_stay_apart() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|n| fit(&format!("call_{n}"))).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    }

    #[test]
    fn an_id_that_fits_stays() {
        assert_eq!(fit("aB3456789"), "aB3456789");
        assert_ne!(fit("aB34_6789"), "aB34_6789");
    }
}
