//! A token bucket in exact integers, for limits on requests and tokens. Time is passed in.
//!
//! The generic cell rate algorithm, stored as a draining level instead of a theoretical arrival time, because a level
//! stays valid when a reload changes the rate. One unit of cost is `period` ticks and one nanosecond drains `amount`
//! ticks, so nothing is rounded internally. Waits are rounded up and remaining amounts down, so that a client that
//! relies on them is admitted.

/// Drain rate and capacity of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    amount: u64,
    period: u64,
    burst: u64,
}

impl Rate {
    /// `amount` per `period` nanoseconds (at most 2^63), `burst` at once; a period or burst of 0 counts as 1. An amount
    /// of 0 admits nothing.
    pub const fn new(amount: u64, period: u64, burst: u64) -> Self {
        let period = if period == 0 { 1 } else { period };
        let burst = if burst == 0 { 1 } else { burst };
        Self { amount, period, burst }
    }

    /// The capacity.
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// The period, in nanoseconds.
    pub const fn period(&self) -> u64 {
        self.period
    }

    const fn ticks(&self, cost: u64) -> u128 {
        cost as u128 * self.period as u128
    }

    const fn nanoseconds(&self, ticks: u128) -> u64 {
        let amount = if self.amount == 0 { 1 } else { self.amount as u128 };
        let time = ticks.div_ceil(amount);
        if time > u64::MAX as u128 { u64::MAX } else { time as u64 }
    }
}

/// Level (used and not drained) and reservations.
///
/// Reservations do not drain: they are released, or replaced by the actual cost. Draining and refunding them would
/// erase usage by others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    level: u128,
    at: u64,
    reserved: u64,
}

impl Bucket {
    /// Ticks in the bucket at `now`, without reservations. `now` never runs backwards: an earlier one counts as the
    /// last seen.
    fn level(&self, rate: &Rate, now: u64) -> u128 {
        let drained = u128::from(now.saturating_sub(self.at)).saturating_mul(u128::from(rate.amount));
        self.level.saturating_sub(drained)
    }

    fn filled(&self, rate: &Rate, now: u64) -> u128 {
        self.level(rate, now).saturating_add(rate.ticks(self.reserved))
    }

    /// Drains up to `now`. Call it before the rate changes.
    pub fn drain(&mut self, rate: &Rate, now: u64) {
        self.level = self.level(rate, now);
        self.at = self.at.max(now);
    }

    /// Whether `cost` fits now. A cost above the burst fits an empty bucket.
    ///
    /// # Errors
    /// The shortest wait in nanoseconds after which it fits, if reservations settle at the reserved amount and no other
    /// request arrives.
    pub fn check(&self, rate: &Rate, cost: u64, now: u64) -> Result<(), u64> {
        if rate.amount == 0 {
            return Err(rate.period);
        }
        let wanted = self.filled(rate, now).saturating_add(rate.ticks(cost.min(rate.burst)));
        let over = wanted.saturating_sub(rate.ticks(rate.burst));
        if over == 0 { Ok(()) } else { Err(rate.nanoseconds(over)) }
    }

    /// Adds `cost` unconditionally; the level may exceed the burst.
    pub fn charge(&mut self, rate: &Rate, cost: u64, now: u64) {
        self.drain(rate, now);
        self.level = self.level.saturating_add(rate.ticks(cost));
    }

    /// Reserves `cost`.
    pub fn reserve(&mut self, cost: u64) {
        self.reserved = self.reserved.saturating_add(cost);
    }

    /// Releases a reservation.
    pub fn release(&mut self, cost: u64) {
        self.reserved = self.reserved.saturating_sub(cost);
    }

    /// The reserved amount.
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Amount used and not drained, rounded up.
    pub fn used(&self, rate: &Rate, now: u64) -> u64 {
        u64::try_from(self.level(rate, now).div_ceil(u128::from(rate.period))).unwrap_or(u64::MAX)
    }

    /// Amount that can be used at once now.
    pub fn remaining(&self, rate: &Rate, now: u64) -> u64 {
        let room = rate.ticks(rate.burst).saturating_sub(self.filled(rate, now));
        u64::try_from(room / u128::from(rate.period)).unwrap_or(u64::MAX)
    }

