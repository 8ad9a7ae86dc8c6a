//! What is answered.

use super::{Passed, number};
use crate::llm::endpoint::Endpoint;
use crate::simulate::ask::Ask;
use crate::simulate::dialect::typed_event;
use crate::simulate::embed::base64_of;
use crate::simulate::reply::{Reply, Spoken, pieces};
use crate::simulate::shape::{items, text_of};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Second of every answer's making.
const CREATED: u64 = 1_750_000_000;
/// Bytes of a sound or an image, unless the script says `bytes`.
const MEDIUM: usize = 1_000;
/// Bytes of audio that last a second.
const BYTES_PER_SECOND: u64 = 16;
/// Tokens of an image.
const IMAGE_TOKENS: u64 = 272;

/// `content-type` of the answer in one piece.
pub(in crate::simulate) fn content_type(passed: &Passed) -> &'static str {
    match (passed.endpoint, text_of(&passed.request, "response_format")) {
        (Endpoint::AudioSpeech, "wav") => "audio/wav",
        (Endpoint::AudioSpeech, "opus") => "audio/opus",
        (Endpoint::AudioSpeech, "pcm") => "audio/pcm",
        (Endpoint::AudioSpeech, _) => "audio/mpeg",
        (Endpoint::AudioTranscriptions | Endpoint::AudioTranslations, "text" | "srt" | "vtt") => "text/plain; charset=utf-8",
        _ => "application/json",
    }
}

/// The answer in one piece.
pub(in crate::simulate) fn whole(ask: &Ask, passed: &Passed, reply: &Reply) -> Vec<u8> {
    let request = &passed.request;
    let json = match passed.endpoint {
        Endpoint::AudioSpeech => return medium(ask, 0),
        Endpoint::Completions => completion(ask, choices(reply), reply),
        Endpoint::Moderations => {
            let count = items(request, "input").len().max(1);
            let result = json!({ "flagged": ask.user.contains("kill"), "categories": { "violence": ask.user.contains("kill") },
                "category_scores": { "violence": 0.5 }, "category_applied_input_types": { "violence": ["text"] } });
            json!({ "id": format!("modr-{}", ask.digest), "model": ask.model, "results": vec![result; count] })
        }
        Endpoint::ImagesGenerations | Endpoint::ImagesEdits | Endpoint::ImagesVariations => images(ask, request),
        Endpoint::AudioTranscriptions | Endpoint::AudioTranslations => match text_of(request, "response_format") {
            "text" => return format!("{}\n", transcript(request)).into_bytes(),
            "srt" => return format!("1\n00:00:00,000 --> 00:00:01,000\n{}\n\n", transcript(request)).into_bytes(),
            "vtt" => return format!("WEBVTT\n\n00:00.000 --> 00:01.000\n{}\n", transcript(request)).into_bytes(),
            "verbose_json" => {
                let task = if passed.endpoint == Endpoint::AudioTranslations { "translate" } else { "transcribe" };
                json!({ "task": task, "language": "english", "duration": seconds(request) as f64, "text": transcript(request), "segments": [] })
            }
            _ => json!({ "text": transcript(request), "usage": audio_usage(ask, request) }),
        },
        Endpoint::Rerank => {
            let documents = items(request, "documents");
            let most = number(request, "top_n").and_then(|n| usize::try_from(n).ok()).unwrap_or(documents.len());
            let result = |(index, document): (usize, &Value)| json!({ "index": index, "relevance_score": 1.0 / (index + 1) as f64, "document": document });
            let results: Vec<Value> = documents.iter().enumerate().take(most).map(result).collect();
            json!({ "id": format!("rerank-{}", ask.digest), "object": "rerank", "model": ask.model, "results": results,
                "usage": { "prompt_tokens": ask.prompt_tokens, "total_tokens": ask.prompt_tokens } })
        }
    };
    json.to_string().into_bytes()
}

