//! The script in a model's name: how a test asks for a failure, a pace or a size without a side channel.
//!
//! Everything after the first `+` of the model's name is directives, each `name` or `name=value`, separated by `+`:
//! `gpt-4o+fail-first=2+status=503+retry-after=7`. An unknown directive is a 400, so that a typo shows.

use crate::closed_set::closed_set;
use std::time::Duration;

/// Longest pause that a script may ask for.
pub const MAX_PAUSE: Duration = Duration::from_secs(600);
/// Most pieces of an answer.
pub const MAX_CHUNKS: usize = 100_000;
/// Largest text of an answer, in bytes.
pub const MAX_ANSWER: usize = 16 << 20;

closed_set! {
    /// A word of a script. The first example in its description is a whole directive.
    Directive {
        /// `delay=200ms`: wait before the headers.
        Delay = "delay",
        /// `pace=50ms`: wait before each event of a stream but the first.
        Pace = "pace",
        /// `chunks=100`: the text comes in so many pieces.
        Chunks = "chunks",
        /// `bytes=4096`: the text has so many bytes.
        Bytes = "bytes",
        /// `slice=7`: the body is cut into pieces of so many bytes, wherever its events end.
        Slice = "slice",
        /// `finish=content_filter`: the finish reason, in whatever word.
        Finish = "finish",
        /// `reasoning`: think first.
        Reasoning = "reasoning",
        /// `retry-after=7`: that header, on whatever is answered.
        RetryAfter = "retry-after",
        /// `fail-first=2`: what goes wrong, the delay and `retry-after` apply only to so many requests with this very name; a 503
        /// where the script names nothing.
        FailFirst = "fail-first",
        /// `once`: the same as `fail-first=1`.
        Once = "once",
        /// `status=503`: an error in the provider's shape, 400 to 599.
        Status = "status",
        /// `error=context_length_exceeded`, `error=content_policy_violation`, `error=insufficient_quota`: the error that has this
        /// code at OpenAI, in the provider's shape.
        Error = "error",
        /// `hang`: never an answer.
        Hang = "hang",
        /// `close`: the connection ends without an answer.
        Close = "close",
        /// `stall`: headers of success, then silence.
        Stall = "stall",
        /// `comment-stall`: headers, something without content, then silence.
        CommentStall = "comment-stall",
        /// `die-after-headers`: headers, then the connection breaks.
        DieAfterHeaders = "die-after-headers",
        /// `cut`: the same as `cut-after=1`.
        Cut = "cut",
        /// `cut-after=3`: the connection breaks after so many events.
        CutAfter = "cut-after",
        /// `error-after=2`: an error event after so many events; a whole answer is the error, with status 200.
        ErrorAfter = "error-after",
        /// `json=garbage`, `json=empty`, `json=html`: success, with a body that is not what it should be.
        Json = "json",
    }
}

/// How one answer is to be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// `delay=200ms`: wait before the headers.
    pub delay: Duration,
    /// `pace=50ms`: wait before each event but the first. `None`: the simulator's own pace.
    pub pace: Option<Duration>,
    /// `chunks=100`: the text comes in so many pieces.
    pub chunks: Option<usize>,
    /// `bytes=4096`: the text has so many bytes.
    pub bytes: Option<usize>,
    /// `slice=7`: the body is cut into pieces of so many bytes, wherever its events end.
    pub slice: Option<usize>,
    /// `finish=content_filter`: the finish reason, in whatever word.
    pub finish: Option<String>,
    /// `reasoning`: think first.
    pub reasoning: bool,
    /// `retry-after=7`: that header, on whatever is answered.
    pub retry_after: Option<String>,
    /// What goes wrong, if anything.
    pub trouble: Option<Trouble>,
    /// `fail-first=2` or `once`: the trouble, the delay and `retry-after` befall only the first requests with this very name.
    pub fail_first: Option<u32>,
}

