//! Targets that fail, are probed and come back, and what a reload keeps of them.

use super::super::pick::tests::snapshot;
use super::*;
use crate::config::snapshot::Snapshot;
use crate::provider::Target;

/// Targets by index, for tests of fixed models.
impl Health {
    fn fixed(&self, target: usize) -> &Arc<HealthEntry> {
        let Entries::Model(entry) = &self.targets[target].entries else { panic!("target {target} is a pattern") };
        entry
    }

    pub(crate) fn pause(&self, target: usize, wait: Duration, now: u64) {
        self.fixed(target).pause(wait, now);
    }

    pub(crate) fn is_unavailable(&self, target: usize, now: u64) -> bool {
        self.fixed(target).is_unavailable(now)
    }

    pub(crate) fn is_ejected(&self, target: usize) -> bool {
        self.fixed(target).is_ejected()
    }

    pub(crate) fn in_flight(&self, target: usize) -> u32 {
        self.fixed(target).in_flight()
    }

    pub(crate) fn begin(&self, route: &Route, target: &Target, anyway: bool, wait: Duration, now: u64) -> Option<AttemptTracker> {
        self.fixed(target.index).begin(route.ejection, anyway, wait, now)
    }
}

const SECOND: u64 = 1_000_000_000;

fn health(weights: &[u32]) -> (Snapshot, Health) {
    let mut snapshot = snapshot(weights, 0, "weighted");
    let ejection = &mut Arc::get_mut(&mut snapshot.routes.list[0]).unwrap().ejection;
    (ejection.initial, ejection.max) = (Duration::from_secs(10), Duration::from_secs(300));
    let health = Health::new(&snapshot.routes, None);
    (snapshot, health)
}

/// An attempt at the first target, made whatever is known of it.
fn ask(snapshot: &Snapshot, health: &Health, now: u64) -> Option<AttemptTracker> {
    let route = &snapshot.routes[0];
    health.begin(route, &route.targets[0], false, Duration::ZERO, now)
}

fn fail(snapshot: &Snapshot, health: &Health, cause: Cause, now: u64) -> Option<Duration> {
    ask(snapshot, health, now).unwrap().failed(cause, now).map(|outage| outage.rest)
}

#[test]
fn so_many_failures_within_the_window_eject() {
    let (s, h) = health(&[1, 1]);
    for second in [1, 2, 3, 4] {
        assert_eq!(fail(&s, &h, Cause::Failures, second * SECOND), None);
    }
    // The first two are out of the window by now.
    for at_last in [false, false, true] {
        assert_eq!(h.unavailability(0, 32 * SECOND), None);
        assert_eq!(fail(&s, &h, Cause::Failures, 32 * SECOND).is_some(), at_last);
    }
    assert_eq!(h.unavailability(0, 33 * SECOND), Some((Duration::from_secs(9), true)));
    assert!(ask(&s, &h, 42 * SECOND - 1).is_none());
    assert_eq!((h.unavailability(1, 33 * SECOND), h.in_flight(0)), (None, 0));
}

#[test]
fn a_refused_credential_and_an_unknown_model_put_a_target_out_at_once_and_are_told_once() {
    for cause in [Cause::Credential, Cause::NotFound] {
        let (s, h) = health(&[1, 1]);
        let seconds = Duration::from_secs;
        let refused = |now: u64| ask(&s, &h, now * SECOND).unwrap().failed(cause, now * SECOND);
        let under_way = ask(&s, &h, SECOND).unwrap();
        assert_eq!(refused(1), Some(Outage { cause, rest: seconds(10), is_new: true }));
        assert_eq!((h.cause(0), under_way.failed(cause, 2 * SECOND)), (Some(cause), None));
        assert!(ask(&s, &h, 2 * SECOND).is_none());
        assert_eq!(refused(11), Some(Outage { cause, rest: seconds(20), is_new: false }));
        assert_eq!(ask(&s, &h, 31 * SECOND).unwrap().succeeded(31 * SECOND), Some(cause));
        assert_eq!((h.cause(0), ask(&s, &h, 31 * SECOND).unwrap().succeeded(31 * SECOND)), (None, None));
    }
}

#[test]
fn changes_of_a_patterns_models_are_logged_now_and_then() {
    let s = parse(PATTERNS);
    let h = Health::new(&s.routes, None);
    let logged = |target, second| h.is_logged(target, false, second * SECOND);
    assert_eq!([logged(0, 100), logged(0, 101), logged(0, 109), logged(0, 110)], [true, false, false, true]);
    assert_eq!([logged(3, 100), logged(3, 100)], [true, true]);
    assert!(h.is_logged(0, true, 111 * SECOND) && !h.is_logged(0, true, 112 * SECOND), "a model that is back has lines of its own");
}

