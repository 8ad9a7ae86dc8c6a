//! Reads the tools of a request and the choice among them. Providers have functions only: a custom tool, whose input is any
//! text, becomes a function with one text, and the functions of a namespace get names of their own. Items of the conversation
//! may add tools to those of `tools`.

use super::INPUT;
use crate::error::ApiError;
use crate::front::asks::{asks, hint};
use crate::front::chat;
use crate::front::read::{elements, optional, raw_members, required};
use crate::hex;
use crate::json::envelope::ScanError;
use crate::json::text::Text;
use crate::json::walk::{self, Cursor};
use crate::llm::envelope::Parsed;
use crate::llm::field::Field;
use crate::llm::request::{Authority, Path, Request, Tool, ToolChoice};
use crate::llm::responses::{Function, Functions, ResponsesRequest};
use crate::llm::settings::Params;
use crate::redact::shown;
use memchr::memmem;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The schema of a function that stands for a custom tool.
const CUSTOM: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;
/// The argument of such a function.
pub const CUSTOM_INPUT: &str = "input";
/// Longest name of a function, which OpenAI's protocol and others set.
const MAX_NAME: usize = 64;
/// Length to which a longer name is cut before a digest of the whole name is appended.
const KEPT_NAME: usize = 55;
/// The item by which a developer adds tools, the only place of Codex's tools with newer models, and the answer to a search for
/// tools that are loaded late.
pub(super) const ADDING: [&str; 2] = ["additional_tools", "tool_search_output"];

/// The functions that stand for a request's custom tools and namespaces, unless the route replaces its tools. Tools that
/// cannot be read are skipped: [`read`] refuses them where a target needs them.
pub fn functions(parsed: &Parsed, params: &Params) -> Functions {
    if params.overrides.iter().any(|(name, _)| name == Field::Tools.name()) {
        return Functions::default();
    }
    let (mut taken, mut found) = (HashSet::new(), Vec::new());
    let each = |kind: &str, namespace: Option<&str>, tool: &RawTool<'_>| {
        let Some(name) = tool.name.and_then(walk::string).map(Text::decode) else { return Ok(()) };
        if kind == "function" && namespace.is_none() {
            taken.insert(name.into_owned());
        } else {
            let custom = (kind == "custom").then(|| tool.described().into());
            found.push(Function { name: "".into(), tool: name.into(), namespace: namespace.map(Into::into), custom });
        }
        Ok(())
    };
    let _ = tools(&Lists::of(parsed), each);
    let mut functions = Functions::default();
    // How many functions have wanted a name.
    let mut wanted: HashMap<String, usize> = HashMap::new();
    for function in found {
        if functions.for_tool(function.namespace.as_deref(), &function.tool).is_some() {
            continue;
        }
        let plain = function_name(function.namespace.as_deref(), &function.tool);
        let count = wanted.entry(plain.clone()).or_default();
        let name = loop {
            *count += 1;
            let name = if *count == 1 { plain.clone() } else { format!("{plain}_{count}") };
            if taken.insert(name.clone()) {
                break name;
            }
        };
        functions.add(Function { name: name.into(), ..function });
    }
    functions
}

/// A function's name in the characters that every provider accepts, short enough for a number to be appended.
fn function_name(namespace: Option<&str>, tool: &str) -> String {
    let whole = namespace.map_or_else(|| tool.to_owned(), |namespace| format!("{namespace}__{tool}"));
    let plain: String = whole.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect();
    if namespace.is_none() || plain.len() <= MAX_NAME - 4 {
        return plain;
    }
    let digest = hex::encode(Sha256::digest(whole.as_bytes()).iter().take(2));
    format!("{}_{digest}", plain.get(..KEPT_NAME).unwrap_or(&plain))
}

/// The raw members of a tool.
struct RawTool<'a> {
    name: Option<&'a str>,
    description: Option<&'a str>,
    parameters: Option<&'a str>,
    strict: Option<&'a str>,
    format: Option<&'a str>,
    at: Path,
}

impl RawTool<'_> {
    /// The description of the function that stands for a custom tool: the tool's own, and its grammar.
    fn described(&self) -> String {
        let description = self.description.and_then(walk::string).map(Text::decode).unwrap_or_default().into_owned();
        let grammar = || {
            let [syntax, definition] = raw_members(&mut Cursor::inside(self.format?), self.at, ["syntax", "definition"]).ok()?;
            Some((walk::string(syntax?)?.decode(), walk::string(definition?)?.decode()))
        };
        let Some((syntax, definition)) = grammar() else { return description };
        let rule = format!("The input is a text that matches this {syntax} grammar:\n{definition}");
        if description.is_empty() { rule } else { format!("{description}\n\n{rule}") }
    }
}

/// The lists of tools in a client's request.
struct Lists<'a> {
    /// `tools`.
    top: Option<&'a str>,
    /// Those of items, with the items' numbers.
    added: Vec<(usize, &'a str)>,
}

