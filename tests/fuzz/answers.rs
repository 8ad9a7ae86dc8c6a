//! Answers of every provider through the whole relay: framer, decoder, order and writer.

use crate::engine::{fuzz, pieces};
use crate::mutate::Mutator;
use crate::{corpus, laws, targets};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate::dialect::Outgoing;
use tidegate::frame::Framing;
use tidegate::front::chat::chunk::UsagePlace;
use tidegate::front::chat::head::Head;
use tidegate::front::messages::ids::Used;
use tidegate::front::responses::response::Response;
use tidegate::llm::envelope::ChatRequest;
use tidegate::llm::failure::Fault;
use tidegate::llm::settings::Params;
use tidegate::llm::state::{Seal, Sealer};
use tidegate::operation::Beside;
use tidegate::operation::Operation;
use tidegate::provider::Target;
use tidegate::relay::{Form, MAX_WHOLE_ANSWER, Relay};
use uuid::Uuid;

/// How an answer's body comes.
#[derive(Clone, Copy)]
enum Body {
    Whole,
    /// A stream in the framing that belongs to the request.
    Stream,
    /// A stream in any framing.
    Framed(Framing),
}

/// One way to have asked, which decides how an answer is read.
struct Asked {
    target: Arc<Target>,
    operation: Operation,
    body: Value,
    seal: Seal,
}

impl Asked {
    fn encode(&self) -> Option<Outgoing> {
        let parsed = self.operation.parse(self.body.to_string().into()).unwrap();
        let (params, model) = (Params::default(), targets::model(&self.target));
        let request = ChatRequest { parsed: &parsed, params: &params, system: None, model, seal: Some(&self.seal) };
        self.operation.encode(&request, &Beside::default(), &self.target).ok()
    }

    fn relay(&self, body: Body, form: Form) -> Relay {
        let outgoing = self.encode().unwrap();
        let framing = match body {
            Body::Whole => None,
            Body::Stream => Some(outgoing.framing),
            Body::Framed(framing) => Some(framing),
        };
        Relay::new(framing, outgoing.decoder, Head::new(Uuid::nil(), Uuid::nil(), 0, "as \"asked\""), form, Some(self.seal.clone()))
    }
}

/// Every way to ask these targets that they can be asked in.
fn ways(names: &[&str], stream: bool) -> Vec<Asked> {
    let chat = [
        json!({}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}], "stop": ["END"]}),
        json!({"guided_choice": ["a", "b"]}),
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "properties": {}}}}}),
        json!({"n": 2, "logprobs": true, "top_logprobs": 2}),
        json!({"reasoning_effort": "high", "max_tokens": 9000}),
    ];
    let embeddings = [json!({}), json!({"encoding_format": "base64"})];
    let seal = Seal::new(Arc::new(Sealer::new(&[7; 32]).unwrap()), "team".into(), "p".into());
    let mut out = Vec::new();
    for (name, target) in targets::all().into_iter().filter(|(name, _)| names.contains(&&**name)) {
        let embeds = name.ends_with("-embed");
        let (operation, more) = if embeds { (Operation::Embeddings, &embeddings[..]) } else { (Operation::Chat, &chat[..]) };
        for more in more {
            let mut body = match embeds {
                true => json!({"model": "r", "input": ["a", "b"]}),
                false => json!({"model": "r", "messages": [{"role": "user", "content": "x"}], "stream": stream}),
            };
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let asked = Asked { target: target.clone(), operation, body, seal: seal.clone() };
            out.extend(asked.encode().is_some().then_some(asked));
        }
    }
    assert!(out.len() >= names.len(), "{names:?} cannot be asked");
    out
}

/// Runs an answer to its end, or to its fault.
fn run(mut relay: Relay, pieces: &[&[u8]]) -> (Vec<u8>, Result<(), Fault>) {
    let mut out = Vec::new();
    for piece in pieces {
        let (bytes, result) = relay.push(piece);
        out.extend(bytes);
        if result.is_err() {
            return (out, result);
        }
    }
    let (bytes, result) = relay.end();
    out.extend(bytes);
    for after in [relay.push(b"data: {}\n\n"), relay.end()] {
        assert_eq!(after, (Vec::new(), Ok(())), "something after the end");
    }
    (out, result)
}

