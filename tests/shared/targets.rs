//! One target of every kind of provider, as a configuration makes them.

use std::sync::Arc;
use tidegate::config::{self, snapshot::Snapshot};
use tidegate::provider::{ModelName, Target};

/// Each route has the one target that it is named after.
pub const CONFIGURATION: &str = r#"
auth: none
providers:
  openai: { kind: openai, api_key: k }
  openai-responses: { kind: openai, api_key: k, api: responses }
  together: { kind: together, api_key: k }
  deepseek: { kind: deepseek, api_key: k }
  fireworks: { kind: fireworks, api_key: k }
  hyperbolic: { kind: hyperbolic, api_key: k }
  xai: { kind: xai, api_key: k }
  vllm: { kind: vllm, base_url: "http://127.0.0.1:1/v1" }
  vllm-legacy: { kind: vllm, base_url: "http://127.0.0.1:1/v1", guided: legacy }
  sglang: { kind: vllm, base_url: "http://127.0.0.1:1/v1", guided: sglang }
  compatible: { kind: openai_compatible, base_url: "http://127.0.0.1:1/v1", api_key: k }
  anthropic: { kind: anthropic, api_key: k }
  bedrock: { kind: bedrock, region: us-east-1, api_key: k }
  sagemaker: { kind: sagemaker, region: us-east-1 }
  vertex: { kind: vertex, project: p, location: us-central1, access_token: t }
  gemini: { kind: google_ai_studio, api_key: k }
  mistral: { kind: mistral, api_key: k }
routes:
  openai: { targets: [ { provider: openai, model: gpt-5 } ] }
  openai-responses: { targets: [ { provider: openai-responses, model: gpt-5 } ] }
  together: { targets: [ { provider: together, model: Qwen/Qwen3-32B } ] }
  deepseek: { targets: [ { provider: deepseek, model: deepseek-chat } ] }
  fireworks: { targets: [ { provider: fireworks, model: accounts/fireworks/models/qwen3-32b } ] }
  hyperbolic: { targets: [ { provider: hyperbolic, model: Qwen/Qwen3-32B } ] }
  xai: { targets: [ { provider: xai, model: grok-4 } ] }
  vllm: { targets: [ { provider: vllm, model: Qwen/Qwen3-4B } ] }
  vllm-legacy: { targets: [ { provider: vllm-legacy, model: Qwen/Qwen3-4B } ] }
  sglang: { targets: [ { provider: sglang, model: Qwen/Qwen3-4B } ] }
  compatible: { targets: [ { provider: compatible, model: m } ] }
  compatible-think: { targets: [ { provider: compatible, model: m, think_tags: split } ] }
  anthropic: { targets: [ { provider: anthropic, model: claude-sonnet-4-5 } ] }
  anthropic-adaptive: { targets: [ { provider: anthropic, model: claude-opus-4-6 } ] }
  anthropic-tool: { targets: [ { provider: anthropic, model: claude-sonnet-4-20250514, structured_output: tool } ] }
  bedrock: { targets: [ { provider: bedrock, model: "us.anthropic.claude-sonnet-4-5-20250929-v1:0" } ] }
  bedrock-tool: { targets: [ { provider: bedrock, model: "anthropic.claude-sonnet-4-20250514-v1:0", structured_output: tool } ] }
  bedrock-nova: { targets: [ { provider: bedrock, model: "amazon.nova-lite-v1:0" } ] }
  sagemaker: { targets: [ { provider: sagemaker, model: chat, format: openai_chat } ] }
  sagemaker-tgi: { targets: [ { provider: sagemaker, model: llama3, format: tgi } ] }
  sagemaker-llama2: { targets: [ { provider: sagemaker, model: llama2, format: llama2_chat } ] }
  vertex: { targets: [ { provider: vertex, model: gemini-2.5-flash } ] }
  vertex-anthropic: { targets: [ { provider: vertex, model: anthropic/claude-sonnet-4-5 } ] }
  vertex-other: { targets: [ { provider: vertex, model: meta/llama-4-scout } ] }
  gemini: { targets: [ { provider: gemini, model: gemini-2.5-pro } ] }
  mistral: { targets: [ { provider: mistral, model: mistral-small-latest } ] }
  titan-embed: { targets: [ { provider: bedrock, model: "amazon.titan-embed-text-v2:0" } ] }
  cohere-embed: { targets: [ { provider: bedrock, model: "cohere.embed-v4:0" } ] }
  gemini-embed: { targets: [ { provider: gemini, model: gemini-embedding-001 } ] }
  vertex-embed: { targets: [ { provider: vertex, model: text-embedding-005 } ] }
  hf-embed: { targets: [ { provider: sagemaker, model: e, format: hf_embedding } ] }
  tei-embed: { targets: [ { provider: sagemaker, model: e, format: tei_embedding } ] }
  "team/*": { targets: [ { provider: compatible, model: "*" } ] }
"#;

/// The configuration as requests see it.
pub fn snapshot() -> Snapshot {
    match config::parse(CONFIGURATION, "targets.yaml", &|_| None) {
        Ok(loaded) => loaded.snapshot,
        Err(problems) => panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>()),
    }
}

/// The targets with fixed models, each under its route's name.
pub fn all() -> Vec<(Arc<str>, Arc<Target>)> {
    let fixed = |target: &&Arc<Target>| matches!(target.model, ModelName::Fixed(_));
    snapshot().routes.iter().filter_map(|route| Some((route.name.clone(), route.targets.first().filter(fixed)?.clone()))).collect()
}

/// The model of a target whose model is fixed.
pub fn model(target: &Target) -> &str {
    let (ModelName::Fixed(name) | ModelName::Pattern(name)) = &target.model;
    name
}
