//! Bytes in hexadecimal.

use std::fmt::Write;

/// Bytes in lower-case digits.
pub fn encode<'b>(bytes: impl IntoIterator<Item = &'b u8>) -> String {
    let bytes = bytes.into_iter();
    let digits = String::with_capacity(2 * bytes.size_hint().0);
    bytes.fold(digits, |mut digits, byte| {
        let _infallible = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(super::encode(&[0, 0x0a, 0xff]), "000aff");
        assert_eq!(super::encode([1, 2, 3].iter().take(2)), "0102");
    }
}
