//! What a Claude model can do, read from its name; how its thinking and its sampling are requested at every host; and the
//! settings of its targets.

use crate::dialect::shared::params::{Settled, temperature};
use crate::dialect::shared::schema::rules;
use crate::dialect::shared::toolbox::Means;
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::field::Field;
use crate::llm::request::{Authority, Effort, Request};
use crate::yaml::section::{section, words};
use crate::yaml::value::Tokens;
use std::borrow::Cow;

/// `max_tokens` where neither client nor configuration gives one; the API demands it.
pub const DEFAULT_MAX_TOKENS: u32 = 4096;

section! {
    /// Keys of targets that may be Claude models.
    ClaudeKeys {
        /// Overrides the provider's `default_max_tokens` (anthropic, bedrock, sagemaker, vertex).
        default_max_tokens: Option<Tokens>,
        /// How a Claude model is held to a JSON schema (anthropic, bedrock, vertex). Default: native.
        structured_output: Option<StructuredOutput>,
    }
}

words! {
    /// How Claude models are held to a JSON schema.
    StructuredOutput {
        /// The provider's JSON-schema output.
        Native = "native",
        /// A forced tool whose arguments become the content; an instruction, where the model cannot be forced.
        Tool = "tool",
    }
}

/// How thinking is requested of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Thinking {
    /// The model does not think (before Claude 3.7).
    Never,
    /// `thinking: {type: enabled, budget_tokens}` (Claude 3.7 to 4.5).
    Budget,
    /// `thinking: {type: adaptive}` and `output_config.effort` (from Claude 4.6).
    Adaptive,
}

/// How adaptive thinking is turned off.
/// <https://platform.claude.com/docs/en/build-with-claude/thinking> and the migration guides of each model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Quiet {
    /// By leaving `thinking` out (Claude 4.6 to 4.8, some of which refuse `disabled`).
    Unasked,
    /// `thinking: {type: disabled}` (Claude 5, and Haiku after it).
    Disabled,
    /// `thinking: {type: between_tools}` (Sonnet from 5.5 on).
    BetweenTools,
    /// It cannot be: the model can only think less (Opus from 5.5 on, Fable, Mythos; unknown models).
    Never,
}

/// A model's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) struct Model {
    /// Major and minor version; `None` where the name has none.
    version: Option<(u32, u32)>,
    claude: bool,
    line: Line,
}

/// The line that a model belongs to, as far as lines of one version differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Opus,
    Sonnet,
    Haiku,
    Other,
}

impl Model {
    /// Reads a name such as `claude-sonnet-4-5-20250929`, `claude-3-7-sonnet-latest` or `claude-opus-4-1@20250805`,
    /// whatever stands before it.
    pub(in crate::dialect) fn of(name: &str) -> Self {
        let Some((_, name)) = name.split_once("claude") else { return Self { version: None, claude: false, line: Line::Other } };
        // A number of more than two digits is a date.
        let number = |part: &str| part.parse::<u32>().ok().filter(|_| part.len() <= 2);
        let mut parts = name.split(['-', '.', '@', ':', '_']).skip_while(|part| number(part).is_none());
        let version = parts.next().and_then(number).map(|major| (major, parts.next().and_then(number).unwrap_or(0)));
        let lines = [("opus", Line::Opus), ("sonnet", Line::Sonnet), ("haiku", Line::Haiku)];
        let line = lines.into_iter().find(|(word, _)| name.contains(word)).map_or(Line::Other, |(_, line)| line);
        Self { version, claude: true, line }
    }

    /// How it thinks. A Claude without a version is taken for a new one, any other model for one that knows the older way.
    pub(in crate::dialect) fn thinking(self) -> Thinking {
        match self.version {
            None if self.claude => Thinking::Adaptive,
            None => Thinking::Budget,
            Some(version) if version < (3, 7) => Thinking::Never,
            Some(version) if version < (4, 6) => Thinking::Budget,
            Some(_) => Thinking::Adaptive,
        }
    }

