//! The script decides as the buckets and budgets of a single process do, number by number, at the edges of what may be
//! configured. The time of Redis is put into a copy of the script, so that both see the same moments.

use crate::support::Redis;
use tidegate::limit::budget::{Budget, BudgetExhausted, Spending};
use tidegate::limit::gcra::{Bucket, Rate};
use tidegate::limit::warn::Crossing;

const SCRIPT: &str = include_str!("../../src/limit/redis/decide.lua");
const NODE: &str = "n1";

/// Deterministic, so that a failure can be seen again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0 >> 11) * u128::from(below)) >> 53) as u64
    }
}

struct Limit {
    connection: redis::Connection,
    key: String,
    kind: &'static str,
    window: bool,
    amount: u64,
    period: u64,
    burst: u64,
    mark: u64,
}

impl Limit {
    fn call(&mut self, operation: &str, now: u64, a: i128, b: u64) -> Vec<i64> {
        let time = format!("{{ {}, {} }}", now / 1_000_000, now % 1_000_000);
        let script = SCRIPT.replace("redis.call('TIME')", &time);
        assert_ne!(script, SCRIPT);
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(2).arg("{tidegate}:node:n1").arg(&self.key);
        command.arg(operation).arg(NODE).arg(1_000_000_000_000_000u64).arg(1);
        command.arg(self.kind).arg(u8::from(self.window)).arg(self.amount).arg(self.period).arg(self.burst).arg(self.mark);
        command.arg(a.to_string()).arg(b);
        let answer = command.query(&mut self.connection).unwrap();
        let () = redis::cmd("PERSIST").arg(&self.key).query(&mut self.connection).unwrap();
        answer
    }
}

#[test]
fn the_script_agrees_with_the_bucket() {
    let redis = Redis::start();
    let () = redis.command(&["SET", "{tidegate}:node:n1", ""]);
    let day = 86_400_000_000;
    let most = 1_000_000_000_000_000;
    let mut warnings = 0;
    for (index, (amount, period, burst)) in [
        (5, 60_000_000, 5),
        (100, 3_600_000_000, 100),
        (7, 30 * day, 3),
        (200_000, 60_000_000, 1_000),
        (most, 1_000_000, most),
        (most - 1, 30 * day, most),
        (999_999_999_989, 30 * day - 1, 12_345_678_901),
        (1, 1_000_000, most),
    ]
    .into_iter()
    .enumerate()
    {
        let connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
        let mark = burst / 2 + 1;
        let mut limit = Limit { connection, key: format!("k{index}"), kind: "tokens", window: false, amount, period, burst, mark };
        let rate = Rate::new(amount, period * 1000, burst);
        let (mut bucket, mut crossing) = (Bucket::default(), Crossing::default());
        let mut dice = Dice(index as u64 + 1);
        let mut now = 1_800_000_000_000_000;
        let mut open: Vec<u64> = Vec::new();
        for step in 0..150 {
            now += dice.roll(4) * dice.roll(period / 2 + 2) / 3;
            let cost = 1 + dice.roll(burst + burst / 4 + 1).min(most - 1);
            match (dice.roll(3), open.pop()) {
                (0, Some(held)) => {
                    let answer = limit.call("settle", now, -i128::from(held), cost);
                    let before = bucket.used(&rate, now * 1000);
                    bucket.release(held);
                    bucket.charge(&rate, cost, now * 1000);
                    let after = bucket.used(&rate, now * 1000);
                    let warns = crossing.upwards((before, after), mark, now * 1000, period * 1000);
                    warnings += usize::from(warns);
                    assert_eq!(answer, [1, i64::from(warns)], "limit {index}, step {step}");
                }
                (_, held) => {
                    open.extend(held);
                    let answer = limit.call("admit", now, cost.into(), 0);
                    let asked = bucket.check(&rate, cost, now * 1000);
                    assert_eq!(answer[0] == 1, asked.is_ok(), "limit {index}, step {step}: {answer:?} {asked:?}");
                    match asked {
                        Ok(()) => {
                            bucket.reserve(cost);
                            open.push(cost);
                        }
                        Err(wait) => close(answer[2], wait, "wait"),
                    }
                    assert_eq!(answer[3] as u64, bucket.remaining(&rate, now * 1000), "limit {index}, step {step}");
                    close(answer[4], bucket.reset(&rate, now * 1000), "reset");
                }
            }
        }
    }
    assert!(warnings > 20, "{warnings}");
}

/// Microseconds that are these nanoseconds rounded up, or by one more where a double cannot hold them exactly.
fn close(micros: i64, nanos: u64, what: &str) {
    let want = (nanos.div_ceil(1000) as i64).min(9_000_000_000_000_000);
    let slack = 1 + want / 1_000_000_000_000_000;
    assert!((want..=want + slack).contains(&micros), "{what}: {micros} for {want}");
}

