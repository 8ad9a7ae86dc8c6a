//! Requests: what the client said beside what Anthropic is told, one fixture each.

use super::*;
use serde_json::json;

/// What became of a request, in a form that a fixture can hold.
fn told(case: &Value) -> (&'static str, Value) {
    match encode(case, None) {
        Ok(out) => {
            let headers: serde_json::Map<_, _> =
                out.headers.iter().map(|(k, v)| (k.to_string(), Value::from(v.to_str().unwrap()))).collect();
            let body = body(&out);
            ("sent", json!({"path": out.path, "headers": headers, "dropped": out.dropped, "adjusted": out.adjusted, "body": body}))
        }
        Err(e) => ("error", json!({"status": e.status, "param": e.param})),
    }
}

/// With `TIDEGATE_BLESS` set, fixtures are written anew; look at every change.
#[test]
fn requests_are_told_in_anthropics_words() {
    let bless = std::env::var_os("TIDEGATE_BLESS").is_some();
    for (path, mut case) in named("request-") {
        let (key, value) = told(&case);
        if bless {
            case.as_object_mut().unwrap().retain(|key, _| key != "sent" && key != "error");
            case[key] = value;
            std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&case).unwrap())).unwrap();
        } else {
            assert_eq!(value, case[key], "{}", path.display());
        }
    }
}

#[test]
fn a_large_image_is_copied_once_and_spelled_as_it_came() {
    let data = "iVBO\\/".repeat(200_000);
    let body = format!(
        r#"{{"model":"r","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image\/png;base64,{data}"}}}}]}}]}}"#
    );
    let (parsed, params) = (crate::llm::envelope::Parsed::parse(body.into()).unwrap(), Params::default());
    let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "claude-sonnet-4-5", seal: None };
    let out = anthropic(&Value::Null).encode(&request).unwrap();
    let text = String::from_utf8(out.body.joined().to_vec()).unwrap();
    assert!(text.contains(&format!(r#""media_type":"image/png","data":"{data}""#)));
}

#[test]
fn numbers_and_arguments_keep_their_spelling() {
    let body = r#"{"model":"r","temperature":0.70,"messages":[{"role":"user","content":"\u00fc\/"},{"role":"assistant","tool_calls":
        [{"id":"c","type":"function","function":{"name":"f","arguments":"{\"n\": 1.50e0}"}}]}]}"#;
    let (parsed, params) = (crate::llm::envelope::Parsed::parse(body.into()).unwrap(), Params::default());
    let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "claude-sonnet-4-5", seal: None };
    let out = anthropic(&Value::Null).encode(&request).unwrap();
    let text = String::from_utf8(out.body.joined().to_vec()).unwrap();
    for part in [r#""temperature":0.70"#, r#""text":"\u00fc\/""#, r#""input":{"n": 1.50e0}"#] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_model_that_cannot_be_forced_to_call_a_tool_is_held_by_words() {
    let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
    let object = json!({"type": "json_object"});
    let recursive = json!({"type": "json_schema", "json_schema": {"name": "list", "schema": schema}});
    let case = |model: &str, format: &Value| {
        let messages = json!([{"role": "user", "content": "Hi"}]);
        json!({"model": model, "request": {"model": "r", "messages": messages, "response_format": format}})
    };
    for model in ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1"] {
        for format in [&object, &recursive] {
            let out = encode(&case(model, format), None).unwrap();
            assert_eq!(out.adjusted.is_empty(), format == &object, "{model}");
            let body = body(&out);
            assert!(body.get("tools").is_none() && body.get("tool_choice").is_none(), "{body}");
            let words = body["system"].as_str().unwrap();
            assert_eq!(words.contains(r##"{"next":{"$ref":"#"}}"##), format == &recursive, "{words}");
            let answer =
                "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"```json\\n{}\\n```\"}],\"stop_reason\":\"end_turn\"}";
            assert_eq!(whole(out.decoder, answer.as_bytes())[0], "content {}");
        }
        let mut forced = case(model, &json!({"type": "text"}));
        forced["request"]["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
        forced["request"]["tool_choice"] = "required".into();
        let error = encode(&forced, None).err().unwrap();
        assert_eq!((error.status, error.param.as_deref()), (400, Some("tool_choice")));
    }
    let body = body(&encode(&case("claude-haiku-5-5", &object), None).unwrap());
    assert_eq!(body["tool_choice"]["type"], "tool");
}
