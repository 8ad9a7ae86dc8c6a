//! AWS errors: a message in the body and the kind of error in a header, or both in a frame of a stream.

use crate::dialect::shared::blame::Names;
use crate::dialect::shared::refusal;
use crate::frame::Frame;
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use http::HeaderMap;
use serde::Deserialize;
use std::borrow::Cow;

/// What Converse calls the client's fields. A Claude's own refusals come through in Anthropic's names.
pub(in crate::dialect) const NAMES: Names = &[
    ("messages#", "messages#"),
    ("system", "messages"),
    ("inferenceConfig.maxTokens", "max_tokens"),
    ("inferenceConfig.temperature", "temperature"),
    ("inferenceConfig.topP", "top_p"),
    ("inferenceConfig.stopSequences", "stop"),
    ("toolConfig", "tools"),
    ("toolConfig.tools#", "tools#"),
    ("toolConfig.tools#.toolSpec", "tools#.function"),
    ("toolConfig.tools#.toolSpec.name", "tools#.function.name"),
    ("toolConfig.tools#.toolSpec.description", "tools#.function.description"),
    ("toolConfig.tools#.toolSpec.inputSchema", "tools#.function.parameters"),
    ("toolConfig.toolChoice", "tool_choice"),
    ("outputConfig", "response_format"),
    ("requestMetadata", "metadata"),
    ("serviceTier", "service_tier"),
    ("additionalModelRequestFields.tool_choice", "parallel_tool_calls"),
    ("additionalModelRequestFields.thinking", "reasoning_effort"),
    ("additionalModelRequestFields.output_config", "reasoning_effort"),
    ("additionalModelRequestFields.reasoning_effort", "reasoning_effort"),
    ("additionalModelRequestFields.reasoning_config", "reasoning_effort"),
    ("inputText", "input"),
    ("inputTexts", "input"),
    ("texts", "input"),
];

/// An error's body. `message` is written in two ways, and the kind may stand here instead of in a header.
#[derive(Default, Deserialize)]
pub(in crate::dialect) struct WireError<'a> {
    message: Option<Cow<'a, str>>,
    #[serde(rename = "Message")]
    capital: Option<Cow<'a, str>>,
    #[serde(rename = "__type")]
    kind: Option<Cow<'a, str>>,
    /// SageMaker: what broke a stream.
    /// <https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_ModelStreamError.html>
    #[serde(rename = "ErrorCode")]
    code: Option<Cow<'a, str>>,
    /// SageMaker: the status of the container's own answer.
    #[serde(rename = "OriginalStatusCode")]
    pub(in crate::dialect) original_status: Option<u16>,
    /// SageMaker: the container's own answer.
    #[serde(rename = "OriginalMessage")]
    pub(in crate::dialect) original_message: Option<Cow<'a, str>>,
}

impl WireError<'_> {
    /// What the body says of itself.
    pub(in crate::dialect) fn message(&self) -> Option<&str> {
        self.message.as_deref().or(self.capital.as_deref()).filter(|text| !text.is_empty())
    }
}

/// Reads a refusal; `body` may be anything.
pub(in crate::dialect) fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
    let wire: WireError<'_> = serde_json::from_slice(body).unwrap_or_default();
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let kind = header.or(wire.kind.as_deref()).unwrap_or_default();
    let message = wire.message().map_or_else(|| refusal::text(status, body), str::to_owned);
    let class = class(kind).unwrap_or_else(|| FailureClass::of_status(status));
    ProviderError { retry_after: refusal::from_headers(headers), ..ProviderError::new(class, message) }
}

/// The failure that a frame of an event stream is; `None` for an event.
pub(in crate::dialect) fn failure(frame: Frame<'_>) -> Option<Fault> {
    match frame {
        Frame::Aws { message_type: "exception" | "error", kind, error_message, payload } => {
            Some(Fault::Provider(exception(kind, error_message, payload)))
        }
        _ => None,
    }
}

