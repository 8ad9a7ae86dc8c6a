//! The access log: one line per request, without any content of requests or answers.

use super::attribute::Values;
use crate::account::Ledger;
use crate::json::write::{escape, integer};
use crate::limit::Scope;
use crate::limit::rule::Dimension;
use std::cell::Cell;
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

/// A finished request, with the names for its ledger's indices. Empty strings are absent values.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// End of the request, in nanoseconds since the Unix epoch.
    pub time: u64,
    /// `x-request-id` of the response.
    pub request_id: &'a str,
    /// `x-request-id` of the request.
    pub client_request_id: &'a str,
    /// Trace id: that of `traceparent`, or one of the gateway's own.
    pub trace_id: &'a str,
    /// Id that groups requests.
    pub episode_id: &'a str,
    /// The endpoint, from a closed set.
    pub endpoint: &'static str,
    /// What sticky balancing went by, from a closed set; omitted for other routes.
    pub sticky_by: &'static str,
    /// The team.
    pub team: &'a str,
    /// Id of the key or of who shows a token.
    pub key: &'a str,
    /// Which of both it is, from a closed set; omitted where nothing was shown.
    pub auth: &'static str,
    /// The route.
    pub route: &'a str,
    /// The requested model, only if it matches no route, or none allowed for the key.
    pub model: &'a str,
    /// The provider that answered.
    pub provider: &'a str,
    /// The provider's model.
    pub upstream_model: &'a str,
    /// Skipped targets with reasons: `provider/model (why), …`; omitted if empty.
    pub passed_over: &'a str,
    /// Tried targets with outcomes: `provider/model (outcome), …`; omitted unless one failed.
    pub tried: &'a str,
    /// Why it was rejected or failed, from a closed set.
    pub reason: &'static str,
    /// The limit that rejected it; omitted if none did.
    pub limit: Option<(Scope, Dimension)>,
    /// Address of the client.
    pub client: Option<IpAddr>,
    /// The configured attributes and their values; omitted where the request has none.
    pub attributes: &'a Values,
    /// Counts, times and outcome.
    pub ledger: &'a Ledger,
}

/// A field name with its punctuation, as constants.
#[derive(Clone, Copy)]
pub(super) struct Key {
    /// `,"name":`
    pub json: &'static str,
    /// ` name=`
    pub text: &'static str,
}

/// Makes a [`Key`].
macro_rules! key {
    ($name:literal) => {
        $crate::telemetry::access::Key { json: concat!(",\"", $name, "\":"), text: concat!(" ", $name, "=") }
    };
}
pub(super) use key;

impl<'a> AccessLine<'a> {
    /// An example with every field set.
    pub fn example(ledger: &'a Ledger) -> Self {
        Self {
            time: 1_767_225_600_042_999_999,
            request_id: "r-1",
            client_request_id: "c-1",
            trace_id: "t-1",
            episode_id: "e-1",
            endpoint: "chat",
            sticky_by: "session",
            team: "search",
            key: "search-prod",
            auth: "key",
            route: "chat",
            model: "chatt",
            provider: "gpu",
            upstream_model: "Qwen/Qwen3-4B",
            passed_over: "gpu/Qwen3-0.6B (n)",
            tried: "gpu/Qwen3-4B (timeout)",
            reason: "timeout",
            limit: Some((Scope::Team, Dimension::Tokens)),
            client: Some(IpAddr::from([192, 0, 2, 1])),
            attributes: Values::example(),
            ledger,
        }
    }

