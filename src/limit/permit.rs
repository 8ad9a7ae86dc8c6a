//! An admitted request: what it has taken from which limits, wherever they are counted.

use super::estimate::Estimate;
use super::headers::LimitHeaders;
use super::memory::Limiter;
use super::redis::Shared;
use super::{Granted, Kinds, Refusal, Scope, Subject, Used};
use std::ops::Range;
use std::sync::Arc;

/// Where something has been counted.
#[derive(Clone, Debug)]
pub(super) enum Counted {
    /// In this process.
    Here,
    /// In the store that all nodes share.
    Shared(Arc<Shared>),
    /// Nowhere: the shared store failed and such requests are let through.
    Nowhere,
}

/// An admitted request. Only the stores make one. Dropping it frees its place, and gives back what was reserved unless
/// [`Permit::settle`] has said what was used.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct Permit {
    limiter: Arc<Limiter>,
    who: Subject,
    route: usize,
    counted: Counted,
    provider: Option<(usize, Counted)>,
    /// What a provider whose turn has not come yet has answered already, in the round trip of the admission.
    ahead: Option<(usize, Counted, Result<Granted, Refusal>)>,
    estimate: Estimate,
    granted: Granted,
    settled: bool,
    store_failed: bool,
}

impl Permit {
    pub(super) fn new(limiter: &Arc<Limiter>, who: Subject, route: usize, estimate: Estimate, counted: Counted, granted: Granted) -> Self {
        let limiter = Arc::clone(limiter);
        Self { limiter, who, route, counted, provider: None, ahead: None, estimate, granted, settled: false, store_failed: false }
    }

    /// Where the tightest limits stood when this request had been charged; those of providers that it was let to included.
    pub fn headers(&self) -> &LimitHeaders {
        &self.granted.headers
    }

    /// The kinds of limits of key, team and route that admitted it.
    pub fn kinds(&self) -> Kinds {
        self.granted.kinds
    }

    /// The shared store has not decided on all of it.
    pub(super) fn note_store_failure(&mut self) {
        self.store_failed = true;
    }

    /// Whether the shared store failed to decide on it, or on one of its attempts, so that `on_store_failure` applied.
    pub fn store_failed(&self) -> bool {
        self.store_failed
    }

    /// What was reserved.
    pub fn estimate(&self) -> Estimate {
        self.estimate
    }

    /// Charges the limits of the provider of one attempt in this process, all or none; an earlier attempt is left first.
    /// Tells which kinds admitted it.
    ///
    /// # Errors
    /// The provider's limit that would wait longest; the permit itself stays good.
    pub fn enter_provider(&mut self, provider: usize, now: u64) -> Result<Kinds, Refusal> {
        self.leave_provider();
        let granted = self.limiter.enter(provider, &self.estimate, now)?;
        Ok(self.entered(provider, Counted::Here, &granted))
    }

    /// The limits of the provider of one attempt have been charged.
    pub(super) fn entered(&mut self, provider: usize, counted: Counted, granted: &Granted) -> Kinds {
        self.granted.headers.merge(&granted.headers);
        self.provider = Some((provider, counted));
        granted.kinds
    }

    /// Keeps what a provider has answered until its turn.
    pub(super) fn keep_ahead(&mut self, provider: usize, counted: Counted, answer: Result<Granted, Refusal>) {
        self.ahead = Some((provider, counted, answer));
    }

    /// What was kept for this provider; what was kept for another is given back.
    pub(super) fn take_ahead(&mut self, provider: usize) -> Option<(Counted, Result<Granted, Refusal>)> {
        let (kept, counted, answer) = self.ahead.take()?;
        if kept == provider {
            return Some((counted, answer));
        }
        if answer.is_ok() {
            self.give_back(self.limiter.range(Scope::Provider, Some(kept)), &counted);
        }
        None
    }

    /// Gives back what a failed attempt reserved at its provider. The request itself stays counted there, as the
    /// provider counts it too.
    pub fn leave_provider(&mut self) {
        if let Some((provider, counted)) = self.provider.take() {
            self.give_back(self.limiter.range(Scope::Provider, Some(provider)), &counted);
        }
    }

    /// Replaces the reservation by what was really used, once; what is more than was reserved is charged to the future.
    pub fn settle(&mut self, used: Used, now: u64) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let settle = |cells: Range<usize>, counted: &Counted| match counted {
            Counted::Here => self.limiter.settle(cells, &self.estimate, &used, now),
            Counted::Shared(shared) => shared.settle(cells, &self.estimate, &used),
            Counted::Nowhere => {}
        };
        self.own().into_iter().for_each(|cells| settle(cells, &self.counted));
        if let Some((provider, counted)) = &self.provider {
            settle(self.limiter.range(Scope::Provider, Some(*provider)), counted);
        }
    }

    fn own(&self) -> [Range<usize>; 3] {
        own(&self.limiter, &self.who, self.route)
    }

    fn give_back(&self, cells: Range<usize>, counted: &Counted) {
        let unsettled = (!self.settled).then_some(&self.estimate);
        match counted {
            Counted::Here => self.limiter.leave(cells, unsettled),
            Counted::Shared(shared) => shared.leave(cells, unsettled),
            Counted::Nowhere => {}
        }
    }
}

/// Where the limits of key, team and route are.
pub(super) fn own(limiter: &Limiter, who: &Subject, route: usize) -> [Range<usize>; 3] {
    [limiter.range(Scope::Key, who.key), limiter.range(Scope::Team, who.team), limiter.range(Scope::Route, Some(route))]
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave_provider();
        if let Some((provider, counted, Ok(_))) = self.ahead.take() {
            self.give_back(self.limiter.range(Scope::Provider, Some(provider)), &counted);
        }
        self.own().into_iter().for_each(|cells| self.give_back(cells, &self.counted));
    }
}
