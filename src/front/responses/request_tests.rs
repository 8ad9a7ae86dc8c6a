//! Requests in every form that clients write them.

use super::*;
use crate::front::sealed;
use crate::llm::request::{ToolChoice, Turn};
use crate::llm::settings::Params;
use crate::llm::state::{Seal, Sealer};
use std::sync::Arc;

fn seal(provider: &str) -> Seal {
    Seal::new(Arc::new(Sealer::new(&[7; 32]).unwrap()), "team".into(), provider.into())
}

/// Reads a body whose model is as it must be; the message of the error.
fn with<T>(members: &str, params: &Params, look: impl FnOnce(Request<'_>) -> T) -> Result<T, String> {
    let body = format!(r#"{{"model":"r",{members}}}"#);
    let parsed = crate::front::responses::parse(body.into()).map_err(|e| e.message.into_owned())?;
    let (functions, seal) = (Arc::new(tools::functions(&parsed, params)), seal("p"));
    let base = ChatRequest { parsed: &parsed, params, system: None, model: "m", seal: Some(&seal) };
    let ask = ResponsesRequest { base, functions: &functions };
    read(&ask).map(look).map_err(|e| e.message.into_owned())
}

/// The turns of a conversation in short.
fn told(members: &str) -> Vec<String> {
    let block = |block: &Block<'_>| match &block.content {
        Content::Text(text) => format!(" {}", text.decode()),
        Content::Reasoning(text) => format!(" ({})", text.decode()),
        Content::Call(call) => {
            let state = call.id.state.as_deref().map(|state| format!("<{}>", String::from_utf8_lossy(state))).unwrap_or_default();
            format!(" {}{state}:{}={}", call.id.id, call.name.decode(), call.object(block.at).unwrap())
        }
        other => format!(" {other:?}"),
    };
    let turn = |turn: &Turn<'_, '_>| {
        let answers = if turn.role() == Role::Tool { format!(" {}", turn.answers()) } else { String::new() };
        format!("{:?}{answers}{}", turn.role(), turn.blocks.iter().map(block).collect::<String>())
    };
    with(members, &Params::default(), |request| request.turns().iter().map(turn).collect()).unwrap()
}

#[test]
fn all_forms_of_input_are_read() {
    assert_eq!(told(r#""instructions":"Be brief.","input":"Hi""#), ["System Be brief.", "User Hi"]);
    let easy = r#"{"role":"developer","content":"a"},{"role":"user","content":[{"type":"input_text","text":"b"},{"type":"input_text","text":""}]}"#;
    let items = r#"{"type":"message","role":"assistant","id":"m","phase":"commentary","content":[{"type":"output_text","text":"c","annotations":[]}]}"#;
    assert_eq!(told(&format!(r#""input":[{easy},{items}]"#)), ["System a", "User b", "Assistant c"]);
}

#[test]
fn what_an_assistant_says_in_several_items_is_one_turn_and_a_state_belongs_to_the_call_behind_it() {
    let sealed = |provider: &str, state: &[u8]| sealed::seal(Some(&seal(provider)), state);
    let reasoning = |encrypted: &str, text: &str| {
        format!(
            r#"{{"type":"reasoning","id":"rs_1","summary":[{{"type":"summary_text","text":"{text}"}}],"content":null,"encrypted_content":"{encrypted}"}}"#
        )
    };
    let call = r#"{"type":"function_call","call_id":"c1","name":"f","arguments":"{\"a\": 1.0}","status":"completed"}"#;
    let result = r#"{"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"no"}]}"#;
    let input = |first: &str| format!(r#""input":[{{"role":"user","content":"u"}},{first},{call},{result}]"#);
    let turns = |first: &str, said: &str| {
        ["User u".to_owned(), format!("Assistant{said}:f={{\"a\": 1.0}}"), "Tool c1 no".to_owned()] == told(&input(first))[..]
    };
    assert!(turns(&reasoning(&sealed("p", b"st"), "hm"), " (hm) c1<st>"));
    assert!(turns(&reasoning("gAAAA", "hm"), " (hm) c1"), "{:?}", told(&input(&reasoning("gAAAA", "hm"))));
    assert!(turns(&reasoning(&sealed("q", b"st"), "hm"), " c1"), "what another provider sealed goes nowhere");
    assert!(turns(r#"{"type":"web_search_call","id":"ws_1"}"#, " c1"));
}

#[test]
fn the_results_of_a_turn_stand_directly_behind_it() {
    let call = |id: &str| format!(r#"{{"type":"function_call","call_id":"{id}","name":"f","arguments":"{{}}"}}"#);
    let result = |id: &str| format!(r#"{{"type":"function_call_output","call_id":"{id}","output":"{id}"}}"#);
    let user = |text: &str| format!(r#"{{"role":"user","content":"{text}"}}"#);
    let input = [user("u"), call("1"), call("2"), result("1"), user("v"), result("2"), user("w"), call("3"), user("x"), result("3")];
    let turns = ["User u", "Assistant 1:f={} 2:f={}", "Tool 1 1", "Tool 2 2", "User v", "User w", "Assistant 3:f={}", "Tool 3 3", "User x"];
    assert_eq!(told(&format!(r#""input":[{}]"#, input.join(","))), turns);
}

#[test]
fn custom_tools_and_namespaces_are_functions() {
    let grammar = r#"{"type":"grammar","syntax":"lark","definition":"start: A"}"#;
    let tools = format!(
        r#""tools":[{{"type":"custom","name":"patch","description":"d","format":{grammar}}},
            {{"type":"namespace","name":"crm","tools":[{{"type":"function","name":"get","parameters":{{}}}}]}},
            {{"type":"function","name":"crm__get","parameters":{{}}}},{{"type":"web_search"}}]"#
    );
    let history = r#""input":[{"type":"custom_tool_call","call_id":"1","name":"patch","input":"a\n\"b"},{"type":"custom_tool_call_output","call_id":"1","output":"ok"},
        {"type":"function_call","call_id":"2","name":"get","namespace":"crm","arguments":"{}"},{"type":"function_call_output","call_id":"2","output":""}]"#;
    let all = format!("{history},{tools}");
    assert_eq!(told(&all), ["Assistant 1:patch={\"input\":\"a\\n\\\"b\"}", "Tool 1 ok", "Assistant 2:crm__get_2={}", "Tool 2"]);
    let look = |request: Request<'_>| {
        let tools: Vec<_> = request.tools.iter().map(|tool| tool.name.decode().into_owned()).collect();
        let told = request.tools[0].description.unwrap().decode().into_owned();
        (tools, told, request.params.iter().map(|param| param.name.clone().into_owned()).collect::<Vec<_>>())
    };
    let (names, description, params) = with(&all, &Params::default(), look).unwrap();
    assert_eq!(names, ["patch", "crm__get_2", "crm__get"]);
    assert_eq!(description, "d\n\nThe input is a text that matches this lark grammar:\nstart: A");
    assert_eq!(params, ["tools", "tools[3]"]);
}

#[test]
fn tools_that_items_add_are_tools_of_the_request() {
    let item = r#"{"type":"additional_tools","role":"developer","tools":[{"type":"namespace","name":"functions","description":"","tools":[
        {"type":"custom","name":"exec","description":"d"},{"type":"function","name":"wait","parameters":{}}]},{"type":"web_search"},
        {"type":"function","name":"plain","strict":true}]}"#;
    let found = r#"{"type":"tool_search_output","tools":[{"type":"function","name":"plain"},{"type":"function","name":"late"}]}"#;
    let call = r#"{"type":"custom_tool_call","call_id":"1","namespace":"functions","name":"exec","input":"a"},{"type":"custom_tool_call_output","call_id":"1","output":"ok"}"#;
    let members =
        |more: &str| format!(r#""input":[{item},{{"role":"user","content":"u"}},{call},{found}],"parallel_tool_calls":false{more}"#);
    assert_eq!(told(&members("")), ["User u", "Assistant 1:functions__exec={\"input\":\"a\"}", "Tool 1 ok"]);
    let look = |request: Request<'_>| {
        let tools: Vec<_> = request.tools.iter().map(|tool| tool.name.decode().into_owned()).collect();
        let choice = request.tool_choice.as_ref().map(|choice| format!("{choice:?}"));
        let params: Vec<_> = request.params.iter().map(|param| param.name.clone().into_owned()).collect();
        (tools.join(" "), request.serial_calls, choice, params.join(" "))
    };
    let choice = r#","tool_choice":{"type":"function","namespace":"functions","name":"wait"}"#;
    let (tools, serial, choice, params) = with(&members(choice), &Params::default(), look).unwrap();
    assert_eq!(tools, "functions__exec functions__wait plain late");
    assert_eq!((serial, choice), (true, Some(format!("{:?}", ToolChoice::Named(Text::Plain("functions__wait"))))));
    assert_eq!(params, "tool_choice tools parallel_tool_calls input[0].tools[1] input[4]");
    let both = with(&members(r#","tools":[{"type":"function","name":"top"}]"#), &Params::default(), look).unwrap();
    assert_eq!(both.0, "top functions__exec functions__wait plain late");
    // The route's tools replace them, and its defaults yield to them.
    let list = vec![("tools".to_owned(), r#"[{"type":"function","function":{"name":"routes"}}]"#.to_owned())];
    let overriding = Params { overrides: list.clone(), ..Params::default() };
    assert_eq!(with(&members(""), &overriding, look).unwrap().0, "routes");
    let defaulting = Params { defaults: list, ..Params::default() };
    assert_eq!(with(&members(""), &defaulting, look).unwrap().0, tools);
    assert_eq!(with(r#""input":"x""#, &defaulting, look).unwrap().0, "routes");
}

#[test]
fn items_of_other_agents_and_of_tools_that_the_client_runs_are_read() {
    let agent = r#"{"type":"agent_message","author":"/root/a","recipient":"/root","content":[{"type":"input_text","text":"done"},{"type":"encrypted_content","encrypted_content":"x"}]}"#;
    let secret = r#"{"type":"agent_message","author":"/root/a","recipient":"/root","content":[{"type":"encrypted_content","encrypted_content":"x"}]}"#;
    let shell = r#"{"type":"shell_call","call_id":"c1","action":{"commands":["ls"]}},
        {"type":"shell_call_output","call_id":"c1","output":[{"stdout":"a","stderr":"","outcome":{"type":"exit","exit_code":0}}]},
        {"type":"local_shell_call","id":"c2","action":{"type":"exec","command":["ls"]}},{"type":"local_shell_call_output","id":"c2","output":"b"},
        {"type":"apply_patch_call","call_id":"c3","operation":{"type":"delete_file","path":"a"}},{"type":"apply_patch_call_output","call_id":"c3","status":"completed"}"#;
    let rest = r#"{"type":"configuration_update","reasoning":{"effort":"high"}},{"type":"configuration_update"},
        {"type":"compaction","encrypted_content":"x"},{"type":"context_compaction"},{"type":"program","call_id":"p","code":"1"}"#;
    let members = format!(r#""reasoning":{{"effort":"low"}},"input":[{{"role":"user","content":"u"}},{agent},{secret},{shell},{rest}]"#);
    let turns = [
        "User u",
        "User done",
        r#"Assistant c1:shell={"commands":["ls"]}"#,
        r#"Tool c1 [{"stdout":"a","stderr":"","outcome":{"type":"exit","exit_code":0}}]"#,
        r#"Assistant c2:shell={"type":"exec","command":["ls"]}"#,
        "Tool c2 b",
        r#"Assistant c3:apply_patch={"type":"delete_file","path":"a"}"#,
        "Tool c3",
    ];
    assert_eq!(told(&members), turns);
    let look = |request: Request<'_>| {
        let params: Vec<_> = request.params.iter().map(|param| param.name.clone().into_owned()).collect();
        (request.effort.map(|word| word.decode().into_owned()), params.join(" "))
    };
    let expected = "input[1].content[1] input[2].content[0] reasoning.effort input[11] input[12] input[13]";
    assert_eq!(with(&members, &Params::default(), look).unwrap(), (Some("high".to_owned()), expected.to_owned()));
}

#[test]
fn choices_are_read_in_all_forms() {
    let tools = r#""input":"x","tools":[{"type":"function","name":"f"},{"type":"custom","name":"p"}],"tool_choice":"#;
    let choose = |choice: &str| {
        with(&format!("{tools}{choice}"), &Params::default(), |request| request.tool_choice.map(|choice| format!("{choice:?}")))
    };
    let debug = |choice: ToolChoice<'_>| Ok(Some(format!("{choice:?}")));
    assert_eq!(choose(r#""required""#), debug(ToolChoice::Required));
    assert_eq!(choose(r#"{"type":"function","name":"f"}"#), debug(ToolChoice::Named(Text::Raw("f"))));
    assert_eq!(choose(r#"{"type":"custom","name":"p"}"#), debug(ToolChoice::Named(Text::Plain("p"))));
    let allowed = r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"}]}"#;
    assert_eq!(choose(allowed), debug(ToolChoice::Allowed { required: true, names: vec![Text::Raw("f")] }));
    for (choice, place) in [
        (r#"{"type":"function","name":"g"}"#, "`tool_choice.name`"),
        (r#"{"type":"web_search"}"#, "`tool_choice`: a tool of type `web_search`"),
        (r#"{"type":"allowed_tools","tools":[{"type":"function","name":"g"}]}"#, "`tool_choice.tools[0].name`"),
        (r#""any""#, "`tool_choice` must be none, auto, required"),
    ] {
        let error = choose(choice).unwrap_err();
        assert!(error.starts_with(place), "{error}");
    }
}

#[test]
fn what_is_asked_for_has_its_place_and_an_override_counts_before_it() {
    let asked = r#""input":"x","max_output_tokens":50,"temperature":0.5,"top_logprobs":2,"reasoning":{"effort":"low","summary":"auto"},
        "text":{"verbosity":"low","format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true}},"truncation":"auto",
        "store":true,"include":["reasoning.encrypted_content"],"prompt_cache_key":"k","client_metadata":{}"#;
    let look = |request: Request<'_>| {
        let format = request.output.as_ref().map(|output| format!("{:?}", output.field));
        let (sampling, effort) = (&request.sampling, request.effort.map(|word| word.decode().into_owned()));
        let line = format!("{:?} {:?} {} {effort:?} {format:?}", sampling.max_tokens, sampling.top_logprobs, sampling.logprobs);
        let names: Vec<_> = request.params.iter().map(|param| param.name.clone().into_owned()).collect();
        (line, names.join(" "), format!("{:?}", request.passed))
    };
    let (line, names, passed) = with(asked, &Params::default(), look).unwrap();
    assert_eq!(line, r#"Some("50") Some("2") true Some("low") Some("ResponseFormat")"#);
    let expected = "temperature prompt_cache_key max_output_tokens top_logprobs top_logprobs reasoning.effort text.verbosity text.format truncation client_metadata";
    assert_eq!(names, expected);
    assert_eq!(passed, r#"[("prompt_cache_key", "\"k\""), ("verbosity", "\"low\"")]"#);
    let list = [("max_tokens", "9"), ("reasoning_effort", "\"high\"")].map(|(name, json)| (name.to_owned(), json.to_owned()));
    let overriding = Params { overrides: list.to_vec(), ..Params::default() };
    assert_eq!(with(asked, &overriding, look).unwrap().0, r#"Some("9") Some("2") true Some("high") Some("ResponseFormat")"#);
    let defaulting = Params { defaults: list.to_vec(), ..Params::default() };
    assert_eq!(with(asked, &defaulting, look).unwrap().0, line);
    assert_eq!(with(r#""input":"x""#, &defaulting, look).unwrap().0, r#"Some("9") None false Some("high") None"#);
}

#[test]
fn only_a_stored_conversation_needs_no_input() {
    let parsed = |members: &str| crate::front::responses::parse(format!(r#"{{"model":"r",{members}}}"#).into());
    for stored in [r#""previous_response_id":"r""#, r#""input":"","conversation":"c""#, r#""input":[],"prompt":{"id":"p"}"#] {
        assert!(parsed(stored).is_ok(), "{stored}");
    }
    assert!(parsed(r#""input":7,"previous_response_id":"r""#).is_err() && parsed(r#""input":"""#).is_err());
}

#[test]
fn errors_name_the_place() {
    let input = |item: &str| format!(r#""input":[{{"role":"user","content":"x"}},{item}]"#);
    let more = |member: &str| format!(r#""input":"x",{member}"#);
    for (members, place) in [
        (r#""inputs":"x""#.to_owned(), "`input` is missing"),
        (r#""input":[]"#.to_owned(), "`input` must be"),
        (r#""input":7"#.to_owned(), "`input` must be"),
        (input(r#"{"role":"wizard","content":"x"}"#), "`input[1].role`"),
        (input(r#"{"type":"teleport"}"#), "`input[1]`: an item of type `teleport`"),
        (input(r#"{"role":"user","content":[{"type":"input_text"}]}"#), "`input[1].content[0].text`"),
        (input(r#"{"role":"user","content":[{"type":"input_image","file_id":"f"}]}"#), "`input[1].content[0].file_id`"),
        (input(r#"{"role":"user","content":[{"type":"hologram"}]}"#), "`input[1].content[0].type`"),
        (input(r#"{"type":"function_call_output","call_id":"c","output":"x"}"#), "`input[1].call_id`"),
        (input(r#"{"type":"function_call","name":"f","arguments":"{}"}"#), "`input[1].call_id`"),
        (input(r#"{"type":"item_reference","id":"m"}"#), "`item_reference`"),
        (more(r#""previous_response_id":"resp_1""#), "`previous_response_id`"),
        (more(r#""background":true"#), "`background`: nothing runs in the background here; leave `background` out"),
        (
            more(r#""prompt":{"id":"p"}"#),
            "`prompt` is stored by a provider, and nothing is stored here; write the prompt in `instructions`",
        ),
        (more(r#""store":"x""#), "`store` must be true or false"),
        (more(r#""max_output_tokens":18446744073709551616"#), "`max_output_tokens` is too large"),
        (input(r#"{"type":"reasoning","summary":"x"}"#), "`input[1].summary` must be an array"),
        (more(r#""max_output_tokens":0"#), "`max_output_tokens`"),
        (more(r#""tools":[{"type":"function"}]"#), "`tools[0].name`"),
        (
            more(r#""tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"f","parameters":7}]}]"#),
            "`tools[0].tools[0].parameters`",
        ),
        (more(r#""tool_choice":"required""#), "`tool_choice`"),
        (more(r#""text":{"format":{"type":"grammar"}}"#), "`text.format.type`"),
        (more(r#""text":{"format":{"type":"json_schema","name":"n"}}"#), "`text.format.schema`"),
        (more(r#""reasoning":{"effort":7}"#), "`reasoning.effort`"),
    ] {
        let error = with(&members, &Params::default(), |_| ()).unwrap_err();
        assert!(error.starts_with(place), "{members}: {error}");
    }
}

#[test]
fn a_routes_limit_of_tokens_counts_before_the_clients_in_either_spelling() {
    for (overrides, expected) in [
        (vec![], Some("5000")),
        (vec![("max_tokens", "100")], Some("100")),
        (vec![("max_completion_tokens", "100")], Some("100")),
        (vec![("max_completion_tokens", "null")], None),
    ] {
        let overrides = overrides.into_iter().map(|(name, json)| (name.to_owned(), json.to_owned())).collect();
        let params = Params { overrides, defaults: vec![("max_tokens".into(), "7".into())], ..Params::default() };
        let members = r#""input":"x","max_output_tokens":5000"#;
        let limit = with(members, &params, |request| request.sampling.max_tokens.map(str::to_owned)).unwrap();
        assert_eq!(limit.as_deref(), expected);
        let parsed = crate::front::responses::parse(format!(r#"{{"model":"r",{members}}}"#).into()).unwrap();
        let base = ChatRequest { parsed: &parsed, params: &params, system: None, model: "m", seal: None };
        assert_eq!(crate::front::responses::max_tokens(&base), expected.map(|tokens| tokens.parse().unwrap()));
    }
}

#[test]
fn many_tools_are_read_in_linear_time() {
    let list = |each: &dyn Fn(usize) -> String| (0..50_000).map(each).collect::<Vec<_>>().join(",");
    let custom = |name: &str| format!(r#"{{"type":"custom","name":"{name}"}}"#);
    let hosted = list(&|_| r#"{"type":"web_search"}"#.to_owned());
    let same = list(&|_| custom("a"));
    let alike = list(&|number| custom(&char::from_u32(0x20000 + number as u32).unwrap().to_string()));
    let items = list(&|_| r#"{"type":"web_search_call"}"#.to_owned());
    let start = std::time::Instant::now();
    for (tools, count) in [(&hosted, 0), (&same, 50_000), (&alike, 50_000)] {
        let choice =
            if count == 0 { "\"auto\"".to_owned() } else { format!(r#"{{"type":"allowed_tools","mode":"auto","tools":[{tools}]}}"#) };
        let members = format!(r#""input":[{items}],"tools":[{tools}],"tool_choice":{choice}"#);
        assert_eq!(with(&members, &Params::default(), |request| request.tools.len()).unwrap(), count);
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_routes_tools_replace_the_clients_and_what_stands_for_them() {
    let tools = r#"[{"type":"function","function":{"name":"patch"}}]"#;
    let params = Params { overrides: vec![("tools".into(), tools.into())], ..Params::default() };
    let members = r#""input":"x","tools":[{"type":"custom","name":"patch"}]"#;
    let names = |request: Request<'_>| request.tools.iter().map(|tool| tool.name.decode().into_owned()).collect::<Vec<_>>();
    assert_eq!(with(members, &params, names).unwrap(), ["patch"]);
    let parsed = crate::front::responses::parse(format!(r#"{{"model":"r",{members}}}"#).into()).unwrap();
    assert!(tools::functions(&parsed, &params).named("patch").is_none());
    assert!(tools::functions(&parsed, &Params::default()).named("patch").is_some());
}

#[test]
fn of_many_things_without_a_counterpart_the_first_are_named() {
    let list = |one: &str| vec![one; 20_000].join(",");
    let (tools, traces) = (list(r#"{"type":"web_search"}"#), list(r#"{"type":"web_search_call"}"#));
    let parts = list(r#"{"type":"encrypted_content"}"#);
    let members = format!(r#""tools":[{tools}],"input":[{traces},{{"role":"user","content":[{parts}]}}]"#);
    let names = with(&members, &Params::default(), |request| {
        request.params.iter().map(|param| param.name.clone().into_owned()).collect::<Vec<_>>()
    });
    let names = names.unwrap();
    assert!(names.len() < 1000 && names.contains(&"tools[16]".to_owned()), "{}", names.len());
}
