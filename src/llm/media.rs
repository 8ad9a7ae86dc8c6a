//! Images, files and sounds inside of a request: where a URL points, and the bytes of a data URI as providers take them.
//!
//! A data URI is split, never decoded or copied, where it is in standard form. Clients label an image by its file's name,
//! break base64 into lines, leave out its padding, use the alphabet of URLs or write a text without base64 at all. OpenAI
//! takes all of that and other providers refuse it, so that here the first bytes decide what something is, and base64 is
//! put into its standard form.

use crate::json::text::Text;
use crate::json::write::Writer;
use crate::percent;
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use std::borrow::Cow;

/// What a client's URL points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link<'a> {
    /// In the URL itself.
    Data(DataUri<'a>),
    /// `http:` or `https:`; the whole URL.
    Web(Text<'a>),
    /// `gs:`; the whole URL.
    GoogleStorage(Text<'a>),
    /// `s3:`; the whole URL.
    S3(Text<'a>),
    /// A scheme that no provider takes, or a data URI without data.
    Other,
}

/// `data:MIME;PARAMETERS;base64,DATA`, or without `;base64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataUri<'a> {
    /// Media type in lower case, without parameters; may be empty.
    pub media_type: Cow<'a, str>,
    /// Its parameter `charset`, in lower case.
    pub charset: Option<Cow<'a, str>>,
    /// How the bytes are written.
    pub encoding: Encoding,
    /// The bytes as they stand in the request (a JSON `\/` in them stays).
    pub data: Text<'a>,
}

/// How a data URI writes its bytes. <https://www.rfc-editor.org/rfc/rfc2397>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// In base64.
    Base64,
    /// As characters, with percent escapes.
    Percent,
}

impl<'a> Link<'a> {
    /// Takes a URL apart. Looks only at what stands before the first comma, whatever the length of the rest.
    pub fn of(url: Text<'a>) -> Self {
        let (Text::Raw(all) | Text::Plain(all)) = url;
        let same = |part: &'a str| match url {
            Text::Raw(_) => Text::Raw(part),
            Text::Plain(_) => Text::Plain(part),
        };
        let Some((scheme, rest)) = all.split_once(':') else { return Self::Other };
        if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") {
            return Self::Web(url);
        }
        if scheme.eq_ignore_ascii_case("gs") {
            return Self::GoogleStorage(url);
        }
        if scheme.eq_ignore_ascii_case("s3") {
            return Self::S3(url);
        }
        // A comma is no part of any JSON escape, so the cut cannot split one.
        let (true, Some((head, data))) = (scheme.eq_ignore_ascii_case("data"), rest.split_once(',')) else { return Self::Other };
        let head = lower(same(head).decode());
        let mut pieces = head.split(';').map(str::trim);
        let media_type = pieces.next().unwrap_or_default();
        let (mut charset, mut encoding) = (None, Encoding::Percent);
        for piece in pieces {
            match piece.split_once('=') {
                Some(("charset", name)) => charset = Some(name.trim_matches('"')),
                None if piece == "base64" => encoding = Encoding::Base64,
                _ => {}
            }
        }
        let charset = charset.map(|name| Cow::Owned(name.to_owned()));
        let media_type = match &head {
            Cow::Borrowed(head) => Cow::Borrowed(head.split(';').next().unwrap_or_default().trim()),
            Cow::Owned(_) => Cow::Owned(media_type.to_owned()),
        };
        Self::Data(DataUri { media_type, charset, encoding, data: same(data) })
    }
}

/// Where a client says that an image or a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// At a URL, which may be a data URI.
    Url(Text<'a>),
    /// In the request, with its media type beside it.
    Base64 {
        /// The media type as the client writes it.
        media_type: Text<'a>,
        /// The bytes in base64.
        data: Text<'a>,
    },
}

