//! Google's embeddings: `:embedContent` and `:batchEmbedContents` at both services, each with its own place for the
//! dimensions, and `:predict` on Vertex AI.

use super::Gemini;
use crate::simulate::ask::{Ask, tokens};
use crate::simulate::dialect::Refusal;
use crate::simulate::embed::{DEFAULT_DIMENSIONS, Embed, Form, MAX_DIMENSIONS, vector};
use crate::simulate::shape::Rule::{May, Need};
use crate::simulate::shape::{Shape, Why, items, text_of};
use serde_json::{Value, json};

const DIMENSIONS: Shape = Shape::Whole(1, MAX_DIMENSIONS as i64);
const CONTENT: Shape = Shape::Closed(&[
    ("role", May, &Shape::Word(&["user"])),
    ("parts", Need, &Shape::Some(&Shape::Closed(&[("text", Need, &Shape::Filled)]))),
]);
const TASK: Shape = Shape::Word(&[
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
]);

static STUDIO_ONE: Shape = Shape::Closed(&[
    ("model", May, &Shape::Filled),
    ("content", Need, &CONTENT),
    ("taskType", May, &TASK),
    ("title", May, &Shape::Text),
    ("outputDimensionality", May, &DIMENSIONS),
]);
static STUDIO_LIST: Shape = Shape::Closed(&[(
    "requests",
    Need,
    &Shape::Some(&Shape::Closed(&[
        ("model", Need, &Shape::Filled),
        ("content", Need, &CONTENT),
        ("taskType", May, &TASK),
        ("title", May, &Shape::Text),
        ("outputDimensionality", May, &DIMENSIONS),
    ])),
)]);
static VERTEX_ONE: Shape = Shape::Closed(&[("content", Need, &CONTENT), ("embedContentConfig", May, &CONFIG)]);
static VERTEX_LIST: Shape = Shape::Closed(&[(
    "requests",
    Need,
    &Shape::Some(&Shape::Closed(&[("content", Need, &CONTENT), ("embedContentConfig", May, &CONFIG)])),
)]);
const CONFIG: Shape =
    Shape::Closed(&[("taskType", May, &TASK), ("outputDimensionality", May, &DIMENSIONS), ("autoTruncate", May, &Shape::Flag)]);
static PREDICT: Shape = Shape::Closed(&[
    (
        "instances",
        Need,
        &Shape::Some(&Shape::Closed(&[("content", Need, &Shape::Filled), ("task_type", May, &TASK), ("title", May, &Shape::Text)])),
    ),
    ("parameters", May, &Shape::Closed(&[("outputDimensionality", May, &DIMENSIONS), ("autoTruncate", May, &Shape::Flag)])),
]);

/// Reads a request.
///
/// # Errors
/// The first fault.
pub(super) fn read(service: Gemini, form: Form, model: String, body: &Value, raw: &[u8]) -> Result<Ask, Refusal> {
    let (shape, contents) = match (form, service) {
        (Form::Predictions, _) => (&PREDICT, items(body, "instances")),
        (Form::Embeddings, Gemini::Studio) => (&STUDIO_LIST, items(body, "requests")),
        (Form::Embeddings, Gemini::Vertex) => (&VERTEX_LIST, items(body, "requests")),
        (_, Gemini::Studio) => (&STUDIO_ONE, std::slice::from_ref(body)),
        (_, Gemini::Vertex) => (&VERTEX_ONE, std::slice::from_ref(body)),
    };
    shape.check(body, "").map_err(|(at, why)| {
        let message = match why {
            Why::Missing => format!("{at}: is not specified"),
            Why::Unknown => format!("Invalid JSON payload received. Unknown name at '{at}': Cannot find field."),
            Why::Wrong => format!("Invalid value at '{at}'"),
        };
        Refusal::at(&at, message)
    })?;
    let wanted = format!("models/{model}");
    if service == Gemini::Studio && contents.iter().map(|one| text_of(one, "model")).any(|own| !own.is_empty() && own != wanted) {
        return Err(Refusal::at("requests[].model", format!("requests[].model must match the parent: {wanted}")));
    }
    let text = |one: &Value| match form {
        Form::Predictions => text_of(one, "content").to_owned(),
        _ => items(one.get("content").unwrap_or(&Value::Null), "parts").iter().map(|part| text_of(part, "text")).collect(),
    };
    let place = match (form, service) {
        (Form::Predictions, _) => body.get("parameters"),
        (_, Gemini::Studio) => contents.first(),
        (_, Gemini::Vertex) => contents.first().and_then(|one| one.get("embedContentConfig")),
    };
    let asked = place.and_then(|place| place.get("outputDimensionality")?.as_u64()).and_then(|n| usize::try_from(n).ok());
    let inputs: Vec<String> = contents.iter().map(text).collect();
    let prompt_tokens = inputs.iter().map(|text| tokens(text)).sum();
    let embed = Embed { inputs, dimensions: asked.unwrap_or(DEFAULT_DIMENSIONS), base64: false, form };
    Ok(Ask { prompt_tokens, embed: Some(embed), ..Ask::begin(model, raw)? })
}

/// The vectors, in the form of the method that asked.
pub(super) fn whole(ask: &Ask, embed: &Embed) -> Value {
    let vectors = || embed.inputs.iter().map(|text| vector(text, embed.dimensions));
    match embed.form {
        Form::Predictions => {
            let counted = embed.inputs.iter().zip(vectors());
            let predictions: Vec<Value> = counted
                .map(|(text, values)| json!({ "embeddings": { "values": values, "statistics": { "token_count": tokens(text), "truncated": false } } }))
                .collect();
            json!({ "predictions": predictions, "metadata": { "billableCharacterCount": embed.inputs.iter().map(String::len).sum::<usize>() } })
        }
        Form::Embeddings => {
            let list: Vec<Value> = vectors().map(|values| json!({ "values": values })).collect();
            json!({ "embeddings": list, "usageMetadata": { "promptTokenCount": ask.prompt_tokens } })
        }
        _ => json!({ "embedding": { "values": vectors().next() }, "usageMetadata": { "promptTokenCount": ask.prompt_tokens } }),
    }
}