    /// Appends the line, including the line feed.
    pub fn write(&self, out: &mut Vec<u8>, json: bool) {
        let ledger = self.ledger;
        let usage = &ledger.usage;
        let mut line = Line::begin(out, json, self.time);
        line.word(key!("log"), "access");
        line.text(key!("request_id"), self.request_id);
        line.text(key!("client_request_id"), self.client_request_id);
        line.text(key!("trace_id"), self.trace_id);
        line.text(key!("episode_id"), self.episode_id);
        line.word(key!("endpoint"), self.endpoint);
        line.text(key!("team"), self.team);
        line.text(key!("key"), self.key);
        line.some(key!("auth"), self.auth);
        line.text(key!("route"), self.route);
        line.some(key!("sticky_by"), self.sticky_by);
        line.some(key!("model"), self.model);
        line.text(key!("provider"), self.provider);
        line.text(key!("upstream_model"), self.upstream_model);
        line.some(key!("upstream_id"), ledger.upstream_id.as_deref().unwrap_or_default());
        line.some(key!("passed_over"), self.passed_over);
        line.some(key!("tried"), self.tried);
        line.number(key!("attempts"), u64::from(ledger.attempts));
        line.number(key!("status"), u64::from(ledger.status));
        line.flag(key!("stream"), ledger.stream);
        line.number(key!("tokens_in"), usage.prompt);
        line.number(key!("tokens_out"), usage.completion);
        line.number(key!("tokens_cached"), usage.cached);
        line.number(key!("tokens_reasoning"), usage.reasoning);
        line.flag(key!("tokens_estimated"), ledger.estimated);
        line.decimal(key!("cost_usd"), ledger.micro_usd, 6);
        if ledger.saved_micro_usd > 0 {
            line.decimal(key!("cache_savings_usd"), ledger.saved_micro_usd, 6);
        }
        line.milliseconds(key!("ttft_ms"), ledger.ttft);
        line.milliseconds(key!("duration_ms"), Some(ledger.duration));
        line.number(key!("overhead_us"), u64::try_from(ledger.overhead.as_micros()).unwrap_or(u64::MAX));
        line.word(key!("ended_by"), ledger.ended_by.name());
        line.word(key!("reason"), self.reason);
        if let Some((scope, dimension)) = self.limit {
            line.word(key!("limit_scope"), scope.name());
            line.word(key!("limit_dimension"), dimension.name());
        }
        line.address(key!("client"), self.client);
        line.members(key!("attributes"), self.attributes.iter().filter(|(_, value)| !value.is_empty()));
        line.end();
    }
}

/// Writes a line: a JSON object, or `key=value` pairs that omit absent values.
pub(super) struct Line<'a> {
    out: &'a mut Vec<u8>,
    json: bool,
}

impl<'a> Line<'a> {
    /// Starts a line with the time.
    pub fn begin(out: &'a mut Vec<u8>, json: bool, time: u64) -> Self {
        let (before, after): (&[u8], &[u8]) = if json { (b"{\"time\":\"", b"\"") } else { (b"", b"") };
        out.extend_from_slice(before);
        timestamp(out, time);
        out.extend_from_slice(after);
        Self { out, json }
    }

    /// A string; omitted if empty.
    fn some(&mut self, key: Key, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    /// A string that needs no escaping; null if empty.
    fn word(&mut self, key: Key, value: &'static str) {
        if value.is_empty() {
            return self.null(key);
        }
        self.key(key);
        let quote: &[u8] = if self.json { b"\"" } else { b"" };
        self.out.extend_from_slice(quote);
        self.out.extend_from_slice(value.as_bytes());
        self.out.extend_from_slice(quote);
    }

    /// A string; null if empty.
    pub fn text(&mut self, key: Key, value: &str) {
        if value.is_empty() {
            return self.null(key);
        }
        self.key(key);
        self.value(value);
    }

    /// A string's value.
    fn value(&mut self, value: &str) {
        let bare = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\');
        if !self.json && value.bytes().all(bare) {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            self.out.push(b'"');
            one_line(self.out, value);
            self.out.push(b'"');
        }
    }

    /// Members of an object, with names that need no escaping; omitted if there is none.
    fn members<'v>(&mut self, key: Key, members: impl Iterator<Item = (&'v str, &'v str)>) {
        let (mut before, mut end): (&[u8], &[u8]) = (b"{\"", b"");
        for (name, value) in members {
            if !self.json || end.is_empty() {
                self.key(key);
            }
            if self.json {
                self.out.extend_from_slice(before);
                self.out.extend_from_slice(name.as_bytes());
                self.out.extend_from_slice(b"\":");
                (before, end) = (b",\"", b"}");
            } else {
                self.out.pop(); // the `=` of the key
                let _ = write!(self.out, ".{name}="); // cannot fail
            }
            self.value(value);
        }
        self.out.extend_from_slice(end);
    }

