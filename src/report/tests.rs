//! Reports of lines that the access log has written.

use super::*;
use crate::account::Ledger;
use crate::llm::usage::Usage;
use crate::telemetry::access::AccessLine;
use std::time::Duration;

const DAY: u64 = 86_400_000_000_000;
/// 2026-01-01T00:00:00Z.
const START: u64 = 1_767_225_600_000_000_000;

/// A line of the log, after changes of its ledger and itself.
fn line(ledger: impl FnOnce(&mut Ledger), line: impl FnOnce(&mut AccessLine<'_>)) -> Vec<u8> {
    let mut own = Ledger {
        status: 200,
        usage: Usage { prompt: 100, completion: 10, cached: 40, reasoning: 3, ..Usage::default() },
        micro_usd: 1_500,
        saved_micro_usd: 20,
        ttft: Some(Duration::from_millis(100)),
        duration: Duration::from_millis(2_000),
        ended_by: EndedBy::Complete,
        ..Ledger::new()
    };
    ledger(&mut own);
    let mut written = AccessLine { time: START, ..AccessLine::example(&own) };
    line(&mut written);
    let mut out = Vec::new();
    written.write(&mut out, true);
    out
}

/// Requests of two teams, three routes and four days, with all ways to end.
fn log() -> Vec<u8> {
    let mut log = Vec::new();
    log.extend(line(|_| {}, |_| {}));
    log.extend(line(
        |l| (l.micro_usd, l.duration) = (4_000_000, Duration::from_millis(3_000)),
        |l| (l.team, l.route) = ("ads", "gpt, \"5\""),
    ));
    log.extend(line(|l| (l.status, l.ended_by) = (200, EndedBy::Upstream), |l| l.time = START + DAY + 3_600_000_000_000));
    log.extend(line(|l| (l.status, l.ended_by) = (499, EndedBy::Client), |l| l.time = START + 2 * DAY));
    log.extend(line(
        |l| {
            *l = Ledger { status: 429, duration: Duration::from_micros(250), ..Ledger::new() };
        },
        |l| (l.time, l.provider, l.upstream_model) = (START + 3 * DAY, "", ""),
    ));
    log.extend(line(
        |l| *l = Ledger { status: 401, ..Ledger::new() },
        |l| (l.team, l.key, l.route, l.provider, l.upstream_model) = ("", "", "", "", ""),
    ));
    log.extend_from_slice(b"{\"time\":\"2026-01-01T00:00:00Z\",\"level\":\"info\",\"message\":\"started\"}\n\nplain words\n");
    log
}

fn report(by: &[By], period: Period, log: &[u8]) -> Report {
    let mut report = Report::new(by.to_vec(), period);
    input::lines(log, |line| match line {
        input::Line::Whole(line) => report.line(line),
        input::Line::TooLong => report.skip(),
    })
    .unwrap();
    report
}

#[test]
fn a_table_has_what_costs_most_first_and_a_total() {
    let table = render::table(&report(&[By::Team, By::Route], Period::default(), &log()));
    let want = "\
team    route       requests  errors      rate   in  cached  out  reasoning     usd    saved  p50_ms  p99_ms  ttft_p50  ttft_p99
ads     gpt, \"5\"           1       0         0  100      40   10          3       4  0.00002    3000    3000       100       100
search  chat               4       2       0.5  300     120   30          9  0.0045  0.00006    2000    2000       100       100
-       -                  1       1         1    0       0    0          0       0        0       0       0         -         -
total                      6       3       0.5  400     160   40         12  4.0045  0.00008    2000    3000       100       100
";
    // The width of a column is that of its widest cell.
    let squeezed = |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(squeezed(&table), squeezed(want));
    let widths: Vec<_> = table.lines().map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
}

#[test]
fn csv_has_a_line_for_each_group() {
    let csv = render::csv(&report(&[By::Team, By::Route], Period::default(), &log()));
    let want = "\
team,route,requests,errors,error_rate,tokens_in,tokens_cached,tokens_out,tokens_reasoning,cost_usd,cache_savings_usd,duration_p50_ms,duration_p99_ms,ttft_p50_ms,ttft_p99_ms
ads,\"gpt, \"\"5\"\"\",1,0,0,100,40,10,3,4,0.00002,3000,3000,100,100
search,chat,4,2,0.5,300,120,30,9,0.0045,0.00006,2000,2000,100,100
,,1,1,1,0,0,0,0,0,0,0,0,,
";
    assert_eq!(csv, want);
}

#[test]
fn json_is_one_object() {
    let period = Period { from: Some("2026-01-01T00:00:00Z".parse().unwrap()), to: None };
    let json = render::json(&report(&[By::Model], period, &log()));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let figures = |requests: u64, errors: u64, rate: f64, n: u64, usd: f64, saved: f64, p99: f64| {
        serde_json::json!({
            "requests": requests, "errors": errors, "error_rate": rate, "tokens_in": n * 100, "tokens_cached": n * 40,
            "tokens_out": n * 10, "tokens_reasoning": n * 3, "cost_usd": usd, "cache_savings_usd": saved,
            "duration_p50_ms": 2000, "duration_p99_ms": p99, "ttft_p50_ms": 100, "ttft_p99_ms": 100,
        })
    };
    let number = |value: &serde_json::Value, name: &str| value[name].as_f64();
    let same = |a: &serde_json::Value, b: &serde_json::Value| b.as_object().unwrap().keys().all(|name| number(a, name) == number(b, name));
    assert!(same(&value["groups"][0], &figures(4, 1, 0.25, 4, 4.0045, 0.00008, 3000.0)), "{json}");
    assert!(same(&value["total"], &figures(6, 3, 0.5, 4, 4.0045, 0.00008, 3000.0)), "{json}");
    assert_eq!((&value["groups"][0]["model"], &value["groups"][1]["model"]), (&"Qwen/Qwen3-4B".into(), &serde_json::Value::Null));
    assert_eq!(
        (&value["from"], &value["to"], &value["by"][0]),
        (&"2026-01-01T00:00:00Z".into(), &serde_json::Value::Null, &"model".into())
    );
    assert_eq!(value["skipped_lines"], 2);
    assert!(json.ends_with("}\n") && json.lines().count() == 1);
}

#[test]
fn every_column_groups() {
    let first = |by: By| {
        let report = report(&[by], Period::default(), &log());
        let groups = report.sorted().into_iter().map(|(values, totals)| (values[0].as_deref().unwrap_or("-").to_owned(), totals.requests));
        groups.collect::<Vec<_>>()
    };
    let of = |list: &[(&str, u64)]| list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>();
    for (by, want) in [
        (By::Team, &[("ads", 1), ("search", 4), ("-", 1)][..]),
        (By::Key, &[("search-prod", 5), ("-", 1)]),
        (By::Route, &[("gpt, \"5\"", 1), ("chat", 4), ("-", 1)]),
        (By::Provider, &[("gpu", 4), ("-", 2)]),
        (By::Model, &[("Qwen/Qwen3-4B", 4), ("-", 2)]),
        (By::Operation, &[("chat", 6)]),
        (By::Status, &[("200", 3), ("499", 1), ("401", 1), ("429", 1)]),
        (By::Day, &[("2026-01-01", 3), ("2026-01-02", 1), ("2026-01-03", 1), ("2026-01-04", 1)]),
        (By::Hour, &[("2026-01-01T00:00Z", 3), ("2026-01-02T01:00Z", 1), ("2026-01-03T00:00Z", 1), ("2026-01-04T00:00Z", 1)]),
    ] {
        assert_eq!(first(by), of(want), "{by:?}");
        assert_eq!(By::from_str(by.name(), false), Ok(by));
    }
    assert_eq!(By::value_variants().len(), 9);
    assert_eq!(Report::new(vec![By::Day, By::Team, By::Day], Period::default()).by, [By::Day, By::Team]);
}

#[test]
fn a_period_has_its_first_moment_and_not_its_last() {
    let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    for (from, to, requests) in [
        (None, None, 6),
        (time("2026-01-02T01:00:00Z"), None, 3),
        (time("2026-01-02T01:00:00.001Z"), None, 2),
        (None, time("2026-01-02T01:00:00Z"), 3),
        (None, time("2026-01-02T01:00:00.001Z"), 4),
        (time("2026-01-02T03:00:00+02:00"), time("2026-01-03T00:00:00+00:00"), 1),
        (time("2027-01-01T00:00:00Z"), None, 0),
    ] {
        let report = report(&[By::Day], Period { from, to }, &log());
        assert_eq!((report.total.requests, report.skipped()), (requests, 2), "{from:?} {to:?}");
    }
}

#[test]
fn without_requests_there_is_a_total_of_nothing() {
    let nothing = report(&[By::Team], Period::default(), b"");
    assert_eq!(render::csv(&nothing).lines().count(), 1);
    let table = render::table(&nothing);
    let last: Vec<_> = table.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last, ["total", "0", "0", "0", "0", "0", "0", "0", "0", "0", "-", "-", "-", "-"]);
    let value: serde_json::Value = serde_json::from_str(&render::json(&nothing)).unwrap();
    assert_eq!((&value["total"]["requests"], &value["total"]["duration_p99_ms"]), (&0.into(), &serde_json::Value::Null));
}

