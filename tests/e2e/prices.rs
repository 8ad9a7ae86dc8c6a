//! What requests cost by the price catalogue, whole and streamed, and `tidegate report` on the log that the gateway writes.

use crate::harness::chat;
use crate::harness::dir::Dir;
use crate::harness::gateway::{BINARY, Gateway, Setup};
use crate::harness::scripted::{Scripted, answer};
use crate::harness::{streamed, until};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// 1.7 millidollars at claude-sonnet-5-5: 100 x 2 + 200 x 2.5 + 100 x 4 + 1000 x 0.1 + 50 x 10; without the cache 1.9 more.
const CLAUDE: &str = r#""input_tokens":100,"cache_creation_input_tokens":300,"cache_read_input_tokens":1000,"cache_creation":{"ephemeral_5m_input_tokens":200,"ephemeral_1h_input_tokens":100}"#;
/// At gpt-5.4 beyond 272,000 tokens: 100,000 x 5 + 200,000 x 0.5 + 100 x 22.5; without the cache 900,000 more.
const GPT: &str =
    r#"{"prompt_tokens":300000,"completion_tokens":100,"total_tokens":300100,"prompt_tokens_details":{"cached_tokens":200000}}"#;

/// Answers of both protocols, whole or streamed as it is asked for.
async fn provider() -> Scripted {
    Scripted::start(|body| {
        let body: Value = serde_json::from_slice(body).unwrap();
        let stream = body["stream"] == true;
        let event = |name: &str, data: &str| format!("event: {name}\ndata: {data}\n\n");
        if body["model"].as_str().unwrap().starts_with("claude") {
            let message = |content: &str, end: &str, output: u64| {
                format!(
                    r#"{{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{content}],"stop_reason":{end},"stop_sequence":null,"usage":{{{CLAUDE},"output_tokens":{output}}}}}"#
                )
            };
            if !stream {
                return answer(200, "application/json", &message(r#"{"type":"text","text":"Hello"}"#, "\"end_turn\"", 50));
            }
            let start = format!(r#"{{"type":"message_start","message":{}}}"#, message("", "null", 1));
            let events = [
                event("message_start", &start),
                event("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#),
                event("content_block_delta", r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#),
                event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
                event(
                    "message_delta",
                    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":50}}"#,
                ),
                event("message_stop", r#"{"type":"message_stop"}"#),
            ];
            return answer(200, "text/event-stream", &events.concat());
        }
        if !stream {
            let whole = format!(
                r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hello"}},"finish_reason":"stop"}}],"usage":{GPT}}}"#
            );
            return answer(200, "application/json", &whole);
        }
        let chunk = |choices: &str, usage: &str| {
            format!(
                "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{choices}],\"usage\":{usage}}}\n\n"
            )
        };
        let events = [
            chunk(r#"{"index":0,"delta":{"role":"assistant","content":"Hello"},"finish_reason":null}"#, "null"),
            chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#, "null"),
            chunk("", GPT),
            "data: [DONE]\n\n".to_owned(),
        ];
        answer(200, "text/event-stream", &events.concat())
    })
    .await
}

fn config(provider: &Scripted) -> String {
    let base = provider.address();
    format!(
        "auth: none\nprice: catalogue\nproviders:\n  claude: {{ kind: anthropic, api_key: k, base_url: \"http://{base}\" }}\n  \
         gpt: {{ kind: openai, api_key: k, base_url: \"http://{base}/v1\" }}\nroutes:\n  \
         sonnet: {{ targets: [ {{ provider: claude, model: claude-sonnet-5-5, price: catalogue }} ], limits: [ {{ usd: 0.005, per: 30d }} ] }}\n  \
         own: {{ targets: [ {{ provider: claude, model: claude-sonnet-5-5, price: {{ catalogue: \"*\", output: 20 }} }} ] }}\n  \
         \"openai/*\": {{ targets: [ {{ provider: gpt, model: \"*\" }} ], limits: [ {{ usd: 100, per: 30d }} ] }}\n  \
         \"mine/*\": {{ targets: [ {{ provider: gpt, model: \"*\", price: {{ catalogue: \"*\", unlisted: {{ input: 1, output: 1 }} }} }} ] }}\n"
    )
}

/// What is used of a route's limit on money, in USD.
async fn used(gateway: &Gateway, route: &str) -> f64 {
    let limits = gateway.page("/limits").await.json();
    let limit = limits["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == route).unwrap();
    limit["used"].as_f64().unwrap()
}

async fn has_used(gateway: &Gateway, route: &str, usd: f64) {
    until(&format!("{usd} of {route}"), async || ((used(gateway, route).await - usd).abs() < 1e-9).then_some(())).await;
}

fn report(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(BINARY)
        .arg("report")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_price_of_the_catalogue_is_debited_and_reported() {
    let provider = provider().await;
    let setup = Setup::new(&config(&provider));
    let log = setup.dir.join("access.log");
    let gateway = setup.stdout(File::create(&log).unwrap()).start().await;
    let ask = async |body: &Value| gateway.chat(body).await.status();

    assert_eq!(ask(&chat("sonnet")).await, 200);
    has_used(&gateway, "sonnet", 0.0017).await;
    assert_eq!(ask(&streamed("sonnet")).await, 200);
    has_used(&gateway, "sonnet", 0.0034).await;
    assert_eq!(ask(&streamed("sonnet")).await, 200);
    has_used(&gateway, "sonnet", 0.0051).await;
    assert_eq!((ask(&chat("sonnet")).await, ask(&streamed("sonnet")).await), (402, 402), "5 millidollars are spent");
    assert_eq!(ask(&chat("own")).await, 200);

    for body in [chat("openai/gpt-5.4"), streamed("openai/gpt-5.4-2026-03-05")] {
        assert_eq!(ask(&body).await, 200);
    }
    has_used(&gateway, "openai/*", 2.0 * 0.60225).await;
    assert_eq!(ask(&chat("openai/gpt-nobody-knows")).await, 200);
    let lines = || std::fs::read_to_string(&log).unwrap();
    let warning = "the price catalogue has no model `gpt-nobody-knows` of provider `gpt`: it costs nothing";
    until("a warning", async || lines().contains(warning).then_some(())).await;
    has_used(&gateway, "openai/*", 2.0 * 0.60225).await;

    assert_eq!(ask(&chat("mine/gpt-nobody-knows")).await, 200);
    until("all lines", async || (lines().matches("\"log\":\"access\"").count() == 10).then_some(())).await;
    let file = log.display().to_string();
    let output = report(&["--by", "route", "--format", "json", &file], b"");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let group = |route: &str| value["groups"].as_array().unwrap().iter().find(|group| group["route"] == route).unwrap().clone();
    let figures = |group: &Value| {
        let names = ["requests", "errors", "tokens_in", "tokens_cached", "tokens_out", "cost_usd", "cache_savings_usd"];
        names.map(|name| group[name].as_f64().unwrap())
    };
    assert_eq!(figures(&group("sonnet")), [5.0, 2.0, 3.0 * 1400.0, 3000.0, 150.0, 0.0051, 0.0057]);
    assert_eq!(figures(&group("own")), [1.0, 0.0, 1400.0, 1000.0, 50.0, 0.0022, 0.0019]);
    assert_eq!(figures(&group("openai/*")), [3.0, 0.0, 900_000.0, 600_000.0, 300.0, 1.2045, 1.8]);
    assert_eq!(figures(&group("mine/*")), [1.0, 0.0, 300_000.0, 200_000.0, 100.0, 0.3001, 0.0]);
    assert_eq!(value["groups"][0]["route"], "openai/*", "what costs most is first");
    assert_eq!(figures(&value["total"])[0], 10.0);
    let (table, models) = (report(&["--by", "model", &file], b""), report(&["--by", "model", "--format", "csv", &file], b""));
    assert!(printed(&table).contains("gpt-5.4-2026-03-05") && printed(&table).contains("\ntotal"), "{}", printed(&table));
    assert!(printed(&models).contains("\ngpt-nobody-knows,2,0,0,600000,400000,200,0,0.3001,0,"), "{}", printed(&models));
    assert!(String::from_utf8_lossy(&table.stderr).contains("within 1 %"));
}

#[test]
fn logs_come_from_files_compressed_or_not_and_from_stdin() {
    let dir = Dir::new();
    let line = |time: &str, team: &str, usd: f64| {
        json!({ "time": time, "log": "access", "team": team, "status": 200, "cost_usd": usd, "duration_ms": 5, "ended_by": "complete" })
            .to_string()
            + "\n"
    };
    let first = line("2026-11-01T23:30:00.000Z", "a", 1.5) + "{\"time\":\"2026-11-01T23:31:00Z\",\"level\":\"info\"}\n";
    let second = line("2026-11-02T00:30:00.000Z", "b", 2.25) + &line("2026-11-02T01:00:00.000Z", "a", 0.25)[..40];
    let plain = dir.write("one.log", &first).display().to_string();
    let packed = dir.join("two.log.gz");
    let mut encoder = GzEncoder::new(File::create(&packed).unwrap(), Compression::default());
    encoder.write_all(second.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let packed = packed.display().to_string();
    let csv = |arguments: &[&str], input: &[u8]| {
        let output = report(&[&["--by", "team,day", "--format", "csv"], arguments].concat(), input);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let rows: Vec<String> =
            printed(&output).lines().skip(1).map(|line| line.split(",0,0,0,0,0,0,").next().unwrap().to_owned()).collect();
        (
            rows.iter().map(|row| row.rsplit_once(',').map_or(row.clone(), |(start, _)| start.to_owned())).collect::<Vec<_>>(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let both = ["b,2026-11-02", "a,2026-11-01"];
    let names = |rows: &[String]| rows.iter().map(|row| row.split(',').take(2).collect::<Vec<_>>().join(",")).collect::<Vec<_>>();
    let (rows, said) = csv(&[&plain, &packed], b"");
    assert_eq!(names(&rows), both);
    assert!(said.contains("2 lines are not requests"), "{said}");
    let packed_bytes = std::fs::read(&packed).unwrap();
    for (arguments, input) in [(&["-", &plain][..], &packed_bytes[..]), (&[&packed, "-"], first.as_bytes())] {
        assert_eq!(names(&csv(arguments, input).0), both);
    }
    assert_eq!(names(&csv(&[], (first.clone() + &second).as_bytes()).0), both, "stdin alone");
    // Bounds, in UTC and with offsets.
    let within = |arguments: &[&str]| names(&csv(&[arguments, &[&plain, &packed]].concat(), b"").0);
    assert_eq!(within(&["--from", "2026-11-02"]), ["b,2026-11-02"]);
    assert_eq!(within(&["--to", "2026-11-02"]), ["a,2026-11-01"]);
    assert_eq!(within(&["--from", "2026-11-02T00:00:00+01:00"]), both);
    assert_eq!(within(&["--from", "2026-11-01T23:30:00", "--to", "2026-11-02T01:30:00+01:00"]), ["a,2026-11-01"]);
    let none: &[&str] = &[];
    assert_eq!(within(&["--from", "1h"]), none);
    let (_, said) = csv(&["-"], &packed_bytes[..packed_bytes.len() - 12]);
    assert!(said.contains("- is cut off"), "{said}");
}

#[test]
fn a_wrong_argument_is_named() {
    let missing = "/nowhere/access.log";
    for (arguments, said) in [
        (&["--by", "colour"][..], &["--by", "colour", "team", "hour"][..]),
        (&["--format", "xml"], &["--format", "xml", "csv"]),
        (&["--from", "yesterday"], &["--from", "yesterday", "a day like 2026-11-01"]),
        (&["--to", "2026-11-31"], &["--to", "2026-11-31"]),
        (&["--from", "2026-11-02", "--to", "2026-11-02"], &["--to", "is not after --from"]),
        (&[missing], &["FILES", missing]),
        (&["/"], &["FILES", "cannot read /"]),
    ] {
        let output = report(arguments, b"");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(said.iter().all(|part| text.contains(part)) && !text.contains("panicked"), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty());
    }
    let prices = |arguments: &[&str]| Command::new(BINARY).arg("prices").args(arguments).output().unwrap();
    let output = prices(&["--kind", "antropic"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `anthropic`?"));
    let output = prices(&["--kind", "anthropic"]);
    let text = printed(&output);
    assert!(text.contains("anthropic/claude-sonnet-5-5  { input: 2, output: 10, cached_input: 0.1, cache_write: 2.5, cache_write_1h: 4 }  2026-11-20  https://"), "{text}");
    assert!(text.lines().all(|line| line.starts_with("anthropic/")));
}

/// The README shows a report of the log in `tests/fixtures/report`.
#[test]
fn the_report_of_the_readme_is_the_one_that_is_printed() {
    let block = include_str!("../../README.md").split("\n$ tidegate report ").nth(1).unwrap();
    let (command, rest) = block.split_once('\n').unwrap();
    let shown = rest.split("\n```").next().unwrap();
    let log = include_bytes!("../fixtures/report/access.log");
    let arguments: Vec<_> = command.split_whitespace().filter(|part| *part != "access.log.gz").collect();
    let output = report(&arguments, log);
    assert_eq!((output.status.code(), printed(&output).trim_end()), (Some(0), shown.trim_end()), "{output:?}");
}
