//! The pages of the admin listener: `/`, `/metrics`, `/healthz`, `/readyz`, `/status`, `/status/history` and `/limits`. None
//! contains a secret.

use crate::account::usd;
use crate::auth::jwt::source::KeyStatus;
use crate::hex;
use crate::json::write::Writer;
use crate::limit::budget::{DAY, MONTH};
use crate::limit::memory::LimitId;
use crate::limit::rule::{Dimension, LimitPeriod};
use crate::limit::{CountedBy, LimitStatus, Limiter, Store, StoreStatus};
use crate::redact::redact;
use crate::route::adjusted::Adjusted;
use crate::route::availability::Cause;
use crate::route::models::PatternModels;
use crate::system;
use crate::telemetry::failures::Failures;
use crate::telemetry::history::{BUCKET, History};
use crate::telemetry::metrics::{self, Metrics};
use crate::telemetry::page::PAGE;
use std::time::Duration;

/// Maximum models of a pattern listed in `/status`.
pub const MAX_MODELS_LISTED: usize = 32;

/// Data shown on the pages; of the configuration in force.
pub struct State<'a> {
    /// Metrics.
    pub metrics: &'a Metrics,
    /// Limits counted in this process.
    pub limiter: &'a Limiter,
    /// The limit store; `None` means memory.
    pub store: Option<&'a Store>,
    /// Now, on the limits' [`Clock`](crate::limit::Clock).
    pub now: u64,
    /// Start of the process, in nanoseconds since the Unix epoch.
    pub started: u64,
    /// Time since the start.
    pub uptime: Duration,
    /// Whether the process accepts requests: from listening until SIGTERM.
    pub serving: bool,
    /// The configuration in force.
    pub configuration: Configuration,
    /// The last hour of routes.
    pub history: &'a History,
    /// Requests that failed last.
    pub failures: &'a Failures,
    /// Results of reloads.
    pub reloads: &'a Reloads,
    /// How many files of `keys_dir` are in force; `None` without one.
    pub key_files: Option<usize>,
    /// Keys of issuers that are fetched.
    pub jwks: &'a [KeyStatus],
    /// State of an upgrade.
    pub upgrade: &'a Upgrade,
    /// Health of a target, by `Target::index`.
    pub target: &'a dyn Fn(usize) -> TargetHealth,
    /// Models of a pattern, by `Target::index`; `None` for a target with a fixed model.
    pub models: &'a dyn Fn(usize) -> Option<PatternModels>,
    /// What targets have taught by refusing requests.
    pub adjusted: &'a [Adjusted],
    /// Number of dropped log lines.
    pub log_lines_dropped: u64,
}

/// The configuration in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Its number, from 1.
    pub generation: u64,
    /// SHA-256 of its file.
    pub digest: [u8; 32],
    /// When it was applied, in seconds since the Unix epoch.
    pub loaded_at: u64,
}

/// Results of reloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Number of applied configurations.
    pub applied: u64,
    /// Number of rejected configurations.
    pub rejected: u64,
    /// Time of the last applied one, in nanoseconds since the Unix epoch.
    pub last_applied: Option<u64>,
    /// Time of the last rejected one.
    pub last_rejected: Option<u64>,
    /// Problems of the last configuration; empty if it was applied.
    pub problems: Vec<String>,
    /// Warnings about the configuration in force: messages, and the same with positions.
    pub warnings: Vec<(String, String)>,
    /// Problems of files of `keys_dir`, which are not in force as they are.
    pub key_problems: Vec<String>,
}

/// State of an upgrade to a new process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// None requested.
    #[default]
    None,
    /// Waiting for the new process. Times are nanoseconds since the Unix epoch.
    Waiting {
        /// Start of the upgrade.
        since: u64,
    },
    /// The new process did not start serving in time; this one continues.
    Failed {
        /// When the timeout passed.
        at: u64,
        /// The reason.
        problem: String,
    },
}

