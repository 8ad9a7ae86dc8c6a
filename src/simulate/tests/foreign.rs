//! The dialects that are not OpenAI's: what they refuse, in which shape, and how scripts play in them.

use super::{Answer, finish, start};
use crate::frame::{Frame, Framer, Framing};
use crate::simulate::Handle;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const ANTHROPIC: &str = "/anthropic/v1/messages";
const GEMINI: &str = "/google_ai_studio/v1beta/models/gemini-3-flash";
const VERTEX: &str = "/vertex/v1/projects/p/locations/l";
const BEDROCK: &str = "/bedrock/model/us.amazon.nova-lite-v1%3A0";
const MISTRAL: &str = "/mistral/v1/chat/completions";

/// Good credentials and versions for a path.
fn credentials(path: &str) -> &'static str {
    match path.split('/').nth(1).unwrap() {
        "anthropic" => "x-api-key: sk-ant-1\r\nanthropic-version: 2023-06-01\r\n",
        "google_ai_studio" => "x-goog-api-key: AIza1\r\n",
        "vertex" => "authorization: Bearer ya29.demo\r\n",
        "bedrock" => "authorization: Bearer ABSK1\r\n",
        "mistral" => "authorization: Bearer sk-1\r\n",
        other => panic!("{other}"),
    }
}

async fn send(sim: &Handle, path: &str, headers: &str, body: &Value) -> Option<Answer> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(sim.local_addr()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    finish(stream).await
}

async fn ask(sim: &Handle, path: &str, body: &Value) -> Answer {
    send(sim, path, credentials(path), body).await.unwrap()
}

fn messages(content: Value) -> Value {
    json!({ "model": "claude-sonnet-4-5", "max_tokens": 100, "messages": [{ "role": "user", "content": content }] })
}

fn contents(text: &str) -> Value {
    json!({ "contents": [{ "role": "user", "parts": [{ "text": text }] }] })
}

fn converse(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": [{ "text": text }] }] })
}

