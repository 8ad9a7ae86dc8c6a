//! Answers and breaks, written as responses.

use super::*;
use crate::front::chat::head::Head;
use crate::llm::envelope::Parsed;
use crate::llm::event::Source;
use crate::llm::state::Sealer;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

/// The response to a request with these members beside model and input.
fn response(members: &str) -> Response {
    let body = format!(r#"{{"model":"r","input":"x"{members}}}"#);
    let parsed: Parsed = crate::front::responses::parse(body.into()).unwrap();
    let functions = crate::front::responses::tools::functions(&parsed, &Default::default());
    Response::new(&Head::new(Uuid::nil(), Uuid::nil(), 5, "r"), &parsed, functions, || 7)
}

fn seal() -> Seal {
    Seal::new(Arc::new(Sealer::new(&[7; 32]).unwrap()), "team".into(), "p".into())
}

/// The events of a stream, which are numbered without a gap and named by their type.
fn read(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut events = Vec::new();
    for block in text.split_terminator("\n\n").filter(|block| *block != "data: [DONE]") {
        let (name, data) = block.split_once("\ndata: ").unwrap();
        let event: Value = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"));
        assert_eq!(name.strip_prefix("event: "), event["type"].as_str(), "{block}");
        events.push(event);
    }
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    events
}

/// What is written of these events: in short, and the whole response, which is the same in one piece.
fn written(members: &str, events: &[Event<'_>]) -> (Vec<String>, Value) {
    let mut items = Items::new(response(members), "01", true, Some(seal()));
    for event in events {
        items.event(event.clone());
        items.flush();
    }
    assert!(items.finish().is_empty());
    let bytes = items.take();
    assert!(bytes.ends_with(b"data: [DONE]\n\n") && items.fault().is_none());
    let mut all = read(&bytes);
    assert_eq!((&all[0]["type"], &all[0]["sequence_number"]), (&Value::from("response.created"), &Value::from(0)));
    let last = all.pop().unwrap();
    let mut whole = Items::new(response(members), "01", false, Some(seal()));
    events.iter().for_each(|event| whole.event(event.clone()));
    assert_eq!(serde_json::from_slice::<Value>(&whole.finish()).unwrap(), last["response"]);
    assert_eq!(last["type"], format!("response.{}", last["response"]["status"].as_str().unwrap()));
    let short = |event: &Value| {
        let kind = event["type"].as_str().unwrap().strip_prefix("response.").unwrap();
        let said = ["delta", "text", "arguments", "input", "refusal"].iter().find_map(|member| event[*member].as_str());
        format!("{} {kind} {}", event["output_index"], said.unwrap_or_default()).trim_end().to_owned()
    };
    (all[2..].iter().map(short).collect(), last["response"].clone())
}

fn text(text: &str) -> Event<'_> {
    Event::Content { choice: 0, text: Text::Plain(text) }
}

fn thought(text: &str) -> Event<'_> {
    Event::Reasoning { choice: 0, text: Text::Plain(text) }
}

fn start<'a>(call: u32, name: &'a str, state: Option<&'a [u8]>) -> Event<'a> {
    Event::ToolStart { choice: 0, call, id: Some(Text::Plain("c")), name: Text::Plain(name), form: ToolForm::Function, state }
}

fn arguments(call: u32, text: &str) -> Event<'_> {
    Event::ToolArguments { choice: 0, call, fragment: Text::Plain(text) }
}

fn finish(reason: Finish) -> Event<'static> {
    Event::Finish { choice: 0, reason }
}

