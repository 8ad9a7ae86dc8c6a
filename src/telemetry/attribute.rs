//! Attributes: headers and fields of requests that the operator puts into the access log, under names of their own. Only a source
//! without content can be one, and only values that are listed become label values.

use crate::json::walk;
use crate::llm::envelope::Parsed;
use crate::redact::redact_to;
use http::{HeaderMap, HeaderName};
use std::sync::{Arc, LazyLock};

/// Most attributes of a configuration.
pub const MAX_ATTRIBUTES: usize = 16;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 32;
/// Longest value, in bytes; a longer one is cut.
pub const MAX_VALUE: usize = 128;
/// Most listed values of an attribute.
pub const MAX_VALUES: usize = 100;
/// Label value of requests without the attribute.
pub const NONE: &str = super::labels::NONE;
/// Label value of requests with a value that is not listed.
pub const OTHER: &str = "other";

/// Parts of the names of headers that carry credentials.
const SECRET_WORDS: [&str; 8] = ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey", "jwt"];
/// Top-level fields that hold no content.
pub const FIELDS: [&str; 5] = ["user", "safety_identifier", "prompt_cache_key", "service_tier", "reasoning_effort"];
/// What stands before the name of a member of `metadata`.
const METADATA: &str = "metadata.";

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name in the log.
    pub name: Arc<str>,
    /// Where its value comes from.
    pub source: Source,
    /// The values that are label values, too. Empty: it has no series.
    pub values: Vec<Arc<str>>,
}

/// Where the value of an attribute comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A header.
    Header(HeaderName),
    /// One of [`FIELDS`].
    Field(&'static str),
    /// A member of `metadata`.
    Metadata(Arc<str>),
}

impl Source {
    /// A field or, if there is no such field, a header that carries no credentials.
    pub fn of(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix(METADATA) {
            return (!name.is_empty()).then(|| Self::Metadata(name.into()));
        }
        if let Some(field) = FIELDS.into_iter().find(|field| *field == text) {
            return Some(Self::Field(field));
        }
        let header = HeaderName::try_from(text).ok()?;
        let is_header = !text.contains('.') && !SECRET_WORDS.iter().any(|word| header.as_str().contains(word));
        is_header.then_some(Self::Header(header))
    }
}

/// Name and value of each attribute of a request, in the order of the configuration; the value is empty where the request has
/// none.
#[derive(Clone, Debug, Default)]
pub struct Values(Vec<(Arc<str>, Box<str>)>);

impl Values {
    /// Those that are headers. Nothing is allocated where no attribute is configured.
    pub fn of_headers(attributes: &[Attribute], headers: &HeaderMap) -> Self {
        let value = |attribute: &Attribute| match &attribute.source {
            Source::Header(name) => {
                headers.get(name).map_or_else(Box::default, |value| bounded(&String::from_utf8_lossy(value.as_bytes())))
            }
            _ => Box::default(),
        };
        Self(attributes.iter().map(|attribute| (attribute.name.clone(), value(attribute))).collect())
    }

    /// Adds those that are fields: strings, numbers, `true` and `false`.
    pub fn add_fields(&mut self, attributes: &[Attribute], parsed: &Parsed) {
        for ((_, value), attribute) in self.0.iter_mut().zip(attributes) {
            let raw = match &attribute.source {
                Source::Header(_) => continue,
                Source::Field(name) => parsed.raw_named(name),
                Source::Metadata(name) => parsed.raw_named("metadata").and_then(|metadata| walk::member(metadata, name).ok().flatten()),
            };
            *value = raw.and_then(scalar).unwrap_or_default();
        }
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// An example.
    pub fn example() -> &'static Self {
        static EXAMPLE: LazyLock<Values> =
            LazyLock::new(|| Values(vec![("agent".into(), "crawler".into()), ("user".into(), "a\"b".into())]));
        &EXAMPLE
    }
}

/// The text of a value that is neither null, an array nor an object.
fn scalar(raw: &str) -> Option<Box<str>> {
    match raw.bytes().next()? {
        b'"' => Some(bounded(&walk::string(raw)?.decode())),
        b'{' | b'[' | b'n' => None,
        _ => Some(bounded(raw)),
    }
}

/// Without secrets, and cut.
fn bounded(text: &str) -> Box<str> {
    redact_to(text, MAX_VALUE).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Operation;
    use http::HeaderValue;

    fn values(sources: &[&str], headers: &[(&'static str, &'static str)], body: &str) -> Vec<String> {
        let attribute = |text: &&str| Attribute { name: "a".into(), source: Source::of(text).unwrap(), values: Vec::new() };
        let attributes: Vec<_> = sources.iter().map(attribute).collect();
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        let mut values = Values::of_headers(&attributes, &headers);
        values.add_fields(&attributes, &Operation::Chat.parse(body.to_owned().into()).unwrap());
        values.iter().map(|(_, value)| value.to_owned()).collect()
    }

    #[test]
    fn a_source_is_a_field_without_content_or_a_header_without_credentials() {
        assert_eq!(Source::of("user"), Some(Source::Field("user")));
        assert_eq!(Source::of("metadata.user_id"), Some(Source::Metadata("user_id".into())));
        assert_eq!(Source::of("X-Agent-Name"), Some(Source::Header(HeaderName::from_static("x-agent-name"))));
        for bad in ["", "metadata.", "messages.0", "x agent"] {
            assert_eq!(Source::of(bad), None, "{bad}");
        }
        for credential in [
            "Authorization",
            "proxy-authorization",
            "x-api-key",
            "api-key",
            "X-ApiKey",
            "cookie",
            "set-cookie",
            "x-goog-api-key",
            "X-Auth-Token",
            "x-amz-security-token",
            "x-forwarded-access-token",
            "cf-access-jwt-assertion",
            "x-vault-token",
            "x-csrf-token",
            "x-client-secret",
            "x-db-password",
        ] {
            assert_eq!(Source::of(credential), None, "{credential}");
        }
    }

    #[test]
    fn values_are_scalars_that_are_bounded_and_without_secrets() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"user":"Ann\u0065","service_tier":null,
            "metadata":{"n":7,"list":[1],"t":true,"session":{"id":1}}}"#;
        let sources =
            ["x-a", "x-b", "user", "service_tier", "metadata.n", "metadata.list", "metadata.t", "metadata.session", "metadata.none"];
        let found = values(&sources, &[("x-a", "one"), ("x-a", "two")], body);
        assert_eq!(found, ["one", "", "Anne", "", "7", "", "true", "", ""]);
        let long =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"user":"{}","metadata":{{}}}}"#, "é".repeat(MAX_VALUE));
        let found = values(&["user", "metadata.x", "x-a"], &[("x-a", "sk-abcdefghijklmnopqrstuvwxyz012345")], &long);
        assert!(
            found.iter().all(|value| value.len() <= MAX_VALUE) && found.first().is_some_and(|user| user.starts_with("éé")),
            "{found:?}"
        );
        assert!(found.last().is_some_and(|value| !value.contains("abcdef")), "{found:?}");
    }
}
