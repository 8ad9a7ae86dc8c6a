//! The price catalogue: `prices.yaml`, read once, when a configuration first asks for it.

use super::price::{PriceKeys, Quote, RateKeys};
use crate::yaml::read::Reader;
use crate::yaml::section::section;
use crate::yaml::tree;
use crate::yaml::value::{At, Named, scalars};
use jiff::civil::Date;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The prices of a kind's models.
#[derive(Debug)]
pub struct PriceList {
    /// The kind.
    pub kind: String,
    /// The kind whose prices hold.
    same_as: Option<String>,
    suffixes: Vec<Suffix>,
    prefixes: Vec<String>,
    models: BTreeMap<String, Listed>,
}

/// The price of a model.
#[derive(Debug)]
pub struct Listed {
    /// The price.
    pub quote: Quote,
    /// The day on which it was so.
    pub as_of: Date,
    /// The page that has it.
    pub source: String,
}

/// What the name of a snapshot or version ends with. `Y`, `M`, `D` and `N` each stand for a digit.
#[derive(Debug)]
pub struct Suffix(String);

scalars!(Suffix, "the end of a model's name", { "type": "string" }, |text| (!text.is_empty()).then(|| Suffix(text.into())));
scalars!(Date, "a day like 2026-11-20", { "type": "string" }, |text| text.parse().ok());

section! {
    /// The prices of a kind.
    ListKeys {
        /// The page that its prices are from.
        source: Option<String>,
        /// The kind whose prices hold.
        same_as: Option<String>,
        /// What a listed name may have behind it.
        suffixes: Vec<Suffix>,
        /// What it may have before it.
        prefixes: Vec<String>,
        /// By the provider's name.
        models: Named<(Provenance, (PriceKeys, RateKeys))>,
    }

    /// Where a price is from.
    Provenance {
        /// The day on which it was so.
        as_of: Date,
        /// The page that has it. Default: that of the kind.
        source: Option<String>,
    }
}

impl Suffix {
    /// The name without it.
    fn strip<'m>(&self, model: &'m str) -> Option<&'m str> {
        let (name, end) = model.split_at_checked(model.len().checked_sub(self.0.len())?)?;
        let fits = |(pattern, byte): (u8, u8)| match pattern {
            b'Y' | b'M' | b'D' | b'N' => byte.is_ascii_digit(),
            _ => byte == pattern,
        };
        self.0.bytes().zip(end.bytes()).all(fits).then_some(name)
    }
}

impl PriceList {
    /// The price of a model, and the name that it is listed under: its own; that without one of the kind's suffixes; or one of
    /// these after one of the kind's prefixes.
    pub fn find(&self, model: &str) -> Option<(&str, &Listed)> {
        let listed = |name: &str| self.models.get_key_value(name);
        let version = |name: &str| listed(name).or_else(|| self.suffixes.iter().find_map(|suffix| listed(suffix.strip(name)?)));
        let found = version(model).or_else(|| self.prefixes.iter().find_map(|prefix| version(model.strip_prefix(prefix.as_str())?)));
        found.map(|(name, listed)| (name.as_str(), listed))
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = (&str, &Listed)> {
        self.models.iter().map(|(name, listed)| (name.as_str(), listed))
    }
}

/// All lists, in the order of the file.
pub fn lists() -> &'static [PriceList] {
    static LISTS: LazyLock<Vec<PriceList>> = LazyLock::new(|| parse(include_str!("prices.yaml")).unwrap_or_default()); // a test parses it
    &LISTS
}

/// The prices that hold for a kind; `None` if the catalogue has none.
pub fn of(kind: &str) -> Option<&'static PriceList> {
    let list = |kind: &str| lists().iter().find(|list| list.kind == kind);
    let own = list(kind)?;
    own.same_as.as_deref().map_or(Some(own), list)
}

fn parse(text: &str) -> Result<Vec<PriceList>, String> {
    let mut reader = Reader::new(&|_| None);
    let node = tree::parse(text, &mut reader.problems);
    let named = node.and_then(|node| crate::yaml::read::Read::read(&node, &mut reader));
    let lists = named.into_iter().flat_map(|named: Named<ListKeys>| named.entries);
    let lists = lists.filter_map(|(kind, keys)| Some(list(kind.value, keys?, &mut reader))).collect();
    match reader.problems.into_sorted().into_iter().next() {
        Some((at, _, message)) => Err(format!("{}:{}: {message}", at.line, at.column)),
        None => Ok(lists),
    }
}