impl<'a> Source<'a> {
    /// What it points to.
    pub fn link(self) -> Link<'a> {
        match self {
            Self::Url(url) => Link::of(url),
            Self::Base64 { media_type, data } => {
                Link::Data(DataUri { media_type: lower(media_type.decode()), charset: None, encoding: Encoding::Base64, data })
            }
        }
    }

    /// Writes it as one URL.
    pub fn write_url(self, w: &mut Writer) {
        match self {
            Self::Url(url) => w.text(url),
            Self::Base64 { media_type, data } => w.texts(&[Text::Plain("data:"), media_type, Text::Plain(";base64,"), data]),
        };
    }

    /// Writes it as one URL, a data URI in the form that every provider takes.
    ///
    /// # Errors
    /// Says what is wrong with its base64.
    pub fn write_standard_url(self, w: &mut Writer) -> Result<(), &'static str> {
        let Link::Data(uri) = self.link() else {
            self.write_url(w);
            return Ok(());
        };
        let label = uri.media_type.clone();
        let read = uri.read()?;
        if matches!(read.base64, Base64::Sent(_)) && read.media_type == label {
            self.write_url(w);
            return Ok(());
        }
        let media_type = if read.media_type.is_empty() { "text/plain" } else { &*read.media_type };
        w.texts(&[Text::Plain("data:"), Text::Plain(media_type), Text::Plain(";base64,"), read.base64.text()]);
        Ok(())
    }
}

fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) { Cow::Owned(text.to_ascii_lowercase()) } else { text }
}

/// How many characters of base64 are decoded to see what something is.
const SNIFFED: usize = 64;
/// Reads base64 whose last character has bits that stand for nothing, as most readers do.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
/// The 400 for bytes that are no base64.
const NOT_BASE64: &str = "this is not valid base64";

/// Bytes in standard base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base64<'a> {
    /// As the client spelled them.
    Sent(Text<'a>),
    /// Put into form.
    Made(String),
}

impl<'a> Base64<'a> {
    /// Puts base64 into its standard form.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn read(data: Text<'a>) -> Result<Self, &'static str> {
        let (Text::Raw(spelled) | Text::Plain(spelled)) = data;
        if is_standard(spelled.as_bytes()) {
            return Ok(Self::Sent(data));
        }
        let text = data.decode();
        let text = if text.contains('%') { Cow::Owned(String::from_utf8_lossy(&percent::decode_lossy(&text)).into_owned()) } else { text };
        let mut out = String::with_capacity(text.len() + 2);
        for c in text.trim_end_matches(|c: char| c == '=' || c.is_ascii_whitespace()).chars() {
            match c {
                '-' => out.push('+'),
                '_' => out.push('/'),
                c if c.is_ascii_whitespace() => {}
                c if u8::try_from(c).is_ok_and(is_digit) => out.push(c),
                _ => return Err(NOT_BASE64),
            }
        }
        match out.len() % 4 {
            _ if out.is_empty() => return Err("there are no bytes in it"),
            1 => return Err(NOT_BASE64),
            2 => out.push_str("=="),
            3 => out.push('='),
            _ => {}
        }
        Ok(Self::Made(out))
    }

    /// The base64.
    pub fn text(&self) -> Text<'_> {
        match self {
            Self::Sent(text) => *text,
            Self::Made(text) => Text::Plain(text),
        }
    }

    /// The bytes themselves; `None` where it is none, which no value that was read is.
    pub fn decode(&self) -> Option<Vec<u8>> {
        LENIENT.decode(self.text().decode().as_bytes()).ok()
    }

    /// The first bytes.
    fn start(&self) -> Vec<u8> {
        let (Text::Raw(spelled) | Text::Plain(spelled)) = self.text();
        let mut digits: Vec<u8> = spelled.bytes().filter(|b| is_digit(*b)).take(SNIFFED).collect();
        digits.truncate(digits.len() / 4 * 4);
        STANDARD.decode(&digits).unwrap_or_default()
    }
}

/// A file in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// What it is, by its first bytes, else by its label; in lower case, empty where nothing says it.
    pub media_type: Cow<'a, str>,
    /// The label's `charset`, in lower case.
    pub charset: Option<Cow<'a, str>>,
    /// Its bytes.
    pub base64: Base64<'a>,
}

impl<'a> DataUri<'a> {
    /// Reads its bytes.
    ///
    /// # Errors
    /// Says what is wrong with its base64.
    pub fn read(self) -> Result<Data<'a>, &'static str> {
        let base64 = match self.encoding {
            Encoding::Base64 => Base64::read(self.data)?,
            Encoding::Percent => Base64::Made(STANDARD.encode(percent::decode_lossy(&self.data.decode()))),
        };
        let found = media_type_of(&base64.start());
        let media_type = match found {
            Some(found) if !is_alias(&self.media_type, found) => Cow::Borrowed(found),
            _ => self.media_type,
        };
        Ok(Data { media_type, charset: self.charset, base64 })
    }
}

