//! Plays an answer the way its script says: pauses, slices, and what goes wrong.

use super::ask::Ask;
use super::body::Step;
use super::dialect::{Dialect, Refusal};
use super::reply::Reply;
use super::script::{Script, Trouble};
use bytes::Bytes;

/// Pieces in which a whole answer is sent where it must break in the middle, in bytes.
const PIECE: usize = 64;
/// Most slices that `slice=N` makes of a body; the last one carries the rest.
const MAX_SLICES: usize = 1 << 20;

/// An answer that is ready to be sent.
pub(super) struct Scene {
    /// HTTP status.
    pub(super) status: u16,
    /// `content-type`.
    pub(super) content_type: &'static str,
    /// Further headers.
    pub(super) headers: Vec<(&'static str, String)>,
    /// `content-length`, where the body is whole.
    pub(super) length: Option<usize>,
    /// The body.
    pub(super) steps: Vec<Step>,
}

/// An error answer.
pub(super) fn refused(dialect: &dyn Dialect, refusal: &Refusal) -> Scene {
    let body = dialect.refusal(refusal).to_string();
    let headers = dialect.refusal_headers(refusal);
    Scene {
        status: dialect.refusal_status(refusal),
        content_type: "application/json",
        headers,
        length: Some(body.len()),
        steps: vec![Step::Send(body.into())],
    }
}

/// The answer to `ask`; `script` is what is left of its script. Troubles without an answer are the server's.
pub(super) fn answered(dialect: &dyn Dialect, ask: &Ask, reply: &Reply, script: &Script) -> Scene {
    if let Some(Trouble::Status(status)) = script.trouble {
        let refusal = Refusal::status(status, format!("The script of model `{}` asks for status {status}.", ask.name));
        return refused(dialect, &Refusal { retry_after: script.retry_after.clone(), ..refusal });
    }
    if let Some(Trouble::Code(code)) = script.trouble {
        let refusal = Refusal::status(code.status(), code.message());
        return refused(dialect, &Refusal { code: code.name(), retry_after: script.retry_after.clone(), ..refusal });
    }
    let headers: Vec<_> = script.retry_after.iter().map(|after| ("retry-after", after.clone())).collect();
    let broke = Refusal::status(500, "The script of this model's name asks for an error here.");
    if ask.stream {
        let (steps, content_type) = (streamed(dialect, ask, dialect.events(ask, reply), &broke, script), dialect.stream_type());
        return Scene { status: 200, content_type, headers, length: None, steps };
    }
    let body = Bytes::from(match script.trouble {
        Some(Trouble::Junk(junk)) => junk.text().as_bytes().to_vec(),
        Some(Trouble::ErrorAfter(_)) => dialect.failed(ask, &broke),
        _ => dialect.whole(ask, reply),
    });
    let length = body.len();
    let steps = match script.trouble {
        Some(Trouble::Stall) => vec![Step::Silence],
        // JSON may be preceded by white space, which some services send while a request is queued
        Some(Trouble::CommentStall) => vec![Step::Send(Bytes::from_static(b"\n")), Step::Silence],
        Some(Trouble::DieAfterHeaders) => vec![Step::Break],
        Some(Trouble::CutAfter(pieces)) => {
            let mut steps = sliced(body.slice(..length.min(pieces * PIECE).min(length.saturating_sub(1))), PIECE);
            steps.push(Step::Break);
            steps
        }
        _ => sliced(body, script.slice.unwrap_or(length.max(1))),
    };
    // the comment's byte is not part of the length: nothing follows it
    Scene { status: 200, content_type: dialect.whole_type(ask), headers, length: Some(length), steps }
}

fn streamed(dialect: &dyn Dialect, ask: &Ask, events: Vec<Bytes>, broke: &Refusal, script: &Script) -> Vec<Step> {
    let (keep, last) = match &script.trouble {
        Some(Trouble::Stall) => (0, vec![Step::Silence]),
        Some(Trouble::CommentStall) => (0, vec![Step::Send(dialect.idle()), Step::Silence]),
        Some(Trouble::DieAfterHeaders) => (0, vec![Step::Break]),
        Some(Trouble::CutAfter(count)) => (*count, vec![Step::Break]),
        Some(Trouble::ErrorAfter(count)) => {
            let sent = events.len().min(*count);
            (sent, vec![Step::Send(dialect.error_event(ask, sent, broke))])
        }
        Some(Trouble::Junk(junk)) => (0, vec![Step::Send(dialect.junk(junk.text()))]),
        _ => (events.len(), Vec::new()),
    };
    let mut steps = Vec::new();
    let events = events.into_iter().take(keep);
    match script.slice {
        Some(size) => steps = sliced(events.flatten().collect(), size),
        None => {
            let pace = script.pace.filter(|pace| !pace.is_zero());
            for event in events {
                if let Some(pace) = pace.filter(|_| !steps.is_empty()) {
                    steps.push(Step::Wait(pace));
                }
                steps.push(Step::Send(event));
            }
        }
    }
    steps.extend(last);
    steps
}

fn sliced(mut body: Bytes, size: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while body.len() > size && steps.len() < MAX_SLICES {
        steps.push(Step::Send(body.split_to(size)));
    }
    if !body.is_empty() {
        steps.push(Step::Send(body));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_keep_every_byte() {
        let parts = sliced(Bytes::from_static(b"abcdefg"), 3);
        assert_eq!(parts, [b"abc".as_slice(), b"def", b"g"].map(|part| Step::Send(Bytes::from_static(part))));
        assert_eq!(sliced(Bytes::new(), 3), []);
    }
}
