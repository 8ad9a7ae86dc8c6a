//! What is accepted of a Responses request, and what is refused.

use super::{OPENAI, VLLM, XAI, ask, both, hello, start, user, weather, with};
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_accepted() {
    let sim = start().await;
    let image = json!({ "type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto" });
    let file = json!({ "type": "input_file", "file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf" });
    let answer = |content: Value| json!({ "type": "message", "role": "assistant", "content": content });
    let search =
        json!([{ "type": "web_search" }, { "type": "file_search", "vector_store_ids": [] }, { "type": "mcp", "server_label": "s" }]);
    let output = json!([{ "type": "function_call_output", "call_id": "c", "output": "18" }]);
    let allowed = json!({ "type": "allowed_tools", "mode": "required", "tools": [{ "type": "function", "name": "get_weather" }] });
    for more in [
        json!({ "input": [user("x"), answer(json!("plain")), answer(json!([{ "type": "output_text", "text": "a", "annotations": [] }])), user("y")] }),
        json!({ "input": [user("x"), answer(json!([{ "type": "refusal", "refusal": "no" }])), user("y")] }),
        json!({ "input": [{ "role": "user", "content": [{ "type": "input_text", "text": "see" }, image, file] }] }),
        json!({ "input": [{ "id": "msg_1" }, { "type": "item_reference", "id": "rs_1" }, user("x")] }),
        json!({ "input": [{ "type": "web_search_call", "id": "ws_1", "status": "completed" }, user("x")] }),
        json!({ "input": output, "previous_response_id": "resp_1" }),
        json!({ "input": output, "conversation": { "id": "conv_1" } }),
        json!({ "instructions": "Be brief.", "metadata": { "a": "b" }, "truncation": "auto", "service_tier": "flex", "background": true }),
        json!({ "stream": true, "stream_options": { "include_obfuscation": false }, "user": "u", "safety_identifier": "s" }),
        json!({ "temperature": 0.5, "top_p": 0.5, "max_output_tokens": 16, "max_tool_calls": 1, "instructions": null, "unknown": 1 }),
        json!({ "tools": [], "tool_choice": "none" }),
        json!({ "tools": search, "tool_choice": { "type": "web_search" } }),
        json!({ "tools": weather(), "tool_choice": { "type": "function", "name": "get_weather" } }),
        json!({ "tools": weather(), "tool_choice": allowed }),
    ] {
        let answer = ask(&sim, OPENAI, hello(more.clone())).await;
        assert_eq!(answer.status, 200, "{more} {}", answer.body);
    }
    let seen = both(&sim, OPENAI, hello(json!({ "input": [{ "role": "user", "content": [image, file] }] }))).await;
    assert!(seen["output"][0]["content"][0]["text"].as_str().unwrap().contains("2 attachments (image/png, application/pdf)"));
    let declined = json!({ "stream": true, "stream_options": { "include_obfuscation": false } });
    assert!(!ask(&sim, OPENAI, hello(declined)).await.body.contains("obfuscation"));
    assert!(ask(&sim, OPENAI, hello(json!({ "stream": true }))).await.body.contains("obfuscation"));
    let forced = both(&sim, OPENAI, hello(json!({ "tools": weather(), "tool_choice": "required" }))).await;
    assert_eq!(forced["output"][0]["type"], "function_call");
}

