//! One policy for parameters that a provider lacks, the same for every dialect.
//!
//! A dialect has a table that says of every [`Field`] whether it is mapped, a hint or essential; [`settle`] walks a
//! request through it. A hint is left out and named (or a 400 where the route says `unsupported: reject`), an essential
//! field is always a 400, because an answer without it would not be the answer that was asked for.
//!
//! Values that ask for nothing (`n: 1`, `logprobs: false`, an empty `tools`) count as absent: see [`asked`].

use crate::error::ApiError;
use crate::llm::envelope::{ChatRequest, name_of};
use crate::llm::field::{Field, GUIDED};
use std::borrow::Cow;

/// Those of them that are further spellings: their constraint is one that the first ones could hold as well.
const SPELLINGS: [Field; 5] = [Field::StructuredOutputs, Field::Regex, Field::Ebnf, Field::JsonSchema, Field::Grammar];
/// Most unknown fields that are named one by one in `x-tidegate-dropped-params`.
pub const MAX_NAMED_UNKNOWN: usize = 16;
/// Longest unknown field name that is shown, in bytes.
pub const MAX_SHOWN_NAME: usize = 64;
/// Client fields with this prefix speak to the gateway and never go upstream.
pub const GATEWAY_PREFIX: &str = "tensorzero::";

/// What a dialect does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Sent, as it is or in the provider's own form; the encoder may still refuse a value.
    Mapped,
    /// No counterpart, but the answer means the same without it: left out and named.
    Hint,
    /// No counterpart, and the answer would mean something else without it: a 400 that names it.
    Essential,
}

impl Policy {
    /// What losing a field means, whoever loses it: the policy of every field that a dialect does not map.
    pub const fn when_lost(field: Field) -> Self {
        match field {
            Field::Model | Field::Messages | Field::Stream | Field::StreamOptions | Field::EpisodeId | Field::TensorzeroEpisodeId => {
                Self::Mapped
            } // every encoder and the gateway itself see to these
            Field::N
            | Field::Tools
            | Field::ToolChoice
            | Field::Functions
            | Field::FunctionCall
            | Field::ResponseFormat
            | Field::GuidedJson
            | Field::GuidedRegex
            | Field::GuidedChoice
            | Field::GuidedGrammar
            | Field::StructuralTag
            | Field::StructuredOutputs
            | Field::Regex
            | Field::Ebnf
            | Field::JsonSchema
            | Field::Grammar
            | Field::ChatTemplate
            | Field::Moderation
            | Field::Modalities
            | Field::Audio
            | Field::WebSearchOptions => Self::Essential,
            _ => Self::Hint,
        }
    }

    /// The policy of a dialect that maps these fields and no others. One that maps any constraint reads all spellings of
    /// it, and refuses those that it cannot keep by their own name.
    pub fn of(field: Field, mapped: &[Field]) -> Self {
        let spelled = SPELLINGS.contains(&field) && mapped.iter().any(|known| GUIDED.contains(known));
        if spelled || mapped.contains(&field) { Self::Mapped } else { Self::when_lost(field) }
    }

    /// The word for it in `tidegate check --explain`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Hint => "dropped",
            Self::Essential => "refused",
        }
    }
}

/// What a dialect does with members that the gateway does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Sent as they are.
    #[default]
    Pass,
    /// Left out like hints.
    Drop,
}

/// What became of a request's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Names of hints that are left out, in the client's words, each once.
    pub dropped: Vec<Cow<'static, str>>,
    /// Fields whose value was changed to fit.
    pub adjusted: Vec<Field>,
}

impl Settled {
    /// Leaves out one more hint, found while its value was being mapped.
    ///
    /// # Errors
    /// A 400 that names the field, where the route says `unsupported: reject`.
    pub fn drop_hint(&mut self, request: &ChatRequest<'_>, field: Field) -> Result<(), ApiError> {
        self.drop_name(request, Cow::Borrowed(field.name()))
    }

    /// Notes that a field's value was changed to fit.
    ///
    /// # Errors
    /// A 400 that names the field, where the route says `unsupported: reject`.
    pub fn adjust(&mut self, request: &ChatRequest<'_>, field: Field, why: &str) -> Result<(), ApiError> {
        if request.params.reject_unsupported {
            return Err(ApiError::field(field.name(), format!("`{}` does not fit this model: {why}", field.name())));
        }
        if !self.adjusted.contains(&field) {
            self.adjusted.push(field);
        }
        Ok(())
    }

