//! Token prices, cost, and the ledger of a finished request, which the access log and metrics are written from.

use crate::closed_set::closed_set;
use crate::llm::usage::Usage;
use std::time::Duration;

/// Prices in micro-dollars per million tokens, equal to pico-dollars per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Uncached input.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input read from a cache; defaults to `input`.
    pub cached_input: u64,
    /// Input written to a cache; defaults to `input`.
    pub cache_write: u64,
    /// Prices per request, image, second and character.
    pub units: UnitPrices,
}

/// Prices of units other than tokens, in pico-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitPrices {
    /// Each request that is answered.
    pub request: u64,
    /// Each image of an answer.
    pub image: u64,
    /// Each second of audio that an answer is about.
    pub second: u64,
    /// Each character that is spoken.
    pub character: u64,
}

/// What a request uses beside tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// 1, or 0 where nothing was answered.
    pub requests: u64,
    /// Images of the answer.
    pub images: u64,
    /// Characters of the text that is spoken.
    pub characters: u64,
    /// Length of the audio, in milliseconds.
    pub milliseconds: u64,
}

/// Units that an answer reports; `None` for those that it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportedUnits {
    /// Images in it.
    pub images: Option<u64>,
    /// Length of the audio that it is about, in milliseconds.
    pub milliseconds: Option<u64>,
}

impl Units {
    /// These, with what the answer reports in place of what was expected.
    #[must_use]
    pub fn corrected_by(self, answer: ReportedUnits) -> Self {
        Self { images: answer.images.unwrap_or(self.images), milliseconds: answer.milliseconds.unwrap_or(self.milliseconds), ..self }
    }
}

const PICO_PER_MICRO: u128 = 1_000_000;

/// Cost of a usage in micro-dollars: exact in pico-dollars, rounded half up once.
pub fn cost(price: &Price, usage: &Usage) -> u64 {
    cost_with(price, usage, &Units::default())
}

/// [`cost`], with the cost of the other units added before rounding.
pub fn cost_with(price: &Price, usage: &Usage, units: &Units) -> u64 {
    let cached = usage.cached.min(usage.prompt);
    let written = usage.cache_write.min(usage.prompt - cached);
    let plain = usage.prompt - cached - written;
    let parts = [(plain, price.input), (cached, price.cached_input), (written, price.cache_write), (usage.completion, price.output)];
    let pico = parts
        .iter()
        .fold(units_cost(&price.units, units), |sum, (tokens, each)| sum.saturating_add(u128::from(*tokens) * u128::from(*each)));
    u64::try_from(pico.saturating_add(PICO_PER_MICRO / 2) / PICO_PER_MICRO).unwrap_or(u64::MAX)
}

/// In pico-dollars.
fn units_cost(prices: &UnitPrices, units: &Units) -> u128 {
    if *prices == UnitPrices::default() {
        return 0;
    }
    let counted = [(units.requests, prices.request), (units.images, prices.image), (units.characters, prices.character)];
    let seconds = u128::from(units.milliseconds) * u128::from(prices.second) / 1000;
    counted.iter().fold(seconds, |sum, (count, each)| sum.saturating_add(u128::from(*count) * u128::from(*each)))
}

/// Micro-dollars as dollars without trailing zeros: `100`, `2.5`.
pub fn usd(micro: u64) -> String {
    let (dollars, rest) = (micro / 1_000_000, micro % 1_000_000);
    if rest == 0 { dollars.to_string() } else { format!("{dollars}.{rest:06}").trim_end_matches('0').to_owned() }
}

/// The usage to charge, and whether it is estimated. If the response is complete, that is the usage the provider
/// `reported`. Otherwise the reported usage may be a placeholder (as in the first event of Anthropic's streams), so the
/// completion counts at least the tokens `sent`, and an unreported prompt counts as `estimated`.
pub fn settled(reported: Option<Usage>, complete: bool, estimated: impl FnOnce() -> Usage, sent: u64) -> (Usage, bool) {
    match reported {
        Some(reported) if complete => (reported, false),
        Some(reported) => {
            let prompt = if reported.prompt == 0 { estimated().prompt } else { reported.prompt };
            (Usage { prompt, completion: reported.completion.max(sent), ..reported }, true)
        }
        None => (Usage { prompt: estimated().prompt, completion: sent, ..Usage::default() }, true),
    }
}

closed_set! {
    /// How a request ended.
    EndedBy {
        /// Complete response.
        Complete = "complete",
        /// The client disconnected.
        Client = "client",
        /// The provider failed, or its response ended early.
        Upstream = "upstream",
        /// The gateway rejected or aborted it: limits, invalid requests, timeouts, draining.
        Gateway = "gateway",
    }
}

