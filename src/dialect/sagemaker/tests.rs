//! Requests and answers of `tests/fixtures/sagemaker`, and what no fixture can show.

use super::*;
use crate::dialect::bedrock::tests::{Told, encode, ended, requests};
use crate::dialect::shared::testing::{self, pieces};
use crate::frame::aws_event_stream::write_message;
use crate::front::chat::chunk::UsagePlace;
use crate::front::chat::head::Head;
use crate::relay::{Form, Relay};
use serde_json::{Value, json};
use uuid::Uuid;

fn format(word: &Value) -> Format {
    match word.as_str() {
        Some("tgi") => Format::Tgi,
        Some("llama2_chat") => Format::Llama2Chat,
        Some("hf_embedding") => Format::HfEmbedding,
        _ => Format::OpenAiChat,
    }
}

/// An endpoint whose container speaks this.
fn endpoint(format: Format) -> SageMaker {
    SageMaker { openai: testing::openai(), format, inference_component: None, default_max_tokens: None }
}

/// The decoder of a request in this format.
fn decoder(word: &Value, stop: &Value) -> Box<dyn Decoder> {
    let body = json!({"model": "r", "messages": [{"role": "user", "content": "Hi"}], "stop": stop});
    encode(&endpoint(format(word)), "ep", &body, None, None).unwrap().decoder
}

#[test]
fn requests_become_what_the_fixtures_say() {
    requests("sagemaker", |case| SageMaker {
        inference_component: case["inference_component"].as_str().map(Into::into),
        ..endpoint(format(&case["format"]))
    });
}

#[test]
fn answers_say_what_the_fixtures_say_however_they_are_cut() {
    for (path, case) in testing::cases("sagemaker/answers") {
        let want: Vec<String> = serde_json::from_value(case["says"].clone()).unwrap();
        if let Some(body) = case["stream"].as_str() {
            for seed in 0..20 {
                let mut bytes = Vec::new();
                for part in if seed == 0 { vec![body.as_bytes()] } else { pieces(body.as_bytes(), seed) } {
                    write_message(&mut bytes, &[(":event-type", "PayloadPart"), (":message-type", "event")], part);
                }
                if let Some(kind) = case["exception"].as_str() {
                    let headers = [(":exception-type", kind), (":message-type", "exception")];
                    write_message(&mut bytes, &headers, br#"{"Message":"died","ErrorCode":"X"}"#);
                }
                let (mut decoder, mut told) = (decoder(&case["format"], &case["stop"]), Told::default());
                let cut = if seed == 1 { bytes.chunks(1).collect() } else { pieces(&bytes, seed + 99) };
                let result = testing::stream(Framing::AwsSse, &mut *decoder, cut, &mut told);
                let has_end = case["format"] == "tgi" || body.contains("[DONE]"); // OpenAI's chunks as lines of JSON just stop
                assert_eq!(told.ended(), result.is_ok() && has_end, "{} {seed}", path.display());
                assert_eq!((told.lines(), ended(result)), (want.clone(), case["fault"].clone()), "{} {seed}", path.display());
            }
        } else {
            let (mut decoder, mut told) = (decoder(&case["format"], &case["stop"]), Told::default());
            let result = decoder.whole(case["whole"].to_string().as_bytes(), &mut told);
            assert_eq!((told.lines(), ended(result)), (want, case["fault"].clone()), "{}", path.display());
        }
    }
}

#[test]
fn a_container_that_cannot_stream_is_told_in_chunks() {
    let body = json!({"model": "r", "messages": [{"role": "user", "content": "Hi"}], "stream": true});
    let out = encode(&endpoint(Format::Llama2Chat), "ep", &body, None, None).unwrap();
    let head = Head::new(Uuid::nil(), Uuid::nil(), 0, "r");
    let mut relay = Relay::new(None, out.decoder, head, Form::Chunks(UsagePlace::Withheld), None);
    assert_eq!(relay.push(br#"[{"generation":{"role":"assistant","content":" Hello"}}]"#), (Vec::new(), Ok(())));
    let (bytes, end) = relay.end();
    let text = String::from_utf8(bytes).unwrap();
    assert!(end.is_ok() && text.contains(r#""content":"Hello""#) && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[test]
fn a_containers_error_is_taken_out_of_the_services() {
    let read = |status: u16, code: Value, inner: &str| {
        let body = json!({"ErrorCode": "CLIENT_ERROR_FROM_MODEL", "Message": "Received client error", "OriginalMessage": inner, "OriginalStatusCode": code});
        let error = endpoint(Format::OpenAiChat).read_error(status, &HeaderMap::new(), body.to_string().as_bytes());
        (error.class, error.message)
    };
    let wide = r#"{"error":{"message":"the widget is too wide","type":"BadRequestError","code":400}}"#;
    assert_eq!(read(424, json!(400), wide), (FailureClass::BadRequest, "the widget is too wide".into()));
    assert_eq!(read(424, json!(422), r#"{"error":"too wide","error_type":"validation"}"#), (FailureClass::BadRequest, "too wide".into()));
    assert_eq!(read(424, json!(429), r#"{"error":"busy","error_type":"overloaded"}"#).0, FailureClass::RateLimited);
    assert_eq!(read(424, json!(503), "no capacity"), (FailureClass::Overloaded, "no capacity".into()));
    assert_eq!(read(424, json!(500), ""), (FailureClass::Server, "Received client error".into()));
    assert_eq!(read(424, json!(401), "who are you").0, FailureClass::Server);
    assert_eq!(read(424, Value::Null, wide), (FailureClass::Server, "Received client error".into()));
    assert_eq!(read(530, Value::Null, "").0, FailureClass::Server);
}
