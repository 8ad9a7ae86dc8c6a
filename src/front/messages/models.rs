//! Anthropic's list of models, `GET /v1/models` with `anthropic-version`: the routes that a key may use.
//! <https://platform.claude.com/docs/en/api/models/list>

use crate::front::write::nullable;
use crate::json::write::Writer;
use jiff::Timestamp;

/// A model of the list.
pub struct Listed<'a> {
    /// What can be sent as `model`.
    pub name: &'a str,
    /// The name for people.
    pub display_name: &'a str,
    /// Longest prompt, where it is known.
    pub max_input_tokens: Option<u32>,
}

impl Listed<'_> {
    fn write(&self, created: u64, w: &mut Writer) {
        let created = i64::try_from(created).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default();
        w.object().key("type").string("model").key("id").string(self.name).key("display_name").string(self.display_name);
        w.key("created_at").string(&created.to_string());
        if let Some(tokens) = self.max_input_tokens {
            w.key("max_input_tokens").integer(tokens.into());
        }
        w.end_object();
    }
}

/// The list, whole. `created`: seconds since the epoch.
pub fn list<'a>(models: impl Iterator<Item = Listed<'a>>, created: u64) -> Vec<u8> {
    let models: Vec<Listed<'a>> = models.collect();
    let mut w = Writer::with_capacity(256);
    w.object().key("data").array();
    models.iter().for_each(|model| model.write(created, &mut w));
    w.end_array().key("has_more").flag(false);
    for (key, model) in [("first_id", models.first()), ("last_id", models.last())] {
        nullable(model.map(|model| model.name), w.key(key));
    }
    w.end_object();
    w.finish()
}

/// One model.
pub fn one(model: &Listed<'_>, created: u64) -> Vec<u8> {
    let mut w = Writer::with_capacity(256);
    model.write(created, &mut w);
    w.finish()
}
