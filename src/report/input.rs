//! Lines of files and pipes, compressed with gzip or not, in bounded memory.

use flate2::bufread::MultiGzDecoder;
use memchr::memchr;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read, Result};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;
/// Longest line that can be a request's, in bytes.
pub const MAX_LINE: usize = 256 << 10;

/// A line of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Without its line feed.
    Whole(&'a [u8]),
    /// Longer than [`MAX_LINE`].
    TooLong,
}

/// How an input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At its end.
    Complete,
    /// In the middle of compressed data: the file is still being written, or was cut off.
    CutOff,
}

/// Calls `each` with every line. gzip is recognised by its first bytes (RFC 1952, section 2.3.1); a file
/// of several members is read whole.
///
/// # Errors
/// Of reading.
pub fn lines(mut input: impl Read, mut each: impl FnMut(Line<'_>)) -> Result<End> {
    let mut magic = Vec::with_capacity(2);
    input.by_ref().take(2).read_to_end(&mut magic)?;
    let is_gzip = magic == [0x1f, 0x8b];
    let raw = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(input));
    if is_gzip {
        return read(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(raw)), &mut each);
    }
    read(raw, &mut each)
}

fn read(mut input: impl BufRead, each: &mut impl FnMut(Line<'_>)) -> Result<End> {
    let mut line = Partial::default();
    let end = loop {
        let bytes = match input.fill_buf() {
            Ok([]) => break End::Complete,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break End::CutOff,
            Err(error) => return Err(error),
        };
        let read = bytes.len();
        let mut rest = bytes;
        while let Some(at) = memchr(b'\n', rest) {
            let (head, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            line.finish(head, each);
            rest = tail.get(1..).unwrap_or_default();
        }
        line.push(rest);
        input.consume(read);
    };
    if !line.is_empty() {
        line.finish(&[], each);
    }
    Ok(end)
}

/// The beginning of a line whose end has not been read.
#[derive(Default)]
struct Partial {
    bytes: Vec<u8>,
    is_too_long: bool,
}

impl Partial {
    fn push(&mut self, more: &[u8]) {
        self.is_too_long |= self.bytes.len() + more.len() > MAX_LINE;
        if self.is_too_long {
            self.bytes.clear();
        } else {
            self.bytes.extend_from_slice(more);
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.is_too_long
    }

    /// Calls `each` with the line that ends with these bytes.
    fn finish(&mut self, end: &[u8], each: &mut impl FnMut(Line<'_>)) {
        if self.is_empty() && end.len() <= MAX_LINE {
            return each(Line::Whole(end));
        }
        self.push(end);
        each(if self.is_too_long { Line::TooLong } else { Line::Whole(&self.bytes) });
        self.bytes.clear();
        self.is_too_long = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    /// The lines, with `…` for one that is too long.
    fn all(input: impl Read) -> (Vec<String>, End) {
        let mut found = Vec::new();
        let end = lines(input, |line| {
            found.push(match line {
                Line::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                Line::TooLong => "…".to_owned(),
            });
        });
        (found, end.unwrap())
    }

    fn gz(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// Reads one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> Result<usize> {
            self.0.read(&mut out[..1])
        }
    }

    #[test]
    fn lines_are_the_same_whatever_carries_them() {
        for (text, want) in [("", &[][..]), ("a\nbc\n", &["a", "bc"]), ("\n\na", &["", "", "a"]), ("a\r\nb", &["a\r", "b"])] {
            let want = (want.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), End::Complete);
            assert_eq!(all(text.as_bytes()), want, "{text:?}");
            assert_eq!(all(Slow(text.as_bytes())), want, "{text:?}");
            assert_eq!(all(&gz(text)[..]), want, "{text:?}");
            assert_eq!(all(Slow(&gz(text))), want, "{text:?}");
        }
        let two = [gz("a\nb"), gz("c\nd\n")].concat();
        assert_eq!(all(&two[..]), (vec!["a".into(), "bc".into(), "d".into()], End::Complete));
    }

    #[test]
    fn a_line_that_is_too_long_is_one_line_and_not_kept() {
        let long = "x".repeat(MAX_LINE);
        let text = format!("a\n{long}\n{long}y\n{long}{long}{long}\nb\n{long}z");
        let want = vec!["a".to_owned(), long.clone(), "…".into(), "…".into(), "b".into(), "…".into()];
        assert_eq!(all(text.as_bytes()), (want.clone(), End::Complete));
        assert_eq!(all(&gz(&text)[..]).0, want);
    }

    #[test]
    fn compressed_data_that_is_cut_off_has_lines_and_broken_data_is_an_error() {
        let text: String = (0..20_000).map(|n| format!("line {n} {}\n", n * 7919 % 1000)).collect();
        let bytes = gz(&text);
        let (found, end) = all(&bytes[..bytes.len() / 2]);
        assert!(end == End::CutOff && found.len() > 1_000 && text.starts_with(&found.join("\n")), "{}", found.len());
        let mut broken = bytes.clone();
        for byte in &mut broken[200..260] {
            *byte ^= 0x55;
        }
        assert!(lines(&broken[..], |_| ()).is_err());
    }
}