fn exception(kind: &str, message: &str, payload: &[u8]) -> ProviderError {
    let wire: WireError<'_> = serde_json::from_slice(payload).unwrap_or_default();
    let message = match (wire.message(), message) {
        (Some(text), _) => text.to_owned(),
        (None, "") => format!("the provider ended its answer with {kind}"),
        (None, text) => text.to_owned(),
    };
    let class = wire.code.as_deref().and_then(class).or_else(|| class(kind));
    ProviderError::new(class.unwrap_or(FailureClass::Server), message)
}

/// The class of an exception by its name, which is written `ThrottlingException`, `throttlingException`,
/// `ThrottlingException:http://internal.amazon.com/coral/…` or `com.amazon.coral.service#ThrottlingException`.
fn class(kind: &str) -> Option<FailureClass> {
    let kind = kind.split(':').next().unwrap_or_default();
    let name = kind.rsplit('#').next().unwrap_or(kind).to_ascii_lowercase();
    let name = name.strip_suffix("exception").unwrap_or(&name);
    Some(match name {
        "validation" | "validationerror" => FailureClass::BadRequest,
        "accessdenied"
        | "unrecognizedclient"
        | "invalidsignature"
        | "expiredtoken"
        | "incompletesignature"
        | "missingauthenticationtoken"
        | "invalidclienttokenid" => FailureClass::Credential,
        "resourcenotfound" => FailureClass::NotFound,
        "throttling" | "toomanyrequests" | "modelnotready" => FailureClass::RateLimited,
        "serviceunavailable" => FailureClass::Overloaded,
        "modeltimeout" | "modelinvocationtimeexceeded" => FailureClass::Timeout,
        "internalserver" | "internalfailure" | "internalstreamfailure" | "modelstreamerror" | "internaldependency" => FailureClass::Server,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(kind: &'static str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert("x-amzn-errortype", http::HeaderValue::from_static(kind));
        map
    }

    #[test]
    fn the_kind_decides_and_the_status_where_there_is_none() {
        for (status, kind, want) in [
            (400, "ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/", FailureClass::BadRequest),
            (400, "ThrottlingException", FailureClass::RateLimited),
            (400, "ExpiredTokenException:", FailureClass::Credential),
            (403, "InvalidSignatureException", FailureClass::Credential),
            (404, "ResourceNotFoundException", FailureClass::NotFound),
            (408, "ModelTimeoutException", FailureClass::Timeout),
            (424, "ModelErrorException", FailureClass::Server),
            (429, "ModelNotReadyException", FailureClass::RateLimited),
            (503, "ServiceUnavailableException", FailureClass::Overloaded),
            (429, "BrandNewException", FailureClass::RateLimited),
            (500, "", FailureClass::Server),
        ] {
            let error = read(status, &headers(kind), br#"{"message":"m"}"#);
            assert_eq!((error.class, error.message.as_str()), (want, "m"), "{kind}");
        }
        let body = br#"{"__type":"com.amazon.coral.service#ThrottlingException","Message":"slow"}"#;
        let error = read(400, &HeaderMap::new(), body);
        assert_eq!((error.class, error.message.as_str()), (FailureClass::RateLimited, "slow"));
    }

    #[test]
    fn a_broken_streams_code_says_more_than_its_kind() {
        for (code, want) in [("ModelInvocationTimeExceeded", FailureClass::Timeout), ("StreamBroken", FailureClass::Server)] {
            let error = exception("ModelStreamError", "", format!(r#"{{"Message":"died","ErrorCode":"{code}"}}"#).as_bytes());
            assert_eq!((error.class, error.message.as_str()), (want, "died"));
        }
    }

    #[test]
    fn any_body_gives_a_message() {
        for (body, want) in
            [(&b""[..], "the provider answered 502 without a message"), (b"<html>", "<html>"), (b"[1]", "[1]"), (b"\xff", "\u{fffd}")]
        {
            assert_eq!(read(502, &HeaderMap::new(), body).message, want);
        }
    }
}
