//! What is refused: members that are missing, unknown or of another kind.

use crate::llm::endpoint::Endpoint;
use crate::simulate::dialect::Refusal;
use crate::simulate::openai::Service::{self, OpenAi};
use crate::simulate::shape::Rule::{May, Need, Null};
use crate::simulate::shape::{Member, Shape, Why};
use serde_json::{Map, Value};

const MODEL: Member = ("model", Need, &Shape::Filled);
const USER: Member = ("user", May, &Shape::Text);
const N: Member = ("n", Null, &Shape::Whole(1, 10));
const IMAGE_FORMAT: Member = ("response_format", Null, &Shape::Word(&["url", "b64_json"]));
const SIZE: Member = ("size", Null, &Shape::Filled);

static COMPLETIONS: [Member; 18] = [
    MODEL,
    ("prompt", Need, &Shape::Either(&[&Shape::Text, &Shape::Some(&Shape::Any)])),
    ("best_of", Null, &Shape::Whole(0, 20)),
    ("echo", Null, &Shape::Flag),
    ("frequency_penalty", Null, &Shape::Number(-2.0, 2.0)),
    ("logit_bias", Null, &Shape::Object),
    ("logprobs", Null, &Shape::Whole(0, 5)),
    ("max_tokens", Null, &Shape::Whole(0, i64::MAX)),
    ("n", Null, &Shape::Whole(1, 128)),
    ("presence_penalty", Null, &Shape::Number(-2.0, 2.0)),
    ("seed", Null, &Shape::Whole(i64::MIN, i64::MAX)),
    ("stop", Null, &Shape::Either(&[&Shape::Text, &Shape::Some(&Shape::Text)])),
    ("stream", Null, &Shape::Flag),
    ("stream_options", Null, &Shape::Object),
    ("suffix", Null, &Shape::Text),
    ("temperature", Null, &Shape::Number(0.0, 2.0)),
    ("top_p", Null, &Shape::Number(0.0, 1.0)),
    USER,
];

static MODERATIONS: [Member; 2] =
    [MODEL, ("input", Need, &Shape::Either(&[&Shape::Text, &Shape::Some(&Shape::Text), &Shape::Some(&Shape::Object)]))];

static GENERATIONS: [Member; 15] = [
    MODEL,
    ("prompt", Need, &Shape::Filled),
    N,
    SIZE,
    ("quality", Null, &Shape::Filled),
    IMAGE_FORMAT,
    ("style", Null, &Shape::Word(&["vivid", "natural"])),
    ("background", Null, &Shape::Word(&["transparent", "opaque", "auto"])),
    ("moderation", Null, &Shape::Word(&["low", "auto"])),
    ("output_format", Null, &Shape::Word(&["png", "jpeg", "webp"])),
    ("output_compression", Null, &Shape::Whole(0, 100)),
    ("stream", Null, &Shape::Flag),
    ("partial_images", Null, &Shape::Whole(0, 3)),
    ("input_fidelity", Null, &Shape::Filled),
    USER,
];

static JSON_EDITS: [Member; 6] = [
    MODEL,
    ("prompt", Need, &Shape::Filled),
    ("image", May, &Shape::Object),
    ("images", May, &Shape::Some(&Shape::Object)),
    N,
    IMAGE_FORMAT,
];

static SPEECH: [Member; 7] = [
    MODEL,
    ("input", Need, &Shape::Filled),
    ("voice", Need, &Shape::Either(&[&Shape::Filled, &Shape::Object])),
    ("instructions", May, &Shape::Text),
    ("response_format", May, &Shape::Word(&["mp3", "opus", "aac", "flac", "wav", "pcm"])),
    ("speed", May, &Shape::Number(0.25, 4.0)),
    ("stream_format", May, &Shape::Word(&["sse", "audio"])),
];

static RERANK: [Member; 5] = [
    MODEL,
    ("query", Need, &Shape::Text),
    ("documents", Need, &Shape::Some(&Shape::Either(&[&Shape::Text, &Shape::Object]))),
    ("top_n", Null, &Shape::Whole(1, i64::MAX)),
    ("return_documents", May, &Shape::Flag),
];