    /// Nanoseconds until the bucket is empty.
    pub fn reset(&self, rate: &Rate, now: u64) -> u64 {
        rate.nanoseconds(self.filled(rate, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * SECOND;

    #[test]
    fn five_a_minute_refills_one_every_twelve_seconds() {
        let rate = Rate::new(5, 60 * SECOND, 5);
        let mut bucket = Bucket::default();
        let now = 1_700_000_000 * SECOND;
        for left in [4, 3, 2, 1, 0] {
            assert_eq!(bucket.check(&rate, 1, now), Ok(()));
            bucket.charge(&rate, 1, now);
            assert_eq!(bucket.remaining(&rate, now), left);
        }
        assert_eq!(bucket.reset(&rate, now), 60 * SECOND);
        assert_eq!(bucket.check(&rate, 1, now), Err(12 * SECOND));
        assert_eq!(bucket.check(&rate, 1, now + 5 * SECOND), Err(7 * SECOND));
        assert_eq!(bucket.check(&rate, 1, now + 12 * SECOND), Ok(()));
        assert_eq!(bucket.check(&rate, 2, now + 12 * SECOND), Err(12 * SECOND));
    }

    #[test]
    fn a_trillion_in_a_second_and_one_in_thirty_days_are_both_exact() {
        let fast = Rate::new(1_000_000_000_000, SECOND, 1_000_000_000_000);
        let mut bucket = Bucket::default();
        for _ in 0..1000 {
            bucket.charge(&fast, 1, 0);
        }
        assert_eq!(bucket.remaining(&fast, 0), 1_000_000_000_000 - 1000);
        assert_eq!(bucket.reset(&fast, 0), 1, "a thousand of them drain in one nanosecond");

        let slow = Rate::new(7, 30 * DAY, 7);
        let mut bucket = Bucket::default();
        let mut now = 0;
        for _ in 0..7 {
            bucket.charge(&slow, 1, now);
        }
        for _ in 0..70 {
            now += bucket.check(&slow, 1, now).unwrap_err();
            bucket.charge(&slow, 1, now);
        }
        assert!(now - 10 * 30 * DAY < 70, "the roundings of seventy waits do not add up: {now}");
    }

    #[test]
    fn a_cost_beyond_the_burst_fits_an_empty_bucket_only_and_is_paid_in_full() {
        let rate = Rate::new(60, 60 * SECOND, 60);
        let mut bucket = Bucket::default();
        assert_eq!(bucket.check(&rate, 200, 0), Ok(()));
        bucket.charge(&rate, 200, 0);
        assert_eq!(bucket.remaining(&rate, 0), 0);
        assert_eq!(bucket.check(&rate, 1, 0), Err(141 * SECOND));
        assert_eq!(bucket.check(&rate, 200, 0), Err(200 * SECOND));
    }

    #[test]
    fn giving_a_reservation_back_late_does_not_wipe_out_what_others_used() {
        let rate = Rate::new(60, 60 * SECOND, 60);
        let mut bucket = Bucket::default();
        bucket.reserve(20);
        bucket.charge(&rate, 30, 120 * SECOND);
        bucket.release(20);
        assert_eq!(bucket.remaining(&rate, 120 * SECOND), 30);
    }

    #[test]
    fn an_amount_of_nothing_admits_nothing() {
        assert_eq!(Bucket::default().check(&Rate::new(0, SECOND, 5), 1, 0), Err(SECOND));
    }

    /// The same bucket, drained one nanosecond at a time.
    struct Naive {
        rate: (u64, u64, u64),
        level: u64,
        reserved: u64,
        now: u64,
    }

    impl Naive {
        fn wait(&mut self, nanoseconds: u64) {
            for _ in 0..nanoseconds {
                self.level = self.level.saturating_sub(self.rate.0);
                self.now += 1;
            }
        }

        fn fits(&self, cost: u64) -> bool {
            let (_, period, burst) = self.rate;
            let cost = if cost > burst { burst } else { cost };
            self.level + self.reserved * period + cost * period <= burst * period
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask(u64),
        Reserve(u64),
        Settle(u64),
        GiveBack,
        Wait(u64),
        Obey(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0u64..9).prop_map(Step::Ask),
            (0u64..9).prop_map(Step::Reserve),
            (0u64..9).prop_map(Step::Settle),
            Just(Step::GiveBack),
            (0u64..300).prop_map(Step::Wait),
            (1u64..9).prop_map(Step::Obey),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn it_decides_as_the_naive_one(amount in 1u64..20, period in 1u64..200, burst in 1u64..12, steps in steps()) {
            let rate = Rate::new(amount, period, burst);
            let mut bucket = Bucket::default();
            let mut naive = Naive { rate: (amount, period, burst), level: 0, reserved: 0, now: 0 };
            let mut open = Vec::new();
            for step in steps {
                match step {
                    Step::Ask(cost) => {
                        prop_assert_eq!(bucket.check(&rate, cost, naive.now).is_ok(), naive.fits(cost));
                        if naive.fits(cost) {
                            naive.level += cost * period;
                            bucket.charge(&rate, cost, naive.now);
                        }
                    }
                    Step::Reserve(cost) => {
                        if naive.fits(cost) {
                            naive.reserved += cost;
                            bucket.reserve(cost);
                            open.push(cost);
                        }
                    }
                    Step::Settle(used) => {
                        if let Some(cost) = open.pop() {
                            naive.reserved -= cost;
                            naive.level += used * period;
                            bucket.release(cost);
                            bucket.charge(&rate, used, naive.now);
                        }
                    }
                    Step::GiveBack => {
                        if let Some(cost) = open.pop() {
                            naive.reserved -= cost;
                            bucket.release(cost);
                        }
                    }
                    Step::Wait(time) => naive.wait(time),
                    Step::Obey(cost) => {
                        if !open.is_empty() {
                            continue;
                        }
                        if let Err(wait) = bucket.check(&rate, cost, naive.now) {
                            naive.wait(wait - 1);
                            prop_assert!(!naive.fits(cost), "the wait was not the shortest");
                            naive.wait(1);
                            prop_assert!(naive.fits(cost), "the wait was too short");
                            prop_assert_eq!(bucket.check(&rate, cost, naive.now), Ok(()));
                        }
                    }
                }
                let left = bucket.remaining(&rate, naive.now);
                prop_assert!(left <= burst);
                prop_assert!(left == 0 || naive.fits(left), "whoever is told of a remainder has it");
                prop_assert!(left == burst || !naive.fits(left + 1), "more was there than told");
            }
        }
    }
}
