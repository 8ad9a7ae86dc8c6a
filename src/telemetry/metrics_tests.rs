//! What dashboards rely on.

use super::*;
use crate::limit::rule::LimitPeriod;
use crate::limit::{LimitExceeded, LimitStatus};
use crate::llm::usage::Usage;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const CHAT: Option<Operation> = Some(Operation::Chat);

fn names() -> Names {
    Names {
        routes: vec![("chat".into(), vec![1, 0]), ("wild/*".into(), vec![0])],
        teams: vec!["search".into(), "quo\"te\n".into()],
        providers: vec!["openai".into(), "gpu".into()],
        attributes: Vec::new(),
        targets: vec![(0, "gpu/qwen".into()), (0, "openai/gpt".into()), (1, "openai/*".into())],
        deadlines: (Duration::from_secs(120), Duration::ZERO),
    }
}

fn ledger() -> Ledger {
    Ledger {
        team: Some(0),
        route: Some(0),
        provider: Some(1),
        status: 200,
        stream: true,
        usage: Usage { prompt: 10, completion: 21, cached: 4, ..Usage::default() },
        micro_usd: 1_500_000,
        ttft: Some(Duration::from_millis(300)),
        duration: Duration::from_millis(2300),
        overhead: Duration::from_micros(80),
        ..Ledger::new()
    }
}

fn text(metrics: &Metrics) -> String {
    metrics.text(0).unwrap()
}

fn line(metrics: &Metrics, begin: &str) -> String {
    let text = text(metrics);
    let mut lines = text.lines().filter(|line| line.starts_with(begin));
    let found = lines.next().unwrap_or_else(|| panic!("{begin} is missing in {text}"));
    assert_eq!(lines.next(), None);
    found[begin.len()..].trim().to_owned()
}

#[test]
fn every_family_is_there_before_anything_has_happened() {
    let metrics = Metrics::new(names(), None).unwrap();
    let text = text(&metrics);
    for name in "tidegate_requests_total tidegate_failed_streams_total tidegate_request_duration_seconds_bucket tidegate_gateway_overhead_seconds_bucket \
        gen_ai_server_time_to_first_token_seconds_bucket gen_ai_server_time_per_output_token_seconds_bucket \
        gen_ai_client_token_usage_total tidegate_limit_decisions_total tidegate_upstream_attempts_total tidegate_target_state \
        tidegate_in_flight_requests tidegate_open_streams tidegate_auth_failures_total tidegate_rejected_connections_total tidegate_dropped_params_total \
        tidegate_client_disconnects_total tidegate_build_info tidegate_cost_usd_total tidegate_config_reloads_total \
        tidegate_config_last_reload_timestamp_seconds tidegate_config_rejected tidegate_limit_store_calls_total tidegate_limit_store_errors_total tidegate_log_lines_dropped_total \
        process_cpu_seconds_total process_resident_memory_bytes process_open_fds"
        .split_whitespace()
    {
        assert!(text.lines().any(|line| line.starts_with(name) && !line.starts_with('#')), "{name} is missing");
    }
}

#[test]
fn the_buckets_of_a_first_token_reach_the_largest_deadline() {
    let last = |names: Names, family: &str| {
        let text = text(&Metrics::new(names, None).unwrap());
        let bucket = |line: &str| line.strip_prefix(family)?.split_once("le=\"")?.1.split('"').next()?.parse::<f64>().ok();
        text.lines().filter_map(bucket).filter(|bound| bound.is_finite()).fold(0.0, f64::max)
    };
    for (first_token, bound) in [(10, 60.0), (60, 60.0), (120, 120.0), (121, 300.0), (7_200, 21_600.0), (2_592_000, 2_592_000.0)] {
        let names = Names { deadlines: (Duration::from_secs(first_token), Duration::ZERO), ..names() };
        assert_eq!(last(names, "gen_ai_server_time_to_first_token_seconds_bucket"), bound, "{first_token}");
    }
    let names = Names { deadlines: (Duration::ZERO, Duration::from_secs(900)), ..names() };
    assert_eq!(last(names, "tidegate_request_duration_seconds_bucket"), 1_200.0);
    let snapshot = crate::config::parse(
        "auth: none\nproviders: { p: { kind: openai, api_key: k, timeouts: { first_token: 90s, total: 5m } } }\n\
         routes: { r: { targets: [ { provider: p, model: m } ], timeouts: { first_token: 10m } } }\n",
        "t",
        &|_| None,
    )
    .unwrap_or_else(|problems| panic!("{problems:?}"))
    .snapshot;
    assert_eq!(
        Names::of(&snapshot.tenants, &snapshot.providers, &snapshot.routes, &[]).deadlines,
        (Duration::from_secs(600), Duration::from_secs(300))
    );
}

