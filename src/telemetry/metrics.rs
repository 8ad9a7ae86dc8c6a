//! Prometheus metrics, recorded through preallocated handles.
//!
//! Handles are found by index; names are resolved once per series and configuration. Label values are configured names,
//! `NONE` and [closed sets](super::labels), so clients cannot create series. Series belong to `Families`, which survive
//! reloads; series of removed routes, teams and providers are no longer exported.
//!
//! Memory: 16 bytes for each combination of a (route, provider) pair and a team, about 600 bytes more once it is used and 400
//! for each operation of it, and about 700 bytes per histogram. A hundred routes with two providers and a thousand teams take 5 MB.

use super::attribute::Attribute;
pub use super::families::FAMILIES;
use super::families::{DEADLINES, Families};
use super::family::{Child, Family};
use super::labels::{Decision, NONE, Outcome, Phase, PromptCache, Rejected, Reload, STATUS_COUNT, SpanLoss, TokenType, status};
use super::spans::export::SpanCounters;
use crate::account::Ledger;
use crate::auth::AuthFailure;
use crate::auth::tenants::Tenants;
use crate::limit::Scope;
use crate::limit::rule::Dimension;
use crate::llm::field::Field;
use crate::operation::Operation;
use crate::provider::{ModelName, Provider};
use crate::route::settings::Routes;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge, TextEncoder};
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
pub use totals::Totals;

/// Content type of the text that [`Metrics::text`] writes.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Number of label values for operations: theirs, and [`NONE`] for a request that asks for no model.
const OPERATIONS: usize = Operation::COUNT + 1;

/// Label of a dropped parameter that is not a [`Field`].
const OTHER: &str = "other";

/// Names used as label values, by index.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Routes, with the indices of the providers they can reach.
    pub routes: Vec<(Arc<str>, Vec<usize>)>,
    /// Teams.
    pub teams: Vec<Arc<str>>,
    /// Providers.
    pub providers: Vec<Arc<str>>,
    /// Attributes with the values that are label values.
    pub attributes: Vec<(Arc<str>, Vec<Arc<str>>)>,
    /// Targets by `Target::index`: index of the route, and provider and model.
    pub targets: Vec<(usize, String)>,
    /// The largest first-token timeout and total timeout. Buckets are extended up to them when the process starts;
    /// later changes have no effect, because the buckets of a histogram are fixed.
    pub deadlines: (Duration, Duration),
}

impl Names {
    /// The names of a configuration.
    pub fn of(tenants: &Tenants, providers: &[Arc<Provider>], routes: &Routes, attributes: &[Attribute]) -> Self {
        let mut names = Self {
            routes: Vec::with_capacity(routes.len()),
            teams: tenants.teams.iter().map(|team| Arc::clone(&team.name)).collect(),
            providers: providers.iter().map(|provider| Arc::clone(&provider.name)).collect(),
            attributes: attributes.iter().map(|attribute| (attribute.name.clone(), attribute.values.clone())).collect(),
            targets: vec![(0, String::new()); routes.targets],
            deadlines: Default::default(),
        };
        for (index, route) in routes.iter().enumerate() {
            let mut reach = Vec::new();
            for target in route.targets.iter().chain(&route.fallback) {
                if !reach.contains(&target.provider.index) {
                    reach.push(target.provider.index);
                }
                let timeouts = route.timeouts.over(&target.provider.timeouts);
                names.deadlines.0 = names.deadlines.0.max(timeouts.first_token);
                names.deadlines.1 = names.deadlines.1.max(timeouts.total.unwrap_or_default());
                let (ModelName::Fixed(model) | ModelName::Pattern(model)) = &target.model;
                if let Some(slot) = names.targets.get_mut(target.index) {
                    *slot = (index, format!("{}/{model}", target.provider.endpoint_name));
                }
            }
            names.routes.push((Arc::clone(&route.name), reach));
        }
        names
    }

    fn route(&self, route: Option<usize>) -> &str {
        route.and_then(|index| self.routes.get(index)).map_or(NONE, |(name, _)| name)
    }

    fn team(&self, team: Option<usize>) -> &str {
        team.and_then(|index| self.teams.get(index)).map_or(NONE, |name| name)
    }

