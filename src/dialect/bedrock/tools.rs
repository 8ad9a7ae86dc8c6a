//! Tools, the choice among them, and answers that are held to JSON.
//!
//! A schema is the service's own JSON output where the model has it; any object, and models without that output, are
//! held by a tool that takes the answer as its arguments ([`CONTENT_TOOL`]).

use super::Family;
use crate::chat::constraint::{self, Constraint, Schema};
use crate::chat::event::Text;
use crate::chat::tool::{Tool, ToolChoice, same_name};
use crate::dialect::anthropic::schema;
use crate::dialect::anthropic::turns::Block;
use crate::dialect::unwrap::UnwrapChoice;
use crate::dialect::{Decoder, params};
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::provider::StructuredOutput;
use std::borrow::Cow;

/// The tool whose arguments are the answer's content.
pub(super) const CONTENT_TOOL: &str = "structured_answer";
/// A schema that any object keeps.
const ANY_OBJECT: &str = r#"{"type":"object","properties":{}}"#;

/// One `toolSpec`.
pub(super) struct Spec<'a> {
    name: Text<'a>,
    description: Option<Text<'a>>,
    schema: Cow<'a, str>,
    strict: bool,
}

/// `toolChoice`, or the lack of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    /// No call wanted.
    None,
    /// As the model likes.
    Auto,
    /// At least one.
    Any,
    /// This one.
    Tool(Text<'a>),
}

impl Choice<'_> {
    /// Whether a call must be made.
    pub(super) fn forces(&self) -> bool {
        matches!(self, Self::Any | Self::Tool(_))
    }
}

/// What the request's tools and its constraint become.
pub(super) struct Plan<'a> {
    pub(super) tools: Vec<Spec<'a>>,
    pub(super) choice: Choice<'a>,
    /// The schema of the service's own JSON output.
    pub(super) native: Option<Cow<'a, Schema<'a>>>,
    /// Whether the arguments of [`CONTENT_TOOL`] are the content.
    pub(super) content_tool: bool,
    unwrap: bool,
}

impl<'a> Plan<'a> {
    /// Decides.
    ///
    /// # Errors
    /// A 400 that names the constraint where the service has nothing like it.
    pub(super) fn of(
        declared: &[Tool<'a>],
        choice: Option<ToolChoice<'a>>,
        constraint: Option<&'a Constraint<'a>>,
        output: StructuredOutput,
        family: Family,
    ) -> Result<Self, ApiError> {
        let mut tools: Vec<Spec<'a>> = declared.iter().map(|tool| Spec::of(tool, family)).collect::<Result<_, _>>()?;
        let choice = match choice {
            _ if tools.is_empty() => Choice::None,
            None | Some(ToolChoice::Auto) => Choice::Auto,
            Some(ToolChoice::None) => Choice::None,
            Some(ToolChoice::Required) => Choice::Any,
            Some(ToolChoice::Named(name)) => Choice::Tool(name),
            Some(ToolChoice::Allowed { required, names }) => {
                tools.retain(|tool| names.iter().any(|name| same_name(*name, tool.name)));
                if required { Choice::Any } else { Choice::Auto }
            }
        };
        let mut plan = Self { tools, choice, native: None, content_tool: false, unwrap: false };
        let Some(constraint) = constraint else { return Ok(plan) };
        let schema = match constraint {
            Constraint::JsonObject => None,
            Constraint::JsonSchema(schema) => Some(Cow::Borrowed(schema)),
            Constraint::Choice(choices) => Some(Cow::Owned(constraint::choice_schema(choices))),
            Constraint::Regex(_) | Constraint::Grammar(_) | Constraint::StructuralTag(_) => {
                return Err(params::unsupported(constraint.field().name()));
            }
        };
        plan.unwrap = matches!(constraint, Constraint::Choice(_));
        match schema {
            Some(schema) if output == StructuredOutput::Native => plan.native = Some(schema),
            // A call that the client demands leaves no room for content, so there is nothing to hold.
            _ if plan.choice.forces() => plan.unwrap = false,
            schema => plan.take_content_by_tool(schema, constraint)?,
        }
        Ok(plan)
    }

    fn take_content_by_tool(&mut self, schema: Option<Cow<'a, Schema<'a>>>, constraint: &Constraint<'_>) -> Result<(), ApiError> {
        let json = match schema {
            None => Cow::Borrowed(ANY_OBJECT),
            Some(held) => {
                let object = schema::object(&held.schema).map(Cow::into_owned);
                let name = constraint.field().name();
                let why = || ApiError::field(name, format!("`{name}`: this model can only be held to a schema of type object"));
                Cow::Owned(object.ok_or_else(why)?)
            }
        };
        // Beside the client's tools the model may answer or call one of them, but must do either.
        if self.choice == Choice::None {
            self.tools.clear();
            self.choice = Choice::Tool(Text::Plain(CONTENT_TOOL));
        } else {
            self.choice = Choice::Any;
        }
        let description = Some(Text::Plain("Gives the answer. Its arguments are the whole answer."));
        self.tools.push(Spec { name: Text::Plain(CONTENT_TOOL), description, schema: json, strict: false });
        self.content_tool = true;
        Ok(())
    }

    /// Around the decoder, where a choice has to be taken out of an object.
    pub(super) fn unwrap(&self, decoder: Box<dyn Decoder>) -> Box<dyn Decoder> {
        if self.unwrap { Box::new(UnwrapChoice::new(decoder)) } else { decoder }
    }
}

impl<'a> Spec<'a> {
    fn of(tool: &Tool<'a>, family: Family) -> Result<Self, ApiError> {
        let schema = match tool.parameters {
            None => Cow::Borrowed(ANY_OBJECT),
            Some(raw) => schema::object(raw.get()).ok_or_else(|| {
                ApiError::field("tools", format!("the parameters of tool `{}` must have type object", tool.name.decode()))
            })?,
        };
        let description = tool.description.filter(|text| !text.is_empty());
        // Only Claude knows strict tools here; elsewhere the service refuses the word.
        Ok(Self { name: tool.name, description, schema, strict: tool.strict == Some(true) && family == Family::Claude })
    }
}

/// Tools for a history that has calls while the request declares none; the service refuses it without.
pub(super) fn undeclared<'a: 'b, 'b, M: 'b>(blocks: impl Iterator<Item = &'b Block<'a, M>>) -> Vec<Spec<'a>> {
    let mut specs: Vec<Spec<'a>> = Vec::new();
    for block in blocks {
        let Block::Call { name, .. } = block else { continue };
        if !specs.iter().any(|spec| same_name(spec.name, *name)) {
            specs.push(Spec { name: *name, description: None, schema: Cow::Borrowed(ANY_OBJECT), strict: false });
        }
    }
    if specs.is_empty() {
        // A result whose call is not there: the service shall say so, not complain about missing tools.
        specs.push(Spec { name: Text::Plain("unknown"), description: None, schema: Cow::Borrowed(ANY_OBJECT), strict: false });
    }
    specs
}

