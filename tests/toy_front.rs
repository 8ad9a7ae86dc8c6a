//! What adding a front takes: a reader and a writer for a protocol of lines, and every dialect answers it.
//!
//! ```text
//! model: NAME        the model at the target           text: …          more of the answer
//! stream: yes        the answer comes as a stream      call: NAME ARGS  a call, once it is whole
//! system: … / user: … / tool: NAME SCHEMA / seed: N    end: REASON IN OUT
//! ```
#![cfg(feature = "simulator")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::collections::HashSet;
use std::net::SocketAddr;
use tidegate::error::ApiError;
use tidegate::frame::{Frame, Framer};
use tidegate::json::text::Text;
use tidegate::llm::event::{Event, Sink};
use tidegate::llm::field::{Field, Loss};
use tidegate::llm::order::{Order, Writer};
use tidegate::llm::request::{Ask, Authority, Block, Content, Param, Path, Request, Role, Tool};
use tidegate::provider::{ModelName, Target};
use tidegate::sign::aws;
use tidegate::sign::signer::{Existing, Signer};
use tidegate::simulate::Simulator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[path = "shared/targets.rs"]
mod targets;

/// A request of the protocol, for one attempt at `model`.
struct Lines<'a> {
    text: &'a str,
    model: &'a str,
}

impl Ask for Lines<'_> {
    fn model(&self) -> &str {
        self.model
    }

    fn stream(&self) -> bool {
        self.text.contains("stream: yes")
    }

    fn request(&self) -> Result<Request<'_>, ApiError> {
        let mut request = Request { model: self.model, stream: self.stream(), size: self.text.len(), ..Request::default() };
        for (index, line) in self.text.lines().enumerate() {
            let at = Path::element("line", index);
            let (word, rest) = line.split_once(": ").ok_or_else(|| at.must_be("`WORD: VALUE`"))?;
            match word {
                "system" | "user" => {
                    let start = request.blocks.len();
                    request.blocks.push(Block { content: Content::Text(Text::Plain(rest)), cache: None, at });
                    request.end_turn(if word == "user" { Role::User } else { Role::System }, None, None, at, start);
                }
                "tool" => {
                    let (name, schema) = rest.split_once(' ').ok_or_else(|| at.must_be("a name and a schema"))?;
                    let (name, parameters) = (Text::Plain(name), Some(schema));
                    request.tools.push(Tool { name, description: None, parameters, strict: None, cache: None, at });
                }
                "luck" => {
                    request.sampling.seed = Some(rest);
                    request.params.push(Param { field: Some(Field::Seed), name: word.into(), loss: Loss::Hint, refused: false });
                }
                "heat" => request.sampling.temperature = Some((rest, Authority::Client)),
                "stream" => {}
                _ => return Err(at.must_be("a line of system, user, tool, luck, heat or stream")),
            }
        }
        Ok(request)
    }
}

/// Writes an answer of the protocol.
#[derive(Debug, Default, PartialEq)]
struct LineWriter {
    text: String,
    calls: Vec<(String, String)>,
    tokens: (u64, u64),
    end: Option<String>,
}

impl Sink for LineWriter {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Content { text, .. } => self.text.push_str(&text.decode()),
            Event::ToolStart { name, .. } => self.calls.push((name.decode().into_owned(), String::new())),
            Event::ToolArguments { call, fragment, .. } => self.calls[call as usize].1.push_str(&fragment.decode()),
            Event::Usage(usage) => self.tokens = (usage.prompt, usage.completion),
            Event::Finish { reason, .. } => self.end = Some(format!("{reason:?}")),
            _ => {}
        }
    }
}

impl Writer for LineWriter {}