#[test]
fn requests_after_the_last_group_are_counted_together() {
    let mut report = Report::new(vec![By::Route], Period::default());
    let route = |name: &str| {
        String::from_utf8(line(|_| {}, |l| l.route = "chat")).unwrap().replace("\"chat\",\"sticky", &format!("\"{name}\",\"sticky"))
    };
    for n in 0..MAX_GROUPS {
        assert_eq!(report.precision(), if n > FINE_GROUPS { Precision::Coarse } else { Precision::Fine }, "{n}");
        report.line(route(&n.to_string()).as_bytes());
    }
    assert_eq!((report.sorted().len(), report.other_requests()), (MAX_GROUPS, 0));
    for name in ["7", "new", "newer"] {
        report.line(&line(|_| {}, |l| l.route = name));
    }
    let groups = report.sorted();
    let requests = |name: &str| groups.iter().find(|(values, _)| values[0].as_deref() == Some(name)).unwrap().1.requests;
    assert_eq!((groups.len(), requests("7"), requests("8"), requests(OTHER)), (MAX_GROUPS + 1, 2, 1, 2));
    assert_eq!((report.other_requests(), report.total.requests), (2, MAX_GROUPS as u64 + 3));
    let sum: u64 = groups.iter().map(|(_, totals)| totals.micro_usd).sum();
    assert_eq!(sum, report.total.micro_usd);
    assert_eq!(groups.last().unwrap().0[0].as_deref(), Some(OTHER), "however much they cost");
}

