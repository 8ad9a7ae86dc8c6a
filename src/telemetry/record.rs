//! Reads the lines that [`access`](super::access) writes, in the formats `json` and `text`.

use jiff::Timestamp;
use memchr::memmem;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

/// A finished request, as far as reports need it. Absent values are `None` or 0; unknown fields are ignored.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct AccessRecord<'a> {
    /// End of the request.
    #[serde(borrow)]
    time: Text<'a>,
    /// `access`.
    log: Text<'a>,
    /// The endpoint.
    pub endpoint: Option<Text<'a>>,
    /// The team.
    pub team: Option<Text<'a>>,
    /// Id of the key.
    pub key: Option<Text<'a>>,
    /// The route.
    pub route: Option<Text<'a>>,
    /// The provider that answered.
    pub provider: Option<Text<'a>>,
    /// The provider's model.
    pub upstream_model: Option<Text<'a>>,
    /// Status of the response.
    pub status: u16,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// Prompt tokens from a cache.
    pub tokens_cached: u64,
    /// Completion tokens that were reasoning.
    pub tokens_reasoning: u64,
    /// In micro-dollars.
    #[serde(deserialize_with = "millionths")]
    pub cost_usd: u64,
    /// In micro-dollars.
    #[serde(deserialize_with = "millionths")]
    pub cache_savings_usd: u64,
    /// In microseconds.
    #[serde(deserialize_with = "maybe_thousandths")]
    pub ttft_ms: Option<u64>,
    /// In microseconds.
    #[serde(deserialize_with = "maybe_thousandths")]
    pub duration_ms: Option<u64>,
    /// How it ended; a name of [`EndedBy`](crate::account::EndedBy).
    pub ended_by: Option<Text<'a>>,
}

/// Text of the line, copied only if it is escaped there. (Serde copies an `Option<Cow<str>>` always.)
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The request of a line; `None` if it is no line of the access log, or not a whole one. Text before the JSON object is ignored, and so
/// are the time, stream and tag of container runtimes before a line of the format `text`.
pub fn read(line: &[u8]) -> Option<(Timestamp, AccessRecord<'_>)> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let record = if memmem::find(line.as_bytes(), br#""log":"access""#).is_some() {
        serde_json::from_str(line.get(line.find('{')?..)?).ok()?
    } else {
        memmem::find(line.as_bytes(), b" log=access ").and_then(|_| text(without_stream(line)))?
    };
    if record.log.0 != "access" {
        return None;
    }
    Some((record.time.0.parse().ok()?, record))
}

/// A whole line (`F`) of the format of the Container Runtime Interface, `TIME STREAM TAG LINE`, without what precedes it; any other line as
/// it is. <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>
fn without_stream(line: &str) -> &str {
    let mut parts = line.splitn(4, ' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some("stdout" | "stderr"), Some("F"), Some(own)) => own,
        _ => line,
    }
}

/// A line of the format `text`: the time, and ` key=value` for each value that is not absent.
fn text(line: &str) -> Option<AccessRecord<'_>> {
    let (time, mut rest) = line.split_once(' ')?;
    let mut record = AccessRecord { time: Text(time.into()), ..AccessRecord::default() };
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=')?;
        let value = if value.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(value).into_iter::<Text<'_>>();
            let text = values.next()?.ok()?;
            rest = value.get(values.byte_offset()..)?;
            text
        } else {
            let end = value.find(' ').unwrap_or(value.len());
            rest = value.get(end..)?;
            Text(value.get(..end)?.into())
        };
        rest = rest.strip_prefix(' ').unwrap_or(rest);
        record.set(key, value)?;
    }
    // The last value of every line is the client's address, or how the request ended.
    record.ended_by.is_some().then_some(record)
}

impl<'a> AccessRecord<'a> {
    /// Sets a field; `None` if the value is not of its type.
    fn set(&mut self, key: &str, value: Text<'a>) -> Option<()> {
        let number = || value.0.parse::<u64>().ok();
        let decimal = |unit| value.0.parse().ok().and_then(|number| exact(number, unit));
        match key {
            "status" => self.status = value.0.parse().ok()?,
            "tokens_in" => self.tokens_in = number()?,
            "tokens_out" => self.tokens_out = number()?,
            "tokens_cached" => self.tokens_cached = number()?,
            "tokens_reasoning" => self.tokens_reasoning = number()?,
            "cost_usd" => self.cost_usd = decimal(MICRO)?,
            "cache_savings_usd" => self.cache_savings_usd = decimal(MICRO)?,
            "ttft_ms" => self.ttft_ms = Some(decimal(MILLI)?),
            "duration_ms" => self.duration_ms = Some(decimal(MILLI)?),
            "log" => self.log = value,
            "endpoint" => self.endpoint = Some(value),
            "team" => self.team = Some(value),
            "key" => self.key = Some(value),
            "route" => self.route = Some(value),
            "provider" => self.provider = Some(value),
            "upstream_model" => self.upstream_model = Some(value),
            "ended_by" => self.ended_by = Some(value),
            _ => {}
        }
        Some(())
    }
}

const MICRO: f64 = 1e6;
const MILLI: f64 = 1e3;
/// Largest count that a decimal is read as: below it, every whole number of a unit survives the way through a float.
const MAX_EXACT: f64 = 9e15;

/// A decimal that the log writes with whole units, in units.
fn exact(number: f64, unit: f64) -> Option<u64> {
    let units = (number * unit).round();
    (0.0..=MAX_EXACT).contains(&units).then_some(units as u64)
}