    /// How its thinking is turned off, where it thinks adaptively.
    pub(in crate::dialect) fn quiet(self) -> Quiet {
        match (self.line, self.version) {
            (_, Some(version)) if version < (5, 0) => Quiet::Unasked,
            (Line::Other, _) | (_, None) => Quiet::Never,
            (_, Some(version)) if version < (5, 5) => Quiet::Disabled,
            (Line::Haiku, _) => Quiet::Disabled,
            (Line::Sonnet, _) => Quiet::BetweenTools,
            _ => Quiet::Never,
        }
    }

    /// Whether it thinks by default: Claude 5 and later.
    fn thinks_unasked(self) -> bool {
        self.thinking() == Thinking::Adaptive && self.quiet() != Quiet::Unasked
    }

    /// Whether it can be forced to call a tool: 'tool_choice: type "tool" and "any" are not supported for this model.'
    /// <https://platform.claude.com/docs/en/models/sonnet-5-5/whats-new-sonnet-5-5#forced-tool-use-is-not-supported>, and the same
    /// of Opus 5.5 and Fable 5.1; Haiku 5.5 takes it.
    fn can_be_forced(self) -> bool {
        match (self.line, self.version) {
            (Line::Haiku, _) | (_, None) => true,
            (Line::Opus | Line::Sonnet, Some(version)) => version < (5, 5),
            (Line::Other, Some(version)) => version < (5, 1),
        }
    }

    /// What holds an answer of a Claude.
    pub(in crate::dialect) fn means(self, output: StructuredOutput) -> Means {
        Means {
            native: output == StructuredOutput::Native,
            strict_tools: true,
            forced_tool: self.can_be_forced(),
            named_tool: true,
            worded: true,
            output_rules: &rules::CLAUDE,
            relaxed_rules: &rules::CLAUDE_RELAXED,
            tool_rules: &rules::CLAUDE_TOOL,
        }
    }

    /// Whether `temperature` and `top_p` may be set: from Claude 4.7 on only their defaults are accepted.
    pub(in crate::dialect) fn sampled(self) -> bool {
        self.version.is_none_or(|version| version < (4, 7))
    }

    /// Whether its thinking comes empty unless a summary is asked for: from Claude 4.7 on.
    /// <https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking>
    pub(in crate::dialect) fn hides_thinking(self) -> bool {
        self.extra_high()
    }

    /// Whether `effort` knows `xhigh`: from Claude 4.7 on.
    pub(in crate::dialect) fn extra_high(self) -> bool {
        self.version.is_none_or(|version| version >= (4, 7))
    }
}

/// Smallest thinking budget, in tokens; it must be below the answer's limit.
const MIN_BUDGET: u64 = 1024;

/// Tokens for thinking, of a size that leaves room for the answer within every thinking model's output limit.
const fn budget(effort: Effort) -> u64 {
    match effort {
        Effort::None | Effort::Minimal => MIN_BUDGET,
        Effort::Low => 2048,
        Effort::Medium => 8192,
        Effort::High => 16_384,
        Effort::XHigh | Effort::Max => 24_576,
    }
}

/// The word of `output_config.effort` for it.
fn word(effort: Effort, model: Model) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::XHigh if model.extra_high() => "xhigh",
        Effort::High | Effort::XHigh => "high",
        Effort::Max => "max",
    }
}

/// What a request says about thinking; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dialect) struct Thought {
    mode: Option<Mode>,
    effort: Option<&'static str>,
    /// The model thinks although the request says nothing about it.
    unasked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// `enabled`, with this many tokens.
    Budget(u64),
    /// `adaptive`. `hidden`: thinking comes back empty unless a summary is requested.
    Adaptive { hidden: bool },
    /// Turned off, by this type of `thinking`.
    Not(&'static str),
}

/// The type of `thinking` with which a model reports its progress between calls in thinking blocks, which have to come back
/// as any others: <https://platform.claude.com/docs/en/build-with-claude/thinking#progress-updates>.
const BETWEEN_TOOLS: &str = "between_tools";

