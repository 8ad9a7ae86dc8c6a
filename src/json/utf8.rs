//! A body that is text: checked once, read as text and sent as bytes.

use super::envelope::ScanError;
use super::walk::SyntaxError;
use bytes::Bytes;
use std::sync::Arc;
use yoke::Yoke;

/// Bytes that are UTF-8. A clone shares them.
#[derive(Clone, Debug)]
pub struct Utf8Bytes(Yoke<&'static str, Arc<Bytes>>);

impl Utf8Bytes {
    /// Checks bytes.
    ///
    /// # Errors
    /// The first position that is not UTF-8 (RFC 8259, section 8.1).
    pub fn new(bytes: Bytes) -> Result<Self, ScanError> {
        Yoke::try_attach_to_cart(Arc::new(bytes), |bytes| text(bytes)).map(Self)
    }

    /// The bytes as text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The bytes, of which parts can be shared.
    pub fn bytes(&self) -> &Bytes {
        self.0.backing_cart()
    }
}

/// Decodes bytes as UTF-8.
///
/// # Errors
/// The first position that is not UTF-8 (RFC 8259, section 8.1).
pub fn text(bytes: &[u8]) -> Result<&str, ScanError> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| {
        // simdutf8's basic check does not return the position.
        let at = std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len);
        SyntaxError::new(&"expected UTF-8 text", at).locate(bytes)
    })
}
