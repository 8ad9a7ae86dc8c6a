//! Token prices, cost, and the ledger of a finished request, which the access log and metrics are written from.

use crate::closed_set::closed_set;
use crate::llm::finish::FinishReasons;
use crate::llm::usage::Usage;
use std::time::Duration;

/// What a model costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// The rates of requests below the first tier.
    pub rates: Rates,
    /// Rates of long prompts, the shortest first.
    pub tiers: Vec<Tier>,
    /// Prices per request, image, second and character.
    pub units: UnitPrices,
}

/// The rates of long prompts. The tier's rates apply to the whole request:
/// <https://ai.google.dev/gemini-api/docs/pricing>, <https://platform.claude.com/docs/en/about-claude/pricing>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// They hold for prompts of more tokens than this, cached ones included.
    pub above: u64,
    /// The rates.
    pub rates: Rates,
}

/// Prices in micro-dollars per million tokens, equal to pico-dollars per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Uncached input.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input read from a cache; defaults to `input`.
    pub cached_input: u64,
    /// Input written to a cache for some minutes; defaults to `input`.
    pub cache_write: u64,
    /// Input written to a cache for an hour; defaults to `cache_write`.
    pub cache_write_hour: u64,
    /// Reasoning; defaults to `output`.
    pub reasoning: u64,
    /// Uncached audio in the prompt; defaults to `input`.
    pub input_audio: u64,
    /// Audio in the answer; defaults to `output`.
    pub output_audio: u64,
    /// Uncached images in the prompt; defaults to `input`.
    pub input_image: u64,
    /// Images in the answer; defaults to `output`.
    pub output_image: u64,
}