impl<'a> Lists<'a> {
    fn of(parsed: &'a Parsed) -> Self {
        let input = parsed.raw_named(INPUT).filter(|raw| raw.starts_with('['));
        let may_add = |raw: &&str| ADDING.iter().any(|kind| memmem::find(raw.as_bytes(), kind.as_bytes()).is_some());
        let added = input.filter(may_add).and_then(|raw| added(raw).ok()).unwrap_or_default();
        Self { top: parsed.raw(Field::Tools), added }
    }

    /// Whether a tool is there.
    fn has_any(&self) -> bool {
        self.top.is_some()
            || self.added.iter().any(|(_, raw)| walk::inner_elements(raw).is_ok_and(|mut list| matches!(list.next(), Ok(Some(_)))))
    }
}

/// The raw lists of tools of the items that have one, with the items' numbers.
fn added(input: &str) -> Result<Vec<(usize, &str)>, ScanError> {
    let (mut found, mut number) = (Vec::new(), 0);
    let mut items = walk::inner_elements(input)?;
    loop {
        let (mut adds, mut list) = (false, None);
        let item = items.next_object(|key, value| {
            adds |= key.is("type") && walk::string(value).is_some_and(|kind| ADDING.iter().any(|adding| kind.decode() == *adding));
            list = list.or_else(|| Some(value).filter(|value| key.is("tools") && value.starts_with('[')));
        })?;
        if item.is_none() {
            return Ok(found);
        }
        found.extend(list.filter(|_| adds).map(|list| (number, list)));
        number += 1;
    }
}

/// Calls `each` with the type, the namespace and the members of each tool, also of those in namespaces: those of `tools`, then
/// those that items add.
///
/// # Errors
/// A 400 that names an element which is no tool, and the errors of `each`.
fn tools<'a>(lists: &Lists<'a>, mut each: impl FnMut(&str, Option<&str>, &RawTool<'a>) -> Result<(), ApiError>) -> Result<(), ApiError> {
    if let Some(raw) = lists.top {
        let at = |number| Path::element(Field::Tools.name(), number);
        elements(&mut Cursor::inside(raw), Path::top(Field::Tools.name()), |cursor, number| one(cursor, at(number), &mut each))?;
    }
    for (item, raw) in &lists.added {
        let at = Path::element(INPUT, *item).member("tools");
        elements(&mut Cursor::inside(raw), at, |cursor, number| one(cursor, at.inner(number), &mut each))?;
    }
    Ok(())
}

/// Calls `each` with a tool, or those of a namespace.
fn one<'a>(
    cursor: &mut Cursor<'a>,
    at: Path,
    each: &mut impl FnMut(&str, Option<&str>, &RawTool<'a>) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let (kind, found, inner) = tool(cursor, at)?;
    let Some(inner) = inner.filter(|_| kind == "namespace") else { return each(&kind, None, &found) };
    let namespace = required(found.name, under(at, "name"))?.decode();
    elements(&mut Cursor::inside(inner), under(at, "tools"), |cursor, number| {
        // A path has no room for a fourth level.
        let at = if at.inner.is_some() { at } else { at.member("tools").inner(number) };
        let (kind, found, _) = tool(cursor, at)?;
        each(&kind, Some(&namespace), &found)
    })
}

/// A tool's type and members, and the tools in it.
fn tool<'a>(cursor: &mut Cursor<'a>, at: Path) -> Result<(Cow<'a, str>, RawTool<'a>, Option<&'a str>), ApiError> {
    const NAMES: [&str; 7] = ["type", "name", "description", "parameters", "strict", "format", "tools"];
    let [kind, name, description, parameters, strict, format, inner] = raw_members(cursor, at, NAMES)?;
    let kind = required(kind, under(at, "type"))?.decode();
    let found = RawTool {
        name,
        description,
        parameters: parameters.filter(|raw| *raw != "null"),
        strict,
        format: format.filter(|raw| raw.starts_with('{')),
        at,
    };
    Ok((kind, found, inner.filter(|raw| raw.starts_with('['))))
}

/// A member of a tool, which may stand in a namespace.
const fn under(at: Path, member: &'static str) -> Path {
    if at.inner.is_some() { at.leaf(member) } else { at.member(member) }
}

