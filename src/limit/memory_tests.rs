//! What the limits of one process promise.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use super::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_800_000_000 * SECOND;
const KEY_AND_TEAM: Subject = Subject { key: Some(0), team: Some(0) };

fn rule(dimension: Dimension, amount: u64, seconds: u64) -> LimitRule {
    LimitRule { dimension, amount, per: Duration::from_secs(seconds), burst: amount }
}

fn rules<'a>(key: &'a [LimitRule], team: &'a [LimitRule], route: &'a [LimitRule], provider: &'a [LimitRule]) -> [Rules<'a>; 4] {
    [vec![("key".into(), key)], vec![("team".into(), team)], vec![("route".into(), route)], vec![("provider".into(), provider)]]
}

fn limiter(rules: [Rules<'_>; 4]) -> Arc<Limiter> {
    Arc::new(Limiter::with(rules, None, NOW))
}

fn estimate(tokens: u64) -> Estimate {
    Estimate { tokens, micro_usd: 10 * tokens }
}

fn used(tokens: u64) -> Used {
    Used { tokens, micro_usd: 10 * tokens }
}

#[test]
fn a_thousand_at_once_get_exactly_a_hundred() {
    let team = [rule(Dimension::Requests, 100, 3600)];
    let key = [rule(Dimension::Requests, 1000, 3600)];
    let limiter = limiter(rules(&key, &team, &[], &[]));
    let (admitted, barrier) = (AtomicUsize::new(0), Barrier::new(20));
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..50 {
                    if limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOW).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.load(Ordering::Relaxed), 100);
    let remaining: Vec<_> = limiter.statuses(NOW).map(|(_, _, status)| status.remaining).collect();
    assert_eq!(remaining, [900, 0], "subject the team refused was not charged to the key");
}

#[test]
fn a_step_of_the_wall_clock_begins_a_new_day_for_money_and_for_nothing_else() {
    const DAY: u64 = 86_400 * SECOND;
    let key = [rule(Dimension::Usd, 10, 86_400), rule(Dimension::Requests, 1, 86_400)];
    let limiter = limiter(rules(&key, &[], &[], &[]));
    let noon = NOW - NOW % DAY + DAY / 2;
    limiter.wall.set(noon, noon);
    let mut permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(1), noon).unwrap();
    permit.settle(used(1), noon);
    drop(permit);
    let status = |dimension| limiter.statuses(noon).find(|(_, of, _)| *of == dimension).unwrap().2;
    assert_eq!((status(Dimension::Usd).remaining, status(Dimension::Usd).reset.as_secs()), (0, 12 * 3600));
    // The machine was suspended for 13 hours, or its clock was set.
    limiter.wall.set(noon, noon + 13 * 3600 * SECOND);
    assert_eq!((status(Dimension::Usd).remaining, status(Dimension::Usd).reset.as_secs()), (10, 23 * 3600));
    assert_eq!(status(Dimension::Requests).remaining, 0);
}

#[test]
fn a_budget_that_was_spent_in_a_false_future_is_whole_again_the_day_after_the_clock_is_set_right() {
    const DAY: u64 = 86_400 * SECOND;
    let key = [rule(Dimension::Usd, 10, 86_400)];
    let limiter = limiter(rules(&key, &[], &[], &[]));
    let noon = NOW - NOW % DAY + DAY / 2;
    limiter.wall.set(noon, noon + 4_000 * DAY);
    let mut permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(1), noon).unwrap();
    permit.settle(used(1), noon);
    drop(permit);
    limiter.wall.set(noon, noon);
    assert!(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), noon).is_err(), "what is spent stays spent");
    assert!(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), noon + DAY).is_ok());
}

#[test]
fn five_a_minute_count_down_and_tell_the_wait() {
    let key = [rule(Dimension::Requests, 5, 60)];
    let limiter = limiter(rules(&key, &[], &[], &[]));
    let mut remaining = Vec::new();
    for step in 0..5 {
        let now = NOW + step * SECOND / 100;
        assert_eq!(limiter.peek(&KEY_AND_TEAM, now), Ok(()));
        let permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(10), now).unwrap();
        remaining.push(permit.headers().requests.unwrap().remaining);
    }
    assert_eq!(remaining, [4, 3, 2, 1, 0]);
    let refusal = limiter.admit(&KEY_AND_TEAM, 0, estimate(10), NOW + SECOND / 20).unwrap_err();
    assert_eq!((refusal.scope, refusal.dimension, refusal.limit), (Scope::Key, Dimension::Requests, 5));
    let wait = refusal.retry_after.unwrap();
    assert!(wait <= Duration::from_secs(12) && wait > Duration::from_secs(11), "{wait:?}");
    assert_eq!(limiter.peek(&KEY_AND_TEAM, NOW + SECOND / 20).unwrap_err(), refusal);
    drop(limiter.admit(&KEY_AND_TEAM, 0, estimate(10), NOW + SECOND / 20 + nanoseconds(wait)).unwrap());
}

