//! What every chunk and every completion of one answer begins with.

use crate::front::write::nullable;
use crate::json::text::Text;
use crate::json::write::Writer;

/// Identity of an answer. `system_fingerprint` is `""` and `service_tier` null until the provider gives one.
#[derive(Clone, Debug)]
pub struct Head {
    /// UUIDv7 of the answer.
    pub id: uuid::Uuid,
    /// The episode, or conversation, that it belongs to.
    pub episode_id: uuid::Uuid,
    /// Seconds since the epoch.
    pub created: u64,
    /// The model exactly as the client asked for it.
    pub model: Box<str>,
    fingerprint: Box<str>,
    service_tier: Option<&'static str>,
}

/// OpenAI's published list. Typed clients refuse every other word, `""` included, so a tier outside of it is null.
const SERVICE_TIERS: [&str; 6] = ["auto", "default", "flex", "scale", "priority", "fast"];

impl Head {
    /// The head of an answer.
    pub fn new(id: uuid::Uuid, episode_id: uuid::Uuid, created: u64, model: &str) -> Self {
        Self { id, episode_id, created, model: model.into(), fingerprint: "".into(), service_tier: None }
    }

    pub(super) fn set_fingerprint(&mut self, text: Text<'_>) {
        if self.fingerprint.is_empty() {
            self.fingerprint = text.decode().into();
        }
    }

    pub(super) fn set_service_tier(&mut self, text: Text<'_>) {
        if let Some(tier) = SERVICE_TIERS.iter().find(|t| **t == text.decode()) {
            self.service_tier = Some(tier);
        }
    }

    /// Writes `{"id":…,"service_tier":…` without the closing brace.
    pub(super) fn write(&self, out: &mut Vec<u8>, object: &str) {
        let mut buffer = uuid::Uuid::encode_buffer();
        let mut w = Writer::appending(std::mem::take(out));
        w.object().key("id").string(self.id.hyphenated().encode_lower(&mut buffer));
        w.key("episode_id").string(self.episode_id.hyphenated().encode_lower(&mut buffer));
        w.key("object").string(object).key("created").integer(self.created).key("model").string(&self.model);
        nullable(self.service_tier, w.key("system_fingerprint").string(&self.fingerprint).key("service_tier"));
        *out = w.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_outside_of_openais_list_is_null() {
        for (tier, want) in [("fast", Some("fast")), ("pri\\u006frity", Some("priority")), ("on_demand", None), ("", None)] {
            let mut head = Head::new(uuid::Uuid::nil(), uuid::Uuid::nil(), 0, "m");
            head.set_service_tier(Text::Raw(tier));
            assert_eq!(head.service_tier, want);
        }
    }
}
