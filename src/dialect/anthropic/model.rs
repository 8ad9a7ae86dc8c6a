//! What a Claude model can do, read from its name: how it thinks and whether it lets itself be sampled.

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Thinking {
    /// Not at all (before Claude 3.7).
    Never,
    /// `thinking: {type: enabled, budget_tokens}` (Claude 3.7 to 4.5).
    Budget,
    /// `thinking: {type: adaptive}` and `output_config.effort` (from Claude 4.6).
    Adaptive,
}

/// How a model that thinks adaptively is told not to think.
/// <https://platform.claude.com/docs/en/build-with-claude/thinking> and the migration guides of each model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Quiet {
    /// By saying nothing (Claude 4.6 to 4.8, some of which refuse `disabled`).
    Unasked,
    /// `thinking: {type: disabled}` (Claude 5).
    Disabled,
    /// `thinking: {type: between_tools}` (Sonnet from 5.5 on).
    BetweenTools,
    /// Not at all, it can only think less (Opus from 5.5 on, Fable, Mythos; any that is not known).
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

    /// How it is told not to think, where it thinks adaptively.
    pub(in crate::dialect) fn quiet(self) -> Quiet {
        match (self.line, self.version) {
            (_, Some(version)) if version < (5, 0) => Quiet::Unasked,
            (Line::Other, _) | (_, None) => Quiet::Never,
            (_, Some(version)) if version < (5, 5) => Quiet::Disabled,
            (Line::Sonnet, _) => Quiet::BetweenTools,
            _ => Quiet::Never,
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
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
            ("claude-fable-5", Quiet::Never),
            ("claude-mythos-preview", Quiet::Never),
        ] {
            assert_eq!(Model::of(name).quiet(), quiet, "{name}");
        }
        assert!(Model::of("claude-opus-4-6").sampled());
        assert!(!Model::of("claude-opus-4-7").sampled());
    }
}