/// What thinking depends on beside the request's effort.
#[derive(Clone, Copy)]
pub(in crate::dialect) struct Terms {
    /// The limit on the answer's tokens.
    pub limit: Option<u64>,
    /// A call is demanded, which excludes thinking.
    pub forces: bool,
    /// The conversation allows thinking with a fixed budget.
    pub can_think: bool,
}

impl Thought {
    /// What the request's effort means.
    ///
    /// # Errors
    /// A 400 for an unknown effort, or for one that the model cannot keep where the route rejects lost hints.
    pub(in crate::dialect) fn choose(request: &Request<'_>, model: Model, terms: Terms, settled: &mut Settled) -> Result<Self, ApiError> {
        let asked = Self::asked(request, model, terms, settled)?;
        Ok(Self { unasked: asked.mode.is_none() && !terms.forces && model.thinks_unasked(), ..asked })
    }

    fn asked(request: &Request<'_>, model: Model, terms: Terms, settled: &mut Settled) -> Result<Self, ApiError> {
        let Terms { limit, forces, can_think } = terms;
        let Some(effort) = Effort::read(request)? else { return Ok(Self::default()) };
        let name = || request.name_of(Field::ReasoningEffort);
        let thought = match model.thinking() {
            _ if effort == Effort::None => return Self::none(name, model, settled),
            // A demanded call and thinking exclude each other; effort alone goes with both.
            Thinking::Adaptive => {
                let mode = Mode::Adaptive { hidden: model.hides_thinking() };
                Self { mode: (!forces).then_some(mode), ..Self::of_word(effort, name, model, settled)? }
            }
            Thinking::Budget if !forces && can_think => {
                // A quarter of the client's limit is left to the answer; a limit that holds no budget means no thinking.
                let room = limit.map_or(u64::MAX, |limit| if limit > MIN_BUDGET { (limit / 4 * 3).max(MIN_BUDGET) } else { 0 });
                let budget = Some(budget(effort).min(room)).filter(|budget| *budget >= MIN_BUDGET);
                Self { mode: budget.map(Mode::Budget), ..Self::default() }
            }
            _ => Self::default(),
        };
        if thought == Self::default() {
            settled.drop(name())?;
        }
        Ok(thought)
    }

