//! Reads forms (`multipart/form-data`, RFC 7578 and RFC 2046, section 5.1) that are in memory: where each part is, and nothing
//! more. Contents are never copied or decoded.
//!
//! A provider reads the same bytes with a parser of its own, which must not find another `model` in them. So whatever parsers
//! differ about is an error here: the boundary at the beginning of a line that is no delimiter, bare line feeds before it, a
//! preamble, folded headers, parameters that are repeated or escaped. No client library writes any of that.

use memchr::memmem::{self, Finder};
use std::ops::Range;

/// Longest head of a part, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// Longest boundary (RFC 2046, section 5.1.1: "consisting of 1 to 70 characters").
const MAX_BOUNDARY: usize = 70;

/// What is wrong with a form or with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// One part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The name of the field.
    pub name: &'a [u8],
    /// Whether it is a file: it has a `filename`.
    pub is_file: bool,
    /// Whether its content has a transfer encoding, which RFC 7578, section 4.7, has deprecated.
    pub is_encoded: bool,
    /// Where its content is.
    pub content: Range<usize>,
}

/// The parts of a form, one after the other.
pub struct Parts<'a> {
    body: &'a [u8],
    /// Finds `--` and the boundary.
    delimiter: Finder<'a>,
    /// Where the next part's head begins; `None` after the last part.
    next: Option<usize>,
}

impl<'a> Parts<'a> {
    /// `delimiter` is [`delimiter`] of the boundary.
    ///
    /// # Errors
    /// When the body does not begin with the boundary.
    pub fn new(body: &'a [u8], delimiter: &'a [u8]) -> Result<Self, Malformed> {
        let rest = body.strip_prefix(delimiter).ok_or(Malformed("it does not begin with its boundary"))?;
        let mut parts = Self { body, delimiter: Finder::new(delimiter), next: None };
        parts.next = parts.after_delimiter(rest)?;
        Ok(parts)
    }

    /// The next part; `None` after the last one.
    ///
    /// # Errors
    /// What is wrong with the form. No part comes after that.
    pub fn part(&mut self) -> Result<Option<Part<'a>>, Malformed> {
        let Some(start) = self.next.take() else { return Ok(None) };
        let rest = self.body.get(start..).unwrap_or_default();
        let window = rest.get(..MAX_HEAD).unwrap_or(rest);
        let head = memmem::find(window, b"\r\n\r\n").ok_or(Malformed("the headers of a part do not end, or are too long"))?;
        let (name, is_file, is_encoded) = read_head(rest.get(..head).unwrap_or_default())?;
        let content = start + head + 4;
        let (end, rest) = self.content_end(content)?;
        self.next = self.after_delimiter(rest)?;
        Ok(Some(Part { name, is_file, is_encoded, content: content..end }))
    }

    /// Where a content ends, and what comes behind the delimiter after it. "The CRLF preceding the boundary delimiter line is
    /// conceptually attached to the boundary" (RFC 2046, section 5.1.1).
    fn content_end(&self, start: usize) -> Result<(usize, &'a [u8]), Malformed> {
        let mut from = start;
        loop {
            let rest = self.body.get(from..).unwrap_or_default();
            let at = from + self.delimiter.find(rest).ok_or(Malformed("it ends inside a part"))?;
            let before = self.body.get(start..at).unwrap_or_default();
            if before.ends_with(b"\r\n") {
                return Ok((at - 2, self.body.get(at + self.delimiter.needle().len()..).unwrap_or_default()));
            }
            if before.is_empty() || before.ends_with(b"\n") || before.ends_with(b"\r") {
                return Err(Malformed("its boundary is behind a line break that is not CR LF"));
            }
            from = at + 1; // in the middle of a line it is content
        }
    }

    /// Reads what stands behind a delimiter: where the next part begins, or that there is none.
    fn after_delimiter(&self, rest: &'a [u8]) -> Result<Option<usize>, Malformed> {
        if let Some(rest) = rest.strip_prefix(b"\r\n") {
            return Ok(Some(self.body.len() - rest.len()));
        }
        match rest.strip_prefix(b"--") {
            Some(epilogue) if epilogue.iter().all(u8::is_ascii_whitespace) => Ok(None),
            Some(_) => Err(Malformed("there is something behind its end")),
            // RFC 2046, section 5.1.1: the boundary must not be "the prefix of any line" of a part.
            None => Err(Malformed("a line in it begins with its boundary and goes on")),
        }
    }
}

/// What stands before each part of a form with this boundary.
pub fn delimiter(boundary: &str) -> Vec<u8> {
    [b"--", boundary.as_bytes()].concat()
}