#[tokio::test]
async fn what_is_refused() {
    let sim = start().await;
    let call = |id: &str| json!({ "type": "function_call", "call_id": id, "name": "f", "arguments": "{}" });
    let output = |kind: &str, id: &str| json!({ "type": kind, "call_id": id, "output": "18" });
    let long = "c".repeat(65);
    let reasoning = |more: Value| with(json!({ "type": "reasoning", "id": "rs_1", "summary": [] }), more);
    let schema = json!({ "type": "object", "properties": {} });
    for (more, param, code) in [
        (json!({ "model": null }), "model", "invalid_type"),
        (json!({ "input": null }), "input", "missing_required_parameter"),
        (json!({ "input": 5 }), "input", "invalid_type"),
        (json!({ "messages": [] }), "messages", "unsupported_parameter"),
        (json!({ "max_tokens": 50 }), "max_tokens", "unsupported_parameter"),
        (json!({ "max_output_tokens": 15 }), "max_output_tokens", "integer_below_min_value"),
        (json!({ "max_output_tokens": "20" }), "max_output_tokens", "invalid_type"),
        (json!({ "top_logprobs": 21 }), "top_logprobs", "integer_above_max_value"),
        (json!({ "temperature": 2.5 }), "temperature", "decimal_above_max_value"),
        (json!({ "stream": "yes" }), "stream", "invalid_value"),
        (json!({ "stream_options": {} }), "stream_options", "invalid_value"),
        (json!({ "include": ["everything"] }), "include[0]", "invalid_value"),
        (json!({ "metadata": { "a": 1 } }), "metadata.a", "invalid_type"),
        (json!({ "previous_response_id": "chatcmpl-1" }), "previous_response_id", "invalid_value"),
        (json!({ "previous_response_id": "resp_1", "conversation": "c" }), "previous_response_id", "mutually_exclusive_parameters"),
        (json!({ "reasoning": { "effort": "medium" } }), "reasoning.effort", "unsupported_parameter"),
        (json!({ "model": "gpt-5.5", "reasoning": { "effort": "huge" } }), "reasoning.effort", "invalid_value"),
        (json!({ "model": "gpt-5.5", "temperature": 1 }), "temperature", "unsupported_parameter"),
        (json!({ "text": { "format": { "type": "json_schema", "name": "s" } } }), "text.format.schema", "missing_required_parameter"),
        (json!({ "text": { "format": { "type": "json_object" } } }), "input", ""),
        (
            json!({ "text": { "format": { "type": "json_schema", "name": "s", "strict": true, "schema": schema } } }),
            "text.format.schema",
            "invalid_json_schema",
        ),
        (json!({ "input": [{ "role": "tool", "content": "x" }] }), "input[0].role", "invalid_value"),
        (json!({ "input": [{ "role": "user" }] }), "input[0].content", "missing_required_parameter"),
        (json!({ "input": [{ "role": "user", "content": 1 }] }), "input[0].content", "invalid_type"),
        (json!({ "input": [{ "content": "x" }] }), "input[0].type", "missing_required_parameter"),
        (json!({ "input": [{ "type": "tool_result" }] }), "input[0].type", "invalid_value"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "text", "text": "x" }] }] }),
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_text", "text": "x", "cache_control": {} }] }] }),
            "input[0].content[0].cache_control",
            "unknown_parameter",
        ),
        (
            json!({ "input": [{ "role": "assistant", "content": [{ "type": "input_text", "text": "x" }] }] }),
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_image", "image_url": "a.png" }] }] }),
            "input[0].content[0].image_url",
            "invalid_value",
        ),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_file", "filename": "a" }] }] }),
            "input[0].content[0]",
            "missing_required_parameter",
        ),
        (json!({ "input": [{ "role": "user", "id": "1", "content": "x" }] }), "input[0].id", "invalid_value"),
        (json!({ "input": [with(call("c"), json!({ "arguments": {} }))] }), "input[0].arguments", "invalid_type"),
        (json!({ "input": [call(&long), output("function_call_output", &long)] }), "input[0].call_id", "string_above_max_length"),
        (json!({ "input": [user("x"), output("function_call_output", "c")] }), "input", ""),
        (json!({ "input": [call("c"), output("custom_tool_call_output", "c")] }), "input", ""),
        (json!({ "input": [call("c"), user("x")] }), "input", ""),
        (json!({ "input": [reasoning(json!({ "summary": null })), call("c")] }), "input[0].summary", "invalid_type"),
        (json!({ "input": [reasoning(json!({})), user("x")] }), "input", ""),
        (json!({ "tools": {} }), "tools", "invalid_type"),
        (json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] }), "tools[0].name", "missing_required_parameter"),
        (json!({ "tools": [{ "type": "function", "name": "f g" }] }), "tools[0]", "invalid_value"),
        (json!({ "tools": [{ "type": "bash_20250124", "name": "f" }] }), "tools[0].type", "invalid_value"),
        (
            json!({ "tools": [{ "type": "custom", "name": "f", "format": { "type": "grammar", "syntax": "lark" } }] }),
            "tools[0].format.definition",
            "missing_required_parameter",
        ),
        (
            json!({ "tools": [{ "type": "namespace", "name": "n", "tools": [{ "type": "web" }] }] }),
            "tools[0].tools[0].type",
            "invalid_value",
        ),
        (json!({ "tool_choice": "required" }), "tool_choice", "invalid_value"),
        (json!({ "tool_choice": "any" }), "tool_choice", "invalid_value"),
        (json!({ "tools": weather(), "tool_choice": { "type": "function", "name": "g" } }), "tool_choice", "invalid_value"),
        (json!({ "model": "m+hnag" }), "model", "invalid_value"),
    ] {
        let answer = ask(&sim, OPENAI, hello(more.clone())).await;
        assert_eq!(answer.status, 400, "{more} {}", answer.body);
        let error = &answer.json()["error"];
        assert_eq!((&error["param"], error["code"].as_str().unwrap_or_default()), (&json!(param), code), "{more} {error}");
        assert_eq!((&error["type"], error["message"].is_string()), (&json!("invalid_request_error"), true));
    }
    let lost = hello(json!({ "store": false, "input": [reasoning(json!({})), call("c"), output("function_call_output", "c")] }));
    assert_eq!(ask(&sim, OPENAI, lost).await.status, 404);
    let sealed =
        json!([reasoning(json!({ "id": null, "encrypted_content": "tg1.sealed" })), call("c"), output("function_call_output", "c")]);
    let refused = ask(&sim, OPENAI, hello(json!({ "input": sealed }))).await.json();
    assert!(refused["error"]["message"].as_str().unwrap().starts_with("The encrypted content tg1....aled could not be verified."));
    let vllm = ask(&sim, VLLM, hello(json!({ "input": sealed }))).await;
    assert_eq!((vllm.status, &vllm.json()["error"]["message"]), (400, &json!("Encrypted content is not supported.")));
    let xai = ask(&sim, XAI, hello(json!({ "input": [output("function_call_output", "c")] }))).await;
    assert!(xai.status == 400 && xai.json()["error"].is_string());
}
