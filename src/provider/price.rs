//! What a target costs: the keys of `price`, and how they become a [`Price`].

use super::prices::PriceList;
use crate::account::{Price, Rates, Tier, UnitPrices};
use crate::yaml::money::{Money, UnitPrice};
use crate::yaml::read::{Read, Reader, Schema};
use crate::yaml::section::{section, words};
use crate::yaml::tree::{Node, Value};
use crate::yaml::value::{At, Tokens};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// The prices of a target.
#[derive(Clone, Debug, Default)]
pub enum Pricing {
    /// It costs nothing.
    #[default]
    None,
    /// All of its requests have this one.
    Fixed(Price),
    /// The upstream model decides: the target of a pattern that has the prices of the catalogue.
    ByModel(Arc<ModelPrices>),
}

/// The prices of all models that the catalogue lists of a kind.
#[derive(Debug)]
pub struct ModelPrices {
    list: &'static PriceList,
    prices: HashMap<&'static str, Price>,
    /// The price of all other models.
    unlisted: Option<Price>,
}

impl Pricing {
    /// Of every model in the list, each with what `quote` says in place of the list's own; and of all others.
    pub fn by_model(list: &'static PriceList, quote: &Quote, unlisted: Option<Price>) -> Self {
        let prices = list.models().map(|(name, listed)| (name, quote.over(&listed.quote).price())).collect();
        Self::ByModel(Arc::new(ModelPrices { list, prices, unlisted }))
    }

    /// The price of a model's requests; `None` if they cost nothing. The model is asked for only if its name decides.
    pub fn of<'m>(&self, model: impl FnOnce() -> Cow<'m, str>) -> Option<&Price> {
        match self {
            Self::None => None,
            Self::Fixed(price) => Some(price),
            Self::ByModel(by_model) => {
                let listed = by_model.list.find(&model()).and_then(|(name, _)| by_model.prices.get(name));
                listed.or(by_model.unlisted.as_ref())
            }
        }
    }

    /// Whether the upstream model decides, and those that the catalogue does not have cost nothing.
    pub fn has_gaps(&self) -> bool {
        matches!(self, Self::ByModel(by_model) if by_model.unlisted.is_none())
    }

    /// Whether every request costs nothing.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

words! {
    /// The price of a target that names no amounts.
    PriceWord {
        /// That of the catalogue.
        Catalogue = "catalogue",
        /// None: it costs nothing.
        None = "none",
    }
}

/// `price` of a target.
pub enum PriceSetting {
    /// A word.
    Word(PriceWord),
    /// Amounts.
    Amounts(Box<(PriceKeys, RateKeys)>),
}

impl Read for PriceSetting {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return Read::read(node, cx).map(|keys| Self::Amounts(Box::new(keys)));
        }
        let words = PriceWord::ALL.iter().map(|word| (word.name(), *word));
        cx.word(node, "a mapping like { input: 3, output: 15 }, or one of", words).map(Self::Word)
    }

    fn schema() -> Schema {
        serde_json::json!({ "anyOf": [PriceWord::schema(), <(PriceKeys, RateKeys)>::schema()] })
    }
}

section! {
    /// Prices in USD: of tokens per million, exact to a millionth of a dollar; of the others each, exact to twelve decimals.
    /// Tokens have both of `input` and `output`, or no price.
    PriceKeys {
        /// A model of the catalogue (`tidegate prices`) whose price holds, with the keys beside this one in the place of its own:
        /// one of the target's kind, or KIND/MODEL; `*` is the target's model.
        catalogue: Option<At<String>>,
        /// In a pattern whose target is `*` of the catalogue: the price of tokens of models that it does not have. Default: they
        /// cost nothing. The prices of requests, images, seconds and characters beside it are for these models, too.
        unlisted: Option<At<RateKeys>>,
        /// Each request that is answered.
        request: Option<UnitPrice>,
        /// Each image of an answer.
        image: Option<UnitPrice>,
        /// Each second of audio that is transcribed or translated, where the answer says how long it is.
        second: Option<UnitPrice>,
        /// Each character of a text that is spoken.
        character: Option<UnitPrice>,
        /// Prices of long prompts, for all tokens of a request. Default: those of the catalogue, whatever the amounts beside it.
        tiers: Vec<(TierKeys, RateKeys)>,
    }

    /// Prices of long prompts. What they do not name costs what it costs without them.
    TierKeys {
        /// They hold for prompts of more tokens than this, cached ones included.
        above: At<Tokens>,
    }

    /// Prices of tokens, in USD per million.
    RateKeys {
        /// Uncached input.
        input: Option<Money>,
        /// Output.
        output: Option<Money>,
        /// Input read from a cache. Default: the price of input.
        cached_input: Option<Money>,
        /// Input written to a cache. Default: the price of input.
        cache_write: Option<Money>,
        /// Input written to a cache that keeps it for an hour. Default: the price of cache_write.
        cache_write_1h: Option<Money>,
        /// Reasoning. Default: the price of output.
        reasoning: Option<Money>,
        /// Audio in the prompt, unless it is cached. Default: the price of input.
        input_audio: Option<Money>,
        /// Audio in the answer. Default: the price of output.
        output_audio: Option<Money>,
        /// Images in the prompt, unless they are cached. Default: the price of input.
        input_image: Option<Money>,
        /// Images in the answer, where the provider counts them in tokens. Default: the price of output.
        output_image: Option<Money>,
    }
}