/// The record of a finished request. Names are indices into its snapshot.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// `None` if authentication failed.
    pub team: Option<usize>,
    /// `None` if authentication failed.
    pub key: Option<usize>,
    /// `None` if no route matched.
    pub route: Option<usize>,
    /// The provider that answered or failed last; `None` without an attempt.
    pub provider: Option<usize>,
    /// Status of the response, or 499 if the client disconnected before it.
    pub status: u16,
    /// Whether the client requested a stream.
    pub stream: bool,
    /// Number of attempts.
    pub attempts: u32,
    /// Token usage.
    pub usage: Usage,
    /// Whether `usage` is partly estimated; see [`settled`].
    pub estimated: bool,
    /// Cost in micro-dollars.
    pub micro_usd: u64,
    /// The provider's id of a response that is passed through.
    pub upstream_id: Option<Box<str>>,
    /// Time from the first byte of the request to the first content sent to the client.
    pub ttft: Option<Duration>,
    /// Time from the first byte of the request to the last byte of the response.
    pub duration: Duration,
    /// Time spent in the gateway.
    pub overhead: Duration,
    /// How it ended.
    pub ended_by: EndedBy,
}

impl Ledger {
    /// The ledger of a request that has just started.
    pub fn new() -> Self {
        Self {
            team: None,
            key: None,
            route: None,
            provider: None,
            status: 0,
            stream: false,
            attempts: 0,
            usage: Usage::default(),
            estimated: false,
            micro_usd: 0,
            upstream_id: None,
            ttft: None,
            duration: Duration::ZERO,
            overhead: Duration::ZERO,
            ended_by: EndedBy::Gateway,
        }
    }

    /// Average time per output token after the first; `None` below two tokens.
    pub fn per_output_token(&self) -> Option<Duration> {
        let others = u32::try_from(self.usage.completion.checked_sub(1)?).ok()?;
        self.duration.checked_sub(self.ttft?)?.checked_div(others)
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    const PRICE: Price = Price { input: 3_000_000, output: 15_000_000, cached_input: 300_000, cache_write: 3_750_000, units: UNITS };
    const UNITS: UnitPrices = UnitPrices { request: 1_000_000, image: 40_000_000_000, second: 11_111_111, character: 15_000_000 };

    #[test]
    fn each_kind_of_token_has_its_price() {
        let usage = Usage { prompt: 1000, cached: 600, cache_write: 100, completion: 10, reasoning: 4, ..Usage::default() };
        assert_eq!(cost(&PRICE, &usage), 300 * 3 + 180 + 375 + 150);
    }

    #[test]
    fn each_unit_has_its_price() {
        let units = Units { requests: 1, images: 2, characters: 10, milliseconds: 90_000 };
        assert_eq!(cost_with(&PRICE, &Usage::default(), &units), 1 + 80_000 + 150 + 1_000);
        let corrected = units.corrected_by(ReportedUnits { images: Some(3), milliseconds: None });
        assert_eq!(cost_with(&PRICE, &Usage::default(), &corrected), 1 + 120_000 + 150 + 1_000);
        assert_eq!(cost(&PRICE, &Usage::default()), 0);
        let wild = Units { images: u64::MAX, milliseconds: u64::MAX, ..units };
        assert!(cost_with(&PRICE, &Usage::default(), &wild) > 0);
    }

    #[test]
    fn halves_are_rounded_up_once() {
        let half = Price { input: 250_000, output: 250_000, ..Price::default() };
        assert_eq!(cost(&half, &Usage { prompt: 1, completion: 1, ..Usage::default() }), 1, "two quarters are a half");
        assert_eq!(cost(&half, &Usage { prompt: 1, ..Usage::default() }), 0);
    }

    #[test]
    fn nonsense_counts_cost_something_finite() {
        let wild = Usage { prompt: 5, cached: u64::MAX, cache_write: u64::MAX, completion: u64::MAX, ..Usage::default() };
        assert!(cost(&PRICE, &wild) > 0);
        assert_eq!(cost(&PRICE, &Usage { prompt: 10, cached: 99, ..Usage::default() }), 3);
    }

    #[test]
    fn an_answer_that_did_not_end_counts_for_the_larger_of_what_was_told_and_sent() {
        let usage = |prompt, completion| Usage { prompt, completion, ..Usage::default() };
        let expected = usage(7, 256);
        for (reported, complete, sent, settled_as) in [
            (Some(usage(9, 40)), true, 100, (usage(9, 40), false)),
            (Some(usage(9, 1)), false, 100, (usage(9, 100), true)),
            (Some(usage(9, 120)), false, 100, (usage(9, 120), true)),
            (Some(usage(0, 1)), false, 0, (usage(7, 1), true)),
            (None, false, 100, (usage(7, 100), true)),
            (None, true, 100, (usage(7, 100), true)),
        ] {
            assert_eq!(settled(reported, complete, || expected, sent), settled_as, "{reported:?} {complete} {sent}");
        }
    }

    #[test]
    fn the_first_token_is_not_part_of_the_pace() {
        let mut ledger = Ledger { ttft: Some(Duration::from_millis(500)), duration: Duration::from_millis(1500), ..Ledger::new() };
        ledger.usage.completion = 11;
        assert_eq!(ledger.per_output_token(), Some(Duration::from_millis(100)));
        ledger.usage.completion = 1;
        assert_eq!(ledger.per_output_token(), None);
    }
}
