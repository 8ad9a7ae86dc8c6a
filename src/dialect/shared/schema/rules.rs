//! What each target's reader of JSON schemas takes: data, with the source of each list.
//!
//! A list is of what may be sent, because a keyword that a target does not know is a 400 there or is not kept.

/// What one target takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Its name in `tidegate check --explain`.
    pub name: &'static str,
    /// Where the list is documented.
    pub source: &'static str,
    /// Keywords that may be sent, in lists that targets share; `None`: all of them.
    pub keywords: Option<&'static [&'static [&'static str]]>,
    /// Values of `format`; `None`: all of them.
    pub formats: Option<&'static [&'static str]>,
    /// Highest `minItems`; `None`: any.
    pub min_items: Option<u64>,
    /// Values of `enum` and `const`.
    pub values: Values,
    /// What an object says about members that it does not name.
    pub objects: Objects,
    /// `$ref` may have no keyword beside it that does not begin with `$`.
    pub lone_ref: bool,
    /// Schemas may refer to themselves.
    pub recursion: bool,
    /// Patterns may look around and refer back.
    pub lookaround: bool,
    /// The parameters of a tool must say `type: object`; otherwise what says no type is left to the target.
    pub typed_tools: bool,
    /// The top of a tool's parameters may be a union (`anyOf`, `oneOf`, `allOf`) or a reference.
    pub union_at_top: bool,
    /// What the top of a tool's parameters has.
    pub top: Top,
    /// `prefixItems` may be sent, where the keywords have it. Where it may not, `items` allows what any place may have.
    pub tuples: bool,
    /// `required` may name members that are no properties of the same schema.
    pub undeclared_required: bool,
}

/// The top of a tool's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// As the client says.
    Any,
    /// `type` and `properties`, whatever else.
    Properties,
    /// `type`, `properties`, `required` and nothing else. There are no references, and what the schema says of the tool goes
    /// into the tool's description.
    Bare,
}

/// Which values may be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Any.
    Any,
    /// No objects and no arrays.
    Plain,
    /// Strings and numbers.
    TextsAndNumbers,
}

/// Objects with members that the schema does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// As the client says.
    Open,
    /// Every object must say `additionalProperties: false`.
    Closed,
    /// No object may say anything.
    Unsaid,
}

/// Takes every schema.
const ANY: Rules = Rules {
    name: "any",
    source: "",
    keywords: None,
    formats: None,
    min_items: None,
    values: Values::Any,
    objects: Objects::Open,
    lone_ref: false,
    recursion: true,
    lookaround: true,
    typed_tools: true,
    union_at_top: true,
    top: Top::Any,
    tuples: true,
    undeclared_required: true,
};

/// Claude's JSON output and strict tools.
pub static CLAUDE: Rules = Rules {
    name: "claude",
    source: "https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations",
    keywords: Some(&[CLAUDE_KEYWORDS]),
    formats: Some(&["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"]),
    min_items: Some(1),
    values: Values::Plain,
    objects: Objects::Closed,
    recursion: false,
    lookaround: false,
    union_at_top: false,
    ..ANY
};

const CLAUDE_KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "format",
    "pattern",
    "default",
    "title",
    "description",
];

/// A tool of Claude's that asked for `strict` and cannot have it: the same words, and objects as the client wants them.
pub static CLAUDE_RELAXED: Rules = Rules { objects: Objects::Open, recursion: true, ..CLAUDE };

/// Claude's other tools: any JSON Schema, but "input_schema does not support oneOf, allOf, or anyOf at the top level".
pub static CLAUDE_TOOL: Rules = Rules {
    name: "claude tool",
    source: "https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use",
    union_at_top: false,
    ..ANY
};

/// JSON output of Bedrock's models; the service lists the same keywords for all of them.
pub static BEDROCK: Rules =
    Rules { name: "bedrock", source: "https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html", ..CLAUDE };

/// Tools of Bedrock's models. Models other than Claude have been seen to refuse `additionalProperties`
/// (<https://github.com/Tracer-Cloud/opensre/pull/2404>), and a tool needs no closed objects.
pub static BEDROCK_TOOL: Rules = BEDROCK_TOOLS;

