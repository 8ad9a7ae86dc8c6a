//! The permit of an admitted request: which limits were charged, and in which store.

use super::estimate::Estimate;
use super::headers::LimitHeaders;
use super::memory::Limiter;
use super::redis::RedisLimiter;
use super::{Admission, LimitExceeded, LimitSet, Subject, Used};
use std::sync::Arc;

/// Where a group of limits was charged.
#[derive(Clone, Debug)]
pub(super) enum Counted {
    /// In this process.
    Local,
    /// In the shared store.
    Shared(Arc<RedisLimiter>),
    /// Not counted: the shared store failed under `on_store_failure: allow`.
    Uncounted,
}

/// A request that limits are charged with: whose it is, and what is reserved for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    pub(super) subject: Subject,
    pub(super) route: usize,
    pub(super) estimate: Estimate,
}

/// An admitted request. Dropping it releases its in-flight slots, and its reservations unless [`Permit::settle`] was
/// called.
#[derive(Debug)]
#[must_use = "dropping a permit releases its reservations"]
pub struct Permit {
    limiter: Arc<Limiter>,
    charge: Charge,
    counted: Counted,
    provider: Option<(usize, Counted)>,
    /// The decision on the first provider's limits, made in the round trip of the admission, by the same store, and not used yet.
    prefetched: Option<(usize, Result<Admission, LimitExceeded>)>,
    admission: Admission,
    settled: bool,
    store_failed: bool,
}

impl Permit {
    pub(super) fn new(limiter: &Arc<Limiter>, charge: Charge, counted: Counted, admission: Admission) -> Self {
        let limiter = Arc::clone(limiter);
        Self { limiter, charge, counted, provider: None, prefetched: None, admission, settled: false, store_failed: false }
    }

    /// State of the tightest limits when this request was charged, including those of its providers.
    pub fn headers(&self) -> &LimitHeaders {
        &self.admission.headers
    }

    /// The limits of key, team and route that were charged.
    pub fn kinds(&self) -> LimitSet {
        self.admission.kinds
    }

    /// Records that the shared store failed for part of this request.
    pub(super) fn note_store_failure(&mut self) {
        self.store_failed = true;
    }

    /// Whether `on_store_failure` was applied to this request or one of its attempts.
    pub fn store_failed(&self) -> bool {
        self.store_failed
    }

    /// The reserved amounts.
    pub fn estimate(&self) -> Estimate {
        self.charge.estimate
    }

    /// Charges all limits of a provider in this process, or none; releases the previous attempt first. Returns the
    /// charged limits.
    ///
    /// # Errors
    /// The provider limit with the longest wait. The permit stays valid.
    pub fn enter_provider(&mut self, provider: usize, now: u64) -> Result<LimitSet, LimitExceeded> {
        self.leave_provider();
        let admission = self.limiter.enter(provider, &self.charge.estimate, now)?;
        Ok(self.record_provider(provider, Counted::Local, &admission))
    }

    /// Records that the limits of a provider were charged.
    pub(super) fn record_provider(&mut self, provider: usize, counted: Counted, admission: &Admission) -> LimitSet {
        self.admission.headers.merge(&admission.headers);
        self.provider = Some((provider, counted));
        admission.kinds
    }

    /// Stores the decision on a provider that has not been tried yet.
    pub(super) fn store_prefetched(&mut self, provider: usize, decision: Result<Admission, LimitExceeded>) {
        self.prefetched = Some((provider, decision));
    }

    /// Takes the stored decision for `provider`; releases one that was made for another provider.
    pub(super) fn take_prefetched(&mut self, provider: usize) -> Option<Result<Admission, LimitExceeded>> {
        let prefetched = self.prefetched.take_if(|(stored, _)| *stored == provider);
        self.release_prefetched();
        prefetched.map(|(_, decision)| decision)
    }

    /// Releases the reservations of a provider that is passed over.
    pub fn release_prefetched(&mut self) {
        if let Some((provider, Ok(_))) = self.prefetched.take() {
            self.release_provider(provider, &self.counted);
        }
    }

    /// Releases the reservations of a failed attempt. It stays counted in `requests`, as the provider counts it too.
    pub fn leave_provider(&mut self) {
        if let Some((provider, counted)) = self.provider.take() {
            self.release_provider(provider, &counted);
        }
    }

    /// Replaces the reservations by the actual usage, once. Usage beyond the reservation is charged as well.
    pub fn settle(&mut self, used: Used, now: u64) {
        self.release_prefetched(); // it is not of an attempt, so nothing is charged to it
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let settle = |cell, counted: &Counted| match counted {
            Counted::Local => self.limiter.settle(cell, &self.charge.estimate, &used, now),
            Counted::Shared(redis) => redis.settle(cell, &self.charge.estimate, &used),
            Counted::Uncounted => {}
        };
        self.limiter.each_own(&self.charge.subject, Some(self.charge.route), |cell| settle(cell, &self.counted));
        if let Some((provider, counted)) = &self.provider {
            self.limiter.of_provider(*provider).for_each(|cell| settle(cell, counted));
        }
    }

    fn release(&self, cell: usize, counted: &Counted) {
        let unsettled = (!self.settled).then_some(&self.charge.estimate);
        match counted {
            Counted::Local => self.limiter.release(cell, unsettled),
            Counted::Shared(redis) => redis.release(cell, unsettled),
            Counted::Uncounted => {}
        }
    }

    fn release_provider(&self, provider: usize, counted: &Counted) {
        self.limiter.of_provider(provider).for_each(|cell| self.release(cell, counted));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave_provider();
        self.release_prefetched();
        self.limiter.each_own(&self.charge.subject, Some(self.charge.route), |cell| self.release(cell, &self.counted));
    }
}
