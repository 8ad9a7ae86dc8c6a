//! What clients ask for, and the only answers that each request may get.
//!
//! A request carries a token that no other one has, and the simulator repeats it: "Hello from MODEL! You said: TOKEN".

use crate::world::DIALECTS;
use fastrand::Rng;
use serde_json::{Value, json};
use std::time::Duration;
use tidegate::simulate::seen::sha256_hex;

/// Pieces of a streamed answer; fewer than a text has bytes, or the simulator would send its filler.
const CHUNKS: usize = 40;
/// What large answers are made of: the simulator's filler.
const FILLER: &str = "The tide comes in and the tide goes out, and the gate lets each wave pass in its turn. ";
/// Sizes of large bodies, in bytes.
const LARGE: std::ops::Range<usize> = 100_000..1_200_000;

/// A request and its expectation.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its kind, for the report.
    pub name: &'static str,
    /// The body.
    pub body: Value,
    /// Which answers are good.
    pub expect: Expect,
}

/// Which answers are good.
#[derive(Clone, Debug)]
pub enum Expect {
    /// Exactly one of these texts.
    Text(Vec<String>),
    /// One call of a tool with this argument.
    Call(String),
    /// A stream that ends in an error event after a part of the first text, or the second text, from the fallback.
    Broken([String; 2]),
    /// As [`Expect::Text`]; a stream may also break with an error event after a part of it.
    Fragile(String),
    /// None: the client leaves.
    Leave(Leave),
}

/// When a client leaves.
#[derive(Clone, Copy, Debug)]
pub enum Leave {
    /// After half of its request.
    Sending,
    /// While it waits for the answer's head, after so long.
    Waiting(Duration),
    /// After so many events.
    Reading(usize),
}

impl Scenario {
    /// The next request of a client; `number` is different for each.
    pub fn draw(random: &mut Rng, number: u64) -> Self {
        let token = format!("tok-{}", &sha256_hex(&number.to_le_bytes()).repeat(2)[..100]);
        let (dialect, _, _, model) = DIALECTS[random.usize(..DIALECTS.len())];
        let good = format!("{dialect}/{model}");
        let stream = random.bool();
        match random.u8(..100) {
            0..20 => Self::text("buffered", &[model], &good, &token, false),
            20..40 => Self::text("stream", &[model], &format!("{good}+chunks={CHUNKS}+pace={}ms", random.u8(..4)), &token, true),
            40..47 => Self::call(&good, &token, stream),
            47..52 => Self::results(&good, &token, stream),
            52..56 => Self::large_request(&good, model, &token, stream, random.usize(LARGE)),
            56..60 => Self::large_answer(&good, &token, stream, random.usize(LARGE)),
            60..72 => Self::over(random, dialect, model, &token, number, stream),
            72..78 => Self::broken(random, dialect, model, &token, number),
            78..84 => {
                let mut one = Self::text("dying peer", &["qwen3"], "peer/qwen3+chunks=40+pace=5ms", &token, stream);
                one.expect = Expect::Fragile(said("qwen3", &token));
                one
            }
            84..92 => {
                let models = DIALECTS.map(|(_, _, _, model)| model);
                let route = ["weighted", "least_requests", "latency", "sticky"][random.usize(..4)];
                Self::text("balanced", &models, route, &token, stream)
            }
            _ => Self::leaving(random, &good, &token),
        }
    }

    fn text(name: &'static str, models: &[&str], route: &str, token: &str, stream: bool) -> Self {
        let expect = Expect::Text(models.iter().map(|model| said(model, token)).collect());
        Self { name, body: body(route, json!([{ "role": "user", "content": token }]), stream), expect }
    }

    fn call(route: &str, token: &str, stream: bool) -> Self {
        let mut body = body(route, json!([{ "role": "user", "content": "What is the weather?" }]), stream);
        body["tools"] = tools(&json!({ "type": "string", "enum": [token] }));
        body["tool_choice"] = "required".into();
        Self { name: "tool call", body, expect: Expect::Call(token.to_owned()) }
    }

