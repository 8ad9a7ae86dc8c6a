//! `tidegate report`: spend, tokens, errors and times of the requests in access logs, by group.
//!
//! Memory is bounded: lines are read one at a time, and each of at most [`MAX_GROUPS`] groups and one of all others has counts and two
//! [`sketch`]es, fine ones in the first [`FINE_GROUPS`]. With buckets of 10 bytes in nodes that are at least half full, sketches are
//! below 700 MB whatever the times, and below 250 MB if these are between 1 ms and an hour.

use crate::account::EndedBy;
use crate::redact::truncated;
use crate::telemetry::record::AccessRecord;
use clap::ValueEnum;
use jiff::Timestamp;
use sketch::{Precision, Sketch};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

pub mod input;
pub mod render;
pub mod sketch;

/// Most groups of a report. A client of a pattern route chooses model names, so that there can be any number of them: requests of further
/// groups are counted together.
pub const MAX_GROUPS: usize = 10_000;
/// Groups with fine sketches.
const FINE_GROUPS: usize = 1_000;
/// The value of all columns of the group for requests after [`MAX_GROUPS`].
const OTHER: &str = "(other)";
/// Longest value of a column, in bytes: that of the configuration's names. Model names chosen by clients are cut off here.
const MAX_VALUE: usize = 256;

/// What requests are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum By {
    /// The team
    Team,
    /// The key's id
    Key,
    /// The route
    Route,
    /// The provider that answered
    Provider,
    /// The provider's model
    Model,
    /// The endpoint: chat, messages, embeddings …
    Operation,
    /// The status of the response
    Status,
    /// The day, in UTC
    Day,
    /// The hour, in UTC
    Hour,
}

impl By {
    /// Its name as a column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Key => "key",
            Self::Route => "route",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Operation => "operation",
            Self::Status => "status",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }
}

/// Which requests a report counts, by the time of their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// Those from this time on.
    pub from: Option<Timestamp>,
    /// Those before this time.
    pub to: Option<Timestamp>,
}

impl Period {
    fn contains(self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
    }
}

/// Requests of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All of them.
    pub requests: u64,
    /// Those that failed: with a status of 400 or above, except 499, or an answer that the provider or the gateway ended early.
    pub errors: u64,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Those of them from a cache.
    pub tokens_cached: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// Those of them that were reasoning.
    pub tokens_reasoning: u64,
    /// Cost in micro-dollars.
    pub micro_usd: u64,
    /// What cached tokens would have cost more at the price of input, in micro-dollars.
    pub saved_micro_usd: u64,
    /// From the first byte of a request to the last of its response.
    pub duration: Sketch,
    /// From the first byte of a request to the first content of its response.
    pub ttft: Sketch,
}

impl Totals {
    fn new(precision: Precision) -> Self {
        Self { duration: Sketch::new(precision), ttft: Sketch::new(precision), ..Self::default() }
    }

    fn add(&mut self, record: &AccessRecord<'_>) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.requests, 1);
        add(&mut self.errors, u64::from(is_error(record)));
        add(&mut self.tokens_in, record.tokens_in);
        add(&mut self.tokens_cached, record.tokens_cached);
        add(&mut self.tokens_out, record.tokens_out);
        add(&mut self.tokens_reasoning, record.tokens_reasoning);
        add(&mut self.micro_usd, record.cost_usd);
        add(&mut self.saved_micro_usd, record.cache_savings_usd);
        record.duration_ms.iter().for_each(|time| self.duration.add(*time));
        record.ttft_ms.iter().for_each(|time| self.ttft.add(*time));
    }

    /// Errors in millionths of the requests.
    pub fn error_rate(&self) -> u64 {
        u64::try_from(u128::from(self.errors) * 1_000_000 / u128::from(self.requests.max(1))).unwrap_or(u64::MAX)
    }
}

/// A client that has gone is no error: the status 499, or an answer that it did not wait for.
fn is_error(record: &AccessRecord<'_>) -> bool {
    let ended_by = |who: EndedBy| record.ended_by.as_ref().is_some_and(|word| word.0 == who.name());
    (record.status >= 400 && record.status != 499) || ended_by(EndedBy::Upstream) || ended_by(EndedBy::Gateway)
}