    /// What an effort means beside thinking that somebody else decides: a word, which only models that think adaptively
    /// have, or no thinking.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub(in crate::dialect) fn beside(effort: Effort, model: Model, settled: &mut Settled) -> Result<Self, ApiError> {
        let name = || Cow::Borrowed(Field::ReasoningEffort.name());
        if effort == Effort::None {
            return Self::none(name, model, settled);
        }
        if model.thinking() == Thinking::Adaptive {
            return Self::of_word(effort, name, model, settled);
        }
        settled.drop(name())?;
        Ok(Self::default())
    }

    /// The model's word for an effort.
    fn of_word(effort: Effort, name: impl FnOnce() -> Cow<'static, str>, model: Model, settled: &mut Settled) -> Result<Self, ApiError> {
        let word = word(effort, model);
        if effort == Effort::XHigh && word == "high" {
            settled.adjust(name(), "this model knows no effort between high and max")?;
        }
        Ok(Self { effort: Some(word), ..Self::default() })
    }

    /// No thinking. Only for models that think by default it has to be turned off; models that always think get the lowest
    /// effort.
    fn none(name: impl FnOnce() -> Cow<'static, str>, model: Model, settled: &mut Settled) -> Result<Self, ApiError> {
        let word = match model.quiet() {
            Quiet::Disabled => "disabled",
            Quiet::BetweenTools => BETWEEN_TOOLS,
            Quiet::Never if model.thinking() == Thinking::Adaptive => {
                settled.adjust(name(), "this model always thinks")?;
                return Ok(Self { effort: Some("low"), ..Self::default() });
            }
            Quiet::Unasked | Quiet::Never => return Ok(Self::default()),
        };
        Ok(Self { mode: Some(Mode::Not(word)), ..Self::default() })
    }

    /// The word of `output_config.effort`.
    pub(in crate::dialect) fn effort(self) -> Option<&'static str> {
        self.effort
    }

    /// The type of `thinking` that turns it off, where the model needs one.
    pub(in crate::dialect) fn off(self) -> Option<&'static str> {
        if let Some(Mode::Not(word)) = self.mode { Some(word) } else { None }
    }

    /// Whether thinking is requested.
    pub(in crate::dialect) fn thinks(self) -> bool {
        self.mode.is_some_and(|mode| !matches!(mode, Mode::Not(_)))
    }

    /// Whether the answer may contain thinking, which is then sealed and sent back.
    pub(in crate::dialect) fn may_think(self) -> bool {
        self.thinks() || self.unasked || self.off() == Some(BETWEEN_TOOLS)
    }

    /// Whether anything is written.
    pub(in crate::dialect) fn is_told(self) -> bool {
        self.mode.is_some() || self.effort.is_some()
    }

    /// Whether it thinks with a budget, which has to be below the limit of the answer.
    pub(in crate::dialect) fn has_budget(self) -> bool {
        matches!(self.mode, Some(Mode::Budget(_)))
    }

    /// The mandatory limit, which counts thinking too and must be above its budget.
    pub(in crate::dialect) fn max_tokens(self, limit: Option<u64>, default: u64) -> u64 {
        match (limit, self.mode) {
            (Some(limit), _) => limit,
            (None, Some(Mode::Budget(budget))) if default <= budget => default.saturating_add(budget),
            (None, _) => default,
        }
    }

    /// Writes `thinking` and `output_config`, which also holds the schema of the answer.
    pub(in crate::dialect) fn write(self, w: &mut Writer, schema: Option<&str>) {
        match self.mode {
            None => {}
            Some(Mode::Budget(tokens)) => {
                w.key("thinking").object().key("type").string("enabled").key("budget_tokens").integer(tokens).end_object();
            }
            Some(Mode::Not(word)) => {
                w.key("thinking").object().key("type").string(word).end_object();
            }
            Some(Mode::Adaptive { hidden }) => {
                w.key("thinking").object().key("type").string("adaptive");
                if hidden {
                    w.key("display").string("summarized");
                }
                w.end_object();
            }
        }
        if self.effort.is_none() && schema.is_none() {
            return;
        }
        w.key("output_config").object().optional_text("effort", self.effort.map(Text::Plain));
        if let Some(schema) = schema {
            w.key("format").object().key("type").string("json_schema").key("schema").raw(schema).end_object();
        }
        w.end_object();
    }
}

/// Which sampling parameters a model accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Sampling {
    /// `temperature` and `top_p`.
    Both,
    /// One of them: Claude refuses both together.
    Either,
    /// Neither, unless it is the default: beside thinking, and for newer models always.
    Fixed,
}

impl Sampling {
    /// `temperature`, at most 1, and `top_p`, each in its own spelling.
    ///
    /// # Errors
    /// A 400 that names what is lost or changed, where the route says `unsupported: reject`.
    pub(in crate::dialect) fn settle<'a>(
        self,
        request: &Request<'a>,
        settled: &mut Settled,
    ) -> Result<(Option<&'a str>, Option<&'a str>), ApiError> {
        let (heat, mass) = (request.sampling.temperature, request.sampling.top_p);
        let top_p = mass.map(|(raw, _)| raw);
        let clamped = |settled: &mut Settled| {
            let name = || request.name_of(Field::Temperature);
            heat.map(|(raw, _)| temperature(raw, name(), "1", settled)).transpose()
        };
        match (self, heat, mass) {
            (Self::Fixed, ..) => {
                for (field, value) in [(Field::Temperature, heat), (Field::TopP, mass)] {
                    // 1 is the default of both, and the only value that needs no mention.
                    if value.is_some_and(|(raw, _)| raw.parse() != Ok(1.0_f64)) {
                        settled.drop(request.name_of(field))?;
                    }
                }
                Ok((None, None))
            }
            (Self::Either, Some((_, heat)), Some((_, mass))) => {
                let lost = if mass > heat { Field::Temperature } else { Field::TopP };
                // A default of the route's that gives way to the client's value is nothing that anybody has asked for.
                if heat.min(mass) > Authority::Default || heat == mass {
                    settled.drop(request.name_of(lost))?;
                }
                Ok(if mass > heat { (None, top_p) } else { (clamped(settled)?, None) })
            }
            (Self::Both | Self::Either, ..) => Ok((clamped(settled)?, top_p)),
        }
    }
}

