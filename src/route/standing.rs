//! Whether a target takes part: a small state machine in one atomic word, pure over the time that it is told.
//!
//! ```text
//!             too many failures, or a credential or
//!             a model is refused: for the cool-down       time is over: the next request is the probe
//! taking part ------------------------------------> out ----------------------------------------> probed
//!      ^                                            ^                                               |  |
//!      |                                            +------ it fails: the cool-down doubles --------+  |
//!      +---------------------------------- it is answered ---------------------------------------------+
//! ```
//!
//! A provider's `retry-after` lets a target rest the same way, with no probe afterwards: it said itself when it is back.

use super::health::MAX_REST;
use crate::route::settings::Ejection;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bits of [`State::until`]: milliseconds since the epoch for 8,900 years.
const TIME_BITS: u32 = 48;
/// Bits of [`State::ejections`].
const COUNT_BITS: u32 = 8;
/// Place of [`State::probing`].
const PROBING: u32 = TIME_BITS + COUNT_BITS;
/// Place of [`State::cause`].
const CAUSE: u32 = PROBING + 1;

/// How an attempt counts for the target that it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of many.
    Plain,
    /// The only one at an ejected target; what becomes of it decides. `early` before the time was over, because no other
    /// target was left: its failure changes nothing.
    Probe {
        /// See there.
        early: bool,
    },
}

/// Why a target is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// It failed too often.
    #[default]
    Failures,
    /// Its provider refuses the gateway's credential or account.
    Credential,
    /// Its provider does not know the model.
    NotFound,
}

impl Cause {
    /// The word in `/status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Credential => "credential",
            Self::NotFound => "not_found",
        }
    }

    fn of(bits: u64) -> Self {
        match bits & 3 {
            1 => Self::Credential,
            2 => Self::NotFound,
            _ => Self::Failures,
        }
    }
}

/// What the word says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// It rests until then, in milliseconds since the epoch.
    until: u64,
    /// Ejections since it last took part; 0 while it does.
    ejections: u8,
    /// Whether a probe is on its way.
    probing: bool,
    /// Why it is out, where it is.
    cause: Cause,
}

impl State {
    fn of(word: u64) -> Self {
        Self {
            until: word & ((1 << TIME_BITS) - 1),
            ejections: (word >> TIME_BITS) as u8,
            probing: word >> PROBING & 1 == 1,
            cause: Cause::of(word >> CAUSE),
        }
    }

    fn word(self) -> u64 {
        self.until | u64::from(self.ejections) << TIME_BITS | u64::from(self.probing) << PROBING | (self.cause as u64) << CAUSE
    }

    fn resting(self, now: u64) -> bool {
        self.left(now) > 0
    }

    fn left(self, now: u64) -> u64 {
        self.until.saturating_mul(NANOS).saturating_sub(now)
    }

    /// Out once more, for twice as long as the last time.
    fn ejected(self, cause: Cause, rules: &Ejection, now: u64) -> Self {
        let doublings = u32::from(self.ejections).min(31);
        let wait = rules.initial.saturating_mul(1 << doublings).min(rules.max);
        Self { until: self.until.max(after(wait, now)), ejections: self.ejections.saturating_add(1), probing: false, cause }
    }
}

/// Nanoseconds in a millisecond.
const NANOS: u64 = 1_000_000;

/// When a rest ends that begins now, rounded up.
fn after(wait: Duration, now: u64) -> u64 {
    let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
    now.saturating_add(wait).div_ceil(NANOS).min((1 << TIME_BITS) - 1)
}

/// See the module. Times are nanoseconds since the epoch.
#[derive(Debug, Default)]
pub struct Standing(AtomicU64);

impl Standing {
    fn load(&self) -> State {
        State::of(self.0.load(Ordering::Acquire))
    }

