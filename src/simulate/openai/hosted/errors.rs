//! The forms of errors, each as its service documents it or has been seen to answer.

use crate::simulate::dialect::Refusal;
use crate::simulate::openai::{Service, error};
use serde_json::{Value, json};

/// The form of a service's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulate::openai) enum Shape {
    /// `{"error":{"message","type","param","code"}}`.
    OpenAi,
    /// The same with words of its own for what the service itself refuses: "DeploymentNotFound", "401".
    /// <https://learn.microsoft.com/azure/ai-services/openai/reference>
    Azure,
    /// `{"error":{"code":400,"message","metadata"}}`. <https://openrouter.ai/docs/api-reference/errors>
    OpenRouter,
    /// `{"error":{"message","type":"invalid_message","code":400}}`. <https://github.com/perplexityai/api-discussion/issues/265>
    Perplexity,
    /// vLLM's, which is the engine: the type is a class, the code the status.
    Nim,
    /// FastAPI's: 422 with `{"detail":[{"loc","msg","type"}]}`. <https://docs.deepinfra.com/api-reference/openai-chat-completions-1>
    DeepInfra,
    /// `{"error":{"code":"1210","message"}}`. <https://docs.z.ai/api-reference/api-code>
    Zhipu,
    /// `{"base_resp":{"status_code","status_msg"}}`. <https://platform.minimax.io/docs/api-reference/text-chat>
    MiniMax,
    /// OpenAI's with the id of the request beside it. <https://www.alibabacloud.com/help/en/model-studio/error-code>
    DashScope,
    /// 422 with `{"message":"unknown field: parameter 'x' is not a valid field"}`.
    /// <https://github.com/OpenRouterTeam/openrouter-examples/issues/71>
    Cohere,
    /// OpenAI's without a code. <https://github.com/ollama/ollama/blob/main/openai/openai.go>, `NewError`
    Ollama,
    /// `{"error_code":"BAD_REQUEST","message"}`. <https://github.com/BerriAI/litellm/pull/31633>
    Databricks,
}

impl Shape {
    /// The status of a refusal; services that check a body by its schema have another one for its faults.
    pub(super) fn status(self, refusal: &Refusal) -> u16 {
        match self {
            Self::DeepInfra | Self::Cohere if refusal.param.is_some() => 422,
            _ => refusal.status,
        }
    }

    /// The body of an error answer.
    pub(super) fn body(self, refusal: &Refusal) -> Value {
        let Refusal { status, code, param, message, .. } = refusal;
        let code_or_null = if code.is_empty() { Value::Null } else { json!(code) };
        let kind = match status {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        match self {
            Self::OpenAi => json!({ "error": { "message": message, "type": kind, "param": param, "code": code_or_null } }),
            Self::Azure => match status {
                404 => {
                    json!({ "error": { "code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist." } })
                }
                401 | 403 | 429 => json!({ "error": { "code": status.to_string(), "message": message } }),
                _ => json!({ "error": { "message": message, "type": kind, "param": param, "code": code_or_null } }),
            },
            Self::OpenRouter => json!({ "error": { "code": status, "message": message, "metadata": {} }, "user_id": "user_sim" }),
            Self::Perplexity => {
                let kind =
                    if param.as_ref().is_some_and(|param| param.starts_with("messages")) { "invalid_message" } else { "invalid_parameter" };
                json!({ "error": { "message": message, "type": kind, "code": status } })
            }
            Self::Nim => error::body(Service::Vllm, refusal),
            Self::DeepInfra => match param {
                Some(param) => json!({ "detail": [{ "loc": ["body", param], "msg": message, "type": "value_error" }] }),
                None => json!({ "detail": message }),
            },
            Self::Zhipu => {
                let number = match status {
                    401 => "1002",
                    429 => "1302",
                    404 => "1211",
                    500.. => "500",
                    _ => "1210",
                };
                json!({ "error": { "code": number, "message": message } })
            }
            Self::MiniMax => {
                let number = match status {
                    401 => 1004,
                    429 => 1002,
                    500.. => 1000,
                    _ => 2013,
                };
                json!({ "base_resp": { "status_code": number, "status_msg": message } })
            }
            Self::DashScope => json!({
                "error": { "message": message, "type": kind, "param": param, "code": if *status == 400 { json!("invalid_parameter_error") } else { code_or_null } },
                "request_id": "sim",
            }),
            Self::Cohere => match param {
                Some(param) if code == &"unknown_parameter" => {
                    json!({ "message": format!("unknown field: parameter '{param}' is not a valid field") })
                }
                _ => json!({ "id": "sim", "message": message }),
            },
            Self::Ollama => {
                let kind = match status {
                    400 => "invalid_request_error",
                    404 => "not_found_error",
                    _ => "api_error",
                };
                json!({ "error": { "message": message, "type": kind, "param": null, "code": null } })
            }
            Self::Databricks => {
                let word = match status {
                    401 => "UNAUTHENTICATED",
                    403 => "PERMISSION_DENIED",
                    404 => "ENDPOINT_NOT_FOUND",
                    429 => "REQUEST_LIMIT_EXCEEDED",
                    500.. => "INTERNAL_ERROR",
                    _ => "BAD_REQUEST",
                };
                json!({ "error_code": word, "message": message })
            }
        }
    }
}