    fn provider(&self, provider: Option<usize>) -> &str {
        provider.and_then(|index| self.providers.get(index)).map_or(NONE, |name| name)
    }
}

/// Counters by operation and status.
type ByStatus = [OnceLock<Box<[OnceLock<IntCounter>; STATUS_COUNT]>>; OPERATIONS];

/// Series of a team on a (route, provider) pair.
#[derive(Default)]
struct TeamSeries {
    requests: ByStatus,
    failed_streams: OnceLock<Box<ByStatus>>,
    tokens: [OnceLock<IntCounter>; TokenType::ALL.len()],
    prompt_cache: [OnceLock<IntCounter>; PromptCache::ALL.len()],
    cost: OnceLock<Counter>,
}

/// Series of a (route, provider) pair.
#[derive(Default)]
struct PairSeries {
    /// By operation.
    duration: [[OnceLock<Histogram>; 2]; OPERATIONS],
    first_token: OnceLock<Histogram>,
    per_output_token: OnceLock<Histogram>,
}

/// Series of a route.
struct RouteSeries {
    /// Index of the pair of this route without provider, followed by those with its providers.
    first_pair: usize,
    overhead: OnceLock<Histogram>,
    in_flight: IntGauge,
    open_streams: IntGauge,
    disconnects: [OnceLock<IntCounter>; Phase::ALL.len()],
    retries_over_budget: IntCounter,
}

/// Series of a provider.
struct ProviderSeries {
    /// By operation and outcome. Those of chat are exported from the start, at zero.
    attempts: Vec<[OnceLock<IntCounter>; Outcome::ALL.len()]>,
    /// By field; the last one is [`OTHER`].
    dropped: Vec<OnceLock<IntCounter>>,
}

/// The handles of one configuration.
pub struct Metrics {
    families: Arc<Families>,
    names: Names,
    /// The first one is for requests without a route.
    routes: Vec<RouteSeries>,
    pairs: Vec<OnceLock<Box<PairSeries>>>,
    accounts: Vec<OnceLock<Box<TeamSeries>>>,
    providers: Vec<ProviderSeries>,
    decisions: Vec<IntCounter>,
    auth_failures: Vec<IntCounter>,
    rejected: Vec<IntCounter>,
    reloads: Vec<IntCounter>,
    last_reload: Vec<Gauge>,
    targets: Vec<IntGauge>,
    config_rejected: IntGauge,
    store_calls: IntCounter,
    store_errors: IntCounter,
    log_dropped: IntCounter,
    spans: SpanCounters,
    process: ProcessCollector,
}