/// Health of a target. That of a pattern is the health of its healthiest model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetHealth {
    /// Available.
    Healthy,
    /// Skipped for this time, as requested by the provider.
    Resting(Duration),
    /// Ejected for this time after too many failures; at zero a probe is pending.
    Ejected(Duration),
    /// Like `Ejected`, because the credential or model was rejected.
    SetAside(Duration, Cause),
}

impl TargetHealth {
    /// From the remaining time and whether the target is ejected, and the cause.
    pub fn of(rests: Option<(Duration, bool)>, cause: Option<Cause>) -> Self {
        match (rests, cause) {
            (None, _) => Self::Healthy,
            (Some((left, false)), _) => Self::Resting(left),
            (Some((left, true)), None | Some(Cause::Failures)) => Self::Ejected(left),
            (Some((left, true)), Some(cause)) => Self::SetAside(left, cause),
        }
    }
}

/// A response of the admin listener.
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// `content-type`.
    pub content_type: &'static str,
    /// `content-security-policy`; `None` for what no browser renders.
    pub policy: Option<&'static str>,
    /// The body.
    pub body: Vec<u8>,
}

/// The page at a path without query, or a 404.
pub fn page(path: &str, state: &State<'_>) -> Page {
    match path {
        "/" => Page { status: 200, content_type: "text/html; charset=utf-8", policy: Some(&PAGE.policy), body: PAGE.body.clone() },
        "/metrics" => metrics_page(state),
        "/healthz" => text(200, "ok\n"),
        "/readyz" if state.serving => text(200, "ready\n"),
        "/readyz" => text(503, "not serving\n"),
        "/status" => json(status(state)),
        "/status/history" => json(history(state)),
        "/limits" => json(limits(state)),
        _ => text(404, "not found; available: / /metrics /healthz /readyz /status /status/history /limits\n"),
    }
}

fn text(status: u16, body: &str) -> Page {
    Page { status, content_type: "text/plain; charset=utf-8", policy: None, body: body.as_bytes().to_vec() }
}

fn json(body: Vec<u8>) -> Page {
    Page { status: 200, content_type: "application/json", policy: None, body }
}

fn metrics_page(state: &State<'_>) -> Page {
    for target in 0..state.metrics.names().targets.len() {
        state.metrics.target_state(target, !matches!((state.target)(target), TargetHealth::Ejected(_) | TargetHealth::SetAside(..)));
    }
    state.metrics.limits_used(
        statuses(state)
            .zip(state.limiter.warnings())
            .map(|((id, status), warnings)| (id.scope, &*id.name, id.dimension, status, warnings.map(|(_, count)| count))),
    );
    if state.key_files.is_some() {
        state.metrics.key_problems(state.reloads.key_problems.len());
    }
    state.metrics.jwks(state.jwks, system::wall_clock());
    match state.metrics.text(state.log_lines_dropped) {
        Ok(body) => Page { status: 200, content_type: metrics::CONTENT_TYPE, policy: None, body: body.into_bytes() },
        Err(error) => text(500, &format!("encoding the metrics failed: {error}\n")),
    }
}

