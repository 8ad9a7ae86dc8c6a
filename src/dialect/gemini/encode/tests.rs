//! Requests: every fixture in `tests/fixtures/gemini/requests`, and what no fixture can show.

use crate::dialect::gemini::Publisher;
use crate::dialect::gemini::{Gemini, Vertex};
use crate::dialect::shared::claude::{DEFAULT_MAX_TOKENS, StructuredOutput};
use crate::dialect::shared::testing;
use crate::dialect::{Dialect, Outgoing};
use crate::error::ApiError;
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::settings::Params;
use crate::llm::state::Seal;
use serde_json::{Value, json};

/// Google AI Studio.
const STUDIO: Option<&str> = None;
/// A place on Vertex AI.
const VERTEX: Option<&str> = Some("/v1/projects/my-project/locations/us-central1");
const MODEL: &str = "gemini-2.5-flash";

fn vertex() -> Vertex {
    let (default_max_tokens, structured_output) = (DEFAULT_MAX_TOKENS, StructuredOutput::Native);
    Vertex { location: VERTEX.unwrap().into(), openai: testing::openai(), default_max_tokens, structured_output }
}

fn encode_with(place: Option<&str>, model: &str, body: &Value, params: &Params, seal: Option<&Seal>) -> Result<Outgoing, ApiError> {
    let parsed = Parsed::parse(body.to_string().into())?;
    let request = ChatRequest { parsed: &parsed, params, system: None, model, seal };
    if place.is_some() { vertex().encode(&request) } else { Gemini.encode(&request) }
}

fn encode(place: Option<&str>, model: &str, body: &Value) -> Result<Outgoing, ApiError> {
    encode_with(place, model, body, &Params::default(), None)
}

fn sent(place: Option<&str>, model: &str, body: &Value) -> Value {
    testing::body(&encode(place, model, body).unwrap())
}

