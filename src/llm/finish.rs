//! Why a choice ended: every provider's words in one table.

use crate::closed_set::closed_set;
use crate::redact::shown;
use parking_lot::Mutex;

/// Why a choice ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model came to an end.
    Stop,
    /// One of the request's stop sequences came; which one, where the provider names it.
    StopSequence(Option<Box<str>>),
    /// The limit on output tokens.
    Length,
    /// The model's context is full.
    ContextWindow,
    /// The model wants tools to be called.
    ToolCalls,
    /// The provider paused a long turn, which a further request may continue.
    Pause,
    /// The provider withheld or cut the answer.
    ContentFilter,
    /// The model refused; the category, where the provider names it.
    Refusal(Option<Box<str>>),
}

closed_set! {
    /// A [`Finish`] without its details.
    FinishWord {
        /// The model came to an end.
        Stop = "stop",
        /// A stop sequence of the request.
        StopSequence = "stop_sequence",
        /// The limit on output tokens.
        Length = "length",
        /// The model's context is full.
        ContextWindow = "context_window",
        /// The model wants tools to be called.
        ToolCalls = "tool_calls",
        /// The provider paused a long turn.
        Pause = "pause",
        /// The provider withheld or cut the answer.
        ContentFilter = "content_filter",
        /// The model refused.
        Refusal = "refusal",
    }
}

/// Why the choices of an answer ended: of the first [`FinishReasons::MAX`] that have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FinishReasons([Option<FinishWord>; FinishReasons::MAX]);

impl FinishReasons {
    /// Choices that are kept.
    pub const MAX: usize = 8;

    /// The words, in the order of the choices.
    pub fn words(&self) -> impl Iterator<Item = FinishWord> {
        self.0.iter().copied().flatten()
    }
}

impl FromIterator<FinishWord> for FinishReasons {
    fn from_iter<I: IntoIterator<Item = FinishWord>>(words: I) -> Self {
        let mut reasons = Self::default();
        for (slot, word) in reasons.0.iter_mut().zip(words) {
            *slot = Some(word);
        }
        reasons
    }
}

/// What a provider's finish reason means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The answer is complete.
    Complete(Finish),
    /// The answer failed: a malformed call, an abort, a lack of resources.
    Failed,
    /// The word is in no table.
    Unknown,
}

impl Finish {
    /// The finish of a choice whose provider ended it with `word`; `None` where that means that the answer failed.
    /// `has_content`: whether the choice has any content, reasoning or call.
    ///
    /// An unknown word behind something counts as `stop` and is logged once. It stands at the end of an answer that the
    /// provider itself calls ended, so that failing it would throw away what was generated and paid for, and would do so for
    /// every request to a server that invents a word. Behind nothing it is a failure: there is nothing to lose, and another
    /// target may answer.
    pub fn of(word: &str, has_content: bool) -> Option<Self> {
        match Meaning::of(word) {
            Meaning::Complete(finish) => Some(finish),
            Meaning::Failed => None,
            Meaning::Unknown if !has_content => None,
            Meaning::Unknown => {
                log_once(word);
                Some(Self::Stop)
            }
        }
    }

    /// The same with the stop sequence that came, or the category of the refusal.
    #[must_use]
    pub fn with(self, detail: Option<&str>) -> Self {
        match self {
            Self::StopSequence(_) => Self::StopSequence(detail.map(Box::from)),
            Self::Refusal(_) => Self::Refusal(detail.map(Box::from)),
            other => other,
        }
    }

    /// The same without its details.
    pub const fn word(&self) -> FinishWord {
        match self {
            Self::Stop => FinishWord::Stop,
            Self::StopSequence(_) => FinishWord::StopSequence,
            Self::Length => FinishWord::Length,
            Self::ContextWindow => FinishWord::ContextWindow,
            Self::ToolCalls => FinishWord::ToolCalls,
            Self::Pause => FinishWord::Pause,
            Self::ContentFilter => FinishWord::ContentFilter,
            Self::Refusal(_) => FinishWord::Refusal,
        }
    }

    /// Whether a policy of the provider's or the model's forbids the answer, or the rest of it.
    pub const fn is_withheld(&self) -> bool {
        matches!(self, Self::ContentFilter | Self::Refusal(_))
    }
}