fn status(state: &State<'_>) -> Vec<u8> {
    let names = state.metrics.names();
    let mut w = Writer::with_capacity(4096);
    w.object().key("version").string(env!("CARGO_PKG_VERSION"));
    w.key("serving").flag(state.serving);
    w.key("started");
    time(&mut w, Some(state.started));
    w.key("uptime_seconds").integer(state.uptime.as_secs());
    w.key("routes").array();
    for (route, (name, _)) in names.routes.iter().enumerate() {
        w.object().key("route").string(name).key("targets").array();
        for (index, (_, target)) in names.targets.iter().enumerate().filter(|(_, (of, _))| *of == route) {
            w.object().key("target").string(target);
            target_health(&mut w, (state.target)(index));
            if let Some(models) = (state.models)(index) {
                pattern_models(&mut w, &models);
            }
            w.end_object();
        }
        w.end_array().end_object();
    }
    w.end_array();
    if let Some(store) = state.store.and_then(Store::status) {
        limit_store(&mut w, &store);
    }
    w.key("refused_members").array();
    for one in state.adjusted {
        w.object().key("provider").string(&one.provider).key("model").string(&one.model);
        w.key("member").string(one.adjustment.field().name()).key("adjustment").string(&one.adjustment.to_string());
        w.key("left_out_for_ms").integer(one.until.saturating_sub(state.now).div_ceil(1_000_000)).end_object();
    }
    w.end_array();
    let Configuration { generation, digest, loaded_at } = state.configuration;
    w.key("configuration").object().key("generation").integer(generation);
    w.key("sha256").string(&hex::encode(&digest)).key("applied");
    time(&mut w, loaded_at.checked_mul(1_000_000_000));
    w.end_object();
    let reloads = state.reloads;
    w.key("reloads").object();
    w.key("applied").integer(reloads.applied).key("rejected").integer(reloads.rejected);
    w.key("last_applied");
    time(&mut w, reloads.last_applied);
    w.key("last_rejected");
    time(&mut w, reloads.last_rejected);
    w.key("problems").array();
    for problem in &reloads.problems {
        w.string(&redact(problem));
    }
    w.end_array();
    w.key("warnings").array();
    for (_, warning) in &reloads.warnings {
        w.string(&redact(warning));
    }
    w.end_array().end_object();
    if let Some(in_force) = state.key_files {
        w.key("key_files").object().key("in_force").integer(in_force as u64).key("problems").array();
        for problem in &reloads.key_problems {
            w.string(&redact(problem));
        }
        w.end_array().end_object();
    }
    if !state.jwks.is_empty() {
        w.key("jwks").array();
        state.jwks.iter().for_each(|keys| key_set(&mut w, keys));
        w.end_array();
    }
    let (upgrade, at, problem) = match state.upgrade {
        Upgrade::None => ("none", None, None),
        Upgrade::Waiting { since } => ("waiting", Some(*since), None),
        Upgrade::Failed { at, problem } => ("failed", Some(*at), Some(problem)),
    };
    w.key("upgrade").object().key("state").string(upgrade).key("at");
    time(&mut w, at);
    w.key("problem");
    match problem {
        Some(problem) => w.string(&redact(problem)),
        None => w.raw("null"),
    };
    w.end_object();
    w.end_object();
    w.finish()
}

fn history(state: &State<'_>) -> Vec<u8> {
    let mut w = Writer::with_capacity(4096);
    w.object().key("bucket_seconds").integer(BUCKET.as_secs()).key("routes");
    state.history.write(&mut w, state.metrics);
    w.key("failures");
    state.failures.write(&mut w, time);
    w.end_object();
    w.finish()
}

fn target_health(w: &mut Writer, health: TargetHealth) {
    w.key("healthy").flag(health == TargetHealth::Healthy);
    match health {
        TargetHealth::Healthy => {}
        TargetHealth::Resting(left) => drop(w.key("resting_for_ms").integer(milliseconds(left))),
        TargetHealth::Ejected(left) => drop(w.key("ejected_for_ms").integer(milliseconds(left))),
        TargetHealth::SetAside(left, cause) => {
            w.key("set_aside_for_ms").integer(milliseconds(left)).key("reason").string(cause.name());
        }
    }
}

/// Model names come from clients, so they are redacted.
fn pattern_models(w: &mut Writer, models: &PatternModels) {
    w.key("models").object().key("known").integer(models.known as u64).key("out").integer(models.out.len() as u64);
    w.key("listed").array();
    for (name, left, ejected) in models.out.iter().take(MAX_MODELS_LISTED) {
        w.object().key("model").string(&redact(name));
        target_health(w, TargetHealth::of(Some((*left, *ejected)), None));
        w.end_object();
    }
    w.end_array().end_object();
}

fn limit_store(w: &mut Writer, store: &StoreStatus) {
    w.key("limit_store").object().key("address").string(&store.address);
    w.key("on_store_failure").string(store.on_failure.name());
    w.key("connected").flag(store.connected).key("failing").flag(store.failing);
    last_failure(w, store.last_failure.as_ref());
    w.end_object();
}

