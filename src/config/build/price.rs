//! Prices of targets: those that are written, and those of the catalogue.

use super::Builder;
use crate::account::Price;
use crate::near;
use crate::provider::ModelName;
use crate::provider::catalogue::{kinds, named};
use crate::provider::price::{PriceKeys, PriceSetting, PriceWord, Pricing, Quote, RateKeys};
use crate::provider::prices::{self, Listed, PriceList};
use crate::yaml::problem::Position;
use crate::yaml::value::At;
use jiff::tz::TimeZone;

/// Age from which on a price of the catalogue is warned of, in seconds: a year.
const OLD: i64 = 365 * 86_400;
/// Most models that a message proposes.
const NEAR: usize = 3;

impl Builder<'_> {
    /// What a target costs that is of this kind.
    pub(super) fn pricing(&mut self, setting: Option<&At<PriceSetting>>, kind: &str, model: &At<&ModelName>) -> Pricing {
        match setting {
            None if self.default_price == PriceWord::None => Pricing::None,
            None => self.default_pricing(kind, model),
            Some(At { value: PriceSetting::Word(PriceWord::None), .. }) => Pricing::None,
            Some(At { value: PriceSetting::Word(PriceWord::Catalogue), at }) => {
                self.own_price(*at, kind, model.value, &Quote::default(), None)
            }
            Some(At { value: PriceSetting::Amounts(keys), at }) => self.amounts(*at, keys, kind, model.value),
        }
    }

    /// The price of the catalogue, if it has one.
    fn default_pricing(&mut self, kind: &str, model: &At<&ModelName>) -> Pricing {
        let Some(list) = prices::of(kind) else { return Pricing::None };
        match model.value {
            ModelName::Pattern(_) => self.by_model(model.at, list, &Quote::default(), None),
            ModelName::Fixed(name) => match list.find(name) {
                Some((name, listed)) => self.listed(model.at, name, listed, &Quote::default()),
                None => {
                    let message = format!("{}; it costs nothing unless it has a `price`", self.not_listed(kind, list, name));
                    self.reader.problems.warn(model.at, message);
                    Pricing::None
                }
            },
        }
    }

    /// The price that the catalogue has of the target's own model, with `quote` over it; `unlisted`: that of models which it does
    /// not have.
    fn own_price(&mut self, at: Position, kind: &str, model: &ModelName, quote: &Quote, unlisted: Option<Price>) -> Pricing {
        match model {
            ModelName::Fixed(name) => self.price_of(at, kind, name, quote),
            ModelName::Pattern(_) => match prices::of(kind) {
                Some(list) => self.by_model(at, list, quote, unlisted),
                None => self.no_list(at, kind),
            },
        }
    }

    /// The price that the catalogue has of a model of a kind, with `quote` over it.
    fn price_of(&mut self, at: Position, kind: &str, model: &str, quote: &Quote) -> Pricing {
        let Some(list) = prices::of(kind) else { return self.no_list(at, kind) };
        match list.find(model) {
            Some((name, listed)) => self.listed(at, name, listed, quote),
            None => {
                let message = self.not_listed(kind, list, model);
                self.add(at, message + "; write its price, or name a model that costs the same with `catalogue: MODEL`");
                Pricing::None
            }
        }
    }

    /// Amounts, over those of the catalogue if they name a model there.
    fn amounts(&mut self, at: Position, (keys, rates): &(PriceKeys, RateKeys), kind: &str, own: &ModelName) -> Pricing {
        let quote = Quote::of(keys, rates);
        self.tiers(keys);
        let unlisted = keys.unlisted.as_ref().map(|unlisted| {
            let (tokens, by_model) = (Quote::of_rates(&unlisted.value), matches!(own, ModelName::Pattern(_)));
            if !by_model || keys.catalogue.as_ref().is_none_or(|name| name.value != "*") {
                self.add(unlisted.at, "`unlisted` is for a pattern, `model: \"*\"`, with `catalogue: \"*\"`: there the model decides");
            } else if unlisted.value.sound && (tokens.is_empty() || tokens.missing().is_some()) {
                self.add(unlisted.at, "`unlisted` needs both of `input` and `output`");
            }
            tokens.over(&quote.of_units()).price()
        });
        if let Some(At { at, value }) = &keys.catalogue {
            let foreign = value.split_once('/').filter(|(kind, _)| named(kind).is_some());
            return match foreign.filter(|_| prices::of(kind).is_none_or(|list| list.find(value).is_none())) {
                Some((kind, model)) => self.price_of(*at, kind, model, &quote),
                None if value == "*" => self.own_price(*at, kind, own, &quote, unlisted),
                None => self.price_of(*at, kind, value, &quote),
            };
        }
        if let Some(missing) = quote.missing().filter(|_| keys.sound && rates.sound) {
            self.add(at, format!("`{missing}` is missing: tokens have a price for both `input` and `output`"));
        }
        if quote.is_empty() && keys.sound && rates.sound {
            self.add(at, "`price` has no amount; add `input` and `output`, or one of request, image, second and character");
        }
        Pricing::Fixed(quote.price())
    }

    fn tiers(&mut self, keys: &PriceKeys) {
        for (i, (tier, rates)) in keys.tiers.iter().enumerate() {
            let above = &tier.above;
            if keys.tiers.iter().take(i).any(|(other, _)| other.above.value.0 == above.value.0) {
                self.add(above.at, format!("`above`: there is another tier above {} tokens", above.value.0));
            }
            if tier.sound && rates.sound && rates.written.is_empty() {
                self.add(tier.at, "a tier needs a price, like `input`");
            }
        }
    }

    fn by_model(&mut self, at: Position, list: &'static PriceList, quote: &Quote, unlisted: Option<Price>) -> Pricing {
        if let Some((name, listed)) = list.models().min_by_key(|(_, listed)| listed.as_of) {
            self.warn_if_old(at, name, listed);
        }
        if let Some((name, above)) = list.models().find_map(|(name, listed)| Some((name, quote.outlived_by(&listed.quote)?))) {
            self.warn_of_tiers(at, name, above);
        }
        Pricing::by_model(list, quote, unlisted)
    }

    fn listed(&mut self, at: Position, name: &str, listed: &Listed, quote: &Quote) -> Pricing {
        self.warn_if_old(at, name, listed);
        if let Some(above) = quote.outlived_by(&listed.quote) {
            self.warn_of_tiers(at, name, above);
        }
        let quote = quote.over(&listed.quote);
        if let Some(missing) = quote.missing() {
            self.add(at, format!("`{missing}` is missing: the catalogue has no price of `{name}` for tokens"));
        }
        Pricing::Fixed(quote.price())
    }

    fn warn_of_tiers(&mut self, at: Position, name: &str, above: u64) {
        let message = format!("`{name}` keeps the catalogue's price for prompts of more than {above} tokens; add `tiers` to replace it");
        self.reader.problems.warn(at, message);
    }

    fn warn_if_old(&mut self, at: Position, name: &str, listed: &Listed) {
        let day = listed.as_of.to_zoned(TimeZone::UTC).map_or(i64::MAX, |day| day.timestamp().as_second());
        if self.now.saturating_sub(day) > OLD {
            let (as_of, source) = (listed.as_of, &listed.source);
            let message = format!(
                "the catalogue has the price of `{name}` as it was on {as_of}, more than a year ago; compare it with {source} and write \
                 the price, or use a newer Tidegate"
            );
            self.reader.problems.warn(at, message);
        }
    }

    fn not_listed(&self, kind: &str, list: &PriceList, model: &str) -> String {
        let near: Vec<String> =
            near::nearest(model, list.models().map(|(name, _)| name), NEAR).iter().map(|name| format!("`{name}`")).collect();
        let hint = if near.is_empty() { String::new() } else { format!(" (it has {})", near.join(", ")) };
        format!("the price catalogue has no model `{model}` of kind `{kind}`{hint}")
    }

    fn no_list(&mut self, at: Position, kind: &str) -> Pricing {
        let listed: Vec<_> = kinds().iter().map(|kind| kind.name.as_str()).filter(|kind| prices::of(kind).is_some()).collect();
        let message = format!(
            "the price catalogue has no prices of kind `{kind}`; write the price, or name a model of another kind with `catalogue: \
             KIND/MODEL` ({})",
            listed.join(", ")
        );
        self.add(at, message);
        Pricing::None
    }
}