/// Reads the head of a part: the name of its field, whether it is a file, whether its content is encoded.
fn read_head(head: &[u8]) -> Result<(&[u8], bool, bool), Malformed> {
    let (mut disposition, mut is_encoded) = (None, false);
    let mut rest = Some(head);
    while let Some(lines) = rest {
        let line;
        (line, rest) = match memmem::find(lines, b"\r\n") {
            Some(end) => (lines.get(..end).unwrap_or_default(), lines.get(end + 2..)),
            None => (lines, None),
        };
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(Malformed("a header of a part has a control character"));
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed("a header of a part has no colon"))?;
        let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Malformed("a header of a part has a bad name, or is folded"));
        }
        if name.eq_ignore_ascii_case(b"content-disposition") && disposition.replace(value).is_some() {
            return Err(Malformed("a part has several Content-Disposition headers"));
        }
        let plain = [b"7bit".as_slice(), b"8bit", b"binary"].iter().any(|plain| plain.eq_ignore_ascii_case(value.trim_ascii()));
        is_encoded |= name.eq_ignore_ascii_case(b"content-transfer-encoding") && !plain;
    }
    // RFC 7578, section 4.2: "Each part MUST contain a Content-Disposition header field […] where the disposition type is
    // "form-data". The Content-Disposition header field MUST also contain an additional parameter of "name"".
    let mut parameters = Parameters::of(disposition.ok_or(Malformed("a part has no Content-Disposition"))?);
    if !parameters.first.eq_ignore_ascii_case(b"form-data") {
        return Err(Malformed("a part's Content-Disposition is not form-data"));
    }
    let (mut field, mut is_file) = (None, false);
    while let Some((name, value)) = parameters.parameter()? {
        if name.eq_ignore_ascii_case(b"name") && field.replace(value).is_some() {
            return Err(Malformed("a part has several names"));
        }
        // RFC 2231 has `name*` and pieces, `name*0`; RFC 7578, section 4.2, forbids the first, which some libraries send for files.
        let is_extended = name.eq_ignore_ascii_case(b"filename*");
        if name.contains(&b'*') && !is_extended {
            return Err(Malformed("a part has a parameter with `*`"));
        }
        is_file |= is_extended || name.eq_ignore_ascii_case(b"filename");
    }
    Ok((field.ok_or(Malformed("a part has no name"))?, is_file, is_encoded))
}

/// Name and value.
type Parameter<'a> = (&'a [u8], &'a [u8]);

/// The parameters of a header's value.
struct Parameters<'a> {
    /// What stands before them.
    first: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Parameters<'a> {
    fn of(value: &'a [u8]) -> Self {
        let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        let (first, rest) = value.split_at_checked(end).unwrap_or((value, b""));
        Self { first: first.trim_ascii(), rest }
    }

    /// The next name and value. A quoted value is what stands between the quotation marks: with an escaped one among them
    /// parsers differ on where it ends, so that is an error.
    fn parameter(&mut self) -> Result<Option<Parameter<'a>>, Malformed> {
        const WRONG: Malformed = Malformed("a parameter of a header is malformed");
        let rest = self.rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(None);
        }
        let rest = rest.strip_prefix(b";").ok_or(WRONG)?.trim_ascii_start();
        if rest.is_empty() {
            self.rest = rest;
            return Ok(None);
        }
        let equals = rest.iter().position(|byte| !is_token(*byte)).filter(|at| *at > 0).ok_or(WRONG)?;
        let (name, rest) = rest.split_at_checked(equals).ok_or(WRONG)?;
        let rest = rest.strip_prefix(b"=").ok_or(WRONG)?;
        let (value, rest) = match rest.strip_prefix(b"\"") {
            Some(quoted) => {
                let end = memchr::memchr(b'"', quoted).ok_or(WRONG)?;
                let value = quoted.get(..end).unwrap_or_default();
                if value.ends_with(b"\\") {
                    return Err(Malformed("a parameter of a header has an escaped quotation mark; name the file otherwise"));
                }
                (value, quoted.get(end + 1..).unwrap_or_default())
            }
            None => {
                let end = rest.iter().position(|byte| matches!(byte, b';' | b'"' | b' ' | b'\t')).unwrap_or(rest.len());
                rest.split_at_checked(end).ok_or(WRONG)?
            }
        };
        if name.is_empty() || !matches!(rest.trim_ascii_start().first(), None | Some(b';')) {
            return Err(WRONG);
        }
        self.rest = rest;
        Ok(Some((name, value)))
    }
}

/// The boundary in the value of a `content-type` header; `None` where it is no form.
///
/// # Errors
/// For a form without a boundary, or with one that RFC 2046 does not allow.
pub fn boundary(content_type: &[u8]) -> Result<Option<&str>, Malformed> {
    let mut parameters = Parameters::of(content_type);
    if !parameters.first.eq_ignore_ascii_case(b"multipart/form-data") {
        return Ok(None);
    }
    let mut boundary = None;
    while let Some((name, value)) = parameters.parameter()? {
        if name.eq_ignore_ascii_case(b"boundary") && boundary.replace(value).is_some() {
            return Err(Malformed("it has several boundaries"));
        }
    }
    let boundary = boundary.ok_or(Malformed("it has no `boundary`"))?;
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    let good = (1..=MAX_BOUNDARY).contains(&boundary.len()) && boundary.iter().all(allowed) && !boundary.ends_with(b" ");
    let text = std::str::from_utf8(boundary).ok().filter(|_| good);
    text.map(Some).ok_or(Malformed("its `boundary` must be 1 to 70 letters, digits, spaces or '()+_,-./:=?"))
}

/// The `content-type` of a form with this boundary.
pub fn content_type(boundary: &str) -> String {
    let quote = if boundary.bytes().all(is_token) { "" } else { "\"" };
    format!("multipart/form-data; boundary={quote}{boundary}{quote}")
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[path = "multipart_tests.rs"]
mod tests;
