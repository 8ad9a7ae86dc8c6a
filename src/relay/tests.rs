//! Answers in every form, whole and cut.

use super::*;
use crate::dialect::Spent;
use crate::dialect::openai::decode::Decoder as OpenAi;
use uuid::Uuid;

#[test]
fn an_answer_ends_with_its_protocol_whatever_follows_and_however_it_is_cut() {
    let head = || Head::new(Uuid::nil(), Uuid::nil(), 0, "m");
    let relay = |form| Relay::new(Some(Framing::Sse), Box::new(OpenAi::new(false)), head(), form, None);
    let said = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n";
    for (form, start) in [(Form::Chunks(UsagePlace::Withheld), "data: {"), (Form::Completion, "{\"id\"")] {
        for tail in [&b""[..], b": and on\n\n", b"data: \xff\n\n", b"data: {"] {
            let whole = [said.as_bytes(), b"data: [DONE]\n\n", tail].concat();
            for size in [1, whole.len()] {
                let mut relay = relay(form.clone());
                let out: Vec<u8> = whole.chunks(size).flat_map(|piece| relay.push(piece).0).collect();
                let out = String::from_utf8(out).unwrap();
                assert!(relay.is_over() && out.starts_with(start) && out.contains("stop"), "{form:?}: {out}");
                assert_eq!(relay.end(), (Vec::new(), Ok(())));
            }
        }
        let mut open = relay(form.clone());
        assert!(open.push(said.as_bytes()).1.is_ok() && !open.is_over());
        let mut cut = relay(form);
        assert_eq!(cut.push(b"data: [DONE]\n\n").1, Err(Fault::Truncated));
    }
}

#[test]
fn an_answer_that_is_kept_is_bounded_and_one_that_is_passed_on_is_not() {
    let piece = [b":".to_vec(), vec![b'x'; 1 << 20], b"\n\n".to_vec()].concat();
    for (form, ends) in [(Form::Completion, true), (Form::Chunks(UsagePlace::Withheld), false)] {
        let head = Head::new(Uuid::nil(), Uuid::nil(), 0, "m");
        let mut relay = Relay::new(Some(Framing::Sse), Box::new(Spent), head, form.clone(), None);
        let broken = (0..65).any(|_| relay.push(&piece).1.is_err());
        assert_eq!(broken, ends, "{form:?}");
    }
}

#[test]
fn an_error_in_another_form_than_the_dialects_is_read_in_every_stream() {
    use crate::dialect::anthropic;
    use crate::llm::failure::FailureClass;
    let google = "data: {\"error\":{\"code\":429,\"message\":\"Resource exhausted\",\"status\":\"RESOURCE_EXHAUSTED\"}}\n\n";
    let llama = "error: {\"code\":400,\"message\":\"exceeds the available context size\"}\n\n";
    let bare = "{\"detail\":\"too many requests\",\"code\":429}\n\n";
    let named = "event: error\ndata: {\"type\":\"timeout\",\"message\":\"too slow\"}\n\n";
    for (text, class) in [
        (google, FailureClass::RateLimited),
        (llama, FailureClass::BadRequest),
        (bare, FailureClass::RateLimited),
        (named, FailureClass::Timeout),
    ] {
        let claude: Box<dyn Decoder> = Box::new(anthropic::decode::Decoder::new(None, false));
        for decoder in [claude, Box::new(OpenAi::new(false))] {
            let head = Head::new(Uuid::nil(), Uuid::nil(), 0, "m");
            let mut relay = Relay::new(Some(Framing::Sse), decoder, head, Form::Chunks(UsagePlace::Withheld), None);
            let (_, begun) = relay.push(b": begins\n\n");
            let (_, fault) = relay.push(text.as_bytes());
            let Err(Fault::Provider(error)) = begun.and(fault) else { panic!("{text}") };
            assert_eq!(error.class, class, "{text}");
        }
    }
}