fn list(kind: String, keys: ListKeys, reader: &mut Reader<'_>) -> PriceList {
    let mut models = BTreeMap::new();
    for (At { at, value: name }, entry) in keys.models.entries {
        let Some((provenance, (price, rates))) = entry else { continue };
        let quote = Quote::of(&price, &rates);
        let Some(source) = provenance.source.or_else(|| keys.source.clone()) else {
            reader.problems.add(at, "`source` is missing");
            continue;
        };
        if quote.is_empty() || quote.missing().is_some() || price.catalogue.is_some() {
            reader.problems.add(at, "no price");
        }
        models.insert(name, Listed { quote, as_of: provenance.as_of, source });
    }
    PriceList { kind, same_as: keys.same_as, suffixes: keys.suffixes, prefixes: keys.prefixes, models }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::catalogue;

    #[test]
    fn every_entry_has_a_price_a_day_and_a_source() {
        let lists = parse(include_str!("prices.yaml")).unwrap();
        assert_eq!((lists.len(), lists.iter().map(|list| list.kind.as_str()).collect::<std::collections::BTreeSet<_>>().len()), (18, 18));
        for list in &lists {
            let kind = catalogue::named(&list.kind).unwrap_or_else(|| panic!("no kind {}", list.kind));
            assert!(!kind.self_hosted() && of(&list.kind).is_some_and(|list| !list.models.is_empty()), "{}", list.kind);
            for (name, listed) in list.models() {
                let price = listed.quote.price();
                assert!(listed.source.starts_with("https://") && (2026..2100).contains(&listed.as_of.year()), "{name}: {listed:?}");
                // Ten times what the dearest model costs: a slip of the unit.
                assert!(price.rates.input <= 500_000_000 && price.rates.output <= 2_000_000_000, "{name}: {price:?}");
                assert!(price.rates.cached_input <= price.rates.input, "{name}: {price:?}");
                assert!(price.tiers.iter().all(|tier| tier.above >= 10_000), "{name}");
            }
        }
    }

    /// Pages that only some can open, or that others than the provider or the maker of the model write.
    #[test]
    fn every_source_is_a_public_page_of_the_provider() {
        const REFUSED: [&str; 4] = ["management.azure.com", "console.aws.amazon.com", "console.cloud.google.com", "artificialanalysis.ai"];
        for list in lists() {
            for (name, listed) in list.models() {
                let host = listed.source.trim_start_matches("https://").split('/').next().unwrap();
                assert!(!REFUSED.iter().any(|refused| host.ends_with(refused)), "{name}: {host}");
                let of_openai = host.ends_with("openai.com");
                assert!(!of_openai || list.kind == "openai", "{} {name}: {host}", list.kind);
            }
        }
    }

    #[test]
    fn tiers_are_written_in_order_and_once() {
        let mut found = 0;
        // In the text, because reading sorts them.
        for line in include_str!("prices.yaml").lines().filter(|line| line.contains("tiers:")) {
            let numbers = line.split("above: ").skip(1).map(|rest| rest.split(',').next().unwrap().parse::<u64>().unwrap());
            let above: Vec<_> = numbers.collect();
            assert!(!above.is_empty() && above.windows(2).all(|pair| pair[0] < pair[1]), "{line}");
            found += 1;
        }
        let tiered = lists().iter().flat_map(PriceList::models).filter(|(_, listed)| listed.quote.tiers().count() > 0).count();
        assert!(found == tiered && found > 10, "{found} {tiered}");
    }

    #[test]
    fn a_snapshot_has_the_price_of_its_model_and_nothing_else_has() {
        for (kind, model, found) in [
            ("openai", "gpt-5", Some("gpt-5")),
            ("openai", "gpt-5-2025-08-07", Some("gpt-5")),
            ("openai", "gpt-5-2025-08-0x", None),
            ("openai", "gpt-4o-2024-08-06", Some("gpt-4o")),
            // Priced otherwise than its model.
            ("openai", "gpt-4o-2024-05-13", Some("gpt-4o-2024-05-13")),
            ("openai", "gpt-4o-search-preview", None),
            ("azure_openai", "model-router", None),
            ("openai", "gpt-5-2025-08-07-2025-08-07", None),
            ("openai", "gpt-5-turbo", None),
            ("openai", "-2025-08-07", None),
            ("openai", "gpt", None),
            ("openai", "", None),
            ("openai", "GPT-5", None),
            ("azure_openai_deployments", "gpt-5.1-2025-11-13", Some("gpt-5.1")),
            ("anthropic", "claude-haiku-4-5-20251001", Some("claude-haiku-4-5")),
            ("anthropic", "claude-haiku-4-5-2025100", None),
            ("anthropic", "claude-haiku-4-5@20251001", None),
            ("vertex", "anthropic/claude-haiku-5-5@20261014", Some("anthropic/claude-haiku-5-5")),
            ("vertex", "google/gemini-3.5-flash", Some("gemini-3.5-flash")),
            ("vertex", "google/gemini-3.5-flash-001", Some("gemini-3.5-flash")),
            ("google_ai_studio", "models/gemini-2.5-flash", Some("gemini-2.5-flash")),
            ("bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", Some("us.anthropic.claude-haiku-4-5")),
            ("bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0", Some("global.anthropic.claude-haiku-4-5")),
            ("bedrock", "us.amazon.nova-pro-v1:0", Some("amazon.nova-pro-v1:0")),
            // Another continent has prices of its own.
            ("bedrock", "eu.amazon.nova-pro-v1:0", None),
            ("mistral", "codestral-2508", Some("codestral-2508")),
        ] {
            assert_eq!(of(kind).unwrap().find(model).map(|(name, _)| name), found, "{kind} {model}");
        }
        assert!(of("vllm").is_none() && of("nobody").is_none());
    }

    #[test]
    fn mistakes_in_the_file_are_reported() {
        for (text, told) in [
            ("openai: { models: { m: { input: 1, output: 1, as_of: 2026-01-01 } } }", "`source` is missing"),
            ("openai: { source: s, models: { m: { input: 1, output: 1 } } }", "`as_of` is missing"),
            ("openai: { source: s, models: { m: { input: 1, output: 1, as_of: 2026-02-30 } } }", "a day like"),
            ("openai: { source: s, models: { m: { input: 1, as_of: 2026-01-01 } } }", "no price"),
            ("openai: { source: s, models: { m: { as_of: 2026-01-01 } } }", "no price"),
            ("openai: { source: s, models: { m: { input: 1, output: 1, as_of: 2026-01-01 }, m: {} } }", "duplicate key `m`"),
            ("openai: { models: [] }", "must be a mapping"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