#[test]
fn a_request_is_counted_under_its_names() {
    let metrics = Metrics::new(names(), None).unwrap();
    metrics.request_finished(&ledger(), CHAT);
    let labels = r#"provider="gpu",route="chat""#;
    assert_eq!(line(&metrics, &format!("tidegate_requests_total{{operation=\"chat\",{labels},status=\"200\",team=\"search\"}}")), "1");
    assert_eq!(line(&metrics, &format!("gen_ai_client_token_usage_total{{{labels},team=\"search\",token_type=\"output\"}}")), "21");
    assert_eq!(line(&metrics, &format!("tidegate_cost_usd_total{{{labels},team=\"search\"}}")), "1.5");
    assert_eq!(line(&metrics, &format!("gen_ai_server_time_per_output_token_seconds_sum{{{labels}}}")), "0.1");
    assert_eq!(line(&metrics, "tidegate_gateway_overhead_seconds_count{route=\"chat\"}"), "1");
    assert_eq!(
        line(&metrics, &format!("tidegate_request_duration_seconds_bucket{{operation=\"chat\",{labels},stream=\"true\",le=\"5\"}}")),
        "1"
    );
    assert_eq!(
        line(&metrics, &format!("tidegate_request_duration_seconds_bucket{{operation=\"chat\",{labels},stream=\"true\",le=\"1\"}}")),
        "0"
    );
}

