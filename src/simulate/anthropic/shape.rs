//! What a Messages request may hold, as the published types of version 2023-06-01 have it; they are closed.

use crate::simulate::shape::Rule::{May, Need, Null};
use crate::simulate::shape::{Member, Shape};

/// Longest name of a tool.
const MAX_NAME: usize = 128;
/// Most tokens that can be asked for.
const MAX_TOKENS: i64 = 1 << 20;

/// The body.
pub(super) static BODY: Shape = Shape::Closed(&[
    ("model", Need, &Shape::Filled),
    ("max_tokens", Need, &Shape::Whole(1, MAX_TOKENS)),
    ("messages", Need, &Shape::Some(&MESSAGE)),
    ("system", May, &Shape::Either(&[&Shape::List(&TEXT), &Shape::Text])),
    ("stream", May, &Shape::Flag),
    ("temperature", May, &Shape::Number(0.0, 1.0)),
    ("top_p", May, &Shape::Number(0.0, 1.0)),
    ("top_k", May, &Shape::Whole(0, i64::MAX)),
    ("stop_sequences", May, &Shape::List(&Shape::Filled)),
    ("metadata", May, &Shape::Closed(&[("user_id", Null, &Shape::Text)])),
    ("service_tier", May, &Shape::Word(&["auto", "standard_only"])),
    ("thinking", May, &THINKING),
    ("tools", May, &Shape::List(&TOOL)),
    ("tool_choice", May, &CHOICE),
    ("output_config", May, &OUTPUT),
    ("cache_control", Null, &CACHE),
    ("container", Null, &Shape::Text),
    ("inference_geo", Null, &Shape::Text),
    // Of betas that coding agents ask for.
    ("context_management", Null, &Shape::Object),
    ("diagnostics", Null, &Shape::Object),
]);

static MESSAGE: Shape = Shape::Closed(&[
    ("role", Need, &Shape::Word(&["user", "assistant", "system"])),
    ("content", Need, &Shape::Either(&[&Shape::Filled, &Shape::Some(&BLOCK)])),
]);

static CACHE: Shape = Shape::Tagged(&[("ephemeral", &[("ttl", May, &Shape::Word(&["5m", "1h"]))])]);

const TEXT_MEMBERS: &[Member] = &[("text", Need, &Shape::Filled), ("cache_control", Null, &CACHE), ("citations", Null, &Shape::Any)];
const IMAGE_MEMBERS: &[Member] = &[("source", Need, &IMAGE), ("cache_control", Null, &CACHE)];
const DOCUMENT_MEMBERS: &[Member] = &[
    ("source", Need, &DOCUMENT),
    ("cache_control", Null, &CACHE),
    ("citations", Null, &Shape::Closed(&[("enabled", May, &Shape::Flag)])),
    ("context", Null, &Shape::Text),
    ("title", Null, &Shape::Text),
];

static TEXT: Shape = Shape::Tagged(&[("text", TEXT_MEMBERS)]);

static BLOCK: Shape = Shape::Tagged(&[
    ("text", TEXT_MEMBERS),
    ("image", IMAGE_MEMBERS),
    ("document", DOCUMENT_MEMBERS),
    (
        "tool_use",
        &[
            ("id", Need, &Shape::Name(usize::MAX, "_-")),
            ("name", Need, &Shape::Filled),
            ("input", Need, &Shape::Object),
            ("cache_control", Null, &CACHE),
        ],
    ),
    (
        "tool_result",
        &[
            ("tool_use_id", Need, &Shape::Name(usize::MAX, "_-")),
            ("content", May, &Shape::Either(&[&Shape::Text, &Shape::List(&RESULT)])),
            ("is_error", May, &Shape::Flag),
            ("cache_control", Null, &CACHE),
        ],
    ),
    ("thinking", &[("thinking", Need, &Shape::Text), ("signature", Need, &Shape::Text)]),
    ("redacted_thinking", &[("data", Need, &Shape::Text)]),
]);

static RESULT: Shape = Shape::Tagged(&[("text", TEXT_MEMBERS), ("image", IMAGE_MEMBERS), ("document", DOCUMENT_MEMBERS)]);

const URL: &[Member] = &[("url", Need, &Shape::Filled)];

static IMAGE: Shape = Shape::Tagged(&[
    (
        "base64",
        &[("media_type", Need, &Shape::Word(&["image/jpeg", "image/png", "image/gif", "image/webp"])), ("data", Need, &Shape::Base64)],
    ),
    ("url", URL),
]);

static DOCUMENT: Shape = Shape::Tagged(&[
    ("base64", &[("media_type", Need, &Shape::Word(&["application/pdf"])), ("data", Need, &Shape::Base64)]),
    ("text", &[("media_type", Need, &Shape::Word(&["text/plain"])), ("data", Need, &Shape::Text)]),
    ("content", &[("content", Need, &Shape::Any)]),
    ("url", URL),
]);

static THINKING: Shape = Shape::Tagged(&[
    ("enabled", &[("budget_tokens", Need, &Shape::Whole(1_024, MAX_TOKENS)), ("display", Null, &Shape::Word(&["summarized", "omitted"]))]),
    ("adaptive", &[("display", Null, &Shape::Word(&["summarized", "omitted"]))]),
    ("disabled", &[]),
]);

static TOOL: Shape = Shape::Closed(&[
    ("type", Null, &Shape::Word(&["custom"])),
    ("name", Need, &Shape::Name(MAX_NAME, "_-")),
    ("input_schema", Need, &Shape::Object),
    ("description", May, &Shape::Text),
    ("strict", May, &Shape::Flag),
    ("cache_control", Null, &CACHE),
    ("allowed_callers", May, &Shape::List(&Shape::Text)),
    ("defer_loading", May, &Shape::Flag),
    ("eager_input_streaming", Null, &Shape::Flag),
    ("input_examples", May, &Shape::List(&Shape::Object)),
]);

const CHOICE_MEMBERS: &[Member] = &[("disable_parallel_tool_use", May, &Shape::Flag)];

static CHOICE: Shape = Shape::Tagged(&[
    ("auto", CHOICE_MEMBERS),
    ("any", CHOICE_MEMBERS),
    ("none", &[]),
    ("tool", &[("name", Need, &Shape::Filled), ("disable_parallel_tool_use", May, &Shape::Flag)]),
]);

static OUTPUT: Shape = Shape::Closed(&[
    ("effort", Null, &Shape::Word(&["low", "medium", "high", "xhigh", "max"])),
    ("format", Null, &Shape::Tagged(&[("json_schema", &[("schema", Need, &Shape::Object)])])),
]);