/// Prices as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quote {
    rates: QuotedRates,
    tiers: Vec<(u64, QuotedRates)>,
    units: QuotedUnits,
}

/// Amounts of which each may be missing.
macro_rules! quoted {
    ($name:ident of $keys:ident: $($field:ident),+) => {
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        struct $name { $($field: Option<u64>),+ }

        impl $name {
            fn of(keys: &$keys) -> Self {
                Self { $($field: keys.$field.map(|amount| amount.0)),+ }
            }

            fn over(self, base: Self) -> Self {
                Self { $($field: self.$field.or(base.$field)),+ }
            }

            fn amounts(self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field)),+].into_iter().filter_map(|(name, amount)| Some((name, amount?)))
            }
        }
    };
}

quoted!(QuotedUnits of PriceKeys: request, image, second, character);
quoted!(QuotedRates of RateKeys: input, output, cached_input, cache_write, cache_write_1h, reasoning, input_audio, output_audio,
    input_image, output_image);

impl Quote {
    /// What is written.
    pub fn of(keys: &PriceKeys, rates: &RateKeys) -> Self {
        let mut tiers: Vec<_> = keys.tiers.iter().map(|(tier, rates)| (u64::from(tier.above.value.0), QuotedRates::of(rates))).collect();
        tiers.sort_by_key(|(above, _)| *above);
        Self { rates: QuotedRates::of(rates), tiers, units: QuotedUnits::of(keys) }
    }

    /// These, and what they do not have as it is in `base`. Tiers replace those of the base.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        let tiers = if self.tiers.is_empty() { &base.tiers } else { &self.tiers };
        Self { rates: self.rates.over(base.rates), tiers: tiers.clone(), units: self.units.over(base.units) }
    }

    /// The first length of a prompt from which on tiers of `base` have prices that these would otherwise replace.
    pub fn outlived_by(&self, base: &Self) -> Option<u64> {
        let is_own = |(name, _)| self.rates.amounts().any(|(own, _)| own == name);
        let mut tiers = base.tiers.iter().filter(|_| self.tiers.is_empty());
        tiers.find(|(_, rates)| rates.amounts().any(is_own)).map(|(above, _)| *above)
    }

    /// Those of units alone.
    #[must_use]
    pub fn of_units(&self) -> Self {
        Self { units: self.units, ..Self::default() }
    }

    /// Of tokens alone.
    pub fn of_rates(rates: &RateKeys) -> Self {
        Self { rates: QuotedRates::of(rates), ..Self::default() }
    }

    /// Whether there is no amount.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Which of `input` and `output` is missing, where tokens have a price.
    pub fn missing(&self) -> Option<&'static str> {
        let priced = !self.tiers.is_empty() || self.rates != QuotedRates::default();
        match (self.rates.input, self.rates.output) {
            (None, _) if priced => Some("input"),
            (_, None) if priced => Some("output"),
            _ => None,
        }
    }

    /// The amounts by their keys: those of tokens in micro-dollars per million, and those of units in pico-dollars.
    pub fn amounts(&self) -> (impl Iterator<Item = (&'static str, u64)>, impl Iterator<Item = (&'static str, u64)>) {
        (self.rates.amounts(), self.units.amounts())
    }

    /// The tiers, as [`Quote::amounts`] has the rates.
    pub fn tiers(&self) -> impl Iterator<Item = (u64, impl Iterator<Item = (&'static str, u64)>)> {
        self.tiers.iter().map(|(above, rates)| (*above, rates.amounts()))
    }

    /// The price, with the default of everything that is not written.
    pub fn price(&self) -> Price {
        let units = self.units;
        Price {
            rates: self.rates.resolved(),
            tiers: self.tiers.iter().map(|(above, rates)| Tier { above: *above, rates: rates.over(self.rates).resolved() }).collect(),
            units: UnitPrices {
                request: units.request.unwrap_or(0),
                image: units.image.unwrap_or(0),
                second: units.second.unwrap_or(0),
                character: units.character.unwrap_or(0),
            },
        }
    }
}

impl QuotedRates {
    fn resolved(self) -> Rates {
        let (input, output) = (self.input.unwrap_or(0), self.output.unwrap_or(0));
        let cache_write = self.cache_write.unwrap_or(input);
        Rates {
            input,
            output,
            cached_input: self.cached_input.unwrap_or(input),
            cache_write,
            cache_write_hour: self.cache_write_1h.unwrap_or(cache_write),
            reasoning: self.reasoning.unwrap_or(output),
            input_audio: self.input_audio.unwrap_or(input),
            output_audio: self.output_audio.unwrap_or(output),
            input_image: self.input_image.unwrap_or(input),
            output_image: self.output_image.unwrap_or(output),
        }
    }
}
