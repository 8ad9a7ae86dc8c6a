//! What bodies of refusals say, whatever their form.

use super::*;

fn said(status: u16, body: &str) -> (FailureClass, String) {
    let e = read(status, &HeaderMap::new(), body.as_bytes());
    (e.class, e.message)
}

#[test]
fn every_shape_has_its_message() {
    for body in [
        r#"{"error":{"message":"too wide","type":"invalid_request_error","param":null,"code":null}}"#,
        r#"{"code":"invalid-argument","error":"too wide"}"#,
        r#"{"object":"error","message":"too wide","type":"BadRequestError","param":null,"code":400}"#,
        r#"{"message":"too wide"}"#,
        r#"{"detail":"too wide"}"#,
        r#"{"fault":{"faultstring":"too wide","detail":{"errorcode":"x"}}}"#,
        r#"[{"error":{"message":"too wide"}}]"#,
        "too wide\n",
    ] {
        assert_eq!(said(400, body), (FailureClass::BadRequest, "too wide".to_owned()), "{body}");
    }
    let listed = r#"{"detail":[{"loc":["body","stop",0],"msg":"too wide","type":"value_error"},{"loc":[],"msg":"too long"}]}"#;
    assert_eq!(said(422, listed).1, "body.stop.0: too wide; too long");
    for body in ["", "<html>…</html>", r#"{"error":{"mess"#, "{}", "null"] {
        assert_eq!(said(500, body), (FailureClass::Server, "the provider answered with status 500".to_owned()), "{body}");
    }
}

