//! Requests with long lists. These tests do not end in a reasonable time where one list is searched for each element of another.

use super::*;
use std::collections::HashSet;

const MANY: usize = 20_000;

/// A JSON array of what `element` writes for each number.
fn list(element: impl Fn(usize) -> String) -> String {
    format!("[{}]", (0..MANY).map(element).collect::<Vec<_>>().join(","))
}

fn encoded(dialect: &dyn Dialect, model: &str, members: &str) -> Value {
    testing::body(&encode(Front::Chat, dialect, model, &format!(r#"{{"model":"r",{members}}}"#)))
}

const HI: &str = r#""messages":[{"role":"user","content":"Hi"}]"#;

#[test]
fn allowed_tools_are_found_among_many() {
    let tools = list(|i| format!(r#"{{"type":"function","function":{{"name":"f{i}"}}}}"#));
    let allowed = list(|i| format!(r#"{{"type":"function","function":{{"name":"f{}"}}}}"#, (MANY - 1 - i).max(1)));
    let choice = format!(r#"{{"type":"allowed_tools","allowed_tools":{{"mode":"auto","tools":{allowed}}}}}"#);
    let mut all = dialects(Front::Chat);
    all.push(("m", Box::new(openai("vllm"))));
    for (model, dialect) in all {
        let body = encoded(dialect.as_ref(), model, &format!(r#"{HI},"tools":{tools},"tool_choice":{choice}"#));
        let places = ["/tool_choice/tools", "/toolConfig/functionCallingConfig/allowedFunctionNames", "/toolConfig/tools", "/tools"];
        let sent = places.iter().find_map(|place| body.pointer(place)).unwrap().to_string();
        assert!(!sent.contains(r#""f0""#) && sent.contains(r#""f1""#) && sent.contains(&format!(r#""f{}""#, MANY - 1)), "{model}");
    }
}

#[test]
fn a_strict_tool_may_have_many_properties() {
    let names = list(|i| format!(r#""p{i}""#));
    let properties = (0..MANY).map(|i| format!(r#""p{i}":{{"type":"string"}}"#)).collect::<Vec<_>>().join(",");
    let schema = format!(r#"{{"type":"object","properties":{{{properties}}},"required":{names},"additionalProperties":false}}"#);
    let tools = format!(r#"[{{"type":"function","function":{{"name":"f","strict":true,"parameters":{schema}}}}}]"#);
    for (model, dialect) in dialects(Front::Chat).into_iter().filter(|(model, _)| model.contains("claude")) {
        let body = encoded(dialect.as_ref(), model, &format!(r#"{HI},"tools":{tools}"#));
        let tool = body.pointer("/tools/0").or(body.pointer("/toolConfig/tools/0/toolSpec")).unwrap();
        assert_eq!(tool["strict"], true, "{model}");
    }
}

#[test]
fn many_names_are_shortened_and_stay_apart() {
    let (long, name) = ("x".repeat(70), |i: usize| format!("f{i}_"));
    let tools = list(|i| format!(r#"{{"type":"function","function":{{"name":"{}{long}"}}}}"#, name(i)));
    let mistral = Mistral(openai("mistral"));
    let body = encoded(&mistral, "mistral-large", &format!(r#"{HI},"tools":{tools}"#));
    let sent: HashSet<&str> = body["tools"].as_array().unwrap().iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
    assert_eq!((sent.len(), sent.iter().map(|name| name.len()).max()), (MANY, Some(63)));
}

#[test]
fn many_results_find_their_calls() {
    let calls = list(|i| format!(r#"{{"id":"call_{i}","type":"function","function":{{"name":"f{i}","arguments":"{{}}"}}}}"#));
    let result = |i: usize| format!(r#",{{"role":"tool","tool_call_id":"call_{i}","content":"r"}}"#);
    let results: String = (0..MANY).rev().map(result).collect();
    let messages = format!(r#""messages":[{{"role":"user","content":"Hi"}},{{"role":"assistant","tool_calls":{calls}}}{results}]"#);
    let body = encoded(&Gemini, "gemini-2.5-flash", &messages);
    let parts = body["contents"][2]["parts"].as_array().unwrap();
    let names: Vec<_> = parts.iter().map(|part| part["functionResponse"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, (0..MANY).map(|i| format!("f{i}")).collect::<Vec<_>>());
    // Bedrock wants every tool that was called to be declared.
    let bedrock = Bedrock { default_max_tokens: None, structured_output: StructuredOutput::Native };
    let body = encoded(&bedrock, "amazon.nova-pro-v1:0", &messages);
    assert_eq!(body["toolConfig"]["tools"].as_array().unwrap().len(), MANY);
}

#[test]
fn many_documents_of_one_name_get_names_of_their_own() {
    let parts = list(|_| r#"{"type":"file","file":{"filename":"a.txt","file_data":"data:text/plain;base64,YQ=="}}"#.to_owned());
    let bedrock = Bedrock { default_max_tokens: None, structured_output: StructuredOutput::Native };
    let messages = format!(r#""messages":[{{"role":"user","content":{parts}}}]"#);
    let body = encoded(&bedrock, "amazon.nova-pro-v1:0", &messages);
    let blocks = body["messages"][0]["content"].as_array().unwrap();
    let names: Vec<_> = blocks.iter().filter_map(|block| block["document"]["name"].as_str()).collect();
    assert_eq!((names.len(), names[0], names[1], names[MANY - 1]), (MANY, "a", "a (2)", "a (20000)"));
}
