//! Finds the secrets in use in a text, in every encoding in which a server may quote them.
//!
//! A secret is found in plain, hexadecimal and base64 form (either alphabet, at any offset in the encoded bytes, as in
//! basic authentication), and each of these also percent-encoded or escaped as in JSON or HTML, nested up to
//! [`MAX_NESTING`]: the text is decoded one layer at a time and searched after each. Matching ignores case.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use parking_lot::RwLock;
use std::ops::Range;
use std::sync::{Arc, Weak};
use zeroize::Zeroizing;

/// Minimum length of a secret in bytes; shorter ones match harmless words.
pub const MIN_SECRET: usize = 8;
/// Maximum layers of encoding that are decoded.
const MAX_NESTING: usize = 3;
/// Maximum length of an HTML entity, in bytes.
const MAX_ENTITY: usize = 8;
/// Authentication schemes, followed by a space and the secret in header values.
const SCHEMES: [&str; 6] = ["bearer", "basic", "token", "key", "apikey", "digest"];

/// All registered sets.
static KNOWN: RwLock<Vec<Weak<Patterns>>> = RwLock::new(Vec::new());

/// A set of secrets. [`redact`](super::redact) removes them from every text until it is dropped.
pub struct KnownSecrets(#[allow(dead_code, reason = "held for the registration that ends with it")] Arc<Patterns>);

impl KnownSecrets {
    /// Registers secrets of at least [`MIN_SECRET`] bytes. Of a header value with a known scheme (`Bearer KEY`) the
    /// part after the scheme is registered too; of `Basic` also the password.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Self {
        let patterns = Arc::new(Patterns::new(secrets));
        let mut known = KNOWN.write();
        known.retain(|known| known.strong_count() > 0);
        if !patterns.sorted.is_empty() {
            known.push(Arc::downgrade(&patterns));
        }
        drop(known);
        Self(patterns)
    }
}

