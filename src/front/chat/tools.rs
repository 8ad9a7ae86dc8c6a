//! Reads the tools of a chat completion and the choice among them.

use crate::error::ApiError;
use crate::front::read::{cache, optional, raw_members, required, walked_members};
use crate::json::text::Text;
use crate::json::walk::Cursor;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::request::{Path, Tool, ToolChoice, decoded};
use serde::Deserialize;

/// Reads `tools`; none where they are absent.
///
/// # Errors
/// A 400 that names the tool: another type than function, no name, parameters that are no object. Also where the request
/// uses `functions` or `function_call`, which only OpenAI's own protocol has.
pub fn read<'a>(chat: &ChatRequest<'a>) -> Result<Vec<Tool<'a>>, ApiError> {
    if chat.asked(Field::Functions).is_some() {
        return Err(legacy(Field::Functions.name().to_owned()));
    }
    if chat.raw(Field::FunctionCall).is_some_and(|raw| !matches!(raw, r#""none""# | r#""auto""#)) {
        return Err(legacy(Field::FunctionCall.name().to_owned()));
    }
    let mut tools = Vec::new();
    let Some(raw) = chat.raw(Field::Tools) else { return Ok(tools) };
    Cursor::inside(raw).array(|cursor| {
        let tool = tool(cursor, Path::element(Field::Tools.name(), tools.len()))?;
        tools.push(tool);
        Ok::<_, ApiError>(())
    })?;
    Ok(tools)
}

fn tool<'a>(cursor: &mut Cursor<'a>, at: Path) -> Result<Tool<'a>, ApiError> {
    let mut function = None;
    let [kind, raw, mark] = walked_members(cursor, at, ["type", "function", "cache_control"], |cursor, name| {
        let is_function = name == "function" && cursor.at_object();
        if is_function {
            function = Some(raw_members(cursor, at.member("function"), ["name", "description", "parameters", "strict"])?);
        }
        Ok(is_function)
    })?;
    if required(kind, at.member("type"))?.decode() != "function" {
        return Err(at.member("type").refused("this model only takes tools of type function"));
    }
    let [name, description, parameters, strict] = match (function, raw) {
        (Some(function), _) => function,
        (None, None | Some("null")) => return Err(at.member("function").missing()),
        (None, Some(_)) => return Err(at.member("function").must_be("an object")),
    };
    let parameters = parameters.filter(|value| *value != "null");
    if parameters.is_some_and(|value| !value.starts_with('{')) {
        return Err(at.member("function.parameters").must_be("a JSON schema, an object"));
    }
    Ok(Tool {
        name: required(name, at.member("function.name"))?,
        description: optional(description, at.member("function.description"))?,
        parameters,
        strict: match strict {
            None | Some("null") => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) => return Err(at.member("function.strict").must_be("true or false")),
        },
        cache: mark.and_then(cache),
        at: at.member("function.parameters"),
    })
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
    tools: Vec<WireNamed<'a>>,
}

#[derive(Deserialize)]
struct WireChoice<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    function: Option<WireName<'a>>,
    allowed_tools: Option<WireAllowed<'a>>,
}

/// Reads `tool_choice`; `None` where the client makes none. A choice without tools is none, unless it asks for a call.
///
/// # Errors
/// A 400 that names `tool_choice`: an unknown form, a tool that is not among `tools`, a call without tools.
pub fn choice<'a>(chat: &ChatRequest<'a>, tools: &[Tool<'a>]) -> Result<Option<ToolChoice<'a>>, ApiError> {
    let name = Field::ToolChoice.name();
    let Some(raw) = chat.raw(Field::ToolChoice) else { return Ok(None) };
    let choice = match raw {
        r#""auto""# => ToolChoice::Auto,
        r#""none""# => ToolChoice::None,
        r#""required""# => ToolChoice::Required,
        _ => {
            let form = || ApiError::field(name, "`tool_choice` must be none, auto, required, a named function or allowed_tools");
            if !raw.starts_with('{') {
                return Err(form());
            }
            let wire: WireChoice<'a> = chat.get(Field::ToolChoice)?.ok_or_else(form)?;
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
    let declared = decoded(tools.iter().map(|tool| tool.name));
    let known = |wanted: &Text<'_>| declared.contains(&wanted.decode());
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

/// The 400 for the calls of before `tools`.
pub(super) fn legacy(param: String) -> ApiError {
    let message = format!("`{param}` belongs to the old function calls; use `tools`, `tool_choice` and role `tool` with this model");
    ApiError::field(param, message)
}

#[cfg(test)]
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
        let read = || super::choice(&request, &super::read(&request)?);
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