/// The values of a group's columns; `None` where the requests have none.
pub type Values = Vec<Option<Box<str>>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Report {
    /// The columns of a group.
    by: Vec<By>,
    period: Period,
    groups: HashMap<Box<str>, (Values, Totals)>,
    /// Requests of groups after [`MAX_GROUPS`].
    other: Option<(Values, Totals)>,
    total: Totals,
    /// Lines that are not requests.
    skipped: u64,
    /// The name of a line's group; kept to reuse the allocation.
    name: String,
}

impl Report {
    /// Nothing yet.
    pub fn new(mut by: Vec<By>, period: Period) -> Self {
        let mut known = HashSet::new();
        by.retain(|by| known.insert(*by));
        Self { by, period, ..Self::default() }
    }

    /// Counts a line.
    pub fn line(&mut self, line: &[u8]) {
        match crate::telemetry::record::read(line) {
            Some((time, record)) if self.period.contains(time) => self.request(time, &record),
            Some(_) => {}
            None => self.skipped += u64::from(!line.trim_ascii().is_empty()),
        }
    }

    /// Counts a line that is longer than any request's.
    pub fn skip(&mut self) {
        self.skipped += 1;
    }

    fn request(&mut self, time: Timestamp, record: &AccessRecord<'_>) {
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        for by in &self.by {
            // With its length before it, no value can look like two.
            let _infallible = match value(*by, time, record) {
                Some(value) => write!(name, "{}:{value}", value.len()),
                None => write!(name, "-"),
            };
        }
        let count = self.groups.len();
        if count < MAX_GROUPS && !self.groups.contains_key(name.as_str()) {
            let values = self.by.iter().map(|by| value(*by, time, record).map(Into::into)).collect();
            let precision = if count < FINE_GROUPS { Precision::Fine } else { Precision::Coarse };
            self.groups.insert(name.as_str().into(), (values, Totals::new(precision)));
        }
        let (_, totals) = match self.groups.get_mut(name.as_str()) {
            Some(group) => group,
            None => self.other.get_or_insert_with(|| (vec![Some(OTHER.into()); self.by.len()], Totals::default())),
        };
        totals.add(record);
        self.total.add(record);
        self.name = name;
    }

    /// The groups: those that cost most first, then those with most requests, then by their values; the last is that of requests after
    /// [`MAX_GROUPS`], if there are any.
    pub fn sorted(&self) -> Vec<(&Values, &Totals)> {
        let mut groups: Vec<_> = self.groups.values().map(|(values, totals)| (values, totals)).collect();
        let order = |(_, totals): &(&Values, &Totals)| (std::cmp::Reverse(totals.micro_usd), std::cmp::Reverse(totals.requests));
        groups.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.0.cmp(b.0)));
        groups.extend(self.other.iter().map(|(values, totals)| (values, totals)));
        groups
    }

    /// Requests that are counted in no group of their own, because there were [`MAX_GROUPS`] before them.
    pub fn other_requests(&self) -> u64 {
        self.other.as_ref().map_or(0, |(_, totals)| totals.requests)
    }

    /// Errors of times, as shares of them.
    pub fn precision(&self) -> Precision {
        if self.groups.len() > FINE_GROUPS { Precision::Coarse } else { Precision::Fine }
    }

    /// How many lines were not requests. Empty lines do not count.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// The value of a column.
fn value<'r>(by: By, time: Timestamp, record: &'r AccessRecord<'_>) -> Option<Cow<'r, str>> {
    let text = match by {
        By::Team => &record.team,
        By::Key => &record.key,
        By::Route => &record.route,
        By::Provider => &record.provider,
        By::Model => &record.upstream_model,
        By::Operation => &record.endpoint,
        By::Status => return Some(record.status.to_string().into()),
        // RFC 3339 in UTC: 2026-01-01T00:00:00Z
        By::Day => return time.to_string().get(..10).map(|day| day.to_owned().into()),
        By::Hour => return time.to_string().get(..13).map(|hour| format!("{hour}:00Z").into()),
    };
    text.as_ref().map(|text| truncated(&text.0, MAX_VALUE).into())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
