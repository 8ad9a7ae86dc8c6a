//! Embeddings: texts in, one vector each out.
//!
//! They share everything with chat but their shape: [`request`] is the view of what the client asks, [`answer`] reads a
//! provider's whole answer and holds it to that, [`vector`] puts a vector into the form the client wants, and
//! [`writer`] tells it. What providers make of them is in the dialects.

pub mod request;

pub mod answer;
pub mod vector;
pub mod writer;
