//! Tests of the history.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used, reason = "tests")]

use super::*;
use crate::account::{EndedBy, Ledger};
use crate::operation::Operation;
use crate::telemetry::metrics::Names;
use serde_json::{Value, json};
use std::sync::Arc;

fn metrics(routes: &[&str], teams: &[&str], previous: Option<&Metrics>) -> Arc<Metrics> {
    let names = Names {
        routes: routes.iter().map(|name| ((*name).into(), vec![0])).collect(),
        teams: teams.iter().map(|name| (*name).into()).collect(),
        providers: vec!["gpu".into()],
        ..Names::default()
    };
    Arc::new(Metrics::new(names, previous).unwrap())
}

fn finish(metrics: &Metrics, route: Option<usize>, team: usize, status: u16, first_token: Option<u64>) {
    let ledger = Ledger {
        team: Some(team),
        route,
        provider: Some(0),
        status,
        stream: true,
        ttft: first_token.map(Duration::from_millis),
        ended_by: EndedBy::Complete,
        ..Ledger::default()
    };
    metrics.request_finished(&ledger, Some(Operation::Chat));
}

fn written(history: &History, metrics: &Metrics) -> Vec<Value> {
    let mut w = Writer::with_capacity(64);
    history.write(&mut w, metrics);
    serde_json::from_slice(&w.finish()).unwrap()
}

#[test]
fn buckets_are_what_was_counted_in_them_and_the_last_one_is_open() {
    let (history, m) = (History::default(), metrics(&["a", "b"], &["t"], None));
    finish(&m, Some(0), 0, 200, Some(90));
    finish(&m, Some(0), 0, 429, None);
    history.sample(&m);
    history.sample(&m);
    finish(&m, Some(0), 0, 502, None);
    finish(&m, None, 0, 404, None);
    for failed in [504, 400] {
        let ledger = Ledger { route: Some(0), provider: Some(0), status: 200, failed: Some(failed), stream: true, ..Ledger::default() };
        m.request_finished(&ledger, Some(Operation::Chat));
    }
    assert_eq!(
        written(&history, &m),
        [
            json!({"route": "a", "requests": [2, 0, 3], "errors_4xx": [1, 0, 1], "errors_5xx": [0, 0, 2], "ttft_p95_ms": [97, null, null]}),
            json!({"route": "b"}),
            json!({"route": null, "requests": [0, 0, 1], "errors_4xx": [0, 0, 1], "errors_5xx": [0, 0, 0], "ttft_p95_ms": [null, null, null]}),
        ]
    );
}

#[test]
fn an_hour_is_kept() {
    let (history, m) = (History::default(), metrics(&["a"], &["t"], None));
    for _ in 0..2 * BUCKETS {
        finish(&m, Some(0), 0, 200, None);
        history.sample(&m);
    }
    finish(&m, Some(0), 0, 200, None);
    assert_eq!(written(&history, &m)[0]["requests"], json!(vec![1; BUCKETS + 1]));
}

#[test]
fn a_reload_keeps_counting_and_forgets_routes_that_are_gone() {
    let (history, one) = (History::default(), metrics(&["a", "b"], &["t", "u"], None));
    for _ in 0..5 {
        finish(&one, Some(0), 0, 200, None);
    }
    finish(&one, Some(0), 1, 200, None);
    finish(&one, Some(1), 0, 200, None);
    history.sample(&one);
    finish(&one, Some(0), 1, 200, None);
    // The counts of team t go with it; they are not requests of the open bucket, nor do they hide those that follow.
    let two = history.reload(&one, || Ok::<_, ()>(metrics(&["a", "c"], &["u"], Some(&one)))).unwrap();
    finish(&two, Some(0), 0, 200, None);
    finish(&two, Some(1), 0, 200, None);
    let shown = written(&history, &two);
    assert_eq!((&shown[0]["route"], &shown[0]["requests"]), (&json!("a"), &json!([6, 2])));
    assert_eq!((&shown[1]["route"], &shown[1]["requests"]), (&json!("c"), &json!([1])));
    assert_eq!(shown.len(), 3);
    // A failed reload changes nothing.
    assert!(history.reload(&two, || Err::<Arc<Metrics>, _>(())).is_err());
    assert_eq!(written(&history, &two), shown);
    // A route that comes back begins anew.
    let three = history.reload(&two, || Ok::<_, ()>(metrics(&["a", "b"], &["u"], Some(&two)))).unwrap();
    assert_eq!(written(&history, &three)[1], json!({"route": "b"}));
    assert_eq!(history.0.lock().len(), 2, "a, and requests without a route");
}
