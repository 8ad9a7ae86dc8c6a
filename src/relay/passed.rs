//! An answer of an endpoint whose requests pass ([`Endpoint`]): its bytes as they are, and what it says of its usage.
//!
//! | the answer is | the client gets | metered |
//! | --- | --- | --- |
//! | JSON of at most [`MAX_WHOLE_ANSWER`] | all of it at once, so that another target can answer until then | yes |
//! | server-sent events | each event when it is whole | yes |
//! | anything else: audio, text, larger JSON | the bytes as they come | no |

use super::MAX_WHOLE_ANSWER;
use crate::account::ReportedUnits;
use crate::dialect::openai;
use crate::frame::sse::SseFramer;
use crate::front::native::write_event;
use crate::json::walk::{self, Cursor};
use crate::llm::endpoint::Endpoint;
use crate::llm::failure::Fault;
use crate::llm::usage::Usage;

/// What an answer is, by its `content-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// JSON.
    Json,
    /// Server-sent events.
    Events,
    /// Anything else.
    Bytes,
}

impl Content {
    /// By the value of the header.
    pub fn of(content_type: &[u8]) -> Self {
        let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        match () {
            () if kind.eq_ignore_ascii_case(b"application/json") => Self::Json,
            () if kind.eq_ignore_ascii_case(b"text/event-stream") => Self::Events,
            () => Self::Bytes,
        }
    }
}

/// One answer. Thrown away with its attempt.
pub struct Passed {
    endpoint: Endpoint,
    input: Input,
    report: Report,
    /// Whether the client gets something of it.
    started: bool,
    over: bool,
}

enum Input {
    /// What has come of JSON.
    Json(Vec<u8>),
    Events(SseFramer),
    Bytes,
}

/// What has been read.
#[derive(Default)]
struct Report {
    usage: Option<Usage>,
    units: ReportedUnits,
    /// Whether a stream may end here.
    complete: bool,
    /// Whether nothing comes behind it.
    done: bool,
}

impl Passed {
    /// An answer of which nothing has been read.
    pub fn new(endpoint: Endpoint, content: Content) -> Self {
        let input = match content {
            Content::Events => Input::Events(SseFramer::new()),
            Content::Json => Input::Json(Vec::new()),
            Content::Bytes => Input::Bytes,
        };
        Self { endpoint, input, report: Report::default(), started: false, over: false }
    }

    /// Takes bytes of the provider's body, returns bytes for the client.
    ///
    /// # Errors
    /// A [`Fault`], beside what was written before it.
    pub fn push(&mut self, bytes: &[u8]) -> (Vec<u8>, Result<(), Fault>) {
        if self.over || bytes.is_empty() {
            return (Vec::new(), Ok(()));
        }
        match &mut self.input {
            Input::Json(body) if body.len() + bytes.len() <= MAX_WHOLE_ANSWER => {
                body.extend_from_slice(bytes);
                (Vec::new(), Ok(()))
            }
            Input::Json(body) => {
                let mut out = std::mem::take(body);
                out.extend_from_slice(bytes);
                (self.input, self.started) = (Input::Bytes, true);
                (out, Ok(()))
            }
            Input::Bytes => {
                self.started = true;
                (bytes.to_vec(), Ok(()))
            }
            Input::Events(framer) => {
                let (report, mut out) = (&mut self.report, Vec::new());
                let result = framer.push(bytes, &mut |name, data| report.event(name, data, &mut out));
                self.started |= !out.is_empty();
                self.over = report.done;
                (out, result)
            }
        }
    }

    /// The provider's body has ended; returns the last bytes for the client.
    ///
    /// # Errors
    /// A [`Fault`] where the answer is not complete.
    pub fn end(&mut self) -> (Vec<u8>, Result<(), Fault>) {
        if std::mem::replace(&mut self.over, true) {
            return (Vec::new(), Ok(()));
        }
        match &mut self.input {
            Input::Bytes => (Vec::new(), Ok(())),
            Input::Json(body) => {
                let result = self.report.whole(body);
                self.started = result.is_ok();
                (if self.started { std::mem::take(body) } else { Vec::new() }, result)
            }
            Input::Events(framer) => {
                let (report, mut out) = (&mut self.report, Vec::new());
                let result = framer.finish(&mut |name, data| report.event(name, data, &mut out));
                self.started |= !out.is_empty();
                let complete = report.complete;
                (out, if complete { result } else { result.and(Err(Fault::Truncated)) })
            }
        }
    }

    /// Whether the client gets something of it.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Whether nothing more comes.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether an error event can end it where it breaks off.
    pub fn is_stream(&self) -> bool {
        matches!(self.input, Input::Events(_))
    }

    /// The tokens that it counts.
    pub fn usage(&self) -> Option<Usage> {
        let usage = self.report.usage?;
        // All that a reranker uses is input, wherever it is counted.
        Some(if self.endpoint == Endpoint::Rerank { Usage { prompt: usage.total(), completion: 0, ..usage } } else { usage })
    }