const BEDROCK_TOOLS: Rules = Rules {
    name: "bedrock tool",
    source: "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolInputSchema.html",
    objects: Objects::Unsaid,
    union_at_top: false,
    ..ANY
};

/// Tools of Nova: "the top level Object schema" has `type`, `properties` and `required` only.
pub static NOVA_TOOL: Rules = Rules {
    name: "nova tool",
    source: "https://docs.aws.amazon.com/nova/latest/userguide/tool-use-definition.html",
    top: Top::Bare,
    ..BEDROCK_TOOLS
};

/// Gemini's `responseJsonSchema`: "only the following properties are supported". It reads `oneOf` as `anyOf`, and refuses what is
/// required and no property (`parameters.required[0]: property is not defined`).
pub static GEMINI: Rules = Rules {
    name: "gemini",
    source: "https://ai.google.dev/api/generate-content#FIELDS.response_json_schema",
    keywords: Some(&[GEMINI_KEYWORDS]),
    values: Values::TextsAndNumbers,
    lone_ref: true,
    undeclared_required: false,
    ..ANY
};

const GEMINI_KEYWORDS: &[&str] = &[
    "$id",
    "$defs",
    "$ref",
    "$anchor",
    "type",
    "format",
    "title",
    "description",
    "enum",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "anyOf",
    "properties",
    "additionalProperties",
    "required",
    "propertyOrdering",
];

/// Gemini's `parametersJsonSchema`: the same, and what the older `parameters` knows besides.
pub static GEMINI_TOOL: Rules = Rules {
    name: "gemini tool",
    source: "https://ai.google.dev/api/caching#Schema",
    keywords: Some(&[
        GEMINI_KEYWORDS,
        &["nullable", "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "default", "example"],
    ]),
    union_at_top: false,
    ..GEMINI
};

/// OpenAI's strict mode. "For fine-tuned models, we additionally do not support" the limits of lengths, numbers and counts,
/// which are therefore supported elsewhere.
pub static OPENAI: Rules = Rules {
    name: "openai",
    source: "https://platform.openai.com/docs/guides/structured-outputs#supported-schemas",
    keywords: Some(&[OPENAI_KEYWORDS]),
    lone_ref: true,
    union_at_top: false,
    typed_tools: false,
    top: Top::Properties,
    ..ANY
};

const OPENAI_KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "enum",
    "const",
    "anyOf",
    "$ref",
    "$defs",
    "definitions",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "title",
    "description",
];

/// OpenAI's other tools: "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level", "object
/// schema missing properties", and of a tuple without `items` "array schema missing items".
pub static OPENAI_TOOL: Rules = Rules {
    name: "openai tool",
    source: "https://platform.openai.com/docs/guides/function-calling",
    union_at_top: false,
    typed_tools: false,
    top: Top::Properties,
    tuples: false,
    ..ANY
};

/// Mistral's JSON output, which has OpenAI's form and no list of its own: what OpenAI takes, and `allOf`.
pub static MISTRAL: Rules = Rules {
    name: "mistral",
    source: "https://docs.mistral.ai/capabilities/structured_output/custom",
    keywords: Some(&[OPENAI_KEYWORDS, &["allOf", "default"]]),
    typed_tools: false,
    ..ANY
};

/// Mistral's tools; its parameters have OpenAI's form.
pub static MISTRAL_TOOL: Rules =
    Rules { name: "mistral tool", source: "https://docs.mistral.ai/capabilities/function_calling", ..OPENAI_TOOL };

/// Keywords of JSON Schema that say which values are right. What is in no target's list and not here is an annotation,
/// which nothing is lost with.
pub(super) const CONSTRAINTS: &[&str] = &[
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "additionalProperties",
    "unevaluatedProperties",
    "minProperties",
    "maxProperties",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "minContains",
    "maxContains",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "nullable",
    "divisibleBy",
    "disallow",
    "extends",
];

/// Annotations that help the model: they become words too, which changes nothing that was asked for.
pub(super) const NOTES: &[&str] = &["default", "examples", "example"];