/// What a client gets of a body under a label, whole and byte by byte.
fn written(label: Option<Framing>, body: &[u8], form: Form) -> (String, Result<(), Fault>) {
    let run = |size: usize| {
        let decoder = Box::new(crate::dialect::openai::decode::Decoder::default());
        let mut relay = Relay::new(label, decoder, Head::new(Uuid::nil(), Uuid::nil(), 0, "m"), form.clone(), None);
        let mut out = Vec::new();
        let pushed = body.chunks(size).try_for_each(|piece| {
            let (bytes, result) = relay.push(piece);
            out.extend_from_slice(&bytes);
            result
        });
        let end = pushed.and_then(|()| {
            let (bytes, result) = relay.end();
            out.extend_from_slice(&bytes);
            result
        });
        (String::from_utf8(out).unwrap(), end)
    };
    let whole = run(body.len().max(1));
    assert_eq!(whole, run(1));
    whole
}

#[test]
fn a_body_is_read_as_what_it_is_whatever_its_label() {
    let json = r#"{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
    let sse = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let chunks = Form::Chunks(UsagePlace::Withheld);
    for body in [json.to_owned(), format!("\u{feff}{json}"), format!("\n\n {json}"), sse.to_owned(), format!("\u{feff}\r\n: x\n\n{sse}")] {
        for label in [None, Some(Framing::Sse), Some(Framing::AwsEventStream)] {
            let (streamed, end) = written(label, body.as_bytes(), chunks.clone());
            assert!(end.is_ok() && streamed.contains(r#""content":"hi""#) && streamed.ends_with("data: [DONE]\n\n"), "{body}: {streamed}");
            let (whole, end) = written(label, body.as_bytes(), Form::Completion);
            assert!(end.is_ok() && whole.contains(r#""content":"hi""#), "{body}: {whole}");
        }
    }
    let error = r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#;
    assert!(matches!(written(Some(Framing::Sse), error.as_bytes(), chunks.clone()).1, Err(Fault::Provider(_))));
    for label in [None, Some(Framing::Sse)] {
        assert!(written(label, b" \n", chunks.clone()).1.is_err());
    }
}

#[test]
fn of_a_stream_that_was_not_asked_for_nothing_passes() {
    let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let form = Form::Native { protocol: native::Protocol::Messages, stream: false };
    let (out, end) = written(Some(Framing::Sse), stream.as_bytes(), form);
    assert!(out.is_empty() && matches!(end, Err(Fault::Broken(_))), "{out}");
}

/// Makes decoders.
type Dialect<'a> = &'a dyn Fn() -> Box<dyn Decoder>;

/// What is written of events in this order, in pieces of `size` bytes, and what is counted.
fn rewritten(
    dialect: &dyn Fn() -> Box<dyn Decoder>,
    events: &[&str],
    place: UsagePlace,
    size: usize,
) -> (String, bool, u64, Option<Usage>) {
    let head = Head::new(Uuid::nil(), Uuid::nil(), 0, "m");
    let mut relay = Relay::new(Some(Framing::Sse), dialect(), head, Form::Chunks(place), None);
    let (body, mut out) = (events.concat(), Vec::new());
    let mut good = true;
    for piece in body.as_bytes().chunks(size) {
        let (bytes, result) = relay.push(piece);
        out.extend(bytes);
        good = result.is_ok();
        if !good {
            break;
        }
    }
    if good {
        let (bytes, result) = relay.end();
        out.extend(bytes);
        good = result.is_ok();
    }
    (String::from_utf8(out).unwrap(), good, relay.content_bytes(), relay.usage())
}

#[test]
fn events_mean_the_same_however_they_are_cut_and_whatever_came_before() {
    let openai = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" two \\\"\\\\\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"0\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"1\"}}]}\r\n\r\n",
        "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"é\"}}]}\r\n\r\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"c\",\"refusal\":\"r\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"d\",\"reasoning\":\"r\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"u\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":7}}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"f\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"g\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"b\",\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"arguments\":\"1\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"message\":{\"content\":\"m\"}},{\"index\":0,\"delta\":{\"reasoning\":5}}]}\n\n",
        ": a comment\n\n",
        "data: [DONE]\n\n",
    ];
    let delta = |index: u8, delta: &str| {
        format!("event: x\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{{delta}}}}}\n\n")
    };
    let begin = |index: u8, kind: &str| {
        format!("data: {{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{{\"type\":\"{kind}\"}}}}\n\n")
    };
    let anthropic = [
        begin(0, "text"),
        begin(0, "thinking"),
        begin(1, "text"),
        delta(0, "\"text\":\"one\""),
        delta(0, "\"text\":\"two\""),
        delta(1, "\"text\":\"three\""),
        delta(0, "\"thinking\":\"hm\""),
        "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n".into(),
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n".into(),
        "data: {\"type\":\"message_stop\"}\n\n".into(),
    ];
    let anthropic: Vec<&str> = anthropic.iter().map(String::as_str).collect();
    let as_openai = || Box::new(OpenAi::new(false)) as Box<dyn Decoder>;
    let as_anthropic = || Box::new(crate::dialect::anthropic::decode::Decoder::new(None, false)) as Box<dyn Decoder>;
    let dialects: [(&[&str], Dialect<'_>); 2] = [(&openai, &as_openai), (&anthropic, &as_anthropic)];
    for (all, dialect) in dialects {
        // Every event behind every other one, and those behind every third.
        for (a, b, c) in (0..all.len().pow(3)).map(|i| (i % all.len(), i / all.len() % all.len(), i / all.len().pow(2))) {
            let order = [all[0], all[a], all[b], all[c], all[b], all[a], all[a]];
            for place in [UsagePlace::Merged, UsagePlace::Separate] {
                let slowly = rewritten(dialect, &order, place, 1);
                assert_eq!(rewritten(dialect, &order, place, usize::MAX), slowly, "{order:?}");
                assert_eq!(rewritten(dialect, &order, place, 90), slowly, "{order:?}");
            }
        }
    }
}

#[test]
fn nothing_is_written_before_the_first_content_and_nothing_of_it_is_lost() {
    let head = Head::new(Uuid::nil(), Uuid::nil(), 0, "m");
    let decoder = Box::new(crate::dialect::openai::decode::Decoder::default());
    let mut relay = Relay::new(Some(Framing::Sse), decoder, head, Form::Chunks(UsagePlace::Withheld), None);
    let chunk = |delta: &str, more: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}{more}}}]}}\n\n");
    let logprobs = r#","logprobs":{"content":[],"refusal":null}"#;
    for early in [chunk(r#"{"role":"assistant","content":""}"#, logprobs), chunk(r#"{"provider_data":{"a":1}}"#, "")] {
        assert_eq!(relay.push(early.as_bytes()), (Vec::new(), Ok(())));
        assert!(!relay.started());
    }
    let (told, _) = relay.push(chunk(r#"{"content":"a"}"#, "").as_bytes());
    let told = String::from_utf8(told).unwrap();
    assert!(relay.started());
    assert!(
        told.contains(r#""delta":{"role":"assistant","provider_data":{"a":1}}"#) && told.contains(r#""delta":{"content":"a"}"#),
        "{told}"
    );
}

#[test]
fn a_call_in_openais_first_form_is_content() {
    let head = Head::new(Uuid::nil(), Uuid::nil(), 0, "m");
    let decoder = Box::new(crate::dialect::openai::decode::Decoder::default());
    let mut relay = Relay::new(Some(Framing::Sse), decoder, head, Form::Chunks(UsagePlace::Withheld), None);
    assert!(relay.push(b"data: {\"choices\":[{\"delta\":{\"function_call\":{\"name\":\"f\"}}}]}\n\n").1.is_ok());
    assert!(relay.started());
}
