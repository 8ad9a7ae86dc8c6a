//! When a provider wishes to be asked again, read from the headers of its refusal.

use http::HeaderMap;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use std::time::Duration;

/// Longest wait that is believed; a longer one is cut to it.
pub const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `retry-after-ms` (milliseconds, may be fractional), else `retry-after`: seconds, may be fractional, or a date
/// (RFC 9110 section 10.2.3), which is compared with the answer's own `date` so that no clock is needed.
pub fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    if let Some(ms) = text("retry-after-ms").and_then(seconds) {
        return Some(bounded(ms / 1000.0));
    }
    let wish = text("retry-after")?;
    if let Some(n) = seconds(wish) {
        return Some(bounded(n));
    }
    Some(bounded((date(wish)? - date(text("date")?)?).max(0) as f64))
}

/// Seconds since the epoch of a date in one of the three forms of RFC 9110 section 5.6.7, the obsolete two included.
fn date(text: &str) -> Option<i64> {
    let obsolete = || ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"].iter().find_map(|form| DateTime::strptime(form, text).ok());
    match rfc2822::parse(text) {
        Ok(date) => Some(date.timestamp().as_second()),
        Err(_) => Some(TimeZone::UTC.to_timestamp(obsolete()?).ok()?.as_second()),
    }
}

fn bounded(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.min(MAX_WAIT.as_secs_f64()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_read_and_bounded() {
        let wait = |list: &[(&'static str, &'static str)]| {
            let map = list.iter().map(|(k, v)| (http::HeaderName::from_static(k), http::HeaderValue::from_static(v))).collect();
            from_headers(&map).map(|d| d.as_millis())
        };
        assert_eq!(wait(&[("retry-after", "7")]), Some(7000));
        assert_eq!(wait(&[("retry-after", "0.5")]), Some(500));
        assert_eq!(wait(&[("retry-after", "7"), ("retry-after-ms", "1250.5")]), Some(1250));
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT"), date]), Some(30_000));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT"), date]), Some(0));
        assert_eq!(wait(&[("retry-after", "Wednesday, 21-Oct-26 07:28:30 GMT"), date]), Some(30_000));
        assert_eq!(wait(&[("retry-after", "Wed Oct 21 07:28:30 2026"), date]), Some(30_000));
        assert_eq!(wait(&[("retry-after", "1e300")]), Some(MAX_WAIT.as_millis()));
        for wrong in ["", "-1", "soon", "nan", "Wed, 21 Oct 2026 07:28:30 GMT"] {
            assert_eq!(wait(&[("retry-after", wrong)]), None, "{wrong}");
        }
    }
}
