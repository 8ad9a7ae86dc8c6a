//! Where a value stands in a client's request.

use crate::error::ApiError;
use std::fmt;

/// Where a value stands in the client's request, in the client's words: `messages[3].content[1]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// The member of the request.
    pub list: &'static str,
    /// The number in it, where the value stands in a list of such.
    pub index: Option<usize>,
    /// A member there.
    pub member: &'static str,
    /// The number in that member, where it is a list.
    pub inner: Option<usize>,
    /// A member there.
    pub leaf: &'static str,
}

impl Path {
    /// A list's element.
    pub const fn element(list: &'static str, index: usize) -> Self {
        Self { index: Some(index), ..Self::top(list) }
    }

    /// A member of the request.
    pub const fn top(list: &'static str) -> Self {
        Self { list, index: None, member: "", inner: None, leaf: "" }
    }

    /// A member of it.
    #[must_use]
    pub const fn member(self, member: &'static str) -> Self {
        Self { member, ..self }
    }

    /// An element of that member.
    #[must_use]
    pub const fn inner(self, index: usize) -> Self {
        Self { inner: Some(index), ..self }
    }

    /// A member of that.
    #[must_use]
    pub const fn leaf(self, leaf: &'static str) -> Self {
        Self { leaf, ..self }
    }

    /// A 400 that blames the value here.
    pub fn refused(self, what: &str) -> ApiError {
        let path = self.to_string();
        let message = format!("`{path}`: {what}");
        ApiError::field(path, message)
    }

    /// A 400 that continues the path with a verb.
    pub fn refused_as(self, what: &str) -> ApiError {
        let path = self.to_string();
        let message = format!("`{path}` {what}");
        ApiError::field(path, message)
    }

    /// A 400 for a value that must be something else.
    pub fn must_be(self, what: &str) -> ApiError {
        self.refused_as(&format!("must be {what}"))
    }

    /// A 400 for a value that is missing.
    pub fn missing(self) -> ApiError {
        self.refused_as("is missing")
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.list)?;
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        if !self.member.is_empty() {
            write!(f, ".{}", self.member)?;
        }
        if let Some(inner) = self.inner {
            write!(f, "[{inner}]")?;
        }
        if !self.leaf.is_empty() {
            write!(f, ".{}", self.leaf)?;
        }
        Ok(())
    }
}