    /// Leaves out all these members as hints; the first of them are named one by one.
    ///
    /// # Errors
    /// A 400 that names the first one, where the route says `unsupported: reject`.
    pub fn drop_names<'n>(&mut self, request: &ChatRequest<'_>, names: impl Iterator<Item = Cow<'n, str>>) -> Result<(), ApiError> {
        for (number, name) in names.enumerate() {
            let shown = if number < MAX_NAMED_UNKNOWN { shown(&name) } else { None };
            self.drop_name(request, shown.map_or(Cow::Borrowed("others"), |name| Cow::Owned(name.to_owned())))?;
        }
        Ok(())
    }

    fn drop_name(&mut self, request: &ChatRequest<'_>, name: Cow<'static, str>) -> Result<(), ApiError> {
        if request.params.reject_unsupported {
            let message = format!("`{name}` has no counterpart at this model's provider, and this route refuses such fields; leave it out");
            return Err(ApiError::field(name, message));
        }
        if !self.dropped.contains(&name) {
            self.dropped.push(name);
        }
        Ok(())
    }
}

/// A refusal of a constraint, by the name of the member that the client used for it.
pub fn in_own_spelling(mut error: ApiError, request: &ChatRequest<'_>) -> ApiError {
    let blamed = GUIDED.iter().find(|field| error.param.as_deref() == Some(field.name()));
    if let Some(blamed) = blamed.filter(|field| request.raw(**field).is_none())
        && let Some(own) = GUIDED.iter().find(|field| request.raw(**field).is_some())
    {
        error.message = error.message.replace(&format!("`{}`", blamed.name()), &format!("`{}`", own.name())).into();
        error.param = Some(own.name().into());
    }
    error
}

/// The 400 for a field whose loss would change the answer.
pub fn unsupported(name: impl Into<Cow<'static, str>>) -> ApiError {
    let name = name.into();
    let message = format!(
        "`{name}` is not supported by this model's provider, and without it the answer would not be what was asked for; leave it out or choose another model"
    );
    ApiError::field(name, message)
}

/// Walks the fields of a request (the client's, the route's defaults and overrides) through a dialect's table.
///
/// # Errors
/// A 400 that names the first essential field without a counterpart, or the first hint where the route rejects them.
pub fn settle(request: &ChatRequest<'_>, unknown: Unknown, table: impl Fn(Field) -> Policy) -> Result<Settled, ApiError> {
    let mut settled = Settled::default();
    let refused = request.params.refused;
    for field in request.fields().iter() {
        match table(field) {
            // The gateway writes usage options itself.
            _ if refused.contains(field) && field != Field::StreamOptions && request.given(field).is_some() => {
                settled.drop_hint(request, field)?;
            }
            Policy::Mapped => {}
            _ if asked(request, field).is_none() => {}
            Policy::Essential => return Err(unsupported(field.name())),
            Policy::Hint => settled.drop_hint(request, field)?,
        }
    }
    if unknown == Unknown::Drop {
        settled.drop_names(request, names(request).filter(|name| Field::of(name.as_bytes()).is_none()))?;
    }
    Ok(settled)
}

/// A field's raw value where it asks for something: null, defaults and empty values are as good as absent.
pub fn asked<'a>(request: &ChatRequest<'a>, field: Field) -> Option<&'a str> {
    let raw = request.raw(field)?;
    let empty = match raw.as_bytes() {
        [b'"', rest @ ..] => rest == b"\"",
        [b'{' | b'[', inside @ .., b'}' | b']'] => inside.iter().all(u8::is_ascii_whitespace),
        _ => false,
    };
    let zero = || raw.parse::<f64>().is_ok_and(|n| n == 0.0);
    let nothing = match field {
        Field::N => raw == "1",
        Field::Logprobs | Field::Store => raw == "false",
        Field::TopLogprobs => zero() || request.raw(Field::Logprobs) != Some("true"),
        Field::FrequencyPenalty | Field::PresencePenalty => zero(),
        Field::ParallelToolCalls => raw == "true" || asked(request, Field::Tools).is_none(),
        // Without tools nothing can be called, whatever the choice says; a choice that demands a call is a mistake.
        Field::ToolChoice => matches!(raw, "\"none\"" | "\"auto\"") && asked(request, Field::Tools).is_none(),
        Field::FunctionCall => matches!(raw, "\"none\"" | "\"auto\"") && asked(request, Field::Functions).is_none(),
        Field::ResponseFormat => is_text_format(raw),
        Field::Modalities => serde_json::from_str::<Vec<&str>>(raw).is_ok_and(|list| list == ["text"]),
        Field::ServiceTier => raw == "\"auto\"" || empty,
        Field::Verbosity => raw == "\"medium\"" || empty,
        // An empty value of these is a mistake or means something: the provider or the constraint shall judge.
        Field::WebSearchOptions => false,
        field if GUIDED.contains(&field) && field != Field::StructuralTag => false,
        _ => empty,
    };
    (!nothing).then_some(raw)
}

