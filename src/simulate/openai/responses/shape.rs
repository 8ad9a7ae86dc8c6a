//! The members of a Responses request and of its input items, after the published types. Objects may have further members,
//! except content parts.

use crate::simulate::shape::Rule::{May, Need, Null};
use crate::simulate::shape::{Member, Shape};

/// Roles of a message, as the error message lists them.
pub(super) static ROLES: &[&str] = &["assistant", "system", "developer", "user"];
/// Input items whose members are not looked at: those of hosted tools.
pub(super) static HOSTED_ITEMS: [&str; 24] = [
    "additional_tools",
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter_call",
    "compaction",
    "compaction_trigger",
    "computer_call",
    "computer_call_output",
    "configuration_update",
    "file_search_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "program",
    "program_output",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
];
/// Tools whose members are not looked at.
pub(super) static HOSTED_TOOLS: [&str; 16] = [
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use_preview",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
    "x_search", // xAI's
];

static EFFORT: Shape = Shape::Word(&["none", "minimal", "low", "medium", "high", "xhigh", "max"]);
static SUMMARY: Shape = Shape::Word(&["auto", "concise", "detailed"]);
static INCLUDE: Shape = Shape::Word(&[
    super::ENCRYPTED_REASONING,
    super::LOGPROBS,
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
]);

/// The body, without what [`super::check`] looks at itself.
pub(super) static BODY: Shape = Shape::Open(&[
    ("model", Need, &Shape::Filled),
    ("input", Null, &Shape::Either(&[&Shape::Text, &Shape::List(&Shape::Object)])),
    ("instructions", Null, &Shape::Text),
    ("stream", Null, &Shape::Flag),
    ("stream_options", Null, &Shape::Open(&[("include_obfuscation", Null, &Shape::Flag)])),
    ("store", Null, &Shape::Flag),
    ("background", Null, &Shape::Flag),
    ("parallel_tool_calls", Null, &Shape::Flag),
    ("previous_response_id", Null, &Shape::Filled),
    ("conversation", Null, &Shape::Either(&[&Shape::Filled, &Shape::Open(&[("id", Need, &Shape::Filled)])])),
    ("include", Null, &Shape::List(&INCLUDE)),
    ("metadata", Null, &Shape::Map(&Shape::Text)),
    ("truncation", Null, &Shape::Word(&["auto", "disabled"])),
    ("service_tier", Null, &Shape::Word(&["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"])),
    ("user", Null, &Shape::Text),
    ("prompt_cache_key", Null, &Shape::Text),
    ("prompt_cache_options", Null, &Shape::Object),
    ("prompt_cache_retention", Null, &Shape::Word(&["in_memory", "24h"])),
    ("safety_identifier", Null, &Shape::Text),
    ("reasoning", Null, &Shape::Open(&[("effort", Null, &EFFORT), ("summary", Null, &SUMMARY), ("generate_summary", Null, &SUMMARY)])),
    ("text", Null, &Shape::Open(&[("format", Null, &FORMAT), ("verbosity", Null, &Shape::Word(&["low", "medium", "high"]))])),
    ("tools", Null, &Shape::List(&Shape::Object)),
    ("tool_choice", Null, &Shape::Either(&[&Shape::Object, &Shape::Word(&["none", "auto", "required"])])),
]);

static FORMAT: Shape = Shape::Tagged(&[
    ("text", &[]),
    ("json_object", &[]),
    (
        "json_schema",
        &[
            ("name", Need, &Shape::Name(64, "_-")),
            ("schema", Need, &Shape::Object),
            ("strict", Null, &Shape::Flag),
            ("description", Null, &Shape::Text),
        ],
    ),
]);

const STATUS: Member = ("status", Null, &Shape::Word(&["in_progress", "completed", "incomplete"]));
const ID: Member = ("id", Null, &Shape::Text);
const CALL_ID: Member = ("call_id", Need, &Shape::Filled);
const NAMESPACE: Member = ("namespace", Null, &Shape::Text);

/// A message of the assistant.
pub(super) static ANSWER: Shape = Shape::Open(&[
    ID,
    STATUS,
    ("content", Need, &Shape::Either(&[&Shape::Text, &Shape::List(&Shape::Tagged(ANSWER_PARTS))])),
    ("phase", Null, &Shape::Word(&["commentary", "final_answer"])),
]);
/// Any other message.
pub(super) static PROMPT: Shape = Shape::Open(&[ID, STATUS, ("content", Need, &TEXT_OR_PARTS)]);

static TEXT_OR_PARTS: Shape = Shape::Either(&[&Shape::Text, &Shape::List(&Shape::Tagged(PARTS))]);

/// The items that are not messages nor of hosted tools.
pub(super) static ITEMS: [(&str, Shape); 6] = [
    ("function_call", Shape::Open(&[ID, STATUS, CALL_ID, NAMESPACE, ("name", Need, &Shape::Filled), ("arguments", Need, &Shape::Text)])),
    ("function_call_output", Shape::Open(&[ID, STATUS, CALL_ID, ("output", Need, &TEXT_OR_PARTS)])),
    ("custom_tool_call", Shape::Open(&[ID, CALL_ID, NAMESPACE, ("name", Need, &Shape::Filled), ("input", Need, &Shape::Text)])),
    ("custom_tool_call_output", Shape::Open(&[ID, CALL_ID, ("output", Need, &TEXT_OR_PARTS)])),
    (
        "reasoning",
        Shape::Open(&[
            ID,
            STATUS,
            ("summary", Need, &Shape::List(&Shape::Tagged(&[("summary_text", TEXT)]))),
            ("content", Null, &Shape::List(&Shape::Tagged(&[("reasoning_text", TEXT)]))),
            ("encrypted_content", Null, &Shape::Text),
        ]),
    ),
    ("item_reference", Shape::Open(&[("id", Need, &Shape::Filled)])),
];

const TEXT: &[Member] = &[("text", Need, &Shape::Text)];
const BREAKPOINT: Member = ("prompt_cache_breakpoint", May, &Shape::Object);
const DETAIL: Member = ("detail", Null, &Shape::Word(&["auto", "low", "high", "original"]));

const PARTS: &[(&str, &[Member])] = &[
    ("input_text", &[("text", Need, &Shape::Text), BREAKPOINT]),
    ("input_image", &[("image_url", Null, &Shape::Text), ("file_id", Null, &Shape::Text), DETAIL, BREAKPOINT]),
    (
        "input_file",
        &[
            ("file_data", Null, &Shape::Text),
            ("file_url", Null, &Shape::Text),
            ("file_id", Null, &Shape::Text),
            ("filename", Null, &Shape::Text),
            DETAIL,
            BREAKPOINT,
        ],
    ),
];

const ANSWER_PARTS: &[(&str, &[Member])] = &[
    (
        "output_text",
        &[
            ("text", Need, &Shape::Text),
            ("annotations", Null, &Shape::List(&Shape::Object)),
            ("logprobs", Null, &Shape::List(&Shape::Object)),
        ],
    ),
    ("refusal", &[("refusal", Need, &Shape::Text)]),
];
