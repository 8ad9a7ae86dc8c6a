//! The short log format, for terminals.

use super::access::{AccessLine, one_line};
use crate::account::usd;
use std::io::Write;

/// Appends the line of a request: `12:00:00Z 200 chat -> gpu Qwen/Qwen3-4B, 12 + 34 tokens, $0.00123, 2000 ms, 2 attempts`.
pub(super) fn access(out: &mut Vec<u8>, line: &AccessLine<'_>) {
    let ledger = line.ledger;
    clock(out, line.time);
    write(out, format_args!(" {} ", ledger.status));
    one_line(out, if line.route.is_empty() { "(no route)" } else { line.route });
    if !line.provider.is_empty() {
        out.extend_from_slice(b" -> ");
        one_line(out, line.provider);
        out.push(b' ');
        one_line(out, line.upstream_model);
    }
    let (prompt, completion) = (ledger.usage.prompt, ledger.usage.completion);
    if prompt > 0 || completion > 0 {
        write(out, format_args!(", {prompt} + {completion} tokens"));
    }
    if ledger.micro_usd > 0 {
        write(out, format_args!(", ${}", usd(ledger.micro_usd)));
    }
    write(out, format_args!(", {} ms", ledger.duration.as_millis()));
    if ledger.attempts > 1 {
        write(out, format_args!(", {} attempts", ledger.attempts));
    }
    if !line.reason.is_empty() {
        out.extend_from_slice(b", ");
        one_line(out, line.reason);
    }
    out.push(b'\n');
}

/// Appends the line of a record: `12:00:00Z warn: …`.
pub(super) fn record(out: &mut Vec<u8>, time: u64, level: &str, message: &str) {
    clock(out, time);
    write(out, format_args!(" {level}: "));
    one_line(out, message);
    out.push(b'\n');
}

/// Time of day in UTC, from nanoseconds since the Unix epoch.
fn clock(out: &mut Vec<u8>, time: u64) {
    let seconds = time / 1_000_000_000 % 86_400;
    write(out, format_args!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60));
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // cannot fail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Ledger;
    use crate::llm::usage::Usage;
    use std::time::Duration;

    fn text(line: &AccessLine<'_>) -> String {
        let mut out = Vec::new();
        access(&mut out, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_one_short_line() {
        let usage = Usage { prompt: 12, completion: 34, ..Usage::default() };
        let duration = Duration::from_micros(2_000_900);
        let ledger = Ledger { status: 200, attempts: 2, usage, micro_usd: 1_230, duration, ..Ledger::new() };
        let line = AccessLine { reason: "", ..AccessLine::example(&ledger) };
        assert_eq!(text(&line), "00:00:00Z 200 chat -> gpu Qwen/Qwen3-4B, 12 + 34 tokens, $0.00123, 2000 ms, 2 attempts\n");
        let ledger = Ledger { status: 404, ..Ledger::new() };
        let line = AccessLine { route: "", provider: "", reason: "not_found", ..AccessLine::example(&ledger) };
        assert_eq!(text(&line), "00:00:00Z 404 (no route), 0 ms, not_found\n");
    }

    #[test]
    fn no_value_can_forge_a_line() {
        let ledger = Ledger::new();
        let line = AccessLine { route: "a\nb\u{9b}31m", ..AccessLine::example(&ledger) };
        assert!(text(&line).contains(" a\\nb\\u009b31m "), "{}", text(&line));
        let mut out = Vec::new();
        record(&mut out, 86_399_000_000_000, "warn", "one\ntwo");
        assert_eq!(String::from_utf8(out).unwrap(), "23:59:59Z warn: one\\ntwo\n");
    }
}
