//! `tidegate reference`: what users, dashboards and scripts can rely on by name, as Markdown, from the places in the code
//! where the names are defined. `conf/reference.md` is its output, and a test compares the two.

use crate::account::{EndedBy, Ledger};
use crate::edge::response_headers;
use crate::error::ErrorKind;
use crate::limit::rule::Dimension;
use crate::limit::{Scope, headers};
use crate::telemetry::access::AccessLine;
use crate::telemetry::labels::{AuthFailure, Decision, LIMIT_STORE_FAILED, Outcome, Phase, Refused, Rejected, Reload, TokenType};
use crate::telemetry::metrics::FAMILIES;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use std::fmt::Write as _;

/// Members of an access line, with their meaning.
const FIELDS: &[(&str, &str)] = &[
    ("time", "When the request ended, RFC 3339 with milliseconds, in UTC."),
    ("log", "`access`."),
    ("request_id", "`x-request-id` of the answer."),
    ("client_request_id", "The client's own `x-request-id`."),
    ("trace_id", "The trace of `traceparent`."),
    ("episode_id", "The episode that the request belongs to."),
    ("endpoint", "`chat`, `embeddings` or `models`."),
    ("team", "The key's team."),
    ("key", "The key's id, never the key."),
    ("route", "The route that was asked for."),
    ("model", "The name that the client asked for and that leads to no route for its key; only then."),
    ("provider", "The provider that answered, or failed last."),
    ("upstream_model", "The model there, as the provider calls it."),
    ("passed_over", "Targets that were not asked because they cannot serve the request, and why; only where there are any."),
    ("tried", "Targets that were asked and how that ended; only where one has failed."),
    ("attempts", "How many targets were tried."),
    ("status", "The status that the client got; 499 where it left before there was one."),
    ("stream", "Whether a stream was asked for."),
    ("tokens_in", "Tokens of the prompt, cached ones included."),
    ("tokens_out", "Tokens of the answer, reasoning included."),
    ("tokens_cached", "Tokens of the prompt that the provider read from its cache."),
    ("tokens_reasoning", "Tokens of the answer that were reasoning."),
    ("tokens_estimated", "Whether the tokens are an estimate, because the provider did not tell them or the answer did not end."),
    ("cost_usd", "The cost by the `price` of the target, in USD."),
    ("ttft_ms", "From the first byte of the request to the first content of its answer, in milliseconds."),
    ("duration_ms", "From the first byte of the request to the last of its answer, in milliseconds."),
    ("overhead_us", "The time of it that was spent in Tidegate, in microseconds."),
    ("ended_by", "Who ended the request; see below."),
    ("reason", "Why it was refused or failed; see below."),
    ("limit_scope", "Whose limit refused it: `key`, `team`, `route` or `provider`; only where one did."),
    ("limit_dimension", "Of what: `requests`, `tokens`, `concurrent` or `usd`; only where one did."),
    ("client", "The client's address."),
];

/// Members of every other line.
const RECORD: &[(&str, &str)] = &[
    ("time", "When it was written."),
    ("level", "`error`, `warn`, `info`, `debug` or `trace`."),
    ("target", "The part of the program that wrote it."),
    ("message", "What happened, without secrets."),
];

/// The whole page.
pub fn text() -> String {
    let mut page = Page(String::new());
    page.line("# Reference");
    page.line("");
    page.line("Printed by `tidegate reference` from the names in the code.");
    headers_of_answers(&mut page);
    errors(&mut page);
    log(&mut page);
    metrics(&mut page);
    #[cfg(feature = "simulator")]
    scripts(&mut page);
    page.0
}

fn headers_of_answers(page: &mut Page) {
    page.section("Response headers");
    page.table(&["header", "meaning"]);
    for (name, about) in response_headers::ALL {
        page.row(&[&code(name), &prose(about)]);
    }
    page.section("Limit headers");
    page.line("Of the tightest limit that applies to the request, in OpenAI's words. Without such a limit they are left out.");
    page.table(&["header", "meaning"]);
    for (names, what) in [(&headers::REQUESTS, "requests"), (&headers::TOKENS, "tokens")] {
        let [limit, remaining, reset] = names;
        page.row(&[&code(limit.as_str()), &format!("How many {what} are permitted at once: the limit's `burst`.")]);
        page.row(&[&code(remaining.as_str()), &format!("How many {what} are still permitted.")]);
        page.row(&[&code(reset.as_str()), "The time until the limit is whole again, like `6m0s` or `850ms`."]);
    }
}

fn errors(page: &mut Page) {
    page.section("Errors");
    page.line("`{\"error\": {\"message\": …, \"type\": …, \"param\": …, \"code\": …}}`. `code` is the status, `param` the field to blame or null.");
    page.table(&["type", "status", "meaning"]);
    for kind in ErrorKind::ALL {
        let statuses: Vec<_> = kind.statuses().iter().map(u16::to_string).collect();
        page.row(&[&code(kind.name()), &statuses.join(", "), &prose(kind.about())]);
    }
}

fn log(page: &mut Page) {
    page.section("Log");
    page.line("One line per request. Absent values are null (`format: json`) or left out (`format: text`).");
    page.table(&["field", "meaning"]);
    for name in access_fields() {
        let about = FIELDS.iter().find(|(field, _)| *field == name).map_or("", |(_, about)| about);
        page.row(&[&code(&name), about]);
    }
    page.line("");
    page.line("Every other line:");
    page.table(&["field", "meaning"]);
    for (name, about) in RECORD {
        page.row(&[&code(name), about]);
    }
    page.words("`ended_by`", EndedBy::ALL.iter().map(|word| (word.name(), word.about())));
    page.line("");
    page.line("`reason` is an outcome of an attempt, a reason of a refused key, or one of these:");
    page.table(&["word", "meaning"]);
    for word in Refused::ALL {
        page.row(&[&code(word.name()), &prose(word.about())]);
    }
    page.row(&[&code(LIMIT_STORE_FAILED), "The limit store failed, and `on_store_failure` decided."]);
}

