//! The front dialect, OpenAI chat completions: what a request says, what an answer is made of, what a correct
//! stream is, and the two writers (chunks, completion) that tell it to the client.

pub mod event;
pub mod field;
pub mod request;
pub mod usage;
mod validate;