impl Data<'_> {
    /// The text of a text file: UTF-8, UTF-16 with its mark, or what the label says, which is Latin-1 where it says nothing.
    /// `None` where there are bytes that no text has.
    pub fn text(&self) -> Option<String> {
        let bytes = self.base64.decode()?;
        let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
            let units: Vec<u16> = rest.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(unit).collect();
            String::from_utf16_lossy(&units)
        };
        let text = match bytes.as_slice() {
            [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
            [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
            [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
            _ => match String::from_utf8(bytes) {
                Ok(text) => text,
                // "iso-8859-1" and "latin1" are labels of windows-1252 (WHATWG Encoding, section 4.2).
                Err(e) => e.as_bytes().iter().map(|byte| windows_1252(*byte)).collect(),
            },
        };
        (!text.contains('\0')).then_some(text)
    }
}

/// Whether this is standard base64 with its padding. In a JSON string a slash may be escaped.
fn is_standard(spelled: &[u8]) -> bool {
    let digits = match spelled {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] => digits,
        digits => digits,
    };
    let padding = spelled.len() - digits.len();
    let all = |bytes: &[u8]| bytes.iter().fold(true, |all, b| all & is_digit(*b));
    if all(digits) {
        return spelled.len().is_multiple_of(4) && !digits.is_empty();
    }
    let mut escapes = 0;
    let mut rest = digits;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, after) = rest.split_at_checked(at).unwrap_or_default();
        if !all(before) || after.get(1) != Some(&b'/') {
            return false;
        }
        escapes += 1;
        rest = after.get(1..).unwrap_or_default();
    }
    all(rest) && (digits.len() - escapes + padding).is_multiple_of(4)
}

const fn is_digit(b: u8) -> bool {
    b.is_ascii_alphanumeric() | (b == b'+') | (b == b'/')
}

/// What the first bytes of a file are a sign of. <https://mimesniff.spec.whatwg.org/#matching-a-mime-type-pattern>
fn media_type_of(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => "image/png",
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => "audio/wav",
        [b'%', b'P', b'D', b'F', b'-', ..] => "application/pdf",
        [b'I', b'D', b'3', ..] => "audio/mp3",
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', b'i', b'c' | b'x', ..] => "image/heic",
        _ => return None,
    })
}

/// Whether a label means the same as what was found.
fn is_alias(label: &str, found: &str) -> bool {
    label == found
        || match found {
            "image/jpeg" => label == "image/jpg",
            "audio/wav" => matches!(label, "audio/x-wav" | "audio/wave" | "audio/vnd.wave"),
            "audio/mp3" => matches!(label, "audio/mpeg" | "audio/mpga"),
            "image/heic" => label == "image/heif",
            "application/pdf" => label == "application/x-pdf",
            _ => false,
        }
}

