//! stub
#![allow(missing_docs)]
use std::borrow::Cow;
pub fn redact(s: &str) -> Cow<'_, str> {
    Cow::Borrowed(s)
}
