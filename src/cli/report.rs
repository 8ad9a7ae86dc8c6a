//! `tidegate report`: reads access logs and prints what they add up to.

use crate::commands::{Exit, print};
use crate::report::input::{self, End, Line};
use crate::report::{By, MAX_GROUPS, Period, Report, render};
use crate::system;
use crate::terminal;
use crate::units;
use clap::{Args, ValueEnum};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct ReportArgs {
    /// Count requests that ended at this time or later: a day like 2026-11-01, a time like 2026-11-01T12:00:00+01:00 (UTC without an
    /// offset), or a duration like 24h or 90d, so long ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// Count requests that ended before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Timestamp>,
    /// What to group by, as a list with commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', default_value = "team,route,model")]
    by: Vec<By>,
    /// How to print it
    #[arg(long, default_value = "table")]
    format: Format,
    /// Access logs in the formats `json` and `text`, compressed with gzip or not; `-` is stdin [default: stdin]
    #[arg(value_name = "FILES")]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns, with a total
    Table,
    /// CSV, without a total
    Csv,
    /// A JSON object
    Json,
}

const TIME: &str = "a day like 2026-11-01, a time like 2026-11-01T12:00:00+01:00, or a duration like 24h or 90d, so long ago";

fn time(text: &str) -> Result<Timestamp, String> {
    time_at(text, Timestamp::try_from(system::system_time()).map_err(|error| error.to_string())?)
}

fn time_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(ago) = units::long_duration(text) {
        return now.checked_sub(SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX)).map_err(|error| error.to_string());
    }
    let in_utc = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp());
    text.parse().ok().or_else(in_utc).ok_or_else(|| format!("expected {TIME}"))
}

pub(super) fn run(args: ReportArgs) -> Exit {
    match report(args) {
        Ok(exit) => exit,
        Err(why) => {
            terminal::message(why);
            Exit::BadUsage
        }
    }
}

fn report(mut args: ReportArgs) -> Result<Exit, String> {
    let period = Period { from: args.from, to: args.to };
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(format!("--to: {to} is not after --from, {from}"));
    }
    if args.files.is_empty() {
        if io::stdin().is_terminal() {
            return Err("FILES: name access logs, or pipe one in".to_owned());
        }
        args.files.push("-".into());
    }
    let mut report = Report::new(args.by, period);
    for file in &args.files {
        read(file, &mut report)?;
    }
    let text = match args.format {
        Format::Table => render::table(&report),
        Format::Csv => render::csv(&report),
        Format::Json => render::json(&report),
    };
    let exit = print(&text);
    if args.format == Format::Table {
        terminal::message(format_args!("times are within {} % of the true ones", report.precision().error() * 100.0));
    }
    if report.skipped() > 0 && args.format != Format::Json {
        let lines =
            count(report.skipped(), "line is not a request of an access log and was", "lines are not requests of an access log and were");
        terminal::message(format_args!("{lines} skipped"));
    }
    if report.other_requests() > 0 {
        let requests = count(report.other_requests(), "request is", "requests are");
        terminal::message(format_args!(
            "{requests} in the group `(other)`, because there are more than {MAX_GROUPS} groups; name fewer columns with --by, or \
             a shorter time with --from and --to"
        ));
    }
    Ok(exit)
}

/// A number, and what it counts.
fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn read(file: &Path, report: &mut Report) -> Result<(), String> {
    let name = file.display();
    let input: Box<dyn Read> = if file.as_os_str() == "-" { Box::new(io::stdin().lock()) } else { Box::new(open(file)?) };
    let read = input::lines(input, |line| match line {
        Line::Whole(line) => report.line(line),
        Line::TooLong => report.skip(),
    });
    if read.map_err(|error| format!("FILES: cannot read {name}: {error}"))? == End::CutOff {
        terminal::message(format_args!("{name} is cut off; the lines before its end are counted"));
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a command that serves nobody may block")]
fn open(file: &Path) -> Result<File, String> {
    File::open(file).map_err(|error| format!("FILES: cannot open {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_its_form_of_a_word() {
        assert_eq!([0, 1, 2].map(|number| count(number, "line is", "lines are")), ["0 lines are", "1 line is", "2 lines are"]);
        assert!(time_at("99999999d", Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn a_time_has_the_offset_that_it_says_and_else_utc() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        for (text, want) in [
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T10:30:00", "2026-11-01T10:30:00Z"),
            ("2026-11-01T10:30:00.5Z", "2026-11-01T10:30:00.5Z"),
            ("2026-11-01T10:30:00+02:00", "2026-11-01T08:30:00Z"),
            ("2026-11-01T10:30:00-05:30", "2026-11-01T16:00:00Z"),
            ("24h", "2026-11-27T12:00:00Z"),
            ("1d12h", "2026-11-27T00:00:00Z"),
            ("90d", "2026-08-30T12:00:00Z"),
            ("730d", "2024-11-28T12:00:00Z"),
        ] {
            assert_eq!(time_at(text, now), Ok(want.parse().unwrap()), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "2026-11-31", "01.11.2026", "-1d"] {
            assert!(time_at(text, now).unwrap_err().contains("a day like 2026-11-01"), "{text}");
        }
    }
}
