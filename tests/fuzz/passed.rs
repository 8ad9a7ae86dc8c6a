//! The endpoints whose requests and answers pass: forms, JSON bodies, answers of every form.

use crate::engine::fuzz;
use crate::mutate::Mutator;
use crate::requests::{encoders, refusal};
use crate::{corpus, laws};
use fastrand::Rng;
use serde_json::json;
use tidegate::front::passed;
use tidegate::llm::endpoint::Endpoint;
use tidegate::llm::failure::Fault;
use tidegate::llm::field::Field;
use tidegate::operation::Operation;
use tidegate::relay::passed::{Content, Passed};

const BOUNDARY: &str = "b7x";

/// What is put into forms, beside what the mutator does.
const PIECES: [&str; 20] = [
    "--b7x",
    "\r\n--b7x",
    "\n--b7x\r\n",
    "\r--b7x--",
    "\r\n--b7x--\r\n",
    "\r\n--b7x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx",
    "\r\n--b7x\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n",
    "Content-Disposition: form-data; name=\"model\"\r\n",
    "; name=\"model\"",
    "; filename=\"a\\\"b\"",
    "; filename=\"",
    "\\\"",
    "name*=utf-8''model",
    "Content-Transfer-Encoding: base64\r\n",
    "\r\n\r\n",
    "\r\n ",
    "\u{0}",
    "-",
    "model",
    "r",
];

fn forms() -> Vec<Vec<u8>> {
    let part = |head: &str, content: &str| format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n");
    let (model, end) = (part("name=\"model\"", "r"), format!("--{BOUNDARY}--\r\n"));
    let file = part("name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav", "RIFF\r\n--b7\r\n\u{0}\u{7f}--b7x\r\n-");
    let more = part("name=stream", "true") + &part("name=\"prompt\"", "p \u{fc}") + &part("name=\"n\"", "2");
    [
        model.clone() + &file + &end,
        file.clone() + &model + &end,
        more.clone() + &model + &file + &end,
        model.clone() + &end,
        file + &more + &end,
    ]
    .map(String::into_bytes)
    .into()
}

/// The contents of the parts that a lenient reader would take for the model: any line break before a boundary, any way to write
/// the name.
fn lenient_models(body: &[u8]) -> Vec<Vec<u8>> {
    let text: String = body.iter().map(|byte| char::from(*byte)).collect();
    let text = format!("\n{text}").replace("\r\n", "\n").replace('\r', "\n");
    let boundary = format!("\n--{BOUNDARY}");
    let parts = text.split(&boundary).skip(1).map(|part| part.strip_prefix('\n').unwrap_or(part));
    let model = |part: &str| {
        let (head, content) = part.split_once("\n\n")?;
        let named = head.lines().any(|line| {
            let line = line.to_ascii_lowercase();
            line.starts_with("content-disposition:")
                && [" name=\"model\"", ";name=\"model\"", " name=model", ";name=model"]
                    .iter()
                    .any(|way| line.match_indices(way).any(|(at, _)| line[..at].matches('"').count() % 2 == 0))
        });
        named.then(|| content.chars().map(|c| c as u8).collect())
    };
    parts.filter_map(model).collect()
}

#[test]
fn of_a_form_no_byte_but_the_models_changes_and_no_reader_finds_another() {
    fuzz("passed/form", &forms(), Mutator::Bytes, 20_000, |input, rng: &mut Rng| {
        let mut input = input.to_vec();
        for _ in 0..rng.usize(..4) {
            let piece = PIECES[rng.usize(..PIECES.len())].as_bytes().to_vec();
            let at = rng.usize(..=input.len());
            input.splice(at..at, piece);
        }
        let (parsed, form) = match passed::form(input.clone().into(), BOUNDARY.into()) {
            Err(error) => return refusal(&error),
            Ok(read) => read,
        };
        laws::is_object(parsed.body());
        let model = parsed.text(Field::Model).unwrap();
        let other = "other/model";
        let out = form.with_model(other).unwrap().joined();
        let is_splice = |at: usize| {
            let (before, after) = input.split_at(at);
            let rest = after.strip_prefix(model.as_bytes()).map(|rest| [before, other.as_bytes(), rest].concat());
            rest.is_some_and(|whole| whole == out)
        };
        assert!((0..=input.len()).any(is_splice), "another byte changed");
        let lenient = lenient_models(&out);
        assert_eq!(lenient.iter().map(|text| String::from_utf8_lossy(text)).collect::<Vec<_>>(), [other], "readers differ");
        let (again, form) = passed::form(out, BOUNDARY.into()).unwrap();
        assert_eq!(again.text(Field::Model).unwrap(), other);
        match form.with_model(&model) {
            Ok(back) => assert_eq!(back.joined(), input),
            Err(_) => assert!(model.contains("--b7x"), "{model}"),
        }
    });
}

#[test]
fn json_requests_to_every_provider() {
    let bodies: Vec<Vec<u8>> = [
        json!({"model": "r", "prompt": "x", "max_tokens": 5, "n": 2, "stream": true, "temperature": null, "zz": [1.0]}),
        json!({"model": "r", "input": ["a", "b"], "voice": "v", "stream_format": "sse", "episode_id": "x"}),
        json!({"query": "q", "documents": ["a", {"text": "b"}], "model": "r"}),
    ]
    .iter()
    .map(|body| body.to_string().into_bytes())
    .collect();
    for endpoint in Endpoint::ALL {
        encoders(&format!("encode/{}", endpoint.name()), Operation::Passed(*endpoint), &bodies, 800);
    }
}

/// What comes out of an answer that is cut into pieces.
fn passed(endpoint: Endpoint, content: Content, pieces: &[&[u8]]) -> (Vec<u8>, Result<(), Fault>) {
    let (mut answer, mut out) = (Passed::new(endpoint, content), Vec::new());
    for piece in pieces {
        let (more, result) = answer.push(piece);
        out.extend(more);
        if result.is_err() {
            return (out, result);
        }
    }
    let (more, result) = answer.end();
    out.extend(more);
    (out, result)
}

#[test]
fn answers_pass_wherever_they_are_cut() {
    let wholes = [corpus::wholes("openai"), vec![br#"{"data":[{},1],"usage":{"input_tokens":1},"duration":"2.5"}"#.to_vec()]].concat();
    for (name, content, corpus, mutator) in [
        ("passed/json", Content::Json, wholes.clone(), Mutator::Json),
        ("passed/bytes", Content::Bytes, wholes, Mutator::Bytes),
        ("passed/events", Content::Events, corpus::streams("openai"), Mutator::Sse),
    ] {
        fuzz(name, &corpus, mutator, 6_000, |input, rng| {
            let endpoint = Endpoint::ALL[rng.usize(..Endpoint::ALL.len())];
            let (out, result) = passed(endpoint, content, &[input]);
            let size = rng.usize(1..=input.len().max(1));
            let cut: Vec<&[u8]> = input.chunks(size).collect();
            assert_eq!(passed(endpoint, content, &cut), (out.clone(), result.clone()));
            match content {
                Content::Bytes => assert_eq!((out.as_slice(), result), (input, Ok(()))),
                Content::Json if result.is_ok() => assert_eq!(out, input),
                Content::Json => assert!(out.is_empty()),
                Content::Events => assert!(out.is_empty() || out.ends_with(b"\n\n"), "half an event"),
            }
        });
    }
}
