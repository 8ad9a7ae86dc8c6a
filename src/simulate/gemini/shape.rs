//! What a `generateContent` request may hold: the published messages of Gemini and of Vertex AI, which are closed.
//! Names are in camel case, the form in which the services answer.

use crate::simulate::shape::Rule::{Need, Null};
use crate::simulate::shape::{Member, Shape};

/// Longest name of a function.
const MAX_NAME: usize = 64;
/// Range of a 32-bit number.
const INT32: (i64, i64) = (-(1 << 31), (1 << 31) - 1);

/// What Vertex AI takes beside the members of both.
const ARMOR: Member = ("modelArmorConfig", Null, &Shape::Object);
const LABELS: Member = ("labels", Null, &Shape::Map(&Shape::Text));

/// Google AI Studio's body.
pub(super) static STUDIO: Shape = Shape::Closed(&[CONTENTS, SYSTEM, TOOLS, TOOL_CONFIG, SAFETY, CONFIG, CACHED]);
/// Vertex AI's body.
pub(super) static VERTEX: Shape = Shape::Closed(&[CONTENTS, SYSTEM, TOOLS, TOOL_CONFIG, SAFETY, CONFIG, CACHED, LABELS, ARMOR]);

const CONTENTS: Member = ("contents", Need, &Shape::Some(&CONTENT));
const SYSTEM: Member = ("systemInstruction", Null, &CONTENT);
const SAFETY: Member =
    ("safetySettings", Null, &Shape::List(&Shape::Closed(&[("category", Need, &Shape::Text), ("threshold", Need, &Shape::Text)])));
const CACHED: Member = ("cachedContent", Null, &Shape::Text);

static CONTENT: Shape =
    Shape::Closed(&[("role", Null, &Shape::Word(&["user", "model", "function", "system"])), ("parts", Need, &Shape::Some(&PART))]);

static PART: Shape = Shape::Union(
    &[
        ("text", Null, &Shape::Text),
        ("inlineData", Null, &Shape::Closed(&[("mimeType", Need, &Shape::Filled), ("data", Need, &Shape::Base64), NAME])),
        ("fileData", Null, &Shape::Closed(&[("mimeType", Null, &Shape::Text), ("fileUri", Need, &Shape::Filled), NAME])),
        (
            "functionCall",
            Null,
            &Shape::Closed(&[("id", Null, &Shape::Text), ("name", Need, &Shape::Filled), ("args", Null, &Shape::Object)]),
        ),
        (
            "functionResponse",
            Null,
            &Shape::Closed(&[
                ("id", Null, &Shape::Text),
                ("name", Need, &Shape::Filled),
                ("response", Need, &Shape::Object),
                ("parts", Null, &Shape::List(&Shape::Object)),
            ]),
        ),
        ("executableCode", Null, &Shape::Object),
        ("codeExecutionResult", Null, &Shape::Object),
    ],
    &[
        ("thought", Null, &Shape::Flag),
        ("thoughtSignature", Null, &Shape::Filled),
        ("videoMetadata", Null, &Shape::Object),
        ("mediaResolution", Null, &Shape::Object),
    ],
);

const NAME: Member = ("displayName", Null, &Shape::Text);

const TOOLS: Member = ("tools", Null, &Shape::List(&TOOL));

static TOOL: Shape = Shape::Closed(&[
    ("functionDeclarations", Null, &Shape::List(&FUNCTION)),
    ("googleSearch", Null, &Shape::Object),
    ("codeExecution", Null, &Shape::Object),
    ("urlContext", Null, &Shape::Object),
]);

static FUNCTION: Shape = Shape::Closed(&[
    ("name", Need, &Shape::Name(MAX_NAME, "_.:-")),
    ("description", Null, &Shape::Text),
    ("parameters", Null, &SCHEMA),
    ("parametersJsonSchema", Null, &Shape::Object),
    ("response", Null, &SCHEMA),
    ("responseJsonSchema", Null, &Shape::Object),
]);

const TOOL_CONFIG: Member = (
    "toolConfig",
    Null,
    &Shape::Closed(&[(
        "functionCallingConfig",
        Null,
        &Shape::Closed(&[
            ("mode", Null, &Shape::Word(&["AUTO", "ANY", "NONE", "VALIDATED"])),
            ("allowedFunctionNames", Null, &Shape::List(&Shape::Filled)),
        ]),
    )]),
);

const CONFIG: Member = (
    "generationConfig",
    Null,
    &Shape::Closed(&[
        ("temperature", Null, &Shape::Number(0.0, 2.0)),
        ("topP", Null, &Shape::Number(0.0, 1.0)),
        ("topK", Null, &Shape::Number(1.0, f64::MAX)),
        ("candidateCount", Null, &Shape::Whole(1, 8)),
        ("maxOutputTokens", Null, &Shape::Whole(1, INT32.1)),
        ("stopSequences", Null, &Shape::List(&Shape::Text)),
        ("seed", Null, &Shape::Whole(INT32.0, INT32.1)),
        ("presencePenalty", Null, &Shape::Number(-2.0, 2.0)),
        ("frequencyPenalty", Null, &Shape::Number(-2.0, 2.0)),
        ("responseLogprobs", Null, &Shape::Flag),
        ("logprobs", Null, &Shape::Whole(0, 20)),
        ("responseMimeType", Null, &Shape::Word(&["text/plain", "application/json", "text/x.enum"])),
        ("responseSchema", Null, &SCHEMA),
        ("responseJsonSchema", Null, &Shape::Object),
        ("responseModalities", Null, &Shape::List(&Shape::Text)),
        ("mediaResolution", Null, &Shape::Text),
        (
            "thinkingConfig",
            Null,
            &Shape::Closed(&[
                ("includeThoughts", Null, &Shape::Flag),
                ("thinkingBudget", Null, &Shape::Whole(-1, 65_536)),
                ("thinkingLevel", Null, &Shape::Word(&["MINIMAL", "LOW", "MEDIUM", "HIGH", "minimal", "low", "medium", "high"])),
            ]),
        ),
    ]),
);

/// The subset of OpenAPI's schema that Gemini has of its own.
static SCHEMA: Shape = Shape::Closed(&[
    ("type", Null, &Shape::Text),
    ("format", Null, &Shape::Text),
    ("title", Null, &Shape::Text),
    ("description", Null, &Shape::Text),
    ("nullable", Null, &Shape::Flag),
    ("enum", Null, &Shape::List(&Shape::Text)),
    ("items", Null, &SCHEMA),
    ("minItems", Null, &Shape::Any),
    ("maxItems", Null, &Shape::Any),
    ("properties", Null, &Shape::Map(&SCHEMA)),
    ("required", Null, &Shape::List(&Shape::Text)),
    ("propertyOrdering", Null, &Shape::List(&Shape::Text)),
    ("minProperties", Null, &Shape::Any),
    ("maxProperties", Null, &Shape::Any),
    ("minimum", Null, &Shape::Any),
    ("maximum", Null, &Shape::Any),
    ("minLength", Null, &Shape::Any),
    ("maxLength", Null, &Shape::Any),
    ("pattern", Null, &Shape::Text),
    ("anyOf", Null, &Shape::List(&SCHEMA)),
    ("default", Null, &Shape::Any),
    ("example", Null, &Shape::Any),
]);
