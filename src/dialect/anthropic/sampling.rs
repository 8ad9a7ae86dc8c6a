//! `temperature`, `top_p` and `stop` where both Anthropic and Bedrock have their say about them.

use crate::dialect::params::{Settled, asked, temperature};
use crate::error::ApiError;
use crate::json::text::Text;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;

/// What a model lets itself be told about sampling.
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
        request: &ChatRequest<'a>,
        settled: &mut Settled,
    ) -> Result<(Option<&'a str>, Option<&'a str>), ApiError> {
        let top_p = request.raw(Field::TopP);
        match self {
            Self::Fixed => {
                for field in [Field::Temperature, Field::TopP] {
                    // 1 is the default of both, and the only value that needs no mention.
                    if request.raw(field).is_some_and(|raw| raw.parse() != Ok(1.0_f64)) {
                        settled.drop_hint(request, field)?;
                    }
                }
                Ok((None, None))
            }
            Self::Either if top_p.is_some() && request.raw(Field::Temperature).is_some() => {
                let (heat, mass) = (rank(request, Field::Temperature), rank(request, Field::TopP));
                let lost = if mass > heat { Field::Temperature } else { Field::TopP };
                // A default of the route's that gives way to the client's word is nothing that anybody has asked for.
                if heat.min(mass) > 0 || heat == mass {
                    settled.drop_hint(request, lost)?;
                }
                Ok(if mass > heat { (None, top_p) } else { (temperature(request, "1", settled)?, None) })
            }
            Self::Both | Self::Either => Ok((temperature(request, "1", settled)?, top_p)),
        }
    }
}

/// Whose word a field's value is: 0 the route's default, 1 the client's, 2 the route's override.
fn rank(request: &ChatRequest<'_>, field: Field) -> u8 {
    let overridden = request.params.overrides.iter().any(|(name, _)| name == field.name());
    if overridden { 2 } else { u8::from(request.parsed.raw(field).is_some()) }
}

/// `stop` as a list; empty texts, which stop nothing, are left out. `claude`: a text of white space is refused, as Claude
/// refuses it.
///
/// # Errors
/// A 400 that names `stop`.
pub(in crate::dialect) fn stops<'a>(request: &ChatRequest<'a>, claude: bool) -> Result<Vec<Text<'a>>, ApiError> {
    if asked(request, Field::Stop).is_none() {
        return Ok(Vec::new());
    }
    let mut list = match request.raw(Field::Stop) {
        Some(raw) if raw.starts_with('[') => request.get::<Vec<Text<'_>>>(Field::Stop)?.unwrap_or_default(),
        _ => request.get::<Text<'_>>(Field::Stop)?.into_iter().collect(),
    };
    list.retain(|text| !text.is_empty());
    if claude && list.iter().any(|text| text.decode().trim().is_empty()) {
        return Err(ApiError::field(Field::Stop.name(), "`stop`: this model refuses a stop sequence of nothing but white space"));
    }
    Ok(list)
}
