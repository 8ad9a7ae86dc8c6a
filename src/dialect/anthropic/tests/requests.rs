//! Requests: what the client said beside what Anthropic is told, one fixture each.

use super::*;
use serde_json::json;

/// What became of a request, in a form that a fixture can hold.
fn told(case: &Value) -> (&'static str, Value) {
    match encode(case, None) {
        Ok(out) => {
            let headers: serde_json::Map<_, _> =
                out.headers.iter().map(|(k, v)| (k.to_string(), Value::from(v.to_str().unwrap()))).collect();
            let adjusted = out.adjusted;
            let body: Value = serde_json::from_slice(&out.body.joined()).unwrap();
            ("sent", json!({"path": out.path, "headers": headers, "dropped": out.dropped, "adjusted": adjusted, "body": body}))
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
