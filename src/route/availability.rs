//! Ejection of a target: a state machine in one atomic word. Time is passed in.
//!
//! ```text
//!             too many failures, or credential
//!             or model rejected: for the cooldown    cooldown over: the next request is the probe
//!  available ------------------------------> ejected -----------------------------------> probing
//!      ^                                        ^                                          |  |
//!      |                                        +------ failure: the cooldown doubles -----+  |
//!      +------------------------------------------- success -----------------------------------+
//! ```
//!
//! A provider's `retry-after` makes a target unavailable in the same way, without a probe afterwards.

use super::health::MAX_PAUSE;
use crate::route::settings::Ejection;
use crate::units::nanoseconds;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bits of [`State::until`]: milliseconds since the epoch, enough for 8,900 years.
const TIME_BITS: u32 = 48;
/// Bits of [`State::ejections`].
const COUNT_BITS: u32 = 8;
/// Bit of [`State::probing`].
const PROBING: u32 = TIME_BITS + COUNT_BITS;
/// First bit of [`State::cause`].
const CAUSE: u32 = PROBING + 1;

/// The effect of an attempt's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Counts as one of many.
    Plain,
    /// The only attempt at an ejected target; its result decides. An `early` one was made before the cooldown was over
    /// because no other target was left; its failure changes nothing.
    Probe {
        /// Made before the cooldown was over.
        early: bool,
    },
}

/// Why a target was ejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// Too many failures.
    #[default]
    Failures,
    /// The provider rejected the gateway's credential or account.
    Credential,
    /// The provider does not have the model.
    NotFound,
}

impl Cause {
    /// The name in `/status`.
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

/// The decoded state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Unavailable until then, in milliseconds since the epoch.
    until: u64,
    /// Consecutive ejections; 0 while available.
    ejections: u8,
    /// Whether a probe is in flight.
    probing: bool,
    /// Why it was ejected.
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

    fn is_paused(self, now: u64) -> bool {
        self.remaining(now) > 0
    }

    fn remaining(self, now: u64) -> u64 {
        self.until.saturating_mul(NANOS).saturating_sub(now)
    }

    /// Ejects for twice the previous cooldown.
    fn ejected(self, cause: Cause, rules: &Ejection, now: u64) -> Self {
        let doublings = u32::from(self.ejections).min(31);
        let wait = rules.initial.saturating_mul(1 << doublings).min(rules.max);
        Self { until: self.until.max(after(wait, now)), ejections: self.ejections.saturating_add(1), probing: false, cause }
    }
}

/// Nanoseconds in a millisecond.
const NANOS: u64 = 1_000_000;

/// End of a pause that begins now, rounded up to milliseconds.
fn after(wait: Duration, now: u64) -> u64 {
    now.saturating_add(nanoseconds(wait)).div_ceil(NANOS).min((1 << TIME_BITS) - 1)
}

/// See the module. Times are nanoseconds since the epoch.
#[derive(Debug, Default)]
pub struct Availability(AtomicU64);

impl Availability {
    fn load(&self) -> State {
        State::of(self.0.load(Ordering::Acquire))
    }

    /// Updates the state; returns the previous one, or `None` if unchanged.
    fn change(&self, next: impl Fn(State) -> Option<State>) -> Option<State> {
        let word = |word| next(State::of(word)).map(State::word);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, word).ok().map(State::of)
    }

    /// Pauses for `wait`, at most [`MAX_PAUSE`]. Never shortens a pause.
    pub fn pause(&self, wait: Duration, now: u64) {
        let until = after(wait.min(MAX_PAUSE), now);
        self.change(|s| (until > s.until).then_some(State { until, ..s }));
    }

    /// Whether to use it only if no other target remains.
    pub fn is_unavailable(&self, now: u64) -> bool {
        let s = self.load();
        s.is_paused(now) || s.probing
    }

    /// Whether it is ejected, including while it waits for a probe.
    pub fn is_ejected(&self) -> bool {
        self.load().ejections > 0
    }

    /// Why it is ejected; `None` if it is not.
    pub fn cause(&self) -> Option<Cause> {
        let s = self.load();
        (s.ejections > 0).then_some(s.cause)
    }

    /// Remaining time of the pause or cooldown.
    pub fn remaining(&self, now: u64) -> Duration {
        Duration::from_nanos(self.load().remaining(now))
    }

    /// Starts an attempt; `None` if unavailable.
    pub fn begin(&self, now: u64) -> Option<Role> {
        let s = self.change(|s| (!s.is_paused(now) && !s.probing).then_some(State { probing: s.ejections > 0, ..s }))?;
        Some(if s.ejections > 0 { Role::Probe { early: false } } else { Role::Plain })
    }

    /// Starts an attempt even if unavailable, because no other target remains.
    pub fn begin_forced(&self, now: u64) -> Role {
        let probe = self.change(|s| (s.ejections > 0 && !s.probing).then_some(State { probing: true, ..s }));
        probe.map_or(Role::Plain, |s| Role::Probe { early: s.is_paused(now) })
    }

    /// Ejects; returns the cooldown, or `None` if already ejected.
    pub fn eject(&self, cause: Cause, rules: &Ejection, now: u64) -> Option<Duration> {
        self.change(|s| (s.ejections == 0).then(|| s.ejected(cause, rules, now)))?;
        Some(self.remaining(now))
    }

    /// Ejects again after a failed probe; returns the new cooldown, if any.
    pub fn probe_failed(&self, early: bool, cause: Cause, rules: &Ejection, now: u64) -> Option<Duration> {
        if early {
            self.probe_inconclusive();
            return None;
        }
        self.change(|s| s.probing.then(|| s.ejected(cause, rules, now)))?;
        Some(self.remaining(now))
    }

    /// Makes the target available after a successful probe; returns why it was ejected.
    pub fn readmit(&self, early: bool) -> Option<Cause> {
        let until = |s: State| if early { 0 } else { s.until };
        let before = self.change(|s| Some(State { until: until(s), ..State::default() }))?;
        (before.ejections > 0).then_some(before.cause)
    }

    /// Ends a probe without a result; another one may follow.
    pub fn probe_inconclusive(&self) {
        self.change(|s| Some(State { probing: false, ..s }));
    }
}

