//! What is known of every provider kind: `catalogue.yaml`, read once.

/// How the OpenAI dialect differs at one provider: a closed set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quirks {}
