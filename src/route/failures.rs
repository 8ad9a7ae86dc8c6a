//! Selects the error that the client gets when all targets have failed.

use crate::error::ApiError;
use std::cmp::Ordering;

/// Maximum length of [`TargetNotes`], in bytes.
pub const MAX_NOTES: usize = 512;

/// The most useful failure of one request: the one that has ended it, a client error, then a temporary failure, then any other, then a target that does
/// not support the request. Of two of the same rank, the one with the shorter `retry-after`, else the later one; of two client
/// errors, the first one.
#[derive(Debug, Default)]
pub struct Failures(Option<Failed>);

#[derive(Debug)]
struct Failed {
    error: ApiError,
    /// `reason` in the access log.
    reason: &'static str,
    rank: u8,
}

impl Failures {
    /// Adds the failure of a target, or a limit that prevented the attempt. `reason` is for the access log. Returns whether it is
    /// the most useful one so far.
    pub fn add(&mut self, error: ApiError, reason: &'static str) -> bool {
        let rank = rank(error.status);
        self.insert(Failed { error, reason, rank })
    }

    /// Adds a target that does not support the request. The client gets this error only if no target does.
    pub fn add_unfit(&mut self, error: ApiError) {
        self.insert(Failed { error, reason: "", rank: UNFIT });
    }

    /// Adds the failure that ends the request, whatever the others were. Returns true.
    pub fn add_last(&mut self, error: ApiError, reason: &'static str) -> bool {
        self.insert(Failed { error, reason, rank: LAST })
    }

    fn insert(&mut self, new: Failed) -> bool {
        let key = |one: &Failed| (one.rank, one.error.retry_after.is_none(), one.error.retry_after);
        let order = self.0.as_ref().map_or(Ordering::Less, |best| key(&new).cmp(&key(best)));
        let is_best = order == Ordering::Less || order == Ordering::Equal && !matches!(new.rank, REQUEST | UNFIT);
        if is_best {
            self.0 = Some(new);
        }
        is_best
    }

    /// The client's error and the access log's reason, which may be empty.
    pub fn best(&self) -> Option<(&ApiError, &'static str)> {
        self.0.as_ref().map(|best| (&best.error, best.reason))
    }
}

/// Rank of what ended the request.
const LAST: u8 = 0;
/// Rank of client errors.
const REQUEST: u8 = 1;
/// Rank of a target that does not support the request.
const UNFIT: u8 = u8::MAX;

/// Lower is more useful to the client.
const fn rank(status: u16) -> u8 {
    match status {
        400 => REQUEST,
        429 => 2,
        503 => 3,
        504 => 4,
        413 => 5,
        502 => 6,
        404 => 7,
        _ => 8,
    }
}

/// Targets of a request, each with a remark, for the access log: `provider/model (remark), …`.
#[derive(Debug, Default)]
pub struct TargetNotes(String);

impl TargetNotes {
    /// Adds a target, unless [`MAX_NOTES`] would be exceeded.
    pub fn add(&mut self, provider: &str, model: &str, remark: &str) {
        let separator = if self.0.is_empty() { "" } else { ", " };
        let next = format!("{separator}{provider}/{model} ({remark})");
        if self.0.len() + next.len() <= MAX_NOTES {
            self.0.push_str(&next);
        }
    }

    /// Whether no target was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// The top-level request field an error names: `tools` for `tools[0].function`; `request` if it names none.
pub fn member(error: &ApiError) -> &str {
    let param = error.param.as_deref().unwrap_or_default();
    match param.split(['.', '[']).next() {
        Some(member) if !member.is_empty() => member,
        _ => "request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::time::Duration;

    fn error(status: u16, message: &str) -> ApiError {
        ApiError::new(status, ErrorKind::Upstream, message.to_owned())
    }

    fn told(errors: &[ApiError]) -> String {
        let mut failures = Failures::default();
        errors.iter().for_each(|error| {
            failures.add(error.clone(), "x");
        });
        failures.best().map(|(error, _)| error.message.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_most_useful_failure_is_told_in_whatever_order_they_come() {
        let order = [400, 429, 503, 504, 502, 404, 402];
        for (useful, status) in order.iter().enumerate() {
            for other in order.iter().skip(useful + 1) {
                let (one, two) = (error(*status, "useful"), error(*other, "other"));
                assert_eq!((told(&[one.clone(), two.clone()]), told(&[two, one])), ("useful".into(), "useful".into()), "{status} {other}");
            }
        }
    }

    #[test]
    fn of_two_alike_the_shorter_wait_counts_then_the_later_but_the_first_that_blames_the_request() {
        let wait = |seconds, message| error(429, message).with_retry_after(Duration::from_secs(seconds));
        assert_eq!(told(&[wait(2, "short"), wait(30, "long"), error(429, "none")]), "short");
        assert_eq!(told(&[error(429, "none"), wait(30, "long"), wait(2, "short")]), "short");
        assert_eq!(told(&[error(502, "first"), error(502, "second")]), "second");
        assert_eq!(told(&[error(400, "first"), error(400, "second")]), "first");
    }

    #[test]
    fn what_ended_the_request_is_told_whatever_came_before() {
        let mut failures = Failures::default();
        failures.add(error(429, "limited"), "x");
        failures.add_last(error(504, "late"), "deadline");
        failures.add(error(400, "blamed"), "x");
        assert_eq!(failures.best(), Some((&error(504, "late"), "deadline")));
    }

    #[test]
    fn a_target_that_cannot_serve_counts_only_where_no_other_could_have() {
        let mut failures = Failures::default();
        assert_eq!(failures.best(), None);
        failures.add_unfit(error(400, "first"));
        failures.add_unfit(error(400, "second"));
        assert_eq!(failures.best(), Some((&error(400, "first"), "")));
        failures.add(error(502, "down"), "connect");
        assert_eq!(failures.best(), Some((&error(502, "down"), "connect")));
    }

    #[test]
    fn notes_on_targets_end_within_a_bound() {
        let mut notes = TargetNotes::default();
        notes.add("claude", "opus", member(&ApiError::field("tools[0].function", "no")));
        notes.add("pool", "m", "connections");
        assert_eq!(notes.text(), "claude/opus (tools), pool/m (connections)");
        (0..100).for_each(|_| notes.add("pool", "m", member(&error(400, ""))));
        assert!(notes.text().len() <= MAX_NOTES && notes.text().ends_with("pool/m (request)"));
    }
}