    fn key(&mut self, key: Key) {
        self.out.extend_from_slice(if self.json { key.json } else { key.text }.as_bytes());
    }

    fn null(&mut self, key: Key) {
        if self.json {
            self.key(key);
            self.out.extend_from_slice(b"null");
        }
    }

    fn number(&mut self, key: Key, value: u64) {
        self.key(key);
        integer(self.out, value);
    }

    fn flag(&mut self, key: Key, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// `value` / 10^`places`, exact.
    fn decimal(&mut self, key: Key, value: u64, places: u32) {
        self.key(key);
        let unit = 10u64.saturating_pow(places);
        integer(self.out, value / unit);
        if !value.is_multiple_of(unit) {
            // A leading 1 preserves zeros after the point; the point then overwrites it.
            let point = self.out.len();
            integer(self.out, unit + value % unit);
            if let Some(one) = self.out.get_mut(point) {
                *one = b'.';
            }
            while self.out.last() == Some(&b'0') {
                self.out.pop();
            }
        }
    }

    fn milliseconds(&mut self, key: Key, value: Option<Duration>) {
        match value {
            Some(time) => self.decimal(key, u64::try_from(time.as_micros()).unwrap_or(u64::MAX), 3),
            None => self.null(key),
        }
    }

    fn address(&mut self, key: Key, value: Option<IpAddr>) {
        let Some(address) = value else { return self.null(key) };
        self.key(key);
        let quote: &[u8] = if self.json { b"\"" } else { b"" };
        self.out.extend_from_slice(quote);
        match address {
            IpAddr::V4(v4) => {
                for (i, octet) in v4.octets().into_iter().enumerate() {
                    self.out.extend_from_slice(if i == 0 { b"" } else { b"." });
                    integer(self.out, u64::from(octet));
                }
            }
            IpAddr::V6(v6) => drop(write!(self.out, "{v6}")), // cannot fail
        }
        self.out.extend_from_slice(quote);
    }

    /// Ends the line.
    pub fn end(self) {
        self.out.extend_from_slice(if self.json { b"}\n" } else { b"\n" });
    }
}

/// RFC 3339 with milliseconds. The text up to the second is cached per thread.
fn timestamp(out: &mut Vec<u8>, time: u64) {
    thread_local! {
        static LAST: Cell<(u64, [u8; 19])> = const { Cell::new((u64::MAX, [b'0'; 19])) };
    }
    const NANOS: u64 = 1_000_000_000;
    let second = time / NANOS;
    let (last, mut text) = LAST.get();
    if last != second {
        let moment = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or_default()).unwrap_or_default();
        let _ = write!(text.as_mut_slice(), "{moment:.0}"); // has space for all but the `Z`
        LAST.set((second, text));
    }
    out.extend_from_slice(&text);
    // A leading 1 preserves zeros after the point; the point then overwrites it.
    let point = out.len();
    integer(out, 1000 + time % NANOS / 1_000_000);
    if let Some(one) = out.get_mut(point) {
        *one = b'.';
    }
    out.push(b'Z');
}

