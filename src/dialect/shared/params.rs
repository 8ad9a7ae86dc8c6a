//! One policy for parameters that a provider lacks, the same for every dialect.
//!
//! A dialect has a table that says of every [`Field`] whether it is mapped; [`settle`] and [`settle_chat`] walk a request
//! through it. What is not mapped is dropped and named where it is a hint (or a 400 where the route says
//! `unsupported: reject`), and always a 400 where it is essential.

use crate::closed_set::closed_set;
use crate::error::ApiError;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::{Field, GUIDED, Loss};
use crate::llm::request::{Effort, Param, Request};
use crate::yaml::section::words;
use std::borrow::Cow;

/// The fields of [`GUIDED`] that are further spellings of the others' constraints.
const SPELLINGS: [Field; 5] = [Field::StructuredOutputs, Field::Regex, Field::Ebnf, Field::JsonSchema, Field::Grammar];
/// Most unknown fields that are named one by one in `x-tidegate-dropped-params`.
pub const MAX_NAMED_UNKNOWN: usize = 16;
/// Longest unknown field name that is shown, in bytes.
pub const MAX_SHOWN_NAME: usize = 64;

closed_set! {
    /// What a dialect does with a field.
    Policy {
        /// Sent, as it is or in the provider's own form; the encoder may still refuse a value.
        Mapped = "mapped",
        /// No counterpart, but the answer means the same without it: left out and named.
        Hint = "dropped",
        /// No counterpart, and the answer would mean something else without it: a 400 that names it.
        Essential = "refused",
    }
}

impl Policy {
    /// The policy of a field that a dialect does not map.
    pub const fn when_lost(field: Field) -> Self {
        match field.loss() {
            None => Self::Mapped,
            Some(Loss::Hint) => Self::Hint,
            Some(Loss::Essential) => Self::Essential,
        }
    }

    /// The policy of a dialect that maps these fields and no others. One that maps any constraint reads all spellings of
    /// it, and refuses those that it cannot express by their own name.
    pub fn of(field: Field, mapped: &[Field]) -> Self {
        let spelled = SPELLINGS.contains(&field) && mapped.iter().any(|known| GUIDED.contains(known));
        if spelled || mapped.contains(&field) { Self::Mapped } else { Self::when_lost(field) }
    }
}

words! {
    /// What a dialect does with members that the gateway does not know.
    Unknown {
        /// Sent as they are.
        Pass = "pass",
        /// Left out like hints.
        Drop = "drop",
    }
}

/// What became of a request's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Names of hints that are left out, in the client's words, each once.
    pub dropped: Vec<Cow<'static, str>>,
    /// Names of parameters whose value was changed to fit.
    pub adjusted: Vec<Cow<'static, str>>,
    /// Whether the route refuses both.
    reject: bool,
    /// Unknown members seen so far.
    unknown: usize,
}

impl Settled {
    /// Nothing so far; `reject`: the route says `unsupported: reject`.
    pub fn new(reject: bool) -> Self {
        Self { reject, ..Self::default() }
    }

    /// Leaves out a hint.
    ///
    /// # Errors
    /// A 400 that names it, where the route says `unsupported: reject`.
    pub fn drop(&mut self, name: impl Into<Cow<'static, str>>) -> Result<(), ApiError> {
        let name = name.into();
        if self.reject {
            let message = format!("`{name}` has no counterpart at this model's provider, and this route refuses such fields; leave it out");
            return Err(ApiError::field(name, message));
        }
        if !self.dropped.contains(&name) {
            self.dropped.push(name);
        }
        Ok(())
    }

    /// Notes that a value was changed to fit.
    ///
    /// # Errors
    /// A 400 that names it, where the route says `unsupported: reject`.
    pub fn adjust(&mut self, name: impl Into<Cow<'static, str>>, why: &str) -> Result<(), ApiError> {
        let name = name.into();
        if self.reject {
            let message = format!("`{name}` does not fit this model: {why}");
            return Err(ApiError::field(name, message));
        }
        if !self.adjusted.contains(&name) {
            self.adjusted.push(name);
        }
        Ok(())
    }

    /// Leaves out a member that the dialect does not know. The first [`MAX_NAMED_UNKNOWN`] are named one by one.
    ///
    /// # Errors
    /// As [`Self::drop`].
    pub fn drop_unknown(&mut self, name: &str) -> Result<(), ApiError> {
        let shown = shown(name).filter(|_| self.unknown < MAX_NAMED_UNKNOWN);
        self.unknown += 1;
        self.drop(shown.map_or(Cow::Borrowed("others"), |name| Cow::Owned(name.to_owned())))
    }