/// A user's question and the given fields.
fn ask(fields: Value) -> Value {
    let mut body = json!({"model": "r", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[test]
fn requests_are_written_as_the_fixtures_say() {
    for (path, case) in testing::cases("gemini/requests") {
        let kind = if case["provider"] == "vertex" { VERTEX } else { STUDIO };
        let out = encode(kind, case["model"].as_str().unwrap(), &case["request"]);
        if let Some(param) = case["refused"].as_str() {
            assert_eq!(out.err().unwrap().param.as_deref(), Some(param), "{}", path.display());
        } else {
            let out = out.unwrap_or_else(|e| panic!("{}: {e:?}", path.display()));
            assert_eq!(out.path, case["path"], "{}", path.display());
            assert_eq!(testing::body(&out), case["body"], "{}", path.display());
            assert_eq!(json!(out.dropped), case.get("dropped").cloned().unwrap_or(json!([])), "{}", path.display());
        }
    }
}

#[test]
fn constraints_that_gemini_lacks_are_refused_by_name() {
    for (field, value) in [
        ("guided_regex", json!("[0-9]+")),
        ("guided_grammar", json!("root ::= \"a\"")),
        ("structural_tag", json!({"type": "structural_tag"})),
        ("chat_template", json!("{{x}}")),
        ("stop", json!(["1", "2", "3", "4", "5", "6"])),
        ("reasoning_effort", json!("furious")),
    ] {
        let error = encode(STUDIO, MODEL, &ask(json!({field: value}))).err().unwrap();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(field)));
        assert!(error.message.contains(field), "{}", error.message);
    }
}

#[test]
fn effort_is_a_level_a_budget_or_a_dropped_hint() {
    let thinking =
        |model, effort: &str| sent(STUDIO, model, &ask(json!({"reasoning_effort": effort})))["generationConfig"]["thinkingConfig"].clone();
    assert_eq!(thinking("gemini-3-pro-preview", "medium"), json!({"thinkingLevel": "MEDIUM", "includeThoughts": true}));
    assert_eq!(thinking("gemini-3.1-flash-x00042", "none"), json!({"thinkingLevel": "MINIMAL", "includeThoughts": false}));
    assert_eq!(thinking("gemini-2.5-flash-x00042", "none"), json!({"thinkingBudget": 0, "includeThoughts": false}));
    assert_eq!(thinking("gemini-2.5-pro", "none")["thinkingBudget"], 128);
    assert_eq!(thinking("gemini-2.5-pro", "high")["thinkingBudget"], 24_576);
    assert_eq!(thinking("gemini-flash-latest", "low")["thinkingLevel"], "LOW");
    for model in ["gemini-2.0-flash", "gemini-1.5-pro", "gemma-3-27b-it"] {
        let out = encode(STUDIO, model, &ask(json!({"reasoning_effort": "low"}))).unwrap();
        assert_eq!(out.dropped, ["reasoning_effort"], "{model}");
    }
}

#[test]
fn an_effort_that_a_model_does_not_have_is_named() {
    let strict = Params { reject_unsupported: true, ..Params::default() };
    let adjusted = |model: &str, effort: &str| {
        let body = ask(json!({"reasoning_effort": effort}));
        let out = encode(STUDIO, model, &body).unwrap();
        let refused = encode_with(STUDIO, model, &body, &strict, None).is_err();
        assert_eq!(refused, !out.adjusted.is_empty(), "{model} {effort}");
        assert!(out.dropped.is_empty());
        refused
    };
    for (model, lost) in [
        ("gemini-2.5-flash", ["xhigh", "max"].as_slice()),
        ("gemini-2.5-pro", &["none", "xhigh", "max"]),
        ("gemini-3-flash-preview", &["none", "xhigh", "max"]),
        ("gemini-3-pro-preview", &["none", "minimal", "xhigh", "max"]),
    ] {
        for effort in ["none", "minimal", "low", "medium", "high", "xhigh", "max"] {
            assert_eq!(adjusted(model, effort), lost.contains(&effort), "{model} {effort}");
        }
    }
    assert!(!adjusted("gemini-2.0-flash", "none"), "what never thinks has nothing to lose");
}

#[test]
fn a_link_goes_only_where_google_fetches_it() {
    let body = |url: &str| ask(json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}));
    let part = |kind, url| sent(kind, MODEL, &body(url))["contents"][0]["parts"][0].clone();
    for (url, mime) in [("gs://b/a.png", "image/png"), ("https://x.y/a.WEBP?z=.pdf", "image/webp"), ("https://x.y/a", "image/jpeg")] {
        assert_eq!(part(VERTEX, url), json!({"fileData": {"mimeType": mime, "fileUri": url}}));
        let error = encode(STUDIO, MODEL, &body(url)).err().unwrap();
        assert_eq!(error.param.as_deref(), Some("messages[0].content[0]"));
    }
    let file = "https://generativelanguage.googleapis.com/v1beta/files/abc";
    assert_eq!(part(STUDIO, file)["fileData"]["fileUri"], file);
    for video in ["https://www.youtube.com/watch?v=9hE5-98ZeCg", "https://youtu.be/9hE5-98ZeCg"] {
        let sent = json!({"fileData": {"mimeType": "video/mp4", "fileUri": video}});
        assert_eq!([part(STUDIO, video), part(VERTEX, video)], [sent.clone(), sent]);
    }
    assert!(encode(STUDIO, MODEL, &body("https://youtube.com.x.y/watch")).is_err());
    assert_eq!(part(STUDIO, "data:image/jpg;base64,AA==")["inlineData"]["mimeType"], "image/jpeg");
    assert!(encode(VERTEX, MODEL, &body("ftp://x/y")).is_err());
}

#[test]
fn results_stand_in_the_order_of_their_calls_and_belong_to_one() {
    let call = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": ""}});
    let result = |id: &str, text: &str| json!({"role": "tool", "tool_call_id": id, "content": text});
    let turns = |results: &[Value]| {
        let mut list = vec![json!({"role": "assistant", "tool_calls": [call("c1", "f"), call("c2", "f")]})];
        list.extend_from_slice(results);
        ask(json!({"messages": list}))
    };
    let contents = sent(STUDIO, MODEL, &turns(&[result("c2", "two"), result("c1", "{\"n\": 1.50}")]))["contents"].clone();
    assert_eq!(contents[0], json!({"role": "user", "parts": [{"text": " "}]}), "the first turn is the user's");
    let responses: Vec<_> = contents[2]["parts"].as_array().unwrap().iter().map(|p| p["functionResponse"]["response"].clone()).collect();
    assert_eq!(responses, [json!({"n": 1.5}), json!({"result": "two"})]);
    let error = encode(STUDIO, MODEL, &turns(&[result("c9", "x")])).err().unwrap();
    assert_eq!(error.param.as_deref(), Some("messages[1].tool_call_id"));
}