#[test]
fn a_message_is_an_item_with_a_part() {
    let usage = Event::Usage(Usage { prompt: 9, completion: 4, cached: 3, reasoning: 1, ..Usage::default() });
    let (events, response) = written("", &[text("Hi \"you\""), text("!\n"), usage, finish(Finish::Stop)]);
    let expected = [
        "0 output_item.added",
        "0 content_part.added",
        "0 output_text.delta Hi \"you\"",
        "0 output_text.delta !",
        "0 output_text.done Hi \"you\"!",
        "0 content_part.done",
        "0 output_item.done",
    ];
    assert_eq!(events, expected);
    assert_eq!((&response["status"], &response["completed_at"]), (&Value::from("completed"), &Value::from(7)));
    assert_eq!(response["output"][0]["content"][0]["text"], "Hi \"you\"!\n");
    assert_eq!(response["usage"]["input_tokens_details"]["cached_tokens"], 3);
    assert_eq!(response["usage"]["total_tokens"], 13);
}

#[test]
fn calls_may_be_open_side_by_side_and_end_when_they_are_whole() {
    let events = [start(0, "f", None), arguments(0, "{\"a\":"), start(1, "g", None), arguments(0, "1}"), text("b")];
    let (events, response) = written("", &[&events[..], &[finish(Finish::ToolCalls)]].concat());
    let expected = [
        "0 output_item.added",
        "0 function_call_arguments.delta {\"a\":",
        "1 output_item.added",
        "0 function_call_arguments.delta 1}",
        "0 function_call_arguments.done {\"a\":1}",
        "0 output_item.done",
        "2 output_item.added",
        "2 content_part.added",
        "2 output_text.delta b",
        "1 function_call_arguments.delta {}",
        "1 function_call_arguments.done {}",
        "1 output_item.done",
        "2 output_text.done b",
        "2 content_part.done",
        "2 output_item.done",
    ];
    assert_eq!(events, expected);
    let names: Vec<_> = response["output"].as_array().unwrap().iter().map(|item| item["name"].as_str()).collect();
    assert_eq!(names, [Some("f"), Some("g"), None]);
}

#[test]
fn a_call_that_is_cut_off_is_never_done() {
    let events = [text("a"), start(0, "f", None), arguments(0, "{}"), start(1, "g", None), arguments(1, "{\"a"), finish(Finish::Length)];
    let (events, response) = written("", &events);
    assert!(events.contains(&"1 function_call_arguments.done {}".to_owned()), "{events:?}");
    assert!(!events.iter().any(|event| event.starts_with("2 ") && event.contains("done")), "{events:?}");
    assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
    let status: Vec<_> = response["output"].as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["completed", "completed", "incomplete"]);
}

#[test]
fn the_end_that_a_provider_marks_is_no_proof_of_a_whole_call() {
    let end = |call| Event::BlockEnd { choice: 0, block: Block::Call(call) };
    let cut = [start(0, "f", None), arguments(0, "{\"a"), end(0)];
    let (events, response) = written("", &[&cut[..], &[finish(Finish::Length)]].concat());
    assert!(!events.iter().any(|event| event.contains("done")), "{events:?}");
    assert_eq!(response["output"][0]["status"], "incomplete");
    // Another item proves that the answer was not cut off in the one before.
    let (events, _) = written("", &[start(0, "f", None), end(0), start(1, "g", None), end(1), finish(Finish::Length)]);
    assert!(events.contains(&"0 output_item.done".to_owned()) && !events.contains(&"1 output_item.done".to_owned()), "{events:?}");
    let (events, _) = written("", &[start(0, "f", None), arguments(0, "{}"), end(0), text("a"), finish(Finish::Stop)]);
    assert_eq!(events[3], "0 output_item.done");
}

#[test]
fn arguments_that_are_null_are_none() {
    let calls =
        [start(0, "f", None), arguments(0, " null"), start(1, "g", None), arguments(1, "{\"a\":"), arguments(1, "null"), arguments(1, "}")];
    let (_, response) = written("", &[&calls[..], &[finish(Finish::ToolCalls)]].concat());
    let output: Vec<_> = response["output"].as_array().unwrap().iter().map(|item| (&item["arguments"], &item["status"])).collect();
    assert_eq!(output, [(&"{}".into(), &"completed".into()), (&"{\"a\":null}".into(), &"completed".into())]);
}

