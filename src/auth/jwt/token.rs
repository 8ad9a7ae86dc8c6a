//! A token taken apart (RFC 7515, section 3.1): its head, its claims, and the text that is signed. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Longest token, in bytes.
pub const MAX_TOKEN: usize = 8 << 10;
/// Longest value of `key_claim`, in bytes: `sub` "MUST NOT exceed 255 ASCII characters in length" (OpenID Connect Core, section 2).
pub const MAX_ID: usize = 255;

/// Whether a text can be the id of who shows a token: 1 to [`MAX_ID`] bytes without control characters.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ID && !text.chars().any(char::is_control)
}

/// The three parts of a text that may be a token.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'t> {
    /// Head and claims, as they are signed.
    pub signed: &'t [u8],
    head: &'t [u8],
    claims: &'t [u8],
    signature: &'t [u8],
}

/// What is looked at of a head. Keys in it and links to keys (`jwk`, `jku`, `x5c`, `x5u`) are never used: the configuration says
/// where an issuer's keys are.
#[derive(Debug, Deserialize)]
pub struct Head {
    /// The signature algorithm.
    pub alg: String,
    /// The id of the key; only compared.
    pub kid: Option<String>,
    /// The type of the token.
    pub typ: Option<String>,
    /// Extensions that a reader must understand. None are.
    pub crit: Option<serde::de::IgnoredAny>,
}

impl Head {
    /// Whether this may be a token for access or of an identity: "it is RECOMMENDED that explicit typing be used" keeps others, like
    /// a logout token, apart (RFC 8725, section 3.11; RFC 9068, section 2.1; RFC 7519, section 5.1).
    pub fn is_for_access(&self) -> bool {
        let names = ["jwt", "at+jwt", "application/at+jwt", "jose"];
        self.typ.as_deref().is_none_or(|typ| names.iter().any(|name| name.eq_ignore_ascii_case(typ)))
    }
}

impl<'t> Parts<'t> {
    /// The parts of a text with exactly two dots.
    pub fn of(text: &'t [u8]) -> Option<Self> {
        let mut dots = memchr::memchr_iter(b'.', text);
        let (first, second) = (dots.next()?, dots.next()?);
        if dots.next().is_some() {
            return None;
        }
        let (signed, signature) = text.split_at_checked(second)?;
        let (head, claims) = signed.split_at_checked(first)?;
        Some(Self { signed, head, claims: claims.get(1..)?, signature: signature.get(1..)? })
    }

    /// The head; `None` where it is none, and the text no token.
    pub fn head(&self) -> Option<Head> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(self.head).ok()?).ok()
    }

    /// The claims as JSON.
    pub fn claims(&self) -> Option<String> {
        String::from_utf8(URL_SAFE_NO_PAD.decode(self.claims).ok()?).ok()
    }

    /// The signature's bytes.
    pub fn signature(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.signature).ok()
    }
}

/// A token's claims. Of a name that is there twice the last one counts (RFC 7519, section 4).
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Claims<'a>(#[serde(borrow)] BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Claims<'a> {
    /// Reads an object.
    pub fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// A claim by its name, else by a path of names with dots between them.
    pub fn at(&self, path: &str) -> Option<&'a str> {
        if let Some(value) = self.0.get(path) {
            return Some(value.get());
        }
        let (name, rest) = path.split_once('.')?;
        Self::read(self.0.get(name)?.get())?.at(rest)
    }

    /// A claim that is text.
    pub fn text(&self, path: &str) -> Option<Cow<'a, str>> {
        text(self.at(path)?)
    }

    /// Text, or each of a list of texts.
    pub fn texts(&self, path: &str) -> Option<Vec<Cow<'a, str>>> {
        let value = self.at(path)?;
        match text(value) {
            Some(text) => Some(vec![text]),
            None => serde_json::from_str::<Vec<&RawValue>>(value).ok()?.into_iter().map(|item| text(item.get())).collect(),
        }
    }

    /// A `NumericDate` in whole seconds since the epoch, rounded down; "non-integer values can be represented" (RFC 7519, section 2).
    ///
    /// # Errors
    /// When it is there and is none.
    pub fn time(&self, name: &str) -> Result<Option<i64>, NotATime> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds: f64 = serde_json::from_str(value.get()).map_err(|_| NotATime)?;
        // A float that is too large becomes the largest integer.
        Ok(Some(seconds.floor() as i64))
    }
}