/// Tells an answer as a stream and whole, in the form that comes of this, and compares what is said there; whether it is complete.
fn same<T: PartialEq + std::fmt::Debug>(
    (asked, body, input, cut): (&Asked, Body, &[u8], &[&[u8]]),
    form: impl Fn(bool) -> Form,
    stream: impl Fn(&[u8], bool) -> T,
    whole: impl Fn(&[u8]) -> T,
) -> bool {
    let told = run(asked.relay(body, form(true)), &[input]);
    assert_eq!(run(asked.relay(body, form(true)), cut), told, "cut at {:?}", cut.iter().map(|p| p.len()).collect::<Vec<_>>());
    let (bytes, result) = told;
    let streamed = stream(&bytes, result.is_ok());
    let (bytes, end) = run(asked.relay(body, form(false)), cut);
    assert_eq!(end, result, "whether the answer is complete does not depend on how it is told");
    match end {
        Ok(()) => assert_eq!(whole(&bytes), streamed, "both forms say the same"),
        Err(_) => assert!(bytes.is_empty(), "a part of a whole answer"),
    }
    result.is_ok()
}

/// Whether the answer is complete.
fn check(asked: &Asked, body: Body, place: UsagePlace, input: &[u8], cut: &[&[u8]]) -> bool {
    let answer = (asked, body, input, cut);
    let chat = |stream| if stream { Form::Chunks(place) } else { Form::Completion };
    let chunks = |bytes: &[u8], complete| {
        assert!(bytes.len() <= (64 << 10) + 64 * input.len(), "{} bytes become {}", input.len(), bytes.len());
        laws::stream(bytes, complete, place)
    };
    let complete = same(answer, chat, chunks, laws::completion);
    match (asked.operation, input.len() % 3) {
        (Operation::Chat, 0) => {
            let form = |stream| if stream { Form::Events(Used::default()) } else { Form::Message(Used::default()) };
            same(answer, form, laws::events, laws::whole_message);
        }
        (Operation::Chat, 1) => {
            let form = |stream| Form::Response { response: Response::default(), stream };
            same(answer, form, laws::response_events, laws::whole_response);
        }
        _ => {}
    }
    complete
}

fn answers(name: &str, body: Body, mutator: Mutator, names: &[&str], corpus: &[Vec<u8>], cases: u64) {
    let ways = ways(names, matches!(body, Body::Stream));
    let ends = [AtomicU64::new(0), AtomicU64::new(0)];
    fuzz(name, corpus, mutator, cases, |input, rng| {
        let asked = &ways[rng.usize(..ways.len())];
        let place = [UsagePlace::Withheld, UsagePlace::Merged, UsagePlace::Separate][rng.usize(..3)];
        let cut = pieces(rng, input);
        let complete = check(asked, body, place, input, &cut);
        ends[usize::from(complete)].fetch_add(1, Ordering::Relaxed);
    });
    let [broken, complete] = ends.map(AtomicU64::into_inner);
    let enough = (broken + complete) / 20;
    assert!(broken >= enough && complete >= enough, "{name} tries little: {complete} complete answers, {broken} others");
}

const OPENAI: &[&str] = &["openai", "together", "deepseek", "xai", "vllm", "compatible-think", "vertex-other"];

#[test]
fn streams_of_openais_dialect() {
    answers("stream/openai", Body::Stream, Mutator::Sse, OPENAI, &corpus::streams("openai"), 6000);
}

#[test]
fn whole_answers_of_openais_dialect() {
    answers("whole/openai", Body::Whole, Mutator::Json, OPENAI, &corpus::wholes("openai"), 6000);
}

#[test]
fn answers_of_the_responses_api() {
    let names = &["openai-responses"];
    answers("stream/responses", Body::Stream, Mutator::Sse, names, &corpus::streams("openai/responses"), 6000);
    answers("whole/responses", Body::Whole, Mutator::Json, names, &corpus::wholes("openai/responses"), 3000);
}

#[test]
fn streams_of_mistral() {
    answers("stream/mistral", Body::Stream, Mutator::Sse, &["mistral"], &corpus::streams("openai"), 6000);
}

#[test]
fn whole_answers_of_mistral() {
    answers("whole/mistral", Body::Whole, Mutator::Json, &["mistral"], &corpus::wholes("openai"), 6000);
}

