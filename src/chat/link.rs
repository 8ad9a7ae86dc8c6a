//! Where the bytes of an image or a file are: inside a data URI, on the web, or elsewhere. A data URI is split, never
//! decoded or copied: a picture of some megabytes stays where the client put it.

use super::event::Text;
use std::borrow::Cow;

/// What a client's URL points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link<'a> {
    /// `data:MIME;base64,DATA`.
    Data {
        /// Media type in lower case, without parameters.
        media_type: Cow<'a, str>,
        /// The base64 text as it stands in the request (a JSON `\/` in it stays).
        data: Text<'a>,
    },
    /// `http:` or `https:`; the whole URL.
    Web(Text<'a>),
    /// `gs:`; the whole URL.
    GoogleStorage(Text<'a>),
    /// `s3:`; the whole URL.
    S3(Text<'a>),
    /// A scheme that no provider takes, or a data URI that is not base64.
    Other,
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
        let cut = |at: usize| match &head {
            Cow::Borrowed(head) => Cow::Borrowed(head.get(..at).unwrap_or_default()),
            Cow::Owned(head) => Cow::Owned(head.get(..at).unwrap_or_default().to_owned()),
        };
        match head.find(';') {
            Some(at) if head.ends_with(";base64") => Self::Data { media_type: cut(at), data: same(data) },
            _ => Self::Other,
        }
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
        let Link::Data { media_type, data } = Link::of(Text::Raw(url)) else { panic!("no data") };
        assert_eq!((&*media_type, data), ("image/png", Text::Raw(r"iVBO\/w0K")));
        let plain = Link::of(Text::Raw("data:IMAGE/PNG;base64,AA=="));
        assert_eq!(plain, Link::Data { media_type: Cow::Borrowed("image/png"), data: Text::Raw("AA==") });
        let borrowed = Link::of(Text::Raw("data:image/png;base64,AA=="));
        assert!(matches!(borrowed, Link::Data { media_type: Cow::Borrowed(_), .. }));
    }

    #[test]
    fn only_known_schemes_are_links() {
        assert_eq!(Link::of(Text::Raw(r"https:\/\/a.b\/c.png")), Link::Web(Text::Raw(r"https:\/\/a.b\/c.png")));
        assert!(matches!(Link::of(Text::Raw("gs://bucket/x.pdf")), Link::GoogleStorage(_)));
        assert!(matches!(Link::of(Text::Raw("s3://bucket/x.pdf")), Link::S3(_)));
        for url in ["file:///etc/passwd", "data:text/plain,hello", "data:image/png;base64", "", "no url"] {
            assert_eq!(Link::of(Text::Raw(url)), Link::Other, "{url}");
        }
    }
}