#[test]
fn a_providers_own_custom_tool_ends_where_the_provider_marks_it() {
    let start = Event::ToolStart { choice: 0, call: 0, id: None, name: Text::Plain("p"), form: ToolForm::Custom, state: None };
    let said = [start, arguments(0, "{} and"), text("b"), arguments(0, " more")];
    let end = Event::BlockEnd { choice: 0, block: Block::Call(0) };
    let (_, response) = written("", &[&said[..], &[end, finish(Finish::Length)]].concat());
    assert_eq!((&response["output"][0]["input"], &response["output"][0]["status"]), (&"{} and more".into(), &"completed".into()));
    let (events, response) = written("", &[&said[..], &[finish(Finish::Length)]].concat());
    assert!(!events.contains(&"0 output_item.done".to_owned()), "{events:?}");
    assert_eq!(response["output"][0]["status"], "incomplete");
}

#[test]
fn the_size_of_an_answer_counts_its_items_and_many_are_written_in_linear_time() {
    let mut items = Items::new(response(""), "01", false, None);
    let mut count = 0;
    while items.fault().is_none() {
        items.event(if count % 2 == 0 { text("a") } else { thought("b") });
        count += 1;
    }
    assert_eq!(count, MAX_ANSWER.div_ceil(ITEM + 1));
}

#[test]
fn a_state_stands_sealed_in_the_reasoning_before_its_call() {
    let said = [thought("hm"), start(0, "f", Some(b"one")), arguments(0, "{}"), start(1, "f", Some(b"two")), finish(Finish::ToolCalls)];
    for (asked, shown) in [("", "content"), (r#","reasoning":{"summary":"auto"}"#, "summary")] {
        let (events, response) = written(asked, &said);
        let output = response["output"].as_array().unwrap();
        assert_eq!(
            output.iter().map(|item| item["type"].as_str().unwrap()).collect::<Vec<_>>(),
            ["reasoning", "function_call", "reasoning", "function_call"]
        );
        assert_eq!(output[0][shown][0]["text"], "hm", "{events:?}");
        assert_eq!((&output[2]["summary"], output[2].get("content")), (&Value::Array(Vec::new()), None));
        for (item, state) in [(0, &b"one"[..]), (2, b"two")] {
            let sealed = output[item]["encrypted_content"].as_str().unwrap();
            assert_eq!(sealed::origin(Some(&seal()), sealed), sealed::Origin::Own(state.to_vec()));
        }
        let part = events.iter().any(|event| event == "0 reasoning_summary_part.added");
        assert_eq!(part, shown == "summary", "{events:?}");
    }
}

#[test]
fn a_custom_tool_gets_its_input_back_and_a_namespace_its_name() {
    let tools =
        r#","tools":[{"type":"custom","name":"patch"},{"type":"namespace","name":"crm","tools":[{"type":"function","name":"get"}]}]"#;
    let said = [start(0, "patch", None), arguments(0, "{\"input\": \"a\\n"), arguments(0, "b\"}"), start(1, "crm__get", None)];
    let (events, response) = written(tools, &[&said[..], &[finish(Finish::ToolCalls)]].concat());
    assert_eq!(
        events[1..4],
        ["0 custom_tool_call_input.delta a", "0 custom_tool_call_input.delta b", "0 custom_tool_call_input.done a\nb"]
    );
    let (patch, get) = (&response["output"][0], &response["output"][1]);
    assert_eq!((&patch["type"], &patch["input"]), (&Value::from("custom_tool_call"), &Value::from("a\nb")));
    assert_eq!((&get["name"], &get["namespace"], &get["arguments"]), (&"get".into(), &"crm".into(), &"{}".into()));
    // A line break inside of a text, which JSON does not have, is one of the input, and none of the event.
    let (_, broken) = written(tools, &[start(0, "patch", None), arguments(0, "{\"input\":\"a\nb\\d\"}"), finish(Finish::ToolCalls)]);
    assert_eq!(broken["output"][0]["input"], "a\nb\\d");
    let (_, other) = written(tools, &[start(0, "patch", None), arguments(0, "*** Begin"), finish(Finish::ToolCalls)]);
    assert_eq!(other["output"][0]["input"], "*** Begin");
}

#[test]
fn a_break_keeps_what_is_whole_and_goes_on_counting() {
    let response = response("");
    let beats = [response.heartbeat(), response.heartbeat()].concat();
    let mut items = Items::new(response, "01", true, None);
    for event in [text("a"), start(0, "f", None), arguments(0, "{\"a")] {
        items.event(event);
        items.flush();
    }
    let error = ApiError::upstream("it broke");
    let all = read(&[beats, items.take(), items.failure(&error)].concat());
    let kinds: Vec<_> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..4], ["response.created", "response.in_progress", "response.in_progress", "response.output_item.added"]);
    assert_eq!(kinds[kinds.len() - 2..], ["error", "response.failed"]);
    assert_eq!(kinds.iter().filter(|kind| **kind == "response.output_item.done").count(), 1);
    let (error, failed) = (&all[all.len() - 2], &all[all.len() - 1]["response"]);
    assert_eq!((&error["message"], &error["error"]["code"]), (&"it broke".into(), &"server_error".into()));
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&"failed".into(), &"server_error".into()));
    assert_eq!((failed["output"].as_array().unwrap().len(), &failed["output"][0]["type"]), (1, &"message".into()));
    let alone = read(&response_alone());
    assert_eq!(alone.len(), 4, "a response that never began has all of its beginning");
}