const ANTHROPIC: &[&str] = &["anthropic", "anthropic-adaptive", "anthropic-tool", "vertex-anthropic"];

#[test]
fn streams_of_anthropic() {
    answers("stream/anthropic", Body::Stream, Mutator::Sse, ANTHROPIC, &corpus::streams("anthropic"), 6000);
}

#[test]
fn whole_answers_of_anthropic() {
    answers("whole/anthropic", Body::Whole, Mutator::Json, ANTHROPIC, &corpus::wholes("anthropic"), 6000);
}

#[test]
fn streams_of_gemini() {
    answers("stream/gemini", Body::Stream, Mutator::Sse, &["gemini", "vertex"], &corpus::streams("gemini"), 6000);
}

#[test]
fn whole_answers_of_gemini() {
    answers("whole/gemini", Body::Whole, Mutator::Json, &["gemini", "vertex"], &corpus::wholes("gemini"), 6000);
}

const BEDROCK: &[&str] = &["bedrock", "bedrock-tool", "bedrock-nova"];

#[test]
fn streams_of_bedrock() {
    answers("stream/bedrock", Body::Stream, Mutator::Aws, BEDROCK, &corpus::streams("bedrock"), 6000);
}

#[test]
fn whole_answers_of_bedrock() {
    answers("whole/bedrock", Body::Whole, Mutator::Json, BEDROCK, &corpus::wholes("bedrock"), 6000);
}

#[test]
fn streams_of_sagemaker() {
    answers("stream/sagemaker", Body::Stream, Mutator::AwsSse, &["sagemaker"], &corpus::streams("sagemaker"), 5000);
    answers("stream/tgi", Body::Stream, Mutator::AwsSse, &["sagemaker-tgi"], &corpus::streams("tgi"), 5000);
}

#[test]
fn whole_answers_of_sagemaker() {
    answers("whole/sagemaker", Body::Whole, Mutator::Json, &["sagemaker"], &corpus::wholes("openai"), 3000);
    answers("whole/tgi", Body::Whole, Mutator::Json, &["sagemaker-tgi"], &corpus::wholes("tgi"), 3000);
    answers("whole/llama2", Body::Whole, Mutator::Json, &["sagemaker-llama2"], &corpus::wholes("llama2_chat"), 2000);
}

#[test]
fn a_whole_answer_to_a_request_for_a_stream() {
    let names = [OPENAI, ANTHROPIC, BEDROCK, &["gemini", "vertex", "mistral", "sagemaker", "sagemaker-tgi"]].concat();
    let ways = ways(&names, true);
    let corpus = ["openai", "anthropic", "gemini", "bedrock", "tgi"].map(corpus::wholes).concat();
    fuzz("whole/to-stream", &corpus, Mutator::Json, 5000, |input, rng| {
        let asked = &ways[rng.usize(..ways.len())];
        check(asked, Body::Whole, UsagePlace::Merged, input, &pieces(rng, input));
    });
}

/// What a proxy before the provider, or another provider at its address, may send.
#[test]
fn streams_of_another_dialect() {
    let names = [OPENAI, ANTHROPIC, BEDROCK, &["gemini", "vertex", "mistral", "sagemaker", "sagemaker-tgi"]].concat();
    let ways = ways(&names, true);
    let sse = ["openai", "anthropic", "gemini"].map(corpus::streams).concat();
    let aws = ["bedrock", "sagemaker", "tgi"].map(corpus::streams).concat();
    for (name, corpus, mutator, framings) in [
        ("stream/other-sse", sse, Mutator::Sse, &[Framing::Sse][..]),
        ("stream/other-aws", aws, Mutator::Aws, &[Framing::AwsEventStream, Framing::AwsSse]),
    ] {
        fuzz(name, &corpus, mutator, 3000, |input, rng| {
            let asked = &ways[rng.usize(..ways.len())];
            let body = Body::Framed(framings[rng.usize(..framings.len())]);
            check(asked, body, UsagePlace::Separate, input, &pieces(rng, input));
        });
    }
}

