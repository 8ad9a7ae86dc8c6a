//! Secrets stay inside: servers that quote them in every form, on every path that ends in an error; and the tokens that
//! are made from them are fetched once, whatever is reloaded.

use crate::harness::dir::Dir;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::manual::Manual;
use crate::harness::scripted::{Scripted, answer};
use crate::harness::sim::Sim;
use crate::harness::{chat, streamed, until};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// Secrets of ten shapes; all but the first do not look like keys.
const SECRETS: [&str; 10] = [
    "sk-proj-Ab12Cd34Ef56Gh78",
    "01977ed9-7492-7b70-8347-9564aeb44a24",
    "correct horse battery staple",
    "wisely-chosen-word-phrase",
    "8675309867530986",
    "c2VjcmV0LXdvcmRz/+8==",
    "pass\"word\\with'quotes&<angles>",
    "fifty%41percent\\u0041off",
    "hunter22",
    "snake_case_words_only",
];

/// The forms in which a server may quote a secret.
fn forms(secret: &str) -> Vec<String> {
    let json = json!(secret).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let percent: String =
        secret.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    vec![
        secret.to_owned(),
        percent.to_lowercase(),
        percent,
        json,
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        STANDARD.encode(format!("user:{secret}")),
        URL_SAFE_NO_PAD.encode(format!("u:{secret}")),
    ]
}

