//! Anthropic's Messages API: at Anthropic itself, and for Claude models on Vertex AI and Bedrock's InvokeModel.

pub mod decode;
pub mod error;
mod replay;
mod wire;