/// What goes wrong with an answer. A script has at most one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// `status=503`: an error in the provider's shape.
    Status(u16),
    /// `error=context_length_exceeded`, `content_policy_violation` or `insufficient_quota`: the error that has this code at
    /// OpenAI, in the provider's shape.
    Code(Code),
    /// `hang`: never an answer.
    Hang,
    /// `close`: the connection ends without an answer.
    Close,
    /// `stall`: headers of success, then silence.
    Stall,
    /// `comment-stall`: headers, something without content, then silence.
    CommentStall,
    /// `die-after-headers`: headers, then the connection breaks.
    DieAfterHeaders,
    /// `cut` (after 1) or `cut-after=3`: the connection breaks after so many events.
    CutAfter(usize),
    /// `error-after=2`: an error event after so many events; a whole answer is the error, with status 200.
    ErrorAfter(usize),
    /// `json=garbage`: success, with a body that is not what it should be.
    Junk(Junk),
}

closed_set! {
    /// An error that is known by its code.
    Code {
        /// The prompt is too long.
        ContextLength = "context_length_exceeded",
        /// The prompt is against the provider's policy.
        ContentPolicy = "content_policy_violation",
        /// The account has to be paid.
        Quota = "insufficient_quota",
    }
}

impl Code {
    /// The status that it comes with.
    pub const fn status(self) -> u16 {
        match self {
            Self::ContextLength | Self::ContentPolicy => 400,
            Self::Quota => 429,
        }
    }

    /// Its message.
    pub const fn message(self) -> &'static str {
        match self {
            Self::ContextLength => "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
            Self::ContentPolicy => "The prompt was rejected because of the provider's content policy.",
            Self::Quota => "You exceeded your current quota. Insufficient balance.",
        }
    }
}

/// What stands where JSON should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Junk {
    /// JSON that stops in the middle of a key.
    Garbage,
    /// Nothing.
    Empty,
    /// A page for people.
    Html,
}

impl Junk {
    /// The bytes.
    pub fn text(self) -> &'static str {
        match self {
            Self::Garbage => "{\"choices\":[{\"ind",
            Self::Empty => "",
            Self::Html => "<html><body><h1>502 Bad Gateway</h1></body></html>",
        }
    }
}

impl Script {
    /// Takes a model's name apart: the model proper, and its script.
    ///
    /// # Errors
    /// A directive that does not exist, lacks its value, is out of bounds or contradicts another; the text names it.
    pub fn parse(model: &str) -> Result<(&str, Self), String> {
        let Some((name, directives)) = model.split_once('+') else { return Ok((model, Self::default())) };
        let mut script = Self::default();
        for directive in directives.split('+') {
            let (key, value) = directive.split_once('=').map_or((directive, None), |(key, value)| (key, Some(value)));
            script.take(key, value).map_err(|why| format!("model: directive `{directive}`: {why}"))?;
        }
        if script.fail_first.is_some() && script.trouble.is_none() && script.delay.is_zero() {
            script.trouble = Some(Trouble::Status(503));
        }
        Ok((name, script))
    }

