//! OpenAI's errors: `{"error":{"message":…,"type":…,"param":…,"code":…}}`, with the HTTP status as `code`, so that every
//! client library can read them on every path. Embeddings have the same ones.

use crate::error::ApiError;

/// The body of a response.
pub fn body(error: &ApiError) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Wire<'a> {
        message: &'a str,
        r#type: &'a str,
        param: Option<&'a str>,
        code: u16,
    }
    #[derive(serde::Serialize)]
    struct Outer<'a> {
        error: Wire<'a>,
    }
    let error = Wire { message: &error.message, r#type: error.kind.name(), param: error.param.as_deref(), code: error.status };
    serde_json::to_vec(&Outer { error }).unwrap_or_default()
}

/// The event that ends a stream which cannot be completed.
pub fn event(error: &ApiError) -> Vec<u8> {
    [b"data: ".as_slice(), &body(error), b"\n\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_shape_is_openais_with_the_status_as_code() {
        let e = ApiError::field("temperature", "`temperature` must be a number, \"hot\" is none");
        assert_eq!(
            String::from_utf8(body(&e)).unwrap(),
            r#"{"error":{"message":"`temperature` must be a number, \"hot\" is none","type":"invalid_request_error","param":"temperature","code":400}}"#
        );
    }
}
