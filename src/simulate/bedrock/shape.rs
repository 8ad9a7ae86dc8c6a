//! What a Converse request may hold, as Bedrock's service model has it; it is closed.

use crate::simulate::shape::Rule::{May, Need};
use crate::simulate::shape::{Member, Shape};

/// Longest name of a tool and longest id of a call.
const MAX_NAME: usize = 64;
/// Longest name of a document.
const MAX_DOCUMENT_NAME: usize = 200;
/// Characters of an id beside letters and digits.
const ID: &str = "_.:-";

/// The body; the model is in the path.
pub(super) static BODY: Shape = Shape::Closed(&[
    ("messages", Need, &Shape::Some(&MESSAGE)),
    ("system", May, &Shape::List(&Shape::One(&[("text", May, &Shape::Filled), CACHE, ("guardContent", May, &Shape::Object)]))),
    (
        "inferenceConfig",
        May,
        &Shape::Closed(&[
            ("maxTokens", May, &Shape::Whole(1, i64::MAX)),
            ("temperature", May, &Shape::Number(0.0, 1.0)),
            ("topP", May, &Shape::Number(0.0, 1.0)),
            ("stopSequences", May, &Shape::List(&Shape::Filled)),
        ]),
    ),
    ("toolConfig", May, &Shape::Closed(&[("tools", Need, &Shape::Some(&TOOL)), ("toolChoice", May, &CHOICE)])),
    ("outputConfig", May, &OUTPUT),
    ("additionalModelRequestFields", May, &Shape::Object),
    ("additionalModelResponseFieldPaths", May, &Shape::List(&Shape::Text)),
    ("guardrailConfig", May, &Shape::Object),
    ("performanceConfig", May, &Shape::Closed(&[("latency", May, &Shape::Word(&["standard", "optimized"]))])),
    ("promptVariables", May, &Shape::Object),
    ("requestMetadata", May, &Shape::Map(&Shape::Text)),
    ("serviceTier", May, &Shape::Closed(&[("type", Need, &Shape::Word(&["priority", "default", "flex", "reserved"]))])),
]);

static MESSAGE: Shape = Shape::Closed(&[("role", Need, &Shape::Word(&["user", "assistant"])), ("content", Need, &Shape::Some(&BLOCK))]);

const CACHE: Member =
    ("cachePoint", May, &Shape::Closed(&[("type", Need, &Shape::Word(&["default"])), ("ttl", May, &Shape::Word(&["5m", "1h"]))]));
const TEXT: Member = ("text", May, &Shape::Filled);
const IMAGE: Member =
    ("image", May, &Shape::Closed(&[("format", Need, &Shape::Word(&["png", "jpeg", "gif", "webp"])), ("source", Need, &SOURCE)]));
const DOCUMENT: Member = (
    "document",
    May,
    &Shape::Closed(&[
        ("format", May, &Shape::Word(&["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"])),
        ("name", Need, &Shape::Name(MAX_DOCUMENT_NAME, " \t\n-()[]")),
        ("source", Need, &SOURCE),
        ("context", May, &Shape::Text),
        ("citations", May, &Shape::Object),
    ]),
);

static SOURCE: Shape = Shape::One(&[
    ("bytes", May, &Shape::Base64),
    ("s3Location", May, &Shape::Closed(&[("uri", Need, &Shape::Filled), ("bucketOwner", May, &Shape::Text)])),
    ("text", May, &Shape::Text),
    ("content", May, &Shape::Any),
]);

static BLOCK: Shape = Shape::One(&[
    TEXT,
    IMAGE,
    DOCUMENT,
    ("audio", May, &Shape::Closed(&[("format", Need, &Shape::Text), ("source", Need, &SOURCE)])),
    ("video", May, &Shape::Closed(&[("format", Need, &Shape::Text), ("source", Need, &SOURCE)])),
    (
        "toolUse",
        May,
        &Shape::Closed(&[
            ("toolUseId", Need, &Shape::Name(MAX_NAME, ID)),
            ("name", Need, &Shape::Name(MAX_NAME, "_-")),
            ("input", Need, &Shape::Object),
        ]),
    ),
    (
        "toolResult",
        May,
        &Shape::Closed(&[
            ("toolUseId", Need, &Shape::Name(MAX_NAME, ID)),
            ("content", Need, &Shape::List(&Shape::One(&[("text", May, &Shape::Text), ("json", May, &Shape::Object), IMAGE, DOCUMENT]))),
            ("status", May, &Shape::Word(&["success", "error"])),
        ]),
    ),
    (
        "reasoningContent",
        May,
        &Shape::One(&[
            ("reasoningText", May, &Shape::Closed(&[("text", Need, &Shape::Text), ("signature", May, &Shape::Text)])),
            ("redactedContent", May, &Shape::Base64),
        ]),
    ),
    ("guardContent", May, &Shape::Object),
    CACHE,
]);

static TOOL: Shape = Shape::One(&[
    (
        "toolSpec",
        May,
        &Shape::Closed(&[
            ("name", Need, &Shape::Name(MAX_NAME, "_-")),
            ("description", May, &Shape::Filled),
            ("inputSchema", Need, &Shape::Closed(&[("json", Need, &Shape::Object)])),
            ("strict", May, &Shape::Flag),
        ]),
    ),
    CACHE,
]);

static CHOICE: Shape = Shape::One(&[
    ("auto", May, &Shape::Closed(&[])),
    ("any", May, &Shape::Closed(&[])),
    ("tool", May, &Shape::Closed(&[("name", Need, &Shape::Name(MAX_NAME, "_-"))])),
]);

static OUTPUT: Shape = Shape::Closed(&[
    ("effort", May, &Shape::Word(&["low", "medium", "high", "xhigh", "max"])),
    (
        "textFormat",
        May,
        &Shape::Closed(&[
            ("type", Need, &Shape::Word(&["json_schema"])),
            (
                "structure",
                Need,
                &Shape::One(&[(
                    "jsonSchema",
                    May,
                    &Shape::Closed(&[("schema", Need, &Shape::Filled), ("name", May, &Shape::Text), ("description", May, &Shape::Text)]),
                )]),
            ),
        ]),
    ),
]);