fn is_text_format(raw: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Format<'a> {
        #[serde(borrow, default)]
        r#type: Cow<'a, str>,
    }
    serde_json::from_str::<Format<'_>>(raw).is_ok_and(|format| format.r#type == "text")
}

/// The temperature to send, in its own spelling, or `max` (raw JSON, such as `1.5`) where it is above.
///
/// # Errors
/// A 400 that names `temperature`, where the route says `unsupported: reject`.
pub fn temperature<'a>(request: &ChatRequest<'a>, max: &'a str, settled: &mut Settled) -> Result<Option<&'a str>, ApiError> {
    let Some(raw) = request.raw(Field::Temperature) else { return Ok(None) };
    let above = matches!((raw.parse::<f64>(), max.parse::<f64>()), (Ok(value), Ok(limit)) if value > limit);
    if !above {
        return Ok(Some(raw));
    }
    settled.adjust(request, Field::Temperature, &format!("its provider takes at most {max}"))?;
    Ok(Some(max))
}

/// OpenAI's words for `reasoning_effort`, from the least to the most.
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The word among `known` that is nearest to an effort which is not among them; `none`, which is no little thinking, is
/// near to nothing. `None` where the word can stay: it is known, or nobody knows it.
pub fn nearest_effort<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    let rank = |word: &str| EFFORTS.iter().position(|effort| *effort == word);
    let wanted = rank(word).filter(|_| !known.iter().any(|known| known == word))?;
    let some = known.iter().filter(|known| *known != "none").filter_map(|known| Some((rank(known)?, known.as_str())));
    some.min_by_key(|(rank, _)| rank.abs_diff(wanted)).map(|(_, known)| known)
}

/// The limit of the answer's tokens and its spelling: the route's override, else the client's, else the route's default,
/// whatever spelling each of them uses; within one of them the newer `max_completion_tokens` counts.
pub fn max_tokens<'a>(request: &ChatRequest<'a>) -> Option<(Field, &'a str)> {
    const SPELLINGS: [Field; 2] = [Field::MaxCompletionTokens, Field::MaxTokens];
    let of = |list: &'a [(String, String)]| {
        SPELLINGS.iter().find_map(|field| list.iter().find(|(name, _)| name == field.name()).map(|(_, json)| (*field, json.as_str())))
    };
    let clients = || SPELLINGS.iter().find_map(|field| request.parsed.raw(*field).map(|json| (*field, json)));
    of(&request.params.overrides).or_else(clients).or_else(|| of(&request.params.defaults)).filter(|(_, json)| *json != "null")
}

/// [`max_tokens`] as a number, for dialects that compute with it.
///
/// # Errors
/// A 400 that names the field where it is no whole number of at least 1.
pub fn token_limit(request: &ChatRequest<'_>) -> Result<Option<u64>, ApiError> {
    let Some((field, raw)) = max_tokens(request) else { return Ok(None) };
    match raw.parse() {
        Ok(limit) if limit > 0 => Ok(Some(limit)),
        _ => Err(ApiError::field(field.name(), format!("`{}` must be a whole number of at least 1", field.name()))),
    }
}

/// Whether a member of the client's speaks to the gateway and never goes upstream.
pub fn is_gateways(name: &str) -> bool {
    name == Field::EpisodeId.name() || name.starts_with(GATEWAY_PREFIX)
}

/// Names of the members that are given, by the client or by the route's settings, and are not the gateway's own.
pub fn names<'a>(request: &ChatRequest<'a>) -> impl Iterator<Item = Cow<'a, str>> {
    let body = request.parsed.body();
    let clients = request.parsed.envelope().members.iter().filter(|member| member.value.of(body) != b"null");
    let clients = clients.map(|member| name_of(member, body));
    let routes = request.params.overrides.iter().chain(&request.params.defaults).map(|(name, _)| Cow::Borrowed(name.as_str()));
    clients.chain(routes).filter(|name| !is_gateways(name))
}