/// Writes `toolConfig`.
pub(super) fn write(w: &mut Writer, tools: &[Spec<'_>], choice: &Choice<'_>) {
    w.key("toolConfig").object().key("tools").array();
    for tool in tools {
        w.object().key("toolSpec").object().key("name").text(tool.name);
        if let Some(description) = tool.description {
            w.key("description").text(description);
        }
        w.key("inputSchema").object().key("json").raw(&tool.schema).end_object();
        if tool.strict {
            w.key("strict").flag(true);
        }
        w.end_object().end_object();
    }
    w.end_array();
    match choice {
        Choice::None | Choice::Auto => {}
        Choice::Any => {
            w.key("toolChoice").object().key("any").object().end_object().end_object();
        }
        Choice::Tool(name) => {
            w.key("toolChoice").object().key("tool").object().key("name").text(*name).end_object().end_object();
        }
    }
    w.end_object();
}

/// Writes `outputConfig`: the schema as the *text* of JSON.
pub(super) fn write_output(w: &mut Writer, held: &Schema<'_>, family: Family) {
    let schema = if family == Family::Claude { schema::closed(&held.schema) } else { Cow::Borrowed(&*held.schema) };
    w.key("outputConfig").object().key("textFormat").object().key("type").string("json_schema");
    w.key("structure").object().key("jsonSchema").object().key("schema").string(&schema);
    w.key("name").text(held.name);
    if let Some(description) = held.description.filter(|text| !text.is_empty()) {
        w.key("description").text(description);
    }
    w.end_object().end_object().end_object().end_object();
}

/// Writes Claude's own `tool_choice`, the only way to one call at a time.
pub(super) fn write_serial(w: &mut Writer, choice: &Choice<'_>) {
    w.key("tool_choice").object();
    match choice {
        Choice::None | Choice::Auto => w.key("type").string("auto"),
        Choice::Any => w.key("type").string("any"),
        Choice::Tool(name) => w.key("type").string("tool").key("name").text(*name),
    };
    w.key("disable_parallel_tool_use").flag(true).end_object();
}
