//! Everything else that reads what others wrote: refusals, sealed ids, configurations, model names, trace headers.

use crate::engine::fuzz;
use crate::mutate::Mutator;
use crate::{corpus, targets};
use http::{HeaderMap, HeaderValue};
use std::time::Duration;
use tidegate::llm::state::{MAX_ID, Sealer};
use tidegate::telemetry::trace::Trace;
use tidegate::{config, route};

#[test]
fn refusals_of_every_provider() {
    let targets = targets::all();
    let waits =
        ["1", "0", "-1", "1.5", "999999999999999999999", "NaN", "inf", "1e400", "Wed, 21 Oct 2015 07:28:00 GMT", "17ms", "\u{fc}", ""];
    let kinds = ["ThrottlingException", "ValidationException:http://h/", "ModelNotReadyException", "", "x"];
    fuzz("error", &corpus::errors(), Mutator::Json, 4000, |input, rng| {
        let mut headers = HeaderMap::new();
        for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset"] {
            if rng.bool() {
                headers.insert(name, HeaderValue::from_bytes(waits[rng.usize(..waits.len())].as_bytes()).unwrap());
            }
        }
        if rng.bool() {
            headers.insert("x-amzn-errortype", HeaderValue::from_static(kinds[rng.usize(..kinds.len())]));
        }
        let status = [400, 401, 403, 404, 408, 413, 422, 424, 429, 500, 503, 529, 302, 600][rng.usize(..14)];
        for (name, target) in &targets {
            let error = target.dialect().read_error(status, &headers, input);
            assert!(!error.message.is_empty(), "{name} says nothing");
            assert!(error.message.len() <= 8192, "{name}: {} bytes", error.message.len());
            assert!(error.retry_after.is_none_or(|wait| wait <= Duration::from_secs(366 * 86400)), "{name}: {:?}", error.retry_after);
        }
    });
}

#[test]
fn a_sealed_id_opens_only_as_it_was_sealed() {
    let sealer = Sealer::new(&[3; 32]).unwrap();
    let ids = [("call_1", &b"state"[..]), ("", b"\0\xff"), ("a--tg1-b", &[7; 300]), ("call_1", b"other")];
    let corpus: Vec<Vec<u8>> = ids.iter().map(|(id, state)| sealer.seal(b"team", id, state).into_bytes()).collect();
    fuzz("seal", &corpus, Mutator::Bytes, 10000, |input, _| {
        let text = String::from_utf8_lossy(input);
        if let Some((id, state)) = sealer.open(b"team", &text) {
            assert_eq!(sealer.seal(b"team", &id, &state), text, "a forgery");
        }
        assert_eq!(sealer.open(b"another team", &text), None);
    });
    assert_eq!(sealer.open(b"team", &format!("{}{}", "x".repeat(MAX_ID), String::from_utf8_lossy(&corpus[0]))), None);
}

#[test]
fn configurations() {
    let shipped = ["tidegate.yaml", "demo.yaml"].map(|name| std::fs::read(format!("{}/conf/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap());
    let corpus = [corpus::kept("config"), shipped.to_vec(), vec![targets::CONFIGURATION.as_bytes().to_vec()]].concat();
    fuzz("config", &corpus, Mutator::Bytes, 1000, |input, rng| {
        let text = String::from_utf8_lossy(input);
        let set = rng.bool();
        if let Err(problems) = config::parse(&text, "c.yaml", &|name| set.then(|| name.to_owned())) {
            assert!(!problems.is_empty(), "refused without a reason");
            for problem in problems {
                let Some(at) = problem.at else { unreachable!("{problem:?}") };
                assert!(at.line >= 1 && at.column >= 1 && !problem.message.is_empty(), "{problem:?}");
                // A YAML line may also end with a carriage return.
                assert!(at.line <= text.split(['\n', '\r']).count() + 1, "line {} of {}", at.line, text.lines().count());
            }
        }
    });
}

#[test]
fn model_names() {
    let snapshot = targets::snapshot();
    let corpus: Vec<Vec<u8>> = ["openai", "team/x", "team/", "tensorzero::model_name::openai", "tidegate::team/*", "", "*", "OpenAI"]
        .map(|name| name.into())
        .to_vec();
    fuzz("model", &corpus, Mutator::Bytes, 10000, |input, _| {
        let name = String::from_utf8_lossy(input);
        let Some(found) = route::r#match::find(&snapshot.routes, &name) else { return };
        assert!(found.star.is_none_or(|star| !star.is_empty() && name.ends_with(star)), "{:?}", found.star);
        let target = &snapshot.routes[found.route].targets[0];
        assert!(!found.model(&target.model).is_empty());
    });
}

#[test]
fn trace_headers() {
    let corpus: Vec<Vec<u8>> = [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-00000000000000000000000000000000-0000000000000000-00",
    ]
    .map(|text| text.into())
    .to_vec();
    fuzz("traceparent", &corpus, Mutator::Bytes, 10000, |input, rng| {
        let text = String::from_utf8_lossy(input);
        let trace = Trace::continue_or_begin(Some(&text), None, || rng.u64(..));
        assert!(trace.trace_id != 0 && trace.span_id != 0);
        let header = String::from_utf8(trace.header().to_vec()).unwrap();
        assert!(header.len() == 55 && header.starts_with("00-"), "{header}");
        let next = Trace::continue_or_begin(Some(&header), None, || 9);
        assert_eq!((next.trace_id, next.flags), (trace.trace_id, trace.flags), "{header}");
    });
}