impl Metrics {
    /// Creates the handles of a configuration. Counters continue those of `previous`.
    ///
    /// # Errors
    /// Never, with the constant names of this module.
    pub fn new(names: Names, previous: Option<&Self>) -> prometheus::Result<Self> {
        let families = match previous {
            Some(metrics) => Arc::clone(&metrics.families),
            None => {
                let mut families = Families::new()?;
                let (first_token, total) = names.deadlines;
                families.first_token.extend_buckets(DEADLINES, first_token.as_secs_f64());
                families.duration.extend_buckets(DEADLINES, total.as_secs_f64());
                Arc::new(families)
            }
        };
        remove_stale_series(&families, &names);
        let mut pairs = 0;
        let reaches = std::iter::once((NONE, 0)).chain(names.routes.iter().map(|(name, reach)| (name.as_ref(), reach.len())));
        let routes: Vec<_> = reaches
            .map(|(name, reach)| {
                let first_pair = pairs;
                pairs += reach + 1;
                RouteSeries {
                    first_pair,
                    overhead: OnceLock::new(),
                    in_flight: families.in_flight.series(&[name]),
                    open_streams: families.open_streams.series(&[name]),
                    disconnects: Default::default(),
                    retries_over_budget: families.retries_over_budget.series(&[name]),
                }
            })
            .collect();
        let providers = names.providers.iter().map(|_| ProviderSeries {
            attempts: (0..Operation::COUNT).map(|_| Default::default()).collect(),
            dropped: (0..=Field::ALL.len()).map(|_| OnceLock::new()).collect(),
        });
        let decisions = Scope::ALL.iter().flat_map(|scope| {
            Dimension::ALL.iter().flat_map(|dimension| {
                Decision::ALL.iter().map(|decision| families.decisions.series(&[scope.name(), dimension.name(), decision.name()]))
            })
        });
        families.build.series(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            providers: providers.collect(),
            decisions: decisions.collect(),
            routes,
            pairs: slots(pairs),
            accounts: slots(pairs.saturating_mul(names.teams.len() + 1)),
            auth_failures: AuthFailure::ALL.iter().map(|reason| families.auth_failures.series(&[reason.name()])).collect(),
            rejected: Rejected::ALL.iter().map(|reason| families.rejected.series(&[reason.name()])).collect(),
            reloads: Reload::ALL.iter().map(|result| families.reloads.series(&[result.name()])).collect(),
            last_reload: Reload::ALL.iter().map(|result| families.last_reload.series(&[result.name()])).collect(),
            targets: names.targets.iter().map(|(route, target)| families.targets.series(&[names.route(Some(*route)), target])).collect(),
            config_rejected: families.config_rejected.series(&[]),
            store_calls: families.store_calls.series(&[]),
            store_errors: families.store_errors.series(&[]),
            log_dropped: families.log_dropped.series(&[]),
            spans: SpanCounters {
                exported: families.spans_exported.series(&[]),
                dropped: SpanLoss::ALL.iter().map(|reason| families.spans_dropped.series(&[reason.name()])).collect(),
            },
            process: ProcessCollector::for_self(),
            names,
            families,
        };
        for (gauge, (route, target)) in metrics.targets.iter().zip(&metrics.names.targets) {
            let same =
                |old: &Names, (of, name): &(usize, String)| name == target && old.route(Some(*of)) == metrics.names.route(Some(*route));
            if !previous.is_some_and(|old| old.names.targets.iter().any(|known| same(&old.names, known))) {
                gauge.set(1);
            }
        }
        metrics.show_every_family();
        Ok(metrics)
    }

    /// The names of its series.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Counters of spans.
    pub fn spans(&self) -> SpanCounters {
        self.spans.clone()
    }

    /// Exports each unused family with one series at zero, so that dashboards find it.
    fn show_every_family(&self) {
        let (route, provider) = match self.names.routes.first() {
            Some((_, reach)) => (Some(0), reach.first().copied()),
            None => (None, None),
        };
        if let Some(account) = self.account(None, None, None) {
            self.requests(account, (None, None, None), None, 404);
            self.failed_streams(account, (None, None, None), None, 502);
            for kind in TokenType::ALL {
                self.tokens(account, (None, None, None), *kind);
            }
            for kind in PromptCache::ALL {
                self.prompt_cache(account, (None, None, None), *kind);
            }
            self.cost(account, (None, None, None));
        }
        if let Some(pair) = self.pair(route, provider) {
            self.duration(pair, (route, provider), Some(Operation::Chat), false);
            self.first_token(pair, (route, provider));
            self.per_output_token(pair, (route, provider));
        }
        // Requests rejected before routing.
        if let Some(pair) = self.pair(None, None) {
            self.duration(pair, (None, None), None, false);
        }
        self.overhead(None);
        self.overhead(route);
        self.disconnect_counter(route, Phase::Answer);
        for provider in 0..self.providers.len() {
            for outcome in Outcome::ALL {
                self.attempts(provider, Operation::Chat, *outcome);
            }
            self.dropped_counter(provider, OTHER);
        }
    }