fn key_set(w: &mut Writer, keys: &KeyStatus) {
    w.object().key("issuer").string(&keys.issuer).key("keys").integer(keys.keys as u64).key("fetched");
    time(w, keys.fetched);
    w.key("failing").flag(keys.failing);
    last_failure(w, keys.last_failure.as_ref());
    w.end_object();
}

fn last_failure(w: &mut Writer, failure: Option<&(u64, String)>) {
    w.key("last_failure");
    match failure {
        Some((at, message)) => {
            w.object().key("time");
            time(w, Some(*at));
            w.key("message").string(&redact(message)).end_object();
        }
        None => drop(w.raw("null")),
    }
}

/// State of each limit, as the shared store reported it if it counts, else as this process counts.
fn statuses<'a>(state: &'a State<'_>) -> impl Iterator<Item = (&'a LimitId, LimitStatus)> {
    let mut shared = state.store.and_then(Store::statuses);
    state.limiter.statuses(state.now).map(move |(id, status)| (id, shared.as_mut().and_then(Iterator::next).unwrap_or(status)))
}

fn limits(state: &State<'_>) -> Vec<u8> {
    let mut w = Writer::with_capacity(4096);
    let counted_by = state.store.map_or(CountedBy::Node, Store::counted_by);
    w.object().key("counted_by").string(counted_by.name()).key("limits").array();
    for ((id, status), warnings) in statuses(state).zip(state.limiter.warnings()) {
        w.object().key("scope").string(id.scope.name()).key("name").string(&id.name);
        if let Some(routes) = &id.routes {
            w.key("routes").array();
            for name in routes.iter() {
                w.string(name);
            }
            w.end_array();
        }
        w.key("dimension").string(id.dimension.name()).key("per_ms").integer(milliseconds(id.per.length()));
        if let LimitPeriod::Window(DAY | MONTH) = id.per {
            w.key("per").string(&id.per.to_string());
        }
        let amounts = [("limit", status.limit), ("used", status.used), ("reserved", status.reserved), ("remaining", status.remaining)];
        for (name, amount) in amounts {
            match id.dimension {
                Dimension::Usd => w.key(name).raw(&usd(amount)),
                _ => w.key(name).integer(amount),
            };
        }
        w.key("reset_ms").integer(milliseconds(status.reset));
        if let Some((percent, count)) = warnings {
            w.key("warn_percent").integer(percent.into()).key("warnings").integer(count);
        }
        w.end_object();
    }
    w.end_array().end_object();
    w.finish()
}

