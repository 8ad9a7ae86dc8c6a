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

/// A model's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) struct Model {
    /// Major and minor version; `None` where the name has none.
    version: Option<(u32, u32)>,
    claude: bool,
}

impl Model {
    /// Reads a name such as `claude-sonnet-4-5-20250929`, `claude-3-7-sonnet-latest` or `claude-opus-4-1@20250805`,
    /// whatever stands before it.
    pub(in crate::dialect) fn of(name: &str) -> Self {
        let Some((_, name)) = name.split_once("claude") else { return Self { version: None, claude: false } };
        // A number of more than two digits is a date.
        let number = |part: &str| part.parse::<u32>().ok().filter(|_| part.len() <= 2);
        let mut parts = name.split(['-', '.', '@', ':', '_']).skip_while(|part| number(part).is_none());
        let version = parts.next().and_then(number).map(|major| (major, parts.next().and_then(number).unwrap_or(0)));
        Self { version, claude: true }
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
        assert!(Model::of("claude-opus-4-6").sampled());
        assert!(!Model::of("claude-opus-4-7").sampled());
    }
}
