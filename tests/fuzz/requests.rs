//! What clients ask: the envelope, the splice, and the encoders of every provider.

use crate::engine::fuzz;
use crate::mutate::Mutator;
use crate::{corpus, laws, targets};
use fastrand::Rng;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;
use tidegate::error::ApiError;
use tidegate::front::chat::head::Head;
use tidegate::front::responses::response::Response;
use tidegate::front::{Front, responses};
use tidegate::json::envelope::{self, MAX_MEMBERS};
use tidegate::json::splice::Splice;
use tidegate::json::utf8;
use tidegate::llm::envelope::{ChatRequest, Parsed};
use tidegate::llm::messages::Headers;
use tidegate::llm::settings::Params;
use tidegate::llm::state::{Seal, Sealer};
use tidegate::operation::{Beside, Operation};
use tidegate::provider::Target;
use tidegate::provider::protocol::Protocol;

pub fn refusal(error: &ApiError) {
    assert!((400..500).contains(&error.status), "{error:?}");
    assert!(error.message.len() > 3 && error.message.len() < 4096, "{error:?}");
    for front in [Front::OpenAi, Front::Messages, Front::Responses] {
        laws::is_object(&front.error(error, uuid::Uuid::nil()));
    }
}

fn params(rng: &mut Rng) -> Params {
    let all = [
        ("temperature", "0.5"),
        ("max_tokens", "17"),
        ("stop", "[\"a\"]"),
        ("zz", "{\"a\":1}"),
        ("reasoning_effort", "\"low\""),
        ("top_p", "null"),
    ];
    let mut some = || all.iter().filter(|_| rng.u8(..) < 20).map(|(key, json)| ((*key).to_owned(), (*json).to_owned())).collect();
    Params { defaults: some(), overrides: some(), reject_unsupported: rng.u8(..) < 20, ..Params::default() }
}

pub fn encoders(name: &str, operation: Operation, corpus: &[Vec<u8>], cases: u64) {
    let seal = Seal::new(Arc::new(Sealer::new(&[7; 32]).unwrap()), "team".into(), "p".into());
    let seals = [seal.clone(), seal.forgetting()];
    let targets: Vec<(Arc<str>, Arc<Target>)> = targets::all();
    fuzz(name, corpus, Mutator::Json, cases, |input, rng| {
        let parsed = match operation.parse(input.to_vec().into()) {
            Err(error) => return refusal(&error),
            Ok(parsed) => parsed,
        };
        let params = params(rng);
        for _ in 0..6 {
            let (name, target) = &targets[rng.usize(..targets.len())];
            let system = rng.bool().then_some("Be \"brief\".\n");
            let seal = seals.get(rng.usize(..3));
            let request = ChatRequest { parsed: &parsed, params: &params, system, model: targets::model(target), seal };
            let _ = operation.prospect(&request);
            let headers = Headers { version: None, beta: if rng.bool() { "a,b-1" } else { "" }.into() };
            let beside = if operation == Operation::Responses { beside(&parsed) } else { Beside::Messages(headers) };
            match operation.encode(&request, &beside, target) {
                Err(error) => refusal(&error),
                Ok(out) => {
                    laws::is_object(&out.body.joined());
                    let untouched = params.defaults.is_empty() && params.overrides.is_empty() && system.is_none();
                    if operation == Operation::Messages && matches!(target.provider.protocol, Protocol::Anthropic(_)) && untouched {
                        let sent: Vec<_> = members(input).unwrap().into_iter().map(|(key, value)| (key == "model", value)).collect();
                        let got = members(&out.body.joined()).unwrap().into_iter().map(|(key, value)| (key == "model", value));
                        assert!(
                            sent.iter().zip(got).all(|(sent, got)| sent.0 == got.0 && (sent.0 || sent.1 == got.1)),
                            "another byte changed"
                        );
                    }
                    assert!(out.path.starts_with('/') && out.path.bytes().all(|b| b.is_ascii_graphic()), "{name}: {}", out.path);
                    assert!(
                        out.dropped.len() <= 64 && out.dropped.iter().all(|name| !name.is_empty() && name.len() <= 300),
                        "{name}: {:?}",
                        out.dropped
                    );
                    assert!(out.headers.iter().all(|(_, value)| value.to_str().is_ok()), "{name}: {:?}", out.headers);
                }
            }
        }
    });
}

#[test]
fn chat_requests_to_every_provider() {
    encoders("encode/chat", Operation::Chat, &corpus::chats(), 7000);
}

#[test]
fn messages_requests_to_every_provider() {
    encoders("encode/messages", Operation::Messages, &corpus::messages(), 7000);
    encoders("encode/count_tokens", Operation::CountTokens, &corpus::messages(), 2000);
}

