//! Parts of a conversation that the gateway sealed for another provider, which none but that one can read.

use crate::error::ApiError;
use crate::json::splice::{Element, elements};
use crate::json::walk;
use crate::llm::state::{self, MARK};

/// Whether an element of a conversation is an object of this type whose `member` the gateway sealed.
///
/// # Errors
/// Where it cannot be read.
pub fn is_sealed(element: &str, kind: &str, member: &str) -> Result<bool, ApiError> {
    if !element.starts_with('{') || !state::may_be_in(element) {
        return Ok(false);
    }
    let text = walk::member(element, member)?.and_then(walk::string);
    Ok(text.is_some_and(|text| text.decode().starts_with(MARK)) && is_kind(element, kind)?)
}

/// Whether an element of a conversation is an object of this type.
///
/// # Errors
/// Where it cannot be read.
pub fn is_kind(element: &str, kind: &str) -> Result<bool, ApiError> {
    let found = if element.starts_with('{') { walk::member(element, "type")? } else { None };
    Ok(found.and_then(walk::string).is_some_and(|text| text.decode() == kind))
}

/// The array without the elements that `is_removed`; `None` where all of them stay.
///
/// # Errors
/// Where it cannot be read.
pub fn without(array: &str, is_removed: impl Fn(&str) -> Result<bool, ApiError>) -> Result<Option<String>, ApiError> {
    elements(array, |element| Ok(if is_removed(element)? { Element::Removed } else { Element::Kept }))
}