/// A byte of windows-1252. <https://encoding.spec.whatwg.org/index-windows-1252.txt>
fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•',
        '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    usize::from(byte).checked_sub(0x80).and_then(|at| HIGH.get(at)).copied().unwrap_or_else(|| char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_uri_is_split_in_place() {
        let url = r"data:image\/png;charset=x;base64,iVBO\/w0K";
        let uri = |media_type, charset: Option<&'static str>, encoding, data| {
            Link::Data(DataUri {
                media_type: Cow::Borrowed(media_type),
                charset: charset.map(Cow::Borrowed),
                encoding,
                data: Text::Raw(data),
            })
        };
        assert_eq!(Link::of(Text::Raw(url)), uri("image/png", Some("x"), Encoding::Base64, r"iVBO\/w0K"));
        let plain = |media_type, encoding, data| uri(media_type, None, encoding, data);
        assert_eq!(Link::of(Text::Raw("data:IMAGE/PNG;base64,AA==")), plain("image/png", Encoding::Base64, "AA=="));
        assert_eq!(Link::of(Text::Raw("data:text/plain,hello")), plain("text/plain", Encoding::Percent, "hello"));
        assert_eq!(Link::of(Text::Raw("data: image/png ; base64,AA==")), plain("image/png", Encoding::Base64, "AA=="));
        let borrowed = Link::of(Text::Raw("data:image/png;base64,AA=="));
        assert!(matches!(borrowed, Link::Data(DataUri { media_type: Cow::Borrowed(_), .. })));
    }

    #[test]
    fn only_known_schemes_are_links() {
        assert_eq!(Link::of(Text::Raw(r"https:\/\/a.b\/c.png")), Link::Web(Text::Raw(r"https:\/\/a.b\/c.png")));
        assert!(matches!(Link::of(Text::Raw("gs://bucket/x.pdf")), Link::GoogleStorage(_)));
        assert!(matches!(Link::of(Text::Raw("s3://bucket/x.pdf")), Link::S3(_)));
        for url in ["file:///etc/passwd", "data:image/png;base64", "", "no url"] {
            assert_eq!(Link::of(Text::Raw(url)), Link::Other, "{url}");
        }
    }

    fn read(url: &str) -> Result<(String, String), &'static str> {
        let Link::Data(uri) = Link::of(Text::Raw(url)) else { panic!("{url}") };
        let data = uri.read()?;
        Ok((data.media_type.clone().into_owned(), data.base64.text().decode().into_owned()))
    }

    fn ok(media_type: &str, base64: &str) -> Result<(String, String), &'static str> {
        Ok((media_type.to_owned(), base64.to_owned()))
    }

    #[test]
    fn the_first_bytes_decide_what_it_is() {
        for (url, media_type) in [
            ("data:image/png;base64,/9j/4AAQSkZJRgABAQEAYABg", "image/jpeg"),
            ("data:image/jpg;base64,/9j/4AAQSkZJRgABAQEAYABg", "image/jpg"),
            ("data:application/octet-stream;base64,iVBORw0KGgoAAAANSUhEUgAA", "image/png"),
            ("data:;base64,JVBERi0xLjcK", "application/pdf"),
            ("data:image/jpeg;base64,UklGRiQAAABXRUJQVlA4", "image/webp"),
            ("data:audio/mpeg;base64,SUQzBAAAAAAA", "audio/mpeg"),
            ("data:text/csv;base64,YSxiCg==", "text/csv"),
            ("data:image/png;base64,AA==", "image/png"),
        ] {
            assert_eq!(read(url).unwrap().0, media_type, "{url}");
        }
    }

    #[test]
    fn base64_is_put_into_its_standard_form() {
        for (data, want) in [
            ("AAEC", "AAEC"),
            ("AA EC\\r\\n", "AAEC"),
            ("AAE", "AAE="),
            ("AA", "AA=="),
            ("AA=", "AA=="),
            ("-_-_", "+/+/"),
            ("+\\/+\\/", "+/+/"),
            ("AA%3D%3D", "AA=="),
            ("%2B%2F8=", "+/8="),
        ] {
            assert_eq!(read(&format!("data:image/x;base64,{data}")), ok("image/x", want), "{data}");
        }
        for data in ["AA?C", "A", "AAECA", "AA=C", "", "====", "\\u00fc"] {
            assert!(read(&format!("data:image/x;base64,{data}")).is_err(), "{data}");
        }
    }

    #[test]
    fn what_is_in_form_is_not_copied() {
        for data in ["iVBO\\/w0K", "AAEC", "AA==", "\\/\\/8="] {
            assert_eq!(Base64::read(Text::Raw(data)), Ok(Base64::Sent(Text::Raw(data))), "{data}");
        }
        for (sent, written) in [
            ("data:image/png;base64,AAEC", "data:image/png;base64,AAEC"),
            ("https://h/x", "https://h/x"),
            ("data:image/png;charset=x;base64,AA E", "data:image/png;base64,AAE="),
            ("data:,a%20b", "data:text/plain;base64,YSBi"),
        ] {
            let mut w = Writer::default();
            Source::Url(Text::Raw(sent)).write_standard_url(&mut w).unwrap();
            assert_eq!(String::from_utf8(w.finish()).unwrap(), format!("\"{written}\""));
        }
    }

    #[test]
    fn a_text_is_read_in_its_own_alphabet() {
        for (url, text) in [
            ("data:text/plain;charset=utf-8;base64,w7w=", Some("ü")),
            ("data:text/plain;charset=iso-8859-1;base64,/IA=", Some("ü€")),
            ("data:text/plain;base64,/P==", Some("ü")),
            ("data:text/plain;base64,//5hAPwA", Some("aü")),
            ("data:text/plain;base64,77u/YQ==", Some("a")),
            ("data:text/plain,a%20%C3%BC", Some("a ü")),
            ("data:text/plain;base64,AGE=", None),
        ] {
            let Link::Data(uri) = Link::of(Text::Raw(url)) else { panic!("{url}") };
            assert_eq!(uri.read().unwrap().text().as_deref(), text, "{url}");
        }
    }
}
