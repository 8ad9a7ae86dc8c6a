//! Prices of targets: written, of the catalogue, by default.

use super::*;
use crate::account::{Price, Rates, Tier};

/// The price of a target of this provider, model and `price`, and the warnings, at a time and with lines at the top of the file.
fn priced_at(now: i64, top: &str, kind: &str, target: &str) -> (Option<Price>, Vec<String>) {
    let key = if kind == "vllm" { "base_url: \"http://h/v1\"" } else { "api_key: k" };
    let route = if target.contains('*') { "\"x/*\"" } else { "x" };
    let text = format!(
        "{top}auth: none\nproviders: {{ p: {{ kind: {kind}, {key} }} }}\nroutes: {{ {route}: {{ targets: [ {{ provider: p, {target} }} ] }} }}\n"
    );
    let loaded = parse_after(&text, "t.yaml", &env, (now, None)).unwrap_or_else(|problems| panic!("{text}: {problems:#?}"));
    let price = loaded.snapshot.routes[0].targets[0].pricing.of(|| "gpt-5-mini-2025-08-07".into()).cloned();
    (price, loaded.warnings.into_iter().map(|problem| problem.message).collect())
}

/// 2026-12-01T00:00:00Z.
const NOW: i64 = 1_796_083_200;

fn priced(top: &str, kind: &str, target: &str) -> Option<Price> {
    let (price, warnings) = priced_at(NOW, top, kind, target);
    assert!(warnings.is_empty(), "{warnings:?}");
    price
}

fn rates(price: Option<&Price>) -> (u64, u64, u64) {
    price.map_or((0, 0, 0), |price| (price.rates.input, price.rates.output, price.rates.cached_input))
}

#[test]
fn a_price_is_that_of_the_catalogue_where_the_target_or_the_file_says_so() {
    let (mini, default) = ((250_000, 2_000_000, 25_000), "price: catalogue\n");
    for (top, kind, target, want) in [
        ("", "openai", "model: gpt-5-mini", (0, 0, 0)),
        ("", "openai", "model: gpt-5-mini, price: catalogue", mini),
        ("", "openai", "model: gpt-5-mini-2025-08-07, price: catalogue", mini),
        ("price: none\n", "openai", "model: gpt-5-mini", (0, 0, 0)),
        (default, "openai", "model: gpt-5-mini", mini),
        (default, "openai", "model: gpt-5-mini, price: none", (0, 0, 0)),
        (default, "openai", "model: gpt-5-mini, price: { input: 7, output: 9 }", (7_000_000, 9_000_000, 7_000_000)),
        (default, "vllm", "model: gpt-5-mini", (0, 0, 0)),
        ("", "openai", "model: gpt-5-mini, price: { catalogue: \"*\", output: 1 }", (250_000, 1_000_000, 25_000)),
        ("", "openai", "model: ft-of-mine, price: { catalogue: gpt-5-mini }", mini),
        ("", "vllm", "model: ft-of-mine, price: { catalogue: openai/gpt-5-mini, cached_input: 0 }", (250_000, 2_000_000, 0)),
        (default, "openai", "model: \"*\"", mini),
        ("", "openai", "model: \"*\", price: catalogue", mini),
        ("", "openai", "model: \"*\", price: { catalogue: \"*\", reasoning: 1 }", mini),
        ("", "openai", "model: \"*\", price: { catalogue: gpt-5-nano }", (50_000, 400_000, 5_000)),
        ("", "openai", "model: \"*\", price: { catalogue: \"*\", unlisted: { input: 3, output: 4 } }", mini),
        ("", "mistral", "model: \"*\", price: { catalogue: \"*\", unlisted: { input: 3, output: 4 } }", (3_000_000, 4_000_000, 3_000_000)),
        ("", "mistral", "model: \"*\", price: catalogue", (0, 0, 0)),
    ] {
        assert_eq!(rates(priced(top, kind, target).as_ref()), want, "{top}{kind} {target}");
    }
}