/// Sends a request to the simulator and writes the answer.
async fn answer(lines: &Lines<'_>, target: &Target, simulator: SocketAddr) -> Result<LineWriter, ApiError> {
    let mut outgoing = target.dialect().encode(lines)?;
    let path = target.provider.base.path_and_query(&outgoing.path);
    let json = (http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    let signer = Signer::new(&target.provider.payer(), Existing::default()).unwrap();
    let hash = async { Ok(aws::hash(outgoing.body.iter())) };
    let proof = signer.sign(&path, std::slice::from_ref(&json), hash).await?;
    let mut request = format!("POST {path} HTTP/1.0\r\nhost: {simulator}\r\ncontent-length: {}\r\n", outgoing.body.len()).into_bytes();
    for (name, value) in outgoing.headers.iter().chain([&json]).chain(signer.fixed()).chain(&proof) {
        request.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend([b"\r\n", &outgoing.body.joined()[..]].concat());
    let (mut stream, mut bytes) = (TcpStream::connect(simulator).await.unwrap(), Vec::new());
    stream.write_all(&request).await.unwrap();
    stream.read_to_end(&mut bytes).await.unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (head, body) = (String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase(), &bytes[end..]);
    assert!(head.contains(" 200 "), "{path}: {head}{}", String::from_utf8_lossy(body));
    let (mut order, mut writer, decoder) = (Order::default(), LineWriter::default(), &mut outgoing.decoder);
    if head.contains("content-type: application/json") {
        decoder.whole(body, &mut order.over(&mut writer)).unwrap();
    } else {
        let mut framer = Framer::new(outgoing.framing);
        let mut each = |frame: Frame<'_>| decoder.frame(frame, &mut order.over(&mut writer));
        framer.push(body, &mut each).unwrap();
        framer.finish(&mut each).unwrap();
        decoder.end(&mut order.over(&mut writer)).unwrap();
    }
    writer.tokens = order.usage().map_or((0, 0), |usage| (usage.prompt, usage.completion));
    order.complete(&mut writer).unwrap();
    Ok(writer)
}

#[tokio::test]
async fn a_front_of_lines_is_answered_by_every_dialect_whole_and_streamed() {
    let simulator = Simulator::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = simulator.local_addr();
    tokio::spawn(simulator.serve(std::future::pending::<()>()));
    let env = |name: &str| (name == "TIDEGATE_DEMO_SIMULATOR").then(|| address.to_string());
    let demo = tidegate::config::parse(tidegate::demo::CONFIG, "demo", &env).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot;
    let mut kinds = HashSet::new();
    for route in demo.routes.iter().filter(|route| route.targets.len() == 1 && route.fallback.is_empty()) {
        let target = &route.targets[0];
        let ModelName::Fixed(model) = &target.model else { continue };
        kinds.insert(target.provider.kind.name.as_str());
        let hello = "system: Be brief.\nuser: Hello there, Zürich";
        let read = async |text: &str| answer(&Lines { text, model }, target, address).await.unwrap();
        let whole = read(hello).await;
        assert!(whole.text.ends_with("You said: Hello there, Zürich"), "{} {whole:?}", route.name);
        assert!(whole.end.is_some() && whole.tokens.0 > 0 && whole.tokens.1 > 0, "{} {whole:?}", route.name);
        assert_eq!(read(&format!("stream: yes\n{hello}")).await, whole, "{}", route.name);
        if !["sagemaker-tgi", "sagemaker-llama2"].contains(&&*route.name) {
            let schema = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
            let called = read(&format!("tool: get_weather {schema}\nuser: How is the weather in Paris?")).await;
            let arguments: Vec<serde_json::Value> = called.calls.iter().map(|(_, json)| serde_json::from_str(json).unwrap()).collect();
            assert_eq!(arguments, [serde_json::json!({ "city": "Paris" })], "{}", route.name);
        }
    }
    assert!(kinds.len() >= 12, "{kinds:?}");
}

#[test]
fn refusals_and_dropped_hints_use_the_clients_own_words() {
    let (_, target) = targets::all().into_iter().find(|(name, _)| &**name == "anthropic").unwrap();
    let encode = |text| target.dialect().encode(&Lines { text, model: targets::model(&target) });
    assert_eq!(encode("user: Hi\nluck: 7").unwrap().dropped, ["luck"]);
    let refused = encode("user: Hi\ntool: f []").err().unwrap();
    assert_eq!((refused.status, refused.param.as_deref()), (400, Some("line[1]")));
}
