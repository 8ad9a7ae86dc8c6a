//! What the limits of one process promise.

use super::*;
use crate::limit::budget::DAY;
use crate::limit::rule::{LimitedRoutes, RouteSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_800_000_000 * SECOND;
const DAYS: u64 = 86_400 * SECOND;
const NOON: u64 = NOW - NOW % DAYS + DAYS / 2;
const KEY_AND_TEAM: Subject = Subject { key: Some(0), team: Some(0) };

fn rule(dimension: Dimension, amount: u64, seconds: u64) -> Limit {
    let length = Duration::from_secs(seconds);
    let per = match dimension {
        Dimension::Concurrent => LimitPeriod::None,
        Dimension::Usd => LimitPeriod::Window(length),
        Dimension::Requests | Dimension::Tokens => LimitPeriod::Smooth(length),
    };
    Limit { rule: LimitRule { dimension, amount, per, burst: amount, warn: None }, routes: None }
}

fn rules<'a>(key: &'a [Limit], team: &'a [Limit], route: &'a [Limit], provider: &'a [Limit]) -> [Rules<'a>; 4] {
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
    let remaining: Vec<_> = limiter.statuses(NOW).map(|(_, status)| status.remaining).collect();
    assert_eq!(remaining, [900, 0], "what the team refused was not charged to the key");
}

#[test]
fn a_step_of_the_wall_clock_begins_a_new_day_for_money_and_for_nothing_else() {
    let key = [rule(Dimension::Usd, 10, 86_400), rule(Dimension::Requests, 1, 86_400)];
    let limiter = limiter(rules(&key, &[], &[], &[]));
    limiter.wall.set(NOON, NOON);
    let mut permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON).unwrap();
    permit.settle(used(1), NOON);
    drop(permit);
    let status = |dimension| limiter.statuses(NOON).find(|(id, _)| id.dimension == dimension).unwrap().1;
    assert_eq!((status(Dimension::Usd).remaining, status(Dimension::Usd).reset.as_secs()), (0, 12 * 3600));
    // The machine was suspended for 13 hours, or its clock was set.
    limiter.wall.set(NOON, NOON + 13 * 3600 * SECOND);
    assert_eq!((status(Dimension::Usd).remaining, status(Dimension::Usd).reset.as_secs()), (10, 23 * 3600));
    assert_eq!(status(Dimension::Requests).remaining, 0);
}

#[test]
fn a_budget_that_was_spent_in_a_false_future_is_whole_again_the_day_after_the_clock_is_set_right() {
    let key = [rule(Dimension::Usd, 10, 86_400)];
    let limiter = limiter(rules(&key, &[], &[], &[]));
    limiter.wall.set(NOON, NOON + 4_000 * DAYS);
    let mut permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON).unwrap();
    permit.settle(used(1), NOON);
    drop(permit);
    limiter.wall.set(NOON, NOON);
    assert!(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON).is_err(), "what is spent stays spent");
    assert!(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON + DAYS).is_ok());
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
        remaining.push(permit.headers().requests.as_ref().unwrap().status.remaining);
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
    assert_eq!(first.headers().tokens.as_ref().unwrap().status.remaining, 0);
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
    for (_, status) in limiter.statuses(NOW) {
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
    let spent = limiter.statuses(NOW).find(|(id, _)| id.dimension == Dimension::Usd).unwrap().1;
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
    let remaining = |permit: &Permit| {
        (permit.headers().requests.as_ref().unwrap().status.remaining, permit.headers().tokens.as_ref().unwrap().status.remaining)
    };
    assert_eq!(remaining(&first), (1, 90), "the provider's limits are the request's");
    let mut second = limiter.admit(&KEY_AND_TEAM, 0, estimate(10), NOW).unwrap();
    let refusal = second.enter_provider(0, NOW).unwrap_err();
    assert_eq!((refusal.scope, refusal.dimension), (Scope::Provider, Dimension::Concurrent));
    first.leave_provider();
    let _ = second.enter_provider(0, NOW).unwrap();
    second.settle(used(40), NOW);
    drop((first, second));
    let remaining: Vec<_> = limiter.statuses(NOW).map(|(id, status)| (id.dimension, status.remaining)).collect();
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
        let mut all = limiter.statuses(NOW).filter(|(id, _)| id.dimension == dimension && id.per.length() == Duration::from_secs(per));
        all.next().unwrap().1
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
    let (one, two) = ([a.clone(), b.clone()], [b, a]);
    let before = limiter(rules(&one, &one, &one, &[]));
    let after = Arc::new(Limiter::with(rules(&two, &two, &two, &[]), Some(&before), NOW));
    std::thread::scope(|scope| {
        for limiter in [&before, &after, &before, &after] {
            scope.spawn(|| (0..5000).for_each(|_| drop(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOW))));
        }
    });
    assert!(after.statuses(NOW).all(|(_, status)| status.reserved == 0));
}