/// Escapes as for JSON, and also characters that JSON allows but that some programs treat as line ends or terminals as
/// control codes.
pub(super) fn one_line(out: &mut Vec<u8>, mut text: &str) {
    if text.bytes().fold(true, |all, b| all & (b' '..=b'~').contains(&b) & (b != b'"') & (b != b'\\')) {
        return out.extend_from_slice(text.as_bytes());
    }
    let odd = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}');
    while let Some((at, c)) = text.char_indices().find(|(_, c)| odd(*c)) {
        escape(out, text.get(..at).unwrap_or_default());
        let _ = write!(out, "\\u{:04x}", u32::from(c));
        text = text.get(at + c.len_utf8()..).unwrap_or_default();
    }
    escape(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::usage::Usage;

    fn lines(route: &str, json: bool) -> String {
        with(route, json, |_| {})
    }

    /// The line of a request to a route, after a change.
    fn with(route: &str, json: bool, change: impl FnOnce(&mut AccessLine<'_>)) -> String {
        let ledger = Ledger {
            status: 200,
            attempts: 2,
            usage: Usage { prompt: 12, completion: 34, cached: 5, ..Usage::default() },
            micro_usd: 1_230,
            ttft: Some(Duration::from_micros(12_340)),
            duration: Duration::from_millis(2_000),
            overhead: Duration::from_nanos(87_900),
            ..Ledger::new()
        };
        let attributes = Values::default();
        let mut line = AccessLine {
            attributes: &attributes,
            time: 1_767_225_600_042_999_999,
            request_id: "r-1",
            client_request_id: "c-1",
            trace_id: "",
            episode_id: "e-1",
            endpoint: "chat",
            sticky_by: "",
            team: "search",
            key: "search-prod",
            auth: "",
            route,
            model: "",
            provider: "gpu",
            upstream_model: "Qwen/Qwen3-4B",
            passed_over: "",
            tried: "",
            reason: "",
            limit: None,
            client: Some("2001:db8::1".parse().unwrap()),
            ledger: &ledger,
        };
        change(&mut line);
        let mut out = Vec::new();
        line.write(&mut out, json);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_has_every_field() {
        let want = concat!(
            r#"{"time":"2026-01-01T00:00:00.042Z","log":"access","request_id":"r-1","client_request_id":"c-1","trace_id":null,"episode_id":"e-1","#,
            r#""endpoint":"chat","team":"search","key":"search-prod","route":"chat","provider":"gpu","upstream_model":"Qwen/Qwen3-4B","#,
            r#""attempts":2,"status":200,"stream":false,"tokens_in":12,"tokens_out":34,"tokens_cached":5,"tokens_reasoning":0,"#,
            r#""tokens_estimated":false,"cost_usd":0.00123,"ttft_ms":12.34,"duration_ms":2000,"overhead_us":87,"ended_by":"gateway","#,
            r#""reason":null,"client":"2001:db8::1"}"#,
            "\n"
        );
        assert_eq!(lines("chat", true), want);
    }

    #[test]
    fn what_few_requests_have_is_written_for_those_only() {
        let line = with("", true, |line| {
            line.model = "no\"such";
            line.auth = "token";
            line.tried = "gpu/a (connect), gpu/b (timeout)";
            line.reason = "limited";
            line.limit = Some((Scope::Team, Dimension::Requests));
        });
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        assert!(line.contains(r#""key":"search-prod","auth":"token","route""#), "{line}");
        assert_eq!((text("model"), text("tried")), ("no\"such".into(), "gpu/a (connect), gpu/b (timeout)".into()));
        assert_eq!((text("reason"), text("limit_scope"), text("limit_dimension")), ("limited".into(), "team".into(), "requests".into()));
        let line = with("chat", false, |line| line.limit = Some((Scope::Key, Dimension::Usd)));
        assert!(line.contains(" ended_by=gateway limit_scope=key limit_dimension=usd client=2001:db8::1\n"), "{line}");
    }

    #[test]
    fn attributes_are_an_object_of_their_own() {
        let line = with("chat", true, |line| line.attributes = Values::example());
        assert!(line.ends_with(",\"client\":\"2001:db8::1\",\"attributes\":{\"agent\":\"crawler\",\"user\":\"a\\\"b\"}}\n"), "{line}");
        let line = with("chat", false, |line| line.attributes = Values::example());
        assert!(line.ends_with(" client=2001:db8::1 attributes.agent=crawler attributes.user=\"a\\\"b\"\n"), "{line}");
    }

    #[test]
    fn no_value_can_forge_a_line_or_a_field() {
        let evil = "x\"}\n{\"status\":1\r\u{85}\u{2028}\u{9b}31m\\";
        let line = lines(evil, true);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((value["route"].as_str(), value["status"].as_u64()), (Some(evil), Some(200)));
        for line in [line, lines(evil, false)] {
            let ends = line.chars().filter(|c| c.is_control() || matches!(c, '\u{2028}')).count();
            assert_eq!((ends, line.ends_with('\n')), (1, true), "{line:?}");
        }
        assert!(lines("a b=c", false).contains(" route=\"a b=c\" provider=gpu "));
    }
}
