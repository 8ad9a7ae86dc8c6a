//! Tools, the choice among them, and what holds the answer to the client's constraint: decided once for Anthropic and
//! Bedrock, which have the same means and other words for them.
//!
//! A schema is the provider's own JSON output where the model has it. Any object, and models without that output, are
//! held by a tool that takes the answer as its arguments.

use super::schema;
use crate::chat::cache::Cache;
use crate::chat::constraint::{Constraint, Schema, choice_schema};
use crate::chat::event::Text;
use crate::chat::field::Field;
use crate::chat::request::ChatRequest;
use crate::chat::tool::{self, Tool, ToolChoice, same_name};
use crate::dialect::Decoder;
use crate::dialect::params::{Settled, asked, unsupported};
use crate::dialect::unwrap::UnwrapChoice;
use crate::error::ApiError;
use crate::provider::StructuredOutput;
use std::borrow::Cow;

/// The tool whose arguments are the answer; where a tool of the client's is called so, as many underscores more as it
/// takes, within the 64 characters that Bedrock allows.
const ANSWER: &str = "json_answer_____________________________________________________";
/// Length of the name that it has where nothing is in its way.
const ANSWER_LENGTH: usize = 11;
const ANSWER_DESCRIPTION: &str = "Gives the answer to the user. The arguments are the whole answer.";
/// A schema that any object keeps.
pub(in crate::dialect) const ANY_OBJECT: &str = r#"{"type":"object","properties":{}}"#;

/// A tool as the model is told of it.
pub(in crate::dialect) struct Spec<'a> {
    pub(in crate::dialect) name: Text<'a>,
    /// Not empty.
    pub(in crate::dialect) description: Option<Text<'a>>,
    /// Of type object.
    pub(in crate::dialect) schema: Cow<'a, str>,
    pub(in crate::dialect) strict: bool,
    /// Whether the prompt shall be kept up to and with it.
    pub(in crate::dialect) cache: Option<Cache>,
}

/// Which tools the model may or must call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Call<'a> {
    /// As it likes; the client says nothing about it.
    Unsaid,
    /// As it likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Any,
    /// This one.
    Tool(Text<'a>),
}

/// What holds the answer to the client's constraint.
pub(in crate::dialect) enum Held<'a> {
    /// Nothing.
    Free,
    /// The provider's own JSON-schema output.
    Native(Schema<'a>),
    /// The last tool, of this name, whose arguments are the answer.
    ByTool(&'static str),
}

/// Tools and constraint of one request.
pub(in crate::dialect) struct Toolbox<'a> {
    /// The client's tools, less those that it does not allow, and the answer's own.
    pub(in crate::dialect) tools: Vec<Spec<'a>>,
    pub(in crate::dialect) call: Call<'a>,
    /// Whether only one call may be made at a time.
    pub(in crate::dialect) serial: bool,
    pub(in crate::dialect) held: Held<'a>,
    /// Whether there are tools whose calls the client will see.
    pub(in crate::dialect) calls: bool,
    /// Whether the answer is an object that holds the choice of a `guided_choice`.
    choice_inside: bool,
}

