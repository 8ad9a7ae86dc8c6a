//! `tools` and `tool_choice`.

use super::check::refusal;
use super::shape::HOSTED_TOOLS;
use crate::simulate::ask::{Ask, Choice, Constraint, Tool};
use crate::simulate::openai::Service::{self, Vllm};
use crate::simulate::openai::check::{Checked, function, refuse};
use crate::simulate::shape::Rule::{Need, Null};
use crate::simulate::shape::{Member, Shape, items, text_of};
use serde_json::{Map, Value, json};

const NAME: Member = ("name", Need, &Shape::Filled);
const DESCRIPTION: Member = ("description", Null, &Shape::Text);

static FUNCTION: Shape = Shape::Open(&[
    NAME,
    DESCRIPTION,
    ("parameters", Null, &Shape::Object),
    ("strict", Null, &Shape::Flag),
    ("defer_loading", Null, &Shape::Flag),
]);
static CUSTOM: Shape = Shape::Open(&[
    NAME,
    DESCRIPTION,
    (
        "format",
        Null,
        &Shape::Tagged(&[
            ("text", &[]),
            ("grammar", &[("syntax", Need, &Shape::Word(&["lark", "regex"])), ("definition", Need, &Shape::Filled)]),
        ]),
    ),
]);
static NAMESPACE: Shape = Shape::Open(&[NAME, DESCRIPTION, ("tools", Need, &Shape::Some(&Shape::Object))]);

/// Checks the tools and the choice of them.
///
/// # Errors
/// The first fault.
pub(super) fn check(service: Service, body: &Value) -> Checked {
    for (n, tool) in items(body, "tools").iter().enumerate() {
        one(service, body, tool, &format!("tools.{n}"), &format!("tools[{n}]"))?;
        for (inner, tool) in items(tool, "tools").iter().enumerate().filter(|_| text_of(tool, "type") == "namespace") {
            one(service, body, tool, &format!("tools.{n}.tools.{inner}"), &format!("tools[{n}].tools[{inner}]"))?;
        }
    }
    choice(body)
}

/// Checks the tool at `at`, which is `param` in OpenAI's spelling.
fn one(service: Service, body: &Value, tool: &Value, at: &str, param: &str) -> Checked {
    let kind = text_of(tool, "type");
    let shape = match kind {
        "function" => &FUNCTION,
        "custom" if service != Vllm => &CUSTOM,
        "namespace" if service != Vllm && !at.contains(".tools.") => &NAMESPACE,
        _ if HOSTED_TOOLS.contains(&kind) => return Ok(()),
        _ => {
            let why = format!(
                "Invalid value: '{kind}'. Supported values are: 'function', 'custom', 'namespace', '{}'.",
                HOSTED_TOOLS.join("', '")
            );
            return refuse("invalid_value", &format!("{param}.type"), why);
        }
    };
    shape.check(tool, at).map_err(|fault| refusal(body, fault))?;
    if kind == "function" {
        function(service, param, param, tool, tool.get("parameters").filter(|schema| !schema.is_null()))?;
    }
    Ok(())
}

fn choice(body: &Value) -> Checked {
    let tools = items(body, "tools");
    let choice = body.get("tool_choice").unwrap_or(&Value::Null);
    let missing = |what: &str| refuse("invalid_value", "tool_choice", format!("Tool choice '{what}' not found in 'tools' parameter."));
    let kind = text_of(choice, "type");
    match choice {
        Value::String(word) if word == "required" && tools.is_empty() => {
            refuse("invalid_value", "tool_choice", "Tool choice 'required' must be specified with 'tools' parameter.")
        }
        Value::Object(_) if kind == "allowed_tools" => {
            if !["auto", "required"].contains(&text_of(choice, "mode")) || items(choice, "tools").is_empty() {
                return refuse("invalid_value", "tool_choice", format!("Invalid value for 'tool_choice': {choice}."));
            }
            match items(choice, "tools").iter().find(|allowed| !is_offered(tools, allowed)) {
                Some(allowed) => missing(text_of(allowed, "type")),
                None => Ok(()),
            }
        }
        Value::Object(_) if !is_offered(tools, choice) => missing(kind),
        _ => Ok(()),
    }
}

/// Whether `chosen` stands for one of the tools.
fn is_offered(tools: &[Value], chosen: &Value) -> bool {
    each(tools).any(|(_, tool)| is_same(tool, chosen))
}

fn is_same(tool: &Value, chosen: &Value) -> bool {
    let same = |member: &str| tool.get(member) == chosen.get(member);
    match text_of(chosen, "type") {
        "function" | "custom" => same("type") && same("name"),
        "mcp" => same("type") && same("server_label"),
        _ => same("type"),
    }
}

/// All tools, those of namespaces with the name of theirs.
fn each(tools: &[Value]) -> impl Iterator<Item = (Option<&str>, &Value)> {
    tools.iter().flat_map(|tool| {
        let namespace = (text_of(tool, "type") == "namespace").then(|| text_of(tool, "name"));
        let inner = if namespace.is_some() { items(tool, "tools") } else { std::slice::from_ref(tool) };
        inner.iter().map(move |tool| (namespace, tool))
    })
}

/// Offers the tools that the model may call, and reads the choice of them.
pub(super) fn read(body: &Map<String, Value>, ask: &mut Ask) {
    let choice = body.get("tool_choice").unwrap_or(&Value::Null);
    ask.choice = match choice.as_str().unwrap_or_else(|| text_of(choice, "mode")) {
        "none" => Choice::None,
        "required" => Choice::Required,
        _ if ["function", "custom"].contains(&text_of(choice, "type")) => Choice::Named(text_of(choice, "name").to_owned()),
        _ => Choice::Auto,
    };
    let allowed = choice.get("tools").and_then(Value::as_array);
    let tools = body.get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (namespace, tool) in each(tools).filter(|(_, tool)| allowed.is_none_or(|allowed| allowed.iter().any(|one| is_same(tool, one)))) {
        let input = match text_of(tool, "type") {
            "function" => None,
            "custom" => Some(input(tool)),
            _ => continue,
        };
        ask.tools.push(Tool {
            name: text_of(tool, "name").to_owned(),
            parameters: tool.get("parameters").filter(|schema| !schema.is_null()).cloned().unwrap_or(json!({})),
            input,
            namespace: namespace.map(str::to_owned),
        });
    }
}

/// What the input of a custom tool must satisfy.
fn input(tool: &Value) -> Constraint {
    let format = tool.get("format").unwrap_or(&Value::Null);
    let definition = || text_of(format, "definition").to_owned();
    match text_of(format, "syntax") {
        "regex" => Constraint::Pattern(definition()),
        "lark" => Constraint::Grammar(definition()),
        _ => Constraint::Free,
    }
}
