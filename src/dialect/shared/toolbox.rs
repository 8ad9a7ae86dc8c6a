//! Tools, the choice among them, and what holds the answer to the client's constraint: decided once for Anthropic and
//! Bedrock, which have the same means and other words for them.
//!
//! A schema is the provider's own JSON output where the model has it. Any object, and models without that output, are
//! held by a tool that takes the answer as its arguments. A tool is better than an instruction there: its arguments are
//! always an object, whatever the conversation says, while an instruction may be answered with words around the JSON.
//! Models that cannot be forced to call a tool are instructed, and a code fence around their answer is taken off.

use crate::dialect::Decoder;
use crate::dialect::shared::fence::Unfence;
use crate::dialect::shared::params::{Settled, unsupported};
use crate::dialect::shared::rewrite::Rewrite;
use crate::dialect::shared::schema::rules::Rules;
use crate::dialect::shared::schema::{self, limits};
use crate::dialect::shared::unwrap::Unwrap;
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::constraint::{Constraint, Schema, choice_schema};
use crate::llm::field::Field;
use crate::llm::request::{CacheMark, Request, Tool, ToolChoice, decoded, same_text};
use std::borrow::Cow;
use std::collections::HashSet;

/// The tool whose arguments are the answer; where a tool of the client's is called so, as many underscores more as it
/// takes, within the 64 characters that Bedrock allows.
const ANSWER: &str = "json_answer_____________________________________________________";
/// Length of the name that it has where nothing is in its way.
const ANSWER_LENGTH: usize = 11;
const ANSWER_DESCRIPTION: &str = "Gives the answer to the user. The arguments are the whole answer.";
/// The same without a schema: a model that sees no members may well return none.
const OBJECT_DESCRIPTION: &str = "Gives the answer to the user. The arguments are the whole answer: a JSON object with whatever members the \
     conversation asks for, and never empty unless an empty object is what was asked for.";
/// The instruction to a model that cannot be forced to call a tool.
const OBJECT_INSTRUCTION: &str =
    "When you answer, answer with one JSON object and nothing else: no words before or after it and no code fence.";
/// The same with the schema of the answer behind it.
const SCHEMA_INSTRUCTION: &str = "When you answer, answer with JSON that keeps the following JSON schema and with nothing else: no words \
     before or after it and no code fence.\n";
/// Arguments of any members.
const OPEN_OBJECT: &str = r#"{"type":"object","properties":{},"additionalProperties":true}"#;
/// A schema that any object keeps.
pub(in crate::dialect) const ANY_OBJECT: &str = r#"{"type":"object","properties":{}}"#;

/// A tool as it is sent to the model.
pub(in crate::dialect) struct Spec<'a> {
    pub(in crate::dialect) name: Text<'a>,
    /// Not empty.
    description: Option<Text<'a>>,
    /// What stands behind the description.
    note: String,
    /// Of type object.
    pub(in crate::dialect) schema: Cow<'a, str>,
    pub(in crate::dialect) strict: bool,
    /// Whether the prompt is cached up to and including it.
    pub(in crate::dialect) cache: Option<CacheMark>,
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
    /// An instruction to answer with a JSON object, or with JSON that keeps this schema.
    ByWords(Option<String>),
}

/// What a model has to hold an answer with, and which schemas it takes.
#[derive(Clone, Copy, Debug)]
pub(in crate::dialect) struct Means {
    /// JSON output by a schema.
    pub(in crate::dialect) native: bool,
    /// Tools that are held to their schema strictly; only where `native` is.
    pub(in crate::dialect) strict_tools: bool,
    /// A call can be demanded.
    pub(in crate::dialect) forced_tool: bool,
    /// It can be demanded of one tool among others. Otherwise that tool is the only one that is offered.
    pub(in crate::dialect) named_tool: bool,
    /// A schema that cannot be enforced otherwise may be an instruction.
    pub(in crate::dialect) worded: bool,
    /// Schemas of JSON output and of strict tools.
    pub(in crate::dialect) output_rules: &'static Rules,
    /// Schemas of strict tools that cannot be held to strictly.
    pub(in crate::dialect) relaxed_rules: &'static Rules,
    /// Schemas of all other tools.
    pub(in crate::dialect) tool_rules: &'static Rules,
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

/// Why a tool is left out whose name another one has.
pub(in crate::dialect) const ONE_OF_A_NAME: &str = "it takes no two tools of one name";

/// The tools with their places, each name once: Anthropic, Bedrock, Gemini and DeepSeek refuse a second one ("Tool names must be
/// unique"), of which the client could not tell a call either.
///
/// # Errors
/// A 400 that names `tools`, where the route refuses changed fields.
pub(in crate::dialect) fn distinct<'r, 'a>(
    request: &'r Request<'a>,
    settled: &mut Settled,
) -> Result<Vec<(usize, &'r Tool<'a>)>, ApiError> {
    let mut names = HashSet::with_capacity(request.tools.len());
    let tools: Vec<_> = request.tools.iter().enumerate().filter(|(_, tool)| names.insert(tool.name.decode())).collect();
    if tools.len() < request.tools.len() {
        settled.adjust(request.name_of(Field::Tools), ONE_OF_A_NAME)?;
    }
    Ok(tools)
}

/// The instruction to answer with a JSON object, or with JSON that keeps a schema.
pub(in crate::dialect) fn instruction(schema: Option<&str>) -> Cow<'static, str> {
    schema.map_or(Cow::Borrowed(OBJECT_INSTRUCTION), |schema| Cow::Owned([SCHEMA_INSTRUCTION, schema].concat()))
}