fn millionths<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    exact(f64::deserialize(from)?, MICRO).ok_or_else(|| serde::de::Error::custom("not an amount"))
}

fn maybe_thousandths<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<f64>::deserialize(from)?;
    number.map(|number| exact(number, MILLI).ok_or_else(|| serde::de::Error::custom("not a time"))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{EndedBy, Ledger};
    use crate::llm::usage::Usage;
    use crate::telemetry::access::AccessLine;
    use std::time::Duration;

    fn ledger() -> Ledger {
        Ledger {
            status: 200,
            usage: Usage { prompt: 12, completion: 34, cached: 5, reasoning: 7, ..Usage::default() },
            micro_usd: 1_000_000_230,
            saved_micro_usd: 17,
            ttft: Some(Duration::from_micros(12_340)),
            duration: Duration::from_micros(2_000_007),
            ended_by: EndedBy::Complete,
            ..Ledger::new()
        }
    }

    fn written(line: &AccessLine<'_>, json: bool) -> String {
        let mut out = Vec::new();
        line.write(&mut out, json);
        String::from_utf8(out).unwrap()
    }

    fn of(text: &str) -> Option<Text<'_>> {
        Some(Text(text.into()))
    }

    #[test]
    fn what_is_written_is_read() {
        let ledger = ledger();
        for name in ["chat", "a b=c", "quote \" and \\ and line\nbreak", "ü{\u{2028}}"] {
            let example = AccessLine { route: name, key: "", ..AccessLine::example(&ledger) };
            for json in [true, false] {
                let line = written(&example, json);
                let (time, record) = read(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
                assert_eq!(time.as_nanosecond(), 1_767_225_600_042_000_000);
                let want = AccessRecord {
                    time: Text("2026-01-01T00:00:00.042Z".into()),
                    log: Text("access".into()),
                    endpoint: of("chat"),
                    team: of("search"),
                    key: None,
                    route: of(name),
                    provider: of("gpu"),
                    upstream_model: of("Qwen/Qwen3-4B"),
                    status: 200,
                    tokens_in: 12,
                    tokens_out: 34,
                    tokens_cached: 5,
                    tokens_reasoning: 7,
                    cost_usd: 1_000_000_230,
                    cache_savings_usd: 17,
                    ttft_ms: Some(12_340),
                    duration_ms: Some(2_000_007),
                    ended_by: of("complete"),
                };
                assert_eq!(record, want, "{line}");
            }
        }
    }

    #[test]
    fn a_request_without_an_answer_is_read() {
        let ledger = Ledger { status: 401, ..Ledger::new() };
        let example = AccessLine { team: "", route: "", provider: "", upstream_model: "", client: None, ..AccessLine::example(&ledger) };
        for json in [true, false] {
            let line = written(&example, json);
            let (_, record) = read(line.as_bytes()).unwrap();
            assert_eq!((record.status, record.ttft_ms, record.cost_usd, &record.team), (401, None, 0, &None), "{line}");
        }
    }

    #[test]
    fn the_prefix_of_a_container_runtime_is_ignored() {
        let ledger = ledger();
        for json in [true, false] {
            let own = written(&AccessLine::example(&ledger), json);
            let line = format!("2026-01-01T00:00:00.1Z stdout F {own}");
            assert_eq!(read(line.as_bytes()), read(own.as_bytes()), "{line}");
            assert!(read(line.as_bytes()).is_some(), "{line}");
        }
        let text = written(&AccessLine::example(&ledger), false);
        for before in ["x ", "2026-01-01T00:00:00.1Z stdout P ", "2026-01-01T00:00:00.1Z level=info message=\"x "] {
            assert_eq!(read(format!("{before}{text}").as_bytes()), None, "{before}");
        }
    }

    #[test]
    fn no_part_of_a_line_and_no_other_line_is_read() {
        let ledger = ledger();
        let json = written(&AccessLine::example(&ledger), true);
        for end in 0..json.trim_end().len() {
            assert_eq!(read(&json.as_bytes()[..end]), None, "{}", &json[..end]);
        }
        let text = written(&AccessLine::example(&ledger), false);
        for end in 0..text.find(" ended_by").unwrap() {
            assert_eq!(read(&text.as_bytes()[..end]), None, "{}", &text[..end]);
        }
        for other in [
            "",
            "{}",
            r#"{"time":"2026-01-01T00:00:00Z","level":"info","message":"\"log\":\"access\""}"#,
            r#"{"time":"2026-01-01T00:00:00Z","level":"info","log":"other","message":"x","more":{"log":"access"}}"#,
            r#"{"log":"access","status":200}"#,
            r#"{"time":"yesterday","log":"access","status":200}"#,
            r#"{"time":"2026-01-01T00:00:00Z","log":"access","status":"many"}"#,
            r#"{"time":"2026-01-01T00:00:00Z","log":"access","cost_usd":-1}"#,
            "12:00:00Z 200 chat -> gpu Qwen/Qwen3-4B, 12 + 34 tokens, $0.00123, 2000 ms",
            "2026-01-01T00:00:00Z log=access status=200 tokens_in=x ended_by=complete",
            "2026-01-01T00:00:00Z log=access route=\"open ended_by=complete",
        ] {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
        assert_eq!(read(b"\xff\"log\":\"access\""), None);
    }
}