    fn settle(&mut self, param: &Param<'_>, unknown: Unknown, table: &impl Fn(Field) -> Policy) -> Result<(), ApiError> {
        let Some(field) = param.field else {
            return if unknown == Unknown::Drop { self.drop_unknown(&param.name) } else { Ok(()) };
        };
        match table(field) {
            _ if param.refused => self.drop(param.name.clone().into_owned()),
            Policy::Mapped => Ok(()),
            Policy::Essential => Err(unsupported(param.name.clone().into_owned())),
            Policy::Hint => self.drop(param.name.clone().into_owned()),
        }
    }
}

/// Walks the parameters of a request through a dialect's table; what the gateway does not know is left out.
///
/// # Errors
/// A 400 that names the first essential field without a counterpart, or the first hint where the route rejects them.
pub fn settle(request: &Request<'_>, table: impl Fn(Field) -> Policy) -> Result<Settled, ApiError> {
    let mut settled = Settled::new(request.reject_unsupported);
    request.params.iter().try_for_each(|param| settled.settle(param, Unknown::Drop, &table))?;
    Ok(settled)
}

/// The same for a chat completion that is spliced.
///
/// # Errors
/// As [`settle`].
pub fn settle_chat(request: &ChatRequest<'_>, unknown: Unknown, table: impl Fn(Field) -> Policy) -> Result<Settled, ApiError> {
    let mut settled = Settled::new(request.params.reject_unsupported);
    request.asked_fields().try_for_each(|param| settled.settle(&param, unknown, &table))?;
    if unknown == Unknown::Drop {
        request.unknown().try_for_each(|param| settled.settle(&param, unknown, &table))?;
    }
    Ok(settled)
}

/// The 400 for a field whose loss would change the answer.
pub fn unsupported(name: impl Into<Cow<'static, str>>) -> ApiError {
    let name = name.into();
    let message = format!(
        "`{name}` is not supported by this model's provider, and without it the answer would not be what was asked for; leave it out or choose another model"
    );
    ApiError::field(name, message)
}

/// A temperature (raw JSON) in its own spelling, or `max` (raw JSON, such as `1.5`) where it is above.
///
/// # Errors
/// A 400 that names it, where the route says `unsupported: reject`.
pub fn temperature<'a>(raw: &'a str, name: impl Into<Cow<'static, str>>, max: &'a str, settled: &mut Settled) -> Result<&'a str, ApiError> {
    let above = matches!((raw.parse::<f64>(), max.parse::<f64>()), (Ok(value), Ok(limit)) if value > limit);
    if !above {
        return Ok(raw);
    }
    settled.adjust(name, &format!("its provider takes at most {max}"))?;
    Ok(max)
}

/// The word among `known` that is nearest to an effort which is not among them; `none`, which is no little thinking, is
/// near to nothing. `None` where the word can stay: it is known, or nobody knows it.
pub fn nearest_effort<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    let rank = |word: &str| Effort::ALL.iter().position(|effort| effort.name() == word);
    let wanted = rank(word).filter(|_| !known.iter().any(|known| known == word))?;
    let some = known.iter().filter(|known| *known != "none").filter_map(|known| Some((rank(known)?, known.as_str())));
    some.min_by_key(|(rank, _)| rank.abs_diff(wanted)).map(|(_, known)| known)
}

/// A name that may stand in a header and in a message.
fn shown(name: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':' | b'[' | b']');
    (!name.is_empty() && name.len() <= MAX_SHOWN_NAME && name.bytes().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::envelope::Parsed;
    use crate::llm::settings::Params;

    /// Settles a body under a dialect that maps temperature and tools only.
    fn settled(body: &'static str, params: &Params) -> Result<Settled, ApiError> {
        let parsed = Parsed::scan(body.into()).unwrap();
        let request = ChatRequest { parsed: &parsed, params, system: None, model: "m", seal: None };
        settle_chat(&request, Unknown::Drop, |field| Policy::of(field, &[Field::Temperature, Field::Tools]))
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
        assert_eq!(settled(body, &strict).unwrap(), Settled::new(true));
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
            request.max_tokens().map(|(field, json)| (field, json.to_owned()))
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
        let mut settled = Settled::default();
        assert_eq!(temperature("1.51", "temperature", "1.5", &mut settled).unwrap(), "1.5");
        assert_eq!(settled.adjusted, ["temperature"]);
        assert_eq!(temperature("1.51", "temperature", "2", &mut settled).unwrap(), "1.51");
        assert!(temperature("1.51", "temperature", "1.5", &mut Settled::new(true)).is_err());
    }
}