    fn take(&mut self, key: &str, value: Option<&str>) -> Result<(), String> {
        let directive = Directive::ALL.iter().copied().find(|directive| directive.name() == key).ok_or("is unknown")?;
        let trouble = match (directive, value) {
            (Directive::Delay, Some(v)) => return duration(v).map(|d| self.delay = d),
            (Directive::Pace, Some(v)) => return duration(v).map(|d| self.pace = Some(d)),
            (Directive::Chunks, Some(v)) => return count(v, 1, MAX_CHUNKS).map(|n| self.chunks = Some(n)),
            (Directive::Bytes, Some(v)) => return count(v, 0, MAX_ANSWER).map(|n| self.bytes = Some(n)),
            (Directive::Slice, Some(v)) => return count(v, 1, MAX_ANSWER).map(|n| self.slice = Some(n)),
            (Directive::FailFirst, Some(v)) => return number(v, 1, u32::MAX).map(|n| self.fail_first = Some(n)),
            (Directive::Once, None) => {
                self.fail_first = Some(1);
                return Ok(());
            }
            (Directive::Reasoning, None) => {
                self.reasoning = true;
                return Ok(());
            }
            (Directive::Finish, Some(v)) => {
                self.finish = Some(v.to_owned());
                return Ok(());
            }
            (Directive::RetryAfter, Some(v)) if v.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
                self.retry_after = Some(v.to_owned());
                return Ok(());
            }
            (Directive::Status, Some(v)) => Trouble::Status(number(v, 400, 599)?),
            (Directive::Error, Some(v)) => {
                let code = Code::ALL.iter().copied().find(|code| code.name() == v);
                Trouble::Code(code.ok_or("expected context_length_exceeded, content_policy_violation or insufficient_quota")?)
            }
            (Directive::Hang, None) => Trouble::Hang,
            (Directive::Close, None) => Trouble::Close,
            (Directive::Stall, None) => Trouble::Stall,
            (Directive::CommentStall, None) => Trouble::CommentStall,
            (Directive::DieAfterHeaders, None) => Trouble::DieAfterHeaders,
            (Directive::Cut, None) => Trouble::CutAfter(1),
            (Directive::CutAfter, Some(v)) => Trouble::CutAfter(count(v, 0, MAX_CHUNKS)?),
            (Directive::ErrorAfter, Some(v)) => Trouble::ErrorAfter(count(v, 0, MAX_CHUNKS)?),
            (Directive::Json, Some("garbage")) => Trouble::Junk(Junk::Garbage),
            (Directive::Json, Some("empty")) => Trouble::Junk(Junk::Empty),
            (Directive::Json, Some("html")) => Trouble::Junk(Junk::Html),
            _ => return Err("its value is missing, wrong or too much".into()),
        };
        match self.trouble.replace(trouble) {
            Some(_) => Err("a script has room for one trouble".into()),
            None => Ok(()),
        }
    }

    /// The script without what goes wrong: how the request after the last failing one is answered.
    pub fn recovered(self) -> Self {
        Self { delay: Duration::ZERO, retry_after: None, trouble: None, ..self }
    }
}

fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display>(text: &str, least: T, most: T) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(n) if n >= least && n <= most => Ok(n),
        _ => Err(format!("expected a whole number from {least} to {most}")),
    }
}

fn count(text: &str, least: usize, most: usize) -> Result<usize, String> {
    number(text, least, most)
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a duration like 200ms or 2s, at most {}s", MAX_PAUSE.as_secs());
    let (digits, unit) =
        text.strip_suffix("ms").map(|d| (d, 1)).or_else(|| text.strip_suffix('s').map(|d| (d, 1_000))).ok_or_else(wrong)?;
    let millis = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
    Some(Duration::from_millis(millis)).filter(|d| *d <= MAX_PAUSE).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_has_no_script() {
        assert_eq!(Script::parse("Qwen/Qwen3-4B").unwrap(), ("Qwen/Qwen3-4B", Script::default()));
    }

    #[test]
    fn directives_are_read_and_recovery_keeps_the_shape() {
        let (name, script) = Script::parse("sim+fail-first=2+status=503+retry-after=7+pace=5ms+chunks=3").unwrap();
        assert_eq!((name, script.trouble.clone(), script.fail_first), ("sim", Some(Trouble::Status(503)), Some(2)));
        let later = script.recovered();
        assert_eq!((later.trouble, later.retry_after, later.chunks, later.pace), (None, None, Some(3), Some(Duration::from_millis(5))));
        assert_eq!(Script::parse("sim+once").unwrap().1.trouble, Some(Trouble::Status(503)), "a failure without a kind is a 503");
        assert_eq!(Script::parse("sim+once+delay=1s").unwrap().1.trouble, None, "being slow once is enough");
    }

    #[test]
    fn every_example_of_a_directive_is_one() {
        for directive in Directive::ALL {
            let example = directive.about().split('`').nth(1).unwrap();
            assert_eq!(example.split('=').next(), Some(directive.name()));
            assert!(Script::parse(&format!("m+{example}")).is_ok(), "{example}");
        }
    }

    #[test]
    fn typos_and_contradictions_show() {
        for model in [
            "m+statsu=503",
            "m+",
            "m+status",
            "m+status=200",
            "m+error=quota",
            "m+delay=5",
            "m+delay=601s",
            "m+hang=1",
            "m+hang+stall",
            "m+bytes=99999999999",
            "m+chunks=0",
        ] {
            assert!(Script::parse(model).unwrap_err().starts_with("model: directive"), "{model}");
        }
    }
}