    /// Records a finished request; `operation`: what it asked a model for.
    pub fn request_finished(&self, ledger: &Ledger, operation: Option<Operation>) {
        let labels = (ledger.route, ledger.team, ledger.provider);
        if let Some(account) = self.account(labels.0, labels.1, labels.2) {
            if let Some(counter) = self.requests(account, labels, operation, ledger.status) {
                counter.inc();
            }
            if let Some(counter) = ledger.failed.and_then(|status| self.failed_streams(account, labels, operation, status)) {
                counter.inc();
            }
            let usage = &ledger.usage;
            let counts = [usage.prompt, usage.completion, usage.cached, usage.reasoning];
            for (kind, count) in TokenType::ALL.iter().zip(counts).filter(|(_, count)| *count > 0) {
                if let Some(counter) = self.tokens(account, labels, *kind) {
                    counter.inc_by(count);
                }
            }
            // Counted from the first prompt on that a cache had a part of: most providers tell nothing of theirs.
            if usage.cached > 0 || usage.cache_write > 0 || account.prompt_cache.iter().any(|series| series.get().is_some()) {
                let none = usage.prompt.saturating_sub(usage.cached).saturating_sub(usage.cache_write);
                let counts = [usage.cached, usage.cache_write, none];
                for (kind, count) in PromptCache::ALL.iter().zip(counts).filter(|(_, count)| *count > 0) {
                    if let Some(counter) = self.prompt_cache(account, labels, *kind) {
                        counter.inc_by(count);
                    }
                }
            }
            if ledger.micro_usd > 0 {
                self.cost(account, labels).inc_by(ledger.micro_usd as f64 / 1e6);
            }
        }
        if let Some(pair) = self.pair(ledger.route, ledger.provider) {
            let labels = (ledger.route, ledger.provider);
            if let Some(histogram) = self.duration(pair, labels, operation, ledger.stream) {
                histogram.observe(ledger.duration.as_secs_f64());
            }
            // Whole answers have no time to first token.
            if let Some(time) = ledger.ttft.filter(|_| ledger.stream) {
                self.first_token(pair, labels).observe(time.as_secs_f64());
                if let Some(time) = ledger.per_output_token() {
                    self.per_output_token(pair, labels).observe(time.as_secs_f64());
                }
            }
        }
        // Requests rejected immediately have no measured overhead.
        if !ledger.overhead.is_zero()
            && let Some(histogram) = self.overhead(ledger.route)
        {
            histogram.observe(ledger.overhead.as_secs_f64());
        }
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn enter(&self, route: Option<usize>, stream: bool) -> InFlight {
        let series = self.route(route);
        let gauges = [series.map(|s| s.in_flight.clone()), series.filter(|_| stream).map(|s| s.open_streams.clone())];
        gauges.iter().flatten().for_each(IntGauge::inc);
        InFlight(gauges)
    }

    /// Records that a retry was not made, because the route's retry budget is spent.
    pub fn retry_over_budget(&self, route: usize) {
        if let Some(series) = self.route(Some(route)) {
            series.retries_over_budget.inc();
        }
    }

    /// Records an attempt.
    pub fn attempt(&self, provider: usize, operation: Operation, outcome: Outcome) {
        if let Some(counter) = self.attempts(provider, operation, outcome) {
            counter.inc();
        }
    }

    /// Records a failed authentication or authorization.
    pub fn auth_failure(&self, reason: AuthFailure) {
        if let Some(counter) = self.auth_failures.get(reason as usize) {
            counter.inc();
        }
    }

    /// Records a rejected client connection or request head.
    pub fn connection_rejected(&self, reason: Rejected) {
        if let Some(counter) = self.rejected.get(reason as usize) {
            counter.inc();
        }
    }

    /// Records a dropped request field; an unknown name counts as `other`.
    pub fn dropped_param(&self, provider: usize, param: &str) {
        if let Some(counter) = self.dropped_counter(provider, param) {
            counter.inc();
        }
    }

    /// Records a client disconnect.
    pub fn client_disconnected(&self, route: Option<usize>, phase: Phase) {
        if let Some(counter) = self.disconnect_counter(route, phase) {
            counter.inc();
        }
    }

    /// Records a reload at a time in seconds since the epoch.
    pub fn reload(&self, result: Reload, at: f64) {
        if let (Some(counter), Some(gauge)) = (self.reloads.get(result as usize), self.last_reload.get(result as usize)) {
            counter.inc();
            gauge.set(at);
        }
        self.config_rejected.set(i64::from(result == Reload::Rejected));
    }

    /// Sets the state of a target, by `Target::index`.
    pub fn target_state(&self, target: usize, healthy: bool) {
        if let Some(gauge) = self.targets.get(target) {
            gauge.set(i64::from(healthy));
        }
    }

    /// All metrics in the Prometheus text format. `log_lines_dropped` is the log's counter.
    ///
    /// # Errors
    /// When encoding fails.
    pub fn text(&self, log_lines_dropped: u64) -> prometheus::Result<String> {
        self.log_dropped.inc_by(log_lines_dropped.saturating_sub(self.log_dropped.get()));
        let mut text = String::new();
        let encoder = TextEncoder::new();
        encoder.encode_utf8(&self.families.collect(), &mut text)?;
        encoder.encode_utf8(&self.process.collect(), &mut text)?;
        Ok(text)
    }

    fn route(&self, route: Option<usize>) -> Option<&RouteSeries> {
        self.routes.get(route.map_or(0, |index| index + 1))
    }

    /// Index of a pair; a provider that the route cannot reach counts as none.
    fn pair_number(&self, route: Option<usize>, provider: Option<usize>) -> Option<usize> {
        let reach = route.and_then(|index| self.names.routes.get(index)).map_or([].as_slice(), |(_, reach)| reach);
        let at = provider.and_then(|provider| reach.iter().position(|known| *known == provider));
        Some(self.route(route)?.first_pair + at.map_or(0, |at| at + 1))
    }

    fn pair(&self, route: Option<usize>, provider: Option<usize>) -> Option<&PairSeries> {
        Some(self.pairs.get(self.pair_number(route, provider)?)?.get_or_init(Box::default))
    }

    fn account(&self, route: Option<usize>, team: Option<usize>, provider: Option<usize>) -> Option<&TeamSeries> {
        let number = self.pair_number(route, provider)? * (self.names.teams.len() + 1) + team.map_or(0, |index| index + 1);
        Some(self.accounts.get(number)?.get_or_init(Box::default))
    }

    fn requests<'a>(&self, account: &'a TeamSeries, labels: Labels, operation: Option<Operation>, code: u16) -> Option<&'a IntCounter> {
        self.by_status(&self.families.requests, &account.requests, labels, operation, code)
    }

    fn failed_streams<'a>(
        &self,
        account: &'a TeamSeries,
        labels: Labels,
        operation: Option<Operation>,
        code: u16,
    ) -> Option<&'a IntCounter> {
        let series = account.failed_streams.get_or_init(Box::default);
        self.by_status(&self.families.failed_streams, series, labels, operation, code)
    }

    fn by_status<'a>(
        &self,
        family: &Family<IntCounter>,
        series: &'a ByStatus,
        (route, team, provider): Labels,
        operation: Option<Operation>,
        code: u16,
    ) -> Option<&'a IntCounter> {
        let (number, code) = status(code);
        let (at, operation) = operation_label(operation);
        let names = &self.names;
        let make = || family.series(&[names.route(route), names.team(team), names.provider(provider), operation, code]);
        Some(series.get(at)?.get_or_init(Box::default).get(number)?.get_or_init(make))
    }

    fn attempts(&self, provider: usize, operation: Operation, outcome: Outcome) -> Option<&IntCounter> {
        let make = || self.families.attempts.series(&[self.names.provider(Some(provider)), operation.name(), outcome.name()]);
        Some(self.providers.get(provider)?.attempts.get(operation.index())?.get(outcome as usize)?.get_or_init(make))
    }

    fn tokens<'a>(&self, account: &'a TeamSeries, (route, team, provider): Labels, kind: TokenType) -> Option<&'a IntCounter> {
        let (route, team, provider) = (self.names.route(route), self.names.team(team), self.names.provider(provider));
        Some(account.tokens.get(kind as usize)?.get_or_init(|| self.families.tokens.series(&[route, team, provider, kind.name()])))
    }

    fn prompt_cache<'a>(&self, account: &'a TeamSeries, (route, team, provider): Labels, kind: PromptCache) -> Option<&'a IntCounter> {
        let (route, team, provider) = (self.names.route(route), self.names.team(team), self.names.provider(provider));
        let make = || self.families.prompt_cache.series(&[route, team, provider, kind.name()]);
        Some(account.prompt_cache.get(kind as usize)?.get_or_init(make))
    }

    fn cost<'a>(&self, account: &'a TeamSeries, (route, team, provider): Labels) -> &'a Counter {
        let names = &self.names;
        account.cost.get_or_init(|| self.families.cost.series(&[names.route(route), names.team(team), names.provider(provider)]))
    }

    fn duration<'a>(
        &self,
        pair: &'a PairSeries,
        (route, provider): PairLabels,
        operation: Option<Operation>,
        stream: bool,
    ) -> Option<&'a Histogram> {
        let word = if stream { "true" } else { "false" };
        let (at, operation) = operation_label(operation);
        let make = || self.families.duration.series(&[self.names.route(route), self.names.provider(provider), operation, word]);
        Some(pair.duration.get(at)?.get(usize::from(stream))?.get_or_init(make))
    }

    fn first_token<'a>(&self, pair: &'a PairSeries, labels: PairLabels) -> &'a Histogram {
        pair.first_token.get_or_init(|| self.of_pair(&self.families.first_token, labels))
    }

    fn per_output_token<'a>(&self, pair: &'a PairSeries, labels: PairLabels) -> &'a Histogram {
        pair.per_output_token.get_or_init(|| self.of_pair(&self.families.per_output_token, labels))
    }

    fn of_pair<M: Child>(&self, family: &Family<M>, (route, provider): PairLabels) -> M {
        family.series(&[self.names.route(route), self.names.provider(provider)])
    }

    fn overhead(&self, route: Option<usize>) -> Option<&Histogram> {
        Some(self.route(route)?.overhead.get_or_init(|| self.families.overhead.series(&[self.names.route(route)])))
    }

    fn disconnect_counter(&self, route: Option<usize>, phase: Phase) -> Option<&IntCounter> {
        let make = || self.families.disconnects.series(&[self.names.route(route), phase.name()]);
        Some(self.route(route)?.disconnects.get(phase as usize)?.get_or_init(make))
    }

    fn dropped_counter(&self, provider: usize, param: &str) -> Option<&IntCounter> {
        let (number, name) = Field::of(param.as_bytes()).map_or((Field::ALL.len(), OTHER), |field| (field as usize, field.name()));
        let make = || self.families.dropped_params.series(&[self.names.provider(Some(provider)), name]);
        Some(self.providers.get(provider)?.dropped.get(number)?.get_or_init(make))
    }
}