impl<'a> Toolbox<'a> {
    /// Reads tools, choice and constraint.
    ///
    /// # Errors
    /// A 400 that names the field or the tool that the model cannot keep.
    pub(in crate::dialect) fn read(request: &Request<'a>, means: &Means, settled: &mut Settled) -> Result<Self, ApiError> {
        let mut allowed = None;
        let call = match &request.tool_choice {
            None => Call::Unsaid,
            Some(ToolChoice::Auto) => Call::Auto,
            Some(ToolChoice::None) => Call::None,
            Some(ToolChoice::Required) => Call::Any,
            Some(ToolChoice::Named(name)) => Call::Tool(*name),
            Some(ToolChoice::Allowed { required, names }) => {
                allowed = Some(decoded(names.iter().copied()));
                if *required { Call::Any } else { Call::Auto }
            }
        };
        if matches!(call, Call::Any | Call::Tool(_)) && !means.forced_tool {
            let field = request.name_of(Field::ToolChoice);
            return Err(ApiError::field(
                field.clone(),
                format!("`{field}`: this model cannot be forced to call a tool; `auto` and `none` are possible"),
            ));
        }
        let mut tools = Vec::with_capacity(request.tools.len() + 1);
        let mut wanted = Vec::new();
        for (i, tool) in distinct(request, settled)? {
            if allowed.as_ref().is_some_and(|names| !names.contains(&tool.name.decode())) {
                continue;
            }
            if tool.strict == Some(true) && means.strict_tools && means.native {
                wanted.push((tools.len(), i));
            }
            tools.push(Spec::of(request, tool, means, settled)?);
        }
        let mut this = Self { calls: !tools.is_empty(), tools, call, serial: request.serial_calls, held: Held::Free, choice_inside: false };
        this.constrain(request, means, settled)?;
        this.make_strict(request, &wanted, means, settled)?;
        if let Call::Tool(name) = this.call
            && !means.named_tool
        {
            this.tools.retain(|tool| same_text(tool.name, name));
            this.call = Call::Any;
        }
        Ok(this)
    }

    /// Chooses what holds the answer to the client's constraint.
    fn constrain(&mut self, request: &Request<'a>, means: &Means, settled: &mut Settled) -> Result<(), ApiError> {
        let Some(output) = &request.output else { return Ok(()) };
        let field = request.name_of(output.field);
        let (schema, choice_inside) = match &output.constraint {
            Constraint::JsonObject => (None, false),
            Constraint::JsonSchema(schema) => (Some(schema.clone()), false),
            Constraint::Choice(choices) => (Some(choice_schema(choices)), true),
            Constraint::Regex(_) | Constraint::Grammar(_) | Constraint::StructuralTag(_) => return Err(unsupported(field)),
        };
        if let Some(schema) = schema.as_ref().filter(|_| means.native) {
            let adapted = schema::adapt(&schema.schema, means.output_rules);
            let fits = !adapted.recursive && (!means.strict_tools || limits::Use::of(&adapted.schema).is_within(limits::CLAUDE));
            if adapted.reworded || adapted.open {
                settled.adjust(field.clone(), "it takes a part of this schema as words only")?;
            }
            if fits || !(means.forced_tool || means.worded) {
                self.held = Held::Native(Schema { schema: Cow::Owned(adapted.schema.into_owned()), ..schema.clone() });
                self.choice_inside = choice_inside;
                return Ok(());
            }
            settled.adjust(
                field.clone(),
                "its strict output takes no schema that refers to itself or has so many optional members and unions",
            )?;
        }
        // A call is due, not an answer: nothing is left to be held.
        if self.forces() {
            return Ok(());
        }
        self.choice_inside = choice_inside;
        match schema {
            None if !means.forced_tool => self.held = Held::ByWords(None),
            None => {
                let schema = if means.strict_tools { OPEN_OBJECT } else { ANY_OBJECT };
                self.hold_by_tool(Cow::Borrowed(schema), OBJECT_DESCRIPTION, String::new());
            }
            Some(schema) if !means.forced_tool && means.worded => {
                settled.adjust(field, "this model cannot be forced to call a tool, so it takes this schema as words only")?;
                self.held = Held::ByWords(Some(schema.schema.into_owned()));
            }
            Some(_) if !means.forced_tool => {
                let why = format!("`{field}`: this model can neither be held to a schema nor be forced to call a tool");
                return Err(ApiError::field(field, why));
            }
            Some(schema) => match schema::adapt_tool(&schema.schema, means.tool_rules) {
                Some(adapted) => {
                    if adapted.reworded {
                        settled.adjust(field, "it takes a part of this schema as words only")?;
                    }
                    self.hold_by_tool(Cow::Owned(adapted.schema.into_owned()), ANSWER_DESCRIPTION, adapted.note);
                }
                None => {
                    let why = format!("`{field}`: this model can only be held to a schema of type object");
                    return Err(ApiError::field(field, why));
                }
            },
        }
        Ok(())
    }

