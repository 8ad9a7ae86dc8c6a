//! One JSON document in each message of an AWS event stream: Bedrock's InvokeModelWithResponseStream has an event of the
//! model's own protocol in every `chunk`, in base64. Everything else in the stream (exceptions) is handed out as it is.
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_PayloadPart.html>

use super::aws_event_stream::{AwsFramer, Take};
use crate::frame::Frame;
use crate::llm::failure::Fault;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::borrow::Cow;

/// Cuts such a body into frames. One for each stream.
#[derive(Debug, Default)]
pub struct AwsInvokeFramer(AwsFramer);

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    bytes: Cow<'a, str>,
}

impl AwsInvokeFramer {
    /// Takes the next bytes of the body and emits every frame that they complete; a document is an event without a type.
    ///
    /// # Errors
    /// [`Fault::Broken`] for a chunk that cannot be read; as [`AwsFramer::push`].
    pub fn push(&mut self, bytes: &[u8], each: Take<'_>) -> Result<(), Fault> {
        self.0.push(bytes, &mut |frame| match frame {
            Frame::Aws { message_type: "event", kind: "chunk", payload, .. } => {
                let broken = || Fault::Broken("a chunk of the event stream cannot be read".into());
                let chunk: Chunk<'_> = serde_json::from_slice(payload).map_err(|_| broken())?;
                let document = STANDARD.decode(chunk.bytes.as_bytes()).map_err(|_| broken())?;
                each(Frame::Sse { event: None, data: std::str::from_utf8(&document).map_err(|_| broken())? })
            }
            other => each(other),
        })
    }

    /// The body has ended.
    ///
    /// # Errors
    /// [`Fault::Truncated`] inside of a message.
    pub fn finish(&mut self) -> Result<(), Fault> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::aws_event_stream::write_message;

    #[test]
    fn documents_are_found_wherever_the_bytes_are_cut() {
        let documents = [r#"{"type":"a","text":"Zürich 🏔"}"#, r#"{"type":"b"}"#];
        let mut body = Vec::new();
        for document in documents {
            let payload = format!("{{\"bytes\":\"{}\",\"p\":\"abc\"}}", STANDARD.encode(document));
            write_message(&mut body, &[(":event-type", "chunk"), (":message-type", "event")], payload.as_bytes());
        }
        write_message(&mut body, &[(":exception-type", "throttlingException"), (":message-type", "exception")], b"{}");
        for size in 1..body.len() {
            let (mut framer, mut found) = (AwsInvokeFramer::default(), Vec::new());
            for piece in body.chunks(size) {
                framer
                    .push(piece, &mut |frame| {
                        found.push(match frame {
                            Frame::Sse { event: None, data } => data.to_owned(),
                            other => format!("{other:?}"),
                        });
                        Ok(())
                    })
                    .unwrap();
            }
            framer.finish().unwrap();
            assert_eq!(found.first().map(String::as_str), Some(documents[0]), "{size}");
            assert!(found.len() == 3 && found.iter().any(|frame| frame.contains("throttlingException")), "{size}: {found:?}");
        }
    }

    #[test]
    fn a_chunk_that_is_no_base64_is_broken() {
        for payload in ["{\"bytes\":\"%\"}", "{}", "x", "{\"bytes\":\"/w==\"}"] {
            let mut body = Vec::new();
            write_message(&mut body, &[(":event-type", "chunk"), (":message-type", "event")], payload.as_bytes());
            assert!(AwsInvokeFramer::default().push(&body, &mut |_| Ok(())).is_err(), "{payload}");
        }
    }
}
