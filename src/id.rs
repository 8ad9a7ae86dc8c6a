//! Generates ids of requests, responses and episodes.

use crate::system;
use std::time::Duration;
use uuid::{Builder, Uuid};

/// A UUIDv7 (RFC 9562, section 5.7) for a time since the Unix epoch. Its 74 random bits make it unique within a
/// millisecond; they are not secret.
pub fn fresh(since_epoch: Duration) -> Uuid {
    let mut random = [0; 10];
    system::fill_random(&mut random);
    Builder::from_unix_timestamp_millis(u64::try_from(since_epoch.as_millis()).unwrap_or_default(), &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_of_version_7_and_of_their_time_and_all_different() {
        let ids: HashSet<Uuid> = (0..1000).map(|_| fresh(Duration::from_millis(0x0123_4567_89ab))).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert!(id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122, "{id}");
            assert!(id.to_string().starts_with("01234567-89ab-7"), "{id}");
        }
    }
}