/// Reads the tools. Those that OpenAI runs itself are left out and named. A tool that an item adds once more is the same tool.
///
/// # Errors
/// A 400 that names the tool: no name, parameters that are no object, a choice of a tool that is left out.
pub fn read<'a>(ask: &ResponsesRequest<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    let (base, field) = (&ask.base, Field::Tools);
    let lists = Lists::of(base.parsed);
    if base.authority(field) == Authority::Override || (base.authority(field) == Authority::Default && !lists.has_any()) {
        request.tools = chat::tools::read(base)?; // a route has chat's words for them
        return Ok(());
    }
    if lists.top.is_none() && lists.has_any() {
        asks(base, field, field.name(), request);
        if base.raw(Field::ParallelToolCalls) == Some("false") {
            asks(base, Field::ParallelToolCalls, Field::ParallelToolCalls.name(), request);
            request.serial_calls = true;
        }
    }
    if base.params.adjustments.without.contains(field) {
        return Ok(());
    }
    let Request { tools: list, params, .. } = request;
    let mut names = HashSet::new();
    tools(&lists, |kind, namespace, found| {
        let at = found.at;
        if !matches!(kind, "function" | "custom") {
            hint(params, at.to_string());
            return Ok(());
        }
        let name = required(found.name, under(at, "name"))?;
        if name.is_empty() {
            return Err(under(at, "name").must_be("a name"));
        }
        let function = ask.functions.for_tool(namespace, &name.decode());
        let parameters = under(at, "parameters");
        if found.parameters.is_some_and(|raw| !raw.starts_with('{')) {
            return Err(parameters.must_be("a JSON schema, an object"));
        }
        let custom = function.and_then(|function| function.custom.as_deref());
        let name = function.map_or(name, |function| Text::Plain(&function.name));
        if !names.insert(name.decode()) && at.list == INPUT {
            return Ok(());
        }
        list.push(Tool {
            name,
            description: match custom {
                Some(description) => Some(Text::Plain(description)).filter(|text| !text.is_empty()),
                None => optional(found.description, under(at, "description"))?,
            },
            parameters: if custom.is_some() { Some(CUSTOM) } else { found.parameters },
            strict: found.strict.filter(|_| custom.is_none()).and_then(|raw| raw.parse().ok()),
            cache: None,
            at: parameters,
        });
        Ok(())
    })?;
    if request.tools.is_empty() {
        request.params.retain(|param| !matches!(param.field, Some(Field::Tools | Field::ParallelToolCalls)));
        request.serial_calls = false;
    }
    Ok(())
}

/// Reads `tool_choice`.
///
/// # Errors
/// A 400 that names it: an unknown form, a tool that is not among `tools` or is left out, a call without tools.
pub fn choice<'a>(ask: &ResponsesRequest<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    let at = Path::top(Field::ToolChoice.name());
    if ask.base.authority(Field::ToolChoice) != Authority::Client {
        request.tool_choice = chat::tools::choice(&ask.base, &request.tools)?;
        return Ok(());
    }
    let Some(raw) = ask.base.raw(Field::ToolChoice) else { return Ok(()) };
    let names: HashSet<Cow<'a, str>> = request.tools.iter().map(|tool| tool.name.decode()).collect();
    let choice = match raw {
        r#""auto""# => ToolChoice::Auto,
        r#""none""# => ToolChoice::None,
        r#""required""# => ToolChoice::Required,
        _ if !raw.starts_with('{') => return Err(at.must_be("none, auto, required, or an object with a `type`")),
        _ => {
            let [kind, mode, list] = raw_members(&mut Cursor::inside(raw), at, ["type", "mode", "tools"])?;
            match &*required(kind, at.member("type"))?.decode() {
                "function" | "custom" => ToolChoice::Named(named(&mut Cursor::inside(raw), at, ask, &names)?),
                "allowed_tools" => {
                    let required = match mode.map(|mode| (mode, walk::string(mode).map(Text::decode))) {
                        None | Some(("null", _)) => false,
                        Some((_, Some(mode))) if mode == "auto" => false,
                        Some((_, Some(mode))) if mode == "required" => true,
                        Some(_) => return Err(at.member("mode").must_be("auto or required")),
                    };
                    let mut allowed = Vec::new();
                    let list = list.filter(|raw| raw.starts_with('[')).ok_or_else(|| at.member("tools").must_be("an array"))?;
                    Cursor::inside(list).array(|cursor| {
                        allowed.push(named(cursor, at.member("tools").inner(allowed.len()), ask, &names)?);
                        Ok::<_, ApiError>(())
                    })?;
                    ToolChoice::Allowed { required, names: allowed }
                }
                kind => {
                    let kind = shown(kind);
                    return Err(at.refused(&format!("a tool of type `{kind}` is run by OpenAI and is not known to this model's provider")));
                }
            }
        }
    };
    match choice {
        ToolChoice::Auto | ToolChoice::None if request.tools.is_empty() => {}
        _ if request.tools.is_empty() => return Err(at.refused("it asks for a call, but there are no `tools` that this model can call")),
        choice => request.tool_choice = Some(choice),
    }
    if matches!(request.tool_choice, None | Some(ToolChoice::Auto | ToolChoice::None)) {
        request.params.retain(|param| param.field != Some(Field::ToolChoice)); // asks for nothing
    }
    Ok(())
}

/// The name at the provider of the tool that the cursor is at, which must be among those of all tools.
fn named<'a>(cursor: &mut Cursor<'a>, at: Path, ask: &ResponsesRequest<'a>, names: &HashSet<Cow<'a, str>>) -> Result<Text<'a>, ApiError> {
    let [name, namespace] = raw_members(cursor, at, ["name", "namespace"])?;
    let place = if at.member.is_empty() { at.member("name") } else { at.leaf("name") };
    let name = required(name, place)?;
    let namespace = namespace.and_then(walk::string).map(Text::decode);
    let function = ask.functions.for_tool(namespace.as_deref(), &name.decode());
    let name = function.map_or(name, |function| Text::Plain(&function.name));
    if !names.contains(&name.decode()) {
        return Err(place.refused("no tool of `tools` that this model can call has this name"));
    }
    Ok(name)
}
