//! The front dialect, OpenAI chat completions: what a request says, what an answer is made of, what a correct
//! stream is, and the two writers (chunks, completion) that tell it to the client.

pub mod field;
pub mod request;
pub mod validate;

pub mod cache;
pub mod constraint;
pub mod link;
mod merge;
pub mod message;
pub mod strict;
pub mod tool;

pub mod event;
pub mod finish;
pub mod usage;
pub mod words;

pub mod law;

pub mod chunk;
pub mod completion;
pub mod head;