/// A name that may stand in a header and in a message.
fn shown(name: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':');
    (!name.is_empty() && name.len() <= MAX_SHOWN_NAME && name.bytes().all(plain)).then_some(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::llm::envelope::Parsed;
    use crate::llm::settings::Params;

    /// Settles a body under a dialect that maps temperature and tools only.
    fn settled(body: &'static str, params: &Params) -> Result<Settled, ApiError> {
        let parsed = Parsed::scan(body.into()).unwrap();
        let request = ChatRequest { parsed: &parsed, params, system: None, model: "m", seal: None };
        settle(&request, Unknown::Drop, |field| Policy::of(field, &[Field::Temperature, Field::Tools]))
    }

    #[test]
    fn hints_are_named_and_essential_fields_are_refused() {
        let open = Params::default();
        let ok = settled(r#"{"model":"m","messages":[],"temperature":1,"seed":4,"top_q":1,"episode_id":"x"}"#, &open).unwrap();
        assert_eq!(ok.dropped, ["seed", "top_q"]);
        let no = settled(r#"{"model":"m","messages":[],"seed":4,"n":2}"#, &open).unwrap_err();
        assert_eq!((no.status, no.param.as_deref()), (400, Some("n")));
    }

    #[test]
    fn a_strict_route_refuses_hints() {
        let strict = Params { reject_unsupported: true, ..Params::default() };
        let no = settled(r#"{"model":"m","messages":[],"seed":4}"#, &strict).unwrap_err();
        assert_eq!(no.param.as_deref(), Some("seed"));
    }

    #[test]
    fn what_asks_for_nothing_counts_as_absent() {
        let body = r#"{"model":"m","messages":[],"n":1,"logprobs":false,"top_logprobs":3,"parallel_tool_calls":false,"tool_choice":"auto",
            "metadata":{ },"user":"","stop":null,"response_format":{"type":"text"},"modalities":["text"],"presence_penalty":0.0,"x":null}"#;
        let strict = Params { reject_unsupported: true, ..Params::default() };
        assert_eq!(settled(body, &strict).unwrap(), Settled::default());
    }

    #[test]
    fn a_routes_own_settings_are_judged_like_the_clients() {
        let params = Params { defaults: vec![("seed".into(), "1".into())], overrides: vec![("n".into(), "1".into())], ..Params::default() };
        let ok = settled(r#"{"model":"m","messages":[],"n":3}"#, &params).unwrap();
        assert_eq!(ok.dropped, ["seed"]);
    }

    #[test]
    fn a_name_that_cannot_stand_in_a_header_is_not_shown() {
        let ok = settled("{\"model\":\"m\",\"messages\":[],\"a\\r\\nb: c\":1}", &Params::default()).unwrap();
        assert_eq!(ok.dropped, ["others"]);
    }

    #[test]
    fn the_token_limit_is_the_one_of_the_highest_authority() {
        let parsed = Parsed::scan(r#"{"max_tokens":1,"max_completion_tokens":2}"#.into()).unwrap();
        let limit = |overrides: &[(String, String)], parsed| {
            let params = Params { overrides: overrides.to_vec(), defaults: vec![("max_tokens".into(), "9".into())], ..Params::default() };
            let request = ChatRequest { parsed, params: &params, system: None, model: "m", seal: None };
            max_tokens(&request).map(|(field, json)| (field, json.to_owned()))
        };
        assert_eq!(limit(&[], &parsed), Some((Field::MaxCompletionTokens, "2".into())));
        assert_eq!(limit(&[("max_tokens".into(), "3".into())], &parsed), Some((Field::MaxTokens, "3".into())));
        assert_eq!(limit(&[], &Parsed::scan("{}".into()).unwrap()), Some((Field::MaxTokens, "9".into())));
    }

    #[test]
    fn an_effort_that_is_not_known_becomes_the_nearest() {
        let known = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (three, two) = (known(&["low", "medium", "high"]), known(&["none", "high"]));
        for (word, want) in [("none", "low"), ("minimal", "low"), ("xhigh", "high"), ("max", "high")] {
            assert_eq!(nearest_effort(word, &three), Some(want), "{word}");
        }
        assert_eq!([nearest_effort("medium", &three), nearest_effort("ultra", &three), nearest_effort("max", &[])], [None; 3]);
        assert_eq!([nearest_effort("minimal", &two), nearest_effort("none", &two)], [Some("high"), None]);
    }

    #[test]
    fn a_temperature_above_the_maximum_is_clamped() {
        let (open, strict) = (Params::default(), Params { reject_unsupported: true, ..Params::default() });
        let parsed = Parsed::scan(r#"{"model":"m","messages":[],"temperature":1.51}"#.into()).unwrap();
        let request = |params| ChatRequest { parsed: &parsed, params, system: None, model: "m", seal: None };
        let mut settled = Settled::default();
        assert_eq!(temperature(&request(&open), "1.5", &mut settled).unwrap(), Some("1.5"));
        assert_eq!(settled.adjusted, [Field::Temperature]);
        assert_eq!(temperature(&request(&open), "2", &mut settled).unwrap(), Some("1.51"));
        assert!(temperature(&request(&strict), "1.5", &mut settled).is_err());
    }
}
