//! Where the bytes of an image or a file are: inside a data URI, on the web, or elsewhere. A data URI is split, never
//! decoded or copied: a picture of some megabytes stays where the client put it.

use crate::json::text::Text;
use std::borrow::Cow;

/// What a client's URL points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link<'a> {
    /// `data:MIME;PARAMETERS;base64,DATA`, or without `;base64`.
    Data {
        /// Media type in lower case, without parameters; may be empty.
        media_type: Cow<'a, str>,
        /// Its parameter `charset`, in lower case.
        charset: Option<Cow<'a, str>>,
        /// How the bytes are written.
        encoding: Encoding,
        /// The bytes as they stand in the request (a JSON `\/` in them stays).
        data: Text<'a>,
    },
    /// `http:` or `https:`; the whole URL.
    Web(Text<'a>),
    /// `gs:`; the whole URL.
    GoogleStorage(Text<'a>),
    /// `s3:`; the whole URL.
    S3(Text<'a>),
    /// A scheme that no provider takes, or a data URI without data.
    Other,
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
        Self::Data { media_type, charset, encoding, data: same(data) }
    }
}

fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) { Cow::Owned(text.to_ascii_lowercase()) } else { text }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_data_uri_is_split_in_place() {
        let url = r"data:image\/png;charset=x;base64,iVBO\/w0K";
        let Link::Data { media_type, charset, encoding, data } = Link::of(Text::Raw(url)) else { panic!("no data") };
        assert_eq!((&*media_type, charset.as_deref(), encoding), ("image/png", Some("x"), Encoding::Base64));
        assert_eq!(data, Text::Raw(r"iVBO\/w0K"));
        let plain = |media_type, encoding, data| Link::Data {
            media_type: Cow::Borrowed(media_type),
            charset: None,
            encoding,
            data: Text::Raw(data),
        };
        assert_eq!(Link::of(Text::Raw("data:IMAGE/PNG;base64,AA==")), plain("image/png", Encoding::Base64, "AA=="));
        assert_eq!(Link::of(Text::Raw("data:text/plain,hello")), plain("text/plain", Encoding::Percent, "hello"));
        assert_eq!(Link::of(Text::Raw("data: image/png ; base64,AA==")), plain("image/png", Encoding::Base64, "AA=="));
        let borrowed = Link::of(Text::Raw("data:image/png;base64,AA=="));
        assert!(matches!(borrowed, Link::Data { media_type: Cow::Borrowed(_), .. }));
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
}
