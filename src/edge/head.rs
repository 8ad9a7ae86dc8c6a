//! Tracks the request head in a byte stream with constant state: finds its end and classifies invalid or incomplete heads.
//! Parsing is left to Pingora.

use super::intake::MAX_HEADERS;
use crate::error::{ApiError, ErrorKind};
use crate::telemetry::labels::Rejected;
use memchr::memchr;

/// Maximum number of headers, which is Pingora's.
const MAX_COUNT: usize = 256;
/// Maximum number of CONTINUATION frames of a header block: that of the h2 crate, for [`MAX_HEADERS`] in frames of 16 KiB.
const MAX_CONTINUATIONS: usize = 5;
/// The HTTP/2 connection preface (RFC 9113, section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The head of an HTTP/1 request.
#[derive(Debug)]
pub struct Head {
    /// Bytes of the head so far.
    bytes: usize,
    /// Complete lines, including the request line.
    lines: usize,
    /// Whether the next byte starts a line.
    at_line_start: bool,
    /// Whether the current line is empty so far.
    blank: bool,
    folded: bool,
    ended: bool,
}

impl Default for Head {
    fn default() -> Self {
        Self { bytes: 0, lines: 0, at_line_start: true, blank: true, folded: false, ended: false }
    }
}

impl Head {
    /// Processes the next bytes of the connection. Bytes after the head are ignored.
    pub fn push(&mut self, mut piece: &[u8]) {
        while !self.ended && !piece.is_empty() {
            let end = memchr(b'\n', piece).map_or(piece.len(), |at| at + 1);
            let (line, rest) = piece.split_at_checked(end).unwrap_or_default();
            self.line(line);
            piece = rest;
        }
    }

    /// Processes a line or part of one.
    fn line(&mut self, line: &[u8]) {
        self.bytes += line.len();
        // RFC 9112, section 5.2 (obs-fold): a continuation line starts with a space or tab.
        self.folded |= self.at_line_start && self.lines > 0 && matches!(line.first(), Some(b' ' | b'\t'));
        let text = line.strip_suffix(b"\n");
        self.blank &= matches!(text.unwrap_or(line), b"" | b"\r");
        self.at_line_start = text.is_some();
        if self.at_line_start {
            // RFC 9112, section 2.2: empty lines before a request line are ignored.
            self.ended = self.blank && self.lines > 0;
            self.lines += usize::from(!self.blank);
            self.blank = true;
        }
    }

    /// Whether the head is complete.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the head was started and is incomplete. Empty lines start none.
    pub fn has_begun(&self) -> bool {
        (self.lines > 0 || !self.blank) && !self.ended
    }

    /// Whether an incomplete head exceeds [`MAX_HEADERS`].
    pub fn is_too_large(&self) -> bool {
        self.bytes > MAX_HEADERS && !self.ended
    }

    /// Why Pingora rejects the head.
    pub fn rejection(&self) -> Rejected {
        let headers = (self.lines + usize::from(!self.at_line_start && !self.blank)).saturating_sub(1);
        match self {
            _ if self.bytes > MAX_HEADERS => Rejected::HeadersTooLarge,
            _ if headers > MAX_COUNT => Rejected::TooManyHeaders,
            Self { folded: true, .. } => Rejected::HeaderFolding,
            _ => Rejected::Malformed,
        }
    }
}

/// Tracks the header blocks of an HTTP/2 connection (RFC 9113, section 4.3).
#[derive(Debug, Default)]
pub struct Frames {
    /// Bytes of the preface read.
    preface: usize,
    /// The current frame's header; `read` bytes are valid.
    header: [u8; Self::HEADER],
    read: usize,
    /// Remaining bytes of the current frame's payload.
    payload: usize,
    /// Size of the open header block, if any.
    block: Option<usize>,
    /// Number of CONTINUATION frames of the open header block.
    continuations: usize,
    /// Whether the block ends with the current frame.
    ends: bool,
    /// Number of header blocks started.
    pub blocks: u64,
}

impl Frames {
    const HEADER: usize = 9;
    const HEADERS: u8 = 0x1;
    const CONTINUATION: u8 = 0x9;
    const END_HEADERS: u8 = 0x4;

    /// Processes the next bytes of the connection, from the preface on.
    pub fn push(&mut self, mut piece: &[u8]) {
        piece = piece.get((PREFACE.len() - self.preface).min(piece.len())..).map_or(piece, |rest| {
            self.preface += piece.len() - rest.len();
            rest
        });
        while !piece.is_empty() {
            if self.read < Self::HEADER {
                let (part, rest) = piece.split_at_checked(piece.len().min(Self::HEADER - self.read)).unwrap_or_default();
                for (slot, byte) in self.header.iter_mut().skip(self.read).zip(part) {
                    *slot = *byte;
                }
                self.read += part.len();
                piece = rest;
                if self.read == Self::HEADER {
                    self.begin();
                }
            } else {
                let read = piece.len().min(self.payload);
                self.payload -= read;
                piece = piece.get(read..).unwrap_or_default();
            }
            if self.read == Self::HEADER && self.payload == 0 {
                self.read = 0;
                if std::mem::take(&mut self.ends) {
                    self.block = None;
                }
            }
        }
    }

    /// Processes a complete frame header.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            Self::HEADERS => {
                self.blocks += 1;
                self.block = Some(self.payload);
                self.continuations = 0;
            }
            Self::CONTINUATION => {
                self.block = self.block.map(|bytes| bytes.saturating_add(self.payload));
                self.continuations += 1;
            }
            _ => return,
        }
        self.ends = flags & Self::END_HEADERS != 0;
    }

    /// Whether a header block is open.
    pub fn is_open(&self) -> bool {
        self.block.is_some()
    }

    /// Whether the open header block exceeds [`MAX_HEADERS`] (compressed) or [`MAX_CONTINUATIONS`].
    pub fn is_too_large(&self) -> bool {
        self.block.is_some_and(|bytes| bytes > MAX_HEADERS || self.continuations > MAX_CONTINUATIONS)
    }
}