    /// Changes the state; gives the one before, `None` where nothing was to be changed.
    fn change(&self, next: impl Fn(State) -> Option<State>) -> Option<State> {
        let word = |word| next(State::of(word)).map(State::word);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, word).ok().map(State::of)
    }

    /// The provider's wish: it rests for `wait`, at most [`MAX_REST`]; a shorter wish than an earlier one does not wake it.
    pub fn rest(&self, wait: Duration, now: u64) {
        let until = after(wait.min(MAX_REST), now);
        self.change(|s| (until > s.until).then_some(State { until, ..s }));
    }

    /// Whether it should be asked only when nobody else is left.
    pub fn avoided(&self, now: u64) -> bool {
        let s = self.load();
        s.resting(now) || s.probing
    }

    /// Whether it is out, a probe still to come included.
    pub fn is_ejected(&self) -> bool {
        self.load().ejections > 0
    }

    /// Why it is out; `None` while it takes part or only rests.
    pub fn cause(&self) -> Option<Cause> {
        let s = self.load();
        (s.ejections > 0).then_some(s.cause)
    }

    /// For how long it still rests.
    pub fn left(&self, now: u64) -> Duration {
        Duration::from_nanos(self.load().left(now))
    }

    /// Whether it may be asked now, and as what.
    pub fn ask(&self, now: u64) -> Option<Role> {
        let s = self.change(|s| (!s.resting(now) && !s.probing).then_some(State { probing: s.ejections > 0, ..s }))?;
        Some(if s.ejections > 0 { Role::Probe { early: false } } else { Role::Plain })
    }

    /// It is asked although it should rest, because nobody else is left.
    pub fn ask_anyway(&self, now: u64) -> Role {
        let probe = self.change(|s| (s.ejections > 0 && !s.probing).then_some(State { probing: true, ..s }));
        probe.map_or(Role::Plain, |s| Role::Probe { early: s.resting(now) })
    }

    /// It is out from now on; for how long, unless it is out already.
    pub fn eject(&self, cause: Cause, rules: &Ejection, now: u64) -> Option<Duration> {
        self.change(|s| (s.ejections == 0).then(|| s.ejected(cause, rules, now)))?;
        Some(self.left(now))
    }

    /// The probe has failed; for how long it rests, where that is new.
    pub fn probe_failed(&self, early: bool, cause: Cause, rules: &Ejection, now: u64) -> Option<Duration> {
        if early {
            self.probe_told_nothing();
            return None;
        }
        self.change(|s| s.probing.then(|| s.ejected(cause, rules, now)))?;
        Some(self.left(now))
    }

    /// The probe was answered: it takes part again. Gives why it was out, where it was.
    pub fn readmit(&self, early: bool) -> Option<Cause> {
        let until = |s: State| if early { 0 } else { s.until };
        let before = self.change(|s| Some(State { until: until(s), ..State::default() }))?;
        (before.ejections > 0).then_some(before.cause)
    }

    /// The probe has ended without a verdict; another one may be made.
    pub fn probe_told_nothing(&self) {
        self.change(|s| Some(State { probing: false, ..s }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: Ejection = Ejection {
        failures: 5,
        share: 500_000,
        window: Duration::from_secs(30),
        initial: Duration::from_secs(10),
        max: Duration::from_secs(35),
    };
    const SECOND: u64 = 1_000_000_000;
    const PROBE: Role = Role::Probe { early: false };

    #[test]
    fn a_target_rests_until_its_time_and_a_shorter_wish_does_not_wake_it() {
        let s = Standing::default();
        assert_eq!(s.ask(0), Some(Role::Plain));
        s.rest(Duration::from_secs(50), SECOND);
        s.rest(Duration::from_secs(10), SECOND);
        assert_eq!((s.ask(51 * SECOND - 1), s.left(50 * SECOND)), (None, Duration::from_secs(1)));
        // It said itself when it is back: nobody has to try first.
        assert_eq!((s.ask(51 * SECOND), s.ask(51 * SECOND)), (Some(Role::Plain), Some(Role::Plain)));
        s.rest(Duration::from_secs(7200), 0);
        assert_eq!(s.left(0), Duration::from_secs(7200));
        s.rest(Duration::from_secs(90_000), 0);
        assert_eq!(s.left(0), MAX_REST);
    }

    #[test]
    fn cooldowns_double_with_failed_probes_up_to_the_longest_and_begin_anew_after_a_good_one() {
        let s = Standing::default();
        let mut now = SECOND;
        assert_eq!(s.eject(Cause::Failures, &RULES, now), Some(Duration::from_secs(10)));
        assert_eq!(s.eject(Cause::Failures, &RULES, now), None);
        for wait in [20, 35, 35] {
            now += s.left(now).as_nanos() as u64;
            assert_eq!((s.ask(now), s.ask(now)), (Some(PROBE), None));
            assert_eq!(s.probe_failed(false, Cause::Failures, &RULES, now), Some(Duration::from_secs(wait)));
        }
        now += 35 * SECOND;
        assert_eq!(s.ask(now), Some(PROBE));
        s.readmit(false);
        assert_eq!((s.ask(now), s.is_ejected()), (Some(Role::Plain), false));
        assert_eq!(s.eject(Cause::Failures, &RULES, now), Some(Duration::from_secs(10)));
    }

    #[test]
    fn the_last_hope_is_asked_early_and_only_its_success_counts() {
        let s = Standing::default();
        s.eject(Cause::Failures, &RULES, 0);
        assert_eq!(s.ask_anyway(SECOND), Role::Probe { early: true });
        assert_eq!(s.ask_anyway(SECOND), Role::Plain);
        assert_eq!(s.probe_failed(true, Cause::Failures, &RULES, SECOND), None);
        assert_eq!(s.left(SECOND), Duration::from_secs(9));
        assert_eq!(s.ask_anyway(SECOND), Role::Probe { early: true });
        s.readmit(true);
        assert_eq!(s.ask(SECOND), Some(Role::Plain));
    }

    #[test]
    fn why_it_is_out_is_known_until_it_is_back() {
        let s = Standing::default();
        assert_eq!((s.eject(Cause::Credential, &RULES, 0), s.cause()), (Some(Duration::from_secs(10)), Some(Cause::Credential)));
        assert_eq!((s.ask(10 * SECOND), s.cause()), (Some(PROBE), Some(Cause::Credential)));
        s.probe_failed(false, Cause::NotFound, &RULES, 10 * SECOND);
        assert_eq!(s.cause(), Some(Cause::NotFound));
        assert_eq!((s.ask(30 * SECOND), s.readmit(false), s.cause()), (Some(PROBE), Some(Cause::NotFound), None));
        assert_eq!((s.ask(30 * SECOND), s.readmit(false)), (Some(Role::Plain), None));
    }

    proptest! {
        /// Whatever happens in whatever order: never two probes, no cool-down beyond the longest, never lost for good.
        #[test]
        fn at_most_one_probe_and_always_a_way_back(steps in proptest::collection::vec((0..7u8, 0..20u64), 0..60)) {
            let s = Standing::default();
            let (mut now, mut probe) = (SECOND, None);
            for (step, seconds) in steps {
                now += seconds * SECOND;
                let role = match step {
                    0 => s.ask(now),
                    1 => Some(s.ask_anyway(now)),
                    2 => { s.eject(Cause::Failures, &RULES, now); None }
                    3 => { s.rest(Duration::from_secs(seconds), now); None }
                    _ => {
                        match (step, probe.take()) {
                            (4, Some(early)) => { s.probe_failed(early, Cause::NotFound, &RULES, now); }
                            (5, Some(early)) => { s.readmit(early); }
                            (6, Some(_)) => s.probe_told_nothing(),
                            _ => {}
                        }
                        None
                    }
                };
                if let Some(Role::Probe { early }) = role {
                    prop_assert_eq!(probe.replace(early), None);
                }
                prop_assert!(s.left(now) <= RULES.max);
                prop_assert_eq!(s.load(), State::of(s.load().word()));
            }
            if probe.is_some() {
                s.probe_told_nothing();
            }
            prop_assert!(s.ask(now + 35 * SECOND).is_some());
        }
    }
}
