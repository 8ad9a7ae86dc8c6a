//! Tools and the choice among them, as foreign dialects read them. Schemas stay raw.

use crate::error::ApiError;
use crate::json::text::Text;
use crate::llm::cache::Cache;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::message::{legacy, optional, parse, present, required};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A function that the model may call.
#[derive(Clone, Copy, Debug)]
pub struct Tool<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// What it does.
    pub description: Option<Text<'a>>,
    /// The JSON schema of its arguments, always an object where there is one.
    pub parameters: Option<&'a RawValue>,
    /// Whether arguments must match the schema.
    pub strict: Option<bool>,
    /// Whether the prompt shall be kept up to and with this tool.
    pub cache: Option<Cache>,
}

/// Which tools the model may or must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice<'a> {
    /// As it likes.
    Auto,
    /// None at all.
    None,
    /// At least one.
    Required,
    /// This one; it is among the tools.
    Named(Text<'a>),
    /// Only these; they are among the tools.
    Allowed {
        /// Whether one of them must be called.
        required: bool,
        /// Their names.
        names: Vec<Text<'a>>,
    },
}

/// Reads `tools`, `[]` where there are none.
///
/// # Errors
/// A 400 that names the tool: another type than function, no name, parameters that are no object. Also where the
/// request asks for something by `functions` or `function_call`, which foreign dialects do not take.
pub fn tools<'a>(request: &ChatRequest<'a>) -> Result<Vec<Tool<'a>>, ApiError> {
    if request.get::<Vec<&'a RawValue>>(Field::Functions)?.is_some_and(|list| !list.is_empty()) {
        return Err(legacy(Field::Functions.name().to_owned()));
    }
    if request.raw(Field::FunctionCall).is_some_and(|raw| !matches!(raw, r#""none""# | r#""auto""#)) {
        return Err(legacy(Field::FunctionCall.name().to_owned()));
    }
    let list: Vec<&'a RawValue> = request.get(Field::Tools)?.unwrap_or_default();
    list.into_iter().enumerate().map(|(i, raw)| Tool::read(i, raw)).collect()
}

#[derive(Deserialize)]
struct WireTool<'a> {
    #[serde(borrow, default)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireFunction<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    description: Option<&'a RawValue>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow, default)]
    strict: Option<&'a RawValue>,
}

impl<'a> Tool<'a> {
    fn read(i: usize, raw: &'a RawValue) -> Result<Self, ApiError> {
        let at = |rest: &str| format!("tools[{i}]{rest}");
        let wire: WireTool<'a> = parse(raw, || at(""))?;
        if required(wire.r#type, || at(".type"))?.decode() != "function" {
            return Err(ApiError::field(at(".type"), format!("`{}`: this model only takes tools of type function", at(".type"))));
        }
        let function: WireFunction<'a> = parse(present(wire.function, || at(".function"))?, || at(".function"))?;
        let parameters = at(".function.parameters");
        if function.parameters.is_some_and(|schema| !schema.get().starts_with('{')) {
            return Err(ApiError::field(parameters.clone(), format!("`{parameters}` must be a JSON schema, an object")));
        }
        Ok(Self {
            name: required(function.name, || at(".function.name"))?,
            description: optional(function.description, || at(".function.description"))?,
            parameters: function.parameters,
            strict: function.strict.map(|raw| parse(raw, || at(".function.strict"))).transpose()?,
            cache: wire.cache_control.and_then(Cache::read),
        })
    }
}

#[derive(Deserialize)]
struct WireName<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Deserialize)]
struct WireNamed<'a> {
    #[serde(borrow)]
    function: WireName<'a>,
}

#[derive(Deserialize)]
struct WireAllowed<'a> {
    #[serde(borrow)]
    mode: Text<'a>,
    #[serde(borrow)]
    tools: Vec<WireNamed<'a>>,
}

#[derive(Deserialize)]
struct WireChoice<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    #[serde(borrow, default)]
    function: Option<WireName<'a>>,
    #[serde(borrow, default)]
    allowed_tools: Option<WireAllowed<'a>>,
}