#[test]
fn signatures_come_back_from_ids_and_from_extra_content_and_new_models_get_a_stand_in() {
    let seal = testing::seal();
    let sealed = |text| seal.seal("call_0_0", &super::super::contents::state(Some(crate::json::text::Text::Raw(text))).unwrap());
    let foreign = seal.seal("toolu_1", br#"{"type":"thinking"}"#);
    let history = |id: &str, extra: Value| {
        ask(json!({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": [
            {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra},
            {"id": "second", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}]}))
    };
    let signatures = |model, body: &Value| -> Vec<Option<String>> {
        let out = encode_with(STUDIO, model, body, &Params::default(), Some(&seal)).unwrap();
        let sent = testing::body(&out);
        let parts = sent["contents"][1]["parts"].as_array().unwrap();
        parts.iter().map(|p| p["thoughtSignature"].as_str().map(str::to_owned)).collect()
    };
    let some = |text: &str| vec![Some(text.to_owned()), None];
    // In every spelling: standard base64, without its padding, with spare bits, of the URL alphabet, and none at all.
    for signature in ["c2lnbmF0dXJlLTQ3MTE=", "c2lnbmF0dXJlLTQ3MTE", "c2lnbmF0dXJlLTQ3MTF=", "AB_-", "SIGNATURE_REDACTED_1"] {
        assert_eq!(signatures(MODEL, &history(&sealed(signature), Value::Null)), some(signature));
    }
    assert_eq!(signatures(MODEL, &history("x", json!({"google": {"thought_signature": "YWJj"}}))), some("YWJj"));
    assert_eq!(signatures(MODEL, &history("x", json!({"other": 1}))), vec![None, None]);
    assert_eq!(signatures("gemini-3-flash", &history(&foreign, Value::Null)), some("skip_thought_signature_validator"));
}

#[test]
fn metadata_becomes_labels_only_where_it_may() {
    let body = |value: &str| ask(json!({"metadata": {"team": value}, "user": "u1"}));
    let out = encode(VERTEX, MODEL, &body("search")).unwrap();
    assert_eq!(testing::body(&out)["labels"], json!({"team": "search"}));
    assert_eq!(out.dropped, ["user"]);
    for (kind, value) in [(VERTEX, "Not A Label"), (STUDIO, "search")] {
        assert_eq!(encode(kind, MODEL, &body(value)).unwrap().dropped, ["user", "metadata"]);
    }
    let strict = Params { reject_unsupported: true, ..Params::default() };
    let error = encode_with(STUDIO, MODEL, &ask(json!({"metadata": {"a": "b"}})), &strict, None).err().unwrap();
    assert_eq!(error.param.as_deref(), Some("metadata"));
}

#[test]
fn a_big_picture_is_copied_once() {
    let data = "A".repeat(5 << 20);
    let url = format!("data:image/png;base64,{data}");
    let body = ask(json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}));
    let out = encode(STUDIO, MODEL, &body).unwrap();
    assert!(out.body.len() < data.len() + 512);
    assert_eq!(testing::body(&out)["contents"][0]["parts"][0]["inlineData"]["data"], *data);
}

#[test]
fn models_have_publishers_and_paths_are_escaped() {
    assert_eq!(Publisher::of("gemini-2.5-flash"), Publisher::Google);
    assert_eq!(Publisher::of("google/gemma"), Publisher::Google);
    assert_eq!(Publisher::of("anthropic/claude-sonnet-4-5"), Publisher::Anthropic);
    assert_eq!(Publisher::of("meta/llama-4"), Publisher::Other);
    let out = encode(STUDIO, "a/../b:x?y", &ask(json!({}))).unwrap();
    assert_eq!(out.path, "/v1beta/models/a%2F..%2Fb%3Ax%3Fy:generateContent");
}

#[test]
fn other_publishers_speak_openai_under_googles_path() {
    let body = ask(json!({"temperature": 0.5, "stream": true}));
    let (parsed, params) = (Parsed::parse(body.to_string().into()).unwrap(), Params::default());
    let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "meta/llama-4", seal: None };
    let out = vertex().encode(&request).unwrap();
    assert_eq!(out.path, "/v1/projects/my-project/locations/us-central1/endpoints/openapi/chat/completions");
    assert_eq!(testing::body(&out)["model"], "meta/llama-4");
    let google = ChatRequest { model: "google/gemini-2.5-flash", ..request };
    assert!(vertex().encode(&google).unwrap().path.ends_with("/gemini-2.5-flash:streamGenerateContent?alt=sse"));
}

