//! The gateway's own dialects against the simulator's, byte for byte and without a socket: what the gateway writes for
//! each route of the demo is accepted, and it reads the same answer out of a stream as out of a whole body.

use crate::config::snapshot::Snapshot;
use crate::dialect::Outgoing;
use crate::frame::Framer;
use crate::front::chat::rules::{Rules, finish_reason};
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::event::{Event, Sink};
use crate::llm::failure::Fault;
use crate::llm::state::{Seal, Sealer};
use crate::operation::Beside;
use crate::route::settings::Route;
use crate::sign::aws::{AwsCredentials, ToSign, hash, sign};
use crate::sign::credential::Credential;
use crate::simulate::dialect::{Incoming, find};
use crate::simulate::reply::decide;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::SystemTime;

/// An answer as the gateway understood it.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    content: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    finish: Vec<&'static str>,
    usage: (u64, u64),
    /// Not compared: they are made of the request's bytes.
    ids: Ids,
}

#[derive(Debug, Default)]
struct Ids(Vec<String>);

impl PartialEq for Ids {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
    }
}

impl Sink for Heard {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Content { text, .. } => self.content.push_str(&text.decode()),
            Event::Reasoning { text, .. } => self.reasoning.push_str(&text.decode()),
            Event::ToolStart { id, name, .. } => {
                self.ids.0.push(id.unwrap().decode().into_owned());
                self.calls.push((name.decode().into_owned(), String::new()));
            }
            Event::ToolArguments { fragment, .. } => self.calls.last_mut().unwrap().1.push_str(&fragment.decode()),
            Event::Finish { reason, .. } => self.finish.push(finish_reason(&reason)),
            Event::Usage(usage) => self.usage = (usage.prompt, usage.completion),
            _ => {}
        }
    }
}

fn demo() -> Snapshot {
    crate::config::parse(crate::demo::CONFIG, "demo", &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot
}

/// The headers that the edge adds.
fn headers(route: &Route, path: &str, outgoing: &Outgoing) -> HeaderMap {
    let provider = &route.targets[0].provider;
    let host = HeaderValue::from_static("127.0.0.1:3001");
    let mut headers: HeaderMap = outgoing.headers.iter().cloned().collect();
    let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let bearer = |key: &str| HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
    match &provider.credential {
        Credential::Bearer(key) => drop(headers.insert(header::AUTHORIZATION, bearer(key.expose()))),
        Credential::Header(name, key) => drop(headers.insert(name, key.expose().parse().unwrap())),
        Credential::Aws { keys: Some(keys), region, service, .. } => {
            let to_sign = ToSign {
                method: "POST",
                authority: &host,
                path_and_query: path,
                headers: std::slice::from_ref(&json),
                body_hash: hash(outgoing.body.iter()),
                region,
                service,
                time: SystemTime::now(),
            };
            let keys = AwsCredentials::new(keys.access_key_id.expose(), keys.secret_access_key.clone(), None, None).unwrap();
            headers.extend(sign(&to_sign, &keys).unwrap());
        }
        _ => {}
    }
    headers.extend([json, (header::HOST, host)]);
    headers
}

/// Asks a route's provider; `script` goes behind the model's name. What the simulator refuses is a panic.
fn ask(route: &Route, script: &str, request: &Value) -> Result<Heard, Fault> {
    let target = &route.targets[0];
    let crate::provider::ModelName::Fixed(model) = &target.model else { panic!("a pattern") };
    let model = format!("{model}{script}");
    let mut request = request.clone();
    request["model"] = json!(*route.name);
    let parsed = Parsed::parse(request.to_string().into()).unwrap();
    let seal = Seal::new(Arc::new(Sealer::new(&[7; 32]).unwrap()), "team".into(), "p".into());
    let chat = ChatRequest { parsed: &parsed, params: &route.params, system: None, model: &model, seal: Some(&seal) };
    let mut outgoing = target.dialect().encode(&chat).unwrap_or_else(|error| panic!("{}: {error:?}", route.name));
    let path = target.provider.base.path_and_query(&outgoing.path);
    let headers = headers(route, &path, &outgoing);
    let dialect = find(path.split('?').next().unwrap()).unwrap_or_else(|| panic!("nobody is at {path}"));
    let incoming = Incoming { path_and_query: &path, headers: &headers, body: &outgoing.body.joined() };
    let ask = dialect.read(incoming).unwrap_or_else(|refusal| panic!("{}: {refusal:?} {request}", route.name));
    assert_eq!(ask.model, if route.name.starts_with("llama-on") { model } else { model.replace("anthropic/", "") });
    let reply = decide(&ask).unwrap();
    let mut rules = Rules::new(Heard::default(), "", Some(seal.clone()));
    if !ask.stream {
        outgoing.decoder.whole(&dialect.whole(&ask, &reply), &mut rules)?;
        return Ok(rules.writer);
    }
    let bytes: Vec<u8> = dialect.events(&ask, &reply).concat();
    let (mut framer, decoder) = (Framer::new(outgoing.framing), &mut outgoing.decoder);
    let mut each = |frame: crate::frame::Frame<'_>| decoder.frame(frame, &mut rules);
    bytes.chunks(7).try_for_each(|piece| framer.push(piece, &mut each))?;
    framer.finish(&mut each)?;
    outgoing.decoder.end(&mut rules)?;
    Ok(rules.writer)
}

/// The answer, whole and streamed.
fn both(route: &Route, script: &str, mut request: Value) -> Heard {
    let whole = ask(route, script, &request).unwrap();
    request["stream"] = json!(true);
    request["stream_options"] = json!({ "include_usage": true });
    assert_eq!(ask(route, script, &request).unwrap(), whole, "{} {request}", route.name);
    whole
}

fn single_target(demo: &Snapshot) -> impl Iterator<Item = &Route> {
    demo.routes.iter().map(Arc::as_ref).filter(|route| route.targets.len() == 1 && route.fallback.is_empty())
}

fn tools() -> Value {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": parameters } });
    json!([tool("get_weather"), tool("get_time")])
}

#[test]
fn every_route_of_the_demo_says_the_same_whole_and_streamed() {
    let demo = demo();
    for route in single_target(&demo) {
        let says = |text: &str, max: u64| json!({ "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": text }], "max_tokens": max });
        let hello = both(route, "", says("Hello there, Zürich", 100));
        assert!(hello.content.ends_with("You said: Hello there, Zürich"), "{} {hello:?}", route.name);
        assert_eq!((hello.finish.as_slice(), hello.usage.0 > 0, hello.usage.1 > 0), (["stop"].as_slice(), true, true), "{}", route.name);
        assert_eq!(both(route, "", says("Hello there", 2)).finish, ["length"], "{}", route.name);
        assert_eq!(both(route, "+bytes=40+chunks=9", says("x", 100)).content.len(), 40, "{}", route.name);
    }
}

