//! A report as a table, as CSV (RFC 4180) and as JSON.

use super::{Report, Totals, Values};
use crate::account::usd;
use crate::json::write::Writer;
use std::borrow::Cow;
use std::fmt::Write as _;

/// A column of figures.
struct Column {
    /// Its name in CSV and JSON.
    name: &'static str,
    /// Its shorter name in a table.
    head: &'static str,
    /// Its figure, as a JSON number; `None` where there is none.
    figure: fn(&Totals) -> Option<String>,
}

const COLUMNS: [Column; 13] = [
    Column { name: "requests", head: "requests", figure: |t| Some(t.requests.to_string()) },
    Column { name: "errors", head: "errors", figure: |t| Some(t.errors.to_string()) },
    Column { name: "error_rate", head: "rate", figure: |t| Some(usd(t.error_rate())) },
    Column { name: "tokens_in", head: "in", figure: |t| Some(t.tokens_in.to_string()) },
    Column { name: "tokens_cached", head: "cached", figure: |t| Some(t.tokens_cached.to_string()) },
    Column { name: "tokens_out", head: "out", figure: |t| Some(t.tokens_out.to_string()) },
    Column { name: "tokens_reasoning", head: "reasoning", figure: |t| Some(t.tokens_reasoning.to_string()) },
    Column { name: "cost_usd", head: "usd", figure: |t| Some(usd(t.micro_usd)) },
    Column { name: "cache_savings_usd", head: "saved", figure: |t| Some(usd(t.saved_micro_usd)) },
    Column { name: "duration_p50_ms", head: "p50_ms", figure: |t| t.duration.percentile(50).map(milliseconds) },
    Column { name: "duration_p99_ms", head: "p99_ms", figure: |t| t.duration.percentile(99).map(milliseconds) },
    Column { name: "ttft_p50_ms", head: "ttft_p50", figure: |t| t.ttft.percentile(50).map(milliseconds) },
    Column { name: "ttft_p99_ms", head: "ttft_p99", figure: |t| t.ttft.percentile(99).map(milliseconds) },
];

/// Microseconds as milliseconds, without trailing zeros.
fn milliseconds(micros: u64) -> String {
    // What `usd` makes of millionths, of thousandths of a thousandth.
    usd(micros.saturating_mul(1_000))
}

/// Columns with aligned figures, and the total in the last line. Absent values are `-`.
pub fn table(report: &Report) -> String {
    let heads = report.by.iter().map(|by| by.name().to_owned()).chain(COLUMNS.iter().map(|column| column.head.to_owned()));
    let mut rows: Vec<Vec<String>> = vec![heads.collect()];
    let dash = || "-".to_owned();
    let figures = |totals: &Totals| COLUMNS.map(|column| (column.figure)(totals).unwrap_or_else(dash));
    for (values, totals) in report.sorted() {
        let values = values.iter().map(|value| value.as_deref().map_or_else(dash, |value| printable(value).into_owned()));
        rows.push(values.chain(figures(totals)).collect());
    }
    let label = |column: usize| if column == 0 { "total".to_owned() } else { String::new() };
    rows.push((0..report.by.len()).map(label).chain(figures(&report.total)).collect());
    let columns = report.by.len() + COLUMNS.len();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let _infallible =
                if column < report.by.len() { write!(line, "{gap}{cell:<width$}") } else { write!(line, "{gap}{cell:>width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Without characters that a terminal acts on: a client can choose the name of a model.
fn printable(value: &str) -> Cow<'_, str> {
    // Line and paragraph separators, and the explicit directions of UAX #9.
    let acts = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if value.contains(acts) { value.replace(acts, "\u{fffd}").into() } else { value.into() }
}

/// A line with the names of all columns, and a line for each group. Absent values are empty. See [`field`] for texts like `=1`.
pub fn csv(report: &Report) -> String {
    let names = report.by.iter().map(|by| by.name()).chain(COLUMNS.iter().map(|column| column.name));
    let mut text = names.collect::<Vec<_>>().join(",");
    text.push('\n');
    for (values, totals) in report.sorted() {
        let values = values.iter().map(|value| field(value.as_deref().unwrap_or_default()));
        let figures = COLUMNS.iter().map(|column| (column.figure)(totals).unwrap_or_default().into());
        text.push_str(&values.chain(figures).collect::<Vec<Cow<'_, str>>>().join(","));
        text.push('\n');
    }
    text
}

/// A field of CSV, in quotes where it needs them. A text that a spreadsheet would take for a formula has a `'` before it
/// (<https://owasp.org/www-community/attacks/CSV_Injection>).
fn field(value: &str) -> Cow<'_, str> {
    let value: Cow<'_, str> = if value.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{value}").into() } else { value.into() };
    if value.contains([',', '"', '\n', '\r']) { format!("\"{}\"", value.replace('"', "\"\"")).into() } else { value }
}

/// One object: `from`, `to`, `by`, `groups`, `total` and `skipped_lines`.
pub fn json(report: &Report) -> String {
    let mut w = Writer::default();
    w.object();
    for (key, bound) in [("from", report.period.from), ("to", report.period.to)] {
        match bound {
            Some(time) => w.key(key).string(&time.to_string()),
            None => w.key(key).raw("null"),
        };
    }
    w.key("by").array();
    for by in &report.by {
        w.string(by.name());
    }
    w.end_array().key("groups").array();
    for (values, totals) in report.sorted() {
        w.object();
        group(&mut w, report, values);
        figures(&mut w, totals);
        w.end_object();
    }
    w.end_array().key("total").object();
    figures(&mut w, &report.total);
    w.end_object().key("skipped_lines").integer(report.skipped()).end_object();
    let mut text = String::from_utf8_lossy(&w.finish()).into_owned();
    text.push('\n');
    text
}

fn group(w: &mut Writer, report: &Report, values: &Values) {
    for (by, value) in report.by.iter().zip(values) {
        match value {
            Some(value) => w.key(by.name()).string(value),
            None => w.key(by.name()).raw("null"),
        };
    }
}

fn figures(w: &mut Writer, totals: &Totals) {
    for column in &COLUMNS {
        w.key(column.name).raw((column.figure)(totals).as_deref().unwrap_or("null"));
    }
}
