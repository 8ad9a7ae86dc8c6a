//! What a route sets for every request.

use super::adjustments::Adjustments;

/// How a route's model parameters are completed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// Field and raw JSON, used where the client gives none.
    pub defaults: Vec<(String, String)>,
    /// Field and raw JSON, used whatever the client gives.
    pub overrides: Vec<(String, String)>,
    /// Whether a parameter without a counterpart is a 400 instead of being dropped.
    pub reject_unsupported: bool,
    /// What the target of an attempt has taught; nothing of the configuration.
    pub adjustments: Adjustments,
}