#[test]
fn every_route_of_the_demo_calls_tools_and_takes_their_results() {
    let demo = demo();
    for route in single_target(&demo).filter(|route| &*route.name != "sagemaker-tgi") {
        for effort in [None, Some("high")] {
            let user = json!({ "role": "user", "content": "How is all the weather in Paris?" });
            let mut request = json!({ "messages": [user], "tools": tools() });
            if let Some(effort) = effort {
                request["reasoning_effort"] = json!(effort);
            }
            let said = both(route, "", request.clone());
            let city: Vec<Value> = said.calls.iter().map(|(_, arguments)| serde_json::from_str(arguments).unwrap()).collect();
            // Gemini's own word for such an end is "stop", which is put right for all providers in one place
            let ends = matches!(said.finish.as_slice(), ["tool_calls"] | ["stop"]);
            assert_eq!((city, ends), (vec![json!({ "city": "Paris" }); 2], true), "{}", route.name);
            let call = |(id, (name, arguments)): (&String, &(String, String))| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
            let calls: Vec<Value> = said.ids.0.iter().zip(&said.calls).map(call).collect();
            let results = said.ids.0.iter().map(|id| json!({ "role": "tool", "tool_call_id": id, "content": "18 degrees" }));
            let turn = json!({ "role": "assistant", "content": null, "tool_calls": calls, "reasoning_content": said.reasoning });
            request["messages"] = std::iter::once(user.clone()).chain([turn]).chain(results).collect();
            assert_eq!(both(route, "", request).content, "Here is what the tool says: 18 degrees; 18 degrees", "{}", route.name);
        }
    }
}