fn response_alone() -> Vec<u8> {
    response("").failure(&ApiError::upstream("it broke"), &[])
}

#[test]
fn log_probabilities_and_sources_stand_beside_their_text() {
    let json = "{\"content\":[{\"token\":\"a\",\n\"logprob\":-0.5,\"bytes\":[97],\"top_logprobs\":[]}],\"refusal\":null}";
    let list = [Citation { url: Some(Text::Plain("https://x")), title: None, span: (0, 1), json: "" }];
    let said = [text("a"), Event::Logprobs { choice: 0, json }, Event::Citations { choice: 0, list: &list }, finish(Finish::Stop)];
    let (_, response) = written("", &said);
    let part = &response["output"][0]["content"][0];
    assert_eq!((&part["logprobs"][0]["token"], &part["annotations"][0]["url"]), (&"a".into(), &"https://x".into()));
}

#[test]
fn what_a_response_cannot_hold_is_a_fault() {
    let mut items = Items::new(response(""), "01", true, None);
    items.event(Event::Image { choice: 0, source: Source::Url(Text::Plain("x")) });
    assert!(items.fault().is_some_and(|what| what.contains("an image")));
    items.event(Event::Content { choice: 0, text: Text::Plain(&"x".repeat(MAX_ANSWER + 1)) });
    assert!(items.fault().is_some_and(|what| what.contains("too large")));
}

#[test]
fn an_id_is_short_enough_to_come_back() {
    let long = "i".repeat(65);
    let id = |id| Event::ToolStart { choice: 0, call: 0, id, name: Text::Plain("f"), form: ToolForm::Function, state: None };
    for (given, length) in [(Some(Text::Plain(&long)), 37), (Some(Text::Plain("c_1")), 3), (None, 9)] {
        let (_, response) = written("", &[id(given), finish(Finish::ToolCalls)]);
        assert_eq!(response["output"][0]["call_id"].as_str().unwrap().len(), length);
    }
}

#[test]
fn the_events_of_an_answer_that_is_discarded_are_not_counted() {
    let response = response("");
    let mut items = Items::new(response.clone(), "01", true, None);
    items.event(finish(Finish::ContentFilter));
    items.finish();
    items.discard();
    let mut other = Items::new(response, "02", true, None);
    other.event(text("a"));
    other.finish();
    assert_eq!(read(&other.take())[0]["sequence_number"], 0);
}