/// Ranges of the text that contain a secret, sorted and disjoint.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let known: Vec<Arc<Patterns>> = KNOWN.read().iter().filter_map(Weak::upgrade).collect();
    let mut found = Vec::new();
    if known.is_empty() || text.len() < MIN_SECRET {
        return found;
    }
    let mut decoded_text = DecodedText::of(text);
    for _ in 0..=MAX_NESTING {
        let folded = Zeroizing::new(decoded_text.bytes.to_ascii_lowercase());
        for patterns in &known {
            patterns.search(&folded, |range| found.extend(decoded_text.origin(range)));
        }
        match decoded_text.decoded() {
            Some(decoded) => decoded_text = decoded,
            None => break,
        }
    }
    found.sort_unstable_by_key(|range| range.start);
    found.dedup_by(|next, last| {
        let overlaps = next.start <= last.end;
        if overlaps {
            last.end = last.end.max(next.end);
        }
        overlaps
    });
    for range in &mut found {
        // In encoded text a match may begin or end inside a character.
        range.start = (0..=range.start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        range.end = (range.end..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    }
    found
}

/// Search patterns: secrets and their encoded forms, in lower case.
struct Patterns {
    /// Sorted and unique.
    sorted: Vec<Zeroizing<Vec<u8>>>,
    /// All lengths of patterns, longest first.
    lengths: Vec<usize>,
    /// A bit set of the first two bytes of all patterns.
    first: Box<[u64]>,
}

impl Patterns {
    fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Self {
        let mut sorted: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for secret in secrets {
            let secret = secret.trim();
            let with_scheme = secret.split_once(' ').filter(|(scheme, _)| SCHEMES.iter().any(|s| s.eq_ignore_ascii_case(scheme)));
            add_forms(secret.as_bytes(), &mut sorted);
            let Some((scheme, bare)) = with_scheme else { continue };
            add_forms(bare.trim().as_bytes(), &mut sorted);
            if scheme.eq_ignore_ascii_case("basic")
                && let Ok(account) = STANDARD.decode(bare.trim()).map(Zeroizing::new)
                && let Some(colon) = account.iter().position(|b| *b == b':')
            {
                add_forms(account.get(colon + 1..).unwrap_or_default(), &mut sorted);
            }
        }
        sorted.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
        sorted.dedup();
        let mut lengths: Vec<usize> = sorted.iter().map(|pattern| pattern.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        let mut first = vec![0u64; if sorted.is_empty() { 0 } else { (1 << 16) / 64 }];
        for pattern in &sorted {
            let (word, bit) = pair(pattern);
            if let Some(word) = first.get_mut(word) {
                *word |= bit;
            }
        }
        Self { sorted, lengths, first: first.into() }
    }

    /// Calls `hit` for each match in a lower-case text, the longest at each position.
    fn search(&self, text: &[u8], mut hit: impl FnMut(Range<usize>)) {
        for at in 0..(text.len() + 1).saturating_sub(MIN_SECRET) {
            let rest = text.get(at..).unwrap_or_default();
            let (word, bit) = pair(rest);
            if self.first.get(word).is_none_or(|word| word & bit == 0) {
                continue;
            }
            let is_known = |part: &[u8]| self.sorted.binary_search_by(|pattern| pattern.as_slice().cmp(part)).is_ok();
            if let Some(length) = self.lengths.iter().find(|length| rest.get(..**length).is_some_and(is_known)) {
                hit(at..at + length);
            }
        }
    }
}

/// Word and bit in [`Patterns::first`].
fn pair(bytes: &[u8]) -> (usize, u64) {
    let pair = match bytes {
        [a, b, ..] => usize::from(*a) << 8 | usize::from(*b),
        _ => 0,
    };
    (pair / 64, 1 << (pair % 64))
}

/// Adds every form of a secret that decoding the text would not produce.
fn add_forms(secret: &[u8], patterns: &mut Vec<Zeroizing<Vec<u8>>>) {
    if secret.len() < MIN_SECRET {
        return;
    }
    let mut add = |form: &[u8]| {
        if form.len() >= MIN_SECRET {
            patterns.push(Zeroizing::new(form.to_ascii_lowercase()));
        }
    };
    add(secret);
    if secret.contains(&b' ') {
        // `application/x-www-form-urlencoded` encodes a space as `+`.
        let form: Zeroizing<Vec<u8>> = Zeroizing::new(secret.iter().map(|b| if *b == b' ' { b'+' } else { *b }).collect());
        add(&form);
    }
    // Decoding the text would also decode a secret that itself contains escapes.
    let mut decoded_text = DecodedText::of_bytes(secret);
    for _ in 0..MAX_NESTING {
        let Some(decoded) = decoded_text.decoded() else { break };
        add(&decoded.bytes);
        decoded_text = decoded;
    }
    let hex: Zeroizing<String> = Zeroizing::new(secret.iter().map(|b| format!("{b:02x}")).collect());
    add(hex.as_bytes());
    for before in 0..3 {
        let padded = Zeroizing::new([[0; 3].get(..before).unwrap_or_default(), secret].concat());
        // Only characters that encode nothing but the secret; those at the edges depend on adjacent bytes.
        let whole = usize::div_ceil(before * 8, 6)..padded.len() * 8 / 6;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(engine.encode(&*padded));
            add(encoded.as_bytes().get(whole.clone()).unwrap_or_default());
        }
    }
}

/// A partly decoded text, with the origin of each byte.
struct DecodedText {
    bytes: Zeroizing<Vec<u8>>,
    /// For each byte, its range in the original text.
    origins: Vec<Range<u32>>,
}

impl DecodedText {
    fn of(text: &str) -> Self {
        Self::of_bytes(text.as_bytes())
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let origins = (0..bytes.len()).map(|at| position(at)..position(at + 1)).collect();
        Self { bytes: Zeroizing::new(bytes.to_vec()), origins }
    }

    /// Range of the original text for a range of this one.
    fn origin(&self, range: Range<usize>) -> Option<Range<usize>> {
        let origins = self.origins.get(range)?;
        Some(origins.first()?.start as usize..origins.last()?.end as usize)
    }

    /// Decodes one more layer; `None` if nothing is encoded.
    fn decoded(&self) -> Option<Self> {
        if !self.bytes.iter().any(|b| matches!(b, b'%' | b'\\' | b'&')) {
            return None;
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.bytes.len()));
        let mut origins = Vec::with_capacity(self.bytes.len());
        let (mut at, mut changed) = (0, false);
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let escape = escape(rest);
            changed |= escape.is_some();
            let (length, decoded) = escape.unwrap_or_else(|| (1, Unescaped::Byte(rest.first().copied().unwrap_or_default())));
            let before = bytes.len();
            decoded.write(&mut bytes);
            let origin = self.origin(at..at + length).map_or(0..0, |o| o.start as u32..o.end as u32);
            origins.extend((before..bytes.len()).map(|_| origin.clone()));
            at += length;
        }
        changed.then_some(Self { bytes, origins })
    }
}

enum Unescaped {
    Byte(u8),
    Char(char),
}