#[test]
fn every_route_of_the_demo_keeps_to_a_schema() {
    let demo = demo();
    let schema =
        json!({ "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"], "additionalProperties": false });
    for route in single_target(&demo).filter(|route| &*route.name != "deepseek") {
        let said = both(route, "", json!({ "messages": [{ "role": "user", "content": "JSON" }], "guided_json": schema }));
        assert_eq!(serde_json::from_str::<Value>(&said.content).unwrap(), json!({ "ok": true }), "{}", route.name);
    }
}

#[test]
fn thoughts_are_read_where_they_are_shown() {
    let demo = demo();
    for name in ["anthropic", "claude-on-vertex", "bedrock", "google_ai_studio", "vertex", "mistral", "sagemaker"] {
        let route = single_target(&demo).find(|route| &*route.name == name).unwrap();
        let said = both(route, "+reasoning", json!({ "messages": [{ "role": "user", "content": "Hello" }] }));
        assert!(said.reasoning.starts_with("The user wants") && said.content.ends_with("Hello"), "{name} {said:?}");
    }
}

#[test]
fn a_call_whose_thought_is_lost_is_refused() {
    let demo = demo();
    let route = single_target(&demo).find(|route| &*route.name == "vertex").unwrap();
    let body = |signature: &str| {
        let call = json!({ "functionCall": { "name": "f", "args": {} }, "thoughtSignature": signature });
        let said = |role: &str, part: Value| json!({ "role": role, "parts": [part] });
        let answer = json!({ "functionResponse": { "name": "f", "response": { "result": "18" } } });
        json!({ "contents": [said("user", json!({ "text": "x" })), said("model", call), said("user", answer)] }).to_string()
    };
    let path = "/vertex/v1/projects/p/locations/l/publishers/google/models/gemini-3:generateContent";
    let verdict = |signature: &str| {
        let body = body(signature);
        let outgoing = Outgoing {
            path: path.into(),
            body: body.clone().into_bytes().into(),
            headers: Vec::new(),
            dropped: Vec::new(),
            adjusted: Vec::new(),
            framing: crate::frame::Framing::Sse,
            decoder: Box::new(crate::dialect::Spent),
        };
        let headers = headers(route, path, &outgoing);
        find(path).unwrap().read(Incoming { path_and_query: path, headers: &headers, body: body.as_bytes() }).map(|_| ())
    };
    assert!(verdict("QUJD").is_err());
    assert_eq!(verdict(&crate::simulate::signature::sign("f")), Ok(()));
}

#[test]
fn vectors_have_the_length_that_was_asked_for_at_every_provider_that_has_them() {
    #[derive(Default)]
    struct Vectors(Vec<usize>);
    impl Sink for Vectors {
        fn event(&mut self, event: Event<'_>) {
            if let Event::Embedding { json, .. } = event {
                self.0.push(serde_json::from_str::<Vec<f32>>(json).unwrap().len());
            }
        }
    }
    let demo = demo();
    let mut asked = 0;
    for route in single_target(&demo) {
        let target = &route.targets[0];
        for (model, inputs) in [("gemini-embedding-001", 2), ("gemini-embedding-2", 1), ("gemini-embedding-2", 2)] {
            let input: Vec<String> = (0..inputs).map(|n| format!("text {n}")).collect();
            let body = json!({"model": *route.name, "input": input, "dimensions": 5}).to_string();
            let parsed = crate::operation::Operation::Embeddings.parse(body.into()).unwrap();
            let request = ChatRequest { parsed: &parsed, params: &route.params, system: None, model, seal: None };
            let Ok(mut outgoing) = crate::operation::Operation::Embeddings.encode(&request, &Beside::default(), target) else { continue };
            let path = format!("{}{}", target.provider.base.prefix, outgoing.path);
            let Some(dialect) = find(&path) else { continue };
            let headers = headers(route, &path, &outgoing);
            let incoming = Incoming { path_and_query: &path, headers: &headers, body: &outgoing.body.joined() };
            let ask = dialect.read(incoming).unwrap_or_else(|refusal| panic!("{}: {refusal:?}", route.name));
            let mut vectors = Vectors::default();
            outgoing.decoder.whole(&dialect.whole(&ask, &decide(&ask).unwrap()), &mut vectors).unwrap();
            assert_eq!(vectors.0, vec![5; inputs], "{} {model}", route.name);
            asked += usize::from(["mistral", "google_ai_studio", "vertex"].contains(&&*route.name));
        }
    }
    assert_eq!(asked, 9);
}