#[test]
fn tiers_have_what_they_do_not_name_from_the_price_below() {
    let price = priced(
        "",
        "openai",
        "model: m, price: { input: 1, output: 8, cached_input: 0.1, tiers: [ { above: 9, output: 16 }, { above: 5, input: 2, reasoning: 3 } ] }",
    )
    .unwrap();
    let (base, million) = (price.rates, 1_000_000);
    let first = Rates { input: 2 * million, cache_write: 2 * million, cache_write_hour: 2 * million, reasoning: 3 * million, ..base };
    let first = Rates { input_audio: 2 * million, input_image: 2 * million, ..first };
    let second = Rates { output: 16 * million, reasoning: 16 * million, output_audio: 16 * million, output_image: 16 * million, ..base };
    assert_eq!(price.tiers, [Tier { above: 5, rates: first }, Tier { above: 9, rates: second }]);
    assert_eq!((base.cache_write, base.reasoning), (million, 8 * million));
    let kept = priced_at(NOW, "", "openai", "model: gpt-5.4, price: { catalogue: \"*\", input: 1 }").0.unwrap();
    assert_eq!((kept.rates.input, kept.tiers[0].above, kept.tiers[0].rates.input), (million, 272_000, 5 * million));
    let own = priced("", "openai", "model: gpt-5.4, price: { catalogue: \"*\", tiers: [ { above: 5, input: 1 } ] }").unwrap();
    assert_eq!((own.tiers.len(), own.tiers[0].above, own.tiers[0].rates.output), (1, 5, 15 * million));
    let hour = priced("", "openai", "model: m, price: { input: 1, output: 1, cache_write: 2 }").unwrap().rates;
    assert_eq!((hour.cache_write, hour.cache_write_hour), (2 * million, 2 * million));
}

#[test]
fn tiers_of_the_catalogue_that_outlive_own_rates_are_warned_of() {
    for (target, warned) in [
        ("model: gpt-5.4, price: { catalogue: \"*\", input: 1 }", true),
        ("model: mine, price: { catalogue: gpt-5.4, cached_input: 0 }", true),
        ("model: \"*\", price: { catalogue: \"*\", output: 1 }", true),
        // Tiers do not have them.
        ("model: gpt-5.4, price: { catalogue: \"*\", reasoning: 1, request: 1 }", false),
        ("model: gpt-5.4, price: { catalogue: \"*\", input: 1, tiers: [ { above: 272000, input: 2 } ] }", false),
        ("model: gpt-5-mini, price: { catalogue: \"*\", input: 1 }", false),
        ("model: gpt-5.4, price: catalogue", false),
        ("model: \"*\", price: { catalogue: \"*\", unlisted: { input: 1, output: 1 } }", false),
    ] {
        let warnings = format!("{:?}", priced_at(NOW, "", "openai", target).1);
        assert_eq!(warnings.contains("keeps the catalogue's price for prompts of more than 272000 tokens"), warned, "{target}: {warnings}");
    }
}

#[test]
fn models_that_the_catalogue_does_not_have_keep_the_prices_of_units() {
    let target = "model: \"*\", price: { catalogue: \"*\", request: 0.5, unlisted: { input: 3, output: 4 } }";
    let price = priced("", "mistral", target).unwrap();
    assert_eq!((price.rates.input, price.rates.output, price.units.request), (3_000_000, 4_000_000, 500_000_000_000));
}

#[test]
fn a_price_of_the_catalogue_that_is_a_year_old_is_warned_of() {
    let year = 365 * 86_400;
    // 2026-11-20T00:00:00Z.
    let as_of = 1_795_132_800;
    for (target, name) in [("model: gpt-5-mini, price: catalogue", "gpt-5-mini"), ("model: \"*\", price: catalogue", "")] {
        assert!(priced_at(as_of + year, "", "openai", target).1.is_empty());
        let (price, warnings) = priced_at(as_of + year + 1, "", "openai", target);
        assert!(price.is_some() && warnings.len() == 1, "{warnings:?}");
        let told = &warnings[0];
        assert!(told.contains(name) && told.contains("on 2026-11-20, more than a year ago") && told.contains("https://"), "{told}");
    }
    assert!(priced_at(as_of + year + 1, "price: catalogue\n", "openai", "model: gpt-5-mini, price: { input: 1, output: 1 }").1.is_empty());
}