    fn results(route: &str, token: &str, stream: bool) -> Self {
        let result = format!("{token} ").repeat(15);
        let call =
            json!({ "id": "call_1", "type": "function", "function": { "name": "get_weather", "arguments": "{\"city\":\"Paris\"}" } });
        let messages = json!([
            { "role": "user", "content": "What is the weather?" },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "call_1", "content": result },
        ]);
        let mut body = body(route, messages, stream);
        body["tools"] = tools(&json!({ "type": "string" }));
        Self { name: "tool result", body, expect: Expect::Text(vec![format!("Here is what the tool says: {result}")]) }
    }

    fn large_request(route: &str, model: &str, token: &str, stream: bool, size: usize) -> Self {
        let filling: String = FILLER.chars().cycle().take(size).collect();
        let messages = json!([{ "role": "system", "content": filling }, { "role": "user", "content": token }]);
        Self { name: "large request", body: body(route, messages, stream), expect: Expect::Text(vec![said(model, token)]) }
    }

    /// The size is the token: nothing else of the request is in the filler.
    fn large_answer(route: &str, token: &str, stream: bool, size: usize) -> Self {
        let filling: String = FILLER.chars().cycle().take(size).collect();
        let mut body = body(&format!("{route}+bytes={size}"), json!([{ "role": "user", "content": token }]), stream);
        body["max_tokens"] = (size / 4 + 1).into(); // Claude's API requires one, and the gateway's default is short
        Self { name: "large answer", body, expect: Expect::Text(vec![filling]) }
    }

    /// Troubles before the first content, which the fallback makes good. A name of its own begins without a record, the
    /// common one is soon ejected.
    fn over(random: &mut Rng, dialect: &str, model: &str, token: &str, number: u64, stream: bool) -> Self {
        const TROUBLES: [&str; 14] = [
            "status=500",
            "status=503",
            "status=429+retry-after=1",
            "status=529",
            "close",
            "die-after-headers",
            "cut-after=0",
            "json=garbage",
            "json=empty",
            "json=html",
            "hang",
            "stall",
            "comment-stall",
            "delay=1ms",
        ];
        let trouble = TROUBLES[random.usize(..TROUBLES.len())];
        let unique = if random.bool() { format!("-{number}") } else { String::new() };
        let route = format!("over-{dialect}/{model}{unique}+{trouble}");
        let own = format!("{model}{unique}");
        Self::text("fail-over", &["qwen3", &own], &route, token, stream)
    }

    fn broken(random: &mut Rng, dialect: &str, model: &str, token: &str, number: u64) -> Self {
        let trouble = ["cut-after=30", "error-after=30"][random.usize(..2)];
        let own = format!("{model}-{number}");
        let mut one = Self::text("break", &[], &format!("break-{dialect}/{own}+chunks={CHUNKS}+{trouble}"), token, true);
        one.expect = Expect::Broken([said(&own, token), said("qwen3", token)]);
        one
    }

    fn leaving(random: &mut Rng, good: &str, token: &str) -> Self {
        let leave = match random.u8(..3) {
            0 => Leave::Sending,
            1 => Leave::Waiting(Duration::from_millis(random.u64(1..200))),
            _ => Leave::Reading(random.usize(1..10)),
        };
        let script = if matches!(leave, Leave::Waiting(_)) { "delay=2s" } else { "chunks=60+pace=20ms" };
        let mut one =
            Self::text("client leaves", &[], &format!("{good}+{script}"), token, random.bool() || matches!(leave, Leave::Reading(_)));
        one.expect = Expect::Leave(leave);
        one
    }

    /// Whether the client asks for a stream.
    pub fn stream(&self) -> bool {
        self.body["stream"] == true
    }
}

fn said(model: &str, token: &str) -> String {
    format!("Hello from {model}! You said: {token}")
}

fn tools(city: &Value) -> Value {
    let parameters = json!({ "type": "object", "properties": { "city": city }, "required": ["city"] });
    json!([{ "type": "function", "function": { "name": "get_weather", "description": "The weather.", "parameters": parameters } }])
}

fn body(route: &str, messages: Value, stream: bool) -> Value {
    let mut body = json!({ "model": route, "messages": messages });
    if stream {
        body["stream"] = true.into();
        body["stream_options"] = json!({ "include_usage": true });
    }
    body
}

/// What came of a request, whatever the protocol.
#[derive(Debug, Default)]
pub struct Got {
    pub status: u16,
    pub content: String,
    /// Arguments of tool calls.
    pub arguments: String,
    /// Whether the answer is complete and says why it ended.
    pub complete: bool,
    /// The error, of a stream its event.
    pub error: Option<String>,
}

impl Expect {
    /// Whether a request got what it may get.
    pub fn check(&self, got: &Got) -> Result<(), String> {
        let whole = got.status == 200 && got.complete && got.error.is_none();
        let broken = |text: &str| got.status == 200 && !got.complete && got.error.is_some() && text.starts_with(&got.content);
        let good = match self {
            Self::Text(texts) => whole && texts.contains(&got.content),
            Self::Call(city) => whole && serde_json::from_str::<Value>(&got.arguments).is_ok_and(|a| a["city"] == city.as_str()),
            Self::Broken([own, other]) => broken(own) || (whole && got.content == *other),
            Self::Fragile(text) => broken(text) || (whole && got.content == *text),
            Self::Leave(_) => true,
        };
        let short = |text: &str| text.chars().take(200).collect::<String>();
        if good {
            return Ok(());
        }
        let Got { status, content, arguments, complete, error } = got;
        Err(format!(
            "{status}, complete {complete}, error {error:?}, content {} bytes {:?}, arguments {:?}",
            content.len(),
            short(content),
            short(arguments)
        ))
    }
}