/// The answer as events.
pub(in crate::simulate) fn events(ask: &Ask, passed: &Passed, reply: &Reply) -> Vec<Bytes> {
    let request = &passed.request;
    match passed.endpoint {
        Endpoint::ImagesGenerations | Endpoint::ImagesEdits => {
            let kind = if passed.endpoint == Endpoint::ImagesEdits { "image_edit" } else { "image_generation" };
            let partial = (0..number(request, "partial_images").unwrap_or(0)).map(|n| {
                json!({ "type": format!("{kind}.partial_image"), "b64_json": base64_of(&medium(ask, n)), "partial_image_index": n, "created_at": CREATED })
            });
            let last = json!({ "type": format!("{kind}.completed"), "b64_json": base64_of(&medium(ask, 0)), "created_at": CREATED,
                "usage": image_usage(ask) });
            partial.chain([last]).map(|event| typed_event(&event)).collect()
        }
        Endpoint::AudioSpeech => {
            let delta = |piece: &[u8]| json!({ "type": "speech.audio.delta", "audio": base64_of(piece) });
            let usage = json!({ "input_tokens": ask.prompt_tokens, "output_tokens": 100, "total_tokens": ask.prompt_tokens + 100 });
            let done = json!({ "type": "speech.audio.done", "usage": usage });
            medium(ask, 0).chunks(300).map(delta).chain([done]).map(|event| data(&event)).collect()
        }
        Endpoint::AudioTranscriptions => {
            let text = transcript(request);
            let deltas = text.split_inclusive(' ').map(|piece| json!({ "type": "transcript.text.delta", "delta": piece }));
            let done = json!({ "type": "transcript.text.done", "text": text, "usage": audio_usage(ask, request) });
            deltas.chain([done]).map(|event| data(&event)).collect()
        }
        _ => {
            let chunk = |index: usize, text: &str, finish: Value| {
                json!({ "id": format!("cmpl-{}", ask.digest), "object": "text_completion", "created": CREATED, "model": ask.model,
                    "choices": [{ "index": index, "text": text, "logprobs": null, "finish_reason": finish }] })
            };
            let mut chunks = Vec::new();
            for (index, spoken) in reply.choices.iter().enumerate() {
                chunks.extend(pieces(ask, &spoken.text).iter().map(|piece| chunk(index, piece, Value::Null)));
                chunks.push(chunk(index, "", json!(spoken.finish.word("stop", "length", "stop"))));
            }
            if ask.include_usage {
                chunks.push(completion(ask, json!([]), reply));
            }
            chunks.iter().map(data).chain([Bytes::from_static(b"data: [DONE]\n\n")]).collect()
        }
    }
}

fn data(event: &Value) -> Bytes {
    Bytes::from(format!("data: {event}\n\n"))
}

/// A completion with these choices, or the chunk that ends its stream.
fn completion(ask: &Ask, choices: Value, reply: &Reply) -> Value {
    let usage = reply.usage;
    json!({ "id": format!("cmpl-{}", ask.digest), "object": "text_completion", "created": CREATED, "model": ask.model, "choices": choices,
        "usage": { "prompt_tokens": usage.prompt, "completion_tokens": usage.completion, "total_tokens": usage.prompt + usage.completion } })
}

fn choices(reply: &Reply) -> Value {
    let choice = |(index, spoken): (usize, &Spoken)| json!({ "index": index, "text": spoken.text, "logprobs": null, "finish_reason": spoken.finish.word("stop", "length", "stop") });
    reply.choices.iter().enumerate().map(choice).collect()
}

/// The older models have no usage.
fn images(ask: &Ask, request: &Value) -> Value {
    let url = text_of(request, "response_format") == "url";
    let image = |n: u64| {
        if url {
            json!({ "url": format!("https://images.example/{}/{n}.png", ask.digest) })
        } else {
            json!({ "b64_json": base64_of(&medium(ask, n)) })
        }
    };
    let data: Vec<Value> = (0..ask.n as u64).map(image).collect();
    if ask.name.starts_with("gpt-image") {
        return json!({ "created": CREATED, "data": data, "usage": image_usage(ask) });
    }
    json!({ "created": CREATED, "data": data })
}

fn image_usage(ask: &Ask) -> Value {
    let output = IMAGE_TOKENS * ask.n as u64;
    json!({ "input_tokens": ask.prompt_tokens, "output_tokens": output, "total_tokens": ask.prompt_tokens + output,
        "input_tokens_details": { "text_tokens": ask.prompt_tokens, "image_tokens": 0 } })
}

/// Paid by the second at whisper, by tokens elsewhere.
fn audio_usage(ask: &Ask, request: &Value) -> Value {
    if ask.name.starts_with("whisper") {
        return json!({ "type": "duration", "seconds": seconds(request) });
    }
    let output = crate::simulate::ask::tokens(&transcript(request));
    json!({ "type": "tokens", "input_tokens": 10, "output_tokens": output, "total_tokens": 10 + output,
        "input_token_details": { "text_tokens": 0, "audio_tokens": 10 } })
}

fn file(request: &Value) -> &Value {
    request.get("file").unwrap_or(&Value::Null)
}

fn seconds(request: &Value) -> u64 {
    number(file(request), "bytes").unwrap_or(0).div_ceil(BYTES_PER_SECOND)
}

fn transcript(request: &Value) -> String {
    let file = file(request);
    format!(
        "I heard {} bytes of {} with digest {}",
        file.get("bytes").unwrap_or(&Value::Null),
        text_of(file, "name"),
        text_of(file, "sha256")
    )
}

/// The bytes of a sound or an image: any byte may be among them.
fn medium(ask: &Ask, n: u64) -> Vec<u8> {
    let blocks = (0u64..).flat_map(|block| {
        Sha256::new().chain_update(&ask.digest).chain_update(n.to_be_bytes()).chain_update(block.to_be_bytes()).finalize()
    });
    blocks.take(ask.script.bytes.unwrap_or(MEDIUM)).collect()
}