/// A claim that is no `NumericDate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATime;

fn text(json: &str) -> Option<Cow<'_, str>> {
    json.starts_with('"').then(|| crate::json::walk::string(json).map(|text| text.decode())).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(head: &str, claims: &str) -> String {
        format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode("sig"))
    }

    #[test]
    fn a_token_has_two_dots_and_a_head_with_an_algorithm() {
        let text = text_of(r#"{"alg":"none","kid":"k","jwk":{"kty":"oct"},"crit":["b64"]}"#, r#"{"iss":"i"}"#);
        let parts = Parts::of(text.as_bytes()).unwrap();
        let head = parts.head().unwrap();
        assert_eq!((head.alg.as_str(), head.kid.as_deref(), head.crit.is_some(), head.is_for_access()), ("none", Some("k"), true, true));
        assert_eq!((parts.claims().unwrap().as_str(), parts.signature().unwrap()), (r#"{"iss":"i"}"#, b"sig".to_vec()));
        assert_eq!(parts.signed, text.rsplit_once('.').unwrap().0.as_bytes());
        assert!(Parts::of(b"eyJhbGciOiJub25lIn0.e30.").unwrap().head().is_some(), "an empty signature is for the check to refuse");
        for text in ["", "tg-abc", "a.b", "a.b.c.d", "a.b.c.d.e"] {
            assert!(Parts::of(text.as_bytes()).is_none(), "{text}");
        }
        for head in ["{}", r#"{"alg":1}"#, "[]", "alg", r#"{"alg":"RS256","alg":"none"}"#] {
            assert!(Parts::of(text_of(head, "{}").as_bytes()).unwrap().head().is_none(), "{head}");
        }
        assert!(Parts::of(b"eyJhbGciOiJub25lIn1.e30.").unwrap().head().is_none(), "bits that stand for nothing");
    }

    #[test]
    fn other_types_of_tokens_are_told_apart() {
        let is = |typ: &str| {
            Parts::of(text_of(&format!(r#"{{"alg":"RS256","typ":{typ}}}"#), "").as_bytes()).unwrap().head().unwrap().is_for_access()
        };
        assert!(is("null") && is(r#""JWT""#) && is(r#""at+jwt""#) && is(r#""application/at+JWT""#));
        assert!(!is(r#""logout+jwt""#) && !is(r#""dpop+jwt""#));
    }

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let json = r#"{"a":{"b":{"c":"deep"},"n":1},"a.n":"dotted","https://x.example/team":"url","list":["x","y"],"mixed":["x",1],"sub":"\u00e9","sub":"last"}"#;
        let claims = Claims::read(json).unwrap();
        assert_eq!(claims.text("a.b.c").as_deref(), Some("deep"));
        assert_eq!((claims.text("a.n").as_deref(), claims.text("https://x.example/team").as_deref()), (Some("dotted"), Some("url")));
        assert_eq!((claims.text("a"), claims.text("a.b.d"), claims.text("none.b"), claims.text("list")), (None, None, None, None));
        assert_eq!(claims.text("sub").as_deref(), Some("last"));
        assert_eq!((claims.texts("list").unwrap().len(), claims.texts("sub").unwrap().len(), claims.texts("mixed")), (2, 1, None));
        assert!(Claims::read("[]").is_none() && Claims::read("").is_none());
    }

    #[test]
    fn times_are_numbers_of_seconds() {
        let claims =
            Claims::read(r#"{"i":1800000000,"f":1800000000.9,"e":1.8e9,"far":1e300,"neg":-5,"text":"1800000000","null":null}"#).unwrap();
        for (name, time) in [("i", 1_800_000_000), ("f", 1_800_000_000), ("e", 1_800_000_000), ("far", i64::MAX), ("neg", -5)] {
            assert_eq!(claims.time(name), Ok(Some(time)), "{name}");
        }
        assert_eq!((claims.time("text"), claims.time("null"), claims.time("none")), (Err(NotATime), Err(NotATime), Ok(None)));
    }
}
