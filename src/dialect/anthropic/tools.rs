//! Tools, the choice among them, and the tool that stands in for an output constraint.

use super::schema;
use crate::chat::constraint::{Constraint, choice_schema};
use crate::chat::event::Text;
use crate::chat::field::Field;
use crate::chat::request::ChatRequest;
use crate::chat::tool::{self, Tool, ToolChoice, same_name};
use crate::dialect::params::unsupported;
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::provider::StructuredOutput;
use std::borrow::Cow;

/// The tool whose arguments are the answer, where a constraint is kept by forcing a call.
const ANSWER: &str = "json_answer";
const ANSWER_DESCRIPTION: &str = "Gives the answer to the user. The arguments are the whole answer.";

/// What holds the answer to the client's constraint.
pub(super) enum Held<'a> {
    /// Nothing.
    Free,
    /// The provider's own JSON-schema output.
    Native(Cow<'a, str>),
    /// A forced tool of this name that takes this schema.
    Forced(String, Cow<'a, str>),
}

/// Tools and constraint of one request.
pub(super) struct Toolbox<'a> {
    tools: Vec<Tool<'a>>,
    choice: Option<ToolChoice<'a>>,
    serial: bool,
    pub held: Held<'a>,
    /// Whether the answer is an object that holds the choice of a `guided_choice`.
    pub choice_inside: bool,
}

impl<'a> Toolbox<'a> {
    /// Reads tools, choice and constraint.
    ///
    /// # Errors
    /// A 400 that names the field that Anthropic cannot keep.
    pub(super) fn read(request: &ChatRequest<'a>, output: StructuredOutput) -> Result<Self, ApiError> {
        let mut tools = tool::tools(request)?;
        let mut choice = tool::tool_choice(request, &tools)?;
        if let Some(ToolChoice::Allowed { required, names }) = choice {
            tools.retain(|tool| names.iter().any(|name| same_name(*name, tool.name)));
            choice = Some(if required { ToolChoice::Required } else { ToolChoice::Auto });
        }
        let mut this =
            Self { serial: request.raw(Field::ParallelToolCalls) == Some("false"), held: Held::Free, choice_inside: false, tools, choice };
        let Some(constraint) = Constraint::of(request)? else { return Ok(this) };
        let field = constraint.field();
        let (schema, any) = match constraint {
            Constraint::JsonObject => (Cow::Borrowed(r#"{"type":"object"}"#), true),
            Constraint::JsonSchema(schema) => (schema.schema, false),
            Constraint::Choice(choices) => {
                this.choice_inside = true;
                (choice_schema(&choices).schema, false)
            }
            Constraint::Regex(_) | Constraint::Grammar(_) | Constraint::StructuralTag(_) => return Err(unsupported(field.name())),
        };
        this.held = if output == StructuredOutput::Native && !any {
            Held::Native(Cow::Owned(schema::closed(&schema).into_owned()))
        } else if matches!(this.choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
            Held::Free // a call is due, not an answer: nothing is left to be held
        } else {
            let message = || ApiError::field(field.name(), format!("`{}`: the schema must be of type object for this model", field.name()));
            let schema = schema::object(&schema).ok_or_else(message)?.into_owned();
            Held::Forced(this.free_name(), Cow::Owned(schema))
        };
        Ok(this)
    }

    /// A name that none of the client's tools has.
    fn free_name(&self) -> String {
        let mut name = ANSWER.to_owned();
        while self.tools.iter().any(|tool| same_name(tool.name, Text::Plain(&name))) {
            name.push('_');
        }
        name
    }

    /// Whether there are tools whose calls the client will see.
    pub(super) fn has_tools(&self) -> bool {
        !self.tools.is_empty()
    }

    /// Whether a call is demanded, which a model that thinks cannot be.
    pub(super) fn forces(&self) -> bool {
        matches!(self.held, Held::Forced(..)) || matches!(self.choice, Some(ToolChoice::Required | ToolChoice::Named(_)))
    }

    /// Writes the members `tools` and `tool_choice`.
    ///
    /// # Errors
    /// A 400 that names a tool whose parameters are no object.
    pub(super) fn write(&self, w: &mut Writer) -> Result<(), ApiError> {
        let forced = if let Held::Forced(name, schema) = &self.held { Some((name, schema)) } else { None };
        if self.tools.is_empty() && forced.is_none() {
            return Ok(());
        }
        w.key("tools").array();
        for (i, tool) in self.tools.iter().enumerate() {
            let strict = tool.strict == Some(true);
            let parameters = tool.parameters.map_or(r#"{"type":"object","properties":{}}"#, |raw| raw.get());
            let schema = schema::object(parameters).ok_or_else(|| {
                let param = format!("tools[{i}].function.parameters");
                ApiError::field(param.clone(), format!("`{param}` must be a schema of type object"))
            })?;
            w.object().key("name").text(tool.name);
            if let Some(description) = tool.description.filter(|text| !text.is_empty()) {
                w.key("description").text(description);
            }
            w.key("input_schema").raw(&if strict { schema::closed(&schema) } else { schema });
            if strict {
                w.key("strict").flag(true);
            }
            w.end_object();
        }
        if let Some((name, schema)) = forced {
            w.object().key("name").string(name).key("description").string(ANSWER_DESCRIPTION);
            w.key("input_schema").raw(schema).end_object();
        }
        w.end_array();
        self.write_choice(w, forced.map(|(name, _)| name.as_str()));
        Ok(())
    }

    fn write_choice(&self, w: &mut Writer, forced: Option<&str>) {
        // With tools of the client's beside it the model must call one or the other.
        let beside = !self.tools.is_empty() && self.choice != Some(ToolChoice::None);
        let (kind, name) = match (&self.choice, forced) {
            (_, Some(_)) if beside => ("any", None),
            (_, Some(name)) => ("tool", Some(Text::Plain(name))),
            (None, None) if !self.serial => return,
            (Some(ToolChoice::None), None) => ("none", None),
            (Some(ToolChoice::Required), None) => ("any", None),
            (Some(ToolChoice::Named(name)), None) => ("tool", Some(*name)),
            _ => ("auto", None),
        };
        w.key("tool_choice").object().key("type").string(kind);
        if let Some(name) = name {
            w.key("name").text(name);
        }
        if kind != "none" && (self.serial || kind == "tool" && forced.is_some()) {
            w.key("disable_parallel_tool_use").flag(true);
        }
        w.end_object();
    }
}