#[test]
fn a_target_alone_is_ejected_too_and_asked_all_the_same() {
    let (s, h) = health(&[1]);
    ejected(&s, &h);
    assert!(h.is_ejected(0) && ask(&s, &h, 2 * SECOND).is_none());
    let anyway = || h.begin(&s.routes[0], &s.routes[0].targets[0], true, Duration::ZERO, 2 * SECOND).unwrap();
    assert_eq!(anyway().failed(Cause::Failures, 2 * SECOND), None);
    anyway().succeeded(2 * SECOND);
    assert_eq!(h.unavailability(0, 2 * SECOND), None);
}

fn ejected(s: &Snapshot, h: &Health) {
    while fail(s, h, Cause::Failures, SECOND).is_none() {}
}

#[test]
fn one_probe_decides_and_what_began_before_it_does_not() {
    let (s, h) = health(&[1, 1]);
    let old: Vec<_> = (0..10).map(|_| ask(&s, &h, SECOND).unwrap()).collect();
    ejected(&s, &h);
    let mut probe = ask(&s, &h, 11 * SECOND).unwrap();
    assert!(ask(&s, &h, 11 * SECOND).is_none() && h.is_unavailable(0, 11 * SECOND));
    assert_eq!(h.unavailability(0, 11 * SECOND), Some((Duration::ZERO, true)));
    probe.succeeded(12 * SECOND);
    assert_eq!(h.unavailability(0, 12 * SECOND), None);
    for one in old {
        assert_eq!(one.failed(Cause::Failures, 12 * SECOND), None);
    }
    // From now on it is a target like any other, and the probe's later failure one of five.
    assert_eq!(probe.failed(Cause::Failures, 13 * SECOND), None);
    assert!((0..5).any(|_| fail(&s, &h, Cause::Failures, 13 * SECOND).is_some()));
    assert_eq!(h.unavailability(0, 13 * SECOND), Some((Duration::from_secs(10), true)));
}

#[test]
fn only_the_wait_for_a_first_token_is_its_latency() {
    let (s, h) = health(&[1, 1]);
    let load = |now| h.fixed(0).load(now);
    for buffered in [true, false] {
        let mut whole = ask(&s, &h, SECOND).unwrap();
        whole.skip_latency();
        if buffered {
            whole.succeeded(300 * SECOND);
        }
        assert_eq!(whole.failed(Cause::Failures, 600 * SECOND), None);
        assert_eq!(load(600 * SECOND), 0);
    }
    let mut stream = ask(&s, &h, 600 * SECOND).unwrap();
    stream.succeeded(601 * SECOND);
    assert_eq!(stream.failed(Cause::Failures, 900 * SECOND), None);
    assert!((1..=1_000_000).contains(&load(601 * SECOND)), "its break is no wait for a first token");
    let late = ask(&s, &h, 900 * SECOND).unwrap();
    assert_eq!(late.failed(Cause::Failures, 960 * SECOND), None);
    assert_eq!(load(960 * SECOND), 60_000_000);
}

#[test]
fn a_probe_that_tells_nothing_makes_room_for_another() {
    let (s, h) = health(&[1, 1]);
    ejected(&s, &h);
    drop(ask(&s, &h, 11 * SECOND).unwrap());
    drop(ask(&s, &h, 11 * SECOND).unwrap());
    assert_eq!(fail(&s, &h, Cause::Failures, 11 * SECOND), Some(Duration::from_secs(20)));
}

#[test]
fn of_many_threads_one_makes_the_probe() {
    let (s, h) = health(&[1, 1]);
    ejected(&s, &h);
    let start = std::sync::Barrier::new(8);
    for round in 1..50u64 {
        let now = (round * 400 + 11) * SECOND;
        let tracker: Vec<_> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                ask(&s, &h, now)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(tracker.len(), 1);
        tracker.into_iter().for_each(|one| assert!(one.failed(Cause::Failures, now).is_some()));
    }
    assert_eq!(h.in_flight(0), 0);
}