fn time(w: &mut Writer, nanoseconds: Option<u64>) {
    match nanoseconds.and_then(|at| jiff::Timestamp::from_nanosecond(i128::from(at)).ok()) {
        Some(at) => w.string(&format!("{at:.3}")),
        None => w.raw("null"),
    };
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::rule::{Limit, LimitRule, LimitedRoutes, RouteNames, RouteSet};
    use crate::limit::{Estimate, Subject};
    use crate::telemetry::metrics::Names;
    use std::sync::Arc;

    const NOW: u64 = 1_767_225_600_000_000_000;

    fn get(path: &str, serving: bool) -> Page {
        let names = Names {
            routes: vec![("chat".into(), vec![0])],
            providers: vec!["gpu".into()],
            targets: vec![(0, "gpu/a".into()), (0, "gpu/b".into()), (0, "gpu/c".into()), (0, "gpu/*".into())],
            ..Names::default()
        };
        let minute = LimitPeriod::Smooth(Duration::from_secs(60));
        let limit = |dimension, amount, per| Limit { rule: LimitRule { dimension, amount, per, burst: amount, warn: None }, routes: None };
        let routes = LimitedRoutes { names: RouteNames::new(vec!["chat".into()]), set: RouteSet(vec![true]) };
        let by_day = limit(Dimension::Requests, 2, LimitPeriod::Window(DAY));
        let rules = [
            limit(Dimension::Tokens, 100, minute),
            limit(Dimension::Requests, 6, minute),
            limit(Dimension::Usd, 2_500_000, LimitPeriod::Window(MONTH)),
            Limit { rule: LimitRule { warn: Some(50), ..by_day.rule }, routes: Some(routes) },
        ];
        let limiter = Arc::new(Limiter::with([vec![("ci".into(), &rules)], vec![], vec![], vec![]], None, NOW));
        let subject = Subject { key: Some(0), team: None };
        let _permit = limiter.admit(&subject, 0, Estimate { tokens: 30, micro_usd: 500 }, NOW).unwrap();
        let reloads =
            Reloads { rejected: 1, last_rejected: Some(NOW), problems: vec!["1:2: api_key sk-0123456789".into()], ..Reloads::default() };
        let reloads = Reloads { warnings: vec![("w".into(), "3:4: w".into())], key_problems: vec!["k.yaml:1:1: bad".into()], ..reloads };
        let state = State {
            metrics: &Metrics::new(names, None).unwrap(),
            limiter: &limiter,
            store: None,
            now: NOW,
            started: NOW - 5_000_000_000,
            uptime: Duration::from_millis(5_900),
            serving,
            configuration: Configuration { generation: 7, digest: [0xa5; 32], loaded_at: NOW / 1_000_000_000 },
            history: &History::default(),
            failures: &Failures::default(),
            reloads: &reloads,
            key_files: Some(3),
            jwks: &[KeyStatus {
                issuer: "https://idp.example.com".into(),
                keys: 2,
                fetched: Some(NOW),
                failures: 3,
                failing: true,
                last_failure: Some((NOW, "the key set: could not connect".into())),
            }],
            upgrade: &Upgrade::Failed { at: NOW, problem: "no successor".into() },
            target: &|index| match index {
                0 => TargetHealth::Healthy,
                1 => TargetHealth::Ejected(Duration::from_micros(1500)),
                2 => TargetHealth::Resting(Duration::from_millis(7)),
                _ => TargetHealth::Healthy,
            },
            models: &|index| {
                let model = |name: &str, millis, ejected| (name.into(), Duration::from_millis(millis), ejected);
                let more = (0..100).map(|i| model(&format!("m{i}"), 1, false));
                let out = [model("sk-0123456789", 9, true)].into_iter().chain(more).collect();
                (index == 3).then_some(PatternModels { known: 200, out })
            },
            adjusted: &[Adjusted {
                provider: "gpu".into(),
                model: "a".into(),
                adjustment: crate::llm::adjustments::Adjustment::Without(crate::llm::field::Field::Seed),
                until: NOW + 5_000_000,
            }],
            log_lines_dropped: 3,
        };
        page(path, &state)
    }

    fn body(page: Page) -> String {
        String::from_utf8(page.body).unwrap()
    }

    #[test]
    fn readiness_is_service_and_life_is_life() {
        assert_eq!((get("/healthz", false).status, get("/readyz", false).status, get("/readyz", true).status), (200, 503, 200));
        for path in ["", "/anything", "/status/", "/v1/models", "/metrics/"] {
            assert_eq!(get(path, true).status, 404);
        }
    }

    #[test]
    fn the_status_tells_health_and_reloads_without_secrets() {
        let resting = |i: usize| format!(r#",{{"model":"m{i}","healthy":false,"resting_for_ms":1}}"#);
        let listed: String = (0..MAX_MODELS_LISTED - 1).map(resting).collect();
        let listed = r#"{"model":"[redacted]","healthy":false,"ejected_for_ms":9}"#.to_owned() + &listed;
        assert_eq!(
            body(get("/status", true)).replace(&listed, "LISTED"),
            concat!(
                r#"{"version":""#,
                env!("CARGO_PKG_VERSION"),
                r#"","serving":true,"started":"2025-12-31T23:59:55.000Z","uptime_seconds":5,"#,
                r#""routes":[{"route":"chat","targets":[{"target":"gpu/a","healthy":true},{"target":"gpu/b","healthy":false,"ejected_for_ms":2},{"target":"gpu/c","healthy":false,"resting_for_ms":7},"#,
                r#"{"target":"gpu/*","healthy":true,"models":{"known":200,"out":101,"listed":[LISTED]}}]}],"#,
                r#""refused_members":[{"provider":"gpu","model":"a","member":"seed","adjustment":"left out","left_out_for_ms":5}],"#,
                r#""configuration":{"generation":7,"sha256":"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5","applied":"2026-01-01T00:00:00.000Z"},"#,
                r#""reloads":{"applied":0,"rejected":1,"last_applied":null,"last_rejected":"2026-01-01T00:00:00.000Z","problems":["1:2: api_key [redacted]"],"warnings":["3:4: w"]},"#,
                r#""key_files":{"in_force":3,"problems":["k.yaml:1:1: bad"]},"#,
                r#""jwks":[{"issuer":"https://idp.example.com","keys":2,"fetched":"2026-01-01T00:00:00.000Z","failing":true,"last_failure":{"time":"2026-01-01T00:00:00.000Z","message":"the key set: could not connect"}}],"#,
                r#""upgrade":{"state":"failed","at":"2026-01-01T00:00:00.000Z","problem":"no successor"}}"#
            )
        );
    }

    #[test]
    fn the_history_has_every_route_and_the_failures() {
        let expected = r#"{"bucket_seconds":60,"routes":[{"route":"chat"},{"route":null}],"failures":[]}"#;
        assert_eq!(body(get("/status/history", true)), expected);
    }

    #[test]
    fn only_the_page_has_a_policy() {
        for path in ["/", "/metrics", "/status", "/limits", "/nothing"] {
            assert_eq!(get(path, true).policy.is_some(), path == "/", "{path}");
        }
    }

    #[test]
    fn the_limits_tell_what_is_used_and_reserved() {
        assert_eq!(
            body(get("/limits", true)),
            concat!(
                r#"{"counted_by":"node","limits":[{"scope":"key","name":"ci","dimension":"requests","per_ms":60000,"limit":6,"used":1,"reserved":0,"remaining":5,"reset_ms":10000},"#,
                r#"{"scope":"key","name":"ci","dimension":"tokens","per_ms":60000,"limit":100,"used":0,"reserved":30,"remaining":70,"reset_ms":18000},"#,
                r#"{"scope":"key","name":"ci","dimension":"usd","per_ms":2678400000,"per":"month","limit":2.5,"used":0,"reserved":0.0005,"remaining":2.4995,"reset_ms":2678400000},"#,
                r#"{"scope":"key","name":"ci","routes":["chat"],"dimension":"requests","per_ms":86400000,"per":"day","limit":2,"used":1,"reserved":0,"remaining":1,"reset_ms":86400000,"warn_percent":50,"warnings":1}]}"#
            )
        );
    }

    #[test]
    fn the_metrics_show_health_and_lost_lines_as_they_are_now() {
        let text = body(get("/metrics", true));
        for (target, state) in [("a", 1), ("b", 0), ("c", 1)] {
            let line = format!("tidegate_target_state{{route=\"chat\",target=\"gpu/{target}\"}} {state}\n");
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
        assert!(text.contains("tidegate_log_lines_dropped_total 3\n"));
        let used = "tidegate_limit_used_ratio{dimension=\"requests\",name=\"ci\",scope=\"key\"} 0.5";
        assert!(text.contains(used), "{text}");
        assert!(text.contains("tidegate_key_file_problems 1\n"), "{text}");
        assert!(text.contains("tidegate_jwks_fetch_failures_total{issuer=\"https://idp.example.com\"} 3\n"), "{text}");
        assert!(text.contains("tidegate_jwks_age_seconds{issuer=\"https://idp.example.com\"} "), "{text}");
        assert!(text.contains("tidegate_limit_warnings_total{dimension=\"requests\",name=\"ci\",scope=\"key\"} 1\n"), "{text}");
    }
}