#[test]
fn what_is_answered_in_one_piece_has_no_pace_and_what_is_refused_no_overhead() {
    let metrics = Metrics::new(names(), None).unwrap();
    metrics.request_finished(&Ledger { stream: false, overhead: Duration::ZERO, ..ledger() }, CHAT);
    for (family, labels) in [
        ("gen_ai_server_time_to_first_token_seconds", r#"provider="gpu",route="chat""#),
        ("gen_ai_server_time_per_output_token_seconds", r#"provider="gpu",route="chat""#),
        ("tidegate_gateway_overhead_seconds", r#"route="chat""#),
    ] {
        assert_eq!(line(&metrics, &format!("{family}_count{{{labels}}}")), "0", "{family}");
    }
}

#[test]
fn what_clients_make_up_creates_no_series() {
    let metrics = Metrics::new(names(), None).unwrap();
    let refused = Ledger { status: 404, team: Some(0), ..Ledger::new() };
    (0..2).for_each(|_| metrics.request_finished(&refused, None));
    metrics.dropped_param(0, "seed");
    let before = text(&metrics).lines().count();
    for i in 0..100 {
        metrics.request_finished(&refused, None);
        metrics.request_finished(&Ledger { route: Some(99), team: Some(77), provider: Some(5), status: 200 + i, ..Ledger::new() }, CHAT);
        metrics.dropped_param(0, &format!("attacker_{i}"));
        metrics.dropped_param(9, "seed");
        metrics.attempt(9, Operation::Chat, Outcome::Success);
        metrics.target_state(9, false);
    }
    assert_eq!(text(&metrics).lines().count(), before);
    assert_eq!(line(&metrics, r#"tidegate_dropped_params_total{param="other",provider="openai"}"#), "100");
    assert_eq!(
        line(&metrics, r#"tidegate_requests_total{operation="none",provider="none",route="none",status="404",team="search"}"#),
        "102"
    );
}

#[test]
fn counters_survive_a_reload_and_what_is_gone_is_hidden() {
    let before = Metrics::new(names(), None).unwrap();
    before.request_finished(&ledger(), CHAT);
    before.reload(Reload::Rejected, 1.0);
    before.target_state(1, false);
    let (chat, wild) = (before.enter(Some(0), true), before.enter(Some(1), false));
    let new = Names {
        deadlines: Default::default(),
        routes: vec![("new".into(), vec![0]), ("chat".into(), vec![0])],
        teams: vec!["quo\"te\n".into(), "search".into()],
        providers: vec!["gpu".into()],
        attributes: Vec::new(),
        targets: vec![(1, "gpu/qwen".into()), (0, "gpu/new".into())],
    };
    let after = Metrics::new(new, Some(&before)).unwrap();
    after.request_finished(&Ledger { route: Some(1), provider: Some(0), team: Some(1), ..ledger() }, CHAT);
    before.request_finished(&ledger(), CHAT);
    assert_eq!(line(&after, r#"tidegate_requests_total{operation="chat",provider="gpu",route="chat",status="200",team="search"}"#), "3");
    assert_eq!(line(&after, r#"tidegate_config_reloads_total{result="rejected"}"#), "1");
    assert_eq!(line(&after, r#"tidegate_in_flight_requests{route="chat"}"#), "1");
    assert_eq!(line(&after, r#"tidegate_open_streams{route="chat"}"#), "1");
    assert_eq!(line(&after, r#"tidegate_target_state{route="new",target="gpu/new"}"#), "1");
    drop((chat, wild));
    assert_eq!(line(&after, r#"tidegate_in_flight_requests{route="chat"}"#), "0");
    let text = text(&after);
    assert!(!text.contains("wild") && !text.contains("openai"), "{text}");
}

#[test]
fn a_rejected_configuration_is_shown_until_one_is_applied() {
    let metrics = Metrics::new(names(), None).unwrap();
    let shown = || line(&metrics, "tidegate_config_rejected ");
    assert_eq!(shown(), "0");
    metrics.reload(Reload::Rejected, 1.0);
    assert_eq!(shown(), "1");
    let metrics = Metrics::new(names(), Some(&metrics)).unwrap();
    metrics.reload(Reload::Applied, 2.0);
    assert_eq!(line(&metrics, "tidegate_config_rejected "), "0");
}

#[test]
fn the_fullest_limit_of_a_dimension_counts_and_those_that_are_gone_are_not_shown() {
    let metrics = Metrics::new(names(), None).unwrap();
    let status = |used, limit| LimitStatus { used, limit, ..LimitStatus::default() };
    let team = |status| (Scope::Team, "search", Dimension::Requests, status, Some(3));
    let other = (Scope::Provider, "gpu", Dimension::Usd, status(0, 0), None);
    metrics.limits_used([team(status(10, 100)), team(status(90, 100)), team(status(1, 2)), other].into_iter());
    assert_eq!(line(&metrics, r#"tidegate_limit_used_ratio{dimension="requests",name="search",scope="team"}"#), "0.9");
    assert_eq!(line(&metrics, r#"tidegate_limit_used_ratio{dimension="usd",name="gpu",scope="provider"}"#), "1", "it admits nothing");
    assert_eq!(line(&metrics, "tidegate_limit_warnings_total{"), r#"dimension="requests",name="search",scope="team"} 9"#);
    metrics.limits_used([team(status(250, 100))].into_iter());
    assert_eq!(line(&metrics, "tidegate_limit_used_ratio{"), r#"dimension="requests",name="search",scope="team"} 2.5"#);
    metrics.limits_used(std::iter::empty());
    assert!(!text(&metrics).contains("tidegate_limit_used_ratio{"));
}

#[test]
fn limit_decisions_have_their_own_series() {
    let metrics = Metrics::new(names(), None).unwrap();
    let refusal = LimitExceeded {
        scope: Scope::Provider,
        dimension: Dimension::Usd,
        limit: 1,
        routes: None,
        per: LimitPeriod::Window(Duration::from_secs(60)),
        retry_after: None,
        renews_in: Duration::ZERO,
        headers: Box::default(),
    };
    metrics.limit_refused(&refusal);
    assert_eq!(line(&metrics, r#"tidegate_limit_decisions_total{decision="refused",dimension="usd",scope="provider"}"#), "1");
    assert_eq!(line(&metrics, r#"tidegate_limit_decisions_total{decision="admitted",dimension="usd",scope="provider"}"#), "0");
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let Ok(mut promtool) =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    else {
        return; // checked where the tool is installed
    };
    let metrics = Metrics::new(names(), None).unwrap();
    metrics.request_finished(&Ledger { team: Some(1), ..ledger() }, CHAT);
    promtool.stdin.take().unwrap().write_all(text(&metrics).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
