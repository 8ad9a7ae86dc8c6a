//! OpenAI's chat completions: the rules that are OpenAI's, the two writers of an answer, in chunks and whole, and errors.

pub mod chunk;
pub mod completion;
pub mod error;
pub mod head;
mod merge;
pub mod request;
pub mod rules;
pub mod tools;
pub mod usage;
