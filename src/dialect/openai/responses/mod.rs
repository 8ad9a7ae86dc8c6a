//! OpenAI's Responses API at a provider that has it, for a client that speaks it too: [`splice`] edits the client's bytes, and
//! [`decode`] reads what the gateway has to know of an answer whose bytes pass as they come.
//! <https://platform.openai.com/docs/api-reference/responses>

use super::quirks::Quirks;
use crate::dialect::Outgoing;
use crate::error::ApiError;
use crate::llm::responses::ResponsesRequest;

mod decode;
mod splice;

/// Path below the provider's base URL.
const PATH: &str = "/responses";

/// The request of one attempt.
///
/// # Errors
/// A 400 that names a setting of the route's that is lost, where the route refuses that, or instructions that are no text.
pub(super) fn encode(request: &ResponsesRequest<'_>, quirks: &Quirks) -> Result<Outgoing, ApiError> {
    let (body, settled) = splice::body(request)?;
    let decoder = decode::Decoder::new(quirks.completion_excludes_reasoning, request.functions.clone());
    Ok(Outgoing::new(PATH, body, settled, Box::new(decoder)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dialect::shared::testing::quirks;
    use crate::llm::envelope::{ChatRequest, Parsed};
    use crate::llm::settings::Params;
    use std::sync::Arc;

    #[test]
    fn a_request_passes_to_the_providers_own_path_and_its_answer_comes_back_as_it_is() {
        let parsed = Parsed::scan(r#"{"model":"r","input":"Hi"}"#.into()).unwrap();
        let params = Params { overrides: vec![("seed".into(), "1".into())], ..Params::default() };
        let base = ChatRequest { parsed: &parsed, params: &params, system: None, model: "gpt", seal: None };
        let request = ResponsesRequest { base, functions: &Arc::default() };
        let outgoing = encode(&request, &quirks("{}")).unwrap();
        assert_eq!((outgoing.path.as_str(), &*outgoing.body.joined()), ("/responses", br#"{"model":"gpt","input":"Hi"}"#.as_slice()));
        assert!(outgoing.decoder.is_native() && outgoing.headers.is_empty());
        assert_eq!(outgoing.dropped, ["seed"]);
    }
}