#[test]
fn answers_longer_than_estimated_are_paid_by_the_future() {
    let key = [rule(Dimension::Tokens, 60, 60)];
    let limiter = limiter(rules(&key, &[], &[], &[]));
    let mut admitted = 0;
    for _ in 0..8 {
        if let Ok(mut permit) = limiter.admit(&KEY_AND_TEAM, 0, estimate(15), NOW) {
            permit.settle(used(30), NOW);
            admitted += 1;
        }
    }
    assert_eq!(admitted, 2);
    let mut permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(60), NOW + 60 * SECOND).unwrap();
    permit.settle(used(600), NOW + 60 * SECOND);
    drop(permit);
    let refusal = limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOW + 60 * SECOND).unwrap_err();
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(541)));
}

#[test]
fn an_estimate_beyond_the_burst_is_admitted_when_nothing_is_used() {
    let key = [rule(Dimension::Tokens, 60, 60)];
    let limiter = limiter(rules(&key, &[], &[], &[]));
    let first = limiter.admit(&KEY_AND_TEAM, 0, estimate(5000), NOW).unwrap();
    assert_eq!(first.headers().tokens.unwrap().remaining, 0);
    assert!(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOW).is_err());
    drop(first);
    drop(limiter.admit(&KEY_AND_TEAM, 0, estimate(60), NOW).unwrap());
}

#[test]
fn what_fails_gives_its_tokens_and_money_and_place_back() {
    let team = [rule(Dimension::Tokens, 100, 60), rule(Dimension::Usd, 10_000, 86_400), rule(Dimension::Concurrent, 1, 0)];
    let limiter = limiter(rules(&[], &team, &[], &[]));
    let permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(70), NOW).unwrap();
    let refusal = limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOW).unwrap_err();
    assert_eq!((refusal.scope, refusal.dimension, refusal.retry_after), (Scope::Team, Dimension::Concurrent, Some(IN_FLIGHT_WAIT)));
    drop(permit);
    for (_, _, status) in limiter.statuses(NOW) {
        assert_eq!((status.used, status.reserved, status.remaining), (0, 0, status.limit));
    }
}

#[test]
fn a_budget_is_refused_for_good_once_it_is_spent() {
    let team = [rule(Dimension::Usd, 100, 86_400), rule(Dimension::Requests, 1, 60)];
    let limiter = limiter(rules(&[], &team, &[], &[]));
    let mut permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(3), NOW).unwrap();
    permit.settle(Used { tokens: 30, micro_usd: 300 }, NOW);
    permit.settle(Used { tokens: 30, micro_usd: 300 }, NOW);
    drop(permit);
    let refusal = limiter.admit(&KEY_AND_TEAM, 0, estimate(3), NOW).unwrap_err();
    assert_eq!((refusal.dimension, refusal.retry_after), (Dimension::Usd, None), "it would wait longer than the requests do");
    let spent = limiter.statuses(NOW).find(|(_, dimension, _)| *dimension == Dimension::Usd).unwrap().2;
    assert_eq!((spent.used, spent.reserved), (300, 0), "settled once");
}

#[test]
fn a_budget_that_requests_in_flight_may_leave_over_is_refused_for_now() {
    let team = [rule(Dimension::Usd, 100, 86_400)];
    let limiter = limiter(rules(&[], &team, &[], &[]));
    let permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(300), NOW).unwrap();
    let refusal = limiter.admit(&KEY_AND_TEAM, 0, estimate(3), NOW).unwrap_err();
    assert_eq!((refusal.dimension, refusal.retry_after), (Dimension::Usd, Some(IN_FLIGHT_WAIT)));
    drop(permit);
    assert_eq!(limiter.peek(&KEY_AND_TEAM, NOW), Ok(()));
}