/// The members of an access line, in their order.
fn access_fields() -> Vec<String> {
    let (ledger, mut line) = (Ledger::new(), Vec::new());
    AccessLine::example(&ledger).write(&mut line, true);
    // Members are written in the order in which they are read, which a map of serde's does not keep.
    let text = String::from_utf8_lossy(&line);
    let members = text.trim_start_matches('{').split("\":").filter_map(|before| before.rsplit_once('"').map(|(_, name)| name.to_owned()));
    let known: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&line).unwrap_or_default();
    members.filter(|name| known.contains_key(name)).collect()
}

fn metrics(page: &mut Page) {
    page.section("Metrics");
    page.table(&["metric", "type", "labels", "meaning"]);
    for (name, kind, help, labels) in FAMILIES {
        let kind = kind.trim_start_matches("Int").to_ascii_lowercase();
        page.row(&[&code(name), &kind, &labels.iter().map(|label| code(label)).collect::<Vec<_>>().join(", "), help]);
    }
    let process = ProcessCollector::for_self();
    for metric in process.desc() {
        page.row(&[&code(&metric.fq_name), "", "", &metric.help]);
    }
    page.line("");
    page.line(
        "`route`, `team`, `provider` and `target` are names of the configuration, `param` is a field of the request or `other`, `status`",
    );
    page.line("a status or `other`. The others have these values:");
    page.words("`outcome` of an attempt", Outcome::ALL.iter().map(|word| (word.name(), word.about())));
    page.words("`reason` of a refused key", AuthFailure::ALL.iter().map(|word| (word.name(), word.about())));
    page.words("`reason` of a rejected connection", Rejected::ALL.iter().map(|word| (word.name(), word.about())));
    page.words("`phase` of a client that left", Phase::ALL.iter().map(|word| (word.name(), word.about())));
    page.words("`decision` of a limit", Decision::ALL.iter().map(|word| (word.name(), word.about())));
    page.words("`result` of a reload", Reload::ALL.iter().map(|word| (word.name(), word.about())));
    page.words("`token_type`", TokenType::ALL.iter().map(|word| (word.name(), word.about())));
    page.line("");
    let scopes = Scope::ALL.map(|scope| code(scope.name())).join(", ");
    let dimensions = Dimension::ALL.map(|dimension| code(dimension.name())).join(", ");
    page.line(&format!("`scope` of a limit: {scopes}. `dimension`: {dimensions}."));
}

#[cfg(feature = "simulator")]
fn scripts(page: &mut Page) {
    use crate::simulate::script::Directive;
    page.section("Scripts of the simulator");
    page.line("What follows a `+` in a model's name tells the simulator how to answer: `gpt-4o+fail-first=2+status=503+retry-after=7`.");
    page.table(&["word", "meaning"]);
    for directive in Directive::ALL {
        page.row(&[&code(directive.name()), &prose(directive.about())]);
    }
}

/// Markdown that grows.
struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn section(&mut self, title: &str) {
        self.line(&format!("\n## {title}\n"));
    }

    /// The head of a table.
    fn table(&mut self, columns: &[&str]) {
        if !self.0.ends_with("\n\n") {
            self.line("");
        }
        self.row(columns);
        let _infallible = writeln!(self.0, "|{}", " --- |".repeat(columns.len()));
    }

    fn row(&mut self, cells: &[&str]) {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _infallible = writeln!(self.0, "| {} |", cells.join(" | "));
    }

    /// A table of words under a line that says what they are.
    fn words<'w>(&mut self, what: &str, words: impl Iterator<Item = (&'w str, &'w str)>) {
        self.line("");
        self.line(&format!("{what}:"));
        self.table(&["word", "meaning"]);
        for (word, about) in words {
            self.row(&[&code(word), &prose(about)]);
        }
    }
}

fn code(word: &str) -> String {
    format!("`{word}`")
}

/// A doc comment on one line, without links to other items.
fn prose(about: &str) -> String {
    about.split_whitespace().collect::<Vec<_>>().join(" ").replace("[`", "`").replace("`]", "`")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    #[cfg(feature = "simulator")]
    fn the_page_is_what_the_code_says() {
        let page = include_str!("../conf/reference.md");
        assert!(page == text(), "conf/reference.md is not up to date; run `tidegate reference > conf/reference.md`");
    }

    #[test]
    fn every_field_of_a_line_has_a_meaning_and_every_meaning_a_field() {
        let written: BTreeSet<_> = access_fields().into_iter().collect();
        let described: BTreeSet<_> = FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(written, described);
    }

    #[test]
    fn pages_may_read_the_headers_that_are_ours() {
        use crate::edge::cors::EXPOSED_NAMES;
        let exposed: BTreeSet<_> = EXPOSED_NAMES.split(", ").collect();
        let limits = [headers::REQUESTS, headers::TOKENS].concat();
        let limits = limits.iter().map(http::HeaderName::as_str);
        let names: BTreeSet<_> = response_headers::ALL.iter().map(|(name, _)| *name).chain(limits).collect();
        let ours = |name: &&&str| (name.starts_with("x-") && **name != "x-accel-buffering") || name.starts_with("retry-after");
        assert_eq!(names.iter().filter(ours).copied().collect::<BTreeSet<_>>(), exposed);
    }
}