#[test]
fn answers_of_embeddings() {
    let names = ["openai", "titan-embed", "cohere-embed", "gemini-embed", "vertex-embed", "hf-embed", "tei-embed"];
    let mut ways = ways(&names, false);
    for asked in &mut ways {
        if asked.operation == Operation::Chat {
            (asked.operation, asked.body) = (Operation::Embeddings, json!({"model": "r", "input": ["a", "b"]}));
        }
    }
    ways.retain(|asked| asked.encode().is_some());
    fuzz("whole/embeddings", &corpus::wholes("embeddings"), Mutator::Json, 6000, |input, rng| {
        let asked = &ways[rng.usize(..ways.len())];
        let relay = || asked.relay(Body::Whole, Form::Embeddings { estimate: 5 });
        let told = run(relay(), &[input]);
        assert_eq!(run(relay(), &pieces(rng, input)), told);
        match told {
            (bytes, Ok(())) => laws::is_object(&bytes),
            (bytes, Err(_)) => assert!(bytes.is_empty(), "a part of a list"),
        }
    });
}

/// What a typed client reads of an answer, which has closed lists where the protocol has them.
fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> T {
    serde_json::from_slice(json).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(json)))
}

#[test]
fn saved_answers_of_every_dialect_parse_with_a_typed_client() {
    use async_openai::types::chat::{CreateChatCompletionResponse, CreateChatCompletionStreamResponse};
    let dialects = [
        ("openai", OPENAI),
        ("openai", &["mistral"][..]),
        ("openai/responses", &["openai-responses"]),
        ("anthropic", ANTHROPIC),
        ("gemini", &["gemini", "vertex"]),
        ("bedrock", BEDROCK),
        ("sagemaker", &["sagemaker"]),
        ("tgi", &["sagemaker-tgi"]),
        ("llama2_chat", &["sagemaker-llama2"]),
    ];
    let (mut chunks, mut wholes) = (0, 0);
    // Calls of custom tools, which only a client that has sent some can get, have another form in its types.
    let custom = |json: &&[u8]| json.windows(15).any(|text| text == b"\"type\":\"custom\"");
    for (dialect, names) in dialects {
        let streams = if dialect == "llama2_chat" { Vec::new() } else { corpus::streams(dialect) };
        for (asked, input) in ways(names, true).iter().flat_map(|asked| streams.iter().map(move |input| (asked, input))) {
            let (told, _) = run(asked.relay(Body::Stream, Form::Chunks(UsagePlace::Separate)), &[input]);
            let events = told.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data: "));
            for event in events.filter(|event| *event != b"[DONE]" && !custom(event)) {
                parse::<CreateChatCompletionStreamResponse>(event);
                chunks += 1;
            }
        }
        let bodies = if dialect == "sagemaker" { corpus::wholes("openai") } else { corpus::wholes(dialect) };
        for (asked, input) in ways(names, false).iter().flat_map(|asked| bodies.iter().map(move |input| (asked, input))) {
            if let (told, Ok(())) = run(asked.relay(Body::Whole, Form::Completion), &[input])
                && !custom(&&*told)
            {
                parse::<CreateChatCompletionResponse>(&told);
                wholes += 1;
            }
        }
    }
    assert!(chunks > 500 && wholes > 100, "{chunks} chunks and {wholes} completions were tried");
}

#[test]
fn saved_vectors_parse_with_a_typed_client() {
    use async_openai::types::embeddings::CreateEmbeddingResponse;
    let names = ["openai", "titan-embed", "cohere-embed", "gemini-embed", "vertex-embed", "hf-embed", "tei-embed"];
    let mut tried = 0;
    for asked in ways(&names, false).iter().filter(|asked| asked.operation == Operation::Embeddings) {
        let floats = asked.body["encoding_format"].is_null();
        for input in corpus::wholes("embeddings").iter().filter(|_| floats) {
            if let (told, Ok(())) = run(asked.relay(Body::Whole, Form::Embeddings { estimate: 5 }), &[input]) {
                parse::<CreateEmbeddingResponse>(&told);
                tried += 1;
            }
        }
    }
    assert!(tried > 5, "{tried} answers were tried");
}

#[test]
fn a_whole_answer_has_an_end() {
    let mut relay = ways(&["openai"], false)[0].relay(Body::Whole, Form::Completion);
    let piece = vec![b' '; 4 << 20];
    let most = MAX_WHOLE_ANSWER / piece.len();
    assert!((0..=most).any(|_| relay.push(&piece).1.is_err()));
}
