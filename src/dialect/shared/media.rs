//! Images and files as clients send them, read once for Anthropic and Bedrock: what a part is, by its media type and its
//! file's name, and where its bytes are.

use crate::closed_set::closed_set;
use crate::json::text::Text;
use crate::llm::media::{Data, Link};
use crate::llm::request::Content;

closed_set! {
    /// What a file is.
    Format {
        Png = "png",
        Jpeg = "jpeg",
        Gif = "gif",
        Webp = "webp",
        Pdf = "pdf",
        Csv = "csv",
        Doc = "doc",
        Docx = "docx",
        Xls = "xls",
        Xlsx = "xlsx",
        Html = "html",
        Md = "md",
        Txt = "txt",
    }
}

impl Format {
    /// Whether it is an image, not a document.
    pub(in crate::dialect) const fn is_image(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg | Self::Gif | Self::Webp)
    }

    /// Whether it is a document of plain characters.
    pub(in crate::dialect) const fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Html | Self::Md | Self::Txt)
    }

    /// By the media type, in lower case, or by the file's name where the type says nothing.
    fn of(media_type: &str, filename: &str) -> Option<Self> {
        Some(match media_type {
            "image/png" => Self::Png,
            "image/jpeg" | "image/jpg" => Self::Jpeg,
            "image/gif" => Self::Gif,
            "image/webp" => Self::Webp,
            "application/pdf" => Self::Pdf,
            "text/csv" => Self::Csv,
            "application/msword" => Self::Doc,
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => Self::Docx,
            "application/vnd.ms-excel" => Self::Xls,
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => Self::Xlsx,
            "text/html" => Self::Html,
            "text/markdown" => Self::Md,
            text if text.starts_with("text/") => Self::Txt,
            "application/octet-stream" | "" => return Self::named(filename),
            _ => return None,
        })
    }

    /// By the extension of a file's name.
    fn named(filename: &str) -> Option<Self> {
        let (_, extension) = filename.rsplit_once('.')?;
        let extension = if extension.eq_ignore_ascii_case("jpg") { "jpeg" } else { extension };
        Self::ALL.iter().copied().find(|format| extension.eq_ignore_ascii_case(format.name()))
    }
}

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Place<'a> {
    /// In the request.
    Here(Format, Data<'a>),
    /// At this address on the web.
    Web(Text<'a>),
    /// In Amazon S3, at this address.
    S3(Format, Text<'a>),
}

/// An image or a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dialect) struct Media<'a> {
    /// An image, not a document.
    pub image: bool,
    /// Where it is.
    pub place: Place<'a>,
    /// A document's name.
    pub filename: Option<Text<'a>>,
}

impl<'a> Media<'a> {
    /// Reads an `image_url` or a `file`; `None` where it is neither, or of no known format, or nowhere to be had. A file
    /// may be an image, but an image no other file.
    ///
    /// # Errors
    /// Says what is wrong with its base64.
    pub(in crate::dialect) fn of(content: &Content<'a>) -> Result<Option<Self>, &'static str> {
        let (source, filename, image) = match *content {
            Content::Image { source, .. } => (source, None, true),
            Content::File { source: Some(source), name, .. } => (source, name, false),
            _ => return Ok(None),
        };
        let name = filename.map(Text::decode).unwrap_or_default();
        let (format, place) = match source.link() {
            Link::Data(uri) => {
                let data = uri.read()?;
                let Some(format) = Format::of(&data.media_type, &name) else { return Ok(None) };
                (format, Place::Here(format, data))
            }
            Link::S3(url) => {
                let Some(format) = Format::named(&url.decode()) else { return Ok(None) };
                (format, Place::S3(format, url))
            }
            Link::Web(url) => return Ok(Some(Self { image, place: Place::Web(url), filename })),
            _ => return Ok(None),
        };
        Ok((format.is_image() || !image).then_some(Self { image: format.is_image(), place, filename }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::media::Source;

    fn file(media_type: &str, filename: &'static str) -> Option<&'static str> {
        let url = format!("data:{media_type};base64,AA==");
        let part = Content::File { source: Some(Source::Url(Text::Raw(&url))), name: Some(Text::Raw(filename)), id: None };
        Media::of(&part).unwrap().map(|media| match media.place {
            Place::Here(format, _) => format.name(),
            Place::Web(_) | Place::S3(..) => "elsewhere",
        })
    }

    #[test]
    fn a_file_is_what_its_type_says_else_what_its_name_says() {
        for (media_type, filename, format) in [
            ("image/png", "x.pdf", Some("png")),
            ("text/x-python", "x.py", Some("txt")),
            ("text/csv", "", Some("csv")),
            ("application/octet-stream", "a.b.PDF", Some("pdf")),
            ("application/octet-stream", "photo.JPG", Some("jpeg")),
            ("", "a.docx", Some("docx")),
            ("application/octet-stream", "pdf", None),
            ("application/zip", "a.pdf", None),
        ] {
            assert_eq!(file(media_type, filename), format, "{media_type} {filename}");
        }
    }

    #[test]
    fn an_image_is_no_other_file() {
        let image = |url| Media::of(&Content::Image { source: Source::Url(Text::Raw(url)), detail: None }).unwrap();
        assert!(image("data:image/webp;base64,AA==").unwrap().image);
        assert_eq!(image("data:application/pdf;base64,AA=="), None);
        assert_eq!(image("https://h/x").unwrap().place, Place::Web(Text::Raw("https://h/x")));
    }
}
