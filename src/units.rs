//! Durations, sizes and money as people write them.

use std::time::Duration;

/// Longest duration that means anything here: 30 days.
pub const MAX_DURATION: Duration = Duration::from_secs(30 * 86_400);
/// Largest amount of money: a billion dollars, in micro-dollars.
pub const MAX_MONEY: u64 = 1_000_000_000 * 1_000_000;
/// Largest price of a unit, in pico-dollars.
pub const MAX_UNIT_PRICE: u64 = 1_000 * 1_000_000_000_000;

/// `100ms`, `10s`, `1m30s`, `6h`, `30d`: whole numbers, each with its unit, the largest unit first; at most
/// [`MAX_DURATION`]. A bare `0` has no unit.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    long_duration(text).filter(|duration| *duration <= MAX_DURATION)
}

/// As [`duration`], of any length.
pub fn long_duration(text: &str) -> Option<Duration> {
    let mut total = 0u64;
    let mut units = UNITS.iter();
    let mut rest = text;
    loop {
        let (number, tail) = rest.split_at_checked(rest.find(|c: char| !c.is_ascii_digit())?)?;
        let (unit, tail) = tail.split_at_checked(tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len()))?;
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*millis)?)?;
        rest = tail;
        if rest.is_empty() {
            return Some(Duration::from_millis(total));
        }
    }
}

/// The units of durations, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A duration as a user writes it: `1m30s`, `1d`, `0s`; whole milliseconds, the rest is cut off.
pub fn text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in UNITS {
        if rest >= millis {
            text += &format!("{}{unit}", rest / millis);
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A number with its noun: `1 key`, `2 keys`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Whole nanoseconds, saturating.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `32MiB`, `64KiB`, `1GiB`, `500KB`, `2MB`, `4096` or `4096B`, in bytes.
pub fn size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] =
        [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))?;
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*bytes)
}

/// Why an amount of money is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadMoney {
    /// Not a decimal number, negative, or too large.
    NotANumber,
    /// Finer than the smallest part that is counted.
    TooFine,
}

/// Decimal dollars as exact micro-dollars: `0.10`, `100`, `2.5e-3`. Never goes through floating point.
///
/// # Errors
/// [`BadMoney`] says why there is no exact amount.
pub fn money(text: &str) -> Result<u64, BadMoney> {
    decimal(text, 6).and_then(|amount| if amount > MAX_MONEY { Err(BadMoney::NotANumber) } else { Ok(amount) })
}

/// Decimal dollars as exact pico-dollars.
///
/// # Errors
/// [`BadMoney`] says why there is no exact amount. The largest amount is [`MAX_UNIT_PRICE`].
pub fn unit_price(text: &str) -> Result<u64, BadMoney> {
    decimal(text, 12).and_then(|amount| if amount > MAX_UNIT_PRICE { Err(BadMoney::NotANumber) } else { Ok(amount) })
}

/// A decimal number times ten to the power of `places`.
fn decimal(text: &str, places: i32) -> Result<u64, BadMoney> {
    use BadMoney::{NotANumber, TooFine};
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| NotANumber)?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 40 || exponent.abs() > 40 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotANumber);
    }
    let mut digits = digits.trim_start_matches('0');
    // The result is `digits` times ten to the power of `shift`.
    let mut shift = exponent + places - fraction.len() as i32;
    while shift < 0 {
        match digits.strip_suffix('0') {
            Some(shorter) => digits = shorter,
            None if digits.is_empty() => break,
            None => return Err(TooFine),
        }
        shift += 1;
    }
    if digits.is_empty() {
        return Ok(0);
    }
    let power = 10u64.checked_pow(shift.unsigned_abs()).ok_or(NotANumber)?;
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(power)).ok_or(NotANumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [("100ms", 100), ("10s", 10_000), ("1m30s", 90_000), ("6h", 21_600_000), ("30d", 2_592_000_000), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(super::text(Duration::from_millis(millis)), text);
        }
        assert_eq!((duration("0"), long_duration("0")), (Some(Duration::ZERO), None));
        for text in ["", "10", "s", "fast", "1.5s", "-1s", "1s1m", "1s1s", "31d", "10 s", "99999999999999999999s", "10S"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 2].map(|number| count(number, "key")), ["0 keys", "1 key", "2 keys"]);
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("4096", 4096), ("1B", 1), ("32MiB", 33_554_432), ("2 MB", 2_000_000), ("1GiB", 1 << 30)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1mib", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn money_is_exact() {
        for (text, micro) in [
            ("0.10", 100_000),
            ("100", 100_000_000),
            ("0.0001", 100),
            ("1.0e-05", 10),
            ("2.5E-3", 2_500),
            ("0", 0),
            ("0.0000000", 0),
            ("1.1000000000", 1_100_000),
            (".5", 500_000),
            ("1e3", 1_000_000_000),
            ("1000000000", MAX_MONEY),
        ] {
            assert_eq!(money(text), Ok(micro), "{text}");
        }
        assert_eq!(money("0.0000001"), Err(BadMoney::TooFine));
        assert_eq!((unit_price("0.000011111111"), unit_price("1000")), (Ok(11_111_111), Ok(MAX_UNIT_PRICE)));
        assert_eq!((unit_price("1e-13"), unit_price("1000.1")), (Err(BadMoney::TooFine), Err(BadMoney::NotANumber)));
        for text in ["", ".", "-1", "1,5", "ten", "1000000001", "1e99", "0x10", "1e"] {
            assert_eq!(money(text), Err(BadMoney::NotANumber), "{text}");
        }
    }
}