impl Meaning {
    /// The meaning of a word. Letter case does not matter: relays of Gemini write `SAFETY` as well as `safety`.
    pub fn of(word: &str) -> Self {
        match word {
            "stop" => return Self::Complete(Finish::Stop), // nearly all of them
            "length" => return Self::Complete(Finish::Length),
            "tool_calls" => return Self::Complete(Finish::ToolCalls),
            _ => {}
        }
        let word = word.to_ascii_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| word.contains(part));
        Self::Complete(match &*word {
            "stop" | "end_turn" | "eos" | "eos_token" | "end" | "complete" | "completed" => Finish::Stop,
            "stop_sequence" => Finish::StopSequence(None),
            // Anthropic: a further request continues behind the summary that is the answer.
            "pause_turn" | "compaction" => Finish::Pause,
            "length" | "max_tokens" | "max_output_tokens" | "model_length" => Finish::Length,
            "model_context_window_exceeded" => Finish::ContextWindow,
            "tool_calls" | "tool_call" | "tool_use" | "function_call" => Finish::ToolCalls,
            "spii" | "blocklist" | "language" | "model_armor" | "image_other" => Finish::ContentFilter,
            // Gemini's word for a reason that it does not name, with an answer that has nothing in it.
            "" | "other" | "no_image" | "too_many_tool_calls" => return Self::Failed,
            _ if word.contains("refus") => Finish::Refusal(None),
            _ if has(&WITHHELD) => Finish::ContentFilter,
            _ if has(&FAILED) => return Self::Failed,
            _ => return Self::Unknown,
        })
    }
}

fn log_once(word: &str) {
    static LOGGED: Mutex<Vec<Box<str>>> = Mutex::new(Vec::new());
    let word = shown(word);
    let mut logged = LOGGED.lock();
    if logged.len() < MAX_LOGGED && !logged.iter().any(|known| **known == *word) {
        log::warn!("unknown finish reason `{word}` of a provider; passed on as `stop`");
        logged.push(word.into());
    }
}

/// Parts of a lower-case word that mean that the answer was withheld: `sensitive` (Z.ai), `safety`, `risk_content` …
const WITHHELD: [&str; 9] = ["filter", "safety", "sensitive", "moderat", "guardrail", "blocked", "prohibited", "recitation", "risk"];
/// Parts of a lower-case word that mean that the answer failed. `abnormal` covers `abnormal_stop`.
const FAILED: [&str; 13] = [
    "error",
    "abort",
    "cancel",
    "fail",
    "timeout",
    "timed_out",
    "malformed",
    "unexpected",
    "insufficient",
    "missing",
    "invalid",
    "interrupt",
    "abnormal",
];
/// Most unknown words that are remembered as logged; further ones are not logged.
const MAX_LOGGED: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_failure_have_no_finish() {
        for word in [
            "error",
            "network_error",
            "abort",
            "cancelled",
            "insufficient_system_resource",
            "malformed_tool_use",
            "MALFORMED_FUNCTION_CALL",
            "UNEXPECTED_TOOL_CALL",
            "MISSING_THOUGHT_SIGNATURE",
            "OTHER",
            "",
        ] {
            assert_eq!(Finish::of(word, true), None, "{word}");
        }
    }

    #[test]
    fn words_of_every_provider_have_their_finish() {
        for (word, finish) in [
            ("model_length", Finish::Length),
            ("MAX_TOKENS", Finish::Length),
            ("end", Finish::Stop),
            ("STOP", Finish::Stop),
            ("sensitive", Finish::ContentFilter),
            ("SAFETY", Finish::ContentFilter),
            ("IMAGE_PROHIBITED_CONTENT", Finish::ContentFilter),
            ("content_filtered", Finish::ContentFilter),
            ("tool_call", Finish::ToolCalls),
            ("compaction", Finish::Pause),
        ] {
            assert_eq!(Meaning::of(word), Meaning::Complete(finish), "{word}");
        }
    }

    #[test]
    fn an_unknown_word_is_a_stop_where_there_is_content() {
        assert_eq!(Meaning::of("brand_new"), Meaning::Unknown);
        assert_eq!((Finish::of("brand_new", true), Finish::of("brand_new", false)), (Some(Finish::Stop), None));
        assert_eq!(Finish::of("end_turn", false), Some(Finish::Stop), "an empty answer is one");
    }
}
