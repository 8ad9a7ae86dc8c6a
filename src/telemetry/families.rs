//! The metric families: names, types, labels and buckets.

use super::family::Family;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge};

/// Buckets from a rejected request to an agent's longest answer.
const DURATION: &[f64] = &[0.05, 0.25, 1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];
/// Further buckets, in seconds, up to the largest configured timeout. The last is the longest configurable duration.
pub(super) const DEADLINES: &[f64] = &[120.0, 300.0, 600.0, 1_200.0, 3_600.0, 21_600.0, 86_400.0, 2_592_000.0];
/// Buckets from microseconds to tens of milliseconds for large bodies.
const OVERHEAD: &[f64] = &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.025, 0.05, 0.1, 0.5];
/// OpenTelemetry's recommendation for GenAI, thinned out: every bucket is a series per route and provider.
const FIRST_TOKEN: &[f64] = &[0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
/// The same, extended for small models on fast hardware.
const PER_OUTPUT_TOKEN: &[f64] = &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 1.0, 2.5];

macro_rules! families {
    ($($field:ident: $kind:ty = $name:literal, $help:literal, [$($label:literal),*] $(, $buckets:expr)?;)+) => {
        /// Name, type, help and labels of every family.
        pub const FAMILIES: &[(&str, &str, &str, &[&str])] = &[$(($name, stringify!($kind), $help, &[$($label),*])),+];

        /// All series of the process.
        pub(super) struct Families { $(pub(super) $field: Family<$kind>),+ }

        impl Families {
            pub(super) fn new() -> prometheus::Result<Self> {
                Ok(Self { $($field: families!(@make $name, $help, [$($label),*] $(, $buckets)?)),+ })
            }

            pub(super) fn retain(&self, wanted: impl Fn(&str, &str) -> bool) {
                $(self.$field.retain(&wanted);)+
            }

            pub(super) fn collect(&self) -> Vec<MetricFamily> {
                [$(self.$field.collect()),+].into_iter().flatten().collect()
            }
        }
    };
    (@make $name:literal, $help:literal, [$($label:literal),*]) => { Family::new($name, $help, &[$($label),*])? };
    (@make $name:literal, $help:literal, [$($label:literal),*], $buckets:expr) => {
        Family::with_buckets($name, $help, &[$($label),*], $buckets)?
    };
}

families! {
    requests: IntCounter = "tidegate_requests_total", "Finished requests; the operation is none where no model was asked for.", ["route", "team", "provider", "operation", "status"];
    failed_streams: IntCounter = "tidegate_failed_streams_total", "Responses that failed after their head was sent, by the status of the error; `tidegate_requests_total` counts them under the status of the head.", ["route", "team", "provider", "operation", "status"];
    duration: Histogram = "tidegate_request_duration_seconds", "Time from the first byte of a request to the last byte of its response.", ["route", "provider", "operation", "stream"], DURATION;
    overhead: Histogram = "tidegate_gateway_overhead_seconds", "Time that Tidegate itself adds to a request.", ["route"], OVERHEAD;
    first_token: Histogram = "gen_ai_server_time_to_first_token_seconds", "Time from the first byte of a request to the first content of its streamed response.", ["route", "provider"], FIRST_TOKEN;
    per_output_token: Histogram = "gen_ai_server_time_per_output_token_seconds", "Time per output token of a streamed response after the first token.", ["route", "provider"], PER_OUTPUT_TOKEN;
    tokens: IntCounter = "gen_ai_client_token_usage_total", "Tokens used; input includes cached_input, output includes reasoning.", ["route", "team", "provider", "token_type"];
    prompt_cache: IntCounter = "tidegate_prompt_cache_tokens_total", "Tokens of prompts, by what the provider's cache had of them; from the first prompt on that it had a part of.", ["route", "team", "provider", "kind"];
    cost: Counter = "tidegate_cost_usd_total", "Cost of responses by the configured prices, in USD.", ["route", "team", "provider"];
    decisions: IntCounter = "tidegate_limit_decisions_total", "Limits checked; a rejected request counts once, for the limit reported to the client.", ["scope", "dimension", "decision"];
    attempts: IntCounter = "tidegate_upstream_attempts_total", "Attempts at providers; limited: not made because of a limit of the gateway.", ["provider", "operation", "outcome"];
    retries_over_budget: IntCounter = "tidegate_retries_over_budget_total", "Retries at a provider already asked that the route's retry budget did not allow.", ["route"];
    targets: IntGauge = "tidegate_target_state", "1 for a healthy target, 0 for an ejected one.", ["route", "target"];
    in_flight: IntGauge = "tidegate_in_flight_requests", "Requests in flight.", ["route"];
    open_streams: IntGauge = "tidegate_open_streams", "Streamed requests in flight.", ["route"];
    auth_failures: IntCounter = "tidegate_auth_failures_total", "Requests that failed authentication, or authorization for their route.", ["reason"];
    rejected: IntCounter = "tidegate_rejected_connections_total", "Client connections and request heads rejected before a request was read.", ["reason"];
    dropped_params: IntCounter = "tidegate_dropped_params_total", "Request fields dropped because the provider does not support them.", ["provider", "param"];
    disconnects: IntCounter = "tidegate_client_disconnects_total", "Client disconnects before the response was complete.", ["route", "phase"];
    reloads: IntCounter = "tidegate_config_reloads_total", "Configuration reloads.", ["result"];
    last_reload: Gauge = "tidegate_config_last_reload_timestamp_seconds", "Time of the last reload with this result.", ["result"];
    config_rejected: IntGauge = "tidegate_config_rejected", "1 if the last reload was rejected and an older configuration is in force, else 0.", [];
    key_problems: IntGauge = "tidegate_key_file_problems", "Problems of files of `keys_dir`, each of which is in force as it was before; shown where there is a `keys_dir`.", [];
    jwks_age: Gauge = "tidegate_jwks_age_seconds", "Time since the keys of an issuer were fetched; not shown before the first time.", ["issuer"];
    jwks_failures: IntCounter = "tidegate_jwks_fetch_failures_total", "Fetches of the keys of an issuer that failed.", ["issuer"];
    store_calls: IntCounter = "tidegate_limit_store_calls_total", "Calls of the limit store: decisions, connects, reports.", [];
    store_errors: IntCounter = "tidegate_limit_store_errors_total", "Calls of the limit store that failed or timed out.", [];
    limit_used: Gauge = "tidegate_limit_used_ratio", "Used fraction of a limit; the largest if several have the same dimension.", ["scope", "name", "dimension"];
    limit_warnings: IntCounter = "tidegate_limit_warnings_total", "Warnings of soft limits; limits of the same dimension are counted together.", ["scope", "name", "dimension"];
    attributed_requests: IntCounter = "tidegate_attributed_requests_total", "Requests by the value of an attribute whose values are configured.", ["attribute", "value"];
    attributed_tokens: IntCounter = "tidegate_attributed_tokens_total", "Tokens used, by the value of such an attribute.", ["attribute", "value", "token_type"];
    attributed_cost: Counter = "tidegate_attributed_cost_usd_total", "Cost of responses in USD, by the value of such an attribute.", ["attribute", "value"];
    log_dropped: IntCounter = "tidegate_log_lines_dropped_total", "Log lines dropped because stdout was too slow, full or closed.", [];
    spans_exported: IntCounter = "tidegate_spans_exported_total", "Spans that the OTLP endpoint has accepted.", [];
    spans_dropped: IntCounter = "tidegate_spans_dropped_total", "Spans of sampled requests that were not exported.", ["reason"];
    build: IntGauge = "tidegate_build_info", "Always 1; the version is a label.", ["version"];
}