/// The client's error; `None` if it cannot be sent over HTTP/1.1.
pub fn error(reason: Rejected) -> Option<ApiError> {
    let new = |status, message: String| Some(ApiError::new(status, ErrorKind::InvalidRequest, message));
    match reason {
        Rejected::Malformed => new(400, "The request line or a header is not valid HTTP/1.1.".to_owned()),
        Rejected::HeaderFolding => new(400, "A header is folded over several lines (obs-fold); send it on one line.".to_owned()),
        Rejected::PlainOnTlsPort => new(400, "This port expects TLS; use https.".to_owned()),
        Rejected::HeaderTimeout => new(408, "Timeout while reading the headers.".to_owned()),
        Rejected::TooManyHeaders => new(431, format!("More than {MAX_COUNT} headers.")),
        Rejected::HeadersTooLarge => new(431, format!("The headers exceed {MAX_HEADERS} bytes.")),
        Rejected::Incomplete | Rejected::TlsOnPlainPort | Rejected::TlsHandshake => None,
        Rejected::UntrustedProxy | Rejected::ProxyHeader | Rejected::MaxConnections => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head after these bytes, however they are cut.
    fn heads(bytes: &[u8]) -> impl Iterator<Item = Head> {
        [1, 2, 3, 7, bytes.len()].into_iter().map(move |size| {
            let mut head = Head::default();
            bytes.chunks(size).for_each(|piece| head.push(piece));
            head
        })
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line_however_its_bytes_are_cut() {
        for text in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "\r\n\n\r\nGET / HTTP/1.1\nhost: a\n\n", "GET / HTTP/1.0\r\n\r\n"] {
            let open = text.trim_end_matches(['\r', '\n']).len() + 1;
            for head in heads(text.as_bytes()) {
                assert!(head.has_ended() && !head.has_begun(), "{text:?}");
                assert_eq!(head.bytes, text.len());
            }
            assert!(heads(&text.as_bytes()[..open]).all(|head| head.has_begun()), "{text:?}");
            let with_body = format!("{text} body\n more\n");
            assert!(heads(with_body.as_bytes()).all(|head| head.bytes == text.len() && !head.folded), "{text:?}");
        }
        assert!(!Head::default().has_begun());
    }

    #[test]
    fn a_refused_head_is_classified() {
        let many = |count: usize| format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(count));
        let cases = [
            ("GET\r\n\r\n".to_owned(), Rejected::Malformed),
            (" GET / HTTP/1.1\r\na: b\r\n\r\n".to_owned(), Rejected::Malformed),
            ("GET / HTTP/1.1\r\na: b\r\n\tc\r\n\r\n".to_owned(), Rejected::HeaderFolding),
            ("GET / HTTP/1.1\r\n a: b\r\n\r\n".to_owned(), Rejected::HeaderFolding),
            (many(MAX_COUNT) + "\r\n", Rejected::Malformed),
            (many(MAX_COUNT) + "a", Rejected::TooManyHeaders),
            (many(MAX_COUNT + 1), Rejected::TooManyHeaders),
            (format!("GET /{}", "a".repeat(MAX_HEADERS)), Rejected::HeadersTooLarge),
        ];
        for (text, reason) in cases {
            assert!(heads(text.as_bytes()).all(|head| head.rejection() == reason), "{reason:?}");
        }
    }

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![(length >> 16) as u8, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        bytes.resize(Frames::HEADER + length, b'.');
        bytes
    }

    #[test]
    fn a_header_block_is_open_from_its_first_frame_to_the_end_of_the_last() {
        let (settings, data) = (frame(4, 0, 12), frame(0, 1, 70_000));
        let whole = frame(1, 4, 20);
        let (begin, more, end) = (frame(1, 1, 20), frame(9, 0, 0), frame(9, 4, 5));
        let cases = [
            (vec![&settings[..], &whole, &data], false, 1),
            (vec![&settings[..], &begin], true, 1),
            (vec![&begin[..], &more, &more], true, 1),
            (vec![&begin[..], &more, &end[..end.len() - 1]], true, 1),
            (vec![&begin[..], &more, &end, &data], false, 1),
            (vec![&whole[..], &data, &whole[..Frames::HEADER]], true, 2),
            (vec![&whole[..], &data, &whole[..Frames::HEADER - 1]], false, 1),
        ];
        for (number, (frames, open, blocks)) in cases.into_iter().enumerate() {
            let bytes = [&PREFACE[..], &frames.concat()].concat();
            for size in [1, 8, 9, 10, 23, 24, 25, bytes.len()] {
                let mut seen = Frames::default();
                bytes.chunks(size).for_each(|piece| seen.push(piece));
                assert_eq!((seen.is_open(), seen.blocks), (open, blocks), "case {number} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_header_block_has_a_bound_in_all_its_frames() {
        let mut seen = Frames::default();
        seen.push(PREFACE);
        seen.push(&frame(1, 0, 16 << 10));
        (0..3).for_each(|_| seen.push(&frame(9, 0, 16 << 10)));
        assert!(!seen.is_too_large());
        seen.push(&frame(9, 0, 1));
        assert!(seen.is_too_large());
        seen.push(&frame(9, 4, 0));
        seen.push(&frame(1, 0, 1));
        (0..5).for_each(|_| seen.push(&frame(9, 0, 0)));
        assert!(!seen.is_too_large());
        seen.push(&frame(9, 0, 0));
        assert!(seen.is_too_large());
    }
}
