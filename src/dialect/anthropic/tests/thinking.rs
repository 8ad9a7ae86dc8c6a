//! Thinking from one turn to the next: out of an answer, through a plain OpenAI client, into the next request.

use super::*;
use serde_json::json;

const THOUGHT: &str = r#"{"type":"thinking","thinking":"I need\nthe time","signature":"c2ln"}"#;

fn answer() -> String {
    let call = |id: &str| format!(r#"{{"type":"tool_use","id":"{id}","name":"get_time","input":{{}}}}"#);
    let blocks = [THOUGHT.to_owned(), r#"{"type":"redacted_thinking","data":"AAAA"}"#.into(), call("toolu_1"), call("toolu_2")].join(",");
    format!(r#"{{"type":"message","content":[{blocks}],"stop_reason":"tool_use","usage":{{"input_tokens":1,"output_tokens":2}}}}"#)
}

fn first(model: &str) -> Value {
    let tools = json!([{"type": "function", "function": {"name": "get_time"}}]);
    let user = json!({"role": "user", "content": "Time?"});
    json!({"model": model, "request": {"model": "r", "messages": [user], "tools": tools, "reasoning_effort": "low"}})
}

/// The next request of a client that got these ids.
fn second(model: &str, ids: &[&str]) -> Value {
    let mut case = first(model);
    let messages = case["request"]["messages"].as_array_mut().unwrap();
    let call = |id: &&str| json!({"id": id, "type": "function", "function": {"name": "get_time", "arguments": "{}"}});
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": ids.iter().map(call).collect::<Vec<_>>()}));
    messages.extend(ids.iter().map(|id| json!({"role": "tool", "tool_call_id": id, "content": "12:00"})));
    case
}

/// The ids that the client gets.
fn ids(said: &[String]) -> Vec<String> {
    said.iter().filter_map(|line| Some(line.strip_prefix("call ")?.split(' ').nth(1)?.to_owned())).collect()
}

#[test]
fn thinking_is_put_before_the_call_that_it_led_to() {
    let seal = seal();
    let out = encode(&first("claude-sonnet-4-5"), Some(&seal)).unwrap();
    let ids = ids(&whole(out.decoder, answer().as_bytes()));
    assert!(ids[0].starts_with("toolu_1") && ids[0] != "toolu_1");
    assert_eq!(ids[1], "toolu_2");

    let next = encode(&second("claude-sonnet-4-5", &[&ids[0], &ids[1]]), Some(&seal)).unwrap();
    let body = body(&next);
    let blocks = body["messages"][1]["content"].as_array().unwrap();
    assert_eq!(blocks[0], serde_json::from_str::<Value>(THOUGHT).unwrap());
    assert_eq!(blocks[1]["type"], "redacted_thinking");
    assert_eq!((&blocks[2]["id"], &blocks[3]["id"]), (&json!("toolu_1"), &json!("toolu_2")));
    assert_eq!(body["messages"][2]["content"][0]["tool_use_id"], "toolu_1");
    assert_eq!(body["thinking"]["type"], "enabled");
}

#[test]
fn without_its_thinking_the_turn_goes_on_without_thinking() {
    let model = |name: &str| {
        let out = encode(&second(name, &["toolu_1"]), Some(&seal())).unwrap();
        (body(&out)["thinking"]["type"].clone(), out.dropped)
    };
    assert_eq!(model("claude-sonnet-4-5"), (Value::Null, vec!["reasoning_effort".into()]));
    // Adaptive thinking does not ask for it.
    assert_eq!(model("claude-sonnet-4-6"), (json!("adaptive"), vec![]));
}

#[test]
fn ids_are_plain_where_nothing_has_to_come_back() {
    let mut case = first("claude-sonnet-4-5");
    case["request"].as_object_mut().unwrap().remove("reasoning_effort");
    let out = encode(&case, Some(&seal())).unwrap();
    assert_eq!(ids(&whole(out.decoder, answer().as_bytes())), ["toolu_1", "toolu_2"]);
    // A model that does not think now is not told what it thought before.
    let sealed = ids(&whole(encode(&first("claude-sonnet-4-5"), Some(&seal())).unwrap().decoder, answer().as_bytes()));
    let mut case = second("claude-sonnet-4-5", &[&sealed[0]]);
    case["request"].as_object_mut().unwrap().remove("reasoning_effort");
    let body = body(&encode(&case, Some(&seal())).unwrap());
    assert_eq!(body["messages"][1]["content"][0]["type"], "tool_use");
    assert_eq!(body["messages"][1]["content"][0]["id"], "toolu_1");
}

#[test]
fn a_model_that_thinks_unasked_gets_its_thinking_back() {
    for (model, effort, kept) in [
        ("claude-opus-5", None, true),
        ("claude-opus-5-5", Some("none"), true),
        ("claude-sonnet-5-5", None, true),
        ("claude-sonnet-5-5", Some("none"), true), // its progress updates between calls are thinking blocks
        ("claude-haiku-5-5", Some("none"), false),
        ("claude-sonnet-5", Some("none"), false),
        ("claude-opus-4-8", None, false),
    ] {
        let with_effort = |mut case: Value| {
            case["request"].as_object_mut().unwrap().remove("reasoning_effort");
            if let Some(effort) = effort {
                case["request"]["reasoning_effort"] = effort.into();
            }
            case
        };
        let out = encode(&with_effort(first(model)), Some(&seal())).unwrap();
        let bedrock = crate::dialect::bedrock::tests::encode(
            &BEDROCK,
            &format!("anthropic.{model}"),
            &with_effort(first(model))["request"],
            None,
            Some(&seal()),
        );
        let sent = body(&bedrock.unwrap());
        assert!(effort.is_some() || sent.get("additionalModelRequestFields").is_none(), "{sent}");
        let ids = ids(&whole(out.decoder, answer().as_bytes()));
        assert_eq!(ids[0] != "toolu_1", kept, "{model} {effort:?}");
        let sealed = seal().seal("toolu_1", [THOUGHT.as_bytes()].concat().as_slice());
        let case = with_effort(second(model, &[&sealed]));
        let begins = |out: Outgoing| body(&out)["messages"][1]["content"][0].clone();
        assert_eq!(begins(encode(&case, Some(&seal())).unwrap())["type"] == "thinking", kept, "{model} {effort:?}");
        let bedrock = |seal: &Seal| {
            crate::dialect::bedrock::tests::encode(&BEDROCK, &format!("anthropic.{model}"), &case["request"], None, Some(seal)).unwrap()
        };
        assert_eq!(begins(bedrock(&seal())).get("reasoningContent").is_some(), kept, "{model} {effort:?}");
        // What it has refused is left out.
        assert_eq!(begins(encode(&case, Some(&seal().forgetting())).unwrap())["id"], "toolu_1");
        assert_eq!(begins(bedrock(&seal().forgetting()))["toolUse"]["toolUseId"], "toolu_1");
    }
}

const BEDROCK: crate::dialect::bedrock::Bedrock =
    crate::dialect::bedrock::Bedrock { default_max_tokens: None, structured_output: StructuredOutput::Native };
