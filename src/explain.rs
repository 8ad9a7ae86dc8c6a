//! What `tidegate check --explain ROUTE` prints: where a route goes, and what becomes of each parameter there.
//!
//! Nothing is looked up in a table that could differ from what is done: every parameter is given to the target's own
//! encoder, in a request of its own, and the encoder's verdict is printed.

use crate::dialect::bedrock::family::Family;
use crate::dialect::gemini::Publisher;
use crate::dialect::openai::ResponsesUse;
use crate::dialect::openai::quirks::{ReasoningField, ReasoningTurns};
use crate::dialect::sagemaker::Format;
use crate::dialect::shared::params::Policy;
use crate::llm::endpoint::Endpoint;
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::field::Field;
use crate::llm::settings::Params;
use crate::near;
use crate::provider::Target;
use crate::provider::protocol::Protocol;
use crate::provider::timeouts::Timeouts;
use crate::route::r#match::{RouteMatch, find};
use crate::route::settings::Route;
use crate::route::settings::Routes;
use crate::units::text as time;
use std::fmt::Write as _;

/// A member that no dialect knows.
const UNKNOWN: (&str, &str) = ("any other field", r#","x_not_known_to_anyone":1"#);
/// A schema, a tool and one of OpenAI's first tools, as small as they get.
const SCHEMA: &str = r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#;
const TOOLS: &str = r#","tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]"#;
const FUNCTIONS: &str = r#","functions":[{"name":"f","parameters":{"type":"object","properties":{}}}]"#;
/// Longest line of names, in characters.
const WIDTH: usize = 100;

/// The explanation of the route that a client means by `model`.
///
/// # Errors
/// Says that there is no such route, and which is near.
pub fn explain(routes: &Routes, model: &str) -> Result<String, String> {
    let found = find(routes, model).and_then(|found| Some((found, routes.get(found.route)?)));
    let Some((found, route)) = found else {
        let names = routes.iter().map(|route| route.name.as_ref());
        let hint = near::nearest(model, names, 1).first().map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        return Err(format!("there is no route `{model}`{hint}"));
    };
    let mut text = String::new();
    let _infallible = write_route(&mut text, route, found);
    Ok(text)
}

fn write_route(text: &mut String, route: &Route, found: RouteMatch<'_>) -> std::fmt::Result {
    let attempts = route.retry.attempts;
    let word = if attempts == 1 { "attempt" } else { "attempts" };
    writeln!(text, "{}  balance {}, {attempts} {word}", route.name, route.balance.name())?;
    let e = route.ejection;
    if e.failures > 0 {
        let share = if e.share == 500_000 { "half".to_owned() } else { format!("{} %", f64::from(e.share) / 1e4) };
        writeln!(
            text,
            "  {} failures within {} eject a target for {} to {}, if they are at least {share} of its attempts, or in a row",
            e.failures,
            time(e.window),
            time(e.initial),
            time(e.max)
        )?;
    }
    let parts = [(&route.targets, "weight"), (&route.fallback, "fallback")];
    for (target, part) in parts.into_iter().flat_map(|(targets, part)| targets.iter().map(move |target| (target, part))) {
        let (provider, model) = (&target.provider, found.model(&target.model));
        let weight = if part == "weight" { format!("weight {}", target.weight) } else { part.to_owned() };
        writeln!(text, "\n  {}  {model}  {weight}", provider.name)?;
        writeln!(text, "    kind      {}", provider.kind.name)?;
        writeln!(text, "    base_url  {}", provider.base)?;
        if let Some(proxy) = provider.proxy() {
            writeln!(text, "    proxy     {proxy}")?;
        }
        let t = route.timeouts.over(&provider.timeouts);
        let first_byte = t
            .first_byte
            .map_or_else(|| format!("{} ({} buffered)", time(Timeouts::FIRST_BYTE_STREAMED), time(Timeouts::FIRST_BYTE_BUFFERED)), time);
        let total = t.total.map_or_else(|| "none".to_owned(), time);
        writeln!(
            text,
            "    timeouts  connect {}, first_byte {first_byte}, first_token {}, between_bytes {}, total {total}",
            time(t.connect),
            time(t.first_token),
            time(t.between_bytes)
        )?;
        if let Err(why) = asked(route, target, &model, "") {
            writeln!(text, "    every request is refused: {why}")?;
            continue;
        }
        write_parameters(text, route, target, &model)?;
        write_model(text, target, &model)?;
    }
    Ok(())
}

/// What the model's family lacks, and which JSON schemas it takes.
fn write_model(text: &mut String, target: &Target, model: &str) -> std::fmt::Result {
    if let Protocol::Bedrock(_) = target.protocol {
        let family = Family::of(model);
        let takes = family.takes();
        let lacks = [
            (takes.forced_tool, "a forced tool"),
            (takes.schema, "a JSON schema"),
            (takes.stop, "stop sequences"),
            (takes.cache, "cache points"),
        ];
        let lacks: Vec<_> = lacks.into_iter().filter(|(takes, _)| !takes).map(|(_, what)| what).collect();
        let lacks = if lacks.is_empty() { "nothing".to_owned() } else { lacks.join(", ") };
        writeln!(text, "    family    {}, lacks {lacks}", family.name())?;
    }
    write_state(text, target, model)?;
    let responses = if target.dialect().has_responses() { "pass as they are" } else { "are translated" };
    writeln!(text, "    requests of the Responses API {responses}")?;
    let endpoints: Vec<_> = Endpoint::ALL.iter().filter(|endpoint| target.dialect().endpoint(**endpoint).is_some()).collect();
    let endpoints = if endpoints.is_empty() {
        "none".to_owned()
    } else {
        endpoints.iter().map(|endpoint| endpoint.name()).collect::<Vec<_>>().join(", ")
    };
    writeln!(text, "    endpoints that pass: {endpoints}")?;
    let Some((output, tools)) = target.dialect().schemas(model) else { return Ok(()) };
    for (what, rules) in [("schemas", output), ("tools", tools)] {
        let keywords = rules
            .keywords
            .map_or_else(|| "all keywords".to_owned(), |lists| format!("{} keywords", lists.iter().map(|list| list.len()).sum::<usize>()));
        let unions = if what == "tools" && !rules.union_at_top { ", no union at the top" } else { "" };
        writeln!(text, "    {what:<8}  {}: {keywords}{unions} ({})", rules.name, rules.source)?;
    }
    Ok(())
}

/// What the model needs back on the next turn, which is sealed in the ids of tool calls, and where the reasoning of earlier
/// turns goes.
fn write_state(text: &mut String, target: &Target, model: &str) -> std::fmt::Result {
    let openai = match &target.protocol {
        Protocol::OpenAi(openai) => Some(openai),
        Protocol::SageMaker(container) if container.format == Format::OpenAiChat => Some(&container.openai),
        Protocol::Vertex(vertex) if Publisher::of(model) == Publisher::Other => Some(&vertex.openai),
        _ => None,
    };
    let translates = openai.is_some_and(|openai| openai.responses == ResponsesUse::All);
    if translates {
        writeln!(text, "    api       responses, for the clients of every API")?;
    }
    let returned = match (&target.protocol, openai) {
        (_, Some(_)) if translates => "encrypted reasoning".to_owned(),
        (_, Some(openai)) => openai.quirks.returns.iter().map(|returned| returned.name()).collect::<Vec<_>>().join(", "),
        (Protocol::Anthropic(_), _) => "thinking".to_owned(),
        (Protocol::Bedrock(_), _) if Family::of(model) == Family::Claude => "thinking".to_owned(),
        (Protocol::Vertex(_), _) if Publisher::of(model) == Publisher::Anthropic => "thinking".to_owned(),
        (Protocol::Gemini(_) | Protocol::Vertex(_), _) => "thought signatures".to_owned(),
        _ => String::new(),
    };
    if !returned.is_empty() {
        writeln!(text, "    returns   {returned}, in the ids of tool calls")?;
    }
    if let Some(openai) = openai.filter(|_| !translates) {
        let field = if openai.split_think_tags { ReasoningField::Content } else { openai.quirks.reasoning_field };
        match openai.quirks.reasoning {
            ReasoningTurns::Strip => writeln!(text, "    reasoning of earlier turns is left out")?,
            ReasoningTurns::Keep => writeln!(text, "    reasoning of earlier turns goes into `{}`", field.name())?,
        }
    }
    Ok(())
}

fn write_parameters(text: &mut String, route: &Route, target: &Target, model: &str) -> std::fmt::Result {
    let fields = Field::ALL.iter().filter_map(|field| Some((field.name(), sample(*field)?)));
    let verdicts: Vec<_> = fields
        .chain([(UNKNOWN.0, UNKNOWN.1.to_owned())])
        .map(|(name, members)| (name, verdict(route, target, model, name, &members)))
        .collect();
    for verdict in [Policy::Mapped, Policy::Hint, Policy::Essential] {
        let mut line = format!("    {:<8} ", verdict.name());
        for (name, _) in verdicts.iter().filter(|(_, this)| *this == verdict) {
            if line.len() + name.len() > WIDTH {
                writeln!(text, "{line}")?;
                line = " ".repeat(13);
            }
            write!(line, " {name},")?;
        }
        let line = line.trim_end_matches(',');
        writeln!(text, "{}{}", line, if line.trim() == verdict.name() { " none" } else { "" })?;
    }
    Ok(())
}

/// What becomes of a parameter here.
fn verdict(route: &Route, target: &Target, model: &str, name: &str, members: &str) -> Policy {
    let name = if name == UNKNOWN.0 { "x_not_known_to_anyone" } else { name };
    match asked(route, target, model, members) {
        Err(_) => Policy::Essential,
        Ok(dropped) if dropped.iter().any(|dropped| dropped == name) => Policy::Hint,
        Ok(_) => Policy::Mapped,
    }
}

/// Encodes a small request with these members under the route's own settings.
fn asked(route: &Route, target: &Target, model: &str, members: &str) -> Result<Vec<String>, String> {
    encoded(&Sample::new(members)?, &route.params, route.system.as_deref(), target, model)
}

/// A small request, for what a target's encoder does with one of its members.
pub struct Sample(Parsed);

impl Sample {
    /// With these members, raw JSON with a comma before each.
    ///
    /// # Errors
    /// What a client with such a request would read.
    pub fn new(members: &str) -> Result<Self, String> {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hello."}}]{members}}}"#);
        Parsed::parse(body.into()).map(Self).map_err(|e| e.message.into_owned())
    }
}

/// Encodes a sample; returns the names of what was dropped.
///
/// # Errors
/// Why the target refuses it.
pub fn encoded(sample: &Sample, params: &Params, system: Option<&str>, target: &Target, model: &str) -> Result<Vec<String>, String> {
    let request = ChatRequest { parsed: &sample.0, params, system, model, seal: None };
    let outgoing = target.dialect().encode(&request).map_err(|e| e.message.into_owned())?;
    Ok(outgoing.dropped.iter().map(|name| name.clone().into_owned()).collect())
}

/// Members that ask for something by this field, with what they need beside it. `None` for what every request has and
/// what only the gateway reads.
fn sample(field: Field) -> Option<String> {
    let value = match field {
        Field::Model | Field::Messages | Field::StreamOptions | Field::EpisodeId | Field::TensorzeroEpisodeId => return None,
        Field::Stream | Field::Logprobs | Field::Store => "true".to_owned(),
        Field::MaxTokens | Field::MaxCompletionTokens => "64".to_owned(),
        Field::Temperature | Field::TopP | Field::FrequencyPenalty | Field::PresencePenalty => "0.5".to_owned(),
        Field::Stop => r#"["END"]"#.to_owned(),
        Field::Seed => "7".to_owned(),
        Field::N => "2".to_owned(),
        Field::Tools => return Some(TOOLS.to_owned()),
        Field::ToolChoice => return Some(format!(r#"{TOOLS},"tool_choice":"required""#)),
        Field::ParallelToolCalls => return Some(format!(r#"{TOOLS},"parallel_tool_calls":false"#)),
        Field::ResponseFormat => {
            format!(r#"{{"type":"json_schema","json_schema":{{"name":"s","strict":true,"schema":{SCHEMA}}}}}"#)
        }
        Field::ReasoningEffort => r#""high""#.to_owned(),
        Field::TopLogprobs => return Some(r#","logprobs":true,"top_logprobs":2"#.to_owned()),
        Field::LogitBias => r#"{"50256":-100}"#.to_owned(),
        Field::Metadata => r#"{"team":"search"}"#.to_owned(),
        Field::ServiceTier => r#""flex""#.to_owned(),
        Field::Verbosity => r#""low""#.to_owned(),
        Field::User | Field::PromptCacheKey | Field::SafetyIdentifier => r#""someone""#.to_owned(),
        Field::Prediction => r#"{"type":"content","content":"a"}"#.to_owned(),
        Field::PromptCacheRetention => r#""24h""#.to_owned(),
        Field::PromptCacheOptions => r#"{"mode":"explicit"}"#.to_owned(),
        Field::Moderation => r#"{"model":"omni-moderation-latest"}"#.to_owned(),
        Field::Modalities => r#"["text","audio"]"#.to_owned(),
        Field::Audio => r#"{"voice":"alloy","format":"wav"}"#.to_owned(),
        Field::WebSearchOptions => "{}".to_owned(),
        Field::Functions => return Some(FUNCTIONS.to_owned()),
        Field::FunctionCall => return Some(format!(r#"{FUNCTIONS},"function_call":{{"name":"f"}}"#)),
        Field::ChatTemplate => r#""{{ messages }}""#.to_owned(),
        Field::ChatTemplateKwargs | Field::MmProcessorKwargs => r#"{"a":1}"#.to_owned(),
        Field::GuidedJson => SCHEMA.to_owned(),
        Field::GuidedRegex => r#""[a-z]+""#.to_owned(),
        Field::GuidedChoice => r#"["a","b"]"#.to_owned(),
        Field::GuidedGrammar => r#""root ::= \"a\"""#.to_owned(),
        Field::StructuralTag => r#"{"type":"structural_tag","format":{"type":"any_text"}}"#.to_owned(),
        Field::StructuredOutputs => r#"{"choice":["a","b"]}"#.to_owned(),
        Field::Regex => r#""[a-z]+""#.to_owned(),
        Field::Ebnf | Field::Grammar => r#""root ::= \"a\"""#.to_owned(),
        Field::JsonSchema => SCHEMA.to_owned(),
        Field::GuidedDecodingBackend => r#""xgrammar""#.to_owned(),
        // Without JSON there is no white space to speak of.
        Field::GuidedWhitespacePattern => {
            return Some(r#","response_format":{"type":"json_object"},"guided_whitespace_pattern":"[ ]?""#.to_owned());
        }
    };
    Some(format!(r#","{}":{value}"#, field.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, snapshot::Snapshot};

    fn snapshot() -> Snapshot {
        let env = |name: &str| name.ends_with("_KEY").then(|| "not-to-be-seen".to_owned());
        let text = include_str!("../conf/tidegate.yaml").replace("unsupported: drop", "unsupported: reject");
        config::parse(&text, "conf", &env).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot
    }

    /// The names that stand behind a word, for one target.
    fn names(part: &str, word: &str) -> Vec<String> {
        let (_, rest) = part.split_once(&format!("\n    {word}")).unwrap_or_else(|| panic!("{word}: {part}"));
        let (first, others) = rest.split_once('\n').unwrap();
        let others = others.lines().take_while(|line| line.starts_with("          "));
        let all: String = std::iter::once(first).chain(others).collect();
        all.trim_matches([' ', ',']).split(',').map(|name| name.trim().to_owned()).collect()
    }

    #[test]
    fn every_sample_is_a_request_that_asks_for_the_field() {
        for field in Field::ALL {
            let Some(members) = sample(*field) else { continue };
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{members}}}"#);
            let parsed = Parsed::parse(body.clone().into()).unwrap_or_else(|e| panic!("{body}: {e:?}"));
            let params = crate::llm::settings::Params::default();
            let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "m", seal: None };
            assert!(request.asked(*field).is_some(), "{body}");
        }
    }

    #[test]
    fn a_route_is_told_with_its_deadlines_and_what_becomes_of_each_parameter() {
        let text = explain(&snapshot().routes, "assistant").unwrap();
        assert!(text.starts_with("assistant  balance weighted, 1 attempt\n"), "{text}");
        assert!(text.contains("anthropic  claude-sonnet-4-5  weight 1") && text.contains("base_url  https://api.anthropic.com\n"));
        let (mapped, dropped, refused) = (names(&text, "mapped"), names(&text, "dropped"), names(&text, "refused"));
        for (list, wanted) in [
            (&mapped, ["max_tokens", "stop", "guided_json", "response_format"]),
            (&dropped, ["seed", "logprobs", "any other field", "guided_decoding_backend"]),
            (&refused, ["n", "guided_grammar", "chat_template", "functions"]),
        ] {
            for name in wanted {
                assert!(list.iter().any(|known| known == name), "{name}: {text}");
            }
        }
        let probed = Field::ALL.iter().filter(|field| sample(**field).is_some()).count() + 1;
        assert_eq!(mapped.len() + dropped.len() + refused.len(), probed, "{text}");
        assert!(!text.contains("not-to-be-seen"));
    }

    #[test]
    fn the_routes_own_settings_count() {
        let text = explain(&snapshot().routes, "qwen3-4b").unwrap();
        assert!(
            text.contains("5 failures within 30s eject a target for 5s to 30s, if they are at least half of its attempts, or in a row"),
            "{text}"
        );
        assert!(text.contains("connect 5s, first_byte 1m (10m buffered), first_token 20s, between_bytes 1m, total none"), "{text}");
        assert!(text.contains("  fireworks  accounts/fireworks/models/qwen3-4b  fallback"));
        // `unsupported: reject` leaves nothing to drop.
        assert_eq!(text.matches("    dropped   none\n").count(), 3, "{text}");
    }

    #[test]
    fn a_pattern_is_told_for_the_model_that_a_client_would_name() {
        assert!(explain(&snapshot().routes, "openai/gpt-4o").unwrap().contains("  openai  gpt-4o  weight 1"));
        assert_eq!(explain(&snapshot().routes, "asistant").unwrap_err(), "there is no route `asistant`; did you mean `assistant`?");
    }

    #[test]
    fn a_models_family_and_the_schemas_it_takes_are_shown() {
        let yaml = r#"
providers: { aws: { kind: bedrock, region: us-east-1, credentials: { access_key_id: a, secret_access_key: b } } }
routes:
  llama: { targets: [ { provider: aws, model: us.meta.llama3-3-70b-instruct-v1:0 } ] }
  claude: { targets: [ { provider: aws, model: us.anthropic.claude-sonnet-4-5-20250929-v1:0 } ] }
"#;
        let snapshot = config::parse(yaml, "conf", &|_: &str| None).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot;
        let llama = explain(&snapshot.routes, "llama").unwrap();
        assert!(llama.contains("family    llama, lacks a forced tool, a JSON schema, cache points\n"), "{llama}");
        assert!(llama.contains("    tools     bedrock tool: all keywords, no union at the top (https://"), "{llama}");
        let claude = explain(&snapshot.routes, "claude").unwrap();
        assert!(claude.contains("family    claude, lacks nothing\n    returns   thinking, in the ids of tool calls\n"), "{claude}");
        assert!(claude.contains("    schemas   claude: 18 keywords (https://"), "{claude}");
    }

    #[test]
    fn what_goes_back_to_a_provider_is_shown() {
        let yaml = r#"
providers:
  deepseek: { kind: deepseek, api_key: k }
  gpus: { kind: vllm, base_url: "http://127.0.0.1:1/v1" }
  google: { kind: google_ai_studio, api_key: k }
  openai: { kind: openai, api_key: k }
routes:
  d: { targets: [ { provider: deepseek, model: m } ] }
  v: { targets: [ { provider: gpus, model: m } ] }
  t: { targets: [ { provider: gpus, model: m, think_tags: split } ] }
  g: { targets: [ { provider: google, model: gemini-3-pro } ] }
  o: { targets: [ { provider: openai, model: m } ] }
"#;
        let snapshot = config::parse(yaml, "conf", &|_: &str| None).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot;
        for (route, want) in [
            ("d", "    returns   reasoning, in the ids of tool calls\n    reasoning of earlier turns goes into `reasoning_content`\n"),
            ("v", "    reasoning of earlier turns goes into `reasoning`\n"),
            ("t", "    reasoning of earlier turns goes into `content`\n"),
            ("g", "    returns   thought signatures, in the ids of tool calls\n"),
            ("o", "    reasoning of earlier turns is left out\n    requests of the Responses API pass as they are\n"),
            ("d", "    requests of the Responses API are translated\n"),
        ] {
            let text = explain(&snapshot.routes, route).unwrap();
            assert!(text.contains(want), "{text}");
        }
    }
}
