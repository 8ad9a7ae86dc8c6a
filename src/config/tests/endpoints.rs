//! Endpoints of providers, and prices of what is not counted in tokens.

use super::{GOOD, good};
use crate::account::{Rates, UnitPrices};
use crate::llm::endpoint::Endpoint;

#[test]
fn a_provider_has_the_endpoints_of_its_kind_unless_its_section_says_otherwise() {
    for (provider, endpoints) in [
        ("kind: xai, api_key: k", &["images_generations", "images_edits"][..]),
        ("kind: deepseek, api_key: k", &["completions"]),
        ("kind: mistral, api_key: k", &["moderations", "audio_transcriptions"]),
        ("kind: groq, api_key: k", &["audio_speech", "audio_transcriptions", "audio_translations"]),
        ("kind: openai_compatible, base_url: \"http://h/v1\"", &[]),
        ("kind: openai_compatible, base_url: \"http://h/v1\", endpoints: [rerank, completions]", &["completions", "rerank"]),
        ("kind: vllm, base_url: \"http://h/v1\", endpoints: []", &[]),
        ("kind: anthropic, api_key: k", &[]),
    ] {
        let text =
            format!("auth: none\nproviders: {{ p: {{ {provider} }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}\n");
        let target = &good(&text).snapshot.routes[0].targets[0];
        let has = Endpoint::ALL.iter().filter(|endpoint| target.dialect().endpoint(**endpoint).is_some());
        assert_eq!(has.map(|endpoint| endpoint.name()).collect::<Vec<_>>(), endpoints, "{provider}");
        if provider.contains("deepseek") {
            assert_eq!(target.dialect().endpoint(Endpoint::Completions), Some("/beta/completions"));
        }
    }
}

#[test]
fn a_price_may_be_of_units_alone() {
    let text = GOOD.replace("model: m }", "model: m, price: { image: 0.04, second: 0.0000111111, request: 0.01, character: 1.5e-5 } }");
    let snapshot = good(&text).snapshot;
    let price = snapshot.routes[0].targets[0].pricing.of(|| "".into()).unwrap();
    assert_eq!(price.rates, Rates::default());
    let want = UnitPrices { request: 10_000_000_000, image: 40_000_000_000, second: 11_111_100, character: 15_000_000 };
    assert_eq!(price.units, want);
}
