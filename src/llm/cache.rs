//! Anthropic's mark `cache_control` on a part or a tool, which clients of many gateways send in OpenAI's shape too: up to
//! here the prompt shall be kept for the next request. It is a hint: the answer is the same without it.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How long the prompt shall be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// As long as the provider likes, some minutes.
    Short,
    /// An hour.
    Hour,
}

impl Cache {
    /// `{"type": "ephemeral", "ttl"?: "5m" | "1h"}`; `None` for anything else.
    pub fn read(raw: &RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow)]
            r#type: Cow<'a, str>,
            #[serde(borrow, default)]
            ttl: Option<Cow<'a, str>>,
        }
        let wire: Wire<'_> = serde_json::from_str(raw.get()).ok()?;
        let time = if wire.ttl.as_deref() == Some("1h") { Self::Hour } else { Self::Short };
        (wire.r#type == "ephemeral").then_some(time)
    }

    /// The provider's word for a time that is not its own choice.
    pub const fn ttl(self) -> Option<&'static str> {
        match self {
            Self::Short => None,
            Self::Hour => Some("1h"),
        }
    }
}