    /// Makes the tools strict that ask for it, as far as the model's limits allow. One that asks for more, or whose schema
    /// no strict tool can have, is declared without `strict`: its calls are then as good as those of any other tool.
    fn make_strict(
        &mut self,
        request: &Request<'a>,
        wanted: &[(usize, usize)],
        means: &Means,
        settled: &mut Settled,
    ) -> Result<(), ApiError> {
        let mut used = self.native().map_or_else(limits::Use::default, |schema| limits::Use::of(&schema.schema));
        for (at, i) in wanted {
            let (Some(spec), Some(tool)) = (self.tools.get_mut(*at), request.tools.get(*i)) else { continue };
            let parameters = tool.parameters.unwrap_or(ANY_OBJECT);
            let Some(strict) = schema::adapt_tool(parameters, means.output_rules) else { continue };
            let needs = used.and(limits::Use { tools: 1, ..limits::Use::of(&strict.schema) });
            if strict.open || strict.recursive || !needs.is_within(limits::CLAUDE) {
                settled.adjust(
                    request.name_of(Field::Tools),
                    "it holds no tool of this kind, or not so many of them, to its schema strictly",
                )?;
                if let Some(relaxed) = schema::adapt_tool(parameters, means.relaxed_rules) {
                    spec.schema = relaxed.schema;
                }
                continue;
            }
            if strict.reworded {
                settled.adjust(request.name_of(Field::Tools), "its strict tools take a part of this schema as words only")?;
            }
            (spec.schema, spec.strict, used) = (strict.schema, true, needs);
        }
        Ok(())
    }

    fn hold_by_tool(&mut self, schema: Cow<'a, str>, description: &'static str, note: String) {
        let taken = |name: &str| self.tools.iter().any(|tool| same_text(tool.name, Text::Plain(name)));
        let free = (ANSWER_LENGTH..=ANSWER.len()).filter_map(|length| ANSWER.get(..length)).find(|name| !taken(name));
        let name = free.unwrap_or(ANSWER);
        // With tools of the client's beside it the model may answer or call one of them, but must do either.
        let beside = self.calls && self.call != Call::None;
        self.call = if beside { Call::Any } else { Call::Tool(Text::Plain(name)) };
        self.tools.push(Spec::new(Text::Plain(name), description, schema, note));
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

    /// The instruction to the model, where nothing else enforces the form of its answer.
    pub(in crate::dialect) fn instruction(&self) -> Option<Cow<'static, str>> {
        if let Held::ByWords(schema) = &self.held { Some(instruction(schema.as_deref())) } else { None }
    }

    /// Around the decoder, where the content has to be taken out of something.
    pub(in crate::dialect) fn around(&self, decoder: impl Decoder + 'static) -> Box<dyn Decoder> {
        let mut decoder: Box<dyn Decoder> = Box::new(decoder);
        if let Held::ByWords(_) = self.held {
            decoder = Unfence::default().around(decoder);
        }
        if self.choice_inside { Unwrap::default().around(decoder) } else { decoder }
    }
}

impl<'a> Spec<'a> {
    /// A tool of the gateway's own. `note` stands behind the description.
    pub(in crate::dialect) const fn new(name: Text<'a>, description: &'static str, schema: Cow<'a, str>, note: String) -> Self {
        Self { name, description: Some(Text::Plain(description)), note, schema, strict: false, cache: None }
    }

    fn of(request: &Request<'_>, tool: &Tool<'a>, means: &Means, settled: &mut Settled) -> Result<Self, ApiError> {
        let parameters = tool.parameters.unwrap_or(ANY_OBJECT);
        let adapted = schema::adapt_tool(parameters, means.tool_rules).ok_or_else(|| tool.at.must_be("a schema of type object"))?;
        if adapted.reworded {
            settled.adjust(request.name_of(Field::Tools), "it takes a part of a tool's parameters as words only")?;
        }
        let description = tool.description.filter(|text| !text.is_empty());
        Ok(Self { name: tool.name, description, note: adapted.note, schema: adapted.schema, strict: false, cache: tool.cache })
    }

    /// Writes the member `description`, where there is anything to say.
    pub(in crate::dialect) fn write_description(&self, w: &mut Writer) {
        let note = Text::Plain(&self.note);
        match self.description {
            None if self.note.is_empty() => {}
            None => {
                w.key("description").text(note);
            }
            Some(text) if self.note.is_empty() => {
                w.key("description").text(text);
            }
            Some(text) => {
                w.key("description").texts(&[text, Text::Plain("\n\n"), note]);
            }
        }
    }
}