impl<'a> Toolbox<'a> {
    /// Reads tools, choice and constraint. Only a `claude` knows strict tools, and only with its own JSON output; it wants
    /// the schemas of both closed, and some of their keywords as words.
    ///
    /// # Errors
    /// A 400 that names the field or the tool that the model cannot keep.
    pub(in crate::dialect) fn read(
        request: &ChatRequest<'a>,
        output: StructuredOutput,
        claude: bool,
        settled: &mut Settled,
    ) -> Result<Self, ApiError> {
        let declared = tool::tools(request)?;
        let mut allowed = None;
        let call = match tool::tool_choice(request, &declared)? {
            None => Call::Unsaid,
            Some(ToolChoice::Auto) => Call::Auto,
            Some(ToolChoice::None) => Call::None,
            Some(ToolChoice::Required) => Call::Any,
            Some(ToolChoice::Named(name)) => Call::Tool(name),
            Some(ToolChoice::Allowed { required, names }) => {
                allowed = Some(names);
                if required { Call::Any } else { Call::Auto }
            }
        };
        let native = output == StructuredOutput::Native;
        let mut tools = Vec::with_capacity(declared.len() + 1);
        for (i, tool) in declared.iter().enumerate() {
            if allowed.as_ref().is_some_and(|names| !names.iter().any(|name| same_name(*name, tool.name))) {
                continue;
            }
            let mut spec = Spec::of(i, tool)?;
            spec.strict &= claude && native;
            if spec.strict {
                spec.schema = Cow::Owned(strict(request, Field::Tools, &spec.schema, settled)?);
            }
            tools.push(spec);
        }
        let mut this = Self {
            calls: !tools.is_empty(),
            tools,
            call,
            serial: asked(request, Field::ParallelToolCalls).is_some(),
            held: Held::Free,
            choice_inside: false,
        };
        let Some(constraint) = Constraint::of(request)? else { return Ok(this) };
        let field = constraint.field();
        let (schema, choice_inside) = match constraint {
            Constraint::JsonObject => (None, false),
            Constraint::JsonSchema(schema) => (Some(schema), false),
            Constraint::Choice(choices) => (Some(choice_schema(&choices)), true),
            Constraint::Regex(_) | Constraint::Grammar(_) | Constraint::StructuralTag(_) => return Err(unsupported(field.name())),
        };
        match schema {
            Some(mut schema) if native => {
                if claude {
                    schema.schema = Cow::Owned(strict(request, field, &schema.schema, settled)?);
                }
                this.held = Held::Native(schema);
            }
            // A call is due, not an answer: nothing is left to be held.
            _ if this.forces() => return Ok(this),
            None => this.hold_by_tool(Cow::Borrowed(ANY_OBJECT)),
            Some(schema) => match schema::object(&schema.schema).map(Cow::into_owned) {
                Some(schema) => this.hold_by_tool(Cow::Owned(schema)),
                None => {
                    let why = format!("`{}`: this model can only be held to a schema of type object", field.name());
                    return Err(ApiError::field(field.name(), why));
                }
            },
        }
        this.choice_inside = choice_inside;
        Ok(this)
    }

    fn hold_by_tool(&mut self, schema: Cow<'a, str>) {
        let taken = |name: &str| self.tools.iter().any(|tool| same_name(tool.name, Text::Plain(name)));
        let free = (ANSWER_LENGTH..=ANSWER.len()).filter_map(|length| ANSWER.get(..length)).find(|name| !taken(name));
        let name = free.unwrap_or(ANSWER);
        // With tools of the client's beside it the model may answer or call one of them, but must do either.
        let beside = self.calls && self.call != Call::None;
        self.call = if beside { Call::Any } else { Call::Tool(Text::Plain(name)) };
        self.tools.push(Spec {
            name: Text::Plain(name),
            description: Some(Text::Plain(ANSWER_DESCRIPTION)),
            schema,
            strict: false,
            cache: None,
        });
        self.held = Held::ByTool(name);
    }

    /// Whether a call is demanded, which a model that thinks cannot be.
    pub(in crate::dialect) fn forces(&self) -> bool {
        matches!(self.call, Call::Any | Call::Tool(_))
    }

    /// The schema of the provider's own JSON output.
    pub(in crate::dialect) fn native(&self) -> Option<&Schema<'a>> {
        if let Held::Native(schema) = &self.held { Some(schema) } else { None }
    }

    /// The tool whose arguments are the content.
    pub(in crate::dialect) fn content_tool(&self) -> Option<&'static str> {
        if let Held::ByTool(name) = self.held { Some(name) } else { None }
    }

    /// Around the decoder, where a choice has to be taken out of an object.
    pub(in crate::dialect) fn around(&self, decoder: impl Decoder + 'static) -> Box<dyn Decoder> {
        let decoder: Box<dyn Decoder> = Box::new(decoder);
        if self.choice_inside { Box::new(UnwrapChoice::new(decoder)) } else { decoder }
    }
}

impl<'a> Spec<'a> {
    fn of(i: usize, tool: &Tool<'a>) -> Result<Self, ApiError> {
        let parameters = tool.parameters.map_or(ANY_OBJECT, |raw| raw.get());
        let schema = schema::object(parameters).ok_or_else(|| {
            let param = format!("tools[{i}].function.parameters");
            ApiError::field(param.clone(), format!("`{param}` must be a schema of type object"))
        })?;
        let description = tool.description.filter(|text| !text.is_empty());
        Ok(Self { name: tool.name, description, schema, strict: tool.strict == Some(true), cache: tool.cache })
    }
}

/// A schema as Claude's strict output takes it; the field is named where a part of it is only words then.
fn strict(request: &ChatRequest<'_>, field: Field, schema: &str, settled: &mut Settled) -> Result<String, ApiError> {
    let strict = schema::strict(schema);
    if strict.reworded {
        settled.adjust(request, field, "it takes limits of numbers, lengths and counts in a schema as words only")?;
    }
    Ok(strict.schema.into_owned())
}
