//! `tidegate prices`: prints the price catalogue.

use crate::account::usd;
use crate::commands::{Exit, print};
use crate::near;
use crate::provider::prices::{self, Listed};
use crate::terminal;
use std::fmt::Write as _;

/// Prints the prices of a kind, or of all.
pub(super) fn run(kind: Option<&str>) -> Exit {
    let listed = |kind: &str| prices::of(kind).is_some();
    if let Some(kind) = kind.filter(|kind| !listed(kind)) {
        let kinds: Vec<&str> = prices::lists().iter().map(|list| list.kind.as_str()).collect();
        let hint = near::nearest(kind, kinds.iter().copied(), 1).first().map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        let kinds = kinds.join(", ");
        terminal::message(format_args!("--kind: the price catalogue has no prices of kind `{kind}`{hint} (it has {kinds})"));
        return Exit::BadUsage;
    }
    print(&text(kind))
}

/// A line for each model: `KIND/MODEL`, its keys of `price`, the day, and the page.
fn text(kind: Option<&str>) -> String {
    let mut text = String::new();
    for list in prices::lists().iter().filter(|list| kind.is_none_or(|kind| list.kind == kind)) {
        for (model, listed) in prices::of(&list.kind).into_iter().flat_map(|list| list.models()) {
            let _infallible = writeln!(text, "{}/{model}  {}  {}  {}", list.kind, amounts(listed), listed.as_of, listed.source);
        }
    }
    text
}

/// As `price` takes them.
fn amounts(listed: &Listed) -> String {
    let (rates, units) = listed.quote.amounts();
    let rate = |(name, micro): (&str, u64)| format!("{name}: {}", usd(micro));
    let mut parts: Vec<String> = rates.map(rate).collect();
    parts.extend(units.map(|(name, pico)| format!("{name}: {}", dollars(pico))));
    let tiers = listed.quote.tiers().map(|(above, rates)| {
        let rates: Vec<String> = rates.map(rate).collect();
        format!("{{ above: {above}, {} }}", rates.join(", "))
    });
    let tiers: Vec<String> = tiers.collect();
    if !tiers.is_empty() {
        parts.push(format!("tiers: [ {} ]", tiers.join(", ")));
    }
    format!("{{ {} }}", parts.join(", "))
}

/// Pico-dollars as dollars without trailing zeros.
fn dollars(pico: u64) -> String {
    const DOLLAR: u64 = 1_000_000_000_000;
    let text = format!("{}.{:012}", pico / DOLLAR, pico % DOLLAR);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_a_price_of_the_configuration() {
        let text = text(None);
        for line in text.lines() {
            let (name, price) = line.split_once("  ").unwrap();
            let price = price.split("  ").next().unwrap();
            let (kind, model) = name.split_once('/').unwrap();
            let file = format!(
                "auth: none\nproviders: {{ p: {{ kind: openai, api_key: k }} }}\n\
                 routes: {{ r: {{ targets: [ {{ provider: p, model: m, price: {price} }} ] }} }}"
            );
            let loaded = crate::config::parse(&file, "t.yaml", &|_| None).unwrap_or_else(|problems| panic!("{file}: {problems:?}"));
            let listed = prices::of(kind).unwrap().find(model).unwrap().1;
            assert_eq!(loaded.snapshot.routes[0].targets[0].pricing.of(|| "m".into()), Some(&listed.quote.price()), "{line}");
        }
        assert!(text.lines().count() > 500);
    }

    #[test]
    fn dollars_are_exact() {
        for (pico, text) in [(0, "0"), (15_000_000, "0.000015"), (40_000_000_000, "0.04"), (1_000_000_000_000, "1"), (1, "0.000000000001")]
        {
            assert_eq!(dollars(pico), text);
        }
    }
}
