//! The embedded provider simulator: every provider's wire protocol with no key and no network.
//!
//! It is a second, independent HTTP implementation (hyper, not Pingora), so that a mistake of the gateway does not meet
//! its own mirror image. Each provider is under a path prefix where its real base URL would be:
//!
//! | base URL | speaks as |
//! | --- | --- |
//! | `/openai/v1` | api.openai.com |
//! | `/together/v1`, `/fireworks/inference/v1`, `/hyperbolic/v1`, `/xai/v1` | those services |
//! | `/deepseek` (also `/deepseek/v1`, `/deepseek/beta`) | api.deepseek.com |
//! | `/vllm/v1`, `/vllm_legacy/v1`, `/sglang/v1` | a self-hosted vLLM from 0.12, one before, SGLang |
//! | `/openai_compatible/v1`, `/v1` | any other server that speaks OpenAI |
//! | `/azure_openai/openai/v1`, `/azure_openai/openai/deployments/…` | Azure OpenAI, v1 and before |
//! | `/openrouter/api/v1`, `/groq/openai/v1`, `/cerebras/v1`, `/perplexity`, `/nvidia_nim/v1`, `/deepinfra/v1/openai` | those services |
//! | `/moonshot/v1`, `/zhipu/api/paas/v4`, `/minimax/v1`, `/dashscope/compatible-mode/v1`, `/cohere/compatibility/v1` | those services |
//! | `/databricks/serving-endpoints`, `/github_models/inference`, `/ollama/v1`, `/lm_studio/v1` | those services and servers |
//! | `/mistral/v1` | api.mistral.ai |
//! | `/anthropic` | api.anthropic.com |
//! | `/bedrock` | bedrock-runtime: Converse and ConverseStream, InvokeModel for Claude |
//! | `/sagemaker` | runtime.sagemaker, with a container that speaks OpenAI's chat or TGI's `generate`, as the body does |
//! | `/google_ai_studio` | generativelanguage.googleapis.com |
//! | `/vertex` | aiplatform.googleapis.com: Gemini, Claude and `endpoints/openapi`; `/vertex/token` gives out tokens |
//!
//! After the base comes the service's own path: `/chat/completions`, or `/embeddings` where an OpenAI-like service or Mistral
//! has them, `/completions`, `/moderations`, `/images/…`, `/audio/…` and `/rerank` where they have those, `/responses` at OpenAI, xAI, vLLM from 0.12 and other servers that speak OpenAI, `:embedContent` and its like at Google's, `/v1/messages`, `/model/ID/converse` and so on. A model in a path is percent-decoded; `+` is itself there.
//!
//! - It refuses what the real service refuses, in that service's error shape. Good keys are those that begin with `sk-`,
//!   at Google AI Studio `AIza`, at Bedrock `ABSK` or `bedrock-api-key-`; access tokens at Azure begin with `eyJ`; the
//!   self-hosted kinds need none. AWS signatures
//!   are looked at, and verified where they are made with [`DEMO_KEY_ID`]; Vertex AI takes [`DEMO_TOKEN`] and the
//!   tokens that it gave out.
//! - Thoughts are signed where the service signs them, and a turn of tool results must bring them back unchanged. Encrypted
//!   reasoning of the Responses API is accepted only by the service that made it.
//! - What the services take beyond this and the gateway does not send is refused too: server-side tools, Gemini's
//!   streams without `alt=sse`, counters of tokens.
//! - Answers are deterministic: the same request gets the same bytes. `reply` says what is answered, [`script`] how a
//!   model's name asks for failures, pauses and sizes (`gpt-4o+once+status=503`, `sim+chunks=100+pace=10ms`).
//! - `GET /_simulator/requests?last=N` shows what arrived, `GET /healthz` that it lives.
//!
//! ```text
//! server: accept, record, read the body
//!    -> a dialect reads it into an Ask (or refuses)
//!    -> reply decides what is said
//!    -> the dialect writes it: one body, or events
//!    -> play adds the script's pauses and troubles
//!    -> body sends it, and notices a client that leaves
//! ```
//!
//! A further dialect is one more implementation of `dialect::Dialect`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it plays providers, and no gateway waits for its threads")]

mod anthropic;
mod ask;
mod aws;
mod bedrock;
mod body;
mod dialect;
mod embed;
mod gemini;
mod grammar;
mod mistral;
mod multipart;
mod openai;
mod pattern;
mod play;
mod reply;
mod sagemaker;
mod sample;
pub mod script;
pub mod seen;
mod server;
mod shape;
mod signature;
mod vertex;

#[cfg(test)]
mod tests;

pub use aws::{DEMO_KEY_ID, DEMO_SECRET};
pub use seen::{Ending, Seen, SeenBody};
pub use server::{Handle, MAX_BODY, MAX_CONNECTIONS, Simulator};
pub use vertex::token::DEMO_TOKEN;

/// Whether a service answers at a path.
#[cfg(test)]
pub(crate) fn plays(path: &str) -> bool {
    dialect::find(path).is_some()
}
