//! Replicas, aliases, and what becomes of `retry` and `ejection`.

use super::{GOOD, Mistake, good};

pub(super) const MISTAKES: &[Mistake] = &[
    ("api_key: \"sk-not-to-be-printed\"", "api_key: k, base_urls: [http://a/v1, http://a/v1]", "5:61", "listed twice"),
    ("api_key: \"sk-not-to-be-printed\"", "api_key: k, base_urls: []", "5:47", "at least one"),
    ("api_key: \"sk-not-to-be-printed\"", "api_key: k, base_urls: [http://a/v1/chat/completions]", "5:48", "write `http://a/v1`"),
    ("api_key: \"sk-not-to-be-printed\"", "api_key: k, base_url: http://a, base_urls: [http://b]", "5:46", "exclude each other"),
    (
        "kind: openai, api_key: \"sk-not-to-be-printed\"",
        "kind: anthropic, api_key: k, base_urls: [http://b]",
        "5:39",
        "no key of a provider of kind anthropic",
    ),
    ("model: m } ]", "model: m } ]\n    aliases: [b, a]", "9:18", "this route's name already"),
    ("model: m } ]", "model: m } ]\n    aliases: [b, b]", "9:18", "this route's name already"),
    ("model: m } ]", "model: m } ]\n    aliases: [\"b*\"]", "9:15", "without `*`"),
    ("model: m } ]", "model: m } ]\n    aliases: [b]\n  b: { targets: [ { provider: one, model: m } ] }", "9:15", "another route `b`"),
    ("  a:\n", "  \"a*\":\n    aliases: [b]\n", "8:15", "a pattern has none"),
    ("model: m } ]", "model: m } ]\n    ejection: { share: 1.5 }", "9:24", "a share from 0 to 1"),
];

#[test]
fn every_target_and_fallback_gets_a_try_by_default_up_to_four() {
    for (targets, fallback, attempts) in [(1, 0, 1), (1, 1, 2), (2, 0, 2), (2, 1, 3), (2, 2, 4), (3, 3, 4)] {
        let list = |count| vec!["{ provider: one, model: m }"; count].join(", ");
        let route = format!("targets: [{}]\n    fallback: [{}]\n", list(targets), list(fallback));
        let text = GOOD.replace("targets: [ { provider: one, model: m } ]\n", &route);
        assert_eq!(good(&text).snapshot.routes[0].retry.attempts, attempts, "{text}");
    }
}
