//! The endpoints whose requests and answers pass as they are: each of them whole and streamed, forms, files, fail-over, prices,
//! limits, what is refused, and how an answer ends that breaks off.

use crate::harness::gateway::Gateway;
use crate::harness::http1::{Answer, request};
use crate::harness::manual::Manual;
use crate::harness::sim::Sim;
use crate::harness::{config, soon};
use serde_json::{Value, json};
use tidegate::simulate::SeenBody;

/// A request whose content type is told.
fn typed(path: &str, headers: &[(&str, &str)], content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut all = headers.to_vec();
    let length = body.len().to_string();
    all.extend([("content-type", content_type), ("content-length", length.as_str())]);
    [request("POST", path, &all, None), body.to_vec()].concat()
}

const BOUNDARY: &str = "----WebKitFormBoundaryx7";

/// A field of a form, or a file where it has a name.
struct Field<'a>(&'a str, Option<&'a str>, &'a [u8]);

fn form(fields: &[Field<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for Field(name, file, content) in fields {
        let file = file.map(|file| format!("; filename=\"{file}\"\r\nContent-Type: application/octet-stream")).unwrap_or_default();
        body.extend_from_slice(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

async fn upload(gateway: &Gateway, path: &str, body: &[u8]) -> Answer {
    gateway.send(&typed(path, &[], &format!("multipart/form-data; boundary={BOUNDARY}"), body)).await
}

/// Bytes of every kind, with beginnings of the boundary among them.
fn sound() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=255u8).cycle().take(700).collect();
    bytes.extend_from_slice(format!("\r\n--{}\r\n\r\n-{BOUNDARY}--\r\nx--{BOUNDARY}\r\n--\r\n", &BOUNDARY[..20]).as_bytes());
    bytes
}

/// One route for each model at OpenAI, and `rerank` at vLLM.
async fn gateway(sim: &Sim, more: &str) -> Gateway {
    let address = sim.address();
    let models = ["gpt-3.5-turbo-instruct", "omni-moderation-latest", "gpt-image-1", "dall-e-2", "tts-1", "whisper-1", "gpt-4o-transcribe"];
    let routes: String = models.map(|model| format!("  {model}: {{ targets: [ {{ provider: openai, model: {model} }} ] }}\n")).concat();
    let config = format!(
        "auth: none\nproviders:\n  openai: {{ kind: openai, base_url: \"http://{address}/openai/v1\", api_key: sk-x }}\n  \
         vllm: {{ kind: vllm, base_url: \"http://{address}/vllm/v1\" }}\n  claude: {{ kind: anthropic, base_url: \
         \"http://{address}/anthropic\", api_key: sk-ant-x }}\nroutes:\n{routes}  rerank: {{ targets: [ {{ provider: vllm, model: bge }} ] }}\n  \
         \"s/*\": {{ targets: [ {{ provider: openai, model: \"*\" }} ], retry: {{ attempts: 1 }} }}\n{more}"
    );
    Gateway::start(&config).await
}

/// The last request that arrived, byte for byte.
fn arrived(sim: &Sim) -> (String, Vec<u8>) {
    let seen = sim.seen();
    let last = seen.last().unwrap();
    let SeenBody::Whole(body) = &last.body else { panic!("too large") };
    (last.path.clone(), body.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_endpoint_gets_the_clients_bytes_and_the_client_the_providers() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim, "  up: { targets: [ { provider: openai, model: gpt-image-1 } ] }\n").await;
    let file = sound();
    for (path, model, rest, part) in [
        ("/v1/completions", "gpt-3.5-turbo-instruct", r#""prompt" :"hello there","temperature":1.0e0"#, "You said: hello there"),
        ("/v1/moderations", "omni-moderation-latest", r#""input":["a", "kill"]"#, "\"flagged\":true"),
        ("/v1/images/generations", "gpt-image-1", r#""prompt":"\u00fc","n":2"#, "\"b64_json\""),
        ("/v1/images/generations", "dall-e-2", r#""prompt":"x","response_format":"url""#, "https://images.example/"),
        ("/v1/rerank", "rerank", r#""query":"q","documents":["a","b"],"top_n":1"#, "\"relevance_score\":1.0"),
    ] {
        let body = format!("{{ {rest} ,\"model\" : \"{model}\" }}");
        let answer = gateway.send(&typed(path, &[], "application/json", body.as_bytes())).await;
        assert_eq!((answer.status(), answer.header("content-type")), (200, "application/json"), "{}", answer.text());
        assert!(answer.text().contains(part), "{path}: {}", answer.text());
        let sent = if model == "rerank" { body.replace("\"rerank\"", "\"bge\"") } else { body };
        let (at, got) = arrived(&sim);
        assert!(at.ends_with(path), "{at}");
        assert_eq!(String::from_utf8(got).unwrap(), sent);
        let name = path.trim_start_matches("/v1/").replace('/', "_");
        let line = gateway.output.line(answer.header("x-request-id")).await;
        assert!(line.contains(&format!("\"endpoint\":\"{name}\"")) && line.contains("\"ended_by\":\"complete\""), "{line}");
    }
    for (path, model, fields, part) in [
        ("/v1/audio/transcriptions", "whisper-1", &[Field("language", None, b"en")][..], "I heard"),
        ("/v1/audio/transcriptions", "gpt-4o-transcribe", &[Field("response_format", None, b"text")], "I heard"),
        ("/v1/audio/translations", "whisper-1", &[Field("response_format", None, b"verbose_json")], "\"task\":\"translate\""),
        ("/v1/images/edits", "gpt-image-1", &[Field("prompt", None, b"p"), Field("image", Some("i"), b"I")], "\"b64_json\""),
        ("/v1/images/variations", "dall-e-2", &[Field("image", Some("i"), b"I"), Field("n", None, b"2")], "\"b64_json\""),
    ] {
        // Wherever the model stands.
        for at in 0..=2 {
            let file = Field("file", Some("a;name=\u{fc}.wav"), &file);
            let mut all: Vec<Field<'_>> = fields.iter().map(|Field(name, file, content)| Field(name, *file, content)).collect();
            if path.contains("audio") {
                all.insert(1.min(at), file);
            }
            let at = at.min(all.len());
            all.insert(at, Field("model", None, model.as_bytes()));
            let body = form(&all);
            let answer = upload(&gateway, path, &body).await;
            assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
            assert!(answer.text().contains(part), "{path}: {}", answer.text());
            assert_eq!(arrived(&sim).1, body, "the model is called the same");
            if model == "gpt-image-1" {
                let at = at.min(all.len() - 1);
                all[at] = Field("model", None, b"up");
                assert_eq!(upload(&gateway, path, &form(&all)).await.status(), 200);
                assert_eq!(arrived(&sim).1, body, "only the model is another one");
            }
        }
    }
    let seen = sim.seen();
    let last = seen.iter().rev().find(|seen| seen.path.ends_with("/edits")).unwrap();
    assert_eq!(last.headers["content-type"], format!("multipart/form-data; boundary={BOUNDARY}"));
    assert_eq!(last.headers["content-length"].to_str().unwrap(), last.body.length().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audio_passes_byte_for_byte() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim, "").await;
    for (size, format, kind) in [(1_000, "mp3", "audio/mpeg"), (3 << 20, "wav", "audio/wav")] {
        let body = json!({"model": format!("s/tts-1+bytes={size}"), "input": "x", "voice": "alloy", "response_format": format});
        let direct = json!({"model": format!("tts-1+bytes={size}"), "input": "x", "voice": "alloy", "response_format": format}).to_string();
        let mut conn = crate::harness::http1::Conn::connect(sim.address()).await;
        let key = [("authorization", "Bearer sk-x")];
        conn.send(&typed("/openai/v1/audio/speech", &key, "application/json", direct.as_bytes())).await.unwrap();
        let expected = conn.answer().await.unwrap();
        // The simulator's bytes are made of the request's, which are the same.
        let answer = gateway.send(&typed("/v1/audio/speech", &[], "application/json", direct.replace("tts-1", "s/tts-1").as_bytes())).await;
        assert_eq!((answer.status(), answer.header("content-type")), (200, kind), "{body}");
        assert_eq!(answer.header("content-length"), size.to_string());
        assert!(answer.body == expected.body && answer.body.len() == size, "the sound is another one");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_event_by_event_and_are_metered() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim, "").await;
    let file = sound();
    let transcription = [Field("model", None, b"gpt-4o-transcribe"), Field("stream", None, b"true"), Field("file", Some("a.wav"), &file)];
    let edit = [
        Field("image", Some("i"), b"I"),
        Field("prompt", None, b"p"),
        Field("model", None, b"gpt-image-1"),
        Field("stream", None, b"true"),
    ];
    let json = |path: &'static str, body: Value| (path, "application/json".to_owned(), body.to_string().into_bytes());
    let multipart =
        |path: &'static str, fields: &[Field<'_>]| (path, format!("multipart/form-data; boundary=\"{BOUNDARY}\""), form(fields));
    for ((path, kind, body), first, last) in [
        (
            json(
                "/v1/completions",
                json!({"model": "gpt-3.5-turbo-instruct", "prompt": "hi", "stream": true, "stream_options": {"include_usage": true}}),
            ),
            "data: {",
            "data: [DONE]\n\n",
        ),
        (
            json("/v1/images/generations", json!({"model": "gpt-image-1", "prompt": "x", "stream": true, "partial_images": 2})),
            "event: image_generation.partial_image\n",
            "}\n\n",
        ),
        (multipart("/v1/images/edits", &edit), "event: image_edit.completed\n", "}\n\n"),
        (json("/v1/audio/speech", json!({"model": "tts-1", "voice": "alloy", "input": "x", "stream_format": "sse"})), "data: {", "}\n\n"),
        (multipart("/v1/audio/transcriptions", &transcription), "data: {", "}\n\n"),
    ] {
        let answer = gateway.send(&typed(path, &[], &kind, &body)).await;
        let text = answer.text();
        assert_eq!(answer.status(), 200, "{path}: {text}");
        assert!(answer.header("content-type").starts_with("text/event-stream"), "{path}");
        assert!(text.starts_with(first) && text.ends_with(last), "{path}: {text}");
        let line = gateway.output.line(answer.header("x-request-id")).await;
        assert!(line.contains("\"stream\":true") && line.contains("\"tokens_estimated\":false"), "{line}");
        assert!(!line.contains("\"tokens_out\":0"), "{line}");
    }
    // OpenAI ignores the wish for a stream of this model's.
    let whisper = [Field("model", None, b"whisper-1"), Field("stream", None, b"true"), Field("file", Some("a.wav"), &file)];
    let answer = upload(&gateway, "/v1/audio/transcriptions", &form(&whisper)).await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, "application/json"), "{}", answer.text());
    let operation = |name: &str| format!("tidegate_requests_total{{operation=\"{name}\",provider=\"openai\"");
    let metrics = gateway.metrics().await;
    for name in ["completions", "images_generations", "images_edits", "audio_speech", "audio_transcriptions"] {
        assert!(metrics.contains(&operation(name)), "{name}: {metrics}");
    }
    let attempts = "tidegate_upstream_attempts_total{operation=\"audio_transcriptions\",outcome=\"success\",provider=\"openai\"}";
    assert_eq!(gateway.metric(attempts).await, 2.0);
    let duration =
        "tidegate_request_duration_seconds_count{operation=\"images_edits\",provider=\"openai\",route=\"gpt-image-1\",stream=\"true\"}";
    assert_eq!(gateway.metric(duration).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_fails_is_replaced_with_the_whole_form() {
    let sim = Sim::start().await;
    let more = "  moved:\n    targets: [ { provider: openai, model: \"whisper-1+status=500\" } ]\n    fallback: [ { provider: vllm, model: \
                whisper-large } ]\n  one: { targets: [ { provider: claude, model: claude-x }, { provider: vllm, model: w, weight: 0 } ] }\n  \
                broken:\n    targets: [ { provider: openai, model: \"dall-e-2+json=garbage\" } ]\n    fallback: [ { provider: openai, model: \
                dall-e-2 } ]\n  early:\n    targets: [ { provider: openai, model: \"gpt-image-1+error-after=0\" } ]\n    fallback: [ { provider: \
                openai, model: gpt-image-1 } ]\n";
    let gateway = gateway(&sim, more).await;
    let mut file = sound();
    file.extend(std::iter::repeat_n(b'\n', 40_000));
    for model in ["moved", "one"] {
        let body = form(&[Field("file", Some("a.wav"), &file), Field("model", None, model.as_bytes()), Field("language", None, b"en")]);
        let answer = upload(&gateway, "/v1/audio/transcriptions", &body).await;
        assert_eq!((answer.status(), answer.header("x-tidegate-provider")), (200, "vllm"), "{}", answer.text());
        let upstream = if model == "moved" { "whisper-large" } else { "w" };
        let expected = String::from_utf8_lossy(&body).replace(&format!("\r\n\r\n{model}\r\n"), &format!("\r\n\r\n{upstream}\r\n"));
        assert_eq!(String::from_utf8_lossy(&arrived(&sim).1), expected);
        // A target without the endpoint is no attempt.
        assert_eq!(answer.header("x-tidegate-attempts"), if model == "moved" { "2" } else { "1" });
        let line = gateway.output.line(answer.header("x-request-id")).await;
        assert_eq!(line.contains("claude/claude-x (endpoint)"), model == "one", "{line}");
    }
    for body in [json!({"model": "broken", "prompt": "x"}), json!({"model": "early", "prompt": "x", "stream": true})] {
        let answer = gateway.post("/v1/images/generations", &[], &body).await;
        assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (200, "2"), "{}", answer.text());
        assert!(answer.text().contains("b64_json"), "{}", answer.text());
    }
    let refused = gateway.post("/v1/moderations", &[], &json!({"model": "s/m+status=429+retry-after=7", "input": "x"})).await;
    assert_eq!((refused.status(), refused.header("retry-after")), (429, "7"), "{}", refused.text());
    let blamed = gateway.post("/v1/audio/speech", &[], &json!({"model": "tts-1", "input": "x"})).await;
    assert_eq!((blamed.status(), &blamed.json()["error"]["param"]), (400, &json!("voice")), "{}", blamed.error());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_served_says_why() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim, "  claude: { targets: [ { provider: claude, model: c } ] }\nserver: { max_body: 4KiB }\n").await;
    let nobody = gateway.post("/v1/rerank", &[], &json!({"model": "claude", "query": "q", "documents": ["a"]})).await;
    assert_eq!((nobody.status(), &nobody.json()["error"]["param"]), (404, &json!("model")));
    assert_eq!(nobody.error(), "No provider of this model has /v1/rerank. These have it: `vllm`.");
    let unknown = gateway.post("/v1/rerank", &[], &json!({"model": "no-such", "query": "q", "documents": ["a"]})).await;
    assert_eq!(unknown.status(), 404);
    let method = gateway.get("/v1/audio/speech", &[]).await;
    assert_eq!((method.status(), method.header("allow")), (405, "POST"));
    assert_eq!(gateway.get("/v1/audio/nothing", &[]).await.status(), 404);
    let model = Field("model", None, b"whisper-1");
    let multipart = format!("multipart/form-data; boundary={BOUNDARY}");
    let transcriptions = "/v1/audio/transcriptions";
    let cut = form(&[model]);
    for (kind, body, status, param, part) in [
        ("application/json", &b"{\"model\":\"whisper-1\"}"[..], 400, Value::Null, "multipart"),
        ("audio/wav", b"x", 415, Value::Null, "must be multipart/form-data"),
        ("multipart/form-data", b"x", 400, Value::Null, "it has no `boundary`"),
        (multipart.as_str(), b"nothing", 400, Value::Null, "does not begin with its boundary"),
        (multipart.as_str(), &cut[..cut.len() - 8], 400, Value::Null, "cannot be read"),
        (multipart.as_str(), &form(&[Field("file", Some("model"), b"x")]), 400, json!("model"), "`model` is missing"),
        (multipart.as_str(), &form(&[Field("model", None, b"a"), Field("model", None, b"b")]), 400, json!("model"), "twice"),
        (multipart.as_str(), &form(&[Field("model", None, &[b'a'; 2000])]), 400, json!("model"), "longer than 1 KiB"),
        (multipart.as_str(), &form(&[Field("model", None, b"\xff")]), 400, json!("model"), "must be UTF-8"),
        (multipart.as_str(), &form(&[Field("model", None, b"whisper-1"), Field("file", Some("f"), &[0; 5000])]), 413, Value::Null, "4096"),
    ] {
        let answer = gateway.send(&typed(transcriptions, &[], kind, body)).await;
        assert_eq!((answer.status(), &answer.json()["error"]["param"]), (status, &param), "{}", answer.text());
        assert!(answer.error().to_lowercase().contains(&part.to_lowercase()), "{part}: {}", answer.error());
    }
    let json_only = gateway.send(&typed("/v1/completions", &[], &multipart, &form(&[Field("model", None, b"x")]))).await;
    assert_eq!(json_only.status(), 415, "{}", json_only.text());
    assert_eq!(gateway.post("/v1/completions", &[], &json!({"prompt": "x"})).await.json()["error"]["param"], "model");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_a_route_are_members_of_json_and_not_fields_of_a_form() {
    let sim = Sim::start().await;
    let more =
        "  small: { targets: [ { provider: openai, model: dall-e-2 } ], params: { defaults: { size: 256x256 }, overrides: { n: 1 } } }\n";
    let gateway = gateway(&sim, more).await;
    let answer = gateway.post("/v1/images/generations", &[], &json!({"model": "small", "prompt": "x", "n": 9})).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let sent: Value = serde_json::from_slice(&arrived(&sim).1).unwrap();
    assert_eq!(sent, json!({"model": "dall-e-2", "prompt": "x", "n": 1, "size": "256x256"}));
    let form = form(&[Field("model", None, b"small"), Field("image", Some("i"), b"I")]);
    let answer = upload(&gateway, "/v1/images/variations", &form).await;
    assert_eq!((answer.status(), answer.header("x-tidegate-dropped-params")), (200, "n,size"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_images_and_seconds_and_characters_have_a_price_and_a_limit() {
    let sim = Sim::start().await;
    let more = "  paid: { targets: [ { provider: openai, model: dall-e-2, price: { image: 0.02, request: 0.001 } } ], limits: [ { usd: 0.1, per: day } ] }\n  \
                heard: { targets: [ { provider: openai, model: whisper-1, price: { second: 0.0001 } } ] }\n  \
                spoken: { targets: [ { provider: openai, model: tts-1, price: { character: 0.000015 } } ] }\n  \
                once: { targets: [ { provider: openai, model: omni-moderation-latest } ], limits: [ { requests: 1, per: 1h } ] }\n";
    let gateway = gateway(&sim, more).await;
    let cost = async |answer: &Answer| {
        let line = gateway.output.line(answer.header("x-request-id")).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        line["cost_usd"].as_f64().unwrap_or_else(|| panic!("{line}"))
    };
    let image = |n: u32| json!({"model": "paid", "prompt": "x", "n": n});
    let two = gateway.post("/v1/images/generations", &[], &image(2)).await;
    assert_eq!(two.status(), 200, "{}", two.text());
    assert_eq!(cost(&two).await, 0.041);
    let four = gateway.post("/v1/images/generations", &[], &image(4)).await;
    assert_eq!((four.status(), cost(&four).await), (200, 0.081));
    let seen = sim.count();
    let spent = gateway.post("/v1/images/generations", &[], &image(1)).await;
    assert_eq!((spent.status(), sim.count()), (402, seen), "{}", spent.text());
    let form = form(&[Field("file", Some("a"), &[7; 160]), Field("model", None, b"heard")]);
    let heard = upload(&gateway, "/v1/audio/transcriptions", &form).await;
    assert_eq!((heard.status(), cost(&heard).await), (200, 0.001), "{}", heard.text());
    let spoken = gateway.post("/v1/audio/speech", &[], &json!({"model": "spoken", "input": "\u{fc}berall", "voice": "alloy"})).await;
    assert_eq!((spoken.status(), cost(&spoken).await), (200, 0.000105));
    let moderation = json!({"model": "once", "input": "x"});
    assert_eq!(gateway.post("/v1/moderations", &[], &moderation).await.status(), 200);
    let limited = gateway.post("/v1/moderations", &[], &moderation).await;
    assert_eq!((limited.status(), limited.header("x-ratelimit-limit-requests")), (429, "1"), "{}", limited.text());
}

/// A provider that is played by hand, under OpenAI's protocol.
async fn by_hand(manual: &Manual, more: &str) -> Gateway {
    let provider =
        format!("{{ kind: openai_compatible, base_url: \"http://{}/v1\", endpoints: [completions, audio_speech] }}", manual.address());
    Gateway::start(&config("", ("m", &provider), "r", &format!("retry: {{ attempts: 1 }}, {more}"))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "").await;
    // Audio cannot be ended by an event: its connection breaks, whatever its framing.
    let sound = "ID3".repeat(50_000); // a part of what has a length is buffered
    for head in ["content-length: 200000", "transfer-encoding: chunked"] {
        let mut conn = gateway.connect().await;
        let body = json!({"model": "r", "input": "x", "voice": "v"}).to_string();
        conn.send(&typed("/v1/audio/speech", &[], "application/json", body.as_bytes())).await.unwrap();
        let mut exchange = manual.accept().await;
        let piece = if head.starts_with('t') { format!("{:x}\r\n{sound}\r\n", sound.len()) } else { sound.clone() };
        exchange.write(format!("HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n{head}\r\n\r\n{piece}").as_bytes()).await;
        assert_eq!(conn.head().await.unwrap().status, 200);
        let mut got = conn.piece().await.unwrap().unwrap();
        drop(exchange);
        let end = soon("the end", async {
            loop {
                match conn.piece().await {
                    Ok(Some(piece)) => got.extend_from_slice(&piece),
                    end => return end,
                }
            }
        })
        .await;
        assert!(end.is_err(), "{head}: it looks whole");
        assert!(sound.as_bytes().starts_with(&got), "something is added to the sound");
    }
    // A stream of events ends in an error event behind the last whole one.
    let mut conn = gateway.connect().await;
    let body = json!({"model": "r", "prompt": "x", "stream": true}).to_string();
    conn.send(&typed("/v1/completions", &[], "application/json", body.as_bytes())).await.unwrap();
    let mut exchange = manual.accept().await;
    exchange.begin().await;
    exchange.event(r#"{"choices":[{"text":"a"}]}"#).await;
    exchange.write(b"7\r\ndata: {\r\n").await;
    exchange.close().await;
    let text = soon("the answer", conn.answer()).await.unwrap().text();
    let (first, error) = text.split_once("\n\n").unwrap();
    assert_eq!(first, r#"data: {"choices":[{"text":"a"}]}"#);
    assert!(error.starts_with("data: {\"error\":") && error.contains("upstream_error") && error.ends_with("\n\n"), "{text}");
    let line = gateway.output.line("\"ended_by\":\"upstream\"").await;
    assert!(line.contains("\"endpoint\":\"audio_speech\""), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_gets_heartbeats_between_whole_events() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "keep_alive: 100ms").await;
    let body = json!({"model": "r", "prompt": "x", "stream": true}).to_string();
    let mut conn = gateway.connect().await;
    conn.send(&typed("/v1/completions", &[], "application/json", body.as_bytes())).await.unwrap();
    let mut exchange = manual.accept().await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    assert_eq!(soon("a heartbeat", conn.piece()).await.unwrap().unwrap(), b": keep-alive\n\n");
    exchange.begin().await;
    exchange.write(b"8\r\ndata: {\"\r\n").await; // a heartbeat must not fall into it
    assert_eq!(soon("a heartbeat", conn.piece()).await.unwrap().unwrap(), b": keep-alive\n\n");
    exchange.write(b"8\r\na\":1}\n\nd\r\n").await;
    exchange.write(b"b\r\nata: [DONE]\r\n4\r\n\n\n\n\n\r\n0\r\n\r\n").await;
    let mut text = String::new();
    while let Some(piece) = soon("the answer", conn.piece()).await.unwrap() {
        text += std::str::from_utf8(&piece).unwrap();
    }
    assert_eq!(text.replace(": keep-alive\n\n", ""), "data: {\"a\":1}\n\ndata: [DONE]\n\n");
    // Under the head of a stream, what is no stream is an error event.
    let mut conn = gateway.connect().await;
    conn.send(&typed("/v1/completions", &[], "application/json", body.as_bytes())).await.unwrap();
    exchange.again().await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    exchange.json("200 OK", "{}").await;
    let mut text = String::new();
    while let Some(piece) = soon("the answer", conn.piece()).await.unwrap() {
        text += std::str::from_utf8(&piece).unwrap();
    }
    let error = text.replace(": keep-alive\n\n", "");
    assert!(error.starts_with("data: {\"error\":") && error.contains("is no stream"), "{text}");
}