#[test]
fn a_reload_keeps_what_is_known_by_provider_and_model() {
    let (s, h) = health(&[1, 1, 1]);
    ejected(&s, &h);
    let route = &s.routes[0];
    let under_way = h.begin(route, &route.targets[2], false, Duration::ZERO, SECOND);
    h.pause(1, Duration::from_secs(7), SECOND);
    let text = "providers: { p: { kind: openai, api_key: k }, q: { kind: openai, api_key: k } }
routes: { new: { targets: [ { provider: p, model: t0 } ] }, r: { targets: [ { provider: p, model: t1 }, { provider: q, model: t0 }, { provider: p, model: t0 }, { provider: p, model: t0 }, { provider: p, model: t2 } ] } }";
    let next = crate::config::parse(text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot;
    let now = Health::new(&next.routes, Some((&s.routes, &h)));
    let rests: Vec<_> = (0..6).map(|target| now.unavailability(target, SECOND)).collect();
    let (ejected, resting) = (Some((Duration::from_secs(10), true)), Some((Duration::from_secs(7), false)));
    assert_eq!(rests, [ejected, resting, None, ejected, ejected, None]);
    assert_eq!(now.in_flight(5), 1);
    drop(under_way);
    assert_eq!(now.in_flight(5), 0);
    assert!(now.seed(0) == now.seed(3) && now.seed(3) != now.seed(4) && now.seed(2) != now.seed(3));
}
const PATTERNS: &str = "providers: { p: { kind: openai, api_key: k }, q: { kind: openai, api_key: k } }
routes:
  \"o/*\": { targets: [ { provider: p, model: \"*\" } ], fallback: [ { provider: q, model: f } ], ejection: { failures: 6, cooldown: { initial: 10s } } }
  \"x/*\": { targets: [ { provider: p, model: \"*\" } ], ejection: { failures: 0 } }
  one: { targets: [ { provider: p, model: m } ] }
";

fn parse(text: &str) -> Snapshot {
    crate::config::parse(text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot
}

/// An attempt at the first target of a route for a model.
fn ask_for(snapshot: &Snapshot, health: &Health, route: &str, star: Option<&str>) -> Option<AttemptTracker> {
    let route = snapshot.routes.iter().find(|one| one.name.as_ref() == route).unwrap();
    let resolved = health.resolve(route, star);
    health.entry(&resolved, route.targets[0].index).unwrap().begin(route.ejection, false, Duration::ZERO, SECOND)
}

fn eject(snapshot: &Snapshot, health: &Health, model: &str) {
    for at_last in [false, false, false, false, false, true] {
        assert_eq!(ask_for(snapshot, health, "o/*", Some(model)).unwrap().failed(Cause::Failures, SECOND).is_some(), at_last);
    }
}

#[test]
fn failures_of_one_model_of_a_pattern_eject_that_model_only() {
    let s = parse(PATTERNS);
    let h = Health::new(&s.routes, None);
    drop(ask_for(&s, &h, "o/*", Some("good")));
    eject(&s, &h, "m");
    assert!(ask_for(&s, &h, "o/*", Some("m")).is_none() && ask_for(&s, &h, "o/*", Some("good")).is_some());
    // The same provider and model are the same everywhere.
    assert!(ask_for(&s, &h, "x/*", Some("m")).is_none() && ask_for(&s, &h, "one", None).is_none());
    let out = vec![("m".into(), Duration::from_secs(10), true)];
    assert_eq!(h.models(0, SECOND), Some(PatternModels { known: 2, out: out.clone() }));
    assert_eq!((h.unavailability(0, SECOND), h.models(1, SECOND)), (None, None));
    // All that the other pattern knows of is ejected.
    assert_eq!(h.models(2, SECOND), Some(PatternModels { known: 1, out }));
    assert_eq!(
        (h.unavailability(2, SECOND), h.unavailability(3, SECOND)),
        (Some((Duration::from_secs(10), true)), h.unavailability(2, SECOND))
    );
}

#[test]
fn each_route_counts_failures_by_its_own_rules() {
    let s = parse(PATTERNS);
    let h = Health::new(&s.routes, None);
    for _ in 0..20 {
        assert_eq!(ask_for(&s, &h, "x/*", Some("m")).unwrap().failed(Cause::Failures, SECOND), None);
    }
    eject(&s, &h, "m");
}

#[test]
fn a_reload_keeps_the_models_of_a_pattern() {
    let s = parse(PATTERNS);
    let h = Health::new(&s.routes, None);
    eject(&s, &h, "m");
    ask_for(&s, &h, "o/*", Some("resting")).unwrap().pause(Duration::from_secs(7), SECOND);
    let next = parse(&PATTERNS.replace("o/*", "renamed/*").replace("model: m", "model: resting"));
    let now = Health::new(&next.routes, Some((&s.routes, &h)));
    assert_eq!(now.models(0, SECOND), h.models(0, SECOND));
    assert_eq!(now.unavailability(3, SECOND), Some((Duration::from_secs(7), false)));
    // A request of the generation before and one of this generation meet at the same entry.
    let _under_way = ask_for(&s, &h, "o/*", Some("new"));
    let route = &next.routes[0];
    let resolved = now.resolve(route, Some("new"));
    assert_eq!(now.entry(&resolved, 0).unwrap().in_flight(), 1);
}
