//! The head of an answer that passes as it is: the provider's status, and of its headers those that describe the body.

use super::respond;
use super::response_headers::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use crate::relay::passed::Content;
use http::{HeaderMap, HeaderValue};

/// What is kept of a provider's head. Its other headers speak of the provider, not of the answer.
pub struct PassedHead {
    /// 200 to 299.
    pub status: u16,
    /// What the body is.
    pub content: Content,
    content_type: Option<HeaderValue>,
    content_disposition: Option<HeaderValue>,
    /// The body's length, where the provider says it and the body passes as it comes.
    length: Option<HeaderValue>,
}

impl PassedHead {
    /// `is_encoded`: whether the body is decoded on the way, so that its length is another one.
    pub fn of(status: u16, headers: &HeaderMap, is_encoded: bool) -> Self {
        let content_type = headers.get(CONTENT_TYPE);
        let content = content_type.map_or(Content::Bytes, |value| Content::of(value.as_bytes()));
        Self {
            status,
            content,
            content_type: content_type.cloned(),
            content_disposition: headers.get(CONTENT_DISPOSITION).cloned(),
            length: headers.get(CONTENT_LENGTH).filter(|_| content != Content::Events && !is_encoded).cloned(),
        }
    }

    /// Adds the headers; `whole`: the length of the body, in bytes, where all of it is there.
    pub fn add_to(&self, headers: &mut HeaderMap, whole: Option<usize>) {
        if self.content == Content::Events {
            respond::stream_headers(headers);
        } else if let Some(length) = whole.map(HeaderValue::from).or(self.length.clone()) {
            headers.insert(CONTENT_LENGTH, length);
        } else {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        for (name, value) in [(CONTENT_TYPE, &self.content_type), (CONTENT_DISPOSITION, &self.content_disposition)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }
}