/// The stop sequences. `claude`: one of nothing but white space is refused, as Claude refuses it.
///
/// # Errors
/// A 400 that names `stop`.
pub(in crate::dialect) fn stops<'r, 'a>(request: &'r Request<'a>, claude: bool) -> Result<&'r [Text<'a>], ApiError> {
    let list = &request.sampling.stop;
    if claude && list.iter().any(|text| text.decode().trim().is_empty()) {
        let name = request.name_of(Field::Stop);
        let message = format!("`{name}`: this model refuses a stop sequence of nothing but white space");
        return Err(ApiError::field(name, message));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_generation() {
        for (name, version, thinking) in [
            ("claude-sonnet-4-5-20250929", Some((4, 5)), Thinking::Budget),
            ("claude-sonnet-4-5-x1", Some((4, 5)), Thinking::Budget),
            ("claude-sonnet-4-20250514", Some((4, 0)), Thinking::Budget),
            ("claude-opus-4-1@20250805", Some((4, 1)), Thinking::Budget),
            ("us.anthropic.claude-opus-4-6-v1:0", Some((4, 6)), Thinking::Adaptive),
            ("claude-3-7-sonnet-latest", Some((3, 7)), Thinking::Budget),
            ("claude-3-haiku-20240307", Some((3, 0)), Thinking::Never),
            ("claude-3-5-sonnet-v2@20241022", Some((3, 5)), Thinking::Never),
            ("claude-opus-5", Some((5, 0)), Thinking::Adaptive),
            ("claude-mythos-preview", None, Thinking::Adaptive),
            ("kimi-k2", None, Thinking::Budget),
        ] {
            let model = Model::of(name);
            assert_eq!((model.version, model.thinking()), (version, thinking), "{name}");
        }
        for (name, quiet) in [
            ("claude-sonnet-4-6", Quiet::Unasked),
            ("global.anthropic.claude-opus-4-8", Quiet::Unasked),
            ("claude-opus-5", Quiet::Disabled),
            ("anthropic/claude-sonnet-5@20260630", Quiet::Disabled),
            ("claude-sonnet-5-5", Quiet::BetweenTools),
            ("claude-opus-5-5", Quiet::Never),
            ("global.anthropic.claude-haiku-5-5", Quiet::Disabled),
            ("claude-fable-5", Quiet::Never),
            ("claude-mythos-preview", Quiet::Never),
        ] {
            assert_eq!(Model::of(name).quiet(), quiet, "{name}");
        }
        for (name, unasked, forced) in [
            ("claude-haiku-4-5", false, true),
            ("claude-opus-4-8", false, true),
            ("claude-sonnet-5", true, true),
            ("claude-fable-5", true, true),
            ("claude-haiku-5-5", true, true),
            ("claude-fable-5-1", true, false),
            ("us.anthropic.claude-opus-5-5", true, false),
            ("claude-sonnet-5-5", true, false),
            ("amazon.nova-pro-v1:0", false, true),
        ] {
            let model = Model::of(name);
            assert_eq!((model.thinks_unasked(), model.can_be_forced()), (unasked, forced), "{name}");
        }
        assert!(Model::of("claude-opus-4-6").sampled());
        assert!(!Model::of("claude-opus-4-7").sampled());
    }
}
