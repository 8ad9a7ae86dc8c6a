//! Kinds that are entries of the catalogue, each against its own strict server: what it lacks is left out, named or refused
//! before it is asked, and its errors are the client's. Azure's two surfaces and two credentials.

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::http1::Answer;
use crate::harness::sim::Sim;
use crate::harness::{chat, streamed, until};
use serde_json::{Value, json};

/// A kind, where its server is, and what is sent that it has in another way or not at all.
struct Case {
    kind: &'static str,
    /// The path of its base URL.
    base: &'static str,
    /// The other keys of its section.
    section: &'static str,
    /// Hints, as members of a request.
    hints: Value,
    /// Those that are named as dropped, and as adjusted.
    named: [&'static str; 2],
    /// Members, one of which has no counterpart, and that one.
    essential: (Value, &'static str),
    /// Members that its server refuses, sent as they are.
    refused: Value,
}

impl Case {
    /// A kind without known gaps: only what every other server lacks too is left out.
    fn open(kind: &'static str, base: &'static str) -> Self {
        Self {
            kind,
            base,
            section: ", api_key: sk-test",
            hints: json!({ "mm_processor_kwargs": { "a": 1 } }),
            named: ["mm_processor_kwargs", ""],
            essential: (json!({ "chat_template": "{{ x }}" }), "chat_template"),
            refused: json!({ "top_p": 2 }),
        }
    }
}

fn cases() -> Vec<Case> {
    let open = Case::open;
    let named_tool = json!({ "tools": tools(), "tool_choice": { "type": "function", "function": { "name": "get_weather" } } });
    let demanded = json!({ "tools": tools(), "tool_choice": "required" });
    let two = || (json!({ "n": 2 }), "n");
    vec![
        open("azure_openai", "/azure_openai/openai/v1"),
        Case { section: ", api_key: sk-test, api_version: 2024-10-21", ..open("azure_openai_deployments", "/azure_openai/openai") },
        open("openrouter", "/openrouter/api/v1"),
        Case {
            hints: json!({ "logprobs": true, "logit_bias": { "1": 2 }, "messages": [{ "role": "user", "name": "ann", "content": "hello there" }] }),
            named: ["logprobs,logit_bias,messages[].name", ""],
            essential: two(),
            ..open("groq", "/groq/openai/v1")
        },
        Case {
            hints: json!({ "frequency_penalty": 0.5, "messages": [{ "role": "developer", "content": "Be brief." }, { "role": "user", "content": "hello there" }] }),
            named: ["frequency_penalty", ""],
            ..open("cerebras", "/cerebras/v1")
        },
        Case {
            hints: json!({ "reasoning_effort": "xhigh", "chat_template_kwargs": { "a": 1 } }),
            named: ["chat_template_kwargs", "reasoning_effort"],
            refused: json!({ "response_format": { "type": "json_object" } }),
            ..open("perplexity", "/perplexity")
        },
        open("nvidia_nim", "/nvidia_nim/v1"),
        Case {
            hints: json!({ "max_completion_tokens": 50, "temperature": 2.5 }),
            named: ["", "temperature"],
            ..open("deepinfra", "/deepinfra/v1/openai")
        },
        Case { hints: json!({ "temperature": 1.5 }), named: ["", "temperature"], ..open("moonshot", "/moonshot/v1") },
        Case {
            hints: json!({ "seed": 7, "user": "someone", "stop": "never", "temperature": 2 }),
            named: ["seed", "temperature"],
            essential: (demanded.clone(), "tool_choice"),
            refused: json!({ "x_unknown": 1 }),
            ..open("zhipu", "/zhipu/api/paas/v4")
        },
        Case {
            hints: json!({ "presence_penalty": 0.5, "temperature": 2 }),
            named: ["presence_penalty", "temperature"],
            essential: two(),
            refused: json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://x.example/a.png" } }] }] }),
            ..open("minimax", "/minimax/v1")
        },
        Case {
            hints: json!({ "temperature": 2, "logprobs": true, "top_logprobs": 9 }),
            named: ["", "temperature,top_logprobs"],
            essential: (demanded.clone(), "tool_choice"),
            ..open("dashscope", "/dashscope/compatible-mode/v1")
        },
        Case {
            hints: json!({ "metadata": { "a": "b" }, "reasoning_effort": "low" }),
            named: ["metadata", "reasoning_effort"],
            essential: two(),
            refused: json!({ "tools": tools(), "tool_choice": "any" }),
            ..open("cohere", "/cohere/compatibility/v1")
        },
        Case {
            section: "",
            hints: json!({ "user": "someone", "reasoning_effort": "minimal", "max_completion_tokens": 50 }),
            named: ["user", "reasoning_effort"],
            essential: (named_tool, "tool_choice"),
            ..open("ollama", "/ollama/v1")
        },
        Case { section: "", ..open("lm_studio", "/lm_studio/v1") },
        open("databricks", "/databricks/serving-endpoints"),
        Case {
            hints: json!({ "stop": "never", "temperature": 1.5 }),
            named: ["", "temperature"],
            ..open("github_models", "/github_models/inference")
        },
    ]
}

fn tools() -> Value {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": parameters } });
    json!([tool("get_weather"), tool("get_time")])
}

/// A gateway with a route for each kind, whose models are scripts.
async fn gateway(sim: &Sim) -> Gateway {
    let (mut providers, mut routes) = (String::new(), String::new());
    for Case { kind, base, section, .. } in cases() {
        providers += &format!("  {kind}: {{ kind: {kind}, base_url: \"http://{}{base}\"{section} }}\n", sim.address());
        routes += &format!(
            "  \"{kind}/*\": {{ targets: [ {{ provider: {kind}, model: \"*\" }} ], retry: {{ attempts: 1 }}, ejection: {{ failures: 0 }} }}\n"
        );
    }
    Gateway::start(&format!("auth: none\nproviders:\n{providers}routes:\n{routes}")).await
}

/// A request to a route with these members.
fn with(route: &str, members: &Value) -> Value {
    let mut body = chat(route);
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_answers_whole_and_streamed_and_calls_tools() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    for Case { kind, .. } in cases() {
        let route = format!("{kind}/m");
        let answer = gateway.chat(&chat(&route)).await;
        assert_eq!(
            (answer.status(), answer.content()),
            (200, "Hello from m! You said: hello there".to_owned()),
            "{kind} {}",
            answer.text()
        );
        let text = gateway.chat(&streamed(&route)).await.text();
        assert!(text.contains("\"usage\":{\"prompt_tokens\":3") && text.ends_with("data: [DONE]\n\n"), "{kind}: {text}");
        for choice in [json!("auto"), json!("none")] {
            let asked = with(
                &route,
                &json!({ "tools": tools(), "tool_choice": choice, "messages": [{ "role": "user", "content": "The weather in Paris?" }] }),
            );
            let answer = gateway.chat(&asked).await;
            let call = &answer.json()["choices"][0]["message"]["tool_calls"][0]["function"];
            let want = if choice == "auto" { json!({ "name": "get_weather", "arguments": "{\"city\":\"Paris\"}" }) } else { Value::Null };
            assert_eq!((answer.status(), call), (200, &want), "{kind} {choice}: {}", answer.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_are_dropped_clamped_and_named_and_essentials_are_refused() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    for Case { kind, hints, named, essential: (members, param), .. } in cases() {
        let answer = gateway.chat(&with(&format!("{kind}/m"), &hints)).await;
        let told = ["x-tidegate-dropped-params", "x-tidegate-adjusted-params"].map(|name| answer.header(name));
        assert_eq!((answer.status(), told), (200, named), "{kind} {}", answer.text());
        let before = sim.count();
        let answer = gateway.chat(&with(&format!("{kind}/m"), &members)).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status(), error["param"].as_str(), error["type"].as_str()),
            (400, Some(param), Some("invalid_request_error")),
            "{kind}"
        );
        assert_eq!(sim.count(), before, "{kind}: its server was asked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_every_kind_are_the_clients() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    let told = |answer: &Answer| (answer.status(), answer.json()["error"]["type"].as_str().unwrap_or_default().to_owned());
    for Case { kind, refused, .. } in cases() {
        let answer = gateway.chat(&with(&format!("{kind}/m"), &refused)).await;
        assert_eq!(told(&answer), (400, "invalid_request_error".to_owned()), "{kind} {}", answer.text());
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(&format!("Provider `{kind}` refused the request: ")), "{kind} {message}");
        for (status, want) in [(401, 502), (404, 404), (429, 429), (500, 502)] {
            let answer = gateway.chat(&chat(&format!("{kind}/m+status={status}"))).await;
            assert_eq!(answer.status(), want, "{kind} {status} {}", answer.text());
        }
        let message = json!({ "model": format!("{kind}/m+status=429"), "max_tokens": 5, "messages": [{ "role": "user", "content": "x" }] });
        let answer = gateway.post("/v1/messages", &[], &message).await;
        let told = (answer.status(), answer.json()["type"].clone(), answer.json()["error"]["type"].clone());
        assert_eq!(told, (429, json!("error"), json!("rate_limit_error")), "{kind} {}", answer.text());
    }
}

/// The text of a header of the last request.
fn header(sim: &Sim, name: &str) -> Option<String> {
    sim.seen().last().unwrap().headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_has_two_surfaces_and_two_credentials_of_which_a_token_follows_its_file() {
    let sim = Sim::start().await;
    let setup = Setup::new("");
    let token = setup.dir.write("token", "eyJ-one\n");
    let address = sim.address();
    let config = format!(
        "auth: none\nproviders:\n  keyed: {{ kind: azure_openai, api_key: sk-azure, base_url: \"http://{address}/azure_openai/openai/v1\" }}\n  \
         older: {{ kind: azure_openai_deployments, access_token: {{ file: {} }}, api_version: 2024-10-21, base_url: \"http://{address}/azure_openai/openai\" }}\n\
         routes:\n  new: {{ targets: [ {{ provider: keyed, model: dep-1 }} ] }}\n  old: {{ targets: [ {{ provider: older, model: \"dep 2/x\" }} ] }}\n",
        token.display()
    );
    let gateway = setup.config(&config).start().await;
    assert_eq!(gateway.chat(&chat("new")).await.content(), "Hello from dep-1! You said: hello there");
    let seen = sim.seen().pop().unwrap();
    assert_eq!((seen.path.as_str(), &seen.body.json().unwrap()["model"]), ("/azure_openai/openai/v1/chat/completions", &json!("dep-1")));
    assert_eq!((header(&sim, "api-key").as_deref(), header(&sim, "authorization")), (Some("sk-azure"), None));
    // Its streams begin with a chunk about filters that has neither a choice nor an id.
    let text = gateway.chat(&streamed("new")).await.text();
    assert!(text.contains("Hello ") && !text.contains("\"id\":\"\""), "{text}");

    assert_eq!(gateway.chat(&chat("old")).await.content(), "Hello from dep 2/x! You said: hello there");
    let path = sim.seen().pop().unwrap().path;
    assert_eq!(path, "/azure_openai/openai/deployments/dep%202%2Fx/chat/completions?api-version=2024-10-21");
    assert_eq!((header(&sim, "api-key"), header(&sim, "authorization").as_deref()), (None, Some("Bearer eyJ-one")));
    let answer = gateway.post("/v1/embeddings", &[], &json!({ "model": "old", "input": "a", "dimensions": 4 })).await;
    assert_eq!((answer.status(), answer.json()["data"][0]["embedding"].as_array().map(Vec::len)), (200, Some(4)), "{}", answer.text());
    assert_eq!(sim.seen().pop().unwrap().path, "/azure_openai/openai/deployments/dep%202%2Fx/embeddings?api-version=2024-10-21");

    // What renews tokens replaces the file; nothing is restarted.
    let pid = gateway.pid();
    std::fs::write(&token, "eyJ-two\n").unwrap();
    until("the new token", async || {
        assert_eq!(gateway.chat(&chat("old")).await.status(), 200);
        (header(&sim, "authorization").as_deref() == Some("Bearer eyJ-two")).then_some(())
    })
    .await;
    assert_eq!(gateway.pid(), pid);
    // A token that has expired is the operator's trouble, and is not quoted.
    std::fs::write(&token, "stale-token-of-old\n").unwrap();
    let answer = until("the stale token", async || Some(gateway.chat(&chat("old")).await).filter(|answer| answer.status() != 200)).await;
    assert_eq!((answer.status(), answer.text().contains("stale-token")), (502, false), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_ones_own_are_asked_without_a_key() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    for kind in ["ollama", "lm_studio"] {
        assert_eq!(gateway.chat(&chat(&format!("{kind}/m"))).await.status(), 200);
        assert_eq!((header(&sim, "authorization"), header(&sim, "api-key")), (None, None), "{kind}");
    }
    // Of those, one has the Responses API, whose requests pass.
    for (kind, path) in [("ollama", "/ollama/v1/chat/completions"), ("lm_studio", "/lm_studio/v1/responses")] {
        let answer = gateway.post("/v1/responses", &[], &json!({ "model": format!("{kind}/m"), "input": "hello there" })).await;
        assert_eq!((answer.status(), sim.seen().pop().unwrap().path.as_str()), (200, path), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_thinks_gets_its_reasoning_back_and_no_demanded_call() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    let route = "moonshot/kimi-k2.6";
    let user = json!({ "role": "user", "content": "The weather in Paris?" });
    let answer = gateway.chat(&with(route, &json!({ "tools": tools(), "messages": [user] }))).await;
    let mut turn = answer.json()["choices"][0]["message"].clone();
    assert!(turn["reasoning_content"].is_string(), "{}", answer.text());
    // A client that knows OpenAI's members only drops the reasoning; it comes back out of the call's id.
    turn.as_object_mut().unwrap().remove("reasoning_content");
    let result = json!({ "role": "tool", "tool_call_id": turn["tool_calls"][0]["id"], "content": "18 degrees" });
    let answer = gateway.chat(&with(route, &json!({ "tools": tools(), "messages": [user, turn, result] }))).await;
    assert_eq!((answer.status(), answer.content()), (200, "Here is what the tool says: 18 degrees".to_owned()), "{}", answer.text());
    for (route, tools) in [(route, tools()), ("dashscope/qwen3-max", json!([tools()[0]]))] {
        let answer = gateway.chat(&with(route, &json!({ "tools": tools, "tool_choice": "required" }))).await;
        assert_eq!(
            (answer.status(), answer.json()["choices"][0]["finish_reason"].as_str()),
            (200, Some("tool_calls")),
            "{route} {}",
            answer.text()
        );
    }
}