// Fields of forms are texts, and files are objects.

static FORM_EDITS: [Member; 17] = [
    MODEL,
    ("prompt", Need, &Shape::Filled),
    ("image", May, &Shape::Object),
    ("image[]", May, &Shape::Some(&Shape::Object)),
    ("mask", May, &Shape::Object),
    ("n", May, &Shape::Filled),
    ("size", May, &Shape::Filled),
    ("quality", May, &Shape::Filled),
    IMAGE_FORMAT,
    ("background", May, &Shape::Filled),
    ("input_fidelity", May, &Shape::Filled),
    ("output_format", May, &Shape::Filled),
    ("output_compression", May, &Shape::Filled),
    ("stream", May, &Shape::Word(&["true", "false"])),
    ("partial_images", May, &Shape::Filled),
    ("moderation", May, &Shape::Filled),
    USER,
];

static VARIATIONS: [Member; 6] =
    [MODEL, ("image", Need, &Shape::Object), ("n", May, &Shape::Filled), ("size", May, &Shape::Filled), IMAGE_FORMAT, USER];

static TRANSCRIPTIONS: [Member; 12] = [
    MODEL,
    ("file", Need, &Shape::Object),
    ("language", May, &Shape::Filled),
    ("prompt", May, &Shape::Text),
    ("response_format", May, &Shape::Word(&["json", "text", "srt", "verbose_json", "vtt", "diarized_json"])),
    ("temperature", May, &Shape::Filled),
    ("stream", May, &Shape::Word(&["true", "false"])),
    ("include[]", May, &Shape::Some(&Shape::Word(&["logprobs"]))),
    ("timestamp_granularities[]", May, &Shape::Some(&Shape::Word(&["word", "segment"]))),
    ("chunking_strategy", May, &Shape::Filled),
    ("known_speaker_names[]", May, &Shape::Some(&Shape::Text)),
    ("known_speaker_references[]", May, &Shape::Some(&Shape::Text)),
];

static TRANSLATIONS: [Member; 5] = [
    MODEL,
    ("file", Need, &Shape::Object),
    ("prompt", May, &Shape::Text),
    ("response_format", May, &Shape::Word(&["json", "text", "srt", "verbose_json", "vtt"])),
    ("temperature", May, &Shape::Filled),
];

/// Checks the members; unknown ones are refused by OpenAI alone.
///
/// # Errors
/// The first fault.
pub(super) fn check(service: Service, endpoint: Endpoint, body: &Map<String, Value>, is_json: bool) -> Result<(), Refusal> {
    let members: &'static [Member] = match endpoint {
        Endpoint::Completions => &COMPLETIONS,
        Endpoint::Moderations => &MODERATIONS,
        Endpoint::ImagesGenerations => &GENERATIONS,
        Endpoint::ImagesEdits if is_json => &JSON_EDITS,
        Endpoint::ImagesEdits => &FORM_EDITS,
        Endpoint::ImagesVariations => &VARIATIONS,
        Endpoint::AudioSpeech => &SPEECH,
        Endpoint::AudioTranscriptions => &TRANSCRIPTIONS,
        Endpoint::AudioTranslations => &TRANSLATIONS,
        Endpoint::Rerank => &RERANK,
    };
    let shape = if service == OpenAi { Shape::Closed(members) } else { Shape::Open(members) };
    let value = Value::Object(body.clone());
    shape.check(&value, "").map_err(|(at, why)| match why {
        Why::Missing => Refusal::field("missing_required_parameter", &at, format!("Missing required parameter: '{at}'.")),
        Why::Unknown => Refusal::field("unknown_parameter", &at, format!("Unknown parameter: '{at}'.")),
        Why::Wrong => Refusal::field("invalid_value", &at, format!("Invalid value for '{at}'.")),
    })?;
    let has = |name| body.contains_key(name);
    if endpoint == Endpoint::ImagesEdits && !["image", "image[]", "images"].into_iter().any(has) {
        return Err(Refusal::field("missing_required_parameter", "image", "Missing required parameter: 'image'."));
    }
    Ok(())
}
