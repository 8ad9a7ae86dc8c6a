//! Content codings of a provider's answer.
//!
//! Every request says `accept-encoding: identity`, and some servers and proxies compress all the same. What they send is
//! decoded as it comes, within a bound.

use crate::llm::failure::Fault;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use std::io::{Error, Result, Write};

/// Longest text that one piece of a body may decode to, in bytes: a piece is at most 64 KiB, and a small one can stand for
/// gigabytes.
pub const MAX_DECODED: usize = 32 << 20;

/// Decodes one body. See the module.
pub struct Coding(Inner);

enum Inner {
    Gzip(flate2::write::MultiGzDecoder<Bounded>),
    Deflate(flate2::write::ZlibDecoder<Bounded>),
    Brotli(Box<brotli::DecompressorWriter<Bounded>>),
    Zstd(zstd::stream::write::Decoder<'static, Bounded>),
}

impl Coding {
    /// For the value of a `content-encoding`, in lower case (RFC 9110, section 8.4.1: codings are case-insensitive).
    ///
    /// # Errors
    /// For a coding that is not known here, and for several of them.
    pub fn new(name: &str) -> Result<Self> {
        let inner = match name {
            "gzip" | "x-gzip" => Inner::Gzip(flate2::write::MultiGzDecoder::new(Bounded::default())),
            "deflate" => Inner::Deflate(flate2::write::ZlibDecoder::new(Bounded::default())),
            "br" => Inner::Brotli(Box::new(brotli::DecompressorWriter::new(Bounded::default(), 4 << 10))),
            "zstd" => Inner::Zstd(zstd::stream::write::Decoder::new(Bounded::default())?),
            _ => return Err(Error::other("unknown coding")),
        };
        Ok(Self(inner))
    }

    /// The text that a piece of the body adds.
    ///
    /// # Errors
    /// For a body that is not what it says it is, and for one that decodes to more than [`MAX_DECODED`] at once.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let text = match &mut self.0 {
            Inner::Gzip(w) => write(w, bytes).map(|()| w.get_mut()),
            Inner::Deflate(w) => write(w, bytes).map(|()| w.get_mut()),
            Inner::Brotli(w) => write(w.as_mut(), bytes).map(|()| w.get_mut()),
            Inner::Zstd(w) => write(w, bytes).map(|()| w.get_mut()),
        }?;
        Ok(std::mem::take(&mut text.0))
    }
}

/// Decodes a body that its provider has encoded, although it was asked not to.
pub struct ContentDecoder {
    /// The value of `content-encoding`, in lower case.
    name: String,
    /// `None`: there is no decoder for it, or the body has not been what it says it is.
    coding: Option<Coding>,
}

impl ContentDecoder {
    /// `None` where the headers say that the body is as it is.
    pub fn of(headers: &HeaderMap) -> Option<Box<Self>> {
        let value = headers.get(CONTENT_ENCODING)?;
        let name: String = String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase().chars().take(64).collect();
        if matches!(name.as_str(), "" | "identity") {
            return None;
        }
        Some(Box::new(Self { coding: Coding::new(&name).ok(), name }))
    }

    /// The text that a piece of the body adds.
    ///
    /// # Errors
    /// A fault that names the coding.
    pub fn push(&mut self, bytes: &[u8]) -> std::result::Result<Vec<u8>, Fault> {
        let text = self.coding.as_mut().and_then(|coding| coding.push(bytes).ok());
        text.ok_or_else(|| {
            self.coding = None;
            Fault::Broken(format!("its content-encoding `{}`, which was not asked for, cannot be decoded", self.name).into())
        })
    }
}

fn write(decoder: &mut impl Write, bytes: &[u8]) -> Result<()> {
    decoder.write_all(bytes)?;
    decoder.flush()
}

/// Takes at most [`MAX_DECODED`] bytes between two visits.
#[derive(Default)]
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, text: &[u8]) -> Result<usize> {
        if self.0.len() + text.len() > MAX_DECODED {
            return Err(Error::other("it decodes to too much"));
        }
        self.0.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text in each coding.
    pub fn encoded(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text).unwrap();
        let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        deflate.write_all(text).unwrap();
        let mut br = Vec::new();
        brotli::CompressorWriter::new(&mut br, 4096, 5, 22).write_all(text).unwrap();
        vec![
            ("gzip", gzip.finish().unwrap()),
            ("deflate", deflate.finish().unwrap()),
            ("br", br),
            ("zstd", zstd::encode_all(text, 3).unwrap()),
        ]
    }

    #[test]
    fn a_body_is_decoded_however_it_is_cut() {
        let text = "data: {\"choices\": []}\n\n".repeat(500);
        for (name, body) in encoded(text.as_bytes()) {
            for size in [1, 7, body.len()] {
                let mut coding = Coding::new(name).unwrap();
                let all: Vec<u8> = body.chunks(size).flat_map(|piece| coding.push(piece).unwrap()).collect();
                assert_eq!(all, text.as_bytes(), "{name} {size}");
            }
        }
    }

    #[test]
    fn what_is_not_encoded_or_is_too_much_is_an_error() {
        for name in ["gzip", "deflate", "br", "zstd"] {
            assert!(Coding::new(name).unwrap().push(b"{\"error\": \"plain\", \"and\": \"long enough to tell\"}").is_err(), "{name}");
        }
        assert!(Coding::new("compress").is_err() && Coding::new("gzip, br").is_err());
        for (name, bomb) in encoded(&vec![b' '; MAX_DECODED + 1]) {
            assert!(Coding::new(name).unwrap().push(&bomb).is_err(), "{name}");
        }
    }
}