/// Reads `tool_choice`; `None` where the client makes none. A choice without tools is none, unless it asks for a call.
///
/// # Errors
/// A 400 that names `tool_choice`: an unknown form, a tool that is not among `tools`, a call without tools.
pub fn tool_choice<'a>(request: &ChatRequest<'a>, tools: &[Tool<'a>]) -> Result<Option<ToolChoice<'a>>, ApiError> {
    let name = Field::ToolChoice.name();
    let Some(raw) = request.raw(Field::ToolChoice) else { return Ok(None) };
    let form = || ApiError::field(name, "`tool_choice` must be none, auto, required, a named function or allowed_tools");
    let choice = match raw {
        r#""auto""# => ToolChoice::Auto,
        r#""none""# => ToolChoice::None,
        r#""required""# => ToolChoice::Required,
        _ => {
            let wire: WireChoice<'a> = request.get(Field::ToolChoice)?.ok_or_else(form)?;
            match (&*wire.r#type.decode(), wire.function, wire.allowed_tools) {
                ("function", Some(function), _) => ToolChoice::Named(function.name),
                ("allowed_tools", _, Some(allowed)) => ToolChoice::Allowed {
                    required: match &*allowed.mode.decode() {
                        "auto" => false,
                        "required" => true,
                        _ => return Err(form()),
                    },
                    names: allowed.tools.iter().map(|tool| tool.function.name).collect(),
                },
                _ => return Err(form()),
            }
        }
    };
    let known = |wanted: &Text<'_>| tools.iter().any(|tool| same_name(tool.name, *wanted));
    let (asks, fits) = match &choice {
        ToolChoice::Auto | ToolChoice::None => (false, true),
        ToolChoice::Required => (true, true),
        ToolChoice::Named(wanted) => (true, known(wanted)),
        ToolChoice::Allowed { names, .. } => (true, !names.is_empty() && names.iter().all(known)),
    };
    match (tools.is_empty(), asks, fits) {
        (true, true, _) => Err(ApiError::field(name, "`tool_choice` asks for a call, but there are no `tools`")),
        (true, false, _) => Ok(None),
        (false, _, false) => Err(ApiError::field(name, "`tool_choice` names a function that is not among `tools`")),
        _ => Ok(Some(choice)),
    }
}

/// Whether two names are the same characters, however they are spelled in JSON.
pub fn same_name(a: Text<'_>, b: Text<'_>) -> bool {
    a == b || a.decode() == b.decode()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::llm::envelope::Parsed;
    use crate::llm::settings::Params;

    const TWO: &str = r#"[{"type":"function","function":{"name":"f","parameters":{"type": "object"}}},{"type":"function","function":{"name":"g","strict":null}}]"#;

    /// Reads a choice among tools; the error's field where it is refused.
    fn choose(tools: &str, choice: &str) -> Result<Option<String>, String> {
        let body = format!(r#"{{"tools":{tools},"tool_choice":{choice}}}"#);
        let (parsed, params) = (Parsed::scan(body.into()).unwrap(), Params::default());
        let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "m", seal: None };
        let read = || tool_choice(&request, &super::tools(&request)?);
        read().map(|choice| choice.map(|choice| format!("{choice:?}"))).map_err(|e| e.param.unwrap().into_owned())
    }

    #[test]
    fn choices_are_read_in_all_forms() {
        let debug = |choice: ToolChoice<'_>| Ok(Some(format!("{choice:?}")));
        assert_eq!(choose(TWO, "null"), Ok(None));
        assert_eq!(choose(TWO, r#""auto""#), debug(ToolChoice::Auto));
        assert_eq!(choose(TWO, r#""none""#), debug(ToolChoice::None));
        assert_eq!(choose(TWO, r#""required""#), debug(ToolChoice::Required));
        assert_eq!(choose(TWO, r#"{"type":"function","function":{"name":"\u0067"}}"#), debug(ToolChoice::Named(Text::Raw(r"\u0067"))));
        let allowed = r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"g"}}]}}"#;
        assert_eq!(choose(TWO, allowed), debug(ToolChoice::Allowed { required: false, names: vec![Text::Raw("g")] }));
        assert_eq!(choose("[]", r#""auto""#), Ok(None));
    }

    #[test]
    fn choices_that_cannot_be_kept_are_refused() {
        for choice in [r#""any""#, r#"{"type":"custom"}"#, r#"{"type":"function","function":{"name":"h"}}"#] {
            assert_eq!(choose(TWO, choice), Err("tool_choice".into()), "{choice}");
        }
        assert_eq!(choose("[]", r#""required""#), Err("tool_choice".into()));
    }

    #[test]
    fn a_bad_tool_is_named() {
        for (tools, param) in [
            (r#"[{"type":"custom"}]"#, "tools[0].type"),
            (r#"[{"type":"function"}]"#, "tools[0].function"),
            (r#"[{"type":"function","function":{}}]"#, "tools[0].function.name"),
            (r#"[{"type":"function","function":{"name":"f","parameters":[]}}]"#, "tools[0].function.parameters"),
            (r#"[{"type":"function","function":{"name":"f","strict":1}}]"#, "tools[0].function.strict"),
        ] {
            assert_eq!(choose(tools, "null"), Err(param.into()), "{tools}");
        }
    }
}