/// All secrets in all forms; as short as it can be, so that nothing of it is cut off.
fn planted() -> String {
    SECRETS.iter().flat_map(|secret| forms(secret)).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn no_secret_in(what: &str, text: &str) {
    for secret in SECRETS {
        for form in forms(secret) {
            let shown = text.contains(&form) || text.contains(&json!(form).to_string().trim_matches('"').to_owned());
            assert!(!shown, "{what} shows {form}: {text}");
        }
    }
}

/// An error in the shapes of all dialects at once.
fn error_body(word: &str) -> Value {
    let all = planted();
    json!({
        "type": "error", "__type": word, "message": all, "Message": all,
        "error": { "message": all, "type": word, "param": SECRETS[3], "code": all, "status": word, "details": [{ "reason": all }] },
    })
}

/// Providers of every dialect with all the secrets among them, one route each.
fn config(upstream: &Scripted) -> (String, Vec<&'static str>) {
    let s = SECRETS.map(|secret| json!(secret).to_string());
    let own = format!("\"http://{}\"", upstream.address());
    let basic = STANDARD.encode(format!("user:{}", SECRETS[9]));
    let providers = [
        ("openai", format!("kind: openai, api_key: {}", s[0])),
        ("anthropic", format!("kind: anthropic, api_key: {}", s[1])),
        ("mistral", format!("kind: mistral, api_key: {}", s[2])),
        ("studio", format!("kind: google_ai_studio, api_key: {}", s[3])),
        ("vllm", format!("kind: vllm, headers: {{ x-proxy-key: {}, proxy-authorization: \"Basic {basic}\" }}", s[4])),
        ("bedrock", format!("kind: bedrock, region: eu-west-1, api_key: {}", s[5])),
        (
            "sagemaker",
            format!(
                "kind: sagemaker, region: eu-west-1, credentials: {{ access_key_id: AKID, secret_access_key: {}, session_token: {} }}",
                s[6], s[7]
            ),
        ),
        ("vertex", format!("kind: vertex, project: p, location: us, access_token: {}", s[8])),
    ];
    let names = providers.iter().map(|(name, _)| *name).collect();
    let mut text = "auth: none\nproviders:\n".to_owned();
    providers.iter().for_each(|(name, keys)| text += &format!("  {name}: {{ {keys}, base_url: {own} }}\n"));
    text += "routes:\n";
    for (name, _) in &providers {
        text += &format!("  {name}: {{ retry: {{ attempts: 1 }}, targets: [ {{ provider: {name}, model: m }} ] }}\n");
    }
    (text, names)
}

/// What the upstream answers: each path that ends in an error.
fn paths() -> Vec<(String, Vec<u8>)> {
    let all = planted();
    let statuses = [400, 401, 402, 403, 404, 408, 413, 422, 424, 429, 500, 502, 503, 504, 529];
    let mut paths: Vec<_> = statuses
        .iter()
        .map(|status| (format!("a {status}"), answer(*status, "application/json", &error_body("invalid_request_error").to_string())))
        .collect();
    let detail = json!({ "detail": [{ "loc": ["body", SECRETS[3]], "msg": all }] }).to_string();
    let original = json!({ "OriginalStatusCode": 400, "OriginalMessage": error_body("x").to_string(), "Message": all }).to_string();
    paths.extend([
        ("a list of details".to_owned(), answer(422, "application/json", &detail)),
        ("an error in an error".to_owned(), answer(424, "application/json", &original)),
        ("plain text".to_owned(), answer(400, "text/plain", &all)),
        ("a page".to_owned(), answer(502, "text/html", &format!("<html>{all}</html>"))),
        ("no answer".to_owned(), format!("{all}\r\n\r\n").into_bytes()),
        ("an error with status 200".to_owned(), answer(200, "application/json", &error_body("x").to_string())),
        ("no JSON".to_owned(), answer(200, "application/json", &all)),
    ]);
    let choice = |delta: Value, finish: Value| json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
    let whole = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hello" }, "finish_reason": all }] });
    let starts = [
        choice(json!({ "role": "assistant", "content": "hello" }), Value::Null).to_string(),
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"hello"}]}}]}"#.to_owned(),
        concat!(
            r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":1}}}"#,
            "\n\n",
            r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            "\n\n",
            r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hello"}}"#
        )
        .to_owned(),
    ];
    paths.push(("an unknown finish reason".to_owned(), answer(200, "application/json", &whole.to_string())));
    for (name, last) in [
        ("error", error_body("x").to_string()),
        ("word", choice(json!({}), all.clone().into()).to_string()),
        ("nonsense", all.clone()),
        ("candidate", json!({ "candidates": [{ "finishReason": all }], "promptFeedback": { "blockReason": all } }).to_string()),
        ("stop", json!({ "type": "message_delta", "delta": { "stop_reason": all }, "usage": { "output_tokens": 1 } }).to_string()),
    ] {
        paths.push((format!("a stream of one {name}"), answer(200, "text/event-stream", &format!("data: {last}\n\n"))));
        for start in &starts {
            let text = format!("data: {start}\n\ndata: {last}\n\n");
            paths.push((format!("{name} after content"), answer(200, "text/event-stream", &text)));
        }
    }
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_quotes_reaches_neither_clients_nor_operators() {
    let script = Arc::new(Mutex::new(Vec::new()));
    let reply = script.clone();
    let upstream = Scripted::start(move |_| reply.lock().clone()).await;
    let (text, names) = config(&upstream);
    let gateway = Setup::new(&text).level("trace").start().await;
    let (mut errors, mut redacted) = (0, 0);
    for (path, bytes) in paths() {
        *script.lock() = bytes;
        for name in &names {
            for body in [chat(name), streamed(name)] {
                let mut conn = gateway.open(&body).await;
                let answer = conn.answer().await.unwrap();
                let text = answer.text();
                no_secret_in(&format!("{name}, {path}"), &text);
                answer.head.headers.iter().for_each(|(header, value)| no_secret_in(header, value));
                errors += usize::from(text.contains("\"error\":"));
                redacted += usize::from(text.contains("[redacted]"));
                for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim_start_matches("data: ")).ok()) {
                    no_secret_in(&format!("{name}, {path}"), line["error"]["message"].as_str().unwrap_or_default());
                }
            }
        }
    }
    assert!(errors > 500 && redacted > 300, "the paths do not lead where they should: {errors} errors, {redacted} redacted");
    for page in ["/", "/status", "/status/history", "/metrics", "/limits", "/readyz"] {
        no_secret_in(page, &gateway.page(page).await.text());
    }
    no_secret_in("the log", &gateway.output.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_answer_says_is_not_touched() {
    let said = planted();
    let choice = json!({ "index": 0, "message": { "role": "assistant", "content": said }, "finish_reason": "stop" });
    let body = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice] }).to_string();
    let upstream = Scripted::start(move |_| answer(200, "application/json", &body)).await;
    let gateway = Gateway::start(&config(&upstream).0).await;
    assert_eq!(gateway.chat(&chat("openai")).await.content(), said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_exchange_for_a_token_shows_nothing() {
    // Each word that a message repeats is one of the secrets in the request.
    let google =
        Scripted::start(|_| answer(401, "application/json", &json!({ "error": SECRETS[9], "error_description": planted() }).to_string()))
            .await;
    let sts =
        Scripted::start(|_| answer(403, "text/xml", &format!("<E><Code>{}</Code><Message>{}</Message></E>", SECRETS[4], planted()))).await;
    let setup = Setup::new("");
    let account = json!({
        "type": "authorized_user", "client_id": "i", "client_secret": SECRETS[9], "refresh_token": SECRETS[1],
        "token_uri": format!("http://{}/token", google.address()),
    });
    let account = setup.dir.write("account.json", &account.to_string());
    let token = setup.dir.write("token", SECRETS[4]);
    let url = format!("\"http://{}\"", sts.address());
    let text = format!(
        "auth: none\nproviders:\n  vertex: {{ kind: vertex, project: p, location: us, credentials_file: {}, base_url: {url} }}\n  \
         bedrock: {{ kind: bedrock, region: eu-west-1, base_url: {url} }}\n\
         routes:\n  g: {{ targets: [ {{ provider: vertex, model: m }} ] }}\n  a: {{ targets: [ {{ provider: bedrock, model: m }} ] }}\n",
        account.display()
    );
    let gateway = aws_role(setup.config(&text).level("trace"), &token, &sts).start().await;
    for route in ["g", "a"] {
        let answer = gateway.chat(&chat(route)).await;
        assert_eq!(answer.status(), 502);
        assert!(answer.error().contains("could not be fetched"), "{}", answer.text());
        no_secret_in(route, &answer.text());
    }
    gateway.output.line("the token server returned 401 [redacted]").await;
    gateway.output.line("STS returned status 403 ([redacted])").await;
    no_secret_in("the log", &gateway.output.text());
    no_secret_in("/status", &gateway.page("/status").await.text());
}

/// AWS credentials by a web identity, and by nothing else that the machine may have.
fn aws_role(setup: Setup, token: &std::path::Path, sts: &Scripted) -> Setup {
    let nowhere = setup.dir.join("nowhere").display().to_string();
    setup
        .variable("AWS_SHARED_CREDENTIALS_FILE", &nowhere)
        .variable("AWS_CONFIG_FILE", &nowhere)
        .variable("AWS_ACCESS_KEY_ID", "")
        .variable("AWS_BEARER_TOKEN_BEDROCK", "")
        .variable("AWS_PROFILE", "")
        .variable("AWS_WEB_IDENTITY_TOKEN_FILE", &token.display().to_string())
        .variable("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/gateway")
        .variable("AWS_ENDPOINT_URL_STS", &format!("http://{}", sts.address()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_fetches_no_token_again() {
    const KEYS: &str = "<R><AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>session</SessionToken>\
        <Expiration>2099-01-01T00:00:00Z</Expiration></R>";
    let sim = Sim::start().await;
    let google = Scripted::start(|_| answer(200, "application/json", r#"{"access_token":"ya29.test","expires_in":3599}"#)).await;
    let sts = Scripted::start(|_| answer(200, "text/xml", KEYS)).await;
    let setup = Setup::new("");
    let account = |secret: &str| {
        json!({
            "type": "authorized_user", "client_id": "i", "client_secret": secret, "refresh_token": "r",
            "token_uri": format!("http://{}/token", google.address()),
        })
        .to_string()
    };
    let (file, token) = (setup.dir.write("account.json", &account("one")), setup.dir.write("token", "identity"));
    let text = |generation: usize| {
        format!(
            "auth: none\nproviders:\n  sim: {}\n  vertex{generation}: {{ kind: vertex, project: p, location: us, credentials_file: {} }}\n  \
             other: {{ kind: vertex, project: q, location: eu, credentials_file: {} }}\n  bedrock: {{ kind: bedrock, region: eu-west-1, max_connections: {} }}\n\
             routes: {{ r{generation}: {{ targets: [ {{ provider: sim, model: m }} ] }} }}\n",
            sim.provider(),
            file.display(),
            file.display(),
            generation + 1
        )
    };
    let gateway = aws_role(setup.config(&text(0)), &token, &sts).start().await;
    let reloaded = async |generation: usize| {
        until("the reload", async || (gateway.chat(&chat(&format!("r{generation}"))).await.status() == 200).then_some(())).await;
    };
    for generation in 1..=5 {
        gateway.reload(&text(generation)).await;
        reloaded(generation).await;
    }
    assert_eq!((google.count(), sts.count()), (1, 1), "one exchange for each source, whatever is reloaded");
    // Another account in the file: its token is another one, and nobody else's.
    std::fs::write(&file, account("two")).unwrap();
    gateway.reload(&text(6)).await;
    reloaded(6).await;
    assert_eq!((google.count(), sts.count()), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_from_a_file_and_the_query_of_the_base_url_are_sent_and_a_changed_file_is_a_reload() {
    let manual = Manual::start().await;
    let files = Dir::new();
    let file = files.write("header", "first-header-secret\n");
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders:\n  azure: {{ kind: openai_compatible, base_url: \"http://{}/openai/deployments/d?api-version=2024-10-21\", \
         headers: {{ api-key: {{ file: {} }} }} }}\nroutes: {{ r: {{ targets: [ {{ provider: azure, model: m }} ], retry: {{ attempts: 1 }} }} }}\n",
        manual.address(),
        file.display()
    ))
    .await;
    for secret in ["first-header-secret", "second-header-secret"] {
        if secret.starts_with("second") {
            std::fs::write(&file, secret).unwrap();
            gateway.reloaded(1).await;
        }
        let mut conn = gateway.open(&chat("r")).await;
        let mut stream = manual.connection().await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("POST /openai/deployments/d/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n"), "{head}");
        assert!(head.to_lowercase().contains(&format!("api-key: {secret}\r\n")), "{head}");
        drop(stream);
        let answer = conn.answer().await.unwrap();
        assert!(!answer.text().contains(secret) && !gateway.output.text().contains(secret), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_behind_a_forgotten_space_is_not_printed() {
    let sim = Sim::start().await;
    let good = sim.config("", "");
    let gateway = Gateway::start(&good).await;
    let bad = good.replace("kind: vllm", &format!("kind: vllm, api_key:{}", SECRETS[3]));
    let path = gateway.dir.write("bad.yaml", &gateway.text(&bad));
    for command in ["check", "run"] {
        let told =
            tokio::process::Command::new(crate::harness::gateway::BINARY).arg(command).arg("--config").arg(&path).output().await.unwrap();
        let told = String::from_utf8([told.stdout, told.stderr].concat()).unwrap();
        assert!(told.contains("a space is missing after `api_key:`"), "{command}: {told}");
        no_secret_in(command, &told);
    }
    gateway.reload(&bad).await;
    gateway.output.line("a space is missing after").await;
    no_secret_in("the log", &gateway.output.text());
    no_secret_in("/status", &gateway.page("/status").await.text());
}