/// Number and name of an operation as a label value.
fn operation_label(operation: Option<Operation>) -> (usize, &'static str) {
    operation.map_or((Operation::COUNT, NONE), |operation| (operation.index(), operation.name()))
}

/// Route, team and provider.
type Labels = (Option<usize>, Option<usize>, Option<usize>);
/// Route and provider.
type PairLabels = (Option<usize>, Option<usize>);

fn slots<T>(count: usize) -> Vec<OnceLock<T>> {
    (0..count).map(|_| OnceLock::new()).collect()
}

fn remove_stale_series(families: &Families, names: &Names) {
    let set = |all: &mut dyn Iterator<Item = &str>| all.chain([NONE]).map(str::to_owned).collect::<HashSet<_>>();
    let routes = set(&mut names.routes.iter().map(|(name, _)| name.as_ref()));
    let teams = set(&mut names.teams.iter().map(AsRef::as_ref));
    let providers = set(&mut names.providers.iter().map(AsRef::as_ref));
    let targets = set(&mut names.targets.iter().map(|(_, name)| name.as_str()));
    let attributes = set(&mut names.attributes.iter().map(|(name, _)| name.as_ref()));
    let values = set(&mut names.attributes.iter().flat_map(|(_, values)| values).map(AsRef::as_ref));
    families.retain(|label, value| match label {
        "route" => routes.contains(value),
        "team" => teams.contains(value),
        "provider" => providers.contains(value),
        "target" => targets.contains(value),
        "attribute" => attributes.contains(value),
        "value" => values.contains(value) || value == OTHER,
        _ => true,
    });
}

/// Guard of a request in flight.
#[must_use = "dropping it ends the count"]
pub struct InFlight([Option<IntGauge>; 2]);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.iter().flatten().for_each(IntGauge::dec);
    }
}

#[path = "attribute_metrics.rs"]
mod attributes;

#[path = "limit_metrics.rs"]
mod limits;

#[path = "totals.rs"]
mod totals;

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
