//! Tests of reading a request: what becomes a turn, whose word counts, and what errors name.

use super::*;
use crate::llm::adjustments::Adjustments;
use crate::llm::field::Fields;
use crate::llm::messages::Headers;
use crate::llm::settings::Params;

const HI: &str = r#""messages":[{"role":"user","content":"Hi"}]"#;

/// Reads a body whose other members are as they must be; the message of the error.
fn with<T>(members: &str, look: impl FnOnce(Request<'_>) -> T) -> Result<T, String> {
    under(&Params::default(), members, look)
}

/// The same under a route's settings.
fn under<T>(params: &Params, members: &str, look: impl FnOnce(Request<'_>) -> T) -> Result<T, String> {
    let body = format!(r#"{{"model":"r","max_tokens":5,{members}}}"#);
    let parsed = crate::front::messages::parse(body.into(), false).map_err(|e| e.message.into_owned())?;
    let base = ChatRequest { parsed: &parsed, params, system: None, model: "m", seal: None };
    let headers = Headers::default();
    let ask = MessagesRequest { base, headers: &headers };
    read(&ask).map(look).map_err(|e| e.message.into_owned())
}

fn told(messages: &str) -> Vec<String> {
    let members = format!(r#""messages":[{messages}]"#);
    let turns = |request: Request<'_>| {
        let turn = |turn: &crate::llm::request::Turn<'_, '_>| {
            let block = |block: &Block<'_>| match &block.content {
                Content::Text(text) => format!(" {}", text.decode()),
                Content::Reasoning(text) => format!(" ({})", text.decode()),
                Content::Call(call) => format!(" {}={}", call.id.id, call.arguments.decode()),
                other => format!(" {other:?}"),
            };
            let failed = if turn.failed() { "!" } else { "" };
            format!("{:?}{failed}{}", turn.role(), turn.blocks.iter().map(block).collect::<String>())
        };
        request.turns().iter().map(turn).collect()
    };
    with(&members, turns).unwrap()
}

#[test]
fn results_are_turns_of_their_own_before_what_the_user_says() {
    let calls = r#"{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"x"},{"type":"tool_use","id":"tgid_ZjowLg","name":"f","input":{"a": 1.0}}]}"#;
    let results = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"tgid_ZjowLg","content":"no","is_error":true},{"type":"text","text":"Go"}]}"#;
    let system = r#"{"role":"system","content":[{"type":"text","text":"Be brief."}]}"#;
    let seen = told(&[r#"{"role":"user","content":"Hi"}"#, calls, results, system].join(","));
    assert_eq!(seen, ["User Hi", "Assistant (hm) f:0.={\"a\": 1.0}", "Tool! no", "User Go", "System Be brief."]);
}

#[test]
fn documents_of_text_are_texts() {
    let text = r#"{"type":"document","title":"t","context":"c","source":{"type":"text","media_type":"text/plain","data":"d"}}"#;
    let blocks = r#"{"type":"document","source":{"type":"content","content":[{"type":"text","text":"e"}]}}"#;
    assert_eq!(told(&format!(r#"{{"role":"user","content":[{text},{blocks}]}}"#)), ["User c t d e"]);
}

#[test]
fn what_a_search_for_tools_has_found_is_said_in_words() {
    let call = r#"{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"ToolSearch","input":{}}]}"#;
    let found = |reference: &str| {
        let result = format!(r#"{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t1","content":[{reference}]}}]}}"#);
        let look = |request: Request<'_>| {
            let texts = request.turns()[2].texts().unwrap().into_iter().map(|(text, _)| text.decode().into_owned()).collect::<String>();
            (texts, request.params.iter().any(|param| param.name == "tool_reference"))
        };
        with(&format!(r#""messages":[{{"role":"user","content":"x"}},{call},{result}]"#), look)
    };
    let reference = r#"{"type":"tool_reference","tool_name":"WebFetch"}"#;
    assert_eq!(found(reference), Ok(("This tool is now available: WebFetch".to_owned(), false)));
    assert!(found(r#"{"type":"tool_reference"}"#).unwrap_err().starts_with("`messages[2].content[0].tool_name`"));
}

#[test]
fn the_attribution_is_left_out_and_thinking_becomes_an_effort() {
    let system = r#""system":[{"type":"text","text":"x-anthropic-billing-header: a"},{"type":"text","text":"Kind."}]"#;
    assert_eq!(with(&format!("{HI},{system}"), |request| request.turns()[0].blocks.len()), Ok(1));
    for (thinking, effort, budget) in [
        (r#"{"type":"enabled","budget_tokens":2048}"#, Some("low"), Some(2048)),
        (r#"{"type":"enabled","budget_tokens":9000}"#, Some("medium"), Some(9000)),
        (r#"{"type":"enabled","budget_tokens":30000}"#, Some("high"), Some(30_000)),
        (r#"{"type":"disabled"}"#, Some("none"), None),
        (r#"{"type":"adaptive"}"#, None, None),
    ] {
        let read = with(&format!(r#"{HI},"thinking":{thinking}"#), |request| {
            (request.effort.map(|word| word.decode().into_owned()), request.thinking_budget)
        });
        assert_eq!(read, Ok((effort.map(str::to_owned), budget)), "{thinking}");
    }
}

fn settings(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect()
}

/// What a request asks for in words that differ between the protocols, in one line, and its parameters.
fn asked(request: &Request<'_>) -> (String, Vec<(String, bool)>) {
    let word = |text: Option<Text<'_>>| text.map_or("-".to_owned(), |text| text.decode().into_owned());
    let output = request.output.as_ref().map_or("-", |output| output.field.name());
    let stop: String = request.sampling.stop.iter().map(|text| text.decode()).collect();
    let effort = format!("{} {:?}", word(request.effort), request.thinking_budget);
    let calls = format!("{:?} {}", request.tool_choice, request.serial_calls);
    let line = format!("{stop} | {} | {effort} | {output} | {calls}", word(request.user));
    (line, request.params.iter().map(|param| (param.name.clone().into_owned(), param.refused)).collect())
}

const CLIENTS: &str = r#""stop_sequences":["c"],"metadata":{"user_id":"c"},"thinking":{"type":"enabled","budget_tokens":2048},
    "output_config":{"effort":"max","format":{"type":"json_schema","schema":{"type":"object"}}},
    "tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true}"#;
const ROUTES: [(&str, &str); 6] = [
    ("stop", r#""r""#),
    ("user", r#""r""#),
    ("reasoning_effort", r#""low""#),
    ("response_format", r#"{"type":"text"}"#),
    ("parallel_tool_calls", "true"),
    ("tool_choice", r#""auto""#),
];

#[test]
fn an_override_outranks_the_clients_word_and_a_default_does_not() {
    let read = |params: &Params, members: &str| under(params, &format!("{HI},{members}"), |request| asked(&request).0).unwrap();
    let overriding = Params { overrides: settings(&ROUTES), ..Params::default() };
    assert_eq!(read(&overriding, CLIENTS), "r | r | low None | - | Some(Auto) false");
    let constraint = Params { overrides: settings(&[("guided_choice", r#"["a"]"#)]), ..Params::default() };
    assert_eq!(read(&constraint, CLIENTS), "c | c | max Some(2048) | guided_choice | Some(Required) true");
    let mut defaults = settings(&ROUTES);
    defaults[3] = ("guided_json".into(), "{}".into());
    let defaulting = Params { defaults, ..Params::default() };
    assert_eq!(read(&defaulting, CLIENTS), "c | c | max Some(2048) | response_format | Some(Required) true");
    assert_eq!(
        read(&defaulting, r#""thinking":{"type":"enabled","budget_tokens":9000}"#),
        "r | r | medium Some(9000) | guided_json | None false"
    );
    assert_eq!(read(&defaulting, r#""thinking":{"type":"adaptive"}"#), "r | r | low None | guided_json | None false");
}

#[test]
fn a_routes_word_on_parallel_calls_is_heard() {
    let serial = |members: &str| {
        let params = Params { defaults: settings(&[("parallel_tool_calls", "false")]), ..Params::default() };
        let tools = r#""tools":[{"name":"f","input_schema":{}}]"#;
        let look = |request: Request<'_>| (request.serial_calls, request.param(Field::ParallelToolCalls).is_some());
        under(&params, &format!("{HI},{tools}{members}"), look).unwrap()
    };
    assert_eq!(serial(""), (true, true));
    assert_eq!(serial(r#","tool_choice":{"type":"auto"}"#), (true, true));
    assert_eq!(serial(r#","tool_choice":{"type":"auto","disable_parallel_tool_use":false}"#), (false, false));
}

#[test]
fn what_the_target_has_refused_does_not_come_back_from_the_clients_words() {
    let fields = [Field::Stop, Field::User, Field::ReasoningEffort, Field::ResponseFormat, Field::ParallelToolCalls, Field::ToolChoice];
    let params =
        Params { adjustments: Adjustments::without(Fields::of(&fields)), defaults: settings(&[("stop", r#""r""#)]), ..Params::default() };
    let (line, params) = under(&params, &format!("{HI},{CLIENTS}"), |request| asked(&request)).unwrap();
    assert_eq!(line, " | - | - None | - | None false");
    let refused: Vec<_> = params.iter().filter(|(_, refused)| *refused).map(|(name, _)| name.as_str()).collect();
    let names = ["output_config.effort", "output_config.format", "stop_sequences", "metadata.user_id"];
    assert!(names.iter().all(|name| refused.contains(name)), "{params:?}");
    assert!(refused.contains(&"tool_choice") && refused.contains(&"tool_choice.disable_parallel_tool_use"), "{params:?}");
}

#[test]
fn a_setting_in_a_providers_words_is_none_of_the_clients() {
    let words = [
        ("thinking", r#"{"type":"disabled"}"#),
        ("output_config", r#"{"effort":"max"}"#),
        ("system", r#""Be rude.""#),
        ("stop_sequences", r#"["r"]"#),
        ("metadata", r#"{"user_id":"r"}"#),
        ("tools", r#"[{"type":"function","function":{"name":"g"}}]"#),
    ];
    for params in [Params { overrides: settings(&words), ..Params::default() }, Params { defaults: settings(&words), ..Params::default() }]
    {
        under(&params, HI, |request| {
            assert_eq!(asked(&request).0, " | - | - None | - | None false");
            assert_eq!(request.turns().len(), 1);
            assert_eq!(request.tools.iter().map(|tool| tool.name.decode()).collect::<Vec<_>>(), ["g"]);
            assert_eq!(request.metadata, Some(r#"{"user_id":"r"}"#));
            assert!(request.params.iter().any(|param| param.field.is_none() && param.name == "thinking"));
        })
        .unwrap();
    }
    let overriding = Params { overrides: settings(&words), ..Params::default() };
    let clients = r#""thinking":{"type":"enabled","budget_tokens":2048},"stop_sequences":["c"],"metadata":{"user_id":"c"}"#;
    let read = under(&overriding, &format!("{HI},{clients}"), |request| asked(&request).0).unwrap();
    assert_eq!(read, "c | c | low Some(2048) | - | None false");
}

#[test]
fn errors_name_the_place() {
    let user = |content: &str| format!(r#""messages":[{{"role":"user","content":{content}}}]"#);
    let tools = |tools: &str| format!(r#"{},"tools":{tools}"#, user(r#""x""#));
    let call_and = |member: &str| {
        let call = r#"{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]}"#;
        format!(r#""messages":[{call},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t",{member}}}]}}]"#)
    };
    for (members, place) in [
        (user("7"), "`messages[0].content`"),
        (user(r#"[{"type":"text"}]"#), "`messages[0].content[0].text`"),
        (user(r#"[{"type":"hologram"}]"#), "`messages[0].content[0].type`"),
        (user(r#"[{"type":"image","source":{"type":"file","file_id":"f"}}]"#), "`messages[0].content[0].source`"),
        (user(r#"[{"type":"tool_result","tool_use_id":"t"}]"#), "`messages[0].content[0].tool_use_id`"),
        (r#""messages":[{"role":"wizard","content":"x"}]"#.to_owned(), "`messages[0].role`"),
        (
            r#""messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":[]}]}]"#.to_owned(),
            "`messages[0].content[0].input`",
        ),
        (tools(r#"[{"name":"f","input_schema":{}},{"type":"bash_20250124","name":"bash"}]"#), "`tools[1]`"),
        (tools(r#"[{"name":"f"}]"#), "`tools[0].input_schema`"),
        (format!(r#"{},"tool_choice":{{"type":"tool","name":"g"}}"#, tools(r#"[{"name":"f","input_schema":{}}]"#)), "`tool_choice.name`"),
        (format!(r#"{},"tool_choice":{{"type":"any"}}"#, user(r#""x""#)), "`tool_choice`"),
        (format!(r#"{},"output_config":{{"format":{{"type":"grammar"}}}}"#, user(r#""x""#)), "`output_config.format.type`"),
        (r#""messages":[]"#.to_owned(), "`messages`"),
        (format!(r#"{},"mcp_servers":[{{"type":"url"}}]"#, user(r#""x""#)), "`mcp_servers` is for tools that Anthropic runs"),
        (format!(r#"{},"container":"c""#, user(r#""x""#)), "`container` is for tools that Anthropic runs"),
        (format!(r#"{},"thinking":{{"type":"foo"}}"#, user(r#""x""#)), "`thinking.type` must be enabled, adaptive, "),
        (call_and(r#""is_error":"x""#), "`messages[1].content[0].is_error` must be true or false"),
        (call_and(r#""content":[5]"#), "`messages[1].content[0].content[0]` must be an object"),
    ] {
        let error = with(&members, |_| ()).unwrap_err();
        assert!(error.starts_with(place), "{members}: {error}");
    }
}