#[test]
fn a_provider_refuses_an_attempt_without_ending_the_request() {
    let provider = [rule(Dimension::Requests, 2, 60), rule(Dimension::Concurrent, 1, 0), rule(Dimension::Tokens, 100, 60)];
    let route = [rule(Dimension::Concurrent, 9, 0)];
    let limiter = limiter(rules(&[], &[], &route, &provider));
    let mut first = limiter.admit(&KEY_AND_TEAM, 0, estimate(10), NOW).unwrap();
    assert_eq!(first.headers(), &LimitHeaders::default());
    let kinds: Vec<_> = first.enter_provider(0, NOW).unwrap().iter().collect();
    assert_eq!(kinds, [Dimension::Requests, Dimension::Tokens, Dimension::Concurrent].map(|dimension| (Scope::Provider, dimension)));
    let remaining = |permit: &Permit| (permit.headers().requests.unwrap().remaining, permit.headers().tokens.unwrap().remaining);
    assert_eq!(remaining(&first), (1, 90), "the provider's limits are the request's");
    let mut second = limiter.admit(&KEY_AND_TEAM, 0, estimate(10), NOW).unwrap();
    let refusal = second.enter_provider(0, NOW).unwrap_err();
    assert_eq!((refusal.scope, refusal.dimension), (Scope::Provider, Dimension::Concurrent));
    first.leave_provider();
    let _ = second.enter_provider(0, NOW).unwrap();
    second.settle(used(40), NOW);
    drop((first, second));
    let remaining: Vec<_> = limiter.statuses(NOW).map(|(_, dimension, status)| (dimension, status.remaining)).collect();
    let want = [(Dimension::Concurrent, 9), (Dimension::Requests, 0), (Dimension::Tokens, 60), (Dimension::Concurrent, 1)];
    assert_eq!(remaining, want, "failed attempts stay counted as requests, their tokens do not");
}

#[test]
fn counters_survive_a_reload_by_identity() {
    let old = [rule(Dimension::Requests, 10, 60), rule(Dimension::Concurrent, 5, 0), rule(Dimension::Tokens, 100, 60)];
    let before = limiter(rules(&old, &[], &[], &[]));
    let mut open = before.admit(&KEY_AND_TEAM, 0, estimate(30), NOW).unwrap();
    drop(before.admit(&KEY_AND_TEAM, 0, estimate(30), NOW).unwrap());

    let new = [
        rule(Dimension::Tokens, 50, 60),
        rule(Dimension::Requests, 4, 60),
        rule(Dimension::Requests, 7, 3600),
        rule(Dimension::Concurrent, 2, 0),
    ];
    let after = Arc::new(Limiter::with(rules(&new, &[], &[], &[]), Some(&before), NOW));
    let status = |limiter: &Limiter, dimension, per| {
        let mut all = limiter.statuses(NOW).filter(|(id, is, _)| *is == dimension && id.per == Duration::from_secs(per));
        all.next().unwrap().2
    };
    assert_eq!(status(&after, Dimension::Requests, 60).remaining, 2, "two of four are used");
    assert_eq!(status(&after, Dimension::Requests, 3600).remaining, 7, "another period is another limit");
    assert_eq!(status(&after, Dimension::Concurrent, 0).remaining, 1, "one is still open");
    assert_eq!(status(&after, Dimension::Tokens, 60).reserved, 30);

    open.settle(used(45), NOW);
    drop(open);
    assert_eq!(status(&after, Dimension::Tokens, 60).remaining, 5, "a request of before settles into the same state");
    assert_eq!(status(&after, Dimension::Concurrent, 0).remaining, 2);
}

#[test]
fn two_configurations_at_once_never_wait_for_each_other() {
    let (a, b) = (rule(Dimension::Requests, 1_000_000, 60), rule(Dimension::Tokens, 1_000_000_000, 60));
    let (one, two) = ([a, b], [b, a]);
    let before = limiter(rules(&one, &one, &one, &[]));
    let after = Arc::new(Limiter::with(rules(&two, &two, &two, &[]), Some(&before), NOW));
    std::thread::scope(|scope| {
        for limiter in [&before, &after, &before, &after] {
            scope.spawn(|| (0..5000).for_each(|_| drop(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOW))));
        }
    });
    assert!(after.statuses(NOW).all(|(_, _, status)| status.reserved == 0));
}

#[test]
fn who_has_no_limit_is_admitted() {
    let limiter = limiter(rules(&[], &[], &[], &[]));
    let permit = limiter.admit(&Subject::default(), 7, estimate(1 << 60), NOW).unwrap();
    assert_eq!((permit.headers(), permit.kinds().iter().count()), (&LimitHeaders::default(), 0));
}