#[test]
fn responses_requests_to_every_provider() {
    encoders("encode/responses", Operation::Responses, &corpus::responses(), 7000);
}

/// What a request of the Responses API has beside its body.
fn beside(parsed: &Parsed) -> Beside {
    let head = Head::new(uuid::Uuid::nil(), uuid::Uuid::nil(), 0, "r");
    let response = Response::new(&head, parsed, responses::tools::functions(parsed, &Params::default()), || 0);
    let beat = response.heartbeat();
    laws::is_object(&beat.split(|byte| *byte == b'\n').nth(1).unwrap()[b"data: ".len()..]);
    Beside::Responses { response, stored: None }
}

#[test]
fn embeddings_requests_to_every_provider() {
    encoders("encode/embeddings", Operation::Embeddings, &corpus::embeddings(), 6000);
}

/// Members of an object as serde reads them, in their order; `None` where it is none, or has a name twice.
fn members(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let all = laws::read_members(std::str::from_utf8(bytes).ok()?).ok()?;
    let unique = all.iter().enumerate().all(|(at, (key, _))| all[..at].iter().all(|(known, _)| known != key));
    unique.then(|| all.into_iter().map(|(key, value)| (key, value.get().to_owned())).collect())
}

#[test]
fn the_envelope_accepts_what_is_json_and_nothing_else() {
    for (name, mutator) in [("envelope/bytes", Mutator::Bytes), ("envelope/json", Mutator::Json)] {
        fuzz(name, &[corpus::chats(), corpus::kept("envelope")].concat(), mutator, 12000, |input, _| {
            let scanned = utf8::text(input).and_then(envelope::scan);
            match &scanned {
                Ok(envelope) => {
                    laws::is_object(input);
                    let seen: Vec<_> = envelope.members.iter().map(|m| String::from_utf8_lossy(m.value.of(input)).into_owned()).collect();
                    let want: Vec<_> = members(input).unwrap().into_iter().map(|(_, value)| value).collect();
                    assert_eq!(seen, want);
                }
                Err(error) => {
                    assert!(error.offset <= input.len() && error.line >= 1 && error.column >= 1, "{error:?}");
                    let shallow = serde_json::from_slice::<Value>(input).is_ok();
                    let fine = shallow && members(input).is_some_and(|all| all.len() <= MAX_MEMBERS);
                    assert!(!fine, "{error}, which is not so");
                }
            }
            if let Err(error) = Parsed::parse(input.to_vec().into()) {
                refusal(&error);
            }
        });
    }
}

#[test]
fn a_splice_changes_what_it_was_told_to() {
    fuzz("splice", &corpus::chats(), Mutator::Json, 7000, |input, rng| {
        let body = bytes::Bytes::copy_from_slice(input);
        let Ok(envelope) = utf8::text(&body).and_then(envelope::scan) else { return };
        let Some(mut want) = members(input) else { return };
        let mut splice = Splice::new(&body, &envelope);
        let mut removed = Vec::new();
        for (at, member) in envelope.members.iter().enumerate() {
            match rng.u8(..8) {
                0 => {
                    splice.remove(member);
                    removed.push(at);
                }
                1 => {
                    splice.replace(member, Cow::Borrowed(b"{\"new\":[1]}"));
                    want[at].1 = "{\"new\":[1]}".to_owned();
                }
                2 if want[at].1.starts_with('[') => {
                    splice.insert_into_array_start(member, Cow::Borrowed(b"\"first\""));
                    let empty = want[at].1[1..].trim_start() == "]";
                    let mut all: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(&want[at].1).unwrap();
                    all.insert(0, serde_json::value::RawValue::from_string("\"first\"".to_owned()).unwrap());
                    assert_eq!(empty, all.len() == 1);
                    want[at].1 = serde_json::to_string(&all).unwrap();
                }
                _ => {}
            }
        }
        for at in removed.into_iter().rev() {
            want.remove(at);
        }
        for number in 0..rng.usize(..3) {
            splice.insert(&format!("more{number}\\"), Cow::Borrowed(b"null"));
            want.push((format!("more{number}\\"), "null".to_owned()));
        }
        let out = splice.finish().joined();
        laws::is_json(&out);
        let tight = |list: Vec<(String, String)>| list.into_iter().map(|(key, json)| (key, tight(&json))).collect::<Vec<_>>();
        assert_eq!(members(&out).map(tight), Some(tight(want)));
    });
}

/// A document without its white space between values.
fn tight(json: &str) -> String {
    let (mut out, mut inside, mut escaped) = (String::with_capacity(json.len()), false, false);
    for c in json.chars() {
        if inside || !c.is_ascii_whitespace() {
            out.push(c);
        }
        match (inside, c) {
            (true, '\\') => escaped = !escaped,
            (_, '"') if !escaped => inside = !inside,
            _ => escaped = false,
        }
    }
    out
}