#[test]
fn the_class_is_the_statuss_unless_the_key_is_to_blame() {
    use FailureClass::{BadRequest, Credential, NotFound, Overloaded, RateLimited, Timeout, UnknownReference};
    assert_eq!(said(400, r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: ab***"}"#).0, Credential);
    assert_eq!(said(400, r#"{"error":{"message":"x","type":"invalid_request_error","code":"rate_limit"}}"#).0, BadRequest);
    for (status, class) in
        [(402, Credential), (412, Credential), (404, UnknownReference), (429, RateLimited), (503, Overloaded), (524, Timeout)]
    {
        assert_eq!(said(status, r#"{"detail":"x"}"#).0, class);
    }
    for body in [r#"{"detail":"Not Found"}"#, r#"{"error":{"message":"The model `x` does not exist."}}"#, "{}", "", "<html>", "x", "{\"er"]
    {
        assert_eq!(said(404, body).0, NotFound, "{body}");
    }
    let item = r#"{"error":{"message":"Item with id 'rs_1' not found.","type":"invalid_request_error","param":"input","code":null}}"#;
    assert_eq!(said(404, item).0, UnknownReference);
    assert_eq!(in_band(r#"{"error":{"code":404,"message":"File 'x' not found"}}"#).class, UnknownReference);
}

#[test]
fn the_field_to_blame_is_kept() {
    let blamed = |body: &str| read(400, &HeaderMap::new(), body.as_bytes()).param;
    for body in [
        r#"{"error":{"message":"x","param":"messages[0].role"}}"#,
        r#"{"object":"error","message":"x","param":"messages[0].role","code":400}"#,
        r#"{"detail":[{"loc":["body","messages",0,"role"],"msg":"x"}]}"#,
    ] {
        assert_eq!(blamed(body).as_deref(), Some("messages[0].role"), "{body}");
    }
    for nobody in [
        r#"{"error":{"message":"x","param":null}}"#,
        r#"{"error":{"message":"x","param":"a b\n"}}"#,
        r#"{"detail":[{"loc":[],"msg":"x"}]}"#,
    ] {
        assert_eq!(blamed(nobody), None, "{nobody}");
    }
}

#[test]
fn a_prompt_that_is_too_long_is_the_clients_affair() {
    let body = r#"{"error":{"message":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097","type":"invalid_request_error"}}"#;
    assert_eq!(said(403, body).0, FailureClass::BadRequest);
    assert_eq!(said(403, r#"{"error":{"message":"no access"}}"#).0, FailureClass::Credential);
}

#[test]
fn a_code_says_which_bad_request_it_is() {
    use FailureClass::{BadRequest, ContentFilter, ContextLength, NotFound};
    for (status, code, class) in [
        (400, "context_length_exceeded", ContextLength),
        (400, "content_policy_violation", ContentFilter),
        (400, "content_filter", ContentFilter),
        (400, "cyber_policy", ContentFilter),
        (400, "bio_policy", ContentFilter),
        (400, "misalignment_policy_violation", ContentFilter),
        (403, "model_not_found", NotFound),
        (400, "unknown_parameter", BadRequest),
    ] {
        let body = format!(r#"{{"error":{{"message":"x","type":"invalid_request_error","code":"{code}"}}}}"#);
        assert_eq!((said(status, &body).0, in_band(&body).class), (class, class), "{code}");
        let failed = in_band(&format!(r#"{{"code":"{code}","message":"x"}}"#)); // of a response that has failed
        assert_eq!((failed.class == class || class == BadRequest, failed.code.as_deref()), (true, Some(code)));
    }
}

#[test]
fn encrypted_reasoning_that_cannot_be_read_has_its_own_class() {
    let code = r#"{"error":{"message":"x","type":"invalid_request_error","param":null,"code":"invalid_encrypted_content"}}"#;
    let text = r#"{"error":{"message":"The encrypted content gAAA... could not be verified. Reason: it is corrupt.","code":null}}"#;
    let other = r#"{"error":{"message":"Encrypted content could not be decrypted or parsed.","type":"invalid_request_error"}}"#;
    for body in [code, text, other] {
        let refusal = read(400, &HeaderMap::new(), body.as_bytes());
        assert_eq!((refusal.judged(), in_band(body).class), (FailureClass::StaleReasoning, FailureClass::StaleReasoning), "{body}");
    }
    for message in [
        "Corrupted thought signature.",
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly.",
    ] {
        assert!(blames_reasoning(message), "{message}");
    }
    assert!(blames_reasoning(
        "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation."
    ));
    assert_eq!(said(400, r#"{"error":{"message":"the signature could not be verified"}}"#).0, FailureClass::BadRequest);
    assert_eq!(said(500, code).0, FailureClass::Server);
}

#[test]
fn a_refusal_in_the_form_of_an_event_has_its_message() {
    assert_eq!(said(400, "event: error\ndata: {\"error\":{\"message\":\"too wide\"}}\n\n").1, "too wide");
    assert_eq!(said(400, "data: too wide\n\n").1, "too wide");
}

#[test]
fn errors_within_an_answer_say_their_class_themselves() {
    assert_eq!(in_band(r#"{"error":{"message":"engine died","code":500,"type":"BadRequestError"}}"#).class, FailureClass::Server);
    assert_eq!(in_band(r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#).class, FailureClass::RateLimited);
    assert_eq!(in_band(r#"{"error":"boom"}"#), ProviderError::new(FailureClass::Server, "boom"));
}

#[test]
fn an_unpaid_account_is_the_operators_whatever_the_status() {
    for (status, body) in [
        (429, r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#),
        (429, r#"{"error":{"message":"x","type":"exceeded_current_quota_error"}}"#),
        (400, r#"{"code":"Arrearage","message":"Access denied, please make sure your account is in good standing."}"#),
        (429, r#"{"code":"resource-exhausted","error":"Your team has used all available credits"}"#),
        (500, r#"{"error":{"code":"1113","message":"x"}}"#),
    ] {
        assert_eq!(said(status, body).0, FailureClass::Credential, "{body}");
    }
    let gemini = r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details."}}"#;
    assert_eq!(said(429, gemini).0, FailureClass::RateLimited);
}

#[test]
fn words_that_blame_the_input_count_more_than_a_5xx() {
    for message in [
        "image input is not supported",
        "input is too large to process. increase the physical batch size",
        "maximum context length is 8192 tokens",
    ] {
        let error = read(500, &HeaderMap::new(), format!(r#"{{"error":{{"message":"{message}","type":"server_error"}}}}"#).as_bytes());
        let class = if message.starts_with("maximum context") { FailureClass::ContextLength } else { FailureClass::BadRequest };
        assert_eq!(error.judged(), class, "{message}");
        assert_eq!(in_band(&format!(r#"{{"error":"{message}"}}"#)).judged(), class, "{message}");
    }
    for message in
        ["unsupported operand type(s) for +: 'int' and 'str'", "'<' not supported between instances of 'int' and 'str'", "engine died"]
    {
        let error = read(500, &HeaderMap::new(), format!(r#"{{"error":{{"message":"{message}"}}}}"#).as_bytes());
        assert_eq!(error.judged(), FailureClass::Server, "{message}");
    }
}

#[test]
fn errors_are_found_under_every_name_and_nowhere_else() {
    let class = |json: &str| find(json).map(|error| error.class);
    for (json, want) in [
        (r#"{"error":{"code":429,"message":"Resource exhausted","status":"RESOURCE_EXHAUSTED"}}"#, FailureClass::RateLimited),
        (r#"{"error_code":"BAD_REQUEST","message":"too wide"}"#, FailureClass::BadRequest),
        (r#"{"detail":"x"}"#, FailureClass::Server),
        (r#"{"code":503,"message":"x"}"#, FailureClass::Overloaded),
        (r#"{"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#, FailureClass::Credential),
        (r#"[{"error":{"code":400,"message":"x"}}]"#, FailureClass::BadRequest),
    ] {
        assert_eq!(class(json), Some(want), "{json}");
    }
    for no in [
        "{}",
        "[1]",
        "7",
        r#"{"error":null}"#,
        r#"{"base_resp":{"status_code":0}}"#,
        r#"{"id":"x","object":"chat.completion.chunk"}"#,
        "{oops",
    ] {
        assert_eq!(class(no), None, "{no}");
    }
}

#[test]
fn a_403_of_openrouters_is_about_the_prompt_or_the_model() {
    use FailureClass::{ContentFilter, NotFound, UnknownReference};
    let flagged = r#"{"error":{"code":403,"message":"x","metadata":{"reasons":["violence"],"flagged_input":"y"}}}"#;
    let unnamed = r#"{"error":{"code":403,"message":"a/b requires moderation on OpenAI. Your input was flagged for \"hate\"."}}"#;
    let gated = r#"{"error":{"code":403,"message":"a/b is only available on x","metadata":{"failed_routing_step":"Gate"}}}"#;
    let filtered =
        r#"{"error":{"code":404,"message":"No endpoints found that support image input","metadata":{"failed_routing_step":"Filter"}}}"#;
    let wrapped = r#"{"error":{"code":403,"message":"Provider returned error","metadata":{"provider_name":"x","raw":"y"}}}"#;
    for (status, body, class) in [
        (403, flagged, ContentFilter),
        (403, unnamed, ContentFilter),
        (403, gated, NotFound),
        (404, filtered, UnknownReference),
        (403, wrapped, FailureClass::Credential),
    ] {
        assert_eq!((read(status, &HeaderMap::new(), body.as_bytes()).judged(), in_band(body).judged()), (class, class), "{body}");
    }
}
