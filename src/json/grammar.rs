//! The grammar of RFC 8259 as functions from position to position. Positions are passed by value, so that they stay in registers:
//! where brackets and short strings are all there is, each byte costs a few instructions.

use super::envelope::MAX_DEPTH;
use super::run::{self, Block};
use super::walk::SyntaxError;

/// The first position from `at` on that is not white space, and its byte: 0, which begins nothing, at the end of the text.
#[inline(always)]
pub(super) fn token(bytes: &[u8], at: usize) -> (usize, u8) {
    match bytes.get(at) {
        Some(b) if *b > b' ' => (at, *b),
        _ => token_after_space(bytes, at),
    }
}

#[inline(never)]
fn token_after_space(bytes: &[u8], mut at: usize) -> (usize, u8) {
    while let Some(b) = bytes.get(at) {
        if !matches!(b, b' ' | b'\n' | b'\r' | b'\t') {
            return (at, *b);
        }
        at += 1;
        at += run::spaces(bytes.get(at..).unwrap_or_default());
    }
    (at, 0)
}

/// `value` of RFC 8259, section 3, which begins at `at` within `level` containers: returns the position behind it. `has_null` becomes
/// true if a null occurs.
#[inline]
pub(super) fn value(bytes: &[u8], at: usize, level: usize, block: &mut Block, has_null: &mut bool) -> Result<usize, SyntaxError> {
    match bytes.get(at) {
        Some(bracket @ (b'{' | b'[')) => container(bytes, at, level, *bracket, block, has_null),
        first => scalar(bytes, at, first.copied().unwrap_or_default(), block, has_null),
    }
}

/// The object or array at `at`. ASCII has both closing brackets two places behind their counterparts.
fn container(bytes: &[u8], mut at: usize, level: usize, bracket: u8, block: &mut Block, has_null: &mut bool) -> Result<usize, SyntaxError> {
    // What closes the innermost container, which is the one of this depth, and what closes those around it.
    let (mut close, mut depth, mut outer) = (bracket + 2, level + 1, [0; MAX_DEPTH]);
    let mut first;
    (at, first) = token(bytes, at + 1);
    if first == close {
        return Ok(at + 1);
    }
    loop {
        // An item begins.
        if close == b'}' {
            (at, first) = name(bytes, at, first, block)?;
        }
        if let bracket @ (b'{' | b'[') = first {
            let Some(slot) = outer.get_mut(depth) else {
                return Err(SyntaxError::new(&"nested deeper than 128 levels", at));
            };
            (at, first) = token(bytes, at + 1);
            if first != bracket + 2 {
                *slot = close;
                (close, depth) = (bracket + 2, depth + 1);
                continue;
            }
            at += 1;
        } else {
            at = scalar(bytes, at, first, block, has_null)?;
        }
        // It has ended, and perhaps containers with it.
        loop {
            (at, first) = token(bytes, at);
            if first == b',' {
                break;
            }
            if first != close {
                return Err(SyntaxError::new(if close == b'}' { &"expected `,` or `}`" } else { &"expected `,` or `]`" }, at));
            }
            at += 1;
            depth -= 1;
            if depth == level {
                return Ok(at);
            }
            close = outer.get(depth).copied().unwrap_or_default();
        }
        (at, first) = token(bytes, at + 1);
    }
}

/// A value that is no container, whose first byte is `first`.
#[inline(always)]
fn scalar(bytes: &[u8], at: usize, first: u8, block: &mut Block, has_null: &mut bool) -> Result<usize, SyntaxError> {
    match first {
        b'"' => block.string_end::<false>(bytes, at + 1),
        b'0'..=b'9' => number(bytes, at),
        _ => {
            *has_null |= first == b'n';
            rarer(bytes, at)
        }
    }
}

/// A member's name, whose first byte is `first`, and its colon: returns the value's position and first byte.
#[inline(always)]
fn name(bytes: &[u8], at: usize, first: u8, block: &mut Block) -> Result<(usize, u8), SyntaxError> {
    if first != b'"' {
        return Err(SyntaxError::new(&"expected a key in double quotes", at));
    }
    let end = block.string_end::<false>(bytes, at + 1)?;
    match token(bytes, end) {
        (at, b':') => Ok(token(bytes, at + 1)),
        (at, _) => Err(SyntaxError::new(&"expected `:`", at)),
    }
}

/// `true`, `false`, `null`, or a negative number.
#[inline(never)]
fn rarer(bytes: &[u8], at: usize) -> Result<usize, SyntaxError> {
    let word: &[u8] = match bytes.get(at) {
        Some(b'-') => return number(bytes, at + 1),
        Some(b't') => b"true",
        Some(b'f') => b"false",
        Some(b'n') => b"null",
        _ => return Err(SyntaxError::new(&"expected a value", at)),
    };
    if bytes.get(at..).is_some_and(|rest| rest.starts_with(word)) {
        return Ok(at + word.len());
    }
    Err(SyntaxError::new(&"expected a value (`true`, `false` and `null` are the only words)", at))
}

/// `number` of RFC 8259, section 6, behind its sign: `int [ frac ] [ exp ]`.
#[inline(always)]
fn number(bytes: &[u8], at: usize) -> Result<usize, SyntaxError> {
    let end = digits(bytes, at)?;
    if bytes.get(at) == Some(&b'0') && end > at + 1 {
        return Err(SyntaxError::new(&"leading zero in a number", at + 1));
    }
    match bytes.get(end) {
        Some(b'.' | b'e' | b'E') => fraction(bytes, end),
        _ => Ok(end),
    }
}

/// `[ frac ] [ exp ]`.
#[inline(never)]
fn fraction(bytes: &[u8], mut at: usize) -> Result<usize, SyntaxError> {
    let is = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|b| any.contains(b));
    if is(at, b".") {
        at = digits(bytes, at + 1)?;
    }
    if is(at, b"eE") {
        at += 1;
        at = digits(bytes, at + usize::from(is(at, b"+-")))?;
    }
    Ok(at)
}

#[inline(always)]
fn digits(bytes: &[u8], at: usize) -> Result<usize, SyntaxError> {
    let mut end = at;
    while bytes.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    if end == at { Err(SyntaxError::new(&"expected a digit", at)) } else { Ok(end) }
}

/// Position behind the container at `at` of validated text, by its quotes, brackets and delimiters.
pub(super) fn skip(bytes: &[u8], mut at: usize, block: &mut Block) -> Result<usize, SyntaxError> {
    let mut depth = 0usize;
    loop {
        match bytes.get(at) {
            Some(b'"') => at = block.string_end::<true>(bytes, at + 1)?,
            Some(b'{' | b'[') => {
                depth += 1;
                at += 1;
            }
            Some(b'}' | b']') => {
                at += 1;
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Ok(at);
                }
            }
            Some(_) => at += 1,
            None => return Err(SyntaxError::new(&"expected a value", at)),
        }
    }
}
