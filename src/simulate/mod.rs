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
//!
//! After the base comes `/chat/completions`, or `/embeddings` where the service has them.
//!
//! - It refuses what the real service refuses, in that service's error shape. Any key that begins with `sk-` is good;
//!   the self-hosted kinds need none.
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

pub use seen::{Ending, Seen, SeenBody};
pub use server::{Handle, MAX_BODY, MAX_CONNECTIONS, Simulator};
