//! The services, each with where its rules are from.

use super::errors::Shape;
use super::{Hosted, Key};

/// What Zhipu's chat completions know: <https://docs.z.ai/api-reference/llm/chat-completion>.
const ZHIPU: [&str; 16] = [
    "do_sample",
    "max_tokens",
    "messages",
    "model",
    "reasoning_effort",
    "request_id",
    "response_format",
    "stop",
    "stream",
    "temperature",
    "thinking",
    "tool_choice",
    "tool_stream",
    "tools",
    "top_p",
    "user_id",
];

/// All of them.
pub(super) static HOSTED: [Hosted; 17] = [
    // The models are OpenAI's; https://learn.microsoft.com/azure/ai-services/openai/reference has the two ways to pay.
    Hosted { base: "/azure_openai/openai/v1", key: Key::Azure, responds: true, shape: Shape::Azure, ..Hosted::OPEN },
    Hosted { base: "/azure_openai/openai/deployments", key: Key::Azure, is_by_deployment: true, shape: Shape::Azure, ..Hosted::OPEN },
    Hosted { base: "/openrouter/api/v1", reasoning: "reasoning", shape: Shape::OpenRouter, ..Hosted::OPEN },
    // https://console.groq.com/docs/openai: "will result in a 400 error (yikes) if they are supplied"
    Hosted {
        base: "/groq/openai/v1",
        refused: &["logprobs", "logit_bias", "top_logprobs"],
        takes_n: false,
        takes_names: false,
        reasoning: "reasoning",
        embeds: false,
        ..Hosted::OPEN
    },
    // https://inference-docs.cerebras.ai/resources/openai: the same, and "does not expose `developer`"
    Hosted {
        base: "/cerebras/v1",
        refused: &["frequency_penalty", "logit_bias", "presence_penalty"],
        roles: &["system"],
        reasoning: "reasoning",
        embeds: false,
        ..Hosted::OPEN
    },
    // https://github.com/perplexityai/perplexity-py, the types; roles: https://github.com/BerriAI/litellm/issues/11665
    Hosted {
        base: "/perplexity",
        roles: &["system"],
        choices: &["none", "auto", "required"],
        efforts: &["minimal", "low", "medium", "high"],
        formats: &["text", "json_schema", "regex"],
        embeds: false,
        shape: Shape::Perplexity,
        ..Hosted::OPEN
    },
    Hosted { base: "/nvidia_nim/v1", shape: Shape::Nim, ..Hosted::OPEN },
    // https://docs.deepinfra.com/api-reference/openai-chat-completions-1
    Hosted {
        base: "/deepinfra/v1/openai",
        refused: &["max_completion_tokens"],
        roles: &["system"],
        shape: Shape::DeepInfra,
        ..Hosted::OPEN
    },
    // https://platform.moonshot.ai/docs/api/chat; thinking: the errors that it answers
    Hosted {
        base: "/moonshot/v1",
        hottest: 1.0,
        roles: &["system"],
        parts: &["image_url", "video_url"],
        thinkers: &["kimi-k2.", "kimi-k3", "thinking"],
        needs_reasoning_back: true,
        embeds: false,
        ..Hosted::OPEN
    },
    // https://docs.z.ai/api-reference/llm/chat-completion
    Hosted {
        base: "/zhipu/api/paas/v4",
        known: &ZHIPU,
        hottest: 1.0,
        roles: &["system"],
        takes_names: false,
        parts: &["image_url", "video_url", "file_url"],
        choices: &["auto"],
        formats: &["text", "json_object"],
        needs_stop_list: true,
        shape: Shape::Zhipu,
        ..Hosted::OPEN
    },
    // https://platform.minimax.io/docs/api-reference/text-openai-api, "Important Notes"
    Hosted {
        base: "/minimax/v1",
        refused: &["function_call", "functions"],
        hottest: 1.0,
        takes_n: false,
        parts: &[],
        embeds: false,
        shape: Shape::MiniMax,
        ..Hosted::OPEN
    },
    // https://www.alibabacloud.com/help/en/model-studio/qwen-api-reference: temperature is less than 2
    Hosted {
        base: "/dashscope/compatible-mode/v1",
        refused: &["max_completion_tokens"],
        hottest: 1.999,
        roles: &["system"],
        choices: &["none", "auto", "named"],
        top_logprobs: 5,
        thinkers: &["thinking", "qwen3"],
        shape: Shape::DashScope,
        ..Hosted::OPEN
    },
    // https://docs.cohere.com/docs/compatibility-api, "Unsupported parameters"
    Hosted {
        base: "/cohere/compatibility/v1",
        refused: &[
            "store",
            "metadata",
            "logit_bias",
            "top_logprobs",
            "n",
            "modalities",
            "prediction",
            "audio",
            "service_tier",
            "parallel_tool_calls",
        ],
        efforts: &["none", "high"],
        refused_embedding: &["dimensions", "user"],
        shape: Shape::Cohere,
        ..Hosted::OPEN
    },
    // https://github.com/ollama/ollama/blob/main/openai/openai.go; what it does not know, the real one ignores
    Hosted {
        base: "/ollama/v1",
        key: Key::Open,
        refused: &["logit_bias", "max_completion_tokens", "n", "user"],
        parts: &["image_url"],
        choices: &["auto"],
        efforts: &["high", "medium", "low", "none"],
        reasoning: "reasoning",
        refused_embedding: &["user"],
        shape: Shape::Ollama,
        ..Hosted::OPEN
    },
    Hosted { base: "/lm_studio/v1", key: Key::Open, responds: true, ..Hosted::OPEN },
    Hosted { base: "/databricks/serving-endpoints", shape: Shape::Databricks, ..Hosted::OPEN },
    // https://docs.github.com/en/rest/models/inference
    Hosted {
        base: "/github_models/inference",
        hottest: 1.0,
        choices: &["auto", "required", "none"],
        needs_stop_list: true,
        ..Hosted::OPEN
    },
];