impl Price {
    /// The rates of a request whose prompt has so many tokens.
    pub fn rates(&self, prompt: u64) -> &Rates {
        self.tiers.iter().rev().find(|tier| prompt > tier.above).map_or(&self.rates, |tier| &tier.rates)
    }
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

/// [`cost`], with the cost of the other units added before rounding. Each token is charged once. Cached
/// tokens have the price of the cache, whatever their modality, because no provider reports which of them are audio.
pub fn cost_with(price: &Price, usage: &Usage, units: &Units) -> u64 {
    let rates = price.rates(usage.prompt);
    let (mut input, mut output) = (usage.prompt, usage.completion);
    let hour = usage.cache_write_hour.min(usage.cache_write);
    let parts = [
        (part(&mut input, usage.cached), rates.cached_input),
        (part(&mut input, hour), rates.cache_write_hour),
        (part(&mut input, usage.cache_write - hour), rates.cache_write),
        (part(&mut input, usage.prompt_audio), rates.input_audio),
        (part(&mut input, usage.details.prompt_image), rates.input_image),
        (part(&mut output, usage.reasoning), rates.reasoning),
        (part(&mut output, usage.completion_audio), rates.output_audio),
        (part(&mut output, usage.details.completion_image), rates.output_image),
        (input, rates.input),
        (output, rates.output),
    ];
    let sum = |sum: u128, (tokens, each): (u64, u64)| sum.saturating_add(u128::from(tokens) * u128::from(each));
    micro(parts.into_iter().fold(units_cost(&price.units, units), sum))
}

/// What the tokens read from a cache would have cost more at the rate of input, in micro-dollars. What it costs to write to
/// a cache is not subtracted.
pub fn cache_savings(price: &Price, usage: &Usage) -> u64 {
    let rates = price.rates(usage.prompt);
    let saved = rates.input.saturating_sub(rates.cached_input);
    micro(u128::from(usage.cached.min(usage.prompt)) * u128::from(saved))
}

/// Takes up to `count` tokens out of the rest; a provider's parts may be more than the whole.
fn part(rest: &mut u64, count: u64) -> u64 {
    let count = count.min(*rest);
    *rest -= count;
    count
}

/// Pico-dollars as micro-dollars, rounded half up.
fn micro(pico: u128) -> u64 {
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
    /// `None` if no route matched.
    pub route: Option<usize>,
    /// The provider that answered or failed last; `None` without an attempt.
    pub provider: Option<usize>,
    /// Status of the response, or 499 if the client disconnected before it.
    pub status: u16,
    /// Status of the error that ended a response whose head, with another status, had been sent.
    pub failed: Option<u16>,
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
    /// Result of [`cache_savings`], in micro-dollars.
    pub saved_micro_usd: u64,
    /// The provider's id of a response that is passed through.
    pub upstream_id: Option<Box<str>>,
    /// Why the response's choices ended.
    pub finish: FinishReasons,
    /// Time from the end of the request's head to the first content sent to the client.
    pub ttft: Option<Duration>,
    /// Time from the end of the request's head to the last byte of the response.
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
            route: None,
            provider: None,
            status: 0,
            failed: None,
            stream: false,
            attempts: 0,
            usage: Usage::default(),
            estimated: false,
            micro_usd: 0,
            saved_micro_usd: 0,
            upstream_id: None,
            finish: FinishReasons::default(),
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
mod tests {
    use super::*;

    /// A price of these rates.
    fn of(rates: Rates) -> Price {
        Price { rates, tiers: Vec::new(), units: UNITS }
    }

    /// Rates of which no two are the same; a token costs so many micro-dollars.
    const RATES: Rates = Rates {
        input: 3_000_000,
        output: 15_000_000,
        cached_input: 300_000,
        cache_write: 3_750_000,
        cache_write_hour: 6_000_000,
        reasoning: 20_000_000,
        input_audio: 40_000_000,
        output_audio: 80_000_000,
        input_image: 10_000_000,
        output_image: 120_000_000,
    };
    const UNITS: UnitPrices = UnitPrices { request: 1_000_000, image: 40_000_000_000, second: 11_111_111, character: 15_000_000 };

    #[test]
    fn each_kind_of_token_has_its_price() {
        let usage = Usage { prompt: 1000, completion: 100, ..Usage::default() };
        let whole = 1000 * 3 + 100 * 15;
        for (change, want) in [
            ((|u| u.cached = 600) as fn(&mut Usage), 400 * 3 + 180 + 1500),
            (|u| u.cache_write = 200, 800 * 3 + 750 + 1500),
            (|u| (u.cache_write, u.cache_write_hour) = (200, 40), 800 * 3 + 600 + 240 + 1500),
            (|u| u.cache_write_hour = 40, whole), // a part of what was written, and nothing was
            (|u| u.reasoning = 90, 3000 + 10 * 15 + 90 * 20),
            (|u| u.prompt_audio = 10, 990 * 3 + 400 + 1500),
            (|u| u.completion_audio = 10, 3000 + 90 * 15 + 800),
            (|u| u.details.prompt_image = 10, 990 * 3 + 100 + 1500),
            (|u| u.details.completion_image = 10, 3000 + 90 * 15 + 1200),
            (|u| u.details.prompt_text = 10, whole),
        ] {
            let mut usage = usage;
            change(&mut usage);
            assert_eq!(cost(&of(RATES), &usage), want, "{usage:?}");
        }
    }

    #[test]
    fn no_token_is_paid_twice() {
        let all = Usage { prompt: 100, cached: 60, cache_write: 30, prompt_audio: 50, completion: 10, reasoning: 8, ..Usage::default() };
        let all = Usage { completion_audio: 9, ..all };
        assert_eq!(cost(&of(RATES), &all), 851, "18 + 112.5 + 10 x 40 + 8 x 20 + 2 x 80");
    }

    #[test]
    fn a_long_prompt_has_the_rates_of_its_tier_for_all_tokens() {
        let twice = Rates { input: 6_000_000, output: 22_500_000, cached_input: 600_000, ..RATES };
        let tiers = vec![Tier { above: 200, rates: twice }, Tier { above: 500, rates: Rates { input: 9_000_000, ..twice } }];
        let price = Price { tiers, ..of(RATES) };
        let usage = |prompt, cached| Usage { prompt, cached, completion: 2, ..Usage::default() };
        for (prompt, want) in [(200, 600 + 30), (201, 1206 + 45), (500, 3000 + 45), (501, 4509 + 45)] {
            assert_eq!(cost(&price, &usage(prompt, 0)), want, "{prompt}");
        }
        assert_eq!(cost(&price, &usage(300, 250)), 50 * 6 + 150 + 45, "cached tokens make a prompt long as well");
        assert_eq!((cache_savings(&price, &usage(200, 100)), cache_savings(&price, &usage(300, 100))), (270, 540));
    }

    #[test]
    fn a_cache_that_costs_more_than_input_saves_nothing() {
        let dear = of(Rates { cached_input: 4_000_000, ..RATES });
        assert_eq!(cache_savings(&dear, &Usage { prompt: 9, cached: 9, ..Usage::default() }), 0);
        assert_eq!(cache_savings(&of(RATES), &Usage { prompt: 10, cached: 99, ..Usage::default() }), 27);
    }

    #[test]
    fn each_unit_has_its_price() {
        let units = Units { requests: 1, images: 2, characters: 10, milliseconds: 90_000 };
        assert_eq!(cost_with(&of(RATES), &Usage::default(), &units), 1 + 80_000 + 150 + 1_000);
        let corrected = units.corrected_by(ReportedUnits { images: Some(3), milliseconds: None });
        assert_eq!(cost_with(&of(RATES), &Usage::default(), &corrected), 1 + 120_000 + 150 + 1_000);
        assert_eq!(cost(&of(RATES), &Usage::default()), 0);
        let wild = Units { images: u64::MAX, milliseconds: u64::MAX, ..units };
        assert!(cost_with(&of(RATES), &Usage::default(), &wild) > 0);
    }

    #[test]
    fn halves_are_rounded_up_once() {
        let rates = Rates { input: 250_000, output: 250_000, ..Rates::default() };
        let half = Price { rates, ..Price::default() };
        assert_eq!(cost(&half, &Usage { prompt: 1, completion: 1, ..Usage::default() }), 1, "two quarters are a half");
        assert_eq!(cost(&half, &Usage { prompt: 1, ..Usage::default() }), 0);
    }

    #[test]
    fn nonsense_counts_cost_something_finite() {
        let wild = Usage { prompt: 5, cached: u64::MAX, cache_write: u64::MAX, completion: u64::MAX, ..Usage::default() };
        assert!(cost(&of(RATES), &wild) > 0);
        assert_eq!(cost(&of(RATES), &Usage { prompt: 10, cached: 99, ..Usage::default() }), 3);
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
