//! What an answer is held to: JSON of any kind, a schema, a choice, a regular expression, a grammar.
//!
//! Clients write it in OpenAI's `response_format`, in vLLM's `guided_*` or `structured_outputs`, in SGLang's `regex` and
//! `ebnf`, in llama.cpp's `grammar` and `json_schema`; [`read`] reads all of them into one form, which every dialect turns
//! into its provider's own, or refuses by the name of the field. A constraint is never dropped: an answer without it is not
//! what was asked for.

use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::walk::{self, string};
use crate::json::write::Writer;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::{Field, Fields, GUIDED};
use crate::llm::request::OutputFormat;
use crate::llm::strict;
use crate::llm::validate;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The member that holds the choice where a provider can only be held to an object: see [`choice_schema`].
pub const CHOICE_KEY: &str = "choice";
/// The name of a schema whose client gave none; OpenAI wants one (`a-z A-Z 0-9 _ -`, at most 64).
pub const DEFAULT_SCHEMA_NAME: &str = "response";
/// The name of a schema that came as `guided_json`.
pub const GUIDED_SCHEMA_NAME: &str = "guided_json";
/// The name of a schema that was made out of `guided_choice`.
pub const CHOICE_SCHEMA_NAME: &str = "guided_choice";

/// What an answer is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint<'a> {
    /// Any JSON object.
    JsonObject,
    /// A JSON document of this schema.
    JsonSchema(Schema<'a>),
    /// One of these texts; at least one.
    Choice(Vec<Text<'a>>),
    /// A text that this regular expression matches as a whole.
    Regex(Text<'a>),
    /// A text of this grammar, in whatever notation the server reads.
    Grammar(Text<'a>),
    /// XGrammar's structural tag: the text of a JSON object.
    StructuralTag(Cow<'a, str>),
}

/// A JSON schema and what OpenAI says beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema<'a> {
    /// Its name; the inside of a JSON string.
    pub name: Text<'a>,
    /// The schema, raw JSON: an object.
    pub schema: Cow<'a, str>,
    /// Whether the provider must keep to it strictly; `None` where the client does not say, and where `guided_json` is
    /// no schema for OpenAI's strict mode.
    pub strict: Option<bool>,
    /// What it is for.
    pub description: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    json_schema: Option<Wire<'a>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Wire<'a> {
    name: Option<&'a RawValue>,
    schema: Option<&'a RawValue>,
    strict: Option<bool>,
    description: Option<&'a RawValue>,
}

/// The constraint of a chat completion, where it has one.
///
/// # Errors
/// A 400 that names the field: two constraints at once, an ill-formed one, or a `response_format` of a type that OpenAI
/// does not have.
pub fn read<'a>(request: &ChatRequest<'a>) -> Result<Option<OutputFormat<'a>>, ApiError> {
    const FIELDS: Fields = Fields::of(&GUIDED).with(Field::ResponseFormat);
    let mut found: Option<OutputFormat<'a>> = None;
    for field in request.fields().and(FIELDS).iter() {
        let Some(raw) = request.raw(field) else { continue };
        let Some(constraint) = Constraint::read(field, raw)? else { continue };
        if let Some(first) = &found {
            let (a, b) = (first.field.name(), field.name());
            return Err(ApiError::field(b, format!("`{a}` and `{b}` both say what the answer must look like; send only one of them")));
        }
        found = Some(OutputFormat { field, constraint });
    }
    Ok(found)
}

impl<'a> Constraint<'a> {
    fn read(field: Field, raw: &'a str) -> Result<Option<Self>, ApiError> {
        let text = || string(raw).ok_or_else(|| ApiError::field(field.name(), format!("`{}` must be a string", field.name())));
        Ok(Some(match field {
            Field::ResponseFormat => return response_format(raw),
            Field::GuidedJson | Field::JsonSchema => Self::JsonSchema(guided(field, raw)?),
            Field::GuidedChoice => Self::Choice(choices(field, raw)?),
            Field::GuidedRegex | Field::Regex => Self::Regex(text()?),
            Field::GuidedGrammar | Field::Ebnf => Self::Grammar(text()?),
            Field::Grammar if raw.starts_with('"') => Self::Grammar(text()?),
            Field::Grammar => return typed_grammar(raw),
            Field::StructuredOutputs => return structured_outputs(raw),
            _ => Self::StructuralTag(object(field.name(), raw)?),
        }))
    }
}

impl Schema<'_> {
    /// OpenAI's `json_schema` object.
    pub fn write(&self, w: &mut Writer) {
        w.object();
        self.write_members(w);
        w.end_object();
    }

    /// Its members.
    pub fn write_members(&self, w: &mut Writer) {
        w.key("name").text(self.name).optional_text("description", self.description);
        w.key("schema").raw(&self.schema).optional_flag("strict", self.strict);
    }
}

/// The schema of an object whose only member, [`CHOICE_KEY`], is one of the choices, for providers that take no bare
/// enum; `dialect::shared::unwrap` takes the choice out of the answer again. The choices are separated by a space too, because
/// Bedrock's models get the schema as a text.
pub fn choice_schema(choices: &[Text<'_>]) -> Schema<'static> {
    let mut w = Writer::default();
    w.object().key("type").string("object").key("properties").object().key(CHOICE_KEY).object();
    let quoted = |choice: &Text<'_>| {
        let mut w = Writer::default();
        w.text(*choice);
        w.into_string()
    };
    let list: Vec<String> = choices.iter().map(quoted).collect();
    w.key("type").string("string").key("enum").raw(&format!("[{}]", list.join(", "))).end_object().end_object();
    w.key("required").array().string(CHOICE_KEY).end_array().key("additionalProperties").flag(false).end_object();
    Schema { name: Text::Plain(CHOICE_SCHEMA_NAME), schema: Cow::Owned(w.into_string()), strict: Some(true), description: None }
}

/// A regular expression that matches exactly the choices.
pub fn choice_regex(choices: &[Text<'_>]) -> String {
    let mut out = String::from("(");
    for (i, choice) in choices.iter().enumerate() {
        if i > 0 {
            out.push('|');
        }
        for c in choice.decode().chars() {
            if r"\.+*?()|[]{}^$".contains(c) {
                out.push('\\');
            }
            out.push(c);
        }
    }
    out.push(')');
    out
}

/// A schema whose client did not say whether it is strict.
fn guided(field: Field, raw: &str) -> Result<Schema<'_>, ApiError> {
    let schema = object(field.name(), raw)?;
    let strict = strict::keeps_rules(&schema).then_some(true);
    Ok(Schema { name: Text::Plain(GUIDED_SCHEMA_NAME), schema, strict, description: None })
}

/// The members of an object that are not null, in the order of its text.
fn members(field: Field, raw: &str) -> Result<Vec<(Cow<'_, str>, &str)>, ApiError> {
    let bad = |e: crate::json::envelope::ScanError| ApiError::field(field.name(), format!("`{}`: {}", field.name(), e.what));
    let members = walk::members(raw).and_then(walk::Members::rest).map_err(bad)?;
    Ok(members.into_iter().filter(|(_, value)| !matches!(*value, "null" | "false")).map(|(key, value)| (key.decode(), value)).collect())
}

/// vLLM's form from 0.12 on: one kind of constraint as a member; others of its members are options.
fn structured_outputs(raw: &str) -> Result<Option<Constraint<'_>>, ApiError> {
    let field = Field::StructuredOutputs;
    let bad = |what: &str| ApiError::field(field.name(), format!("`structured_outputs` {what}"));
    let mut found = None;
    for (key, value) in members(field, raw)? {
        let text = || string(value).ok_or_else(|| bad("has a member that must be a string"));
        let constraint = match &*key {
            "json" => Constraint::JsonSchema(guided(field, value)?),
            "json_object" => Constraint::JsonObject,
            "choice" => Constraint::Choice(choices(field, value)?),
            "regex" => Constraint::Regex(text()?),
            "grammar" => Constraint::Grammar(text()?),
            "structural_tag" => Constraint::StructuralTag(object(field.name(), value)?),
            _ => continue,
        };
        if found.replace(constraint).is_some() {
            return Err(bad("must hold one constraint only"));
        }
    }
    found.map(Some).ok_or_else(|| bad("must hold json, json_object, regex, choice, grammar or structural_tag"))
}

/// TGI's form, an object with a `type` and a `value`.
fn typed_grammar(raw: &str) -> Result<Option<Constraint<'_>>, ApiError> {
    let field = Field::Grammar;
    let bad = || ApiError::field(field.name(), "`grammar` must be a string, or an object with a type (json or regex) and a value");
    let members = members(field, raw)?;
    let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    let value = member("value").ok_or_else(bad)?;
    match member("type") {
        Some(r#""json""# | r#""json_object""#) => Ok(Some(Constraint::JsonSchema(guided(field, value)?))),
        Some(r#""regex""#) => Ok(Some(Constraint::Regex(string(value).ok_or_else(bad)?))),
        _ => Err(bad()),
    }
}

fn response_format<'a>(raw: &'a str) -> Result<Option<Constraint<'a>>, ApiError> {
    let field = Field::ResponseFormat;
    const SCHEMA: &str = "response_format.json_schema";
    let format: Format<'a> = serde_json::from_str(raw).map_err(|e| validate::unreadable(field.name(), raw, &e))?;
    match (&*format.r#type, format.json_schema) {
        ("text", _) => Ok(None),
        ("json_object", _) => Ok(Some(Constraint::JsonObject)),
        ("json_schema", Some(wire)) => Ok(Some(Constraint::JsonSchema(Schema {
            name: wire.name.and_then(|name| string(name.get())).unwrap_or(Text::Plain(DEFAULT_SCHEMA_NAME)),
            schema: object(&format!("{SCHEMA}.schema"), wire.schema.map_or("{}", RawValue::get))?,
            strict: wire.strict,
            description: wire.description.and_then(|text| string(text.get())),
        }))),
        ("json_schema", None) => Err(validate::missing(SCHEMA)),
        ("structural_tag", _) => Ok(Some(Constraint::StructuralTag(Cow::Borrowed(raw)))),
        _ => Err(validate::wrong("response_format.type", "text, json_object or json_schema")),
    }
}

