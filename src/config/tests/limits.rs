//! Limits: dimensions, periods, routes and soft limits.

use super::{GOOD, Mistake, bad, good};
use crate::limit::budget::{DAY, MONTH};
use crate::limit::rule::{Limit, LimitPeriod};
use std::time::Duration;

pub(super) const MISTAKES: &[Mistake] = &[
    // At any of the four scopes.
    ("kind: openai, ", "kind: openai, limits: [ { requests: 0, per: 1m } ], ", "5:46", "`requests`"),
    ("model: m } ]", "model: m } ]\n    limits: [ { widgets: 1, per: 1m } ]", "9:17", "unknown key `widgets`"),
    ("auth: none", "teams: { t: { limits: [ { per: 1m } ] } }", "9:25", "needs one of"),
    ("auth: none", "teams: { t: { limits: [ { requests: 1, usd: 1, per: 1m } ] } }", "9:25", "one dimension"),
    ("auth: none", "teams: { t: { limits: [ { tokens: 1, per: 31d } ] } }", "9:43", "1s to 30d"),
    ("auth: none", "teams: { t: { limits: [ { tokens: 1, per: 999ms } ] } }", "9:43", "1s to 30d"),
    ("auth: none", "teams: { t: { limits: [ { usd: 0, per: 1d } ] } }", "9:32", "zero"),
    ("auth: none", "teams: { t: { limits: [ { usd: 1 } ] } }", "9:25", "`per` is missing"),
    ("auth: none", "teams: { t: { limits: [ { concurrent: 1, per: 1m } ] } }", "9:47", "`per` has no meaning"),
    ("auth: none", "teams: { t: { limits: [ { requests: 1, per: 1m, burst: 0.5 } ] } }", "9:56", "whole number"),
    ("model: m } ]", "model: m } ]\n    limits: [ { usd: 5, per: day, burst: 2 } ]", "9:42", "no meaning for `per: day`"),
    ("model: m } ]", "model: m } ]\n    limits: [ { usd: 5, per: week } ]", "9:30", "`day` or `month`"),
    ("auth: none", "teams: { t: { limits: [ { tokens: 1, per: day, burst: 2 } ] } }", "9:55", "no meaning for `per: day`"),
    ("auth: none", "teams: { t: { limits: [ { tokens: 1, per: 1m, warn: 80 } ] } }", "9:53", "a share from 1% to 100%"),
    ("auth: none", "teams: { t: { limits: [ { tokens: 1, per: 1m, warn: 0% } ] } }", "9:53", "a share from 1% to 100%"),
    // Routes.
    ("model: m } ]", "model: m } ]\n    limits: [ { requests: 5, per: 1m, routes: [a] } ]", "9:39", "of a team or a key"),
    ("kind: openai, ", "kind: openai, limits: [ { requests: 1, per: 1m, routes: [a] } ], ", "5:58", "of a team or a key"),
    (
        "auth: none",
        "teams: { t: { limits: [ { tokens: 1, per: 1m, routes: [aa] } ] } }",
        "9:56",
        "there is no route `aa`; did you mean `a`?",
    ),
    ("auth: none", "teams: { t: { limits: [ { tokens: 1, per: 1m, routes: [\"b*\"] } ] } }", "9:56", "the pattern `b*` matches no route"),
    ("auth: none", "teams: { t: { limits: [ { tokens: 1, per: 1m, routes: [\"*a*\"] } ] } }", "9:56", "exactly one `*`"),
    ("auth: none", "teams: { t: { limits: [ { tokens: 1, per: 1m, routes: [] } ] } }", "9:55", "limits nothing"),
    ("auth: none", "teams: { t: { limits: [ { tokens: 1, per: 1m, routes: a } ] } }", "9:55", "a list"),
];

/// Limits of a team where there are the routes a, b (also called c), gpt-4, gpt-5 and gpt/*.
fn limits(written: &str) -> Vec<Limit> {
    let routes = ["b: { aliases: [c], ", "gpt-4: { ", "gpt-5: { ", "\"gpt/*\": { "]
        .map(|route| format!("\n  {route}targets: [ {{ provider: one, model: m }} ] }}"));
    let text = GOOD.replace("model: m } ]\n", &format!("model: m }} ]{}\n", routes.concat()));
    let text = text.replace("auth: none", &format!("teams: {{ t: {{ limits: {written} }} }}"));
    good(&text).snapshot.tenants.teams[0].limits.clone()
}

#[test]
fn a_day_and_a_month_are_windows_and_so_is_every_period_of_money() {
    let written = "[ { usd: 9, per: day }, { requests: 70, per: month }, { tokens: 5, per: day }, { tokens: 5, per: 1d }, { usd: 1, per: 1h }, \
                   { concurrent: 3 } ]";
    let day = Duration::from_secs(86_400);
    assert_eq!(
        limits(written).iter().map(|limit| limit.rule.per).collect::<Vec<_>>(),
        [
            LimitPeriod::Window(DAY),
            LimitPeriod::Window(MONTH),
            LimitPeriod::Window(day),
            LimitPeriod::Smooth(day),
            LimitPeriod::Window(Duration::from_secs(3600)),
            LimitPeriod::None
        ]
    );
}

#[test]
fn a_limit_of_routes_knows_them_by_name_by_alias_and_by_pattern() {
    for (routes, set, names) in [
        ("[b]", [0, 1, 0, 0, 0], &["b"][..]),
        ("[c, b, c]", [0, 1, 0, 0, 0], &["b"]),
        ("[\"gpt-*\"]", [0, 0, 1, 1, 0], &["gpt-*"]),
        ("[\"gpt/*\"]", [0, 0, 0, 0, 1], &["gpt/*"]),
        ("[\"gpt*\", a]", [1, 0, 1, 1, 1], &["a", "gpt*"]),
        ("[\"*-5\"]", [0, 0, 0, 1, 0], &["*-5"]),
    ] {
        let limits = limits(&format!("[ {{ tokens: 5, per: 1m, routes: {routes} }} ]"));
        let found = limits[0].routes.as_ref().unwrap();
        assert_eq!(found.set.0, set.map(|is| is == 1), "{routes}");
        assert_eq!(found.names.iter().collect::<Vec<_>>(), names, "{routes}");
    }
    assert_eq!(limits("[ { tokens: 5, per: 1m } ]")[0].routes, None);
}

#[test]
fn a_soft_limit_has_its_mark_rounded_up() {
    let marks = |written: &str| limits(written).iter().map(|limit| limit.rule.mark()).collect::<Vec<_>>();
    let written = "[ { requests: 9, per: 1m, warn: 80% }, { tokens: 100, per: 1m, burst: 3, warn: 50% }, { concurrent: 1, warn: 1% }, { usd: 2, per: day, warn: 100% }, { usd: 2, per: day } ]";
    assert_eq!(marks(written), [Some(8), Some(2), Some(1), Some(2_000_000), None]);
}

#[test]
fn a_route_that_is_wrong_itself_is_not_also_missing_for_a_limit() {
    let text = GOOD.replace("provider: one, model: m", "provider: one, modle: m");
    let text = text.replace("auth: none", "teams: { t: { limits: [ { tokens: 1, per: 1m, routes: [a, \"a*\"] } ] } }");
    let problems = bad(&text);
    assert!(problems.iter().all(|problem| !problem.contains("route `a`")), "{problems:#?}");
}
