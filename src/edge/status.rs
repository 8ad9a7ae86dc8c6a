//! `/status`: what is configured and how it is doing, without secrets.

use super::live::Live;
use crate::json::write::Writer;
use crate::provider::{ModelName, Target};

/// The page.
pub fn page(live: &Live, draining: bool) -> String {
    let now = live.now();
    let mut w = Writer::with_capacity(4096);
    let target = |w: &mut Writer, t: &Target| {
        let (ModelName::Fixed(model) | ModelName::Pattern(model)) = &t.model;
        w.object().key("provider").string(&t.provider.name).key("model").string(model).key("weight").integer(u64::from(t.weight));
        w.key("state").string(if live.cooldowns.resting(t.index, now) { "resting" } else { "healthy" }).end_object();
    };
    w.object().key("version").string(env!("CARGO_PKG_VERSION")).key("generation").integer(live.generation);
    w.key("loaded_at").integer(live.loaded_at).key("draining").flag(draining);
    w.key("in_flight").integer(live.present() as u64);
    w.key("routes").array();
    for route in &live.snapshot.routes {
        w.object().key("name").string(&route.name).key("targets").array();
        route.targets.iter().for_each(|t| target(&mut w, t));
        w.end_array().key("fallback").array();
        route.fallback.iter().for_each(|t| target(&mut w, t));
        w.end_array().end_object();
    }
    w.end_array().end_object();
    String::from_utf8(w.finish()).unwrap_or_default()
}