#[test]
fn the_script_agrees_with_the_budget() {
    let redis = Redis::start();
    let () = redis.command(&["SET", "{tidegate}:node:n1", ""]);
    let day = 86_400_000_000;
    let mut warnings = 0;
    for (index, (kind, amount, period, ceiling)) in [
        ("usd", 100, day, 100),
        ("usd", 1_000_000, 30 * day, 3_000_000),
        ("usd", 7, 1_000_000, 20),
        ("usd", 500, 31 * day, 500),
        ("tokens", 1000, day, 1000),
        ("tokens", 70_000, 31 * day, 70_000),
        ("requests", 9, day, 9),
        ("requests", 40, 31 * day, 40),
    ]
    .into_iter()
    .enumerate()
    {
        let connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
        let mark = ceiling / 2 + 1;
        let mut limit = Limit { connection, key: format!("k{index}"), kind, window: true, amount, period, burst: ceiling, mark };
        let budget = Budget::new(amount, period * 1000, ceiling);
        let (mut spending, mut crossing) = (Spending::default(), Crossing::default());
        let mut dice = Dice(index as u64 + 1);
        let mut now = 1_800_000_000_000_000;
        let mut open: Vec<u64> = Vec::new();
        for step in 0..150 {
            now += dice.roll(if kind == "requests" { period / 8 } else { period });
            let cost = if kind == "requests" { 1 } else { 1 + dice.roll(ceiling) };
            let mut charge = |spending: &mut Spending| {
                spending.charge(&budget, cost, now * 1000);
                let warns = crossing.in_window(spending.spent(&budget, now * 1000), mark, budget.end(now * 1000));
                warnings += usize::from(warns);
                i64::from(warns)
            };
            match (dice.roll(2), open.pop()) {
                (0, Some(held)) => {
                    let answer = limit.call("settle", now, -i128::from(held), cost);
                    spending.release(held);
                    assert_eq!(answer, [1, charge(&mut spending)], "limit {index}, step {step}");
                }
                (_, held) => {
                    open.extend(held);
                    let answer = limit.call("admit", now, cost.into(), 0);
                    let asked = spending.check(&budget, now * 1000);
                    let wait = match asked {
                        Ok(()) => 0,
                        Err(BudgetExhausted::Reserved) => 1_000_000,
                        Err(BudgetExhausted::Spent) => -(spending.renews_in(&budget, now * 1000) as i64) / 1000,
                    };
                    assert_eq!((answer[0] == 1, answer[2]), (asked.is_ok(), wait), "limit {index}, step {step}");
                    let warns = match (asked, kind) {
                        (Err(_), _) => 0,
                        (Ok(()), "requests") => charge(&mut spending),
                        (Ok(()), _) => {
                            spending.reserve(cost);
                            open.push(cost);
                            0
                        }
                    };
                    assert_eq!(answer[3] as u64, spending.remaining(&budget, now * 1000), "limit {index}, step {step}");
                    close(answer[4], budget.reset(now * 1000), "reset");
                    assert_eq!(answer[6], warns, "limit {index}, step {step}");
                }
            }
        }
    }
    assert!(warnings > 50, "{warnings}");
}

#[test]
fn concurrent_requests_warn_when_they_reach_the_mark_and_not_again_for_a_minute() {
    let redis = Redis::start();
    let () = redis.command(&["SET", "{tidegate}:node:n1", ""]);
    let connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let mut limit = Limit { connection, key: "c".to_owned(), kind: "concurrent", window: false, amount: 3, period: 1, burst: 3, mark: 2 };
    let minute = 60_000_000;
    let start = 1_800_000_000_000_000;
    let mut warns = |operation, now, change: i128| limit.call(operation, now, change, 0).last().copied();
    assert_eq!([warns("admit", start, 1), warns("admit", start, 1), warns("admit", start, 1)], [0, 1, 0].map(Some));
    assert_eq!([warns("settle", start, -2), warns("admit", start + 1, 1)], [0, 0].map(Some), "crossed again at once");
    assert_eq!([warns("settle", start, -1), warns("admit", start + minute, 1)], [0, 1].map(Some));
}

#[test]
fn a_note_of_a_warning_is_to_an_older_version_a_node_that_holds_nothing() {
    let redis = Redis::start();
    let () = redis.command(&["SET", "{tidegate}:node:n1", ""]);
    let connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let minute = 60_000_000;
    let mut limit =
        Limit { connection, key: "k".to_owned(), kind: "requests", window: false, amount: 2, period: minute, burst: 2, mark: 1 };
    assert_eq!(limit.call("admit", 1_800_000_000_000_000, 1, 0).last(), Some(&1));
    assert_eq!(redis.command::<String>(&["HGET", "k", "w"]), "0 1800000060000000");
}

#[test]
fn a_limit_that_has_seen_a_false_future_refills_once_the_clock_is_set_right() {
    let redis = Redis::start();
    let () = redis.command(&["SET", "{tidegate}:node:n1", ""]);
    let connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let minute = 60_000_000;
    let mut limit =
        Limit { connection, key: "k".to_owned(), kind: "requests", window: false, amount: 1, period: minute, burst: 1, mark: 0 };
    let (future, now) = (2_800_000_000_000_000, 1_800_000_000_000_000);
    assert_eq!(limit.call("admit", future, 1, 0)[0], 1);
    assert_eq!(limit.call("admit", future - minute / 2, 1, 0)[0], 0, "another server's clock, a little late");
    assert_eq!(limit.call("admit", now, 1, 0)[0], 0, "what is used stays used");
    assert_eq!(limit.call("admit", now + minute, 1, 0)[0], 1);
    // A budget, which comes back with its next period.
    (limit.key, limit.kind, limit.window) = ("b".to_owned(), "usd", true);
    assert_eq!(limit.call("settle", future, 0, 1), [1, 0]);
    assert_eq!(limit.call("admit", now, 1, 0)[2], -60_000_000, "what is spent stays spent");
    assert_eq!(limit.call("admit", now + minute, 1, 0)[0], 1);
}
