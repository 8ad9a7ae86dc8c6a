//! A string that cannot be shown.

use zeroize::Zeroizing;

/// A credential. It has no `Debug`, `Display` or `Serialize`, and its memory is wiped when it is dropped; the only way
/// to its text is [`Secret::expose`], which is easy to search for.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a credential.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one place that signs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