#[cfg(test)]
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
        let s = Availability::default();
        assert_eq!(s.begin(0), Some(Role::Plain));
        s.pause(Duration::from_secs(50), SECOND);
        s.pause(Duration::from_secs(10), SECOND);
        assert_eq!((s.begin(51 * SECOND - 1), s.remaining(50 * SECOND)), (None, Duration::from_secs(1)));
        // It said itself when it is back: nobody has to try first.
        assert_eq!((s.begin(51 * SECOND), s.begin(51 * SECOND)), (Some(Role::Plain), Some(Role::Plain)));
        s.pause(Duration::from_secs(7200), 0);
        assert_eq!(s.remaining(0), Duration::from_secs(7200));
        s.pause(Duration::from_secs(90_000), 0);
        assert_eq!(s.remaining(0), MAX_PAUSE);
    }

    #[test]
    fn cooldowns_double_with_failed_probes_up_to_the_longest_and_begin_anew_after_a_good_one() {
        let s = Availability::default();
        let mut now = SECOND;
        assert_eq!(s.eject(Cause::Failures, &RULES, now), Some(Duration::from_secs(10)));
        assert_eq!(s.eject(Cause::Failures, &RULES, now), None);
        for wait in [20, 35, 35] {
            now += s.remaining(now).as_nanos() as u64;
            assert_eq!((s.begin(now), s.begin(now)), (Some(PROBE), None));
            assert_eq!(s.probe_failed(false, Cause::Failures, &RULES, now), Some(Duration::from_secs(wait)));
        }
        now += 35 * SECOND;
        assert_eq!(s.begin(now), Some(PROBE));
        s.readmit(false);
        assert_eq!((s.begin(now), s.is_ejected()), (Some(Role::Plain), false));
        assert_eq!(s.eject(Cause::Failures, &RULES, now), Some(Duration::from_secs(10)));
    }

    #[test]
    fn the_last_hope_is_asked_early_and_only_its_success_counts() {
        let s = Availability::default();
        s.eject(Cause::Failures, &RULES, 0);
        assert_eq!(s.begin_forced(SECOND), Role::Probe { early: true });
        assert_eq!(s.begin_forced(SECOND), Role::Plain);
        assert_eq!(s.probe_failed(true, Cause::Failures, &RULES, SECOND), None);
        assert_eq!(s.remaining(SECOND), Duration::from_secs(9));
        assert_eq!(s.begin_forced(SECOND), Role::Probe { early: true });
        s.readmit(true);
        assert_eq!(s.begin(SECOND), Some(Role::Plain));
    }

    #[test]
    fn why_it_is_out_is_known_until_it_is_back() {
        let s = Availability::default();
        assert_eq!((s.eject(Cause::Credential, &RULES, 0), s.cause()), (Some(Duration::from_secs(10)), Some(Cause::Credential)));
        assert_eq!((s.begin(10 * SECOND), s.cause()), (Some(PROBE), Some(Cause::Credential)));
        s.probe_failed(false, Cause::NotFound, &RULES, 10 * SECOND);
        assert_eq!(s.cause(), Some(Cause::NotFound));
        assert_eq!((s.begin(30 * SECOND), s.readmit(false), s.cause()), (Some(PROBE), Some(Cause::NotFound), None));
        assert_eq!((s.begin(30 * SECOND), s.readmit(false)), (Some(Role::Plain), None));
    }

    proptest! {
        /// Whatever happens in whatever order: never two probes, no cool-down beyond the longest, never lost for good.
        #[test]
        fn at_most_one_probe_and_always_a_way_back(steps in proptest::collection::vec((0..7u8, 0..20u64), 0..60)) {
            let s = Availability::default();
            let (mut now, mut probe) = (SECOND, None);
            for (step, seconds) in steps {
                now += seconds * SECOND;
                let role = match step {
                    0 => s.begin(now),
                    1 => Some(s.begin_forced(now)),
                    2 => { s.eject(Cause::Failures, &RULES, now); None }
                    3 => { s.pause(Duration::from_secs(seconds), now); None }
                    _ => {
                        match (step, probe.take()) {
                            (4, Some(early)) => { s.probe_failed(early, Cause::NotFound, &RULES, now); }
                            (5, Some(early)) => { s.readmit(early); }
                            (6, Some(_)) => s.probe_inconclusive(),
                            _ => {}
                        }
                        None
                    }
                };
                if let Some(Role::Probe { early }) = role {
                    prop_assert_eq!(probe.replace(early), None);
                }
                prop_assert!(s.remaining(now) <= RULES.max);
                prop_assert_eq!(s.load(), State::of(s.load().word()));
            }
            if probe.is_some() {
                s.probe_inconclusive();
            }
            prop_assert!(s.begin(now + 35 * SECOND).is_some());
        }
    }
}