fn mistral(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }] })
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn what_each_refuses() {
    let sim = start().await;
    let tool = |schema: Value| json!([{ "name": "f", "input_schema": schema }]);
    let called = json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": "t1", "name": "f", "input": {} }] });
    let said = |role: &str, text: &str| json!({ "role": role, "content": text });
    let result = json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "content": "18" }] });
    let thinking = json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 }, "max_tokens": 2000 });
    for more in [
        json!({ "max_tokens": null }),
        json!({ "guided_json": {} }),
        json!({ "temperature": 1.5 }),
        json!({ "temperature": 0.5, "top_p": 0.5 }),
        json!({ "stop_sequences": [" "] }),
        json!({ "system": "" , "messages": [] }),
        json!({ "messages": [said("system", "x")] }),
        json!({ "messages": [said("user", " ")] }),
        json!({ "tools": tool(json!({})) }),
        json!({ "tool_choice": { "type": "any" } }),
        json!({ "tools": tool(json!({ "type": "object" })), "tool_choice": { "type": "tool", "name": "g" } }),
        json!({ "messages": [said("user", "x"), called, said("user", "y")] }),
        json!({ "messages": [said("user", "x"), result] }),
        json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 } }),
        with(thinking.clone(), json!({ "messages": [said("user", "x"), called, result] })),
        json!({ "output_config": { "format": { "type": "json_schema", "schema": { "type": "object" } } } }),
        json!({ "model": "m+hnag" }),
    ] {
        let answer = ask(&sim, ANTHROPIC, &with(messages(json!("Hello")), more.clone())).await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (400, &json!("invalid_request_error")), "{more} {}", answer.body);
    }
    assert_eq!(
        ask(&sim, ANTHROPIC, &with(messages(json!("x")), json!({ "messages": [said("user", "x"), called, result] }))).await.status,
        200
    );
    for more in [
        json!({ "contents": [] }),
        json!({ "messages": [] }),
        json!({ "labels": { "a": "b" } }),
        json!({ "contents": [{ "role": "assistant", "parts": [{ "text": "x" }] }] }),
        json!({ "contents": [{ "role": "model", "parts": [{ "text": "x" }] }] }),
        json!({ "contents": [{ "role": "user", "parts": [{ "text": "x", "inlineData": { "mimeType": "image/png", "data": "AAAA" } }] }] }),
        json!({ "generationConfig": { "temperature": 2.5 } }),
        json!({ "generationConfig": { "responseJsonSchema": {} } }),
        json!({ "generationConfig": { "thinkingConfig": { "thinkingBudget": 1, "thinkingLevel": "LOW" } } }),
        json!({ "tools": [{ "functionDeclarations": [{ "name": "f", "parameters": { "additionalProperties": false } }] }] }),
        json!({ "toolConfig": { "functionCallingConfig": { "mode": "REQUIRED" } } }),
    ] {
        let answer = ask(&sim, &format!("{GEMINI}:generateContent"), &with(contents("Hello"), more.clone())).await;
        assert_eq!((answer.status, &answer.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{more} {}", answer.body);
    }
    for more in [
        json!({ "messages": [] }),
        json!({ "model": "m" }),
        json!({ "inferenceConfig": { "temperature": 1.5 } }),
        json!({ "toolConfig": { "tools": [] } }),
        json!({ "messages": [{ "role": "user", "content": [{ "text": " " }] }] }),
        json!({ "messages": [{ "role": "assistant", "content": [{ "text": "x" }] }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "text": "x", "toolUse": {} }] }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "document": { "format": "pdf", "name": "d", "source": { "bytes": "AAAA" } } }] }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "toolResult": { "toolUseId": "t", "content": [] } }] }] }),
    ] {
        let answer = ask(&sim, &format!("{BEDROCK}/converse"), &with(converse("Hello"), more.clone())).await;
        assert_eq!(
            (answer.status, answer.head.contains("x-amzn-errortype: validationexception:http")),
            (400, true),
            "{more} {}",
            answer.head
        );
    }
    let unknown = ask(&sim, MISTRAL, &with(mistral("m"), json!({ "seed": 1 }))).await;
    assert_eq!((unknown.status, &unknown.json()["detail"][0]["loc"]), (422, &json!(["body", "seed"])));
    let call = json!({ "id": "call_123", "function": { "name": "f", "arguments": "{}" } });
    for messages in [
        json!([{ "role": "user", "content": "x" }, { "role": "assistant", "tool_calls": [call] }, { "role": "tool", "tool_call_id": "call_123", "content": "" }]),
        json!([{ "role": "assistant", "content": "x" }]),
        json!([{ "role": "assistant", "content": "" }, { "role": "user", "content": "x" }]),
    ] {
        let answer = ask(&sim, MISTRAL, &with(mistral("m"), json!({ "messages": messages }))).await;
        assert_eq!((answer.status, &answer.json()["raw_status_code"]), (400, &json!(400)), "{messages}");
    }
}

#[tokio::test]
async fn gemini_reads_names_in_both_spellings() {
    let sim = start().await;
    let schema = json!({ "type": "OBJECT", "properties": { "my_key": { "type": "STRING", "max_length": 2 } }, "required": ["my_key"] });
    let config = json!({ "response_mime_type": "application/json", "response_schema": schema });
    let body = with(contents("x"), json!({ "generation_config": config }));
    let answer = ask(&sim, &format!("{GEMINI}:generateContent"), &body).await.json();
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], r#"{"my_key":"my"}"#);
}