impl Unescaped {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Byte(byte) => out.push(byte),
            Self::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// The escape at the beginning of a text: its length and value.
fn escape(text: &[u8]) -> Option<(usize, Unescaped)> {
    let number = |digits: &[u8], radix| u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok();
    let hex = |digits: &[u8]| number(digits, 16).filter(|_| digits.iter().all(u8::is_ascii_hexdigit));
    let byte = |digits: &[u8]| Some(Unescaped::Byte(hex(digits)? as u8));
    match text {
        [b'%', a, b, ..] => Some((3, byte(&[*a, *b])?)),
        [b'\\', b'x', a, b, ..] => Some((4, byte(&[*a, *b])?)),
        [b'\\', b'u', a, b, c, d, ..] => Some((6, Unescaped::Char(char::from_u32(hex(&[*a, *b, *c, *d])?)?))),
        [b'\\', c, ..] => {
            let stands_for = match c {
                b'"' | b'\\' | b'/' | b'\'' => *c,
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                _ => return None,
            };
            Some((2, Unescaped::Byte(stands_for)))
        }
        [b'&', rest @ ..] => {
            let end = rest.iter().take(MAX_ENTITY).position(|b| *b == b';')?;
            let stands_for = match rest.get(..end)? {
                b"amp" => '&',
                b"lt" => '<',
                b"gt" => '>',
                b"quot" => '"',
                b"apos" => '\'',
                [b'#', b'x' | b'X', digits @ ..] => char::from_u32(hex(digits)?)?,
                [b'#', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => char::from_u32(number(digits, 10)?)?,
                _ => return None,
            };
            Some((end + 2, Unescaped::Char(stands_for)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::redact;
    use super::*;
    use crate::percent;
    use base64::engine::general_purpose::URL_SAFE;

    /// None of them looks like a key.
    const SECRETS: [&str; 10] = [
        "sk-proj-Ab12Cd34Ef56Gh78",
        "01977ed9-7492-7b70-8347-9564aeb44a24",
        "correct horse battery staple",
        "correct-horse-battery-staple",
        "8675309867530986",
        "c2VjcmV0LXdvcmRz/+8==",
        "pass\"word\\with'quotes&<angles>",
        "50%41 off \\u0041",
        "hunter22",
        "snake_case_word",
    ];

    /// Every form in which a server may quote a secret.
    fn forms(secret: &str) -> Vec<String> {
        let json = serde_json::to_string(secret).unwrap();
        let json = json[1..json.len() - 1].to_owned();
        let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;");
        let percent = percent::segment(secret);
        let unicode: String = secret.chars().map(|c| format!("\\u{:04X}", u32::from(c))).collect();
        let mut forms = vec![
            secret.to_owned(),
            secret.to_uppercase(),
            secret.bytes().map(|b| format!("{b:02X}")).collect(),
            secret.replace(' ', "+"),
            percent.to_lowercase(),
            percent::segment(&percent),
            percent::segment(&json),
            serde_json::to_string(&json).unwrap(),
            secret.bytes().map(|b| format!("%{b:02x}")).collect(),
            percent,
            json,
            html,
            unicode,
        ];
        for before in ["", "u:", "user:", "Bearer ", "1234567"] {
            for after in ["", "\n", "xy"] {
                let text = format!("{before}{secret}{after}");
                for engine in [&STANDARD, &URL_SAFE, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                    let encoded = engine.encode(&text);
                    forms.push(percent::segment(&encoded));
                    forms.push(encoded);
                }
            }
        }
        forms
    }

    #[test]
    fn a_secret_is_found_in_every_form_and_nothing_around_it() {
        let known = KnownSecrets::new(SECRETS);
        for secret in SECRETS {
            for form in forms(secret) {
                let text = format!("The thing ‹{form}› was refused.");
                let ranges = find(&text);
                assert!(!ranges.is_empty(), "{form}");
                let inside = text.find('‹').unwrap()..=text.find('›').unwrap();
                assert!(ranges.iter().all(|r| inside.contains(&r.start) && inside.contains(&r.end)), "{form}");
                let shown = redact(&text);
                assert!(shown.starts_with("The thing ‹") && shown.ends_with("› was refused."), "{shown}");
                assert!(!forms(secret).iter().any(|form| shown.contains(form.as_str())), "{form}: {shown}");
            }
        }
        drop(known);
        assert!(find("hunter22").is_empty());
    }

    #[test]
    fn what_is_left_of_an_encoded_secret_tells_nothing_of_it() {
        let _known = KnownSecrets::new(["correct horse battery staple"]);
        for before in ["", "u:", "user:"] {
            let text = STANDARD.encode(format!("{before}correct horse battery staple"));
            let rest = redact(&text).replace(super::super::REDACTED, "");
            assert!(rest.len() <= before.len().div_ceil(3) * 4 + 4, "{text}: {rest}");
        }
    }

    #[test]
    fn the_parts_of_a_header_value_are_secrets() {
        let _known = KnownSecrets::new(["Bearer open sesame now", "Basic YWRtaW46b3BlbnNlc2FtZQ=="]);
        assert_eq!(redact("(open sesame now) (opensesame) (admin)"), "([redacted]) ([redacted]) (admin)");
    }

    #[test]
    fn a_short_secret_is_not_searched_for() {
        let _known = KnownSecrets::new(["EMPTY", "secret", ""]);
        assert!(find("the secret is EMPTY, \"\"").is_empty());
    }

    #[test]
    fn secrets_that_begin_alike_are_told_apart() {
        let _known = KnownSecrets::new(["sesame-open", "sesame-open-twice", "open-twice-more"]);
        assert_eq!(redact("<sesame-open> <sesame-open-twice> <sesame-open-twice-more>"), "<[redacted]> <[redacted]> <[redacted]>");
        assert!(find("sesame-ope open-twic").is_empty());
    }

    #[test]
    fn text_of_any_kind_is_searched() {
        let _known = KnownSecrets::new(["pässwörd-ü"]);
        for text in ["%", "\\", "&", "&#;", "%é1", "\\u00e", "&#xD800;", "\\ud800 ünïcödé %c3%28 &#99999999;", "%+1 \\u+0041"] {
            assert!(find(&text.repeat(10)).is_empty(), "{text}");
        }
        assert_eq!(redact("‹p%C3%A4ssw\\u00f6rd-ü›"), "‹[redacted]›");
    }
}