    /// The units that it reports.
    pub fn units(&self) -> ReportedUnits {
        self.report.units
    }
}

impl Report {
    /// Reads an event and passes it.
    fn event(&mut self, name: Option<&str>, data: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.done || data.is_empty() {
            return Ok(());
        }
        self.done = data == "[DONE]";
        self.complete = self.done;
        if !self.done {
            let (mut kind, mut is_error) = (None, name == Some("error"));
            self.members(data, &mut |key, value| match key {
                "type" => kind = walk::string(value).map(|text| text.decode().into_owned()),
                "error" => is_error |= value != "null",
                _ => {}
            })?;
            if is_error || kind.as_deref() == Some("error") {
                return Err(Fault::Provider(openai::error::in_band(data)));
            }
            // `image_generation.completed`, `image_edit.completed`, `transcript.text.done`, `speech.audio.done`: each ends its
            // stream, or its image's part of it. <https://platform.openai.com/docs/api-reference/images-streaming>, audio
            let kind = kind.as_deref().unwrap_or_default();
            let is_image = kind.starts_with("image_") && kind.ends_with(".completed");
            if is_image {
                *self.units.images.get_or_insert_default() += 1;
            }
            self.complete = is_image || kind.ends_with(".done");
        }
        write_event(out, name.unwrap_or_default(), data);
        Ok(())
    }

    /// Reads a whole answer.
    fn whole(&mut self, body: &[u8]) -> Result<(), Fault> {
        let text = simdutf8::basic::from_utf8(body).map_err(|_| Fault::Broken("the answer is not UTF-8".into()))?;
        let text = text.trim_start_matches('\u{feff}');
        let mut is_error = false;
        self.members(text, &mut |key, value| is_error |= key == "error" && value != "null")?;
        if is_error { Err(Fault::Provider(openai::error::in_band(text))) } else { Ok(()) }
    }

    /// Reads the members of an object. JSON of any other kind says nothing.
    fn members(&mut self, json: &str, each: &mut dyn FnMut(&str, &str)) -> Result<(), Fault> {
        let broken = |_| Fault::Broken("the answer is not JSON".into());
        let mut cursor = Cursor::new(json);
        if !cursor.at_object() {
            cursor.raw().map_err(broken)?;
            return cursor.finish().map_err(broken);
        }
        cursor
            .object(|cursor, key| {
                if key == "data" && cursor.at_array() {
                    let mut count = 0;
                    cursor.array(|cursor| {
                        count += 1;
                        cursor.raw().map(drop)
                    })?;
                    self.units.images = Some(count);
                    return Ok(());
                }
                let value = cursor.raw()?;
                match key {
                    "usage" if value.starts_with('{') => self.usage(value)?,
                    // Of `verbose_json`.
                    "duration" => self.units.milliseconds = self.units.milliseconds.or(milliseconds(value)),
                    key => each(key, value),
                }
                Ok(())
            })
            .map_err(broken)?;
        cursor.finish().map_err(broken)
    }

    fn usage(&mut self, value: &str) -> Result<(), crate::json::envelope::ScanError> {
        let later = openai::read_usage(value)?;
        self.usage = match (self.usage, later) {
            (Some(usage), Some(later)) => Some(usage.and_later(later)),
            (usage, later) => later.or(usage),
        };
        // OpenAI's `{"type":"duration","seconds":…}` of transcriptions by the minute; Mistral's beside its tokens.
        Cursor::new(value).object(|cursor, key| {
            let value = cursor.raw()?;
            if matches!(key, "seconds" | "prompt_audio_seconds") {
                self.units.milliseconds = milliseconds(value).or(self.units.milliseconds);
            }
            Ok(())
        })
    }
}