#[tokio::test]
async fn credentials_and_the_shapes_of_errors() {
    let sim = start().await;
    let refused = async |path: &str, headers: &str, body: Value| {
        let answer = send(&sim, path, headers, &body).await.unwrap();
        (answer.status, answer.json(), answer.head)
    };
    let (status, body, head) = refused(ANTHROPIC, "", messages(json!("x"))).await;
    assert_eq!((status, &body["error"]["type"], head.contains("request-id: ")), (401, &json!("authentication_error"), true));
    assert_eq!(refused(ANTHROPIC, "x-api-key: sk-1\r\n", messages(json!("x"))).await.0, 400, "no version");
    let (status, body, _) = refused(&format!("{GEMINI}:generateContent"), "", contents("x")).await;
    assert_eq!((status, &body["error"]["details"][0]["reason"]), (400, &json!("API_KEY_INVALID")));
    let path = format!("{VERTEX}/publishers/google/models/gemini-3:generateContent");
    assert_eq!(refused(&path, "", contents("x")).await.1["error"]["status"], "UNAUTHENTICATED");
    let (status, _, head) = refused(&format!("{BEDROCK}/converse"), "", converse("x")).await;
    assert!(status == 403 && head.contains("missingauthenticationtokenexception"));
    let (status, _, head) = refused("/sagemaker/endpoints/e/invocations", "authorization: Bearer ABSK1\r\n", mistral("m")).await;
    assert!(status == 403 && head.contains("incompletesignatureexception"), "SageMaker has no keys of its own");
    assert_eq!(refused(MISTRAL, "", mistral("m")).await.1["detail"], "Invalid API Key");

    let overloaded = ask(&sim, ANTHROPIC, &with(messages(json!("x")), json!({ "model": "m+status=529+retry-after=3" }))).await;
    assert_eq!((overloaded.status, &overloaded.json()["error"]["type"]), (529, &json!("overloaded_error")));
    assert!(overloaded.head.contains("retry-after: 3"));
    let limited = ask(&sim, "/google_ai_studio/v1beta/models/g+status=429+retry-after=3:generateContent", &contents("x")).await;
    assert_eq!((limited.status, &limited.json()["error"]["details"][0]["retryDelay"]), (429, &json!("3s")));
    assert!(!limited.head.contains("retry-after"), "Google says it in the body");
    let throttled = ask(&sim, "/bedrock/model/m%2Bstatus%3D429/converse", &converse("x")).await;
    assert!(throttled.status == 429 && throttled.head.contains("throttlingexception"));
}

#[tokio::test]
async fn claude_on_vertex_and_tokens() {
    let sim = start().await;
    let path = format!("{VERTEX}/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict");
    let mut body = messages(json!("Hello"));
    assert_eq!(ask(&sim, &path, &body).await.status, 400, "the model is in the path");
    body.as_object_mut().unwrap().remove("model");
    assert_eq!(ask(&sim, &path, &body).await.status, 400, "the version is in the body");
    body["anthropic_version"] = json!("vertex-2023-10-16");
    assert_eq!(ask(&sim, &path, &body).await.json()["content"][0]["text"], "Hello from claude-sonnet-4-5@20250929! You said: Hello");
    assert_eq!(ask(&sim, &path, &with(body.clone(), json!({ "stream": true }))).await.status, 400, "that is another method");

    let mut stream = TcpStream::connect(sim.local_addr()).await.unwrap();
    let form = "grant_type=refresh_token&refresh_token=r&client_id=c&client_secret=s";
    let head = format!("POST /vertex/token HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", form.len());
    stream.write_all((head + form).as_bytes()).await.unwrap();
    let token = finish(stream).await.unwrap().json()["access_token"].as_str().unwrap().to_owned();
    let answer = send(&sim, &path, &format!("authorization: Bearer {token}\r\n"), &body).await.unwrap();
    assert_eq!(answer.status, 200);
}

/// The bytes of a chunked answer: they are no text.
async fn raw(sim: &Handle, path: &str, body: &Value) -> Vec<String> {
    use http_body_util::{BodyExt, Full};
    let stream = TcpStream::connect(sim.local_addr()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(path).header("host", "sim").header("content-type", "application/json");
    let request = request.header("authorization", "Bearer ABSK1").body(Full::new(bytes::Bytes::from(body.to_string()))).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let (mut framer, mut seen) = (Framer::new(Framing::AwsEventStream), Vec::new());
    let mut each = |frame: Frame<'_>| {
        if let Frame::Aws { kind, payload, .. } = frame {
            seen.push(format!("{kind} {}", String::from_utf8_lossy(payload)));
        }
        Ok(())
    };
    framer.push(&bytes, &mut each).unwrap();
    framer.finish(&mut each).unwrap();
    seen
}