#[test]
fn who_has_no_limit_is_admitted() {
    let limiter = limiter(rules(&[], &[], &[], &[]));
    let permit = limiter.admit(&Subject::default(), 7, estimate(1 << 60), NOW).unwrap();
    assert_eq!((permit.headers(), permit.kinds().iter().count()), (&LimitHeaders::default(), 0));
}

/// The same limit for these routes only.
fn on(limit: Limit, names: &[&str], routes: &[bool]) -> Limit {
    let names = RouteNames::new(names.iter().map(|name| (*name).into()).collect());
    Limit { routes: Some(LimitedRoutes { names, set: RouteSet(routes.to_vec()) }), ..limit }
}

/// The same limit by day.
fn by_day(limit: Limit) -> Limit {
    Limit { rule: LimitRule { per: LimitPeriod::Window(DAY), ..limit.rule }, ..limit }
}

/// The same limit with a mark at half of it.
fn soft(limit: Limit) -> Limit {
    Limit { rule: LimitRule { warn: Some(50), ..limit.rule }, ..limit }
}

#[test]
fn a_limit_of_some_routes_counts_their_requests_together_and_no_others() {
    let team = [on(rule(Dimension::Requests, 3, 3600), &["a", "b"], &[true, true, false]), rule(Dimension::Requests, 5, 3600)];
    let key =
        [on(rule(Dimension::Tokens, 100, 3600), &["c"], &[false, false, true]), on(rule(Dimension::Concurrent, 1, 0), &["a"], &[true])];
    let limiter = limiter(rules(&key, &team, &[], &[]));
    let kinds = |permit: &Permit| permit.kinds().iter().collect::<Vec<_>>();
    let mut open = limiter.admit(&KEY_AND_TEAM, 0, estimate(60), NOW).unwrap();
    assert_eq!(kinds(&open), [(Scope::Key, Dimension::Concurrent), (Scope::Team, Dimension::Requests)]);
    let told = open.headers().requests.clone().unwrap();
    assert_eq!(
        (told.scope, told.routes.map(|names| names.to_string()), told.status.remaining),
        (Scope::Team, Some("`a`, `b`".to_owned()), 2)
    );
    let refusal = limiter.admit(&KEY_AND_TEAM, 0, estimate(60), NOW).unwrap_err();
    assert_eq!((refusal.scope, refusal.dimension), (Scope::Key, Dimension::Concurrent));
    assert_eq!(refusal.routes.unwrap().iter().collect::<Vec<_>>(), ["a"]);
    for _ in 0..2 {
        drop(limiter.admit(&KEY_AND_TEAM, 1, estimate(60), NOW).unwrap());
    }
    let refusal = limiter.admit(&KEY_AND_TEAM, 1, estimate(60), NOW).unwrap_err();
    assert_eq!((refusal.scope, refusal.limit), (Scope::Team, 3));
    assert_eq!(refusal.headers.exceeded, Some((Scope::Team, Dimension::Requests, refusal.routes.clone())));
    assert_eq!(limiter.peek(&KEY_AND_TEAM, NOW), Ok(()), "it may be for another route");
    let mut other = limiter.admit(&KEY_AND_TEAM, 2, estimate(60), NOW).unwrap();
    assert_eq!(other.headers().tokens.as_ref().unwrap().status.remaining, 40);
    other.settle(used(10), NOW);
    open.settle(used(10), NOW);
    drop((open, other));
    let left: Vec<_> = limiter.statuses(NOW).map(|(id, status)| (id.dimension, status.remaining)).collect();
    let want = [(Dimension::Concurrent, 1), (Dimension::Tokens, 90), (Dimension::Requests, 1), (Dimension::Requests, 0)];
    assert_eq!(left, want, "a request is settled where it was counted, and nowhere else");
    let last = limiter.admit(&KEY_AND_TEAM, 2, estimate(1), NOW);
    assert!(last.is_ok() && limiter.peek(&KEY_AND_TEAM, NOW).is_err(), "the fifth of the team");
}