/// A number of seconds; some servers write it as a string.
fn milliseconds(value: &str) -> Option<u64> {
    let seconds = value.trim_matches('"').parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
    Some((seconds * 1000.0).round() as u64) // saturates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::failure::FailureClass;

    /// What the client gets, wherever the body is cut.
    fn passed(endpoint: Endpoint, content: Content, body: &[u8]) -> (Vec<u8>, Result<(), Fault>, Passed) {
        let mut results = (1..=body.len().clamp(1, 40)).map(|size| {
            let mut answer = Passed::new(endpoint, content);
            let mut out = Vec::new();
            for piece in body.chunks(size) {
                let (more, result) = answer.push(piece);
                out.extend(more);
                if result.is_err() {
                    return (out, result, answer);
                }
            }
            let (more, result) = answer.end();
            out.extend(more);
            (out, result, answer)
        });
        let first = results.next().unwrap();
        for (out, result, answer) in results {
            assert_eq!((&out, &result, answer.usage(), answer.units()), (&first.0, &first.1, first.2.usage(), first.2.units()));
        }
        first
    }

    #[test]
    fn json_passes_whole_and_says_what_it_used() {
        let usage = |prompt, completion| Some(Usage { prompt, completion, ..Usage::default() });
        let units = |images, milliseconds| ReportedUnits { images, milliseconds };
        for (endpoint, body, want) in [
            (
                Endpoint::Completions,
                r#" {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
                (usage(3, 2), units(None, None)),
            ),
            (
                Endpoint::ImagesGenerations,
                r#"{"created":1,"data":[{"b64_json":"]"},{}],"usage":{"input_tokens":5,"output_tokens":7,"total_tokens":12}}"#,
                (usage(5, 7), units(Some(2), None)),
            ),
            (Endpoint::AudioTranscriptions, r#"{"text":"x","usage":{"type":"duration","seconds":9}}"#, (None, units(None, Some(9000)))),
            (Endpoint::AudioTranscriptions, r#"{"text":"x","duration":2.5,"usage":null}"#, (None, units(None, Some(2500)))),
            (
                Endpoint::AudioTranscriptions,
                r#"{"text":"x","usage":{"prompt_audio_seconds":4,"prompt_tokens":4,"total_tokens":9,"completion_tokens":5}}"#,
                (usage(4, 5), units(None, Some(4000))),
            ),
            (Endpoint::Rerank, r#"{"results":[],"usage":{"total_tokens":56}}"#, (usage(56, 0), units(None, None))),
            (Endpoint::Moderations, r#"{"results":[],"error":null}"#, (None, units(None, None))),
            (Endpoint::Rerank, "[1]", (None, units(None, None))),
        ] {
            let (out, result, answer) = passed(endpoint, Content::Json, body.as_bytes());
            assert_eq!((String::from_utf8(out).unwrap().as_str(), result), (body, Ok(())));
            assert_eq!((answer.usage(), answer.units()), want, "{body}");
        }
    }

    #[test]
    fn what_is_no_answer_is_a_fault_of_which_the_client_sees_nothing() {
        for body in ["", "{\"data\":[", "<html>", "{} {}"] {
            let (out, result, answer) = passed(Endpoint::Completions, Content::Json, body.as_bytes());
            assert!(out.is_empty() && matches!(result, Err(Fault::Broken(_))) && !answer.started(), "{body}");
        }
        let refused = br#"{"error":{"message":"overloaded","code":503}}"#;
        let (out, Err(Fault::Provider(error)), _) = passed(Endpoint::Rerank, Content::Json, refused) else { panic!() };
        assert_eq!((out.len(), error.class, error.message.as_str()), (0, FailureClass::Overloaded, "overloaded"));
    }

    #[test]
    fn json_that_is_too_large_to_keep_passes_unmetered() {
        let mut answer = Passed::new(Endpoint::ImagesGenerations, Content::Json);
        let half = vec![b' '; MAX_WHOLE_ANSWER / 2 + 1];
        assert_eq!((answer.push(&half).0.len(), answer.started()), (0, false));
        assert_eq!((answer.push(&half).0.len(), answer.started()), (2 * half.len(), true));
        assert_eq!((answer.push(b"]").0, answer.end(), answer.usage()), (b"]".to_vec(), (Vec::new(), Ok(())), None));
        assert!(!answer.is_stream());
    }

    #[test]
    fn bytes_pass_as_they_are() {
        let body: Vec<u8> = (0..=255).collect();
        let (out, result, answer) = passed(Endpoint::AudioSpeech, Content::Bytes, &body);
        assert_eq!((out, result, answer.usage()), (body, Ok(()), None));
    }

    #[test]
    fn events_pass_whole_and_end_as_their_protocol_does() {
        let completions =
            "data: {\"choices\":[]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
        let (out, result, answer) = passed(Endpoint::Completions, Content::Events, completions.as_bytes());
        assert_eq!((String::from_utf8(out).unwrap().as_str(), result), (completions, Ok(())));
        assert_eq!(answer.usage(), Some(Usage { prompt: 1, completion: 2, ..Usage::default() }));
        let image =
            |index| format!("event: image_generation.completed\ndata: {{\"type\":\"image_generation.completed\",\"i\":{index}}}\n\n");
        let partial = "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\"}\n\n".to_owned();
        let images = partial.clone() + &image(0) + &partial + &image(1);
        let (out, result, answer) = passed(Endpoint::ImagesGenerations, Content::Events, images.as_bytes());
        assert_eq!((out, result, answer.units().images), (images.clone().into_bytes(), Ok(()), Some(2)));
        for cut in [partial.as_str(), "data: {\"choices\":[]}\n\n", "data: {\"choices\":[]}\n\ndata: {\"cho"] {
            let (out, result, answer) = passed(Endpoint::ImagesGenerations, Content::Events, cut.as_bytes());
            assert!(result.is_err() && !out.ends_with(b"cho") && answer.is_stream(), "{cut}");
        }
        let (out, result, _) =
            passed(Endpoint::Completions, Content::Events, b"data: {\"a\":1}\n\ndata: {\"error\":{\"message\":\"no\"}}\n\n");
        assert!(out == b"data: {\"a\":1}\n\n" && matches!(result, Err(Fault::Provider(_))));
    }
}