#[tokio::test]
async fn troubles_keep_the_framing_of_an_event_stream() {
    let sim = start().await;
    let get = async |script: &str| raw(&sim, &format!("/bedrock/model/m{script}/converse-stream"), &converse("Hello")).await;
    let plain = get("").await;
    assert!(plain[0].starts_with("messageStart") && plain.last().unwrap().starts_with("metadata"), "{plain:?}");
    let error = get("%2Berror-after%3D2").await;
    assert!(error.len() == 3 && error[2].starts_with("internalServerException {\"message\""), "{error:?}");
    assert!(get("%2Bjson%3Dgarbage").await[0].starts_with("contentBlockDelta {\"choices"));
    assert_eq!(get("%2Bslice%3D5").await.len(), plain.len());
}

#[tokio::test]
async fn scripts_play_in_every_dialect() {
    let sim = start().await;
    let stream = json!({ "stream": true });
    for (path, body) in [
        (ANTHROPIC.to_owned(), with(messages(json!("x")), json!({ "model": "m+once", "stream": true }))),
        ("/google_ai_studio/v1beta/models/m+once:streamGenerateContent?alt=sse".to_owned(), contents("x")),
        (format!("{VERTEX}/publishers/google/models/m%2Bonce:streamGenerateContent?alt=sse"), contents("x")),
        ("/bedrock/model/m%2Bonce/converse".to_owned(), converse("x")),
        (MISTRAL.to_owned(), with(mistral("m+once"), stream)),
    ] {
        assert_eq!((ask(&sim, &path, &body).await.status, ask(&sim, &path, &body).await.status), (503, 200), "{path}");
    }
    let cut = ask(&sim, "/google_ai_studio/v1beta/models/m+cut-after=2:streamGenerateContent?alt=sse", &contents("x")).await;
    assert_eq!((cut.body.matches("\r\n\r\n").count(), cut.whole), (2, false));
    let stalled = ask(&sim, ANTHROPIC, &with(messages(json!("x")), json!({ "model": "m+error-after=1", "stream": true }))).await;
    assert!(stalled.body.contains("event: error\ndata: {\"error\":{\"message\""), "{}", stalled.body);
}

#[tokio::test]
async fn mistrals_and_googles_embeddings_have_forms_of_their_own() {
    let sim = start().await;
    let own = json!({ "model": "mistral-embed", "input": ["one", "two two"], "output_dimension": 3 });
    let answer = ask(&sim, "/mistral/v1/embeddings", &own).await.json();
    assert_eq!((answer["data"].as_array().map(Vec::len), answer["data"][0]["embedding"].as_array().map(Vec::len)), (Some(2), Some(3)));
    assert_eq!(ask(&sim, "/mistral/v1/embeddings", &json!({ "model": "m", "input": "one", "dimensions": 3 })).await.status, 422);
    let content = |text: &str| json!({ "parts": [{ "text": text }] });
    let vertex = "/vertex/v1/projects/p/locations/l/publishers/google/models";
    let predict = json!({ "instances": [{ "content": "one" }, { "content": "two" }], "parameters": { "outputDimensionality": 5 } });
    let answer = ask(&sim, &format!("{vertex}/text-embedding-005:predict"), &predict).await.json();
    assert_eq!(answer["predictions"][1]["embeddings"]["values"].as_array().map(Vec::len), Some(5));
    let one = json!({ "content": content("one"), "embedContentConfig": { "outputDimensionality": 6 } });
    let answer = ask(&sim, &format!("{vertex}/gemini-embedding-2:embedContent"), &one).await.json();
    assert_eq!(answer["embedding"]["values"].as_array().map(Vec::len), Some(6));
    let wrong = json!({ "content": content("one"), "outputDimensionality": 6 });
    assert_eq!(ask(&sim, &format!("{vertex}/gemini-embedding-2:embedContent"), &wrong).await.status, 400);
    let studio = "/google_ai_studio/v1beta/models/gemini-embedding-001:batchEmbedContents";
    let list = |model: &str| json!({ "requests": [{ "model": model, "content": content("one"), "outputDimensionality": 7 }] });
    let answer = ask(&sim, studio, &list("models/gemini-embedding-001")).await.json();
    assert_eq!(answer["embeddings"][0]["values"].as_array().map(Vec::len), Some(7));
    assert_eq!(ask(&sim, studio, &list("models/other")).await.status, 400);
}