#[test]
fn schemas_have_only_the_keywords_that_gemini_takes() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "object", "propertyNames": {"pattern": "^x"}}, "k": {"const": "a"},
        "u": {"oneOf": [{"type": "string", "pattern": "a"}, {"$ref": "#/$defs/d", "description": "D"}]}}, "$defs": {"d": {"type": "null"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let body = json!({"model": "r", "messages": [{"role": "user", "content": "Hi"}], "response_format": format,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"anyOf": [schema]}}}]});
    for kind in [STUDIO, VERTEX] {
        let out = encode(kind, "gemini-3-flash-preview", &body).unwrap();
        let sent = testing::body(&out);
        let output = &sent["generationConfig"]["responseJsonSchema"]["properties"];
        assert_eq!(output["n"], json!({"type": "object", "description": r#"{propertyNames: {"pattern":"^x"}}"#}));
        assert_eq!(output["k"], json!({"enum": ["a"]}));
        let branches =
            json!([{"type": "string", "description": r#"{pattern: "a"}"#}, {"anyOf": [{"$ref": "#/$defs/d"}], "description": "D"}]);
        assert_eq!(output["u"], json!({"anyOf": branches}));
        let tool = &sent["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"];
        assert!(tool.get("anyOf").is_none() && tool["properties"]["u"]["anyOf"][0]["pattern"] == "a", "{tool}");
        assert_eq!(out.adjusted, ["tools", "response_format"]);
        let strict = Params { reject_unsupported: true, ..Params::default() };
        let no = encode_with(kind, "gemini-3-flash-preview", &body, &strict, None).err().unwrap();
        assert_eq!(no.param.as_deref(), Some("tools"));
    }
}

#[test]
fn bytes_are_what_they_are() {
    let jpeg = "/9j/4AAQSkZJRgABAQEAYABgAAD/2wBD";
    let part =
        |url: &str| json!({"model": "r", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]});
    for (url, media_type) in
        [(format!("data:image/png;base64,{jpeg}"), "image/jpeg"), (format!("data:;base64,{}\n{}", &jpeg[..8], &jpeg[8..]), "image/jpeg")]
    {
        let blob = &sent(STUDIO, "gemini-2.5-flash", &part(&url))["contents"][0]["parts"][0]["inlineData"];
        assert_eq!((&blob["mimeType"], &blob["data"]), (&json!(media_type), &json!(jpeg)));
    }
    let no = encode(VERTEX, "gemini-2.5-flash", &part("data:image/png;base64,a!")).err().unwrap();
    assert_eq!((no.status, no.param.as_deref()), (400, Some("messages[0].content[0]")));
}

#[test]
fn an_answer_goes_back_with_its_images_and_geminis_ids() {
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
    let body = json!({"model": "r", "messages": [{"role": "user", "content": "Hi"},
        {"role": "assistant", "images": [image], "tool_calls": [call("96c1su3s"), call("call_abc"), call("toolu_01A")]},
        {"role": "tool", "tool_call_id": "96c1su3s", "content": "1"}, {"role": "tool", "tool_call_id": "call_abc", "content": "2"},
        {"role": "tool", "tool_call_id": "toolu_01A", "content": "3"}, {"role": "assistant", "content": "ok"}, {"role": "system", "content": "s"}]});
    let contents = sent(STUDIO, "gemini-2.5-flash-image", &body)["contents"].clone();
    assert_eq!(contents[1]["parts"][0]["inlineData"], json!({"mimeType": "image/png", "data": "iVBORw0KGgo="}));
    let ids = |at: usize, skip: usize, kind: &str| -> Vec<Value> {
        contents[at]["parts"].as_array().unwrap().iter().skip(skip).map(|part| part[kind]["id"].clone()).collect()
    };
    assert_eq!(ids(1, 1, "functionCall"), [json!("96c1su3s"), Value::Null, Value::Null]);
    assert_eq!(ids(2, 0, "functionResponse"), [json!("96c1su3s"), Value::Null, Value::Null]);
    assert_eq!(contents[4], json!({"role": "user", "parts": [{"text": " "}]}), "{contents}");
}

#[test]
fn a_thinking_budget_is_at_most_the_models() {
    use crate::llm::messages::{Headers, MessagesRequest};
    for (model, asked, sent) in [
        ("gemini-2.5-flash", 40_000, 24_576),
        ("gemini-2.5-flash", 24_576, 24_576),
        ("gemini-2.5-pro", 30_000, 30_000),
        ("gemini-2.5-pro", 40_000, 32_768),
    ] {
        let body = json!({"model": "r", "max_tokens": 50_000, "thinking": {"type": "enabled", "budget_tokens": asked},
            "messages": [{"role": "user", "content": "Hi"}]});
        let parsed = crate::front::messages::parse(body.to_string().into(), false).unwrap();
        let params = Params::default();
        let base = ChatRequest { parsed: &parsed, params: &params, system: None, model, seal: None };
        let out = Gemini.encode(&MessagesRequest { base, headers: &Headers::default() }).unwrap();
        let body = testing::body(&out);
        assert_eq!(body["generationConfig"]["thinkingConfig"]["thinkingBudget"], sent, "{model}");
        assert_eq!(out.adjusted.is_empty(), asked == sent, "{model}");
    }
}