/// An object that came as JSON or as the text of JSON.
fn object<'a>(name: &str, raw: &'a str) -> Result<Cow<'a, str>, ApiError> {
    let json = string(raw).map_or(Cow::Borrowed(raw), |text| text.decode());
    let bad = |what: &str| ApiError::field(name.to_owned(), format!("`{name}` must be a JSON object{what}"));
    if !json.trim_start().starts_with('{') {
        return Err(bad(""));
    }
    match serde_json::from_str::<&RawValue>(&json) {
        Ok(_) => Ok(json),
        Err(e) => Err(bad(&format!("; its text is not JSON (line {}, column {})", e.line(), e.column()))),
    }
}

fn choices(field: Field, raw: &str) -> Result<Vec<Text<'_>>, ApiError> {
    let bad = || {
        let name = if field == Field::GuidedChoice { "guided_choice" } else { "structured_outputs.choice" };
        ApiError::field(name, format!("`{name}` must be an array of at least one string"))
    };
    let list: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| bad())?;
    let texts: Option<Vec<_>> = list.iter().map(|item| string(item.get())).collect();
    texts.filter(|texts| !texts.is_empty()).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::envelope::Parsed;
    use crate::llm::settings::Params;

    fn with<T>(body: &'static str, look: impl FnOnce(Result<Option<Constraint<'_>>, ApiError>) -> T) -> T {
        let (parsed, params) = (Parsed::scan(body.into()).unwrap(), Params::default());
        let output = read(&ChatRequest { parsed: &parsed, params: &params, system: None, model: "m", seal: None });
        look(output.map(|output| output.map(|output| output.constraint)))
    }

    #[test]
    fn a_schema_is_read_from_either_field() {
        with(
            r#"{"response_format":{"type":"json_schema","json_schema":{"name":"p\u0031","strict":true,"schema":{"type":"object"},"x":1}}}"#,
            |c| {
                let Some(Constraint::JsonSchema(s)) = c.unwrap() else { panic!() };
                assert_eq!((s.name, &*s.schema, s.strict), (Text::Raw(r"p\u0031"), r#"{"type":"object"}"#, Some(true)));
            },
        );
        with(r#"{"guided_json":"{\"type\":\"object\"}"}"#, |c| {
            let Some(Constraint::JsonSchema(s)) = c.unwrap() else { panic!() };
            assert_eq!(&*s.schema, r#"{"type":"object"}"#);
        });
    }

    #[test]
    fn every_spelling_of_a_constraint_is_that_constraint() {
        let read = |body: &'static str| with(body, |c| c.map(|c| format!("{c:?}")).map_err(|e| e.param));
        let regex = Ok(format!("{:?}", Some(Constraint::Regex(Text::Raw("a+")))));
        for body in [
            r#"{"guided_regex":"a+"}"#,
            r#"{"structured_outputs":{"regex":"a+","whitespace_pattern":null,"disable_any_whitespace":true}}"#,
            r#"{"regex":"a+"}"#,
            r#"{"grammar":{"type":"regex","value":"a+"}}"#,
        ] {
            assert_eq!(read(body), regex, "{body}");
        }
        for body in [r#"{"ebnf":"g"}"#, r#"{"grammar":"g"}"#, r#"{"structured_outputs":{"grammar":"g"}}"#] {
            assert_eq!(read(body), Ok(format!("{:?}", Some(Constraint::Grammar(Text::Raw("g"))))), "{body}");
        }
        for body in [
            r#"{"json_schema":{"type":"object"}}"#,
            r#"{"json_schema":"{\"type\":\"object\"}"}"#,
            r#"{"structured_outputs":{"json":{"type":"object"}}}"#,
            r#"{"grammar":{"type":"json","value":{"type":"object"}}}"#,
        ] {
            with(body, |c| assert!(matches!(c, Ok(Some(Constraint::JsonSchema(_)))), "{body}"));
        }
        for (body, param) in [
            (r#"{"structured_outputs":{"regex":"a","choice":["b"]}}"#, "structured_outputs"),
            (r#"{"structured_outputs":{}}"#, "structured_outputs"),
            (r#"{"structured_outputs":{"regex":7}}"#, "structured_outputs"),
            (r#"{"regex":"a","ebnf":"b"}"#, "ebnf"),
            (r#"{"grammar":{"type":"poem","value":"b"}}"#, "grammar"),
        ] {
            assert_eq!(read(body), Err(Some(param.into())), "{body}");
        }
    }

    #[test]
    fn two_constraints_are_one_too_many() {
        with(r#"{"response_format":{"type":"json_object"},"guided_regex":"a"}"#, |c| {
            assert_eq!(c.unwrap_err().param.as_deref(), Some("guided_regex"));
        });
        with(r#"{"response_format":{"type":"text"},"guided_regex":"a"}"#, |c| {
            assert_eq!(c.unwrap(), Some(Constraint::Regex(Text::Raw("a"))))
        });
    }

    #[test]
    fn ill_formed_constraints_name_their_field() {
        for (body, field) in [
            (r#"{"guided_choice":[]}"#, "guided_choice"),
            (r#"{"guided_choice":["a",1]}"#, "guided_choice"),
            (r#"{"guided_json":"{oops"}"#, "guided_json"),
            (r#"{"guided_json":[1]}"#, "guided_json"),
            (r#"{"response_format":{"type":"json_schema"}}"#, "response_format.json_schema"),
            (r#"{"response_format":{"type":"json_schema","json_schema":{"schema":"x"}}}"#, "response_format.json_schema.schema"),
            (r#"{"response_format":{"type":"xml"}}"#, "response_format.type"),
        ] {
            with(body, |c| assert_eq!(c.unwrap_err().param.as_deref(), Some(field), "{body}"));
        }
    }

    #[test]
    fn choices_become_a_schema_or_an_expression() {
        let choices = [Text::Raw(r#"a\"b"#), Text::Raw("1.5")];
        let schema: serde_json::Value = serde_json::from_str(&choice_schema(&choices).schema).unwrap();
        assert_eq!(schema["properties"]["choice"]["enum"], serde_json::json!(["a\"b", "1.5"]));
        assert_eq!(choice_regex(&choices), r#"(a"b|1\.5)"#);
    }
}
