//! OpenAI's list of models, `GET /v1/models`: the routes that a key may use.

use crate::json::write::Writer;

/// The list. `data` has the names that can be sent as `model`; `patterns`, a member that OpenAI's list does not have, those of
/// pattern routes.
pub fn list<'a>(names: impl Iterator<Item = &'a str>, patterns: impl Iterator<Item = &'a str>, created: u64) -> Vec<u8> {
    let mut w = Writer::with_capacity(256);
    w.object().key("object").string("list").key("data").array();
    names.for_each(|name| write(&mut w, name, created));
    w.end_array().key("patterns").array();
    patterns.for_each(|name| {
        w.string(name);
    });
    w.end_array().end_object();
    w.finish()
}

/// One model.
pub fn one(name: &str, created: u64) -> Vec<u8> {
    let mut w = Writer::with_capacity(256);
    write(&mut w, name, created);
    w.finish()
}

fn write(w: &mut Writer, name: &str, created: u64) {
    w.object().key("id").string(name).key("object").string("model").key("created").integer(created);
    w.key("owned_by").string("tidegate").end_object();
}
