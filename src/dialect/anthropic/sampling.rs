//! `temperature`, `top_p` and `stop` where both Anthropic and Bedrock have their say about them.

use crate::dialect::params::{Settled, temperature};
use crate::error::ApiError;
use crate::json::text::Text;
use crate::llm::field::Field;
use crate::llm::request::{Authority, Request};

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