#[test]
fn a_limit_of_some_routes_survives_a_reload_that_moves_them() {
    let pattern = |routes: &[bool]| [on(rule(Dimension::Requests, 3, 3600), &["gpt-*"], routes)];
    let (old, new) = (pattern(&[true, false]), pattern(&[false, true, true]));
    let before = limiter(rules(&old, &[], &[], &[]));
    let permit = before.admit(&KEY_AND_TEAM, 0, estimate(1), NOW).unwrap();
    let after = Arc::new(Limiter::with(rules(&new, &[], &[], &[]), Some(&before), NOW));
    drop(permit);
    assert_eq!(after.admit(&KEY_AND_TEAM, 0, estimate(1), NOW).unwrap().kinds().iter().count(), 0);
    assert_eq!(after.admit(&KEY_AND_TEAM, 2, estimate(1), NOW).unwrap().headers().requests.as_ref().unwrap().status.remaining, 1);
    let others = [on(rule(Dimension::Requests, 3, 3600), &["gpt-5"], &[false, true, true])];
    let fresh = Limiter::with(rules(&others, &[], &[], &[]), Some(&after), NOW);
    assert_eq!(fresh.statuses(NOW).next().unwrap().1.remaining, 3, "other routes are another limit");
}

#[test]
fn a_window_is_whole_again_when_the_day_ends_and_a_day_that_refills_is_another_limit() {
    let key = [by_day(rule(Dimension::Requests, 2, 0)), rule(Dimension::Requests, 100, 86_400)];
    let limiter = limiter(rules(&key, &[], &[], &[]));
    for _ in 0..2 {
        drop(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON).unwrap());
    }
    let refusal = limiter.peek(&KEY_AND_TEAM, NOON + SECOND).unwrap_err();
    let left = Duration::from_secs(12 * 3600 - 1);
    assert_eq!((refusal.limit, refusal.retry_after, refusal.renews_in), (2, Some(left), left));
    assert_eq!(refusal.headers.requests.as_ref().unwrap().status.reset, left);
    let error = crate::error::ApiError::from(&refusal);
    assert_eq!((error.status, error.retry_after), (429, Some(left)));
    assert!(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON + DAYS / 2 - 1).is_err());
    assert!(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON + DAYS / 2).is_ok());
    assert_eq!(limiter.statuses(NOON + DAYS / 2).map(|(_, status)| status.used).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn tokens_of_a_window_are_reserved_settled_and_owed() {
    let key = [by_day(rule(Dimension::Tokens, 100, 0))];
    let limiter = limiter(rules(&key, &[], &[], &[]));
    let mut permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(500), NOON).unwrap();
    let refusal = limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON).unwrap_err();
    assert_eq!((refusal.retry_after, refusal.renews_in), (Some(IN_FLIGHT_WAIT), Duration::ZERO), "reserved, not spent");
    permit.settle(used(250), NOON);
    drop(permit);
    let refusal = limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON).unwrap_err();
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(36 * 3600)), "tomorrow is spent, too");
    assert_eq!(refusal.headers.tokens.as_ref().unwrap().status.reset, Duration::from_secs(12 * 3600), "the end of this window");
    assert!(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON + 3 * DAYS / 2 - 1).is_err());
    drop(limiter.admit(&KEY_AND_TEAM, 0, estimate(1), NOON + 3 * DAYS / 2).unwrap());
    assert_eq!(limiter.statuses(NOON + 3 * DAYS / 2).next().unwrap().1.remaining, 50);
}