#[test]
fn no_two_groups_are_taken_for_one() {
    let mut report = Report::new(vec![By::Team, By::Route], Period::default());
    for (team, route) in [("a", "b"), ("ab", ""), ("", "ab"), ("1:a", "-"), ("-", "1:a"), ("a", "b")] {
        report.line(&line(|_| {}, |l| (l.team, l.route) = (team, route)));
    }
    assert_eq!(report.sorted().len(), 5);
}

#[test]
fn a_value_is_bounded() {
    let mut report = Report::new(vec![By::Model], Period::default());
    for model in ["é".repeat(MAX_VALUE), "é".repeat(MAX_VALUE) + "x"] {
        report.line(&line(|_| {}, |l| l.upstream_model = Box::leak(model.into_boxed_str())));
    }
    let groups = report.sorted();
    assert_eq!((groups.len(), groups[0].0[0].as_deref().unwrap().len(), groups[0].1.requests), (1, MAX_VALUE, 2));
}

#[test]
fn a_table_has_no_characters_that_a_terminal_acts_on() {
    let acts = "\u{1b}\u{9b}\n\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}";
    let name: &str = Box::leak(format!("gpt{acts}x").into_boxed_str());
    let report = report(&[By::Model], Period::default(), &line(|_| {}, |l| l.upstream_model = name));
    let table = render::table(&report);
    let replaced = format!("gpt{}x", "\u{fffd}".repeat(acts.chars().count()));
    assert!(table.contains(&replaced) && table.lines().count() == 3, "{table:?}");
    assert!(render::csv(&report).contains(&format!("\"{name}\"")), "data stay as they are");
}

#[test]
fn a_spreadsheet_finds_no_formula() {
    for (name, cell) in [
        ("=1+1", "'=1+1,1,"),
        ("+1", "'+1,1,"),
        ("-1", "'-1,1,"),
        ("@SUM(A1)", "'@SUM(A1),1,"),
        ("\t=1", "'\t=1,1,"),
        ("\r=1", "\"'\r=1\",1,"),
        ("=HYPERLINK(\"a\",1)", "\"'=HYPERLINK(\"\"a\"\",1)\",1,"),
        ("gpt=1", "gpt=1,1,"),
        ("'x", "'x,1,"),
    ] {
        let report = report(&[By::Model], Period::default(), &line(|_| {}, |l| l.upstream_model = name));
        let csv = render::csv(&report);
        assert!(csv.split_once('\n').unwrap().1.starts_with(cell), "{csv}");
        let json: serde_json::Value = serde_json::from_str(&render::json(&report)).unwrap();
        assert_eq!(json["groups"][0]["model"], name);
    }
}