#[test]
fn a_soft_limit_warns_once_per_crossing() {
    let key =
        [soft(by_day(rule(Dimension::Requests, 10, 0))), soft(rule(Dimension::Tokens, 1000, 3600)), rule(Dimension::Usd, 1_000_000, 1)];
    let team = [soft(rule(Dimension::Concurrent, 4, 0))];
    let limiter = limiter(rules(&key, &team, &[], &[]));
    let warnings = || limiter.warnings().map(|warned| warned.map(|(_, count)| count)).collect::<Vec<_>>();
    let serve = |tokens, now| {
        let mut permit = limiter.admit(&KEY_AND_TEAM, 0, estimate(1), now).unwrap();
        permit.settle(Used { tokens, micro_usd: 0 }, now);
    };
    (0..4).for_each(|_| serve(124, NOON));
    assert_eq!(warnings(), [Some(0), Some(0), None, Some(0)]);
    serve(124, NOON);
    assert_eq!(warnings(), [Some(1), Some(1), None, Some(0)], "the fifth request, and 620 of 1000 tokens");
    (0..4).for_each(|_| serve(1, NOON));
    let hours = |n: u64| NOON + n * 3600 * SECOND;
    serve(300, hours(2)); // all tokens have refilled
    serve(300, hours(13)); // the next day
    assert_eq!(warnings(), [Some(1), Some(1), None, Some(0)]);
    (0..4).for_each(|_| serve(100, hours(13)));
    assert_eq!(warnings(), [Some(2), Some(2), None, Some(0)]);
    let open: Vec<_> = (0..3).map(|_| limiter.admit(&KEY_AND_TEAM, 0, estimate(1), hours(13)).unwrap()).collect();
    assert_eq!(warnings(), [Some(2), Some(2), None, Some(1)], "two at once");
    drop(open);
    let raised = [soft(by_day(rule(Dimension::Requests, 1000, 0)))];
    let after = Limiter::with(rules(&raised, &[], &[], &[]), Some(&limiter), hours(13));
    assert_eq!(after.warnings().collect::<Vec<_>>(), [Some((50, 2))], "they survive a reload");
}

/// What a limit of requests by day has admitted, by the simplest means.
struct Naive {
    routes: Option<Vec<bool>>,
    amount: u64,
    by_day: std::collections::HashMap<u64, u64>,
}

proptest::proptest! {
    /// Any limits of key and team, with routes and without, against a count of each on its own.
    #[test]
    fn windows_of_routes_decide_as_the_naive_ones(
        limits in proptest::collection::vec((proptest::bool::ANY, proptest::option::of(proptest::collection::vec(proptest::bool::ANY, 3)), 1u64..6), 0..6),
        requests in proptest::collection::vec((0usize..3, 0u64..20), 1..60),
    ) {
        let configured = |of_team: bool| -> Vec<Limit> {
            let own = limits.iter().enumerate().filter(|(_, (team, ..))| *team == of_team);
            own.map(|(nth, (_, routes, amount))| {
                let limit = by_day(rule(Dimension::Requests, *amount, 0));
                routes.as_ref().map_or(limit.clone(), |set| on(limit, &[&format!("r{nth}")], set))
            }).collect()
        };
        let (key, team) = (configured(false), configured(true));
        let limiter = limiter(rules(&key, &team, &[], &[]));
        let mut naive: Vec<Naive> =
            limits.iter().map(|(_, routes, amount)| Naive { routes: routes.clone(), amount: *amount, by_day: Default::default() }).collect();
        let mut now = NOW;
        for (route, hours) in requests {
            now += hours * 3600 * SECOND;
            let day = now / DAYS;
            let concerned = |limit: &&mut Naive| limit.routes.as_ref().is_none_or(|routes| routes[route]);
            let full = |limit: &Naive| limit.by_day.get(&day).is_some_and(|count| *count >= limit.amount);
            let fits = naive.iter_mut().filter(concerned).all(|limit| !full(limit));
            let fits_any_route = naive.iter().filter(|limit| limit.routes.is_none()).all(|limit| !full(limit));
            proptest::prop_assert_eq!(limiter.peek(&KEY_AND_TEAM, now).is_ok(), fits_any_route);
            let admitted = limiter.admit(&KEY_AND_TEAM, route, estimate(1), now);
            proptest::prop_assert_eq!(admitted.is_ok(), fits);
            if fits {
                naive.iter_mut().filter(concerned).for_each(|limit| *limit.by_day.entry(day).or_default() += 1);
            } else {
                let wait = admitted.unwrap_err().retry_after.unwrap();
                proptest::prop_assert_eq!(nanoseconds(wait), (day + 1) * DAYS - now);
            }
        }
    }
}
